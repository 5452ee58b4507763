"""How the nodes of a graph are run for all variants of a block: each kind of node is a kernel.

A kernel plans a block once (`prepare`) and then runs it for every chunk of samples (`run`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

__all__ = ["General", "Kernel", "Relu", "Sources", "Step"]

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

    def prepare(self, rows: slice, variants: Variants, sources: Sources) -> Any:
        """The step of the genomes `rows`."""

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

    def prepare(self, rows: slice, variants: Variants, sources: Sources) -> _Ids:
        ids, first = np.unique(variants.ids[rows], return_index=True)
        return _Ids(ids, sources[self._source][first])

    def run(self, step: _Ids, values: Mapping[Node, Value]) -> Value:
        value = values[self._source]
        if isinstance(value, Stack):
            return Stack(value.data, relu=True)
        return Listed([torch.relu(one) for one in value.values])


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

    def prepare(self, rows: slice, variants: Variants, sources: Sources) -> GeneralStep:
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

    def arguments(self, step: GeneralStep, values: Mapping[Node, Value], variant: int) -> tuple[Any, Any]:
        """The node's arguments for one variant."""

        def fetch(node: Node) -> Any:
            return values[node].one(int(step.sources[node][variant]))

        arguments: Any = map_arg((self._node.args, self._node.kwargs), fetch)
        args, kwargs = arguments
        if mutates(self._network.graph, self._node):
            args = (args[0].clone(), *args[1:])  # other variants still need it
        return args, kwargs
