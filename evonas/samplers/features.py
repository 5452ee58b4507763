"""Genomes as numbers that a surrogate can learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evonas.formats import Format
from evonas.problem.base import Sensitivities
from evonas.space import FloatArray, Gene, IntArray, SearchSpace

__all__ = ["Features", "alike", "coordinates", "summed"]


def coordinates(gene: Gene) -> FloatArray:
    """Where each choice of an ordered gene lies on a line from 0 to 1, shape (n_choices,).

    Formats of different widths lie at 2^-width, with which the step of their grid goes; anything else at its index.
    """
    position = np.arange(len(gene.choices), dtype=np.float64)
    if all(isinstance(choice, Format) for choice in gene.choices):
        widths = np.array([choice.width for choice in gene.choices], dtype=np.float64)
        if (np.diff(widths) > 0).all():
            position = -(2.0**-widths)
    span = position.max() - position.min()
    return (position - position.min()) / span if span > 0 else np.zeros(len(position))


def summed(sensitivities: Sensitivities, genomes: IntArray) -> FloatArray:
    """Sum of the genes' known sensitivities, shape (n,), for genomes (n, n_genes)."""
    values = np.nan_to_num(np.maximum(sensitivities.values, 0.0))
    total: FloatArray = values[np.arange(genomes.shape[1]), genomes].sum(axis=1)
    return total


@dataclass(frozen=True)
class _Block:
    """One gene's inputs by choice: to the stationary kernel and to the linear one, each (n_choices, columns)."""

    stationary: FloatArray
    linear: FloatArray


def _block(gene: Gene) -> _Block:
    count = len(gene.choices)
    if not gene.ordered:
        return _Block(np.eye(count) / np.sqrt(2.0), np.eye(count))
    line = coordinates(gene)[:, None]
    # A thermometer code whose columns are weighted by the root of their step has min(s, t) as its inner product:
    # the covariance of Brownian motion along the line, so that any additive effect can be learnt, smooth ones first.
    steps = np.sqrt(np.diff(line[:, 0]))
    thermometer = np.tri(count, count - 1, -1) * steps
    return _Block(line, np.concatenate([thermometer, line, line**2], axis=1))


def alike(space: SearchSpace) -> list[list[int]]:
    """Categorical genes that have the same choices, two or more together."""
    found: dict[tuple[str, ...], list[int]] = {}
    for i, gene in enumerate(space.genes):
        if not gene.ordered:
            found.setdefault(gene.labels, []).append(i)
    return [genes for genes in found.values() if len(genes) > 1]


class Features:
    """Inputs of a surrogate, for the genomes of one space.

    One-hot categories (scaled to be one apart), `coordinates` of ordered genes, how often each category occurs among
    genes with the same categories, and the sum of sensitivities.

    Args:
        space: of the genomes.
        sensitivities: their sum enters, as a logarithm, as one more input; None where there are none.
    """

    def __init__(self, space: SearchSpace, sensitivities: Sensitivities | None = None) -> None:
        self._blocks = [_block(gene) for gene in space.genes]
        self._sensitivities = sensitivities
        self._alike = alike(space)
        columns = [block.stationary.shape[1] for block in self._blocks]
        columns += [len(space.genes[genes[0]].choices) for genes in self._alike]
        columns += [] if sensitivities is None else [1]
        owners = [np.full(count, group) for group, count in enumerate(columns)]
        if sensitivities is not None:
            known = np.nan_to_num(sensitivities.values)
            largest = float(np.max(known, axis=1).sum())
            self._floor = max(1e-4 * largest, 1e-12)  # below it a sensitivity is noise
            self._range = (np.log(self._floor), np.log(largest + self._floor))
        self.owners: IntArray = np.concatenate(owners).astype(np.int64)

    def stationary(self, genomes: IntArray) -> FloatArray:
        """Inputs whose distances matter, shape (n, d); `owners` (d,) says to which gene each column belongs."""
        columns = [block.stationary[genomes[:, i]] for i, block in enumerate(self._blocks)]
        return np.concatenate([*columns, *self._shares(genomes), *self._sums(genomes, 1)], axis=1)

    def linear(self, genomes: IntArray) -> FloatArray:
        """Inputs in which the objective may be linear, shape (n, d), a constant among them."""
        columns = [block.linear[genomes[:, i]] for i, block in enumerate(self._blocks)]
        scaled = np.concatenate(columns, axis=1) / np.sqrt(len(self._blocks))
        constant = np.ones((len(genomes), 1))
        return np.concatenate([constant, scaled, *self._shares(genomes), *self._sums(genomes, 2)], axis=1)

    def _shares(self, genomes: IntArray) -> list[FloatArray]:
        """Share of each category among the genes that have it, (n, categories) for each set of genes alike."""
        return [np.mean([self._blocks[i].linear[genomes[:, i]] for i in genes], axis=0) for genes in self._alike]

    def _sums(self, genomes: IntArray, degree: int) -> list[FloatArray]:
        if self._sensitivities is None:
            return []
        low, high = self._range
        scaled = (np.log(summed(self._sensitivities, genomes) + self._floor) - low) / (high - low)
        return [scaled[:, None] ** power for power in range(1, degree + 1)]
