"""Training from a seed: reproducible, with dropout, and without a trace in the global generators."""

from __future__ import annotations

import torch
from problem.networks import Small, blobs

from evonas.training import Recipe, batches, seeded, train


def test_the_same_seed_trains_the_same_weights_with_dropout() -> None:
    inputs, targets = blobs(60, 0)
    before = torch.random.get_rng_state()
    states = []
    for seed in (0, 0, 1):
        model = train(seeded(Small, 0), inputs, targets, epochs=1, seed=seed, recipe=Recipe(batch=16))
        assert not model.training
        states.append(model.get_parameter("conv.weight"))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_every_sample_once_an_epoch_but_a_last_one_alone() -> None:
    rows = torch.cat(list(batches(33, 8, 2, 0)))
    assert len(rows) == 64
    assert sorted(torch.cat(list(batches(32, 8, 1, 0))).tolist()) == list(range(32))
    assert [len(one) for one in batches(1, 8, 1, 0)] == [1]


def test_trains_where_a_user_has_turned_gradients_off() -> None:
    inputs, targets = blobs(30, 0)
    with torch.no_grad():
        quiet = train(seeded(Small, 0), inputs, targets, epochs=2, seed=1)
    usual = train(seeded(Small, 0), inputs, targets, epochs=2, seed=1)
    assert all(torch.equal(value, usual.state_dict()[name]) for name, value in quiet.state_dict().items())
