"""Mutation of ordered choices."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.operators import Make, MutationContract
from hypothesis import given
from hypothesis import strategies as st
from toys import space_of, spaces_with_genomes

from evonas.operators import GenomeMutation
from evonas.space import IntArray, SearchSpace


class TestGenomeMutation(MutationContract):
    @pytest.fixture
    def make(self) -> Make:
        return GenomeMutation


class TestMutationThatHardlyEverWants(MutationContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda space: GenomeMutation(space, rate=0.0, jump=0.0)


class TestMutationThatAlwaysJumps(MutationContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda space: GenomeMutation(space, rate=1.0, jump=1.0)


@given(given_=spaces_with_genomes(), seed=st.integers(0, 2**32))
def test_a_rate_of_one_changes_every_gene_that_can(given_: tuple[SearchSpace, IntArray], seed: int) -> None:
    space, genomes = given_
    mutated = GenomeMutation(space, rate=1.0).mutate(genomes, np.random.default_rng(seed))
    assert np.array_equal(mutated != genomes, np.broadcast_to(space.n_choices > 1, genomes.shape))


@given(given_=spaces_with_genomes(), seed=st.integers(0, 2**32))
def test_without_jumps_a_gene_moves_one_step(given_: tuple[SearchSpace, IntArray], seed: int) -> None:
    space, genomes = given_
    mutated = GenomeMutation(space, jump=0.0).mutate(genomes, np.random.default_rng(seed))
    assert np.abs(mutated - genomes).max() <= 1


def test_without_a_rate_exactly_one_gene_changes_each_as_often() -> None:
    space = space_of((4, 1, 2, 6))
    genomes = space.sample(6000, np.random.default_rng(1))
    changed = GenomeMutation(space, rate=0.0).mutate(genomes, np.random.default_rng(0)) != genomes
    assert (changed.sum(axis=1) == 1).all()
    assert changed.mean(axis=0) == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.03)


def test_a_jump_lands_on_any_other_choice_as_often() -> None:
    space = space_of((5,))
    genomes = np.full((8000, 1), 3)
    mutated = GenomeMutation(space, rate=1.0, jump=1.0).mutate(genomes, np.random.default_rng(0))
    assert np.bincount(mutated[:, 0], minlength=5) / 8000 == pytest.approx([0.25, 0.25, 0.25, 0, 0.25], abs=0.02)


def test_no_genomes_at_all() -> None:
    space = space_of((5, 2))
    assert GenomeMutation(space).mutate(np.zeros((0, 2), dtype=np.int64), np.random.default_rng(0)).shape == (0, 2)
