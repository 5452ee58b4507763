"""Linear layers in fixed point: many at once, as one batched matrix product.

Where data, weights and bias are fixed point, every product and sum is an integer in units of the finest step. While
none can reach 2^24, float32 holds all of them exactly, so any order of summation gives the same bits, and the layers
of a block can go through one batched product. A layer without that certificate is run by itself, as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node

from evonas.engine.kernels import Sources
from evonas.engine.planning import Parts, Variants
from evonas.engine.values import Stack, Value, stacked
from evonas.formats import Fixed, Format
from evonas.plan import LayerPlan
from evonas.quantize import PostTraining
from evonas.space import IntArray

__all__ = ["Linear", "exact_sums"]

_EXACT = 2.0**24  # below it float32 holds every integer
_SMALL = 2**16  # weights up to which a batched product beats a loop
_LEAST_STEP = 2.0**-100  # so that nothing becomes subnormal


def exact_sums(plan: LayerPlan, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether every partial sum of a linear layer is exact in float32, whatever the order of summation.

    Args:
        plan: formats of the layer, concrete.
        weight: its quantized weight, shape (outputs, inputs).
        bias: its quantized bias, shape (outputs,).
    """
    data, weights, biases = (plan.formats.get(slot) for slot in ("data_in", "weight", "bias"))
    if not isinstance(data, Fixed) or not isinstance(weights, Fixed) or "data_out" in plan.formats:
        return False
    scale, low, _ = _grid(data)
    largest = -low / scale * weight.double().abs().sum(1)
    step = 1 / (scale * _grid(weights)[0])
    if bias is not None:
        if not isinstance(biases, Fixed):
            return False
        step = min(step, 1 / _grid(biases)[0])
        largest = largest + bias.double().abs()
    return step >= _LEAST_STEP and bool(largest.max() < _EXACT * step)


@dataclass(frozen=True)
class _Rounding:
    """The distinct inputs of a block in their data formats.

    Args:
        source: which of the values that arrive each is made of, shape (u,); None where they are the first u in order.
        count: u.
        scale, low, high: of each format, shape (u, 1, 1), or numbers where all have the same.
    """

    source: Tensor | None
    count: int
    scale: Tensor | float
    low: Any
    high: Any

    def __call__(self, value: Stack) -> Tensor:
        """Integers, shape (u, channels, samples): a value times its scale, rounded half to even, clipped."""
        data = value.data
        if self.source is None:
            found = data[: self.count] * self.scale
        else:
            found = data.index_select(0, self.source)
            found.mul_(self.scale)
        found.round_()
        if not isinstance(self.low, Tensor) or not isinstance(self.high, Tensor):
            return found.clamp_(0.0 if value.relu else self.low, self.high)
        torch.minimum(found, self.high, out=found)  # `clamp_` with tensors is many times slower
        return found.clamp_(min=0.0) if value.relu else torch.maximum(found, self.low, out=found)


@dataclass(frozen=True)
class _Product:
    """Consecutive inputs that each meet equally many weights: one batched product.

    Args:
        inputs: the slice of inputs.
        outputs: the slice of outputs; those of one input lie together.
        parts: which plan of the layer each output has, shape (outputs,).
    """

    inputs: slice
    outputs: slice
    parts: Tensor


@dataclass(frozen=True)
class LinearStep:
    """What a block needs of one linear layer.

    Args:
        ids: the variants, ascending, shape (v,).
        position: where each lies among the results, shape (v,).
        rounding, products: of those that go through batched products.
        alone: of the others: result, which of the values that arrive, and the layer's plan.
    """

    ids: IntArray
    position: IntArray
    rounding: _Rounding
    products: tuple[_Product, ...]
    alone: tuple[tuple[int, int, LayerPlan], ...]


class Linear:
    """One linear layer on vectors under all plans that it has among the genomes."""

    def __init__(self, network: PostTraining, node: Node, parts: Parts) -> None:
        self._network, self._node, self._parts = network, node, parts
        self._source = node.all_input_nodes[0]

    @staticmethod
    def suits(module: nn.Module | None, rank: int) -> bool:
        """Whether a module that receives tensors of `rank` dimensions is one of these."""
        return type(module) is nn.Linear and rank == 2 and module.weight.numel() <= _SMALL

    @cached_property
    def _bank(self) -> _Bank:
        return _Bank.of(self._network, self._parts.plans)

    def prepare(self, rows: slice, variants: Variants, sources: Sources) -> LinearStep:
        source = sources[self._source]
        ids, first = np.unique(variants.ids[rows], return_index=True)
        part, data, source = self._parts.picks[rows][first], variants.data[rows][first], source[first]
        exact = np.flatnonzero(self._bank.exact[part])
        alone = np.flatnonzero(~self._bank.exact[part])
        _, at, which, counts = np.unique(data[exact], return_index=True, return_inverse=True, return_counts=True)
        ranked = np.argsort(counts, kind="stable")  # inputs that meet equally many weights lie together
        order = exact[np.argsort(np.argsort(ranked)[which], kind="stable")]
        position = np.empty(len(ids), dtype=np.int64)
        position[np.concatenate([order, alone])] = np.arange(len(ids))
        chosen = exact[at[ranked]]
        return LinearStep(
            ids,
            position,
            self._bank.rounding(source[chosen], part[chosen]),
            tuple(_products(counts[ranked], part[order], self._bank.weight.device)),
            tuple((int(position[i]), int(source[i]), self._parts.plans[part[i]]) for i in alone),
        )

    def run(self, step: LinearStep, values: Mapping[Node, Value]) -> Stack:
        arrived = stacked(values[self._source])
        inputs, samples, outputs = arrived.data.shape[1], arrived.data.shape[2], self._bank.weight.shape[1]
        found = arrived.data.new_empty(len(step.ids), outputs, samples)
        if step.products:
            rounded = step.rounding(arrived)
        for product in step.products:
            group = rounded[product.inputs]
            weight = self._bank.weight[product.parts].view(len(group), -1, inputs)
            bias = self._bank.bias[product.parts].view(len(group), -1, 1)
            torch.baddbmm(bias, weight, group, out=found[product.outputs].view(len(group), -1, samples))
        for position, source, plan in step.alone:
            args, kwargs = self._network.rounded_inputs(self._node, plan, (arrived.one(source),), {})
            found[position] = self._network.run_layer(self._node, plan, args, kwargs).t()
        return Stack(found)


@dataclass(frozen=True)
class _Bank:
    """What the plans of a layer need, by plan.

    Args:
        weight: in units of the layer's integer inputs where sums are exact, shape (plans, outputs, inputs).
        bias: shape (plans, outputs, 1).
        exact: whether sums are, shape (plans,).
        grid: scale, lowest and highest integer of the data format, shape (3, plans).
    """

    weight: Tensor
    bias: Tensor
    exact: np.ndarray[tuple[int], np.dtype[np.bool_]]
    grid: Tensor

    @classmethod
    def of(cls, network: PostTraining, plans: Sequence[LayerPlan]) -> _Bank:
        """The bank of the concrete `plans` of one layer."""
        weights, biases, exact, grid = [], [], [], []
        for plan in plans:
            tensors = network.parameters_of(plan)
            weight, bias = tensors["weight"], tensors.get("bias")
            exact.append(exact_sums(plan, weight, bias))
            scale, low, high = _grid(plan.data_in) if exact[-1] else (1.0, 0.0, 0.0)
            weights.append(weight / scale)
            biases.append(weight.new_zeros(len(weight)) if bias is None else bias)
            grid.append((scale, low, high))
        bank = torch.stack(weights), torch.stack(biases).unsqueeze(2), torch.tensor(grid).t()
        return cls(bank[0], bank[1], np.array(exact, dtype=np.bool_), bank[2].to(bank[0]))

    def rounding(self, source: IntArray, part: IntArray) -> _Rounding:
        """How the values that arrive become inputs: `source` of each, and the plan whose data format it has."""
        device = self.weight.device
        scale, low, high = self.grid[:, torch.from_numpy(part).to(device)].view(3, -1, 1, 1)
        same = len(part) > 0 and bool((part == part[0]).all())
        gather = None if np.array_equal(source, np.arange(len(source))) else torch.from_numpy(source).to(device)
        if same:
            return _Rounding(gather, len(source), float(scale[0]), float(low[0]), float(high[0]))
        return _Rounding(gather, len(source), scale, low, high)


def _grid(fmt: Format) -> tuple[float, float, float]:
    """Scale, lowest and highest integer of a concrete fixed-point format."""
    assert isinstance(fmt, Fixed)
    assert fmt.frac is not None
    return 2.0**fmt.frac, float(fmt.lowest), float(fmt.highest)


def _products(counts: IntArray, parts: IntArray, device: torch.device) -> Iterator[_Product]:
    """The batched products of inputs that meet `counts` weights each, ascending; `parts` are those of the outputs."""
    start = done = 0
    for count in np.unique(counts):
        stop = int(np.searchsorted(counts, count, side="right"))
        outputs = slice(done, done + (stop - start) * int(count))
        yield _Product(slice(start, stop), outputs, torch.from_numpy(parts[outputs]).to(device))
        start, done = stop, outputs.stop
