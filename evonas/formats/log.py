"""Logarithmic numbers: a sign and a power of two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from evonas.formats.arithmetic import checked, floor_log2, power_of_two
from evonas.formats.base import Format
from evonas.formats.calibration import finite_row, largest, pick, searches
from evonas.formats.specs import Reader

__all__ = ["Log"]

_MAX_WIDTH = 8  # the 127 exponents of 8 bits already span most of float32
_CANDIDATES = 4


@dataclass(frozen=True)
class Log(Format):
    """Zero and `+-2^k`, k from `top` down, after Miyashita et al. 2016 (arXiv:1603.01025).

    A word is a sign and w-1 bits of exponent code. Code 0 is held for zero, so codes 1 to 2^(w-1)-1 are
    exponents, the last of them `top`. Rounding is to the nearest *value*, not the nearest exponent, so 1.45
    is 1 and not 2; ties go to the even code: halfway between zero and the smallest power is zero. NaN stays
    NaN, infinities saturate.

    Spec: `log4` (`top` is left to calibration), `log4.0`, `log4.-3`.

    Args:
        total: width in bits with the sign, 2 to 8.
        top: exponent of the largest value, or None. All powers must be normal float32 numbers.
    """

    total: int
    top: int | None = None

    def __post_init__(self) -> None:
        checked("`total` bits of a logarithmic format", self.total, 2, _MAX_WIDTH)
        if self.top is not None:
            checked(f"`top` exponent of `log{self.total}`", self.top, self._lowest_top, 127)

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """`log4` or `log4.-3` as a format, None when `spec` is of another family."""
        reader = Reader.of(spec, "log")
        if reader is None:
            return None
        total = reader.integer("a width in bits, as in `log4`")
        top = reader.integer("the top exponent, as in `log4.0`") if reader.option(".") else None
        reader.end("`.` and the top exponent, or nothing more" if top is None else "nothing more")
        return cls(total, top)

    @property
    def spec(self) -> str:
        return f"log{self.total}" if self.top is None else f"log{self.total}.{self.top}"

    @property
    def width(self) -> int:
        return self.total

    @property
    def concrete(self) -> bool:
        return self.top is not None

    @property
    def odd(self) -> bool:
        return True

    @property
    def exponents(self) -> int:
        """How many powers of two there are, 2^(w-1) - 1."""
        return int(2 ** (self.total - 1)) - 1

    @property
    def _lowest_top(self) -> int:
        return self.exponents - 127

    @property
    def levels(self) -> Tensor | None:
        self.require_concrete()
        assert self.top is not None
        powers = power_of_two(torch.arange(self.top - self.exponents + 1, self.top + 1))
        return torch.cat([-powers.flip(0), torch.zeros(1), powers])

    def nearest(self, work: Tensor) -> tuple[Tensor, Tensor]:
        assert self.top is not None
        bottom = self.top - self.exponents + 1
        limit = 2.0**self.top
        magnitude = work.abs().clamp(max=limit)
        floor = floor_log2(magnitude).clamp(bottom, self.top)
        power = power_of_two(floor, work.dtype)
        middle = power * 1.5
        odd_code = (floor - bottom) % 2 == 0  # the code of `bottom` is 1
        up = (magnitude > middle) | ((magnitude == middle) & odd_code)
        quantized = torch.where(up, power * 2.0, power)
        quantized = torch.where(magnitude <= 2.0 ** (bottom - 1), 0.0, quantized)
        quantized = torch.where(magnitude.isnan(), magnitude, quantized)
        return torch.copysign(quantized, work), work.abs() <= limit * 1.5

    def calibrate(self, values: Tensor, method: str = "mse", *, percentile: float = 99.9) -> Self:
        """The top exponent that is best by `method` on the finite `values` (any shape).

        `max` and `percentile` take the power nearest to the largest magnitude; `mse` and `kl` try some
        lower ones too. All zeros or nothing finite: 0, so that 1 is the largest value.
        """
        compare = searches(method, percentile)
        if self.concrete:
            return self
        row = finite_row(values)
        limit = largest(row, method, percentile)
        if limit == 0.0:
            return replace(self, top=0)
        exponent = int(floor_log2(torch.tensor(limit)))
        fitting = exponent + (limit > 1.5 * 2.0**exponent)
        if not compare:
            return self._topped(fitting)
        tried = dict.fromkeys(self._topped(t) for t in range(fitting, fitting - _CANDIDATES, -1))
        return pick(tried, row, method)

    def _topped(self, top: int) -> Self:
        return replace(self, top=max(self._lowest_top, min(127, top)))
