"""Small floating-point formats with subnormals: IEEE-like, and the variants of OCP and of ml_dtypes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from evonas.errors import InvalidArgument
from evonas.formats.arithmetic import checked, floor_log2, power_of_two
from evonas.formats.base import LISTED_WIDTH, Format
from evonas.formats.calibration import finite_row, largest, pick, searches
from evonas.formats.specs import Reader

__all__ = ["Minifloat"]

_SPECIALS = ("ieee", "fnuz", "fn", "finite")
# What OCP's names mean: 8-bit Floating Point Specification v1.0, and MX Specification v1.0, section 5.3.
_STANDARD = {(8, 4): "fn", (8, 5): "ieee", (6, 3): "finite", (6, 2): "finite", (4, 2): "finite"}
_MAX_EXPONENT_BITS = 8
_MAX_MANTISSA_BITS = 23
_CANDIDATES = 5


@dataclass(frozen=True)
class Minifloat(Format):
    """Sign, exponent and mantissa: `(-1)^s 2^(e-bias) (1 + m / 2^M)`, subnormals where e = 0, half to even.

    A value that rounds up past its binade carries into the next: with 3 mantissa bits 1.99 is 2. `special`
    says what the highest codes mean, in the words of ml_dtypes:

    - `ieee`: the top exponent is for infinities and NaN (IEEE 754-2019, section 3.4);
    - `fn`: one NaN a sign, no infinity (torch.float8_e4m3fn, OCP's E4M3);
    - `fnuz`: one NaN in all, no infinity, no negative zero, bias one higher (torch.float8_e4m3fnuz);
    - `finite`: every code is a number (OCP's E3M2, E2M3 and E2M1).

    The default, the empty text, is what OCP's standards say of widths (8, 4), (8, 5), (6, 3), (6, 2), (4, 2),
    and `ieee` for all others; so `fp8e4m3` ends at 448 and `fp8e4m3ieee` at 240. What is too large takes the
    largest finite value, unless `overflow` is set: then it becomes infinity, or NaN without infinities, as in
    a cast by ml_dtypes; `finite` has neither and always saturates. NaN stays NaN in all.

    Spec: `fp8e4m3`, then one of the words above, `b7` (a bias of one's own) or `bfit` (one for calibration to
    find), and `o` for `overflow`: `fp16e5m10`, `fp8e5m2fnuz`, `fp8e4m3b11`, `fp8e4m3bfit`, `fp8e4m3fno`.

    Args:
        total: width in bits, with the sign.
        exponent: exponent bits, 1 to 8; the mantissa has the other `total - exponent - 1`, 0 to 23.
        special: as above.
        bias: the exponent bias; None is the usual 2^(exponent-1) - 1, for `fnuz` 2^(exponent-1).
        fit: leave the bias to calibration.
        overflow: as above.
    """

    total: int
    exponent: int
    special: str = ""
    bias: int | None = None
    fit: bool = False
    overflow: bool = False

    def __post_init__(self) -> None:
        checked("`exponent` bits of a minifloat", self.exponent, 1, _MAX_EXPONENT_BITS)
        least = self.exponent + 1
        checked("`total` bits of a minifloat", self.total, least, least + _MAX_MANTISSA_BITS)
        if self.special == "":
            object.__setattr__(self, "special", self._standard)
        if self.special not in _SPECIALS:
            names = ", ".join(_SPECIALS)
            raise InvalidArgument(f"`special` of a minifloat must be one of {names}, got {self.special}")
        if self.special == "ieee" and self.exponent < 2:
            raise InvalidArgument(
                "an `ieee` minifloat needs 2 exponent bits, as the top code is infinity; or use `finite`"
            )
        if self.special in ("ieee", "fn") and self.mantissa < 1:
            raise InvalidArgument(f"an `{self.special}` minifloat needs a mantissa bit for NaN; or use `finite`")
        if self.bias is not None and self.fit:
            raise InvalidArgument("`bias` and `fit` of a minifloat exclude each other: give one of them")
        if not self.fit:
            low, high = self._bias_range
            name = f"fp{self.total}e{self.exponent}m{self.mantissa}"
            checked(f"the bias of `{name}` (to stay within float32)", self.offset, low, high)

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """`fp8e4m3` and its variants as a format, None when `spec` is of another family."""
        reader = Reader.of(spec, "fp")
        if reader is None:
            return None
        total, exponent = read_widths(reader)
        special = reader.option(*_SPECIALS)
        fit = bool(reader.option("bfit"))
        bias = reader.integer("a bias, or `fit`") if not fit and reader.option("b") else None
        overflow = bool(reader.option("o"))
        reader.end(f"one of {', '.join(_SPECIALS)}, `b` and a bias, `o`, or nothing more")
        return cls(total, exponent, special, bias, fit, overflow)

    @property
    def spec(self) -> str:
        special = "" if self.special == self._standard else self.special
        bias = "bfit" if self.fit else "" if self.bias is None else f"b{self.bias}"
        return f"fp{self.total}e{self.exponent}m{self.mantissa}{special}{bias}{'o' * self.overflow}"

    @property
    def _standard(self) -> str:
        return _STANDARD.get((self.total, self.exponent), "ieee")

    @property
    def _bias_range(self) -> tuple[int, int]:
        """Biases with which every value is a float32, subnormals included."""
        return self._top_code - 127, 150 - self.mantissa

    @property
    def _top_code(self) -> int:
        """The exponent code of the largest finite values."""
        return (1 << self.exponent) - (2 if self.special == "ieee" else 1)

    @property
    def width(self) -> int:
        return self.total

    @property
    def mantissa(self) -> int:
        """Mantissa bits, without the hidden one."""
        return self.total - self.exponent - 1

    @property
    def concrete(self) -> bool:
        return not self.fit

    @property
    def odd(self) -> bool:
        return True

    @property
    def offset(self) -> int:
        """The exponent bias in force."""
        if self.bias is not None:
            return self.bias
        return (1 << (self.exponent - 1)) - (self.special != "fnuz")

    @property
    def top(self) -> int:
        """The exponent of the largest finite value."""
        return self._top_code - self.offset

    @property
    def bottom(self) -> int:
        """The exponent of the smallest normal value; subnormals have its step."""
        return 1 - self.offset

    @property
    def largest(self) -> float:
        """The largest finite value."""
        # In `fn` the last code of the top binade is NaN.
        return float((2 - 2.0**-self.mantissa * (2 if self.special == "fn" else 1)) * 2.0**self.top)

    @property
    def levels(self) -> Tensor | None:
        self.require_concrete()
        if self.total > LISTED_WIDTH:
            return None
        codes = torch.arange(2 ** (self.total - 1), dtype=torch.float64)
        steps = 2.0**self.mantissa
        exponent = (codes / steps).floor()
        fraction = codes / steps - exponent + (exponent > 0)
        positive = fraction * 2.0 ** (exponent.clamp(min=1) - self.offset)
        positive = positive[positive <= self.largest].float()
        return torch.cat([-positive[1:].flip(0), positive])

    def nearest(self, work: Tensor) -> tuple[Tensor, Tensor]:
        kind = work.dtype
        # Steps below the smallest normal float32 would make the division overflow.
        wide = work.double() if self.bottom - self.mantissa < -126 else work
        exponent = floor_log2(wide).clamp(self.bottom, self.top) - self.mantissa
        step = power_of_two(exponent, wide.dtype)
        quantized = (wide / step).round() * step
        inside = quantized.abs() <= self.largest
        if not self.overflow or self.special == "finite":
            quantized = quantized.clamp(-self.largest, self.largest)
        else:
            beyond = torch.inf if self.special == "ieee" else torch.nan
            quantized = torch.where(inside, quantized, quantized * beyond)
        if self.special == "fnuz":
            quantized = quantized + 0.0  # the code of negative zero is taken by NaN
        return quantized.to(kind), inside

    def calibrate(self, values: Tensor, method: str = "mse", *, percentile: float = 99.9) -> Self:
        """The bias that is best by `method` on the finite `values` (any shape); itself unless `fit` is set.

        `max` and `percentile` take the largest bias at which the largest magnitude is not clipped; `mse`
        and `kl` try some larger ones too. All zeros or nothing finite: the usual bias.
        """
        compare = searches(method, percentile)
        if self.concrete:
            return self
        row = finite_row(values)
        limit = largest(row, method, percentile)
        if limit == 0.0:
            return replace(self, fit=False)
        highest = self._biased(self._top_code - int(floor_log2(torch.tensor(limit))))
        fitting = highest.bias if highest.nearest(torch.tensor(limit))[1] else (highest.bias or 0) - 1
        assert fitting is not None
        if not compare:
            return self._biased(fitting)
        tried = dict.fromkeys(self._biased(b) for b in range(fitting, fitting + _CANDIDATES))
        return pick(tried, row, method)

    def _biased(self, bias: int) -> Self:
        low, high = self._bias_range
        return replace(self, bias=max(low, min(high, bias)), fit=False)


def read_widths(reader: Reader) -> tuple[int, int]:
    """Total and exponent bits from `8e4m3`.

    Raises:
        InvalidArgument: something else stands there, or sign, exponent and mantissa do not add up.
    """
    total = reader.integer("a width in bits, as in `8e4m3`")
    reader.literal("e", "`e` and the exponent bits, as in `8e4m3`")
    exponent = reader.integer("the exponent bits, as in `8e4m3`")
    reader.literal("m", "`m` and the mantissa bits, as in `8e4m3`")
    mantissa = reader.integer("the mantissa bits, as in `8e4m3`")
    if total != 1 + exponent + mantissa:
        raise InvalidArgument(
            f"format `{reader.spec}` does not add up: sign 1, exponent {exponent} and mantissa {mantissa}"
            f" are {1 + exponent + mantissa} bits, not {total}"
        )
    return total, exponent
