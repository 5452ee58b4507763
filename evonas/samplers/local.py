"""Pareto local search, and the greedy path along sensitivities per cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evonas.evaluate import Evaluation, Task
from evonas.pareto import Archive
from evonas.problem.base import Sensitivities
from evonas.samplers.base import Sampler
from evonas.samplers.paths import greedy_path
from evonas.space import IntArray

__all__ = ["GreedySampler", "LocalSampler"]


class LocalSampler(Sampler):
    """Pareto local search (Paquete, Chiarandini and Stuetzle 2004, doi:10.1007/978-3-642-17144-4_7).

    Proposes the whole neighbourhood of a front member, one member after the other in random order; when the
    neighbourhoods of all of them are known, goes on from a random genome.
    """

    def __init__(self, task: Task, seed: int) -> None:
        super().__init__(task, seed)
        self._archive = Archive(task)
        self._explored: set[tuple[int, ...]] = set()

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from evaluations, in any order."""
        for evaluation in evaluations:
            self._archive.add(evaluation)

    @property
    def _waiting(self) -> bool:
        return len(self._archive) < len(self.proposed)

    def _next_block(self) -> IntArray:
        while members := [e.genome for e in self._archive.front if e.genome not in self._explored]:
            member = members[int(self.rng.integers(len(members)))]
            self._explored.add(member)
            fresh = self._fresh(self.space.neighbours(np.array(member, dtype=np.int64)))
            if len(fresh):
                return self.rng.permutation(fresh)
        if self._waiting:
            return np.zeros((0, len(self.space)), dtype=np.int64)
        return self._random_genomes(1)


class GreedySampler(LocalSampler):
    """The path from the highest choices to the lowest, each step lowering the gene that gains most cost for its harm.

    Sensitivities come from the problem, charged, or else from evaluating every gene alone at each of its choices (a
    one-at-a-time analysis). The path is proposed from coarse to fine; after it, Pareto local search takes over.
    """

    def __init__(self, task: Task, seed: int) -> None:
        super().__init__(task, seed)
        self._sensitivities = task.problem.sensitivities()
        self.charge = 0.0 if self._sensitivities is None else self._sensitivities.cost
        self._stage = 0 if self._sensitivities is None else 1
        self._told: dict[bytes, Evaluation] = {}

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from evaluations, in any order."""
        super().tell(evaluations)
        for evaluation in evaluations if self._stage < 2 else ():
            self._told[np.array(evaluation.genome, dtype=np.int64).tobytes()] = evaluation

    def _next_block(self) -> IntArray:
        if self._stage == 0:
            self._stage = 1
            block = self._fresh(self._one_at_a_time())
            if len(block):
                return block
        if self._stage == 1:
            if self._waiting:
                return np.zeros((0, len(self.space)), dtype=np.int64)
            self._stage = 2
            path = greedy_path(self.task, self._sensitivities or self._measured())
            block = self._fresh(path[_coarse_to_fine(len(path))])
            if len(block):
                return block
        return super()._next_block()

    def _one_at_a_time(self) -> IntArray:
        """The highest genome, and every gene alone at each lower choice, gene by gene."""
        top = self.space.n_choices - 1
        genomes = [top]
        for gene, count in enumerate(top):
            for choice in range(count):
                genomes.append(top.copy())
                genomes[-1][gene] = choice
        return np.array(genomes)

    def _measured(self) -> Sensitivities:
        """How much worse each genome of the analysis is, the mean of all measured objectives on their ranges."""
        genomes = self._one_at_a_time()
        values = np.full((len(self.space), int(self.space.n_choices.max())), np.nan)
        told = [self._told.get(key) for key in self.space.keys(genomes)]
        measured = [objective for objective in self.task.objectives if not objective.exact]
        scores = np.array(
            [
                [o.sign * e.values[o.name] for o in measured] if e and e.status == "ok" else [np.nan] * len(measured)
                for e in told
            ]
        )
        if len(measured) == 0 or not np.isfinite(scores[0]).all():
            return Sensitivities(np.where(np.arange(values.shape[1]) < self.space.n_choices[:, None], 0.0, np.nan), 0.0)
        span = np.nanmax(scores, axis=0) - np.nanmin(scores, axis=0)
        harm = ((scores - scores[0]) / np.where(span > 0, span, 1.0)).mean(axis=1)
        row = 1
        for gene, count in enumerate(self.space.n_choices - 1):
            values[gene, :count] = np.where(np.isnan(harm[row : row + count]), 1.0, harm[row : row + count])
            values[gene, count] = 0.0
            row += int(count)
        return Sensitivities(values, 0.0)


def _coarse_to_fine(n: int) -> IntArray:
    """0 to n - 1, ends first and then always the middles of what is left, as the van der Corput sequence does."""
    order = [0, n - 1]
    step = n
    while step > 1:
        order += [round(position) for position in np.arange(step / 2, n - 1, step)]
        step = -(-step // 2)
    order += range(n)
    return np.array(list(dict.fromkeys(order)), dtype=np.int64)[:n] if n > 1 else np.zeros(1, dtype=np.int64)
