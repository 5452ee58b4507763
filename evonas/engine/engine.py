"""Evaluate many genomes in one pass over the data: what they share is computed once.

The graph of a network is walked node by node for a whole block of genomes and a chunk of samples, both small enough to
stay in cache. What is returned is bit for bit what `PostTraining.forward` returns for the same chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from evonas.engine.convolution import Convolution
from evonas.engine.kernels import Elementwise, General, Kernel, Relu, Step
from evonas.engine.linear import Linear
from evonas.engine.planning import Parts, Variants, blocks_of, parts_of, sorted_rows, variants_of
from evonas.engine.values import Listed, Value
from evonas.graph.writes import shareable
from evonas.plan import PlanSpace
from evonas.quantize import PostTraining, full_precision
from evonas.space import IntArray

__all__ = ["MEMORY", "Engine", "Outputs"]

MEMORY = 8 * 2**20  # bytes of values at once: a few times the cache of a core
_CHUNK = 512  # samples at once, at most
_LEAST_CHUNK = 32
_NODE = 2**20  # floats of a chunk of the largest node: convolutions of fewer samples cost more each


@dataclass(frozen=True)
class Outputs:
    """What the network returns for a block of genomes and a chunk of samples.

    Args:
        genomes: which genomes, shape (m,).
        variants: which of the values each has, shape (m,).
        value: the distinct values.
        samples: which samples.
    """

    genomes: IntArray
    variants: IntArray
    value: Value
    samples: slice


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
        walk = self._run(genomes, inputs)
        while True:
            with torch.no_grad(), full_precision():  # not around a `yield`: others' code runs there
                found = next(walk, None)
            if found is None:
                return
            yield found

    def _run(self, genomes: IntArray, inputs: Tensor) -> Iterator[Outputs]:
        shapes = _Shapes.of(self._network.graph, inputs[:2])
        chunks = [slice(i, min(i + shapes.chunk, len(inputs))) for i in range(0, len(inputs), shapes.chunk)]
        if shareable(self._network.graph, inputs[:2]):
            yield from self._shared(genomes, inputs, shapes, chunks)
        else:
            yield from self._alone(genomes, inputs, chunks)

    def outputs(self, genomes: IntArray, inputs: Tensor) -> Tensor:
        """All that `run` returns at once, for networks that return vectors: shape (m, n, channels)."""
        found: list[list[Tensor]] = [[] for _ in genomes]
        for chunk in self.run(genomes, inputs):
            for genome, variant in zip(chunk.genomes, chunk.variants, strict=True):
                found[genome].append(chunk.value.one(int(variant)))
        return torch.stack([torch.cat(parts) for parts in found])

    def _alone(self, genomes: IntArray, inputs: Tensor, chunks: Sequence[slice]) -> Iterator[Outputs]:
        """Genome by genome, for graphs that write into their own values."""
        for row, genome in enumerate(genomes):
            plan = self._space.plan(genome)
            for samples in chunks:
                found = Listed([self._network.forward(plan, inputs[samples])])
                yield Outputs(np.array([row]), np.zeros(1, dtype=np.int64), found, samples)

    def _shared(self, genomes: IntArray, inputs: Tensor, shapes: _Shapes, chunks: Sequence[slice]) -> Iterator[Outputs]:
        layers = parts_of(self._network, self._space, genomes)
        named = {node: layers[name] for node in self._nodes if (name := self._network.layer_of(node)) in layers}
        unsorted = variants_of(self._nodes, named, len(genomes))
        order = sorted_rows(unsorted)
        parts = {node: found.of(order) for node, found in named.items()}
        variants = {node: found.of(order) for node, found in unsorted.items()}
        kernels = {node: self._kernel(node, parts.get(node), shapes) for node in self._nodes}
        limit = self._memory // 4 // shapes.chunk
        prepared = [_prepared(kernels, variants, rows) for rows in blocks_of(variants, shapes.floats, limit)]
        blocks = _walks(prepared, self._last)
        for samples in chunks:
            values: dict[Node, Value] = {}
            for block in blocks:
                for node, dead in block.walk:
                    if node.op == "placeholder":
                        values[node] = Listed([inputs[samples]])
                    else:
                        values[node] = kernels[node].run(block.steps[node], values)
                    for old in dead:
                        values.pop(old, None)
                yield Outputs(order[block.rows], block.sources[self._last], values[self._last], samples)
                for old in block.dead:
                    values.pop(old, None)

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
class _Block:
    """Genomes that go through the graph together.

    Args:
        rows: which of the sorted genomes.
        steps: what each node needs.
        sources: which of each node's values each genome has.
        walk: nodes to compute, in order, each with those whose values are not needed after it.
        dead: nodes whose values are not needed after the block.
    """

    rows: slice
    steps: Mapping[Node, Step]
    sources: Mapping[Node, IntArray]
    walk: Sequence[tuple[Node, Sequence[Node]]] = ()
    dead: Sequence[Node] = ()


def _prepared(kernels: Mapping[Node, Kernel], variants: Mapping[Node, Variants], rows: slice) -> _Block:
    steps: dict[Node, Step] = {}
    sources: dict[Node, IntArray] = {}
    for node, kernel in kernels.items():
        arriving = {source: sources[source] for source in node.all_input_nodes}
        step: Step = kernel.prepare(rows, variants[node], arriving)
        steps[node] = step
        sources[node] = step.position[np.searchsorted(step.ids, variants[node].ids[rows])]
    return _Block(rows, steps, sources)


def _walks(blocks: Sequence[_Block], last: Node) -> list[_Block]:
    """The same blocks with what each computes for `last`: nothing that the block before it has already."""
    found, kept = [], set[Node]()
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        computed = _needed(last, list(block.steps), kept)
        held = kept | set(computed)
        kept = {node for node in held if following is not None and _same(block.steps[node], following.steps[node])}
        last_use = {source: node for node in computed for source in node.all_input_nodes}
        walk = [
            (node, [old for old, reader in last_use.items() if reader is node and old not in kept and old is not last])
            for node in computed
        ]
        found.append(replace(block, walk=walk, dead=[node for node in held if node not in kept]))
    return found


def _needed(last: Node, nodes: Sequence[Node], kept: set[Node]) -> list[Node]:
    """The nodes that `last` needs and that are not kept, in order."""
    wanted, found = {last}, []
    for node in reversed(nodes):
        if node in wanted and node not in kept:
            found.append(node)
            wanted.update(node.all_input_nodes)
    return found[::-1]


def _same(one: Step, other: Step) -> bool:
    return np.array_equal(one.ids, other.ids)


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
