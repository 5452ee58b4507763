"""What every number format can do."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from evonas.errors import InvalidArgument
from evonas.formats.arithmetic import cast_inwards, working

__all__ = ["LISTED_WIDTH", "Format", "rounded"]

LISTED_WIDTH = 16  # `levels` lists the values of formats up to this width


class Format(ABC):
    """A number format: which values a tensor may take, and how many bits it costs to hold them.

    Formats are frozen dataclasses, so they compare and hash by value and can be keys of a cache. A format
    that leaves something to the data (`fixed8`: the fraction width) is not yet `concrete`; `calibrate`
    returns the concrete one.

    All round to nearest, ties to even. NaN stays NaN even where the format has no code for it, so that an
    error upstream is seen and not hidden; infinities take the largest value of their sign unless a format
    says otherwise; an empty tensor stays as it is.
    """

    # Whether levels are short binary numbers, of which a narrow dtype can fail to hold only the limits.
    short: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def parse(cls, spec: str) -> Self | None:
        """The format of this family that `spec` names, None when `spec` is of another family.

        Raises:
            InvalidArgument: `spec` begins like this family but does not parse, or a number is out of range.
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

    @property
    def odd(self) -> bool:
        """True when `quantize(-x)` is exactly `-quantize(x)`."""
        return False

    @property
    def levels(self) -> Tensor | None:
        """Every value an element can take, ascending and distinct, float32, shape (levels,).

        In units of `scales(values)` where scales are shared by blocks; shape (channels, levels) where each
        channel has its own. None for formats of over 16 bits, whose lists would be too long to be of use.

        Raises:
            InvalidArgument: the format is not concrete.
        """
        return None

    def scales(self, values: Tensor) -> Tensor:
        """The scale that `quantize` finds in `values` for each element, same shape; ones without blocks."""
        return torch.ones_like(working(values))

    def calibrate(self, values: Tensor, method: str = "mse", *, percentile: float = 99.9) -> Self:
        """The concrete format that represents `values` (any shape) best; itself when already concrete.

        `method` decides what is best: `max` clips nothing; `percentile` lets `percentile` percent of the
        magnitudes in; `mse` has the least mean squared error; `kl` has the least Kullback-Leibler divergence
        between the histograms before and after. Infinities and NaN are left out.

        Raises:
            UnknownName: no such method.
            InvalidArgument: `percentile` is not above 0 and at most 100.
        """
        del values, method, percentile
        return self

    @abstractmethod
    def nearest(self, work: Tensor) -> tuple[Tensor, Tensor]:
        """`work` (float32 or float64, any shape) rounded to a concrete format, and where it was not clipped.

        The arithmetic under `quantize`, without gradient, casts and checks.
        """

    def quantize(self, values: Tensor) -> Tensor:
        """`values` (any shape, any float dtype) rounded to the format; same shape and dtype.

        The gradient is straight-through (Bengio et al. 2013, arXiv:1308.3432): one inside the range,
        zero where a value was clipped. The arithmetic is float32 (float64 for float64 tensors). A narrower
        dtype that cannot hold a limit of the format gets the next value inside; one that cannot hold a level
        with a scale gets the nearest value.

        Raises:
            InvalidArgument: the format is not concrete, or `values` does not suit it.
        """
        self.require_concrete()
        if working(values).numel() == 0:
            return values.clone()
        if not (torch.is_grad_enabled() and values.requires_grad):
            return self._cast(self.nearest_values(working(values)), values.dtype)
        quantized, inside = self.nearest(working(values))
        return rounded(values, self._cast(quantized, values.dtype), inside)

    def nearest_values(self, work: Tensor) -> Tensor:
        """The first of what `nearest` returns, for those who need no gradient."""
        return self.nearest(work)[0]

    def _cast(self, quantized: Tensor, dtype: torch.dtype) -> Tensor:
        return cast_inwards(quantized, dtype) if self.short else quantized.to(dtype)

    def bits(self, elements: Any, channels: Any = 1, rows: Any = 1) -> Any:
        """Bits that a tensor of `elements` elements takes, shared scales and exponents included.

        Works on ints and on int arrays alike, so many candidate networks can be counted at once.
        `channels` matters to formats with a scale per channel: how many there are. `rows` matters to
        formats with blocks: how many lines along the block axis the tensor has, since a block never
        crosses from one line into the next; with the default, all elements are taken as one line.
        """
        del channels, rows
        return elements * self.width

    def tensor_bits(self, shape: Sequence[int]) -> int:
        """Bits that one tensor of `shape` takes, shared scales and exponents included."""
        return int(self.bits(math.prod(shape)))

    def require_concrete(self) -> None:
        """Raise `InvalidArgument` if something is still left to calibration."""
        if not self.concrete:
            raise InvalidArgument(
                f"format `{self.spec}` is not concrete: call `calibrate(values)` first, or give all of it"
            )

    def __str__(self) -> str:
        return self.spec


class _StraightThrough(torch.autograd.Function):
    """Forward: the rounded values. Backward: the gradient where `inside`, zero elsewhere."""

    generate_vmap_rule = True

    @staticmethod
    def forward(_values: Tensor, quantized: Tensor, _inside: Tensor) -> Tensor:
        return quantized

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Any) -> None:
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
