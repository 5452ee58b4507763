"""Repair: bring a genome into an exact budget in the fewest steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pymoo.core.repair import Repair

from evonas.space import BoolArray, FloatArray, IntArray, SearchSpace

__all__ = ["BudgetRepair"]

_BALL = 20_000  # genomes per repair that are searched exhaustively for the nearest feasible one


class BudgetRepair(Repair):
    """Moves every infeasible genome to a feasible one near it, one step (+-1 on one gene) at a time.

    Up to `ball` genomes around the original are searched in order of distance, so that the result is at the
    fewest steps there are. Farther away the search goes greedily to the steepest descent and then takes back
    every step that was not needed; the result is then feasible, but perhaps a few steps too far. A genome that
    cannot be repaired is left as it was.

    Args:
        space: what the genomes are of.
        violations: genomes (n, n_genes) to how far each is past each budget, shape (n, k); <= 0 is within. The
            columns are compared, so scale them alike.
        ball: the limit on the exhaustive part.
    """

    def __init__(self, space: SearchSpace, violations: Callable[[IntArray], FloatArray], *, ball: int = _BALL) -> None:
        super().__init__()
        self.space = space
        self.violations = violations
        self.ball = ball

    def _do(self, problem: Any, X: Any, *args: Any, **kwargs: Any) -> IntArray:
        return self.repaired(np.asarray(X, dtype=np.int64))

    def repaired(self, genomes: IntArray) -> IntArray:
        """Genomes (n, n_genes) within the budget, wherever one can be reached."""
        result = genomes.copy()
        if len(genomes) == 0:
            return result
        for i in np.flatnonzero(self._excess(genomes) > 0):
            result[i] = self._nearest(genomes[i])
        return result

    def _excess(self, genomes: IntArray) -> FloatArray:
        """Total violation, shape (n,); zero when feasible."""
        total: FloatArray = np.maximum(self.violations(genomes), 0.0).sum(axis=1)
        return total

    def _nearest(self, genome: IntArray) -> IntArray:
        shell, searched = genome[None], 1
        while len(shell):
            downwards, upwards = self._outward(shell, genome, -1), self._outward(shell, genome, 1)
            searched += int(downwards.sum()) + int(upwards.sum())
            if searched > self.ball:
                return self._greedy(genome)
            shell = np.concatenate([_moved(shell, downwards, -1), _moved(shell, upwards, 1)])
            feasible = shell[self._excess(shell) <= 0] if len(shell) else shell
            if len(feasible):
                # the one that uses the budget best; otherwise the first genes would always give way
                slack = -self.violations(feasible).sum(axis=1)
                return np.asarray(feasible[np.lexsort((*feasible.T[::-1], slack))[0]])
        return genome

    def _outward(self, shell: IntArray, centre: IntArray, direction: int) -> BoolArray:
        """Which genes of each genome in `shell` may step on, away from `centre`, shape (m, n_genes).

        Only the last gene that was moved and those after it do, so that no genome is reached twice.
        """
        offsets = shell - centre
        positions = np.arange(len(self.space))
        last = np.where(offsets != 0, positions, 0).max(axis=1, keepdims=True)
        stepped = shell + direction
        inside = (stepped >= 0) & (stepped < self.space.n_choices)
        away: BoolArray = (positions >= last) & inside & (offsets * direction >= 0)
        return away

    def _greedy(self, genome: IntArray) -> IntArray:
        current, excess = genome, float(self._excess(genome[None])[0])
        while excess > 0:
            near = self.space.neighbours(current)
            scores = self._excess(near)
            best = int(scores.argmin())
            if scores[best] >= excess:
                return genome
            current, excess = near[best], float(scores[best])
        return self._taken_back(current, genome)

    def _taken_back(self, current: IntArray, genome: IntArray) -> IntArray:
        """`current` with steps towards `genome` undone while it stays feasible."""
        while True:
            apart = np.flatnonzero(current != genome)
            closer = np.repeat(current[None], len(apart), axis=0)
            closer[np.arange(len(apart)), apart] += np.sign(genome - current)[apart]
            feasible = np.flatnonzero(self._excess(closer) <= 0) if len(apart) else apart
            if len(feasible) == 0:
                return current
            current = closer[feasible[0]]


def _moved(genomes: IntArray, which: BoolArray, direction: int) -> IntArray:
    """One genome for every True in `which` (m, n_genes): that gene of that genome moved by `direction`."""
    rows, genes = np.nonzero(which)
    moved = genomes[rows]
    moved[np.arange(len(rows)), genes] += direction
    return moved
