"""Small models and data for the tests of problems about any module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evonas.training import Recipe, seeded, train


class Small(nn.Module):
    """A residual CNN with batch norm and dropout, 1 x 6 x 6 to 3 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, 3)

    def forward(self, values: Tensor) -> Tensor:
        values = torch.relu(self.bn(self.stem(values)))
        values = torch.relu(values + self.conv(values))
        logits: Tensor = self.head(self.drop(values.mean((2, 3))))
        return logits


def blobs(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of three classes, bright in different places: (n, 1, 6, 6) and (n,)."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(samples) % 3
    images = 0.5 * torch.randn(samples, 1, 6, 6, generator=generator)
    for label in range(3):
        images[targets == label, :, 2 * label : 2 * label + 2] += 1.0
    return images, targets


def splits() -> dict[str, tuple[Tensor, Tensor]]:
    """The keyword arguments train, validation and test."""
    return {"train": blobs(120, 0), "validation": blobs(60, 1), "test": blobs(60, 2)}


def trained() -> nn.Module:
    """The small model, trained."""
    model = seeded(Small, 0)
    inputs, targets = blobs(120, 0)
    return train(model, inputs, targets, epochs=6, seed=0, recipe=Recipe(learning_rate=1e-2, batch=32))
