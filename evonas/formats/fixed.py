"""Fixed point, and plain float32 for layers that are not quantized."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from evonas.formats.arithmetic import checked, working
from evonas.formats.base import LISTED_WIDTH, Format
from evonas.formats.calibration import finite_row, largest, pick, searches
from evonas.formats.specs import Reader

__all__ = ["Fixed", "Float32"]

_MAX_WIDTH = 24  # float32 holds every integer below 2^24, so up to here the grid is exact
_MAX_FRAC = 60
_CANDIDATES = 10  # fraction widths that calibration tries, downwards from the one that uses every bit


@dataclass(frozen=True)
class Fixed(Format):
    """Signed fixed point: `clamp(round(x 2^f), -2^(w-1), 2^(w-1)-1) / 2^f`, half to even.

    The same as `ap_fixed<w, w-f, AP_RND_CONV, AP_SAT>` of Vivado HLS and hls4ml. `frac` may be negative or
    above `total` (the binary point then lies outside the word); None leaves it to calibration. NaN stays
    NaN, infinities saturate. Spec: `fixed8`, `fixed8.4`, `fixed8.-2`.

    Args:
        total: width in bits with the sign, 1 to 24.
        frac: fraction width in bits, -60 to 60, or None.
    """

    total: int
    frac: int | None = None

    def __post_init__(self) -> None:
        checked("`total` bits of a fixed-point format", self.total, 1, _MAX_WIDTH)
        if self.frac is not None:
            checked("`frac` bits of a fixed-point format", self.frac, -_MAX_FRAC, _MAX_FRAC)

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """`fixed8` or `fixed8.4` or `fixed8.-2` as a format, None when `spec` is of another family."""
        reader = Reader.of(spec, "fixed")
        if reader is None:
            return None
        total = reader.integer("a width in bits, as in `fixed8`")
        frac = reader.integer("a fraction width, as in `fixed8.4`") if reader.option(".") else None
        reader.end("`.` and a fraction width, or nothing more" if frac is None else "nothing more")
        return cls(total, frac)

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

    @property
    def levels(self) -> Tensor | None:
        self.require_concrete()
        assert self.frac is not None
        if self.total > LISTED_WIDTH:
            return None
        return torch.arange(self.lowest, self.highest + 1).float() / 2.0**self.frac

    def nearest(self, work: Tensor) -> tuple[Tensor, Tensor]:
        assert self.frac is not None
        scaled = work * 2.0**self.frac
        inside = (scaled >= self.lowest - 0.5) & (scaled <= self.highest + 0.5)
        return self.nearest_values(work), inside

    def nearest_values(self, work: Tensor) -> Tensor:
        assert self.frac is not None
        scale = 2.0**self.frac
        return (work.detach() * scale).round_().clamp_(self.lowest, self.highest).div_(scale)

    def calibrate(self, values: Tensor, method: str = "mse", *, percentile: float = 99.9) -> Self:
        """The fraction width that is best by `method` on the finite `values` (any shape).

        `max` and `percentile` take the finest grid that the largest magnitude still fits; `mse` and `kl`
        start one coarser and try finer grids, which clip more and round less. All zeros or nothing finite:
        the finest width at which 1 still fits but for the last step.
        """
        compare = searches(method, percentile)
        if self.concrete:
            return self
        row = finite_row(values)
        limit = largest(row, method, percentile)
        if limit == 0.0:
            return replace(self, frac=self.total - 1)
        fits = self.total - 1 - math.ceil(math.log2(limit))
        if not compare:
            # The largest value may be a power of two or round up to one: that takes a bit more.
            return self._limited(fits - (round(limit * 2.0**fits) > self.highest))
        tried = dict.fromkeys(self._limited(f) for f in range(fits - 1, fits + _CANDIDATES))
        return pick(tried, row, method)

    def _limited(self, frac: int) -> Self:
        return replace(self, frac=max(-_MAX_FRAC, min(_MAX_FRAC, frac)))

    def half(self) -> Self:
        """The same width with the binary point in the middle, `frac = total // 2`."""
        return replace(self, frac=self.total // 2)


@dataclass(frozen=True)
class Float32(Format):
    """IEEE single precision: nothing is rounded. Counts 32 bits an element."""

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """`float32` as a format, None for any other family."""
        reader = Reader.of(spec, "float")
        if reader is None:
            return None
        reader.literal("32", "`32`; other floats are written like `fp16e5m10`")
        reader.end()
        return cls()

    @property
    def spec(self) -> str:
        return "float32"

    @property
    def width(self) -> int:
        return 32

    @property
    def odd(self) -> bool:
        return True

    def nearest(self, work: Tensor) -> tuple[Tensor, Tensor]:
        return work, torch.ones_like(work, dtype=torch.bool)

    def quantize(self, values: Tensor) -> Tensor:
        working(values)
        return values
