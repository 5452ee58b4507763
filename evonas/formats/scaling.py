"""Scales given per tensor or per channel: checks, specs, and their place along an axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from evonas.errors import InvalidArgument
from evonas.formats.arithmetic import working
from evonas.formats.calibration import finite_row
from evonas.formats.specs import Reader, number_text

__all__ = ["along_axis", "as_scales", "checked_axis", "read_scales", "rows_of", "scales_text", "usable"]

_SMALLEST = 2.0**-126  # a smaller float32 loses precision, and dividing by it overflows


def as_scales(scale: object, per_channel: bool) -> tuple[float, ...]:
    """`scale` as a tuple of the float32 numbers that a device would store.

    Raises:
        InvalidArgument: not positive and normal in float32, or more than one without `per_channel`.
    """
    given = tuple(scale) if isinstance(scale, tuple | list) else (scale,)
    if not given or (len(given) > 1 and not per_channel):
        raise InvalidArgument(f"`scale` must be one number, or one a channel, got {len(given)} numbers")
    for one in given:
        if not isinstance(one, int | float) or not _SMALLEST <= one <= 2.0**127:
            raise InvalidArgument(f"`scale` must be a number from 2^-126 to 2^127, got {one}")
    stored: list[float] = torch.tensor(given, dtype=torch.float64).float().tolist()
    return tuple(stored)


def usable(scale: Tensor, total: int) -> Tensor:
    """`scale` with 1 for zeros, and within what leaves every level of `total` bits finite in float32."""
    scale = torch.where(scale == 0, 1.0, scale).clamp(_SMALLEST, 2.0 ** (127 - total))
    return scale.float().to(scale.dtype)


def checked_axis(axis: int, shape: Sequence[int]) -> int:
    """`axis` counted from the front.

    Raises:
        InvalidArgument: a tensor of `shape` has no such axis.
    """
    if not -len(shape) <= axis < len(shape):
        raise InvalidArgument(f"`axis` {axis} does not exist in a tensor of shape {tuple(shape)}")
    return axis % len(shape)


def along_axis(numbers: Sequence[float], values: Tensor, axis: int, per_channel: bool) -> Tensor:
    """`numbers` as a tensor that broadcasts over `values`, one for each index of `axis` if `per_channel`.

    Raises:
        InvalidArgument: `values` has not as many channels as there are numbers.
    """
    result = torch.tensor(numbers, dtype=values.dtype, device=values.device)
    if not per_channel:
        return result.reshape(())
    at = checked_axis(axis, values.shape)
    if values.shape[at] != len(numbers):
        raise InvalidArgument(
            f"a format with {len(numbers)} scales does not suit {values.shape[at]} channels along axis {axis}"
            f" of shape {tuple(values.shape)}: calibrate it on this tensor"
        )
    return result.reshape([-1 if i == at else 1 for i in range(values.dim())])


def rows_of(values: Tensor, axis: int, per_channel: bool) -> Tensor:
    """The finite elements of `values` as one row, or one row per channel, shape (channels, n).

    Rows must stay equally long, so in those of channels a zero stands in for what is not finite.
    """
    if not per_channel:
        return finite_row(values)
    work = working(values)
    rows = work.movedim(checked_axis(axis, work.shape), 0)
    return rows.reshape(rows.shape[0], rows[:1].numel()).nan_to_num(0.0, 0.0, 0.0)


def read_scales(reader: Reader, affine: bool) -> tuple[tuple[float, ...], tuple[int, ...] | None]:
    """Scales, and zero points if `affine`: `0.5`, `0.5/0.25`, `0.5:3/0.25:-7`."""
    scales: list[float] = []
    zeros: list[int] = []
    while not scales or reader.option("/"):
        scales.append(reader.real("a scale such as 0.25"))
        if affine:
            reader.literal(":", "`:` and a zero point")
            zeros.append(reader.integer("a zero point"))
    return tuple(scales), tuple(zeros) if affine else None


def scales_text(scales: Sequence[float], zeros: Sequence[int] | None = None) -> str:
    """What `read_scales` reads, after an `@`."""
    texts = [number_text(s) for s in scales]
    if zeros is not None:
        texts = [f"{text}:{zero}" for text, zero in zip(texts, zeros, strict=True)]
    return "@" + "/".join(texts)
