"""Every cost of a small convolutional network, against arithmetic done by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from evonas.costs import cost, load_device
from evonas.describe import describe
from evonas.formats import parse
from evonas.graph import find_chains
from evonas.plan import PlanSpace
from evonas.space import Gene

# 1 x 8 x 8 -> conv 3 x 3 to 8 channels -> ReLU -> depthwise 3 x 3, stride 2 -> 1 x 1 to 16 -> flatten -> 5 classes
WEIGHTS = (72, 72, 128, 1280)
BIASES = (8, 0, 16, 5)
INPUTS = (64, 512, 128, 256)
MACS = (72 * 64, 72 * 16, 128 * 16, 1280)


def network() -> nn.Module:
    """The network above."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 16, 1),
        nn.Flatten(),
        nn.Linear(256, 5),
    ).eval()


@pytest.fixture(scope="module")
def space() -> PlanSpace:
    described = describe(find_chains(network(), torch.zeros(1, 1, 8, 8)))
    genes = [Gene("3.weight", (parse("int4c"),)), Gene("3.data_in", (parse("mxfp4e2m1"),))]
    return PlanSpace(
        described, [*genes, Gene("5.weight", (parse("bfp6b16"),)), Gene("5.data_in", (parse("fixed8.4"),))]
    )


def value(space: PlanSpace, name: str) -> float:
    return float(cost(name, space.plans(np.zeros((1, 4), dtype=np.int64)), load_device("pynq-z1"))[0])


WEIGHT_BITS = (72 * 32, 72 * 32, 128 * 4 + 16 * 32, 1280 * 6 + 5 * 16 * 8)
BIAS_BITS = tuple(32 * count for count in BIASES)
DATA_BITS = (64 * 32, 512 * 32, 128 * 4 + 16 * 8, 256 * 8)  # 16 positions, each a block of 8 channels
WRITTEN = (512 * 32, 128 * 5, 256 * 8, 5 * 32)  # 5: 4 bits and 8 shared by 8
SIZE = sum(WEIGHT_BITS) + sum(BIAS_BITS)


def test_counts(space: PlanSpace) -> None:
    assert value(space, "parameters") == sum(WEIGHTS) + sum(BIASES) == 1581
    assert value(space, "macs") == sum(MACS) == 9088
    assert value(space, "flops") == 2 * 9088 + 512
    assert value(space, "bops") == (72 * 64 + 72 * 16) * 32 * 32 + 128 * 16 * 4 * 4 + 1280 * 8 * 6


def test_bits(space: PlanSpace) -> None:
    assert value(space, "size") == SIZE == 14880
    average = (72 * 32 + 72 * 32 + 128 * 4 + 1280 * 6) / 1552
    assert value(space, "average_bitwidth") == average
    assert value(space, "memory_density") == 32 / average
    assert value(space, "average_bitwidth_all") == (SIZE + sum(DATA_BITS)) / (1581 + sum(INPUTS))
    assert value(space, "activation_memory") == max(a + b for a, b in zip(DATA_BITS, WRITTEN, strict=True)) == 18432


def test_energy(space: PlanSpace) -> None:
    products = (4.6, 4.6, 0.2 * 16 / 64 + 0.1, 0.2 * 48 / 64 + 0.1)
    arithmetic = sum(macs * each for macs, each in zip(MACS, products, strict=True))
    traffic = SIZE + sum(DATA_BITS) + sum(WRITTEN)
    assert value(space, "energy") == pytest.approx((arithmetic + traffic * 100 / 64) / 1000, rel=1e-12)
