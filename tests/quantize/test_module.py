"""A plan as a module of its own: what was evaluated, bit for bit, whatever has formats."""

from __future__ import annotations

import copy
import io
from collections import Counter

import numpy as np
import pytest
import torch
from quantize.models import MODELS, any_plan
from torch.utils._pytree import tree_leaves

from evonas.engine import Engine
from evonas.formats import Format
from evonas.network import DATA, SLOTS
from evonas.placement import shape_of

FEW = ("residual_add", "attention", "window_bias", "tied_embedding", "functional", "grouped_conv", "Coord")
FEW += ("resnet_in_place",)
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name not in FEW]


@pytest.mark.parametrize("name", [*FEW, *SLOW])
def test_the_module_of_a_plan_is_what_was_evaluated(name: str) -> None:
    ready = any_plan(name, seed=len(name))
    weights = copy.deepcopy(ready.sized.state_dict())
    with torch.no_grad():
        wanted = tree_leaves(ready.network.forward(ready.plan, ready.inputs))
        found = tree_leaves(ready.network.module(ready.plan)(ready.inputs))
        again = tree_leaves(ready.network.forward(ready.plan, ready.inputs))
    for one, other, third in zip(wanted, found, again, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)  # and the network was not touched
    assert all(torch.equal(value, weights[key]) for key, value in ready.sized.state_dict().items())


@pytest.mark.parametrize("name", [*FEW, *SLOW])
def test_costs_count_the_tensors_that_are_rounded(name: str) -> None:
    """Layers that are no modules are found by their place, in the resized model too, so that all sizes are right."""
    ready = any_plan(name, seed=len(name))
    calls = Counter(ready.network.layer_of(node) for node in ready.network.graph.graph.nodes)
    channels, samples = dict(ready.plan.channels), len(ready.inputs)
    for part in ready.plan.layers:
        for slot in part.formats if calls[part.layer.name] == 1 else ():
            tensor = ready.network._tensor(part.layer, slot)
            counted = shape_of(part.layer, slot, channels)
            if part.layer.has(slot):
                assert tensor.numel() == counted * (samples if slot in DATA else 1), (part.layer.name, slot)


def test_every_slot_was_among_them() -> None:
    plan = any_plan("attention", seed=len("attention")).plan
    assert {slot for layer in plan.layers for slot in layer.formats} == set(SLOTS)


@pytest.mark.parametrize("name", ["attention", "window_bias", "tied_embedding", "functional", "resnet_in_place", "mlp"])
def test_many_genomes_together_are_each_what_they_are_alone(name: str) -> None:
    """Genomes that share all but a few formats, through one pass over the graph."""
    ready = any_plan(name, seed=1)
    rng = np.random.default_rng(0)
    genomes = np.repeat(ready.genome[None], 12, axis=0)
    movable = [i for i, gene in enumerate(ready.space.space.genes) if isinstance(gene.choices[0], Format)]
    for row in genomes[1:]:
        chosen = rng.choice(movable, 3)
        row[chosen] = rng.integers(0, ready.space.space.n_choices[chosen])
    alone = [ready.network.forward(ready.space.plan(genome), ready.inputs) for genome in genomes]
    assert len({one.numpy().tobytes() for one in alone}) > 1
    for found in Engine(ready.network, ready.space).run(genomes, ready.inputs):
        for genome, variant in zip(found.genomes, found.variants, strict=True):
            assert torch.equal(found.value.one(int(variant)), alone[genome])


def test_a_module_with_every_slot_can_be_saved() -> None:
    ready = any_plan("separate_attention", seed=1)
    module = ready.network.module(ready.plan)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    with torch.no_grad():
        assert torch.equal(again(ready.inputs), module(ready.inputs))
