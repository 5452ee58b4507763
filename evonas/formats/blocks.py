"""Formats whose blocks of elements share a power-of-two scale."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evonas.errors import InvalidArgument
from evonas.formats.arithmetic import checked, floor_log2, power_of_two, working
from evonas.formats.base import Format
from evonas.formats.scaling import checked_axis

__all__ = ["MAX_BLOCK", "Blocked", "checked_block"]

MAX_BLOCK = 1 << 20
_EXPONENT_BITS = 8
_LOWEST, _HIGHEST = -127, 127  # E8M0 of the OCP MX Specification v1.0, section 5.4.1; its last code is NaN


def checked_block(block: int) -> int:
    """`block` as a number of elements that can share an exponent.

    Raises:
        InvalidArgument: not 1 to 2^20.
    """
    return checked("`block` elements of a block format", block, 1, MAX_BLOCK)


class Blocked(Format):
    """Elements times a shared power of two, one for each `block` elements along `axis`.

    A subclass says what the elements are and which exponent its largest one has. The shared exponent is an
    8-bit E8M0 number, 2^-127 to 2^127, found anew in every tensor: the exponent of the block's largest
    magnitude goes onto that of the largest element. Lines along `axis` that are no multiple of `block` end in
    a shorter block. A block of zeros has the smallest exponent and stays zero. Infinities count as the
    largest finite float and so outshine their block, NaN does not count and stays NaN.
    """

    # Whether a block whose largest value would round past the largest element takes the next exponent. The
    # standard for MX says no, clip; the others then keep within half a step of every value.
    carries: bool = True

    @property
    @abstractmethod
    def element(self) -> Format:
        """The concrete format of the elements, at scale 1."""

    @property
    @abstractmethod
    def element_top(self) -> int:
        """The exponent of the largest element at scale 1."""

    @property
    @abstractmethod
    def block_axis(self) -> tuple[int, int]:
        """Elements in a block, and the axis along which they are consecutive."""

    @property
    def width(self) -> int:
        return self.element.width

    @property
    def odd(self) -> bool:
        return True

    @property
    def levels(self) -> Tensor | None:
        return self.element.levels

    def scales(self, values: Tensor) -> Tensor:
        """The scale of each element's block, in the shape of `values`.

        Raises:
            InvalidArgument: the axis does not exist, or the tensor has fewer elements than a block.
        """
        block, axis = self.block_axis
        work = working(values)
        if work.numel() == 0:
            return torch.ones_like(work)
        if work.numel() < block:
            raise InvalidArgument(
                f"`{self.spec}` has blocks of {block} elements, which is larger than a tensor of shape"
                f" {tuple(work.shape)}: use a smaller block or another format there"
            )
        lines = work.reshape(1) if work.dim() == 0 else work.movedim(checked_axis(axis, work.shape), -1)
        length = lines.shape[-1]
        padded = torch.nn.functional.pad(lines, (0, -length % block))
        padded = padded.reshape(*lines.shape[:-1], -1, block)
        found = self._block_scales(padded).repeat_interleave(block, -1)[..., :length]
        return found.reshape(()) if work.dim() == 0 else found.movedim(-1, axis)

    def _block_scales(self, blocks: Tensor) -> Tensor:
        """One scale for each block, shape (..., blocks), of `blocks`, shape (..., blocks, block)."""
        finite = torch.finfo(torch.float32).max
        largest = blocks.abs().nan_to_num(0.0, finite, finite).amax(-1)
        exponent = self._exponent(largest)
        scale = power_of_two(exponent, torch.float64).to(blocks.dtype)
        if not self.carries:
            return scale
        past = ~self.element.nearest(largest / scale)[1]
        exponent = (exponent + past.to(exponent.dtype)).clamp(_LOWEST, self._highest)
        return power_of_two(exponent, torch.float64).to(blocks.dtype)

    def _exponent(self, largest: Tensor) -> Tensor:
        exponent = floor_log2(largest) - self.element_top
        return torch.where(largest > 0, exponent.clamp(_LOWEST, self._highest), _LOWEST)

    @property
    def _highest(self) -> int:
        """The largest shared exponent at which the largest element is still a float32."""
        return _HIGHEST - self.element_top

    def nearest(self, work: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.scales(work)
        quantized, inside = self.element.nearest(work / scale)
        return quantized * scale, inside

    def bits(self, elements: Any, channels: Any = 1, rows: Any = 1) -> Any:
        """`width` bits an element and 8 for each block's exponent.

        `rows` is how many lines along the block axis the tensor has; each ends in a block of its own. Ints
        or int arrays, elements a multiple of rows.
        """
        del channels
        line = elements // rows
        return elements * self.width + rows * -(-line // self.block_axis[0]) * _EXPONENT_BITS

    def tensor_bits(self, shape: Sequence[int]) -> int:
        elements = math.prod(shape)
        if elements == 0:
            return 0
        line = shape[checked_axis(self.block_axis[1], shape)] if len(shape) else 1
        return int(self.bits(elements, rows=elements // line))
