"""NSGA-III, Optuna's samplers, local search, the greedy path, and beginning with given genomes."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.samplers import Make, SamplerContract
from toys import Toy, genomes_of, known, run, task_of

from evonas.errors import InvalidArgument, UnknownName
from evonas.problem import FunctionProblem, Sensitivities
from evonas.problems import load
from evonas.samplers import SAMPLERS, make_sampler, sampler_name
from evonas.samplers.local import GreedySampler, LocalSampler
from evonas.samplers.nsga3 import Nsga3Sampler
from evonas.samplers.optuna import OptunaSampler, TpeSampler, optuna_samplers
from evonas.samplers.paths import greedy_path, spread, thinned


class TestNsga3(SamplerContract):
    @pytest.fixture
    def make(self) -> Make:
        return Nsga3Sampler


class TestLocal(SamplerContract):
    @pytest.fixture
    def make(self) -> Make:
        return LocalSampler


class TestGreedy(SamplerContract):
    @pytest.fixture
    def make(self) -> Make:
        return GreedySampler


@pytest.mark.slow
class TestTpe(SamplerContract):
    @pytest.fixture
    def make(self) -> Make:
        return TpeSampler


@pytest.mark.parametrize("name", ["optuna:TPESampler", "optuna:NSGAIISampler", "optuna:RandomSampler"])
def test_optuna_samplers_repeat_nothing_and_replay(name: str) -> None:
    task = task_of(Toy((4, 3, 5), broken=lambda genome: sum(genome) % 5 == 0), cost=16, error=3.0)
    whole = run(make_sampler(name, task, 1), 40)
    assert len(set(genomes_of(whole))) == len(whole)
    assert {evaluation.status for evaluation in whole} == {"ok", "failed"}
    assert known(run(make_sampler(name, task, 1), 40, replay=whole[:17])) == known(whole)


def test_every_sampler_of_optuna_is_named() -> None:
    assert {"TPESampler", "GPSampler", "NSGAIISampler", "NSGAIIISampler", "RandomSampler"} <= set(optuna_samplers())
    assert "GridSampler" not in optuna_samplers()  # needs a search space of its own


@pytest.mark.parametrize("name", ["optuna:TpeSampler", "optuna:", "optuna:BaseSampler", "nsga"])
def test_unknown_names_list_what_there_is(name: str) -> None:
    with pytest.raises(UnknownName, match="valid names"):
        sampler_name(name)


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="does not take these options"):
        OptunaSampler(task_of(Toy((3, 3))), 0, name="RandomSampler", multivariate=True)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_can_begin_with_given_genomes(name: str) -> None:
    task = task_of(Toy((4, 4, 4, 3)))
    start = np.unique(spread(task, 6, np.random.default_rng(0)), axis=0)
    sampler = make_sampler(name, task, 0)
    sampler.begin_with(start)
    found = genomes_of(run(sampler, 60))
    assert found[: len(start)] == [tuple(genome) for genome in start.tolist()]
    assert len(set(found)) == 60


def test_the_greedy_path_lowers_what_gains_most_for_its_harm() -> None:
    task = task_of(Toy((3, 3)))  # gene 0 costs 1 a step, gene 1 costs 2
    harm = Sensitivities(np.array([[9.0, 1.0, 0.0], [3.0, 0.1, 0.0]]), 0.0)
    path = greedy_path(task, harm)
    assert path[0].tolist() == [2, 2]
    assert path[-1].tolist() == [0, 0]
    assert np.abs(np.diff(path, axis=0)).sum(axis=1).tolist() == [1, 1, 1, 1]
    assert path[1].tolist() == [2, 1]  # most cost for least harm
    assert path[-2].tolist() == [1, 0]  # most harm last
    assert thinned(task, path, 2).tolist() == [[2, 2], [0, 0]]


def test_genes_without_sensitivities_stay_where_they_are() -> None:
    path = greedy_path(task_of(Toy((3, 3))), Sensitivities(np.array([[1.0, 0.5, 0.0], [np.nan] * 3]), 0.0))
    assert (path[:, 1] == 2).all()


def test_the_greedy_sampler_begins_with_the_path_and_charges_for_sensitivities() -> None:
    task = task_of(load("synthetic-40"))
    sampler = GreedySampler(task, 0)
    path = {tuple(genome) for genome in greedy_path(task, task.problem.sensitivities()).tolist()}  # type: ignore[arg-type]
    assert sampler.charge == pytest.approx(2.56)
    assert set(genomes_of(run(sampler, 100))) <= path


def test_a_spread_begins_with_genomes_that_are_alike_in_all_genes() -> None:
    task = task_of(Toy((4, 4, 4, 4)))
    found = spread(task, 6, np.random.default_rng(0))
    assert found[0].tolist() == [3, 3, 3, 3]
    assert found[2].tolist() == [0, 0, 0, 0]
    sizes = task.problem.exact_values(found)[:, 0]
    assert len(np.unique(sizes)) == 6  # none costs what another does
    choices = {f"edge{i}": ["none", "skip", "conv"] for i in range(4)} | {"depth": [1, 2, 3]}
    cells = FunctionProblem(lambda **genes: {"error": genes["depth"]}, choices, {"error": "min"})
    half = spread(task_of(cells), 6, np.random.default_rng(0))[:3]
    assert (half[:, :4] == half[:, :1]).all()
    assert sorted(half[:, 0].tolist()) == [0, 1, 2]
