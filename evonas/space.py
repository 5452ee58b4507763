"""What is searched: genes (ordered choices) and the space they span.

A genome is one index per gene, `int64 array, shape (n_genes,)`; many are `(n, n_genes)`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evonas.errors import InvalidArgument, unknown_name

__all__ = ["BoolArray", "FloatArray", "Gene", "IntArray", "SearchSpace", "extremes"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_INDEXABLE = 2**62  # spaces up to here have genomes numbered by an int64


@dataclass(frozen=True)
class Gene:
    """One ordered list of choices, from the cheapest to the dearest where there is such an order.

    Args:
        name: unique in the space, such as `fc1.weight` or `chain0`.
        choices: the values, in order; any hashable values.
        labels: how the choices are shown; `str` of each when not given.
        group: genes of one group (a layer) may be swapped together by crossover; the name when not given.
        ordered: False for categories, whose neighbours in the list are no nearer than the rest.
    """

    name: str
    choices: tuple[Any, ...]
    labels: tuple[str, ...] = ()
    group: str = ""
    ordered: bool = True

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidArgument("a gene needs a name, got an empty one")
        if not self.choices:
            raise InvalidArgument(f"gene `{self.name}` has no choices; give it at least one")
        if not self.labels:
            object.__setattr__(self, "labels", tuple(str(choice) for choice in self.choices))
        if len(self.labels) != len(self.choices):
            raise InvalidArgument(
                f"gene `{self.name}` has {len(self.choices)} choices and {len(self.labels)} labels; give one label each"
            )
        if len(set(self.labels)) != len(self.labels):
            twice = next(label for label in self.labels if self.labels.count(label) > 1)
            raise InvalidArgument(f"gene `{self.name}` has the choice `{twice}` twice; each choice once")
        if not self.group:
            object.__setattr__(self, "group", self.name)


class SearchSpace:
    """The product of its genes.

    Args:
        genes: at least one, with distinct names.

    Raises:
        InvalidArgument: no genes, or two of one name.
    """

    def __init__(self, genes: Sequence[Gene]) -> None:
        self.genes = tuple(genes)
        if not self.genes:
            raise InvalidArgument("a search space needs at least one gene, got none")
        names = [gene.name for gene in self.genes]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidArgument(f"two genes are named `{twice}`; names must be distinct")

    def __len__(self) -> int:
        return len(self.genes)

    def __repr__(self) -> str:
        return f"SearchSpace({len(self)} genes, {self.size:,} genomes)"

    @property
    def summary(self) -> str:
        """`8 genes, 4,194,304 genomes`."""
        size = f"{self.size:,}" if self.size < 10**15 else f"{Decimal(self.size):.3e}"
        return f"{len(self)} gene{'s' * (len(self) != 1)}, {size} genome{'s' * (self.size != 1)}"

    @cached_property
    def n_choices(self) -> IntArray:
        """Number of choices of each gene, shape (n_genes,)."""
        return np.array([len(gene.choices) for gene in self.genes], dtype=np.int64)

    @cached_property
    def size(self) -> int:
        """Number of genomes, exact at any magnitude."""
        return math.prod(len(gene.choices) for gene in self.genes)

    @cached_property
    def groups(self) -> tuple[IntArray, ...]:
        """Gene indices of each group (layer), in order of first appearance."""
        found: dict[str, list[int]] = {}
        for position, gene in enumerate(self.genes):
            found.setdefault(gene.group, []).append(position)
        return tuple(np.array(members, dtype=np.int64) for members in found.values())

    @cached_property
    def fingerprint(self) -> str:
        """A digest of names and labels: two spaces with the same one hold the same genomes."""
        text = json.dumps([[gene.name, gene.labels] for gene in self.genes])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def position(self, gene: str) -> int:
        """Index of the gene of that name."""
        for position, candidate in enumerate(self.genes):
            if candidate.name == gene:
                return position
        raise unknown_name("gene", gene, [candidate.name for candidate in self.genes])

    def check(self, genomes: ArrayLike) -> IntArray:
        """`genomes` as an int64 array of shape (n, n_genes).

        Raises:
            InvalidArgument: wrong shape, not integers, or an index outside its gene.
        """
        try:
            given = np.asarray(genomes)
        except ValueError:
            raise InvalidArgument(f"`genomes` must have shape (n, {len(self)}), got rows of several lengths") from None
        if given.ndim != 2 or given.shape[1] != len(self):
            raise InvalidArgument(f"`genomes` must have shape (n, {len(self)}), got {given.shape}")
        if given.size == 0:
            return given.astype(np.int64)
        if given.dtype.kind not in "iuf" or (given.dtype.kind == "f" and not np.array_equal(given, np.floor(given))):
            raise InvalidArgument(f"`genomes` must be integers, got dtype {given.dtype}")
        outside = (given < 0) | (given >= self.n_choices)
        if outside.any():
            row, gene = (int(i) for i in np.argwhere(outside)[0])
            raise InvalidArgument(
                f"genome {row} has index {given[row, gene]:.0f} for gene `{self.genes[gene].name}`, "
                f"which has choices 0 to {self.n_choices[gene] - 1}"
            )
        return given.astype(np.int64)

    def encode(self, choices: Mapping[str, Any]) -> IntArray:
        """The genome that picks `choices` (gene name to value or label), shape (n_genes,).

        Raises:
            UnknownName: a gene or a choice that does not exist.
            InvalidArgument: a gene is missing.
        """
        for name in choices:
            self.position(name)
        genome = np.empty(len(self), dtype=np.int64)
        for position, gene in enumerate(self.genes):
            if gene.name not in choices:
                raise InvalidArgument(f"gene `{gene.name}` has no value; give one of {', '.join(gene.labels)}")
            value = choices[gene.name]
            if value in gene.choices:
                genome[position] = gene.choices.index(value)
            elif value in gene.labels:
                genome[position] = gene.labels.index(value)
            else:
                raise unknown_name(f"choice of gene `{gene.name}`", str(value), gene.labels)
        return genome

    def decode(self, genome: ArrayLike) -> dict[str, Any]:
        """Gene name to chosen value for one genome, shape (n_genes,)."""
        (checked,) = self.check(np.asarray(genome)[None])
        return {gene.name: gene.choices[i] for gene, i in zip(self.genes, checked, strict=True)}

    def labels(self, genome: ArrayLike) -> dict[str, str]:
        """Gene name to the label of its choice for one genome, shape (n_genes,)."""
        (checked,) = self.check(np.asarray(genome)[None])
        return {gene.name: gene.labels[i] for gene, i in zip(self.genes, checked, strict=True)}

    @property
    def indexable(self) -> bool:
        """True when genomes can be numbered by an int64 (`rank`, `unrank`)."""
        return self.size <= _INDEXABLE

    @cached_property
    def _strides(self) -> IntArray:
        if not self.indexable:
            magnitude = int(math.log10(self.size))  # a float could not hold it
            raise InvalidArgument(f"a space of more than 10^{magnitude} genomes is too large to be numbered")
        strides = np.ones(len(self), dtype=np.int64)
        strides[:-1] = np.cumprod(self.n_choices[:0:-1])[::-1]
        return strides

    def rank(self, genomes: IntArray) -> IntArray:
        """Number of each genome in lexicographic order, shape (n,), from genomes (n, n_genes)."""
        ranks: IntArray = genomes @ self._strides
        return ranks

    def unrank(self, ranks: IntArray) -> IntArray:
        """Genomes (n, n_genes) of the given numbers, shape (n,); the inverse of `rank`."""
        genomes: IntArray = (ranks[:, None] // self._strides) % self.n_choices
        return genomes

    def keys(self, genomes: IntArray) -> list[bytes]:
        """One hashable key per genome, for sets and dictionaries."""
        return [row.tobytes() for row in np.ascontiguousarray(genomes, dtype=np.int64)]

    def chunks(self, size: int = 65_536) -> Iterator[IntArray]:
        """Every genome once, in lexicographic order, in arrays (at most `size`, n_genes)."""
        for start in range(0, self.size, size):
            yield self.unrank(np.arange(start, min(start + size, self.size), dtype=np.int64))

    def sample(self, n: int, rng: np.random.Generator) -> IntArray:
        """`n` genomes drawn uniformly with replacement, shape (n, n_genes)."""
        return rng.integers(0, self.n_choices, size=(n, len(self)), dtype=np.int64)

    def neighbours(self, genome: IntArray) -> IntArray:
        """All genomes one step (+-1 on one gene) from `genome` (n_genes,), shape (m, n_genes)."""
        steps = np.concatenate([np.eye(len(self), dtype=np.int64), -np.eye(len(self), dtype=np.int64)])
        near = genome + steps
        inside: BoolArray = ((near >= 0) & (near < self.n_choices)).all(axis=1)
        kept: IntArray = near[inside]
        return kept

    def corners(self) -> IntArray:
        """The all-lowest and the all-highest genome, shape (2, n_genes)."""
        return np.stack([np.zeros(len(self), dtype=np.int64), self.n_choices - 1])


def extremes(
    space: SearchSpace, values: Callable[[IntArray], FloatArray], rng: np.random.Generator, limit: int
) -> tuple[FloatArray, FloatArray, bool]:
    """Smallest and largest of each column of `values` over the space.

    Args:
        values: genomes (n, n_genes) to an array (n, k).
        limit: spaces up to this size are enumerated; larger ones are explored by coordinate descent
            from the corners and from random genomes.

    Returns:
        lowest (k,), highest (k,), and whether they are proved (the space was enumerated).
    """
    if space.size <= limit:
        rows = [values(chunk) for chunk in space.chunks()]
        lows = np.min([block.min(axis=0) for block in rows], axis=0)
        highs = np.max([block.max(axis=0) for block in rows], axis=0)
        return lows, highs, True
    starts = np.concatenate([space.corners(), space.sample(4096, rng)])
    found = values(starts)
    lowest, highest = found.min(axis=0), found.max(axis=0)
    for column in range(found.shape[1]):
        low = _descend(space, lambda g, c=column: values(g)[:, c], starts[int(found[:, column].argmin())])  # type: ignore[misc]
        high = _descend(space, lambda g, c=column: -values(g)[:, c], starts[int(found[:, column].argmax())])  # type: ignore[misc]
        lowest[column] = min(lowest[column], low)
        highest[column] = max(highest[column], -high)
    return lowest, highest, False


def _descend(space: SearchSpace, value: Callable[[IntArray], FloatArray], genome: IntArray) -> float:
    """The value of a local minimum of `value`, walking from `genome` by changes of single genes."""
    owner = np.repeat(np.arange(len(space)), space.n_choices)
    choice = np.concatenate([np.arange(count) for count in space.n_choices])
    best = float(value(genome[None])[0])
    while True:
        tried = np.repeat(genome[None], len(owner), axis=0)
        tried[np.arange(len(owner)), owner] = choice
        scores = value(tried)
        # all genes at their own best at once, which is right where they do not interact; else the best single one
        own = [int(scores[owner == gene].argmin()) for gene in range(len(space))]
        candidates = np.stack([np.array(own, dtype=np.int64), tried[int(scores.argmin())]])
        reached = value(candidates)
        if reached.min() >= best:
            return best
        best, genome = float(reached.min()), candidates[int(reached.argmin())]
