"""NSGA-II, and the traps of pymoo that it must not fall into."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contracts.samplers import MIDDLING, Make, SamplerContract
from toys import Toy, every_genome, genomes_of, run, task_of

from evonas.pareto import hypervolume
from evonas.samplers.nsga2 import POPULATION, Nsga2Sampler
from evonas.samplers.random import RandomSampler


class TestNsga2(SamplerContract):
    @pytest.fixture
    def make(self) -> Make:
        return Nsga2Sampler


class TestNsga2WithASmallPopulation(SamplerContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda task, seed: Nsga2Sampler(task, seed, population=3)


def test_trap_pymoo_repeats_genomes_that_left_the_population() -> None:
    """81 points and a population of 20: pymoo alone evaluates most genomes several times and never ends."""
    task = task_of(Toy((3, 3, 3, 3)))
    found = genomes_of(run(Nsga2Sampler(task, 0, population=20), 418))
    assert len(found) == len(set(found)) == 81


@pytest.mark.parametrize("seed", range(3))
def test_trap_pymoo_ask_returns_none_when_mating_finds_nothing_new(seed: int) -> None:
    task = task_of(Toy((3, 3, 2)))
    sampler = Nsga2Sampler(task, seed, population=4)
    returned = _spy(sampler, "ask")
    assert sorted(genomes_of(run(sampler))) == every_genome(task.space)
    assert any(infills is None for infills in returned)  # it did happen, and the search went on to the end


@pytest.mark.parametrize(
    ("counts", "population", "expected"), [((3, 3, 3), 50, 27), ((4, 4, 4), 50, 50), ((9,) * 9, 20, 20)]
)
def test_trap_pymoo_does_not_refill_the_first_population(
    counts: tuple[int, ...], population: int, expected: int
) -> None:
    first = Nsga2Sampler(task_of(Toy(counts)), 0, population=population).ask(1000)
    assert len(np.unique(first, axis=0)) == len(first) == expected


@pytest.mark.parametrize("counts", [(9,) * 9, (3, 3, 3, 3), (2, 2, 2, 2, 2)], ids=str)
def test_trap_pymoo_draws_from_fresh_entropy_when_no_generator_is_handed_on(
    counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded = np.random.default_rng

    def refuses_to_be_unseeded(seed: Any = None) -> np.random.Generator:
        assert seed is not None, "a generator was made without a seed"
        return seeded(seed)

    monkeypatch.setattr(np.random, "default_rng", refuses_to_be_unseeded)
    task = task_of(Toy(counts), cost=40, error=4.0)
    assert len(run(Nsga2Sampler(task, 0), 200)) > 10


def test_trap_pymoo_takes_an_unset_value_for_infinity() -> None:
    """Failed evaluations stay out of the population, rather than standing in it with an infinite error."""
    task = task_of(Toy((9,) * 5, broken=lambda genome: genome[1] == 3))
    sampler = Nsga2Sampler(task, 0)
    found = run(sampler, 10 * POPULATION)
    assert any(evaluation.status == "failed" for evaluation in found)
    population = sampler._algorithm.pop
    assert np.isfinite(population.get("F")).all()
    assert not (population.get("X")[:, 1] == 3).any()


def test_trap_pymoo_ends_when_objectives_no_longer_change() -> None:
    """pymoo's default termination gives up after some 30 generations without progress."""
    task = task_of(Toy((4,) * 5, flat=True), objectives=["error"])
    assert len(run(Nsga2Sampler(task, 0))) == 4**5


def test_a_generation_is_pymoos_own_as_long_as_mating_finds_something_new() -> None:
    """The random genomes that fill a generation are the exception: else this would be random search."""
    sampler = Nsga2Sampler(task_of(Toy((9,) * 9)), 0)
    bred = _spy(sampler, "ask")
    found = genomes_of(run(sampler, 10 * POPULATION))
    assert [tuple(individual.X.tolist()) for infills in bred for individual in infills] == found


def test_the_best_are_bred_from() -> None:
    """Later generations are better than the first, and than what random search finds."""
    task = task_of(Toy((8,) * 8))
    lower, upper = np.zeros(2), np.array([8.0, 110.0])

    def found(make: Make, seed: int) -> float:
        return hypervolume(task.minimised(run(make(task, seed), 240)), lower, upper)

    ours, random = ([found(make, seed) for seed in range(5)] for make in (Nsga2Sampler, RandomSampler))
    assert np.median(ours) > np.median(random) + 0.01


def test_the_first_generation_is_spread_over_the_costs() -> None:
    """Among its genomes are the largest and the smallest, which random genomes of nine genes never are."""
    task = task_of(Toy((8,) * 9))
    first = Nsga2Sampler(task, 0).ask(POPULATION)
    assert len(np.unique(first, axis=0)) == POPULATION
    assert (first == 7).all(axis=1).any()
    assert (first == 0).all(axis=1).any()


def test_measured_constraints_come_first() -> None:
    """Once something meets the constraint, the population holds nothing else."""
    task = task_of(Toy((8,) * 6), error=0.3)
    sampler = Nsga2Sampler(task, 0)
    found = run(sampler, 20 * POPULATION)
    assert any(evaluation.values["error"] > 0.3 for evaluation in found[:POPULATION])
    assert (sampler._algorithm.pop.get("G") <= 0).all()


def test_exact_constraints_are_met_by_repair_not_by_chance() -> None:
    """One genome in ten thousand is feasible, yet generations are full of bred ones."""
    task = task_of(Toy((10,) * 8), cost=12)
    sampler = Nsga2Sampler(task, 0)
    bred = _spy(sampler, "ask")
    found = run(sampler, 10 * POPULATION)
    assert len(found) == 10 * POPULATION
    feasible = [individual for infills in bred for individual in infills if task.feasible(individual.X[None])[0]]
    assert len(feasible) == 10 * POPULATION


def test_nothing_is_proposed_while_a_generation_is_pending() -> None:
    sampler = Nsga2Sampler(task_of(Toy(MIDDLING)), 0)
    first = sampler.ask(POPULATION)
    assert len(first) == POPULATION
    assert sampler.ask(1).shape == (0, len(MIDDLING))


def test_another_seed_gives_another_run() -> None:
    task = task_of(Toy((6, 5, 4, 6)))
    assert genomes_of(run(Nsga2Sampler(task, 0), 50)) != genomes_of(run(Nsga2Sampler(task, 1), 50))


def _spy(sampler: Nsga2Sampler, method: str) -> list[Any]:
    """What pymoo's `method` returns from now on; it runs as it is."""
    returned: list[Any] = []
    original = getattr(sampler._algorithm, method)

    def recording(*args: Any, **kwargs: Any) -> Any:
        returned.append(original(*args, **kwargs))
        return returned[-1]

    setattr(sampler._algorithm, method, recording)
    return returned
