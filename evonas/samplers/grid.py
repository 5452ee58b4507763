"""Exhaustive search in a fixed order."""

from __future__ import annotations

import numpy as np

from evonas.evaluate import Task
from evonas.samplers.base import Sampler
from evonas.space import IntArray

__all__ = ["GridSampler"]

_BLOCK = 4096


class GridSampler(Sampler):
    """Every genome that meets the exact constraints, in lexicographic order; the seed does not matter."""

    def __init__(self, task: Task, seed: int) -> None:
        super().__init__(task, seed)
        self._next = 0

    def _next_block(self) -> IntArray:
        while self._next < self.space.size:
            stop = min(self._next + _BLOCK, self.space.size)
            genomes = self._decode(self._next, stop)
            self._next = stop
            fresh = np.array([key not in self.proposed for key in self.space.keys(genomes)], dtype=np.bool_)
            genomes = genomes[fresh & self.task.feasible(genomes)]
            if len(genomes):
                return genomes
        return np.zeros((0, len(self.space)), dtype=np.int64)

    def _decode(self, start: int, stop: int) -> IntArray:
        """Genomes number `start` to `stop`; works past the int64 limit too."""
        if self.space.indexable:
            return self.space.unrank(np.arange(start, stop, dtype=np.int64))
        rows = []
        for rank in range(start, stop):
            digits = []
            for count in reversed(self.space.n_choices.tolist()):
                rank, digit = divmod(rank, count)
                digits.append(digit)
            rows.append(digits[::-1])
        return np.array(rows, dtype=np.int64)
