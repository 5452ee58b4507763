"""Scaled integers: symmetric and affine, one scale per tensor or per channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from evonas.errors import InvalidArgument
from evonas.formats.arithmetic import checked
from evonas.formats.base import LISTED_WIDTH, Format
from evonas.formats.calibration import best_ratio, extremes, searches
from evonas.formats.scaling import (
    along_axis,
    as_scales,
    checked_axis,
    read_scales,
    rows_of,
    scales_text,
    usable,
)
from evonas.formats.specs import Reader

__all__ = ["Integer"]

_MAX_WIDTH = 24
_SCALE_BITS = 32


@dataclass(frozen=True)
class Integer(Format):
    """Scaled integers: `(clamp(round(x / s + z), q_min, q_max) - z) s`, half to even.

    The rounding is that of qonnx's `Quant` and of Jacob et al. 2018 (arXiv:1712.05877). Signed words run from
    -2^(w-1) to 2^(w-1)-1, narrow ones from -2^(w-1)+1 (which makes them odd), unsigned ones from 0. An
    affine format has a zero point z, a word of its own, so that an asymmetric range is well used; zero is
    always exact. Scales are float32 and count 32 bits each, zero points `total` bits each. NaN stays NaN,
    infinities saturate.

    Spec: `int4`, then `n` narrow, `a` affine, `c` one scale per channel (`c1`: channels along axis 1), then
    `@` and the scales if they are known: `int4`, `uint4`, `int8a`, `int4nc`, `int8@0.5`, `int8a@0.5:3`,
    `int4c@0.5/0.25`.

    Args:
        total: width in bits, 2 to 24 (unsigned: 1 to 24).
        signed, narrow, affine, per_channel: as above.
        axis: the channel axis of formats with one scale per channel; 0 is right for weights of layers.
        scale: the scales, a float or one for each channel; None leaves them to calibration.
        zero: the zero points of an affine format, as many as scales.
    """

    total: int
    signed: bool = True
    narrow: bool = False
    affine: bool = False
    per_channel: bool = False
    axis: int = 0
    scale: tuple[float, ...] | float | None = None
    zero: tuple[int, ...] | int | None = None

    short: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checked("`total` bits of an integer format", self.total, 2 if self.signed else 1, _MAX_WIDTH)
        if self.narrow and not self.signed:
            raise InvalidArgument("a `narrow` integer format must be signed, as in `int8n`")
        if self.scale is None:
            if self.zero is not None:
                raise InvalidArgument("`zero` of an integer format was given without `scale`: give both")
            return
        scales = as_scales(self.scale, self.per_channel)
        object.__setattr__(self, "scale", scales)
        object.__setattr__(self, "zero", self._checked_zeros(len(scales)))

    def _checked_zeros(self, count: int) -> tuple[int, ...]:
        if self.zero is None:
            return (0,) * count
        zeros = self.zero if isinstance(self.zero, tuple) else (self.zero,)
        if len(zeros) != count or not (self.affine or set(zeros) == {0}):
            raise InvalidArgument(f"`zero` must be one number for each of {count} scales of an affine format")
        return tuple(checked("`zero` of an integer format", z, self.lowest, self.highest) for z in zeros)

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """`int4c`, `uint8`, `int8a@0.5:3` and so on as a format, None when `spec` is of another family."""
        reader = Reader.of(spec, "int", "uint")
        if reader is None:
            return None
        total = reader.integer("a width in bits, as in `int8`")
        signed = reader.word == "int"
        narrow = signed and bool(reader.option("n"))
        affine = bool(reader.option("a"))
        per_channel = bool(reader.option("c"))
        axis = reader.axis(0) if per_channel else 0
        scales, zeros = read_scales(reader, affine) if reader.option("@") else (None, None)
        reader.end("one of `n`, `a`, `c` in this order, `@` and a scale, or nothing more")
        return cls(total, signed, narrow, affine, per_channel, axis, scales, zeros)

    @property
    def spec(self) -> str:
        axis = str(self.axis) if self.per_channel and self.axis else ""
        flags = "n" * self.narrow + "a" * self.affine + "c" * self.per_channel + axis
        known = "" if self.scale is None else scales_text(self._scales, self._zeros if self.affine else None)
        return f"{'' if self.signed else 'u'}int{self.total}{flags}{known}"

    @property
    def _scales(self) -> tuple[float, ...]:
        assert isinstance(self.scale, tuple)
        return self.scale

    @property
    def _zeros(self) -> tuple[int, ...]:
        assert isinstance(self.zero, tuple)
        return self.zero

    @property
    def width(self) -> int:
        return self.total

    @property
    def concrete(self) -> bool:
        return self.scale is not None

    @property
    def odd(self) -> bool:
        return self.narrow and not self.affine

    @property
    def lowest(self) -> int:
        """The smallest integer of the word."""
        return -(1 << (self.total - 1)) + self.narrow if self.signed else 0

    @property
    def highest(self) -> int:
        """The largest integer of the word."""
        return (1 << (self.total - self.signed)) - 1

    @property
    def levels(self) -> Tensor | None:
        self.require_concrete()
        if self.total > LISTED_WIDTH:
            return None
        codes = torch.arange(self.lowest, self.highest + 1).float()
        table = (codes - torch.tensor(self._zeros).unsqueeze(1)) * torch.tensor(self._scales).unsqueeze(1)
        return table if self.per_channel else table[0]

    def nearest(self, work: Tensor) -> tuple[Tensor, Tensor]:
        scale = along_axis(self._scales, work, self.axis, self.per_channel)
        return self._rounded(work, scale, along_axis(self._zeros, work, self.axis, self.per_channel))

    def _rounded(self, work: Tensor, scale: Tensor, zero: Tensor) -> tuple[Tensor, Tensor]:
        codes = work / scale + zero
        inside = (codes >= self.lowest - 0.5) & (codes <= self.highest + 0.5)
        return (codes.round().clamp(self.lowest, self.highest) - zero) * scale, inside

    def calibrate(self, values: Tensor, method: str = "mse", *, percentile: float = 99.9) -> Self:
        """Scales and zero points that are best by `method` on the finite `values` (any shape).

        `mse` and `kl` try 64 shares of the full range, each channel for itself. A channel of zeros, or
        without anything finite, gets scale 1.

        Raises:
            InvalidArgument: `values` lacks the channel axis.
        """
        compare = searches(method, percentile)
        if self.concrete:
            return self
        rows = rows_of(values, self.axis, self.per_channel)
        low, high = extremes(rows, method, percentile)
        if compare and rows.numel():
            ends = low, high
            ratio = best_ratio(rows, method, lambda x, r: self._at(x, ends[0] * r, ends[1] * r))
            low, high = low * ratio, high * ratio
        scale, zero = self._fitted(low, high)
        if scale.numel() == 0:  # no channels, but a format needs a scale to be concrete
            return replace(self, scale=1.0, zero=0)
        zeros = tuple(int(z) for z in zero.flatten().tolist())
        return replace(self, scale=tuple(scale.flatten().tolist()), zero=zeros)

    def _at(self, rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return self._rounded(rows, *self._fitted(low, high))[0]

    def _fitted(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point, shape (channels, 1) each, that just cover `low` <= 0 <= `high`."""
        if not self.affine:
            # Each side has its own count of steps: -8 to 7 covers -1 with eighths, 1 with sevenths.
            below = -low / -self.lowest if self.lowest else torch.zeros_like(low)
            scale = usable(torch.maximum(below, high / self.highest), self.total)
            return scale, torch.zeros_like(scale)
        scale = usable(high / (self.highest - self.lowest) - low / (self.highest - self.lowest), self.total)
        return scale, (self.lowest - low / scale).round().clamp(self.lowest, self.highest)

    def bits(self, elements: Any, channels: Any = 1, rows: Any = 1) -> Any:
        """`total` bits an element, and for each scale 32 bits (affine: and `total` for its zero point).

        `channels` is the number of scales of formats with one per channel; others always have one.
        """
        each = _SCALE_BITS + self.total * self.affine
        return elements * self.total + (channels if self.per_channel else 1) * each

    def tensor_bits(self, shape: Sequence[int]) -> int:
        channels = shape[checked_axis(self.axis, shape)] if self.per_channel else 1
        return int(self.bits(math.prod(shape), channels=channels))
