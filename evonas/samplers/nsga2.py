"""NSGA-II (Deb et al. 2002, doi:10.1109/4235.996017): pymoo's algorithm with our operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.evaluator import Evaluator
from pymoo.core.population import Population
from pymoo.core.problem import Problem as PymooProblem
from pymoo.core.termination import NoTermination
from pymoo.problems.static import StaticProblem

from evonas.evaluate import Evaluation, Task
from evonas.operators import GenomeCrossover, GenomeDuplicates, GenomeMutation
from evonas.samplers.base import Sampler
from evonas.samplers.paths import spread
from evonas.samplers.repairing import budget_repair
from evonas.space import IntArray

__all__ = ["Nsga2Sampler"]

_KNOWN = ("ok", "stopped")  # statuses with a value, or an estimate of it, for every objective
POPULATION = 16  # of 10 to 100, the best on digits-ptq at 200 and 400 evaluations


class Nsga2Sampler(Sampler):
    """pymoo's NSGA-II, asked a generation at a time.

    The first generation is spread over the costs, from the largest network to the smallest. Measured constraints go to
    pymoo's constraint handling (feasibility first); exact ones are met by repair before anything is proposed. Failed
    evaluations are left out of the population. One that racing stopped is in it with its accuracy on the samples that
    were validated, which is behind the front; its bound would flatter it. When mating finds nothing new, random genomes
    fill the generation, so that a finite space is searched to its end.

    Args:
        task: what is searched.
        seed: of every random choice.
        population: size of a generation.
    """

    def __init__(self, task: Task, seed: int, *, population: int = POPULATION) -> None:
        super().__init__(task, seed)
        self.population = population
        self._generation: dict[bytes, Any] = {}
        self._told: dict[bytes, Evaluation] = {}
        repair = budget_repair(task) if task.exact_constraints else None
        self._problem = PymooProblem(
            n_var=len(self.space),
            n_obj=len(task.objectives),
            n_ieq_constr=len(task.measured_constraints),
            xl=np.zeros(len(self.space)),
            xu=self.space.n_choices - 1,
            vtype=int,
        )
        self._algorithm = self._make(
            sampling=self._completed(spread(task, population, self.rng), population),
            crossover=GenomeCrossover(self.space),
            mutation=GenomeMutation(self.space),
            repair=repair,
            eliminate_duplicates=GenomeDuplicates(self.space),
        )
        self._algorithm.setup(self._problem, termination=NoTermination(), seed=int(self.rng.integers(2**31)))

    def _make(self, **operators: Any) -> Any:
        """The pymoo algorithm with these operators."""
        return NSGA2(pop_size=self.population, **operators)

    @property
    def _waiting(self) -> bool:
        return bool(self._generation)

    def _next_block(self) -> IntArray:
        if self._waiting:
            return np.zeros((0, len(self.space)), dtype=np.int64)  # the generation is not all told yet
        infills = self._algorithm.ask()
        self._algorithm.termination.force_termination = False  # pymoo gives up when mating finds nothing new
        bred = [] if infills is None else [(np.asarray(ind.X, dtype=np.int64), ind) for ind in infills]
        for genome, individual in bred:
            if genome.tobytes() not in self.proposed and self.task.feasible(genome[None])[0]:
                self._generation[genome.tobytes()] = individual
        missing = self.population - len(self._generation)
        for genome in self._random_genomes(missing, self._generation):
            self._generation[genome.tobytes()] = Population.new("X", genome[None])[0]
        keys = b"".join(self._generation)
        return np.frombuffer(keys, dtype=np.int64).reshape(len(self._generation), len(self.space)).copy()

    def begin_with(self, genomes: IntArray) -> None:
        """The first generation is `genomes` (n, n_genes)."""
        super().begin_with(genomes)
        self._generation = {genome.tobytes(): Population.new("X", genome[None])[0] for genome in genomes}

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn; a generation takes effect when all of it has been told."""
        for evaluation in evaluations:
            key = np.array(evaluation.genome, dtype=np.int64).tobytes()
            if key in self._generation:
                self._told[key] = evaluation
        if self._generation and len(self._told) == len(self._generation):
            self._advance()

    def _advance(self) -> None:
        told = [(self._generation[key], self._told[key]) for key in self._generation]
        ok = [(individual, evaluation) for individual, evaluation in told if evaluation.status in _KNOWN]
        self._generation, self._told = {}, {}
        if not ok:
            return  # nothing was learnt; before the first success this means another random generation
        evaluated = [_estimated(evaluation) for _, evaluation in ok]
        values = {"F": self.task.minimised(evaluated)}
        if self.task.measured_constraints:
            values["G"] = self.task.violations(evaluated)
        population = Population.create(*[individual for individual, _ in ok])
        Evaluator().eval(StaticProblem(self._problem, **values), population)
        self._algorithm.tell(infills=population)


def _estimated(evaluation: Evaluation) -> Evaluation:
    """`evaluation` with what is most likely in place of a bound."""
    if evaluation.status != "stopped":
        return evaluation
    return replace(evaluation, values={**evaluation.values, "accuracy": evaluation.values["seen"]})
