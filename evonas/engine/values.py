"""The distinct values of one node while a block of genomes is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Listed", "Stack", "Value", "stacked"]


@dataclass(frozen=True)
class Stack:
    """Values of vectors, features first: shape (variants, channels, samples).

    Args:
        data: the values.
        relu: whether a ReLU is still to be taken of them; the next rounding does it for nothing.
    """

    data: Tensor
    relu: bool = False

    def __len__(self) -> int:
        return len(self.data)

    def one(self, variant: int) -> Tensor:
        """What the node returns for one variant, shape (samples, channels)."""
        found = self.data[variant].t().contiguous()  # the plain path's layout, on which last bits may depend
        return found.clamp(min=0) if self.relu else found

    def exact(self) -> Tensor:
        """The values with their ReLU."""
        return self.data.clamp(min=0) if self.relu else self.data


@dataclass(frozen=True)
class Listed:
    """Values of any kind, one for each variant.

    Args:
        values: the values.
        turned: whether they are images that may lie in memory channels last, other than in the plain path.
    """

    values: Sequence[Any]
    turned: bool = False

    def __len__(self) -> int:
        return len(self.values)

    def one(self, variant: int) -> Any:
        """What the node returns for one variant, laid out as in the plain path, on which last bits may depend."""
        value = self.values[variant]
        return torch.empty(value.shape, dtype=value.dtype).copy_(value) if self.turned else value


Value = Stack | Listed


def stacked(value: Value) -> Stack:
    """Values of vectors, each (samples, channels), as a stack."""
    if isinstance(value, Stack):
        return value
    return Stack(torch.stack([one.t() for one in value.values]))
