"""Activation memory of networks with skips, counted by hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from evonas.costs import cost, load_device
from evonas.describe import describe
from evonas.formats import parse
from evonas.graph import find_chains
from evonas.plan import PlanSpace
from evonas.space import Gene


class Residual(nn.Module):
    """A 1 x 1 convolution, a block of two with a skip around it, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.up = nn.Conv2d(8, 16, 1)
        self.down = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8 * 16, 4)

    def forward(self, images: Tensor) -> Tensor:
        stem = torch.relu(self.stem(images))
        down = self.down(torch.relu(self.up(stem)))
        logits: Tensor = self.head((stem + down).flatten(1))
        return logits


def space(genes: dict[str, str]) -> PlanSpace:
    described = describe(find_chains(Residual().eval(), torch.zeros(1, 3, 4, 4)))
    return PlanSpace(described, [Gene(name, (parse(spec),)) for name, spec in genes.items()])


def peak(genes: dict[str, str]) -> float:
    made = space(genes)
    plans = made.plans(np.zeros((1, len(genes)), dtype=np.int64))
    return float(cost("activation_memory", plans, load_device("pynq-z1"))[0])


def test_a_skip_is_held_until_it_is_added() -> None:
    """While `down` runs: its 16 input channels, its 8 output channels, and 8 of the skip, 16 positions each."""
    assert peak({"stem.weight": "fixed8"}) == (16 + 8 + 8) * 16 * 32


def test_tensors_are_held_in_the_format_that_they_flow_into() -> None:
    """`stem` flows into `up` and, through the add, into `head`: the wider of both counts."""
    narrow = {"up.data_in": "fixed4", "down.data_in": "fixed8", "head.data_in": "fixed6"}
    assert peak(narrow) == (16 * 8 + 8 * 6 + 8 * 6) * 16
    assert peak(narrow | {"up.data_in": "fixed16"}) == (16 * 8 + 8 * 6 + 8 * 16) * 16


def test_channels_scale_what_is_held() -> None:
    described = describe(find_chains(Residual().eval(), torch.zeros(1, 3, 4, 4)))
    inner = next(chain for chain in described.chains if chain.channels == 16)
    made = PlanSpace(described, [Gene(inner.name, (0.5, 1.0, 2.0))])
    values = cost("activation_memory", made.plans(np.array([[0], [1], [2]])), load_device("pynq-z1"))
    assert values.tolist() == [(8 + 16) * 16 * 32, (16 + 16) * 16 * 32, (32 + 16) * 16 * 32]


class Normalised(nn.Module):
    """Two convolutions with a batch norm and a ReLU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.down = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.down(torch.relu(self.norm(self.stem(images))))


def test_an_output_format_lasts_as_long_as_its_numbers() -> None:
    """While `down` runs: 8 channels as `stem` wrote them, once its batch norm is part of it, and 2 in float32."""
    plain = describe(find_chains(Normalised().eval(), torch.zeros(1, 3, 4, 4)))
    genes = [Gene("stem.data_out", (parse("fixed5"),)), Gene("down.data_in", (parse("fixed12"),))]
    found = []
    for network in (plain, plain.folded()):
        plans = PlanSpace(network.asking(outputs=["stem"]), genes).plans(np.zeros((1, 2), dtype=np.int64))
        found.append(float(cost("activation_memory", plans, load_device("pynq-z1"))[0]))
    assert found == [(8 * 12 + 2 * 32) * 16, (3 * 32 + 8 * 5) * 16]
