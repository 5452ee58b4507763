"""Recalibration of batch norms."""

from __future__ import annotations

import pytest
import torch
from graph.models_small import GroupNormNet, Mlp, ResidualAdd, image
from torch import nn

from evonas.errors import InvalidArgument
from evonas.graph import find_chains, legal_channels, recalibrate_batchnorm, resize


def test_statistics_are_those_of_the_batches() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).eval()
    data = 2.0 + 3.0 * torch.randn(64, 3)
    assert recalibrate_batchnorm(model, data.split(16)) is model
    torch.testing.assert_close(model[0].running_mean, data.mean(0))
    variances = torch.stack([part.var(0) for part in data.split(16)])
    torch.testing.assert_close(model[0].running_var, variances.mean(0))
    assert model[0].momentum == 0.1


def test_modes_and_weights_stay() -> None:
    model = Mlp().train()
    model[6].eval()
    before = [p.clone() for p in model.parameters()]
    recalibrate_batchnorm(model, [(torch.randn(8, 6),)])
    assert model.training
    assert model[0].training
    assert not model[6].training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_resized_model_comes_closer_to_its_own_statistics() -> None:
    model = ResidualAdd().eval()
    recalibrate_batchnorm(model, [image()])
    chains = find_chains(model, image())
    small = resize(model, {n: legal_channels(c, 0.5) for n, c in chains.items()}, chains=chains)
    recalibrate_batchnorm(small, [image()])
    inputs: list[torch.Tensor] = []
    small.bn.register_forward_hook(lambda _module, _args, output: inputs.append(output))
    small(image())
    centred = (inputs[0] - small.bn.bias.view(1, -1, 1, 1)).mean((0, 2, 3))
    torch.testing.assert_close(centred, torch.zeros_like(centred), atol=1e-5, rtol=0)


def test_nothing_to_do_and_nothing_to_use() -> None:
    plain = GroupNormNet().eval()
    assert recalibrate_batchnorm(plain, []) is plain
    with pytest.raises(InvalidArgument, match="`batches` is empty"):
        recalibrate_batchnorm(Mlp(), [])
