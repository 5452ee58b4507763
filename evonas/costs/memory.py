"""Activation memory: which tensors are alive while each layer runs, and the bits they take.

Layers run one after another, for one sample. While a quantizable layer runs, its input and its output are held, and
whatever a later step, such as the add of a skip connection, still has to read. A tensor is held in the output format of
the layer that wrote it, if it has one, otherwise in the format of the quantizable layer that it flows into (the widest,
when there are several), in float32 when there is none. Element-wise layers, sums, pools and norms work in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evonas.costs.arithmetic import layer_bits
from evonas.costs.storage import elements, tensor_bits
from evonas.network import Held
from evonas.plan import Plans
from evonas.space import FloatArray, IntArray

__all__ = ["activation_memory", "input_bits", "output_bits", "traffic"]

_FLOAT_BITS = 32


def input_bits(plans: Plans) -> IntArray:
    """Bits of what each quantizable layer reads, in its formats, shape (n, n_quantizable)."""
    read = tensor_bits(plans, "data_in")
    return read + tensor_bits(plans, "data_in2") if "data_in2" in plans.network.slots else read


def output_bits(plans: Plans) -> FloatArray:
    """Bits of each quantizable layer's output, shape (n, n_quantizable).

    In its own format where it has one, otherwise in that of the next layer's input, shared exponents and scales in
    proportion; of the last one in float32.
    """
    return plans.once("output bits", _output_bits)


def _output_bits(plans: Plans) -> FloatArray:
    layers = plans.network.quantizable
    each, read = np.full((plans.n, len(layers)), float(_FLOAT_BITS)), _each(plans, "data_in")
    follower = None
    for column in reversed(range(len(layers))):
        if layers[column].rounds:
            each[:, column] = _each(plans, "data_out")[:, column]
        elif follower is not None:
            each[:, column] = read[:, follower]
        follower = column if "data_in" in layers[column].slots else follower
    positions = np.array([layer.positions for layer in layers], dtype=np.int64)
    written: FloatArray = plans.outputs(layers) * plans.repeats(layers) * positions * each
    return written


def traffic(plans: Plans) -> FloatArray:
    """Bits that each quantizable layer moves: parameters, inputs and outputs, shape (n, n_quantizable).

    A sum is fused with the layer before it and moves nothing; of a table only the rows are read that are looked up.
    """
    return plans.once("traffic", _traffic)


def _traffic(plans: Plans) -> FloatArray:
    moved: FloatArray = layer_bits(plans) + input_bits(plans) + output_bits(plans)
    for column, layer in enumerate(plans.network.quantizable):
        if layer.kind == "add":
            moved[:, column] = 0
        elif layer.kind == "embedding" and layer.fan_in is not None:
            read = layer.positions / plans.count(layer.fan_in)
            moved[:, column] -= layer_bits(plans)[:, column] * (1 - read)
    return moved


def _each(plans: Plans, slot: str) -> FloatArray:
    """Bits of an element of one tensor of each quantizable layer, its share of scales included, shape as above."""
    return plans.once(f"each of {slot}", lambda plans: tensor_bits(plans, slot) / np.maximum(elements(plans, slot), 1))


def activation_memory(plans: Plans) -> FloatArray:
    """Bits of the activations alive at once, at the worst moment, shape (n,).

    A network that does not say what is alive when (`Network.alive`) is taken to be a plain sequence.
    """
    alive = plans.network.alive
    if not alive:
        sequence: FloatArray = (input_bits(plans) + output_bits(plans)).max(axis=1, initial=0.0)
        return sequence
    held = {tensor: _held_bits(plans, tensor) for moment in alive for tensor in moment}
    peak = np.zeros(plans.n)
    for moment in alive:
        peak = np.maximum(peak, sum((held[tensor] for tensor in moment), np.zeros(plans.n)))
    return peak


def _held_bits(plans: Plans, tensor: Held) -> FloatArray:
    """Bits of one tensor while it is held, shape (n,)."""
    per_element: Any = float(_FLOAT_BITS)
    if tensor.writer >= 0:
        per_element = _each(plans, "data_out")[:, tensor.writer]
    elif tensor.readers:
        read = [_each(plans, slot)[:, column] for column, slot in tensor.readers]
        per_element = np.max(read, axis=0)
    bits: FloatArray = plans.count(tensor.channels) * tensor.positions * per_element
    return bits
