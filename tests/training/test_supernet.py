"""Slices of a supernet: really parts of it, and usable once trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from problem.networks import Small, blobs

from evonas.errors import EvonasError
from evonas.graph import find_chains, recalibrate_batchnorm
from evonas.supernet import Slice, Supernet, evenly
from evonas.training import Recipe, seeded

NETWORKS = [{"chain0": count} for count in (4, 6, 8)]


def make() -> Supernet:
    model = seeded(Small, 0).eval()
    return Supernet(model, find_chains(model, torch.zeros(2, 1, 6, 6)))


def test_a_slice_is_the_first_channels() -> None:
    net = make()
    part = net.network({"chain0": 3})
    weight = net.model.get_parameter("conv.weight")
    assert torch.equal(part.get_parameter("conv.weight"), weight[:3, :3])
    assert torch.equal(part.get_parameter("head.weight"), net.model.get_parameter("head.weight")[:, :3])


def test_running_a_slice_reaches_the_shared_weights() -> None:
    net = make()
    part = net.cut({"chain0": 3})
    part.module.eval()
    inputs, _ = blobs(6, 0)
    output = part.run(dict(net.model.named_parameters()), inputs)
    assert torch.allclose(output, net.network({"chain0": 3})(inputs), atol=1e-6)
    torch.autograd.backward(output.sum())
    gradient = net.model.get_parameter("conv.weight").grad
    assert gradient is not None
    assert bool((gradient[:3, :3] != 0).any())
    assert not bool((gradient[3:] != 0).any())


def test_trained_once_every_slice_works_and_the_same_seed_gives_the_same() -> None:
    inputs, targets = blobs(150, 0)
    held, expected = blobs(60, 1)
    states = []
    for _ in range(2):
        net = make()
        before = torch.random.get_rng_state()
        recipe = Recipe(learning_rate=1e-2, batch=32)
        net.train(inputs, targets, networks=NETWORKS, epochs=20, seed=3, recipe=recipe)
        assert torch.equal(before, torch.random.get_rng_state())
        states.append(net.model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    for channels in NETWORKS:
        part = recalibrate_batchnorm(net.network(channels), [inputs])
        assert float((part(held).argmax(1) == expected).float().mean()) > 0.8


def test_the_smallest_network_is_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, targets = blobs(40, 0)
    net = make()
    sizes: list[int] = []
    run = Slice.run

    def seen(part: Slice, *arguments: Any) -> torch.Tensor:
        sizes.append(part.size)
        return run(part, *arguments)

    monkeypatch.setattr(Slice, "run", seen)
    networks = [{"chain0": count} for count in (8, 3, 6, 5, 4, 7)]
    net.train(inputs, targets, networks=networks, epochs=2, seed=0, recipe=Recipe(batch=10))
    steps = np.array(sizes).reshape(8, 4)
    assert (steps[:, 0] == net.cut({"chain0": 3}).size).all()
    assert all(len(set(step)) == 4 for step in steps.tolist())


def test_even_steps_take_each_value_once() -> None:
    values = np.array([5.0, 0.0, 1.0, 1.1, 10.0, 9.0])
    assert evenly(values, 3).tolist() == [1, 0, 4]
    assert evenly(values, 9).tolist() == np.argsort(values).tolist()


def test_more_channels_than_there_are() -> None:
    with pytest.raises(EvonasError, match="8 channels in the supernet, 9 do not fit"):
        make().cut({"chain0": 9})
