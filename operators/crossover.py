"""Crossover that can keep a layer's genes together."""

from __future__ import annotations

from typing import Any

import numpy as np
from pymoo.core.crossover import Crossover

from evonas.space import BoolArray, SearchSpace

__all__ = ["GenomeCrossover"]


class GenomeCrossover(Crossover):
    """Uniform crossover: every gene, or every layer (the genes of one group together), comes from either parent.

    Args:
        space: what the genomes are of; its groups are the layers.
        layers: share of matings that swap whole layers rather than single genes.
        prob: share of matings that cross over at all.
    """

    def __init__(self, space: SearchSpace, *, layers: float = 0.5, prob: float = 0.9) -> None:
        super().__init__(2, 2, prob=prob)
        self.space = space
        self.layers = layers

    def _do(self, problem: Any, X: Any, *args: Any, random_state: Any = None, **kwargs: Any) -> Any:
        parents = np.asarray(X)
        swapped = self.swaps(parents.shape[1], np.random.default_rng(random_state))
        first = np.where(swapped, parents[1], parents[0])
        second = np.where(swapped, parents[0], parents[1])
        return np.stack([first, second])

    def swaps(self, matings: int, rng: np.random.Generator) -> BoolArray:
        """Which genes are exchanged in each mating, shape (matings, n_genes)."""
        group_of = np.empty(len(self.space), dtype=np.int64)
        for number, genes in enumerate(self.space.groups):
            group_of[genes] = number
        single = rng.random((matings, len(self.space))) < 0.5
        whole = (rng.random((matings, len(self.space.groups))) < 0.5)[:, group_of]
        by_layer = rng.random((matings, 1)) < self.layers
        return np.where(by_layer, whole, single)
