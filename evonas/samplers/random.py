"""Random search without replacement."""

from __future__ import annotations

import numpy as np

from evonas.evaluate import Task
from evonas.operators.sampling import distinct
from evonas.samplers.base import Sampler
from evonas.samplers.repairing import budget_repair
from evonas.space import IntArray

__all__ = ["RandomSampler"]

_BLOCK = 256
_SHUFFLED = 1_000_000  # spaces up to here are shuffled once; larger ones are drawn with rejection


class RandomSampler(Sampler):
    """Uniform over the genomes that meet the exact constraints, each once (Bergstra and Bengio 2012, JMLR 13).

    Where so little of a large space is feasible that drawing does not hit it, random genomes are repaired instead.
    """

    def __init__(self, task: Task, seed: int) -> None:
        super().__init__(task, seed)
        self._order: IntArray | None = None
        self._next = 0
        if task.exact_constraints:
            self._repair = budget_repair(task, ball=1).repaired
        if self.space.size <= _SHUFFLED:
            self._order = self.rng.permutation(self.space.size)

    def _next_block(self) -> IntArray:
        if self._order is None:
            return distinct(
                self.space, _BLOCK, self.rng, seen=self.proposed, feasible=self.task.feasible, repair=self._repair
            )
        while self._next < len(self._order):
            genomes = self.space.unrank(self._order[self._next : self._next + _BLOCK])
            self._next += _BLOCK
            fresh = np.array([key not in self.proposed for key in self.space.keys(genomes)], dtype=np.bool_)
            genomes = genomes[fresh & self.task.feasible(genomes)]
            if len(genomes):
                return genomes
        return np.zeros((0, len(self.space)), dtype=np.int64)
