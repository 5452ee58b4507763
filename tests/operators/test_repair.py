"""Repair, against a brute-force search for the nearest feasible genome."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.operators import Make, RepairContract, over_budget
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import every_genome, space_of, spaces_with_genomes

from evonas.operators import BudgetRepair
from evonas.space import FloatArray, IntArray, SearchSpace


class TestBudgetRepair(RepairContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda space: BudgetRepair(space, over_budget(space))


class TestGreedyRepair(RepairContract):
    """As in spaces too large to search around a genome."""

    @pytest.fixture
    def make(self) -> Make:
        return lambda space: BudgetRepair(space, over_budget(space), ball=1)


def steps_to_the_nearest(space: SearchSpace, genome: IntArray, feasible: FloatArray) -> int | None:
    """Steps from `genome` to the nearest genome that is `feasible` (one bool per genome in order); None without."""
    distances = np.abs(np.array(every_genome(space)) - genome).sum(axis=1)
    return int(distances[feasible].min()) if feasible.any() else None


@settings(max_examples=150)
@given(given_=spaces_with_genomes(max_genomes=3), seed=st.integers(0, 2**32), share=st.floats(0.0, 0.6))
def test_the_fewest_steps_are_taken_whatever_the_budget_is_like(
    given_: tuple[SearchSpace, IntArray], seed: int, share: float
) -> None:
    """The violations are a random table: not monotone, not connected, perhaps never met."""
    space, genomes = given_
    table = np.random.default_rng(seed).random((space.size, 2)) - share
    repair = BudgetRepair(space, lambda g: table[space.rank(g)])
    feasible = (table <= 0).all(axis=1)
    for genome, repaired in zip(genomes, repair.repaired(genomes), strict=True):
        fewest = steps_to_the_nearest(space, genome, feasible)
        if fewest is None:
            assert np.array_equal(repaired, genome)
        else:
            assert feasible[space.rank(repaired[None])[0]]
            assert np.abs(repaired - genome).sum() == fewest


@given(given_=spaces_with_genomes(max_genomes=3), prices=st.lists(st.integers(1, 5), min_size=6, max_size=6))
def test_two_budgets_at_once(given_: tuple[SearchSpace, IntArray], prices: list[int]) -> None:
    space, genomes = given_
    weights = np.array(prices[: len(space)])

    def violations(g: IntArray) -> FloatArray:
        return np.stack([(g * weights).sum(axis=1) - 7.0, (g * weights[::-1]).sum(axis=1) - 5.0], axis=1)

    feasible = (violations(np.array(every_genome(space))) <= 0).all(axis=1)
    for genome, repaired in zip(genomes, BudgetRepair(space, violations).repaired(genomes), strict=True):
        assert (violations(repaired[None]) <= 0).all()
        assert np.abs(repaired - genome).sum() == steps_to_the_nearest(space, genome, feasible)


def test_in_a_huge_space_no_step_was_needless() -> None:
    space = space_of((10,) * 20)
    prices = np.arange(1, 21)
    repair = BudgetRepair(space, lambda g: (g * prices).sum(axis=1, keepdims=True) - 300.0, ball=100)
    genomes = space.sample(20, np.random.default_rng(0))
    repaired = repair.repaired(genomes)
    assert ((repaired * prices).sum(axis=1) <= 300).all()
    for genome, found in zip(genomes, repaired, strict=True):
        back = found + np.sign(genome - found) * np.eye(20, dtype=np.int64)
        back = back[(back != found).any(axis=1)]
        assert ((back * prices).sum(axis=1) > 300).all()


def test_a_genome_that_cannot_be_repaired_is_left_as_it_was() -> None:
    for ball in (1, 20_000):
        repair = BudgetRepair(space_of((3, 3)), lambda g: np.ones((len(g), 1)), ball=ball)
        assert repair.repaired(np.array([[2, 1]])).tolist() == [[2, 1]]


def test_no_genomes_at_all() -> None:
    space = space_of((3, 3))
    assert BudgetRepair(space, over_budget(space)).repaired(np.zeros((0, 2), dtype=np.int64)).shape == (0, 2)
