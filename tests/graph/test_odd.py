"""Odd corners of real code: no crash, and whatever is found holds at every size."""

from __future__ import annotations

import random

import pytest
import torch
from graph.models_odd import ODD
from graph.reference import assert_close, randomise

from evonas.graph import find_chains, legal_channels, resize


@pytest.mark.parametrize("name", ODD)
def test_odd_models_are_followed_or_frozen(name: str) -> None:
    build, inputs = ODD[name]
    torch.manual_seed(0)
    model, inputs = randomise(build()), inputs.double()
    before = set(vars(model))
    chains = find_chains(model, inputs)
    assert set(vars(model)) == before
    assert all(frozen.reason for frozen in chains.frozen)
    wanted = model(inputs)
    for multiplier in (1, 2, 3):
        counts = {n: legal_channels(c, multiplier) for n, c in chains.items()}
        assert_close(resize(model, counts, chains=chains)(inputs), wanted)
    draw = random.Random(name)
    for _ in range(4):
        counts = {n: draw.randrange(c.minimum, c.channels + 1, c.step) for n, c in chains.items()}
        small = resize(model, counts, chains=chains)
        other = resize(model, counts, chains=chains, init="fresh")
        other.load_state_dict(small.state_dict())
        assert torch.equal(small(inputs), other(inputs))
        assert small(inputs).shape == wanted.shape
