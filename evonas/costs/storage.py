"""Bits that tensors take in their formats, shared scales, zero points and exponents included."""

from __future__ import annotations

from typing import Any

import numpy as np

from evonas.formats import Format
from evonas.formats.blocks import Blocked
from evonas.placement import axis_of, line, shape_of
from evonas.plan import Choice, Layer, Plans
from evonas.space import IntArray

__all__ = ["elements", "tensor_bits"]


def elements(plans: Plans, slot: str) -> IntArray:
    """Elements of one tensor (`data_in`, `weight`, ...) of each quantizable layer, shape (n, n_quantizable).

    0 where it has no such tensor with a format, and for a weight that another layer holds.
    """
    return plans.once(f"elements of {slot}", lambda plans: _elements(plans, slot))


def _elements(plans: Plans, slot: str) -> IntArray:
    layers = plans.network.quantizable
    return plans.stacked([shape_of(layer, slot, plans.channels) if layer.has(slot) else 0 for layer in layers])


def tensor_bits(plans: Plans, slot: str) -> IntArray:
    """Bits of one tensor of each quantizable layer in its format, shape (n, n_quantizable); 0 where there is none."""
    return plans.once(f"bits of {slot}", lambda plans: _tensor_bits(plans, slot))


def _tensor_bits(plans: Plans, slot: str) -> IntArray:
    counts = elements(plans, slot)
    bits = counts * plans.widths[slot]
    for column, (layer, choice) in enumerate(zip(plans.network.quantizable, plans.formats[slot], strict=True)):
        if layer.has(slot):
            _add_shared(plans, layer, slot, choice, counts[:, column], bits[:, column])
    return bits


def _add_shared(plans: Plans, layer: Layer, slot: str, choice: Choice, counts: IntArray, bits: IntArray) -> None:
    """Overwrite `bits` (n,) of the genomes whose format holds more than its elements."""
    for index, fmt in enumerate(choice.formats):
        if type(fmt).bits is Format.bits:
            continue
        rows = np.arange(plans.n) if choice.picks is None else np.flatnonzero(choice.picks == index)
        axis = axis_of(fmt)
        length: Any = 1
        if axis is not None:
            length = np.broadcast_to(line(layer, slot, axis, plans.channels), plans.n)[rows]
        lines = counts[rows] // length if isinstance(fmt, Blocked) else 1
        bits[rows] = fmt.bits(counts[rows], channels=length, rows=lines)
