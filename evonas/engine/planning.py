"""What a set of genomes needs of every node of a graph: each distinct value once, in blocks that fit in memory.

A node's value depends only on the formats of its ancestors. Genomes that agree in these share it: they have the same
*variant* of the node. Variants are found for all genomes at once, node by node, from the variants of the node's inputs
and the node's own formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch.fx import Node

from evonas.formats import Format
from evonas.plan import LayerPlan, PlanSpace
from evonas.quantize import PostTraining
from evonas.space import IntArray

__all__ = ["Parts", "Variants", "blocks_of", "joint", "parts_of", "sorted_rows", "variants_of"]


@dataclass(frozen=True)
class Parts:
    """The distinct plans of one layer among n genomes.

    Args:
        plans: those there are, with concrete formats.
        picks: index of each genome's, shape (n,).
        data: index of each plan's data formats among the layer's, shape (len(plans),).
    """

    plans: tuple[LayerPlan, ...]
    picks: IntArray
    data: IntArray

    def of(self, rows: IntArray) -> Parts:
        """The same for genomes `rows` (m,)."""
        return Parts(self.plans, self.picks[rows], self.data)


@dataclass(frozen=True)
class Variants:
    """Which of a node's distinct values each of n genomes has.

    Args:
        ids: number of each genome's, shape (n,), from 0.
        data: likewise of the node's inputs rounded to the data formats of its layer; `ids` where it has none.
    """

    ids: IntArray
    data: IntArray

    def of(self, rows: IntArray) -> Variants:
        """The same for genomes `rows` (m,)."""
        return Variants(self.ids[rows], self.data[rows])


def parts_of(network: PostTraining, space: PlanSpace, genomes: IntArray) -> dict[str, Parts]:
    """Layer name -> the plans it has among `genomes` (n, n_genes), all of one channel configuration."""
    found = {}
    channels = {name: int(counts[0]) for name, counts in space.channels(genomes[:1]).items()}
    for layer in space.network.quantizable:
        columns = [genomes[:, gene] for gene in space.genes_of(layer.name)]
        # A layer with a single gene has its choices here, not all of which need occur.
        _, first, picks = np.unique(joint(columns, len(genomes)), return_index=True, return_inverse=True)
        plans = tuple(network.concrete_layer(space.layer_plan(layer, genomes[row], channels)) for row in first)
        kinds: dict[object, int] = {}
        data = np.array([kinds.setdefault(_reads(plan), len(kinds)) for plan in plans], dtype=np.int64)
        found[layer.name] = Parts(plans, picks, data)
    return found


def _reads(plan: LayerPlan) -> tuple[Format, ...]:
    """The formats of what a layer receives."""
    return tuple(fmt for slot, fmt in plan.formats.items() if slot.startswith("data_in"))


def variants_of(nodes: Sequence[Node], parts: Mapping[Node, Parts], n: int) -> dict[Node, Variants]:
    """The variants of every node for n genomes, whose layers' plans are `parts`."""
    found: dict[Node, Variants] = {}
    for node in nodes:
        ids = joint([found[source].ids for source in node.all_input_nodes], n)
        data = ids
        if node in parts:
            data = joint([ids, parts[node].data[parts[node].picks]], n)
            ids = joint([data, parts[node].picks], n)
        found[node] = Variants(ids, data)
    return found


def joint(columns: Sequence[IntArray], n: int) -> IntArray:
    """One number for each distinct row of `columns` (each (n,), numbered from 0), in lexicographic order, from 0."""
    found = np.zeros(n, dtype=np.int64)
    varying = False
    for column in columns:
        if not column.any() or column is found:
            continue
        if varying:
            found = np.unique(found * (int(column.max()) + 1) + column, return_inverse=True)[1]
        elif len(columns) == 1:
            return column
        else:
            found = np.unique(column, return_inverse=True)[1]
        varying = True
    return found


def sorted_rows(variants: Mapping[Node, Variants]) -> IntArray:
    """The order of genomes, shape (n,), in which those that share more of the graph from its start on are nearer."""
    columns: list[IntArray] = []
    for found in variants.values():
        for column in (found.data, found.ids):
            if column.any() and not (columns and column is columns[-1]):
                columns.append(column)
    if not columns:
        return np.arange(len(next(iter(variants.values())).ids))
    return np.lexsort(columns[::-1])


def blocks_of(variants: Mapping[Node, Variants], floats: Mapping[Node, tuple[int, int]], limit: int) -> list[slice]:
    """Consecutive genomes, cut so that the values held at any time in a block take at most `limit` floats.

    A block has at least one genome, whatever that takes. Cuts are made where genomes share least.

    Args:
        variants: of the sorted genomes, by node in the order in which nodes are computed.
        floats: elements of one variant of each node, and of its rounded inputs.
        limit: elements at once.
    """
    n = len(next(iter(variants.values())).ids)
    depth = np.full(n, len(variants), dtype=np.int64)  # the first node in which a genome differs from the one before it
    new: dict[Node, tuple[IntArray, IntArray]] = {}  # elements that it needs beyond those of the one before it
    for level, (node, found) in enumerate(variants.items()):
        changed = [np.diff(column, prepend=-1) != 0 for column in (found.ids, found.data)]
        depth[changed[0] | changed[1]] = np.minimum(depth[changed[0] | changed[1]], level)
        new[node] = (changed[0] * floats[node][0], changed[1] * floats[node][1])
    totals = [
        (np.cumsum(held), sum(floats[other][0] for other in live) + floats[node][1])
        for node, live in _live(list(variants)).items()
        if (held := sum((new[other][0] for other in live), new[node][1])).any()
    ]
    start, blocks = 0, []
    while start < n:
        ends = [np.searchsorted(total, total[start] + max(0, limit - base), side="right") for total, base in totals]
        stop = int(min(ends, default=n))
        if stop < n:
            least = start + 1 + (stop - start) // 2
            cuts = depth[least : stop + 1][::-1]
            stop -= int(np.argmin(cuts)) if len(cuts) else 0
        blocks.append(slice(start, stop))
        start = stop
    return blocks


def _live(nodes: Sequence[Node]) -> dict[Node, list[Node]]:
    """Node -> those whose values are held when it has just been computed, itself among them."""
    last = {source: node for node in nodes for source in node.all_input_nodes}
    place = {node: i for i, node in enumerate(nodes)}
    found: dict[Node, list[Node]] = {}
    held: list[Node] = []
    for node in nodes:
        held = [other for other in held if other in last and place[last[other]] >= place[node]] + [node]
        found[node] = held
    return found
