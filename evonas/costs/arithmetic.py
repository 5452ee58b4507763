"""Costs that need no device: parameters, size, MACs, FLOPs, BOPs and average widths.

Every function takes `Plans` (n genomes) and returns one number per genome, float64 array, shape (n,).
Counts are per sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from evonas.costs.storage import elements, tensor_bits
from evonas.formats import Format
from evonas.network import DATA, Layer
from evonas.plan import Plans
from evonas.space import FloatArray, IntArray

__all__ = [
    "Convention",
    "average_bitwidth",
    "average_bitwidth_all",
    "bops",
    "flops",
    "macs",
    "memory_density",
    "parameters",
    "size",
]

Convention = Literal["two", "fvcore"]
_FLOAT_BITS = 32


def _of_kind(plans: Plans, kind: str) -> list[Layer]:
    return [layer for layer in plans.network.layers if layer.kind == kind]


def summed(values: FloatArray) -> FloatArray:
    """The sum of each row of `values` (n, layers), shape (n,), from left to right: the same bits whatever n is."""
    total = np.zeros(len(values))
    for column in values.T:
        total += column
    return total


def _biases(plans: Plans) -> IntArray:
    """Elements of each quantizable layer's bias, shape (n, n_quantizable)."""
    layers = plans.network.quantizable
    return plans.outputs(layers) * np.array([layer.bias for layer in layers], dtype=np.int64)


def _elements(plans: Plans, kind: str) -> FloatArray:
    """Output elements of all layers of `kind`, shape (n,)."""
    layers = _of_kind(plans, kind)
    positions = np.array([layer.positions for layer in layers], dtype=np.int64)
    total: FloatArray = (plans.outputs(layers) * positions).sum(axis=1).astype(np.float64)
    return total


def _products(plans: Plans, layers: Sequence[Layer]) -> IntArray:
    """Multiply-accumulates of each of `layers`, shape (n, len(layers))."""
    uses = [layer.positions if layer.uses is None else layer.uses for layer in layers]
    return plans.weights(layers) * plans.repeats(layers) * np.array(uses, dtype=np.int64)


def layer_macs(plans: Plans) -> IntArray:
    """Multiply-accumulates of each quantizable layer, shape (n, n_quantizable); sums and look-ups have none."""
    return plans.once("macs", lambda plans: _layer_macs(plans))


def _layer_macs(plans: Plans) -> IntArray:
    layers = plans.network.quantizable
    return _products(plans, layers) * np.array([layer.multiplies for layer in layers], dtype=np.int64)


def activation_macs(plans: Plans) -> FloatArray:
    """Multiply-accumulates of products of two activations (attention) that have no formats, in float32, shape (n,)."""
    layers = [layer for layer in _of_kind(plans, "matmul") if not layer.quantizable]
    total: FloatArray = _products(plans, layers).sum(axis=1).astype(np.float64)
    return total


def operands(plans: Plans, number: Callable[[Format], int]) -> tuple[IntArray, IntArray]:
    """`number` of the formats of both factors of each quantizable layer, shape (n, n_quantizable) each.

    They are its input and its weight; both inputs of a product of two activations.
    """
    layers = plans.network.quantizable
    slots = ["data_in2" if layer.kind == "matmul" else "weight" for layer in layers]
    second = [plans.formats[slot][column].numbers(number, plans.n) for column, slot in enumerate(slots)]
    return plans.numbers("data_in", number), plans.stacked(second)


def operand_widths(plans: Plans) -> tuple[IntArray, IntArray]:
    """Bits of an element of both factors of each quantizable layer, shape (n, n_quantizable) each."""
    return plans.once("operand widths", lambda plans: operands(plans, lambda fmt: fmt.width))


def macs(plans: Plans) -> FloatArray:
    """Multiply-accumulates of the matrix products; the bias is free."""
    total: FloatArray = layer_macs(plans).sum(axis=1).astype(np.float64) + activation_macs(plans)
    return total


def flops(plans: Plans, convention: Convention = "two") -> FloatArray:
    """Floating-point operations.

    Args:
        plans: n genomes.
        convention: `two` counts the multiply and the add of a product apart, two per element of a batch norm
            in evaluation and one per ReLU. `fvcore` counts as fvcore's FlopCountAnalysis does: a
            multiply-add is one, a batch norm two per element, ReLU nothing.
    """
    normalised = 2.0 * _elements(plans, "batchnorm")
    if convention == "fvcore":
        return macs(plans) + normalised
    return 2.0 * macs(plans) + normalised + _elements(plans, "relu")


def bops(plans: Plans) -> FloatArray:
    """Bit operations: the sum of MACs x data width x weight width (arXiv:1804.10969, without the adders)."""
    data, weight = operand_widths(plans)
    total = summed(layer_macs(plans).astype(np.float64) * (data * weight))
    return total + _FLOAT_BITS**2 * activation_macs(plans)


def _float_elements(plans: Plans) -> IntArray:
    """Parameters outside quantizable layers, which stay in float32: batch norms and all others, shape (n,)."""
    norms = [layer for layer in _of_kind(plans, "batchnorm") if layer.bias]
    tables = [layer for layer in _of_kind(plans, "embedding") if not layer.quantizable and not layer.tied]
    others = [*_of_kind(plans, "parameter"), *tables]
    total: IntArray = 2 * plans.outputs(norms).sum(axis=1) + plans.weights(others).sum(axis=1)
    return total


def parameters(plans: Plans) -> FloatArray:
    """Weights, biases, two per channel of a batch norm, and whatever else the model has; tied ones once."""
    stored = plans.stored(plans.network.quantizable).sum(axis=1)
    total: FloatArray = (stored + _biases(plans).sum(axis=1) + _float_elements(plans)).astype(np.float64)
    return total


def layer_bits(plans: Plans) -> IntArray:
    """Bits of weights and bias of each quantizable layer with their scales and exponents, shape (n, n_quantizable)."""
    return plans.once("layer bits", lambda plans: tensor_bits(plans, "weight") + tensor_bits(plans, "bias"))


def size(plans: Plans) -> FloatArray:
    """Bits of all parameters in their formats, scales, zero points and shared exponents of the formats included.

    What is outside quantizable layers is float32. Scales of activations are not parameters and do not count.
    """
    total: FloatArray = (layer_bits(plans).sum(axis=1) + _FLOAT_BITS * _float_elements(plans)).astype(np.float64)
    return total


def average_bitwidth(plans: Plans) -> FloatArray:
    """Bits of a weight, averaged over the weights of quantizable layers (biases are not counted).

    Tables of embeddings are among them once embeddings have formats.
    """
    weights = plans.stored(plans.network.quantizable)
    mean: FloatArray = (weights * plans.widths["weight"]).sum(axis=1) / weights.sum(axis=1)
    return mean


def average_bitwidth_all(plans: Plans) -> FloatArray:
    """Bits of a number, averaged over all weights, biases, other parameters and inputs of quantizable layers.

    Scales, zero points and shared exponents are among the bits. What has no format is float32 and counts 32 bits, and
    so does every layer kept in float. Inputs are those of one sample, and outputs count where they have formats.
    """
    slots = [slot for slot in plans.network.slots if slot in DATA]
    data = sum(elements(plans, slot).sum(axis=1) for slot in slots)
    bits = size(plans) + sum(tensor_bits(plans, slot).sum(axis=1) for slot in slots)
    mean: FloatArray = bits / (parameters(plans) + data)
    return mean


def memory_density(plans: Plans) -> FloatArray:
    """32 / average_bitwidth: how many times smaller the weights are than in float32."""
    return _FLOAT_BITS / average_bitwidth(plans)
