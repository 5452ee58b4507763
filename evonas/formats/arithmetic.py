"""Tensor arithmetic that the number formats share: exact powers of two, casts, argument checks."""

from __future__ import annotations

import torch
from torch import Tensor

from evonas.errors import InvalidArgument

__all__ = ["cast_inwards", "checked", "floor_log2", "power_of_two", "working"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def checked(what: str, value: object, low: int, high: int) -> int:
    """`value` as an int of `low` to `high`; `what` names it in the message.

    Raises:
        InvalidArgument: not an int, or out of range.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidArgument(f"{what} must be a whole number from {low} to {high}, got {value}")
    return value


def working(values: Tensor) -> Tensor:
    """`values` (any shape) in the dtype to compute in: float64 stays, other floats become float32.

    The result is detached: formats give their gradient themselves, so autograd need not follow.

    Raises:
        InvalidArgument: not a tensor of float16, bfloat16, float32 or float64.
    """
    kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
    if kind not in _FLOATS:
        raise InvalidArgument(f"`values` must be a tensor of floats, got {kind}: call `.float()` on it first")
    return values.detach() if values.dtype == torch.float64 else values.detach().float()


def cast_inwards(quantized: Tensor, dtype: torch.dtype) -> Tensor:
    """`quantized` in `dtype`, cut towards zero where `dtype` cannot hold it.

    Only limits are ever cut when a grid is built on powers of two: 127.996, the largest `fixed16.8`, is
    127.5 in bfloat16. Rounding to nearest would give 128, which is outside the format.
    """
    result = quantized.to(dtype)
    if dtype in (quantized.dtype, torch.float32, torch.float64):
        return result
    over = result.to(quantized.dtype).abs() > quantized.abs()
    # The word of a float is its sign and then its magnitude, so one less is one step towards zero.
    return torch.where(over, (result.view(torch.int16) - 1).view(dtype), result)


def floor_log2(values: Tensor) -> Tensor:
    """The exponents e (int32) with 2^e <= |x| < 2^(e+1); arbitrary for zeros, infinities and NaN.

    By `frexp` because a logarithm is rounded: log2(2^k (1 - 2^-24)) is k in float32.
    """
    return torch.frexp(values).exponent - 1


def power_of_two(exponents: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """2^e for int `exponents` -126 to 127 (float64: -1022 to 1023), exact on every device.

    Built from bits: `exp2` and `pow` may be off by one in the last place on some devices.
    """
    if dtype == torch.float64:
        return ((exponents.to(torch.int64) + 1023) << 52).view(torch.float64)
    return ((exponents.to(torch.int32) + 127) << 23).view(torch.float32)
