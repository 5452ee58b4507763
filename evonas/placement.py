"""Where a format's scales and blocks lie in the tensors of a layer, and whether it fits there.

A scale per channel of a weight belongs to an output channel, and a block lies along what a layer sums over, because
then integer products can be added up before they are scaled. A format whose axis is its family's default is placed so:

| tensor | scale per channel | blocks |
|---|---|---|
| weight | output channels | inputs of one output (outputs, when it has one input only: depthwise) |
| data_in, data_out | channels | channels |
| both operands of a product of activations | what it sums over | what it sums over |
| the table of an embedding | columns | columns |
| bias | channels | channels |

An axis that is given otherwise is kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from evonas.chains import Extent
from evonas.errors import InvalidArgument
from evonas.formats import Format
from evonas.formats.blocks import Blocked
from evonas.network import DATA, Layer

__all__ = ["axis_of", "line", "placed", "require_fit", "shape_of"]


def axis_of(fmt: Format) -> int | None:
    """The axis along which `fmt` has blocks or a scale each; None for a format that needs none."""
    if isinstance(fmt, Blocked):
        return fmt.block_axis[1]
    return int(fmt.axis) if getattr(fmt, "per_channel", False) else None  # type: ignore[attr-defined]


def placed(fmt: Format, layer: Layer, slot: str) -> Format:
    """`fmt` with its blocks or channels along the axis of `layer`'s tensor `slot` where they belong.

    Raises:
        InvalidArgument: an axis that the tensor does not have, or one whose length is not known here.
    """
    axis = axis_of(fmt)
    if axis is None:
        return fmt
    blocks = isinstance(fmt, Blocked)
    if axis == (-1 if blocks else 0):
        natural = _natural(layer, slot, blocks)
        axis = axis if natural is None else natural
    if _axis_name(layer, slot, axis) is None:
        kind = "blocks" if blocks else "channels"
        raise InvalidArgument(
            f"format `{fmt.spec}` has its {kind} along axis {axis}, which `{layer.name}.{slot}` cannot have; "
            f"leave the axis out, so that evonas chooses it, or use a format without"
        )
    changed: Format = dataclasses.replace(fmt, axis=axis)  # type: ignore[type-var]
    return changed


def _natural(layer: Layer, slot: str, blocks: bool) -> int | None:
    """The axis where channels or blocks belong; None where the tensor has none that is known."""
    if slot == "bias":
        return 0
    if slot in DATA:
        return _data_axis(layer, slot)
    if layer.kind == "embedding":
        return 1
    out = 1 if layer.transposed else 0
    if not blocks or layer.fan_in == Extent(1):
        return out
    return -1 if layer.kind == "linear" and not layer.transposed else 1 - out


def _data_axis(layer: Layer, slot: str) -> int | None:
    """The axis of an activation along which its channels lie, or what a product of activations sums over."""
    if layer.kind in ("matmul", "add"):
        first, second = layer.axes
        if layer.kind == "matmul" and slot == "data_out":
            return None
        return second if slot == "data_in2" else first
    return 1 if layer.kind == "conv" else -1


def _axis_name(layer: Layer, slot: str, axis: int) -> str | None:
    """What lies along `axis`: `inputs`, `outputs` or `fan_in`; None where that is not one of a layer's counts."""
    if slot == "bias":
        return "outputs" if axis in (0, -1) else None
    if slot in DATA:
        side = "outputs" if slot == "data_out" else "inputs"
        side = "fan_in" if layer.kind in ("matmul", "add") else side
        alone = layer.kind not in ("matmul", "add") and layer.input_positions == 1 and slot == "data_in"
        return side if axis == _data_axis(layer, slot) or (axis == 1 and alone) else None
    if layer.kind == "embedding":
        return {0: "fan_in", 1: "outputs", -1: "outputs"}.get(axis)
    if layer.kind == "linear" and axis == -1:
        axis = 1
    names = ("inputs", "group_outputs") if layer.transposed else ("outputs", "fan_in")
    return names[axis] if axis in (0, 1) else None


def shape_of(layer: Layer, slot: str, counts: Mapping[str, Any]) -> Any:
    """Elements of one tensor of `layer`, given the count of every chain (ints or int arrays); 0 where there is none.

    Of a sum, `data_in` is both operands.
    """
    inputs, outputs = layer.inputs.count(counts), layer.outputs.count(counts)
    if slot in ("data_in", "data_out"):
        repeats = 1 if layer.repeats is None else layer.repeats.count(counts)
        if slot == "data_out":
            return outputs * layer.positions * repeats
        return inputs * layer.input_positions * repeats * (2 if layer.kind == "add" else 1)
    if slot == "data_in2":
        return 0 if layer.second is None else layer.second.count(counts) * layer.second_positions
    if slot == "weight":
        fan_in = inputs if layer.fan_in is None else layer.fan_in.count(counts)
        return outputs * fan_in * layer.taps if layer.kind not in ("matmul", "add") else 0
    return outputs * int(layer.bias)


def line(layer: Layer, slot: str, axis: int, counts: Mapping[str, Any]) -> Any:
    """Length of `layer`'s tensor `slot` along `axis`, given the count of every chain (ints or int arrays)."""
    inputs, outputs = layer.inputs.count(counts), layer.outputs.count(counts)
    fan_in = inputs if layer.fan_in is None else layer.fan_in.count(counts)
    name = _axis_name(layer, slot, axis)
    if name == "group_outputs":
        return outputs * fan_in // inputs
    return {"inputs": inputs, "outputs": outputs, "fan_in": fan_in}[str(name)]


def require_fit(fmt: Format, layer: Layer, slot: str, lowest: Mapping[str, int], highest: Mapping[str, int]) -> None:
    """Raise unless a placed `fmt` fits `layer`'s tensor `slot` at the lowest and the highest count of every chain.

    Activations may be smaller than a block, which then ends early; a weight or bias must hold one block at least.

    Raises:
        InvalidArgument: blocks larger than the tensor, or scales given for another number of channels.
    """
    where, elements = f"`{layer.name}.{slot}`", int(shape_of(layer, slot, lowest))
    if isinstance(fmt, Blocked) and slot not in DATA and 0 < elements < fmt.block_axis[0]:
        raise InvalidArgument(
            f"format `{fmt.spec}` has blocks of {fmt.block_axis[0]} elements, but {where} has only {elements} "
            f"in the smallest network; use a smaller block or another format there"
        )
    axis = axis_of(fmt)
    if axis is None or isinstance(fmt, Blocked) or not fmt.concrete:
        return
    given = len(fmt.scale)  # type: ignore[attr-defined]
    lengths = {int(line(layer, slot, axis, counts)) for counts in (lowest, highest)}
    if lengths != {given}:
        found = " to ".join(str(length) for length in sorted(lengths))
        raise InvalidArgument(
            f"format `{fmt.spec}` gives {given} scales, but {where} has {found} channels; give one each"
        )
