"""The first population."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.operators import Make, SamplingContract, over_budget
from hypothesis import given
from hypothesis import strategies as st
from toys import space_of, spaces_with_genomes

from evonas.operators import GenomeSampling
from evonas.operators.sampling import distinct
from evonas.space import IntArray, SearchSpace


class TestGenomeSampling(SamplingContract):
    @pytest.fixture
    def make(self) -> Make:
        return GenomeSampling


def test_only_feasible_genomes_are_drawn() -> None:
    space = space_of((5, 5, 5, 5))
    drawn = distinct(space, 50, np.random.default_rng(0), feasible=lambda g: (over_budget(space)(g) <= 0).all(axis=1))
    assert len(drawn) == 50
    assert (over_budget(space)(drawn) <= 0).all()


@given(given_=spaces_with_genomes(max_genomes=30), n=st.integers(0, 60), seed=st.integers(0, 2**32))
def test_what_was_seen_is_not_drawn_and_all_the_rest_is(
    given_: tuple[SearchSpace, IntArray], n: int, seed: int
) -> None:
    space, genomes = given_
    seen = set(space.keys(genomes))
    drawn = distinct(space, n, np.random.default_rng(seed), seen=seen)
    assert len(drawn) == len(set(space.keys(drawn))) == min(n, space.size - len(seen))
    assert not seen & set(space.keys(drawn))


@pytest.mark.parametrize("wanted", [(0,) * 10, (3,) * 10, (1, 2) * 5], ids=str)
def test_a_single_feasible_genome_among_a_million_is_found(wanted: tuple[int, ...]) -> None:
    space = space_of((4,) * 10)  # 1,048,576 genomes
    drawn = distinct(space, 3, np.random.default_rng(0), feasible=lambda g: (g == wanted).all(axis=1))
    assert drawn.tolist() == [list(wanted)]


def test_the_end_levels_are_as_likely_as_the_others() -> None:
    """Rounding a float drawn between the ends would halve them."""
    space = space_of((8,) * 10)
    drawn = distinct(space, 2000, np.random.default_rng(0))
    counts = np.bincount(drawn.ravel(), minlength=8)
    assert np.abs(counts - drawn.size / 8).max() < 4.5 * (drawn.size / 8) ** 0.5
