"""Binary and ternary weights, with and without scales."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from evonas.errors import InvalidArgument
from evonas.formats.base import Format
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

__all__ = ["Binary", "Ternary"]

_SCALE_BITS = 32


@dataclass(frozen=True)
class _Signs(Format):
    """Signs times a scale: what `Binary` and `Ternary` share."""

    scaled: bool = False
    per_channel: bool = False
    axis: int = 0
    scale: tuple[float, ...] | float | None = None

    name: ClassVar[str]
    short: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.per_channel and not self.scaled:
            raise InvalidArgument(f"a {self.name} format has scales per channel only when it is `scaled`")
        if not self.scaled and self.scale is not None:
            raise InvalidArgument(f"`scale` of a {self.name} format was given, but it is not `scaled`")
        if self.scale is not None:
            object.__setattr__(self, "scale", as_scales(self.scale, self.per_channel))

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        reader = Reader.of(spec, cls.name, cls.name + "s", cls.name + "sc")
        if reader is None:
            return None
        scaled, per_channel = reader.word != cls.name, reader.word.endswith("sc")
        axis = reader.axis(0) if per_channel else 0
        scales = read_scales(reader, affine=False)[0] if scaled and reader.option("@") else None
        reader.end("`@` and a scale, or nothing more" if scaled else f"nothing more, or `{cls.name}s`")
        return cls(scaled, per_channel, axis, scales)

    @property
    def spec(self) -> str:
        axis = str(self.axis) if self.per_channel and self.axis else ""
        known = scales_text(self._scales) if self.scale is not None else ""
        return f"{self.name}{'s' * self.scaled}{'c' * self.per_channel}{axis}{known}"

    @property
    def _scales(self) -> tuple[float, ...]:
        return self.scale if isinstance(self.scale, tuple) else (1.0,)

    @property
    def concrete(self) -> bool:
        return not self.scaled or self.scale is not None

    @property
    @abstractmethod
    def _units(self) -> tuple[float, ...]:
        """The levels in units of the scale."""

    @staticmethod
    @abstractmethod
    def _rounded(work: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """`work` rounded with a broadcastable `scale`, and where it was not clipped."""

    @property
    def levels(self) -> Tensor | None:
        self.require_concrete()
        table = torch.tensor(self._scales).unsqueeze(1) * torch.tensor(self._units)
        return table if self.per_channel else table[0]

    def nearest(self, work: Tensor) -> tuple[Tensor, Tensor]:
        return self._rounded(work, along_axis(self._scales, work, self.axis, self.per_channel))

    def calibrate(self, values: Tensor, method: str = "mse", *, percentile: float = 99.9) -> Self:
        """The scales that are best by `method` on the finite `values` (any shape); itself if unscaled.

        `max` and `percentile` make the largest magnitude the scale. A channel of zeros, or without anything
        finite, gets scale 1.

        Raises:
            InvalidArgument: `values` lacks the channel axis.
        """
        compare = searches(method, percentile)
        if self.concrete:
            return self
        rows = rows_of(values, self.axis, self.per_channel)
        low, high = extremes(rows, method, percentile)
        limit = torch.maximum(-low, high)
        if compare and rows.numel():
            limit = self._best(rows, limit, method)
        return replace(self, scale=tuple(usable(limit, 1).flatten().tolist()) or 1.0)

    def _best(self, rows: Tensor, limit: Tensor, method: str) -> Tensor:
        """The scale of least loss on each row, shape (channels, 1)."""
        return limit * best_ratio(rows, method, lambda x, r: self._rounded(x, usable(limit * r, 1))[0])

    def bits(self, elements: Any, channels: Any = 1, rows: Any = 1) -> Any:
        """`width` bits an element and 32 for each scale; `channels` counts the scales where it applies."""
        scales = (channels if self.per_channel else 1) if self.scaled else 0
        return elements * self.width + scales * _SCALE_BITS

    def tensor_bits(self, shape: Sequence[int]) -> int:
        channels = shape[checked_axis(self.axis, shape)] if self.per_channel else 1
        return int(self.bits(math.prod(shape), channels=channels))


@dataclass(frozen=True)
class Binary(_Signs):
    """`-s` and `+s`: `+s` for x >= 0, one bit. NaN stays NaN, infinities take their sign.

    There is no zero: zeros of either sign become `+s`, so the format is odd everywhere else. Unscaled
    (s = 1) after Courbariaux et al. 2016 (arXiv:1602.02830), whose gradient this is: zero for |x| > s;
    scaled after XNOR-Net (Rastegari et al. 2016, arXiv:1603.05279), where s = mean |x| is what `mse` gives.

    Spec: `binary`, `binarys` (scaled), `binarysc` (a scale per channel, `binarysc1` along axis 1), and with
    the scales once they are known: `binarys@0.5`, `binarysc@0.5/0.25`.

    Args:
        scaled: whether there are scales.
        per_channel: one scale for each index of `axis`.
        axis: the channel axis; 0 is right for weights of layers.
        scale: the scales, a float or one for each channel; None leaves them to calibration.
    """

    name: ClassVar[str] = "binary"

    @property
    def width(self) -> int:
        return 1

    @property
    def _units(self) -> tuple[float, ...]:
        return (-1.0, 1.0)

    @staticmethod
    def _rounded(work: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        signs = torch.where(work >= 0, scale, -scale)
        return torch.where(work.isnan(), work, signs), work.abs() <= scale

    def _best(self, rows: Tensor, limit: Tensor, method: str) -> Tensor:
        return rows.abs().mean(1, keepdim=True) if method == "mse" else super()._best(rows, limit, method)


@dataclass(frozen=True)
class Ternary(_Signs):
    """`-s`, 0 and `+s`, two bits; zero up to and with |x| = s/2. NaN stays NaN, infinities saturate.

    Rounding is to the nearest level, as is optimal for given scales (ternary weight networks, Li et al. 2016,
    arXiv:1605.04711, choose the threshold first and arrive close to it). Any rank, 2-D weights too.

    Spec: `ternary`, `ternarys` (scaled), `ternarysc` (a scale per channel, `ternarysc1` along axis 1), and
    with the scales once they are known: `ternarys@0.5`, `ternarysc@0.5/0.25`.

    Args:
        scaled: whether there are scales.
        per_channel: one scale for each index of `axis`.
        axis: the channel axis; 0 is right for weights of layers.
        scale: the scales, a float or one for each channel; None leaves them to calibration.
    """

    name: ClassVar[str] = "ternary"

    @property
    def width(self) -> int:
        return 2

    @property
    def odd(self) -> bool:
        return True

    @property
    def _units(self) -> tuple[float, ...]:
        return (-1.0, 0.0, 1.0)

    @staticmethod
    def _rounded(work: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return (work / scale).round().clamp(-1.0, 1.0) * scale, work.abs() <= 1.5 * scale
