"""Activation memory: which tensors are alive while each layer runs, and the bits they take.

Layers run one after another, for one sample. While a quantizable layer runs, its input and its output are held, and
whatever a later step, such as the add of a skip connection, still has to read. A tensor is held in the format of the
quantizable layer that it flows into (the widest, when there are several), in float32 when there is none. Element-wise
layers, pools and norms work in place.
"""

from __future__ import annotations

import numpy as np

from evonas.costs.storage import elements, tensor_bits
from evonas.plan import Held, Plans
from evonas.space import FloatArray, IntArray

__all__ = ["activation_memory", "input_bits", "output_bits"]

_FLOAT_BITS = 32


def input_bits(plans: Plans) -> IntArray:
    """Bits of each quantizable layer's input in its format, shape (n, n_quantizable)."""
    return tensor_bits(plans, "data_in")


def output_bits(plans: Plans) -> FloatArray:
    """Bits of each quantizable layer's output, shape (n, n_quantizable).

    In the format of the next layer's input, shared exponents and scales in proportion; of the last one in float32.
    """
    return plans.once("output bits", _output_bits)


def _output_bits(plans: Plans) -> FloatArray:
    layers = plans.network.quantizable
    each = np.full((plans.n, len(layers)), float(_FLOAT_BITS))
    each[:, :-1] = (input_bits(plans) / np.maximum(elements(plans, "data_in"), 1))[:, 1:]
    positions = np.array([layer.positions for layer in layers], dtype=np.int64)
    written: FloatArray = plans.outputs(layers) * plans.repeats(layers) * positions * each
    return written


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
        peak = np.maximum(peak, np.sum([held[tensor] for tensor in moment], axis=0))
    return peak


def _held_bits(plans: Plans, tensor: Held) -> FloatArray:
    """Bits of one tensor while it is held, shape (n,)."""
    each = input_bits(plans) / np.maximum(elements(plans, "data_in"), 1)
    per_element = each[:, list(tensor.readers)].max(axis=1) if tensor.readers else float(_FLOAT_BITS)
    bits: FloatArray = plans.count(tensor.channels) * tensor.positions * per_element
    return bits
