"""A plan as a module of its own: what was evaluated, bit for bit, whatever has formats."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from quantize.models import MODELS, any_plan
from torch.utils._pytree import tree_leaves

from evonas.network import SLOTS

FEW = ("residual_add", "attention", "window_bias", "tied_embedding", "functional", "grouped_conv", "resnet", "Coord")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name not in FEW]


@pytest.mark.parametrize("name", [*FEW, *SLOW])
def test_the_module_of_a_plan_is_what_was_evaluated(name: str) -> None:
    network, plan, sized, inputs = any_plan(name, seed=len(name))
    weights = copy.deepcopy(sized.state_dict())
    with torch.no_grad():
        wanted = tree_leaves(network.forward(plan, inputs))
        module = network.module(plan)
        found = tree_leaves(module(inputs))
        again = tree_leaves(network.forward(plan, inputs))
    for one, other, third in zip(wanted, found, again, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)  # and the network was not touched
    assert all(torch.equal(value, weights[key]) for key, value in sized.state_dict().items())


def test_every_slot_was_among_them() -> None:
    seen: set[str] = set()
    for name in FEW:
        _, plan, _, _ = any_plan(name, seed=len(name))
        seen |= {slot for layer in plan.layers for slot in layer.formats}
    assert seen == set(SLOTS)


def test_a_module_with_every_slot_can_be_saved() -> None:
    network, plan, _, inputs = any_plan("separate_attention", seed=1)
    module = network.module(plan)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    with torch.no_grad():
        assert torch.equal(again(inputs), module(inputs))
