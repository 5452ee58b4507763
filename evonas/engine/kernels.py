"""How the nodes of a graph are run for all variants of a block: each kind of node is a kernel.

A kernel plans a block once (`prepare`) and then runs it for every chunk of samples (`run`).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.fx import Node
from torch.fx.node import map_arg

from evonas.engine.planning import Parts, Variants
from evonas.engine.values import Listed, Stack, Value
from evonas.graph.writes import mutates
from evonas.plan import LayerPlan
from evonas.quantize import PostTraining
from evonas.space import IntArray

__all__ = ["Elementwise", "General", "Kernel", "Relu", "Sources", "Step"]

Sources = Mapping[Node, IntArray]  # node -> which of its values each genome of a block has, shape (genomes,)


class Step(Protocol):
    """What a block needs of one node."""

    @property
    def ids(self) -> IntArray:
        """The variants, ascending, shape (v,)."""

    @property
    def position(self) -> IntArray:
        """Where each lies among the values, shape (v,)."""


class Kernel(Protocol):
    """How one node is run."""

    def prepare(self, rows: IntArray, variants: Variants, sources: Sources) -> Any:
        """The step of the genomes `rows`, shape (m,)."""

    def run(self, step: Any, values: Mapping[Node, Value]) -> Value:
        """The node's values for a block and a chunk, from those of its inputs."""


@dataclass(frozen=True)
class _Ids:
    ids: IntArray
    position: IntArray


class Relu:
    """A ReLU of vectors that are stacked: it is put off until they are rounded."""

    def __init__(self, node: Node) -> None:
        self._source = node.all_input_nodes[0]

    @staticmethod
    def suits(node: Node, module: nn.Module | None) -> bool:
        """Whether a node is a ReLU."""
        if node.op == "call_module":
            return type(module) is nn.ReLU
        return node.target in (torch.relu, nn.functional.relu, "relu") and len(node.all_input_nodes) == 1

    def prepare(self, rows: IntArray, variants: Variants, sources: Sources) -> _Ids:
        ids, first = np.unique(variants.ids[rows], return_index=True)
        return _Ids(ids, sources[self._source][first])

    def run(self, step: _Ids, values: Mapping[Node, Value]) -> Value:
        value = values[self._source]
        if isinstance(value, Stack):
            return Stack(value.data, relu=True)
        return Listed([torch.relu(one) for one in value.values], value.turned)


@dataclass(frozen=True)
class GeneralStep:
    """The variants of a node one by one.

    Args:
        ids, position: as in `Step`.
        plans: each variant's plan of the node's layer; None for other nodes.
        data: number of each variant's rounded inputs, shape (v,).
        sources: node -> which of its values each variant is made from.
    """

    ids: IntArray
    position: IntArray
    plans: Sequence[LayerPlan | None]
    data: IntArray
    sources: Mapping[Node, IntArray]


class General:
    """Any node: each variant by itself, as in the plain path; inputs are rounded once for each data format."""

    def __init__(self, network: PostTraining, node: Node, parts: Parts | None) -> None:
        self._network, self._node, self._parts = network, node, parts

    def prepare(self, rows: IntArray, variants: Variants, sources: Sources) -> GeneralStep:
        ids, first = np.unique(variants.ids[rows], return_index=True)
        plans: Sequence[LayerPlan | None] = [None] * len(ids)
        if self._parts is not None:
            plans = [self._parts.plans[pick] for pick in self._parts.picks[rows][first]]
        chosen = {node: source[first] for node, source in sources.items()}
        return GeneralStep(ids, np.arange(len(ids)), plans, variants.data[rows][first], chosen)

    def run(self, step: GeneralStep, values: Mapping[Node, Value]) -> Listed:
        found: list[Any] = []
        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        last = -1
        for variant, plan in enumerate(step.plans):
            if plan is None:
                found.append(self._network.run_node(self._node, *self.arguments(step, values, variant)))
                continue
            if step.data[variant] != last:
                args, kwargs = self.arguments(step, values, variant)
                args, kwargs = self._network.rounded_inputs(self._node, plan, args, kwargs)
                last = step.data[variant]
            found.append(self._network.run_layer(self._node, plan, args, kwargs))
        return Listed(found)

    def alone(self, step: GeneralStep, values: Mapping[Node, Value], variant: int, plan: LayerPlan) -> Any:
        """What the layer returns for one variant."""
        args, kwargs = self.arguments(step, values, variant)
        args, kwargs = self._network.rounded_inputs(self._node, plan, args, kwargs)
        return self._network.run_layer(self._node, plan, args, kwargs)

    def arguments(
        self, step: GeneralStep, values: Mapping[Node, Value], variant: int, *, turned: bool = False
    ) -> tuple[Any, Any]:
        """The node's arguments for one variant; `turned` when they may lie in memory as they do."""

        def fetch(node: Node) -> Any:
            value, which = values[node], int(step.sources[node][variant])
            return value.values[which] if turned and isinstance(value, Listed) else value.one(which)

        arguments: Any = map_arg((self._node.args, self._node.kwargs), fetch)
        args, kwargs = arguments
        if mutates(self._network.graph, self._node):
            args = (args[0].clone(), *args[1:])  # other variants still need it
        return args, kwargs


class Elementwise(General):
    """A node that does to each element of images what it does whatever their layout: they stay channels last."""

    @staticmethod
    def suits(node: Node, module: nn.Module | None, rank: int) -> bool:
        """Whether a node that receives a tensor of `rank` dimensions is one of these."""
        if rank != 4 or node.kwargs:
            return False
        if node.op == "call_module":
            batch_norm = type(module) is nn.BatchNorm2d and not module.training
            return type(module) is nn.Identity or (batch_norm and layouts_agree())
        same = len(node.args) == 2 and all(isinstance(read, Node) for read in node.args)
        return same and node.target in (operator.add, torch.add, "add")

    def run(self, step: GeneralStep, values: Mapping[Node, Value]) -> Listed:
        found = []
        for variant in range(len(step.ids)):
            args, kwargs = self.arguments(step, values, variant, turned=True)
            found.append(self._network.run_node(self._node, args, kwargs))
        turned = any(isinstance(value := values[node], Listed) and value.turned for node in step.sources)
        return Listed(found, turned)


@cache
def layouts_agree() -> bool:
    """Whether a batch norm gives the same bits whatever the layout: vectors of it begin and end elsewhere."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 19, 7, 5), (2, 32, 14, 14), (5, 3, 1, 9)):
        values = torch.randn(shape, generator=generator)
        four = torch.rand(4, shape[1], generator=generator).add_(0.1)
        found = [
            nn.functional.batch_norm(values.contiguous(memory_format=layout), four[0], four[1], four[2], four[3])
            for layout in (torch.contiguous_format, torch.channels_last)
        ]
        if not torch.equal(*found):
            return False
    return True
