"""Mutation of ordered choices."""

from __future__ import annotations

from typing import Any

import numpy as np
from pymoo.core.mutation import Mutation

from evonas.space import IntArray, SearchSpace

__all__ = ["GenomeMutation"]


class GenomeMutation(Mutation):
    """Change each gene with probability `rate`, at least one gene of every genome.

    A changed gene steps to a neighbouring choice, or jumps to any other one; one without an order always jumps. Genes
    with one choice stay.

    Args:
        space: what the genomes are of.
        rate: probability that a gene changes; 1 / n_genes when None.
        jump: share of changes that are jumps rather than steps.
    """

    def __init__(self, space: SearchSpace, *, rate: float | None = None, jump: float = 0.3) -> None:
        super().__init__(prob=1.0)
        self.space = space
        self.rate = 1.0 / len(space) if rate is None else rate
        self.jump = jump

    def _do(self, problem: Any, X: Any, *args: Any, random_state: Any = None, **kwargs: Any) -> IntArray:
        return self.mutate(np.asarray(X, dtype=np.int64), np.random.default_rng(random_state))

    def mutate(self, genomes: IntArray, rng: np.random.Generator) -> IntArray:
        """Genomes (n, n_genes), each differing from its original in at least one gene that has a choice."""
        counts = self.space.n_choices
        free = np.flatnonzero(counts > 1)
        if len(free) == 0 or len(genomes) == 0:
            return genomes.copy()
        changed = (rng.random(genomes.shape) < self.rate) & (counts > 1)
        forced = free[rng.integers(len(free), size=len(genomes))]
        none = ~changed.any(axis=1)
        changed[none, forced[none]] = True

        # a jump lands on one of the other n-1 choices with equal probability
        jumped = (
            genomes + 1 + np.floor(rng.random(genomes.shape) * np.maximum(counts - 1, 1)).astype(np.int64)
        ) % counts
        direction = np.where(rng.random(genomes.shape) < 0.5, -1, 1)
        inside = (genomes + direction >= 0) & (genomes + direction < counts)
        stepped = genomes + np.where(inside, direction, -direction)
        # categories have no neighbours: they always jump
        jumps = np.where([gene.ordered for gene in self.space.genes], self.jump, 1.0)
        moved = np.where(rng.random(genomes.shape) < jumps, jumped, stepped)
        result: IntArray = np.where(changed, moved, genomes).astype(np.int64)
        return result
