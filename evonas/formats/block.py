"""Block floating point, block minifloat and block log."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

from evonas.formats.arithmetic import checked
from evonas.formats.blocks import Blocked, checked_block
from evonas.formats.integer import Integer
from evonas.formats.log import Log
from evonas.formats.minifloat import Minifloat, read_widths
from evonas.formats.specs import Reader

__all__ = ["BlockFloat", "BlockLog", "BlockMinifloat"]


def _read_block(reader: Reader) -> tuple[int, int]:
    """Block size and axis from `b16` or `b16a1`, up to the end of the spec."""
    reader.literal("b", "`b` and the elements of a block, as in `b16`")
    block = reader.integer("the elements of a block, as in `b16`")
    axis = reader.integer("an axis such as 1") if reader.option("a") else -1
    reader.end("`a` and an axis, or nothing more" if axis == -1 else "nothing more")
    return block, axis


def _block_text(block: int, axis: int) -> str:
    return f"b{block}" + ("" if axis == -1 else f"a{axis}")


@dataclass(frozen=True)
class BlockFloat(Blocked):
    """Block floating point: signed mantissas that share an exponent, as in Microsoft's MSFP.

    A mantissa is a sign and w-1 bits of magnitude, w-2 of them after the binary point (Rouhani et al. 2020,
    "Pushing the limits of narrow precision inferencing", NeurIPS). Spec: `bfp6b16`, `bfp6b16a1` (blocks
    along axis 1, which is the channel axis of convolutions).

    Args:
        total: width in bits with the sign, without the exponent, 2 to 16.
        block: elements that share an exponent, 1 to 2^20.
        axis: the axis along which blocks lie.
    """

    total: int
    block: int
    axis: int = -1

    def __post_init__(self) -> None:
        checked("`total` bits of a block floating-point format", self.total, 2, 16)
        checked_block(self.block)

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """`bfp6b16` or `bfp6b16a1` as a format, None when `spec` is of another family."""
        reader = Reader.of(spec, "bfp")
        if reader is None:
            return None
        return cls(reader.integer("a width in bits, as in `bfp6b16`"), *_read_block(reader))

    @property
    def spec(self) -> str:
        return f"bfp{self.total}{_block_text(self.block, self.axis)}"

    @cached_property
    def element(self) -> Integer:
        return Integer(self.total, narrow=True, scale=2.0 ** (2 - self.total))

    @property
    def element_top(self) -> int:
        return 0

    @property
    def block_axis(self) -> tuple[int, int]:
        return self.block, self.axis


@dataclass(frozen=True)
class BlockMinifloat(Blocked):
    """Block minifloat: minifloats without infinity or NaN codes that share an exponent bias.

    After Fox et al. 2021, "A Block Minifloat Representation for Training Deep Neural Networks" (ICLR). The
    largest magnitude of a block always lands in the top binade, however small the block's values are.
    Spec: `bm6e3m2b16`, `bm6e3m2b16a1` (blocks along axis 1).

    Args:
        total: width in bits with the sign, without the shared bias.
        exponent: exponent bits, 1 to 6; the mantissa has the other `total - exponent - 1`.
        block: elements that share a bias, 1 to 2^20.
        axis: the axis along which blocks lie.
    """

    total: int
    exponent: int
    block: int
    axis: int = -1

    def __post_init__(self) -> None:
        checked("`exponent` bits of a block minifloat", self.exponent, 1, 6)
        checked("`total` bits of a block minifloat", self.total, self.exponent + 1, 16)
        checked_block(self.block)

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """`bm6e3m2b16` or `bm6e3m2b16a1` as a format, None when `spec` is of another family."""
        reader = Reader.of(spec, "bm")
        return None if reader is None else cls(*read_widths(reader), *_read_block(reader))

    @property
    def spec(self) -> str:
        mantissa = self.total - self.exponent - 1
        return f"bm{self.total}e{self.exponent}m{mantissa}{_block_text(self.block, self.axis)}"

    @cached_property
    def element(self) -> Minifloat:
        return Minifloat(self.total, self.exponent, "finite")

    @property
    def element_top(self) -> int:
        return self.element.top

    @property
    def block_axis(self) -> tuple[int, int]:
        return self.block, self.axis


@dataclass(frozen=True)
class BlockLog(Blocked):
    """Block log: signed powers of two and zero (see `Log`) that share the exponent of the largest.

    Spec: `blog4b16`, `blog4b16a1` (blocks along axis 1).

    Args:
        total: width in bits with the sign, without the shared exponent, 2 to 8.
        block: elements that share an exponent, 1 to 2^20.
        axis: the axis along which blocks lie.
    """

    total: int
    block: int
    axis: int = -1

    def __post_init__(self) -> None:
        checked("`total` bits of a block log format", self.total, 2, 8)
        checked_block(self.block)

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """`blog4b16` or `blog4b16a1` as a format, None when `spec` is of another family."""
        reader = Reader.of(spec, "blog")
        if reader is None:
            return None
        return cls(reader.integer("a width in bits, as in `blog4b16`"), *_read_block(reader))

    @property
    def spec(self) -> str:
        return f"blog{self.total}{_block_text(self.block, self.axis)}"

    @cached_property
    def element(self) -> Log:
        return Log(self.total, 0)

    @property
    def element_top(self) -> int:
        return 0

    @property
    def block_axis(self) -> tuple[int, int]:
        return self.block, self.axis
