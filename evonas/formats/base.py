"""What every number format can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from torch import Tensor

from evonas.errors import InvalidArgument

__all__ = ["Format", "rounded"]


class Format(ABC):
    """A number format: which values a tensor may take, and how many bits it costs to hold them.

    Formats are frozen dataclasses, so they compare and hash by value and can be keys of a cache. A format
    that leaves something to the data (`fixed8`: the fraction width) is not yet `concrete`; `calibrate`
    returns the concrete one.
    """

    @property
    @abstractmethod
    def spec(self) -> str:
        """The short text that `evonas.formats.parse` turns back into this format, such as `fixed8.4`."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Bits of one element, without any shared scales."""

    @property
    def concrete(self) -> bool:
        """True when the format needs no calibration."""
        return True

    def calibrate(self, values: Tensor) -> Self:
        """The concrete format that represents `values` (any shape) best; itself when already concrete."""
        del values
        return self

    @abstractmethod
    def quantize(self, values: Tensor) -> Tensor:
        """`values` (any shape, any float dtype) rounded to the format; same shape and dtype.

        The gradient is straight-through (Bengio et al. 2013, arXiv:1308.3432): one inside the range,
        zero where a value was clipped.

        Raises:
            InvalidArgument: the format is not concrete.
        """

    def bits(self, elements: Any) -> Any:
        """Bits that a tensor of `elements` elements takes; works on ints and on int arrays alike."""
        return elements * self.width

    def require_concrete(self) -> None:
        """Raise `InvalidArgument` if something is still left to calibration."""
        if not self.concrete:
            raise InvalidArgument(
                f"format `{self.spec}` is not concrete: call `calibrate(values)` first, or give every part of it"
            )

    def __str__(self) -> str:
        return self.spec


class _StraightThrough(torch.autograd.Function):
    """Forward: the rounded values. Backward: the gradient where `inside`, zero elsewhere."""

    @staticmethod
    def forward(values: Tensor, quantized: Tensor, inside: Tensor) -> Tensor:
        return quantized

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


def rounded(values: Tensor, quantized: Tensor, inside: Tensor) -> Tensor:
    """`quantized`, with the straight-through gradient of `values` where `inside` (bool) holds."""
    if not (torch.is_grad_enabled() and values.requires_grad):
        return quantized
    result: Tensor = _StraightThrough.apply(values, quantized, inside)  # type: ignore[no-untyped-call]
    return result
