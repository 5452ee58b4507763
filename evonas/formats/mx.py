"""The microscaling formats of the OCP MX Specification v1.0: 32 elements share a scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

from evonas.errors import InvalidArgument
from evonas.formats.arithmetic import checked
from evonas.formats.blocks import Blocked
from evonas.formats.integer import Integer
from evonas.formats.minifloat import Minifloat, read_widths
from evonas.formats.specs import Reader

__all__ = ["MXFloat", "MXInt"]

_BLOCK = 32
_ELEMENTS = {(8, 4): "e4m3", (8, 5): "e5m2", (6, 3): "e3m2", (6, 2): "e2m3", (4, 2): "e2m1"}


class _Microscaled(Blocked):
    """Blocks of 32, and the conversion of the specification's section 6.3, which clips."""

    axis: int
    carries = False

    @property
    def block_axis(self) -> tuple[int, int]:
        return _BLOCK, self.axis

    @property
    def _axis_text(self) -> str:
        return "" if self.axis == -1 else f"a{self.axis}"


def _read_axis(reader: Reader) -> int:
    axis = reader.integer("an axis such as 1") if reader.option("a") else -1
    reader.end("`a` and an axis, or nothing more" if axis == -1 else "nothing more")
    return axis


@dataclass(frozen=True)
class MXInt(_Microscaled):
    """MXINT: integers with one bit before the binary point, `-(2 - 2^(2-w))` to `2 - 2^(2-w)`.

    The specification has w = 8 and lets an implementation leave -2 unused, which is done here so that the
    format is odd; other widths are made alike. Spec: `mxint8`, `mxint8a1` (blocks along axis 1).

    Args:
        total: width in bits, 2 to 16.
        axis: the axis along which blocks lie.
    """

    total: int = 8
    axis: int = -1

    def __post_init__(self) -> None:
        checked("`total` bits of an MXINT format", self.total, 2, 16)

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """`mxint8` or `mxint8a1` as a format, None when `spec` is of another family."""
        reader = Reader.of(spec, "mxint")
        if reader is None:
            return None
        return cls(reader.integer("a width in bits, as in `mxint8`"), _read_axis(reader))

    @property
    def spec(self) -> str:
        return f"mxint{self.total}{self._axis_text}"

    @cached_property
    def element(self) -> Integer:
        return Integer(self.total, narrow=True, scale=2.0 ** (2 - self.total))

    @property
    def element_top(self) -> int:
        return 0


@dataclass(frozen=True)
class MXFloat(_Microscaled):
    """MXFP8, MXFP6 and MXFP4: OCP's E4M3, E5M2, E3M2, E2M3 or E2M1 times a shared power of two.

    Spec: `mxfp8e4m3`, `mxfp8e5m2`, `mxfp6e3m2`, `mxfp6e2m3`, `mxfp4e2m1`, and `a1` for blocks along axis 1.

    Args:
        total: width in bits, 8, 6 or 4.
        exponent: exponent bits.
        axis: the axis along which blocks lie.
    """

    total: int
    exponent: int
    axis: int = -1

    def __post_init__(self) -> None:
        if (self.total, self.exponent) not in _ELEMENTS:
            names = ", ".join(f"mxfp{total}{name}" for (total, _), name in _ELEMENTS.items())
            raise InvalidArgument(
                f"no MXFP format has {self.total} bits and {self.exponent} exponent bits; there are {names}"
            )

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """`mxfp4e2m1` or `mxfp4e2m1a1` as a format, None when `spec` is of another family."""
        reader = Reader.of(spec, "mxfp")
        return None if reader is None else cls(*read_widths(reader), _read_axis(reader))

    @property
    def spec(self) -> str:
        return f"mxfp{self.total}{_ELEMENTS[self.total, self.exponent]}{self._axis_text}"

    @cached_property
    def element(self) -> Minifloat:
        return Minifloat(self.total, self.exponent)

    @property
    def element_top(self) -> int:
        return self.element.top
