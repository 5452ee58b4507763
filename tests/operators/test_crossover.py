"""Crossover of genes and of whole layers."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.operators import CrossoverContract, Make
from hypothesis import given
from hypothesis import strategies as st
from toys import space_of, spaces_with_genomes

from evonas.operators import GenomeCrossover
from evonas.space import IntArray, SearchSpace


class TestGenomeCrossover(CrossoverContract):
    @pytest.fixture
    def make(self) -> Make:
        return GenomeCrossover


class TestLayerCrossover(CrossoverContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda space: GenomeCrossover(space, layers=1.0, prob=1.0)


@given(given_=spaces_with_genomes(), matings=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_a_layer_swap_keeps_the_genes_of_a_group_together(
    given_: tuple[SearchSpace, IntArray], matings: int, seed: int
) -> None:
    space, _ = given_
    swapped = GenomeCrossover(space, layers=1.0).swaps(matings, np.random.default_rng(seed))
    for genes in space.groups:
        assert (swapped[:, genes] == swapped[:, genes[:1]]).all()


def test_groups_need_not_be_neighbours() -> None:
    from evonas.space import Gene

    space = SearchSpace([Gene(f"g{i}", (0, 1), group="ab"[i % 2]) for i in range(6)])
    swapped = GenomeCrossover(space, layers=1.0).swaps(200, np.random.default_rng(0))
    assert (swapped[:, [0]] == swapped[:, [0, 2, 4]]).all()
    assert (swapped[:, [1]] == swapped[:, [1, 3, 5]]).all()
    assert (swapped[:, 0] != swapped[:, 1]).any()


def test_a_gene_swap_takes_layers_apart() -> None:
    swapped = GenomeCrossover(space_of((3,) * 6), layers=0.0).swaps(200, np.random.default_rng(0))
    assert (swapped[:, 0] != swapped[:, 1]).any()


def test_half_of_what_can_be_exchanged_is() -> None:
    for layers in (0.0, 0.5, 1.0):
        swapped = GenomeCrossover(space_of((3,) * 8), layers=layers).swaps(2000, np.random.default_rng(0))
        assert swapped.mean(axis=0) == pytest.approx(0.5, abs=0.05)
