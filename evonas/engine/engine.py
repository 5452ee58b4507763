"""Evaluate many genomes in one pass over the data: what they share is computed once.

The graph of a network is walked node by node for a whole block of genomes and a chunk of samples, both small enough to
stay in cache. What is returned is bit for bit what `PostTraining.forward` returns for the same chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from evonas.engine.convolution import Convolution
from evonas.engine.kernels import Elementwise, General, Kernel, Relu
from evonas.engine.linear import Linear
from evonas.engine.planning import Parts, parts_of, sorted_rows, variants_of
from evonas.engine.walk import Alone, Outputs, Shared, Walk
from evonas.graph.writes import shareable
from evonas.plan import PlanSpace
from evonas.quantize import PostTraining, full_precision
from evonas.space import IntArray

__all__ = ["MEMORY", "Engine"]

MEMORY = 16 * 2**20  # bytes of values at once: a few times the cache of a core
_CHUNK = 256  # samples at once, at most
_LEAST_CHUNK = 32
_NODE = 2**20  # floats of a chunk of the largest node: convolutions of fewer samples cost more each


class Engine:
    """One trained network, run under many plans at once.

    Args:
        network: the network.
        space: whose genomes are run; all of them must have the channels of `network`.
        memory: bytes that the values of all nodes may take at once, but for what a single genome needs.
    """

    def __init__(self, network: PostTraining, space: PlanSpace, *, memory: int = MEMORY) -> None:
        self._network, self._space, self._memory = network, space, memory
        *self._nodes, output = network.graph.graph.nodes
        (self._last,) = output.all_input_nodes

    def run(self, genomes: IntArray, inputs: Tensor) -> Iterator[Outputs]:
        """What the network returns for `inputs` (n, ...) under each of `genomes` (m, n_genes), m and n above 0.

        Chunk by chunk of the samples, and in each block by block of the genomes.
        """
        return self.walk(genomes, inputs[:2]).run(inputs)

    def walk(self, genomes: IntArray, sample: Tensor) -> Walk:
        """What `genomes` (m, n_genes) need is found out once, for any data that is like `sample` (a few inputs)."""
        with torch.no_grad(), full_precision():
            shapes = _Shapes.of(self._network.graph, sample)
            if not shareable(self._network.graph, sample):
                plans = [self._space.plan(genome) for genome in genomes]
                return Alone(np.arange(len(genomes)), shapes.chunk, self._network, plans)
            return self._shared(genomes, shapes)

    def outputs(self, genomes: IntArray, inputs: Tensor) -> Tensor:
        """All that `run` returns at once, for networks that return vectors: shape (m, n, channels)."""
        found: list[list[Tensor]] = [[] for _ in genomes]
        for chunk in self.run(genomes, inputs):
            for genome, variant in zip(chunk.genomes, chunk.variants, strict=True):
                found[genome].append(chunk.value.one(int(variant)))
        return torch.stack([torch.cat(parts) for parts in found])

    def _shared(self, genomes: IntArray, shapes: _Shapes) -> Shared:
        layers = parts_of(self._network, self._space, genomes)
        parts = {node: layers[name] for node in self._nodes if (name := self._network.layer_of(node)) in layers}
        variants = variants_of(self._nodes, parts, len(genomes))
        kernels = {node: self._kernel(node, parts.get(node), shapes) for node in self._nodes}
        limit = self._memory // 4 // shapes.chunk
        return Shared(sorted_rows(variants), shapes.chunk, kernels, variants, self._last, shapes.floats, limit)

    def _kernel(self, node: Node, parts: Parts | None, shapes: _Shapes) -> Kernel:
        graph = self._network.graph
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        rank = shapes.ranks.get(node.all_input_nodes[0], 0) if node.args and node.all_input_nodes else 0
        if parts is not None and not parts.plans[0].layer.rounds and Linear.suits(module, rank):
            return Linear(self._network, node, parts, self._memory)
        if parts is not None and not parts.plans[0].layer.rounds and Convolution.suits(module, node, rank):
            return Convolution(self._network, node, parts)
        if parts is None and Elementwise.suits(node, module, rank):
            return Elementwise(self._network, node, parts)
        return Relu(node) if Relu.suits(node, module) else General(self._network, node, parts)


@dataclass(frozen=True)
class _Shapes:
    """What the float network's values are like.

    Args:
        ranks: dimensions of each node's tensor.
        floats: elements a sample of each node, and of its input if it is a layer.
        chunk: samples to take at once.
    """

    ranks: Mapping[Node, int]
    floats: Mapping[Node, tuple[int, int]]
    chunk: int

    @classmethod
    def of(cls, graph: fx.GraphModule, inputs: Tensor) -> _Shapes:
        """The shapes on a small batch of `inputs`."""
        with torch.no_grad():
            recorder = _Recorder(graph)
            recorder.run(inputs)
        sizes = {node: -(-elements // len(inputs)) for node, elements in recorder.elements.items()}
        floats = {
            node: (size, max((sizes[source] for source in node.all_input_nodes), default=0))
            for node, size in sizes.items()
        }
        fitting = _NODE // max(1, *sizes.values())
        return cls(recorder.ranks, floats, 1 << (min(max(fitting, _LEAST_CHUNK), _CHUNK).bit_length() - 1))


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the rank and the elements of what its nodes return."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.ranks: dict[Node, int] = {}
        self.elements: dict[Node, int] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
        if n.op != "output":
            self.elements[n] = sum(tensor.numel() for tensor in tensors)
            self.ranks[n] = tensors[0].dim() if tensors and tensors[0] is value else 0
        return value
