"""A walk through the graph: what a set of genomes needs is found out once, and then run over any data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from evonas.engine.kernels import Kernel, Step
from evonas.engine.planning import Variants, blocks_of
from evonas.engine.values import Listed, Value
from evonas.plan import Plan
from evonas.quantize import PostTraining, full_precision
from evonas.space import IntArray

__all__ = ["Alone", "Outputs", "Shared", "Walk"]

_PAYS = 2**21  # floats that linear layers compute in the time that it takes to prepare blocks of a generation


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


class Walk(ABC):
    """Genomes that are ready to run; made by `Engine.walk`.

    Attributes:
        rows: which genomes, of all that it was made for, shape (m,).
        chunk: samples at once.
    """

    rows: IntArray
    chunk: int

    def run(self, inputs: Tensor) -> Iterator[Outputs]:
        """What the network returns for `inputs` (n, ...), n above 0, under each of the genomes.

        Chunk by chunk of the samples, and in each block by block of the genomes.
        """
        chunks = [slice(i, min(i + self.chunk, len(inputs))) for i in range(0, len(inputs), self.chunk)]
        steps = self._run(inputs, chunks)
        while True:
            with torch.no_grad(), full_precision():  # not around a `yield`: others' code runs there
                found = next(steps, None)
            if found is None:
                return
            yield found

    @abstractmethod
    def _run(self, inputs: Tensor, chunks: Sequence[slice]) -> Iterator[Outputs]: ...

    @abstractmethod
    def only(self, rows: IntArray, samples: int) -> Walk:
        """The same for some of its genomes, `rows` (m,); or still for all where that is faster for so many samples."""


@dataclass(frozen=True, eq=False)
class Alone(Walk):
    """Genome by genome, for graphs that write into their own values.

    Args:
        rows, chunk: as in `Walk`.
        network: the network.
        plans: of all genomes.
    """

    rows: IntArray
    chunk: int
    network: PostTraining
    plans: Sequence[Plan]

    def _run(self, inputs: Tensor, chunks: Sequence[slice]) -> Iterator[Outputs]:
        for row in self.rows:
            for samples in chunks:
                found = Listed([self.network.forward(self.plans[row], inputs[samples])])
                yield Outputs(np.array([row]), np.zeros(1, dtype=np.int64), found, samples)

    def only(self, rows: IntArray, samples: int) -> Alone:
        return replace(self, rows=rows)


@dataclass(frozen=True, eq=False)
class Shared(Walk):
    """Each distinct value of the genomes is computed once.

    Args:
        rows, chunk: as in `Walk`; rows are in the order in which genomes that share much are near.
        kernels: of the nodes, in the order in which they are run.
        variants: of the nodes, for all genomes.
        last: the node that is returned.
        floats: elements of a sample of each node, and of its rounded inputs.
        limit: elements of a sample to hold at once.
    """

    rows: IntArray
    chunk: int
    kernels: Mapping[Node, Kernel]
    variants: Mapping[Node, Variants]
    last: Node
    floats: Mapping[Node, tuple[int, int]]
    limit: int

    def only(self, rows: IntArray, samples: int) -> Shared:
        saved = (len(self.rows) - len(rows)) * samples * sum(floats for floats, _ in self.floats.values())
        return replace(self, rows=self.rows[np.isin(self.rows, rows)]) if saved > _PAYS else self

    @cached_property
    def _blocks(self) -> list[_Block]:
        chosen = {node: found.of(self.rows) for node, found in self.variants.items()}
        blocks = [self.rows[block] for block in blocks_of(chosen, self.floats, self.limit)]
        return _walks([_prepared(self.kernels, self.variants, rows) for rows in blocks], self.last)

    def _run(self, inputs: Tensor, chunks: Sequence[slice]) -> Iterator[Outputs]:
        for samples in chunks:
            values: dict[Node, Value] = {}
            for block in self._blocks:
                for node, dead in block.walk:
                    if node.op == "placeholder":
                        values[node] = Listed([inputs[samples]])
                    else:
                        values[node] = self.kernels[node].run(block.steps[node], values)
                    for old in dead:
                        values.pop(old, None)
                yield Outputs(block.rows, block.sources[self.last], values[self.last], samples)
                for old in block.dead:
                    values.pop(old, None)


@dataclass(frozen=True)
class _Block:
    """Genomes that go through the graph together.

    Args:
        rows: which genomes, shape (m,).
        steps: what each node needs.
        sources: which of each node's values each genome has.
        walk: nodes to compute, in order, each with those whose values are not needed after it.
        dead: nodes whose values are not needed after the block.
    """

    rows: IntArray
    steps: Mapping[Node, Step]
    sources: Mapping[Node, IntArray]
    walk: Sequence[tuple[Node, Sequence[Node]]] = ()
    dead: Sequence[Node] = ()


def _prepared(kernels: Mapping[Node, Kernel], variants: Mapping[Node, Variants], rows: IntArray) -> _Block:
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
