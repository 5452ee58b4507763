"""Descriptions of modules: parameters and MACs against the resized module itself and against fvcore."""

from __future__ import annotations

import logging
from itertools import product

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from graph.models_real import REAL
from graph.models_small import SMALL
from torch import nn

from evonas.costs import arithmetic
from evonas.describe import describe
from evonas.graph import find_chains, resize
from evonas.plan import Layer, Network, PlanSpace
from evonas.space import Gene
from evonas.training import seeded

MODELS = {**SMALL, **REAL}
MULTIPLIERS = (0.5, 1.0, 2.0)
COUNTED = ("linear", "conv", "addmm", "matmul", "bmm", "batch_norm", "einsum")
# fvcore counts no scaled_dot_product_attention; parts that torch.fx cannot see into are counted by fvcore alone
ANOTHER_COUNT = {"separate_attention", "single_head", "multihead_module", "weight_norm"}

logging.getLogger("fvcore").setLevel(logging.ERROR)


@pytest.mark.parametrize("name", MODELS)
def test_counts_are_those_of_the_module(name: str) -> None:
    build, inputs = MODELS[name]
    model = seeded(build, 0).eval()
    chains = find_chains(model, inputs)
    network = describe(chains)
    if not network.chains:
        pytest.skip("nothing can be resized")
    space = PlanSpace(network, [Gene("all", MULTIPLIERS)], targets={"all": [chain.name for chain in network.chains]})
    plans = space.plans(np.arange(len(MULTIPLIERS))[:, None])
    parameters, operations = arithmetic.parameters(plans), arithmetic.flops(plans, "fvcore")
    for row in range(len(MULTIPLIERS)):
        sized = resize(model, {chain: int(counts[row]) for chain, counts in plans.channels.items()}, chains=chains)
        assert parameters[row] == sum(parameter.numel() for parameter in sized.parameters())
        if name not in ANOTHER_COUNT:
            assert operations[row] == fvcore_operations(sized, inputs)


def fvcore_operations(model: nn.Module, inputs: torch.Tensor) -> float:
    """Multiply-adds of one sample, and two an element of a batch norm."""
    analysis = FlopCountAnalysis(model, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counts = analysis.by_operator()
    return float(sum(counts[name] for name in COUNTED)) / len(inputs)


class Transposed(nn.Module):
    """Transposed and three-dimensional convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv3d(2, 6, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose3d(6, 4, 2, stride=2)
        self.head = nn.Linear(4, 3)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        values = self.up(torch.relu(self.down(values)))
        return self.head(torch.relu(values).mean((2, 3, 4)))


def test_transposed_convolutions_multiply_per_input_position() -> None:
    model, inputs = seeded(Transposed, 0).eval(), torch.randn(2, 2, 8, 8, 8)
    chains = find_chains(model, inputs)
    network = describe(chains)
    genes = [Gene(chain.name, MULTIPLIERS) for chain in network.chains]
    genomes = np.array(list(product(range(3), repeat=len(genes))))
    plans = PlanSpace(network, genes).plans(genomes)
    operations = arithmetic.macs(plans)
    for row in range(len(genomes)):
        sized = resize(model, {name: int(counts[row]) for name, counts in plans.channels.items()}, chains=chains)
        assert operations[row] == fvcore_operations(sized, inputs)


def test_digits_is_described_as_it_was_by_hand() -> None:
    from evonas.problems.digits import network_of_digits

    network = network_of_digits()
    assert [layer.name for layer in network.quantizable] == ["fc1", "fc2", "fc3"]
    assert [(chain.name, chain.channels) for chain in network.chains] == [("hidden1", 48), ("hidden2", 32)]
    assert relus(network) == 2


def relus(network: Network) -> int:
    layers: list[Layer] = [layer for layer in network.layers if layer.kind == "relu"]
    return len(layers)
