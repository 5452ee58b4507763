"""More structures: the chains that a person would find, each size compared with a zeroed original."""

from __future__ import annotations

import random

import pytest
import torch
from graph.models_mixed import MIXED
from graph.reference import assert_close, randomise, zeroed

from evonas.graph import find_chains, legal_channels, resize


@pytest.mark.parametrize("name", MIXED)
def test_every_size_equals_a_zeroed_original(name: str) -> None:
    build, inputs, channels = MIXED[name]
    torch.manual_seed(0)
    model, inputs = randomise(build()), inputs.double()
    chains = find_chains(model, inputs)
    assert [chain.channels for chain in chains.values()] == channels
    large = resize(model, {n: legal_channels(c, 2) for n, c in chains.items()}, chains=chains)
    assert_close(large(inputs), model(inputs))
    draw = random.Random(name)
    for shrunk in range(4):
        counts = {
            n: legal_channels(c, 0.5) if shrunk == 0 else draw.randrange(c.minimum, c.channels + 1, c.step)
            for n, c in chains.items()
        }
        small = resize(model, counts, chains=chains)
        assert_close(small(inputs), zeroed(name, model, small)(inputs))
