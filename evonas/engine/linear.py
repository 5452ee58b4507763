"""Linear layers in fixed point: many at once, as one batched matrix product.

Where data, weights and bias are fixed point, every product and sum is an integer in units of the finest step. While
none reaches 2^24, float32 holds all of them exactly, so any order of summation gives the same bits, and the layers of a
block can go through one batched product. Whether one can reach it follows from the formats (`largest_inputs`), or else
from the largest inputs that are really there. A layer without this certificate is run by itself, as in the plain path.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node

from evonas.engine.fused import Kernels, kernels
from evonas.engine.kernels import Sources
from evonas.engine.planning import Parts, Variants
from evonas.engine.values import Stack, Value, stacked
from evonas.formats import Fixed, Format
from evonas.plan import LayerPlan
from evonas.quantize import PostTraining
from evonas.space import BoolArray, FloatArray, IntArray

__all__ = ["Grid", "Linear", "LinearStep", "grid_of", "largest_inputs"]

_EXACT = 2.0**24  # below it float32 holds every integer
_SMALL = 2**16  # weights up to which a batched product beats a loop
_LEAST_STEP = 2.0**-100  # so that nothing becomes subnormal


def finest_step(plan: LayerPlan) -> float | None:
    """What every product and sum of a linear layer is a multiple of; None where formats are not all fixed point."""
    slots = ("data_in", "weight", *(["bias"] if "bias" in plan.formats else []))
    formats = [plan.formats[slot] for slot in slots]
    if len(slots) < len(plan.formats) or not all(isinstance(fmt, Fixed) for fmt in formats):
        return None
    data, weight, *bias = (1 / grid_of(fmt)[0] for fmt in formats)
    step = min(data * weight, *bias, 1.0)
    return step if step >= _LEAST_STEP else None


def largest_inputs(plan: LayerPlan, weight: Tensor, bias: Tensor | None) -> float:
    """The integer inputs up to which every partial sum is exact in float32, whatever the order of summation.

    -1 where there are none.

    Args:
        plan: formats of the layer, concrete.
        weight: its quantized weight, shape (outputs, inputs).
        bias: its quantized bias, shape (outputs,).
    """
    step = finest_step(plan)
    if step is None:
        return -1.0
    room = _EXACT * step - (0.0 if bias is None else float(bias.abs().max()))
    each = float(weight.double().abs().sum(1).max()) / grid_of(plan.data_in)[0]
    return room / each if each else math.inf


class Grid(NamedTuple):
    """The integers of a fixed-point format, and how many of them there are in one."""

    scale: float
    lowest: float
    highest: float


def grid_of(fmt: Format) -> Grid:
    """The grid of a concrete fixed-point format."""
    assert isinstance(fmt, Fixed)
    assert fmt.frac is not None
    return Grid(2.0**fmt.frac, float(fmt.lowest), float(fmt.highest))


@dataclass(frozen=True)
class _Rounding:
    """Inputs of one format.

    Args:
        rows: which of the rounded inputs they are.
        source: which of the values that arrive each is made of, shape (rows,), or a slice of them.
        grid: the format.
    """

    rows: slice
    source: Tensor | slice
    grid: Grid

    def write(self, value: Stack, found: Tensor) -> None:
        """Write scaled values, clipped but not yet rounded, into `found` (u, channels, samples)."""
        target = found[self.rows]
        if isinstance(self.source, slice):
            torch.mul(value.data[self.source], self.grid.scale, out=target)
        else:
            torch.index_select(value.data, 0, self.source, out=target).mul_(self.grid.scale)
        target.clamp_(0.0 if value.relu else self.grid.lowest, self.grid.highest)


@dataclass(frozen=True)
class _Inputs:
    """The distinct inputs that go through batched products.

    Args:
        source: which of the values that arrive each is made of, shape (u,).
        grids: scale, lowest and highest integer of the format of each, shape (u, 3), float32.
        roundings: the same, format by format.
    """

    source: IntArray
    grids: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    roundings: tuple[_Rounding, ...]

    @classmethod
    def of(cls, source: IntArray, grids: Sequence[Grid], device: torch.device) -> _Inputs:
        """Those made of the values `source`, shape (u,), of which each has its own of `grids`."""
        table = np.array(grids, dtype=np.float32).reshape(-1, 3)
        return cls(source, table, tuple(_roundings(source, grids, device)))

    def rounded(self, value: Stack) -> Tensor:
        """On the integer grids of their formats, shape (u, channels, samples)."""
        found = value.data.new_empty(len(self.source), *value.data.shape[1:])
        compiled = kernels(value.data.device, found.numel())
        if compiled is not None and value.data.is_contiguous():
            read, written = value.data.numpy(), found.numpy()
            flat = (len(read), -1), (len(written), -1)
            if len(written):
                compiled.gather(read.reshape(flat[0]), self.source, self.grids, value.relu, written.reshape(flat[1]))
            return found
        for rounding in self.roundings:
            rounding.write(value, found)
        return found.round_()


def _roundings(source: IntArray, grids: Sequence[Grid], device: torch.device) -> Iterator[_Rounding]:
    """The inputs made of the values `source`, shape (u,): consecutive ones of the same of `grids` together."""
    start = 0
    for grid, run in groupby(grids):
        stop = start + len(list(run))
        part = source[start:stop]
        if (np.diff(part) == 1).all():
            chosen: Tensor | slice = slice(int(part[0]), int(part[-1]) + 1)
        else:
            chosen = torch.from_numpy(part).to(device)
        yield _Rounding(slice(start, stop), chosen, grid)
        start = stop


@dataclass(frozen=True)
class _Product:
    """Consecutive inputs that each meet equally many weights: one batched product.

    Args:
        inputs: the slice of inputs.
        outputs: the slice of outputs; those of one input lie together.
        parts: the layer's plan of each output, shape (inputs, outputs of each), or (1, ...) for all inputs.
        tensors: their weights and biases, where there is room to keep them.
    """

    inputs: slice
    outputs: slice
    parts: Tensor
    tensors: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class _Doubts:
    """The outputs of batched products that may not be exact.

    Args:
        outputs: which of the results, shape (d,).
        rounded: which of the rounded inputs, shape (d,).
        sources: which of the values that arrive, shape (d,).
        parts: the layer's plan of each, shape (d,).
    """

    outputs: IntArray
    rounded: IntArray
    sources: IntArray
    parts: IntArray


@dataclass(frozen=True)
class LinearStep:
    """What a block needs of one linear layer.

    Args:
        ids: the variants, ascending, shape (v,).
        position: where each lies among the results, shape (v,).
        inputs, products: what goes through batched products, and these.
        counts: how many results each of the inputs has, shape (u,).
        parts: the layer's plan of each of these results, shape (r,).
        doubts: those of them whose inputs must be looked at.
        doubted: whether any result of each of the inputs is one of these, shape (u,).
        alone: of the others: which of the results, of the values that arrive, and of the layer's plans.
    """

    ids: IntArray
    position: IntArray
    inputs: _Inputs
    products: tuple[_Product, ...]
    counts: IntArray
    parts: IntArray
    doubts: _Doubts
    doubted: BoolArray
    alone: tuple[tuple[int, int, int], ...]


class Linear:
    """One linear layer on vectors under all plans that it has among the genomes."""

    def __init__(self, network: PostTraining, node: Node, parts: Parts, memory: int) -> None:
        self._network, self._node, self._parts, self._memory = network, node, parts, memory
        self._source = node.all_input_nodes[0]

    @staticmethod
    def suits(module: nn.Module | None, rank: int) -> bool:
        """Whether a module that receives tensors of `rank` dimensions is one of these."""
        return type(module) is nn.Linear and rank == 2 and module.weight.numel() <= _SMALL

    @cached_property
    def _bank(self) -> _Bank:
        return _Bank.of(self._network, self._parts.plans)

    def prepare(self, rows: IntArray, variants: Variants, sources: Sources) -> LinearStep:
        source = sources[self._source]
        ids, first = np.unique(variants.ids[rows], return_index=True)
        part, data, source = self._parts.picks[rows][first], variants.data[rows][first], source[first]
        fixed = np.flatnonzero(self._bank.fixed[part])
        alone = np.flatnonzero(~self._bank.fixed[part])
        _, at, which, counts = np.unique(data[fixed], return_index=True, return_inverse=True, return_counts=True)
        kinds = self._parts.data[part[fixed[at]]]
        ranked = np.lexsort((source[fixed[at]], kinds, counts))  # those that meet equally many weights lie together
        rank = np.argsort(ranked)[which]
        sorting = np.argsort(rank, kind="stable")
        order, rank, chosen = fixed[sorting], rank[sorting], fixed[at[ranked]]
        position = np.empty(len(ids), dtype=np.int64)
        position[np.concatenate([order, alone])] = np.arange(len(ids))
        doubtful = np.flatnonzero(~self._bank.exact[part[order]])
        which = order[doubtful]
        return LinearStep(
            ids,
            position,
            _Inputs.of(source[chosen], [self._bank.grids[i] for i in part[chosen]], self._bank.weight.device),
            tuple(self._kept(product) for product in _products(counts[ranked], part[order], self._bank.weight.device)),
            counts[ranked],
            part[order],
            _Doubts(doubtful, rank[doubtful], source[which], part[which]),
            np.isin(np.arange(len(chosen)), rank[doubtful]),
            tuple((int(position[i]), int(source[i]), int(part[i])) for i in alone),
        )

    def _kept(self, product: _Product) -> _Product:
        """The same with its weights, while they take less than `memory` for all genomes."""
        if self._bank.weight[0].numel() * len(self._parts.picks) * 4 > self._memory:
            return product
        return replace(product, tensors=self._bank.of_product(product))

    def run(self, step: LinearStep, values: Mapping[Node, Value]) -> Stack:
        arrived = stacked(values[self._source])
        found = arrived.data.new_empty(len(step.ids), self._bank.weight.shape[1], arrived.data.shape[2])
        largest = self._together(step, arrived, found)
        for position, source, part in [*step.alone, *self._inexact(step.doubts, largest)]:
            plan = self._parts.plans[part]
            args, kwargs = self._network.rounded_inputs(self._node, plan, (arrived.one(source),), {})
            found[position] = self._network.run_layer(self._node, plan, args, kwargs).t()
        return Stack(found)

    def _together(self, step: LinearStep, arrived: Stack, found: Tensor) -> FloatArray:
        """Write what goes through batched products; the largest magnitude of each rounded input, as in `_inexact`."""
        inputs, compiled = step.inputs, self._compiled(arrived, found)
        if compiled is not None and len(inputs.source):
            largest = np.empty(len(inputs.source), np.float32)
            read, rows = arrived.data.numpy(), self._bank.rows
            plans = step.parts, step.counts, step.doubted
            compiled.layer(read, inputs.source, inputs.grids, arrived.relu, rows, *plans, largest, found.numpy())
            return largest.astype(np.float64)
        rounded = inputs.rounded(arrived)
        for product in step.products:
            group = rounded[product.inputs]
            weight, bias = product.tensors or self._bank.of_product(product)
            torch.baddbmm(bias, weight, group, out=found[product.outputs].view(len(group), -1, found.shape[2]))
        return _largest(rounded, step.doubts, arrived.relu)

    @staticmethod
    def _compiled(arrived: Stack, found: Tensor) -> Kernels | None:
        """The kernels where they are faster: with more threads torch's products are."""
        if torch.get_num_threads() > 1 or not arrived.data.is_contiguous():
            return None
        return kernels(found.device, 0)  # what is rounded without them is counted there

    def _inexact(self, doubts: _Doubts, largest: FloatArray) -> Iterator[tuple[int, int, int]]:
        """What must be computed alone, as the inputs really are: result, value that arrives, plan.

        `largest` is the largest magnitude of each rounded input, shape (u,).
        """
        fits = largest[doubts.rounded] < self._bank.room[doubts.parts]  # NaN is not below
        for row in np.flatnonzero(~fits):
            yield int(doubts.outputs[row]), int(doubts.sources[row]), int(doubts.parts[row])


def _largest(rounded: Tensor, doubts: _Doubts, positive: bool) -> FloatArray:
    """The largest magnitude of each rounded input, shape (u,); zeros for those that nothing is doubted of."""
    found = np.zeros(len(rounded))
    if len(doubts.rounded):
        first, last = int(doubts.rounded.min()), int(doubts.rounded.max())
        flat = rounded[first : last + 1].flatten(1)
        ends = flat.amax(1) if positive else torch.maximum(flat.amax(1), flat.amin(1).neg_())
        found[first : last + 1] = ends.cpu().numpy()
    return found


@dataclass(frozen=True)
class _Bank:
    """What the plans of a layer need, by plan.

    Args:
        weight: in units of the layer's integer inputs where formats are fixed point, shape (plans, outputs, inputs).
        bias: shape (plans, outputs, 1).
        grids: of the data formats; of no meaning where formats are not fixed point.
        room: the integer inputs below which sums are exact, shape (plans,); negative where formats are not fixed point.
    """

    weight: Tensor
    bias: Tensor
    grids: Sequence[Grid]
    room: FloatArray

    def of_product(self, product: _Product) -> tuple[Tensor, Tensor]:
        """Weights and biases for each of its inputs, those of an input one below the other."""
        count = product.inputs.stop - product.inputs.start
        found = [bank[product.parts].flatten(1, 2).expand(count, -1, -1) for bank in (self.weight, self.bias)]
        return found[0], found[1]

    @cached_property
    def rows(self) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
        """Each output's bias behind its weights, shape (plans, outputs, inputs + 1)."""
        return torch.cat([self.weight, self.bias], 2).detach().numpy()

    @property
    def fixed(self) -> BoolArray:
        """Whether all formats are fixed point, shape (plans,)."""
        return self.room >= 0

    @cached_property
    def exact(self) -> BoolArray:
        """Whether sums are exact for any inputs, shape (plans,)."""
        return self.fixed & (self.room > [-grid.lowest for grid in self.grids])

    @classmethod
    def of(cls, network: PostTraining, plans: Sequence[LayerPlan]) -> _Bank:
        """The bank of the concrete `plans` of one layer."""
        weights, biases, grids, room = [], [], [], []
        for plan in plans:
            tensors = network.parameters_of(plan)
            weight, bias = tensors["weight"], tensors.get("bias")
            room.append(largest_inputs(plan, weight, bias))
            grids.append(grid_of(plan.data_in) if room[-1] >= 0 else Grid(1.0, 0.0, 0.0))
            weights.append(weight / grids[-1].scale)
            biases.append(weight.new_zeros(len(weight)) if bias is None else bias)
        return cls(torch.stack(weights), torch.stack(biases).unsqueeze(2), grids, np.array(room))


def _products(counts: IntArray, parts: IntArray, device: torch.device) -> Iterator[_Product]:
    """The batched products of inputs that meet `counts` weights each, ascending; `parts` are those of the outputs."""
    start = done = 0
    for count in np.unique(counts):
        stop = int(np.searchsorted(counts, count, side="right"))
        outputs = slice(done, done + (stop - start) * int(count))
        chosen = parts[outputs].reshape(stop - start, count)
        chosen = chosen[:1] if (chosen == chosen[0]).all() else chosen
        yield _Product(slice(start, stop), outputs, torch.from_numpy(chosen).to(device))
        start, done = stop, outputs.stop
