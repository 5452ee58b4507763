"""From genomes to formats and channel counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import random_plan_space
from toys import every_genome

from evonas.chains import Chain, Extent, Member
from evonas.errors import InvalidArgument, UnknownName
from evonas.formats import Fixed, Float32
from evonas.plan import Layer, Network, PlanSpace
from evonas.space import Gene

HIDDEN = Chain("hidden", 10, (Member("a", "out"), Member("b", "in")))
NETWORK = Network(
    (
        Layer("a", "linear", Extent(4), Extent.of(HIDDEN)),
        Layer("relu", "relu", Extent.of(HIDDEN), Extent.of(HIDDEN)),
        Layer("b", "linear", Extent.of(HIDDEN), Extent(3), bias=False),
    ),
    (HIDDEN,),
)
WIDTHS = (Fixed(4, 2), Fixed(8, 4))


def test_one_genome_decoded() -> None:
    space = PlanSpace(
        NETWORK,
        [Gene("a.weight", WIDTHS), Gene("hidden", (0.5, 1.0, 2.0), ("x0.5", "x1", "x2"))],
        defaults={"a.data_in": Fixed(6), "b.weight": Fixed(3, 1)},
    )
    plan = space.plan(np.array([1, 2]))
    assert plan.channels == (("hidden", 20),)
    assert [(layer.inputs, layer.outputs) for layer in plan.layers] == [(4, 20), (20, 3)]
    first, second = plan.layers
    assert (first.data_in, first.weight, first.bias) == (Fixed(6), Fixed(8, 4), Float32())
    assert (second.data_in, second.weight) == (Float32(), Fixed(3, 1))
    assert plan.short == "a w8.4 a6 · b w3.1 afloat32 | x2"


def test_one_gene_may_drive_several_targets() -> None:
    space = PlanSpace(NETWORK, [Gene("all", WIDTHS)], targets={"all": ("a.weight", "b.weight", "b.data_in")})
    plan = space.plan(np.array([0]))
    assert {plan.layers[0].weight, plan.layers[1].weight, plan.layers[1].data_in} == {Fixed(4, 2)}
    assert plan.layers[0].data_in == Float32()
    assert plan.channels == (("hidden", 10),)  # what no gene drives keeps its own count


@given(seed=st.integers(0, 2**32))
def test_many_genomes_decoded_are_each_decoded_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = random_plan_space(rng)
    genomes = space.space.sample(8, rng)
    plans = space.plans(genomes)
    assert plans.n == 8
    for row, genome in enumerate(genomes):
        plan = space.plan(genome)
        assert {name: int(counts[row]) for name, counts in plans.channels.items()} == dict(plan.channels)
        layers = plans.network.quantizable
        assert plans.inputs(layers)[row].tolist() == [layer.inputs for layer in plan.layers]
        assert plans.outputs(layers)[row].tolist() == [layer.outputs for layer in plan.layers]
        for slot in ("data_in", "weight", "bias"):
            assert plans.widths[slot][row].tolist() == [getattr(layer, slot).width for layer in plan.layers]


def test_both_sides_of_a_chain_always_agree() -> None:
    space = PlanSpace(NETWORK, [Gene("hidden", (0.01, 0.25, 1 / 3, 1.0, 1.55))])
    for genome in every_genome(space.space):
        first, second = space.plan(np.array(genome)).layers
        assert first.outputs == second.inputs >= 1


@pytest.mark.parametrize(
    ("genes", "options", "error", "message"),
    [
        ([Gene("c.weight", WIDTHS)], {}, UnknownName, "target of a gene `c.weight`; valid names: a.weight"),
        ([Gene("relu.weight", WIDTHS)], {}, UnknownName, "relu.weight"),
        ([Gene("x", WIDTHS)], {"targets": {"x": ("a.weigth",)}}, UnknownName, "`a.weigth`; valid names: a.weight"),
        ([Gene("a.weight", WIDTHS)], {"targets": {"a.wieght": ("b.weight",)}}, UnknownName, "gene `a.wieght`"),
        ([Gene("a.weight", WIDTHS)], {"defaults": {"a.wait": Fixed(4)}}, UnknownName, "slot `a.wait`"),
        ([Gene("a.weight", (4, 8))], {}, InvalidArgument, "must hold formats, got 4"),
        ([Gene("hidden", WIDTHS)], {}, InvalidArgument, "must hold multipliers"),
        ([Gene("hidden", (True, 2))], {}, InvalidArgument, "must hold multipliers, got True"),
        (
            [Gene("a.weight", WIDTHS), Gene("x", WIDTHS)],
            {"targets": {"x": ("a.weight",)}},
            InvalidArgument,
            "genes `a.weight` and `x` both drive `a.weight`",
        ),
    ],
)
def test_genes_that_cannot_be(genes: list[Gene], options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PlanSpace(NETWORK, genes, **options)
