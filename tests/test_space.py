"""Genes, chains and the space they span."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import counts_lists, every_genome, space_of, spaces_with_genomes, untouched_global_state

from evonas.chains import Chain, Extent
from evonas.errors import InvalidArgument, UnknownName
from evonas.formats import Fixed
from evonas.space import Gene, IntArray, SearchSpace, extremes

# genes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "", "choices": (1,)}, "needs a name"),
        ({"name": "a", "choices": ()}, "`a` has no choices"),
        ({"name": "a", "choices": (1, 2), "labels": ("x",)}, "2 choices and 1 labels"),
        ({"name": "a", "choices": (1, 1)}, "`1` twice"),
        ({"name": "a", "choices": (1, 2), "labels": ("x", "x")}, "`x` twice"),
    ],
)
def test_a_gene_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Gene(**arguments)


def test_a_gene_shows_its_choices_and_is_its_own_group() -> None:
    gene = Gene("fc1.weight", (Fixed(4, 2), Fixed(8, 4)))
    assert gene.labels == ("fixed4.2", "fixed8.4")
    assert gene.group == "fc1.weight"


# chains


@pytest.mark.parametrize(
    ("multiplier", "expected"),
    [(1, 48), (0.5, 24), (2.0, 96), (0.001, 1), (1 / 96, 1), (3 / 96, 2), (5 / 96, 3), (7 / 96, 4)],
)
def test_a_multiplier_scales_a_chain_half_up_and_never_below_one(multiplier: float, expected: int) -> None:
    assert Chain("c", 48).scaled(multiplier) == expected


@pytest.mark.parametrize("multiplier", [0, -1, math.nan, math.inf])
def test_a_multiplier_must_be_positive_and_finite(multiplier: float) -> None:
    with pytest.raises(InvalidArgument, match="positive and finite"):
        Chain("c", 48).scaled(multiplier)


def test_an_extent_adds_and_multiplies_the_chains_it_follows() -> None:
    flattened_and_joined = Extent(3, (("a", 49), ("b", 1)))
    assert flattened_and_joined.count({"a": 2, "b": 5}) == 3 + 98 + 5
    assert flattened_and_joined.count({"a": np.array([1, 2]), "b": np.array([0, 5])}).tolist() == [52, 106]
    assert Extent.of(7).count({}) == 7
    assert Extent.of(Chain("a", 4)).count({"a": 6}) == 6


# spaces


def test_a_space_needs_genes_of_distinct_names() -> None:
    with pytest.raises(InvalidArgument, match="at least one gene"):
        SearchSpace([])
    with pytest.raises(InvalidArgument, match="two genes are named `a`"):
        SearchSpace([Gene("a", (1,)), Gene("a", (2,))])


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_the_size_is_exact_at_any_magnitude(counts: list[int]) -> None:
    space = space_of(counts)
    assert space.size == math.prod(counts)
    assert len(space) == len(counts)
    assert space.n_choices.tolist() == counts


def test_groups_are_in_order_of_first_appearance() -> None:
    space = SearchSpace([Gene("a", (1,), group="y"), Gene("b", (1,), group="x"), Gene("c", (1,), group="y")])
    assert [genes.tolist() for genes in space.groups] == [[0, 2], [1]]


@given(given_=spaces_with_genomes())
def test_encode_is_the_inverse_of_decode_and_of_labels(given_: tuple[SearchSpace, IntArray]) -> None:
    space, genomes = given_
    for genome in genomes:
        assert space.encode(space.decode(genome)).tolist() == genome.tolist()
        assert space.encode(space.labels(genome)).tolist() == genome.tolist()


def test_encode_refuses_what_is_not_there() -> None:
    space = SearchSpace([Gene("width", (2, 4)), Gene("depth", ("low", "high"))])
    assert space.encode({"depth": "high", "width": 4}).tolist() == [1, 1]
    with pytest.raises(UnknownName, match="unknown gene `widht`; valid names: width, depth"):
        space.encode({"widht": 2, "depth": "low"})
    with pytest.raises(UnknownName, match="choice of gene `depth` `hi`; valid names: high, low"):
        space.encode({"width": 2, "depth": "hi"})
    with pytest.raises(InvalidArgument, match="`depth` has no value; give one of low, high"):
        space.encode({"width": 2})


@given(counts=counts_lists)
def test_rank_numbers_genomes_in_lexicographic_order(counts: list[int]) -> None:
    space = space_of(counts)
    genomes = np.array(every_genome(space))
    assert space.rank(genomes).tolist() == list(range(space.size))
    assert np.array_equal(space.unrank(np.arange(space.size)), genomes)


@given(data=st.data(), counts=st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_unrank_is_the_inverse_of_rank_up_to_2_to_the_62(data: st.DataObject, counts: list[int]) -> None:
    space = space_of(counts)
    ranks = np.array(data.draw(st.lists(st.integers(0, space.size - 1), min_size=1)))
    assert space.rank(space.unrank(ranks)).tolist() == ranks.tolist()


def test_a_space_of_just_2_to_the_62_is_numbered_and_a_larger_one_is_not() -> None:
    largest = space_of((2,) * 62)
    assert largest.indexable
    assert largest.unrank(np.array([2**62 - 1])).tolist() == [[1] * 62]
    for size in (63, 5000):
        larger = space_of((2,) * size)
        assert not larger.indexable
        with pytest.raises(InvalidArgument, match="too large to be numbered"):
            larger.rank(np.zeros((1, size), dtype=np.int64))


@given(counts=counts_lists, size=st.integers(1, 70))
def test_chunks_hold_every_genome_once_in_order(counts: list[int], size: int) -> None:
    space = space_of(counts)
    chunks = list(space.chunks(size))
    assert all(len(chunk) <= size for chunk in chunks)
    assert list(map(tuple, np.concatenate(chunks).tolist())) == every_genome(space)


@given(given_=spaces_with_genomes())
def test_neighbours_are_all_genomes_one_step_away(given_: tuple[SearchSpace, IntArray]) -> None:
    space, genomes = given_
    everything = np.array(every_genome(space))
    for genome in genomes:
        expected = everything[np.abs(everything - genome).sum(axis=1) == 1]
        assert sorted(space.neighbours(genome).tolist()) == sorted(expected.tolist())


@given(given_=spaces_with_genomes())
def test_keys_tell_genomes_apart(given_: tuple[SearchSpace, IntArray]) -> None:
    space, genomes = given_
    assert len(set(space.keys(genomes))) == len(np.unique(genomes, axis=0))
    assert space.keys(np.asfortranarray(genomes)) == space.keys(genomes.astype(np.int8))


@given(counts=counts_lists, seed=st.integers(0, 2**32))
def test_sampling_is_valid_and_decided_by_the_generator(counts: list[int], seed: int) -> None:
    space = space_of(counts)
    with untouched_global_state():
        first = space.sample(20, np.random.default_rng(seed))
    space.check(first)
    assert np.array_equal(first, space.sample(20, np.random.default_rng(seed)))


def test_corners_are_the_lowest_and_the_highest() -> None:
    assert space_of((3, 1, 5)).corners().tolist() == [[0, 0, 0], [2, 0, 4]]


@pytest.mark.parametrize(
    ("genomes", "message"),
    [
        ([1, 2], r"shape \(n, 2\), got \(2,\)"),
        ([[1, 1, 1]], r"shape \(n, 2\), got \(1, 3\)"),
        ([[0, 0], [0, 5]], "genome 1 has index 5 for gene `g1`, which has choices 0 to 4"),
        ([[-1, 0]], "genome 0 has index -1 for gene `g0`"),
        ([[0.5, 0]], "must be integers"),
        ([[math.nan, 0]], "must be integers"),
        ([[1e300, 0]], "genome 0"),
        ([["a", "b"]], "must be integers"),
        ([[None, 1]], "must be integers"),
        ([[1, 2], [3]], "must have shape"),
    ],
)
def test_genomes_that_cannot_be_are_named(genomes: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        space_of((3, 5)).check(genomes)


@pytest.mark.parametrize("genomes", [[[2, 4]], np.array([[2.0, 4.0]]), np.array([[2, 4]], dtype=np.uint8)])
def test_genomes_come_out_as_int64(genomes: Any) -> None:
    checked = space_of((3, 5)).check(genomes)
    assert checked.dtype == np.int64
    assert checked.tolist() == [[2, 4]]
    assert space_of((3, 5)).check(np.zeros((0, 2))).shape == (0, 2)


def test_the_fingerprint_changes_with_names_and_labels_only() -> None:
    space = SearchSpace([Gene("a", (1, 2)), Gene("b", (3,))])
    assert space.fingerprint == SearchSpace([Gene("a", (1, 2), group="z"), Gene("b", ("3",))]).fingerprint
    others = [[Gene("a", (1, 2))], [Gene("a", (2, 1)), Gene("b", (3,))], [Gene("b", (3,)), Gene("a", (1, 2))]]
    assert len({space.fingerprint, *(SearchSpace(genes).fingerprint for genes in others)}) == 4


# extremes


@given(counts=counts_lists, seed=st.integers(0, 2**32))
def test_extremes_of_a_small_space_are_enumerated(counts: list[int], seed: int) -> None:
    space = space_of(counts)
    table = np.random.default_rng(seed).normal(size=(space.size, 3))
    low, high, proved = extremes(space, lambda g: table[space.rank(g)], np.random.default_rng(0), limit=space.size)
    assert proved
    assert np.array_equal(low, table.min(axis=0))
    assert np.array_equal(high, table.max(axis=0))


def test_extremes_of_a_huge_space_are_found_where_costs_are_monotone() -> None:
    space = space_of((10,) * 30)
    prices = np.array([1.0, -2.0, 3.0] * 10)

    def values(genomes: IntArray) -> np.ndarray:
        return np.stack([genomes @ prices, -(genomes @ prices)], axis=1)

    low, high, proved = extremes(space, values, np.random.default_rng(0), limit=1000)
    assert not proved
    assert low.tolist() == [-180.0, -360.0]
    assert high.tolist() == [360.0, 180.0]
