"""Fixed point, and plain float32 for layers that are not quantized."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from evonas.errors import InvalidArgument
from evonas.formats.base import Format, rounded

__all__ = ["Fixed", "Float32"]

_MAX_WIDTH = 24  # float32 holds every integer below 2^24, so up to here the grid is exact
_MAX_FRAC = 60
_CANDIDATES = 10  # fraction widths that calibration tries, downwards from the one that uses every bit


@dataclass(frozen=True)
class Fixed(Format):
    """Signed fixed point: `clamp(round(x 2^f), -2^(w-1), 2^(w-1)-1) / 2^f`, half to even.

    The same as `ap_fixed<w, w-f, AP_RND_CONV, AP_SAT>` of Vivado HLS and hls4ml. `frac` may be negative or
    above `total` (the binary point then lies outside the word); None leaves it to calibration. NaN stays
    NaN, infinities saturate.

    Args:
        total: width in bits with the sign, 1 to 24.
        frac: fraction width in bits, or None.
    """

    total: int
    frac: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.total <= _MAX_WIDTH:
            raise InvalidArgument(f"`total` of a fixed-point format must be 1 to {_MAX_WIDTH} bits, got {self.total}")
        if self.frac is not None and abs(self.frac) > _MAX_FRAC:
            raise InvalidArgument(
                f"`frac` of a fixed-point format must be -{_MAX_FRAC} to {_MAX_FRAC}, got {self.frac}"
            )

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """`fixed8` or `fixed8.4` or `fixed8.-2` as a format, None when `spec` is of another family."""
        match = re.fullmatch(r"fixed(\d+)(?:\.(-?\d+))?", spec)
        if match is None:
            return None
        return cls(int(match[1]), None if match[2] is None else int(match[2]))

    @property
    def spec(self) -> str:
        return f"fixed{self.total}" if self.frac is None else f"fixed{self.total}.{self.frac}"

    @property
    def width(self) -> int:
        return self.total

    @property
    def concrete(self) -> bool:
        return self.frac is not None

    @property
    def lowest(self) -> int:
        """The smallest integer of the word, -2^(w-1)."""
        return -(1 << (self.total - 1))

    @property
    def highest(self) -> int:
        """The largest integer of the word, 2^(w-1) - 1."""
        return (1 << (self.total - 1)) - 1

    def quantize(self, values: Tensor) -> Tensor:
        self.require_concrete()
        assert self.frac is not None
        scale = 2.0**self.frac
        scaled = values.float() * scale
        quantized = (scaled.round().clamp(self.lowest, self.highest) / scale).to(values.dtype)
        inside = (scaled >= self.lowest - 0.5) & (scaled <= self.highest + 0.5)
        return rounded(values, quantized, inside)

    def calibrate(self, values: Tensor) -> Self:
        """The fraction width with the least mean squared error on the finite `values` (any shape).

        Starts at the width that lets the largest magnitude just fit and tries finer grids, which clip more
        and round less. All zeros or nothing finite: the finest width at which 1 still fits.
        """
        if self.concrete:
            return self
        finite = values.detach().float().flatten()
        finite = finite[torch.isfinite(finite)]
        largest = float(finite.abs().max()) if finite.numel() else 0.0
        if largest == 0.0:
            return replace(self, frac=self.total - 1)
        fits = self.total - 1 - math.ceil(math.log2(largest))
        tried = [max(-_MAX_FRAC, min(f, _MAX_FRAC)) for f in range(fits - 1, fits + _CANDIDATES)]
        errors = [float((replace(self, frac=f).quantize(finite) - finite).square().mean()) for f in tried]
        return replace(self, frac=tried[errors.index(min(errors))])

    def half(self) -> Self:
        """The same width with the binary point in the middle, `frac = total // 2`."""
        return replace(self, frac=self.total // 2)


@dataclass(frozen=True)
class Float32(Format):
    """IEEE single precision: nothing is rounded. Counts 32 bits an element."""

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """`float32` as a format, None for any other `spec`."""
        return cls() if spec == "float32" else None

    @property
    def spec(self) -> str:
        return "float32"

    @property
    def width(self) -> int:
        return 32

    def quantize(self, values: Tensor) -> Tensor:
        return values
