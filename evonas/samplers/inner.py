"""NSGA-II on a cheap function of genomes, such as predicted objectives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem as PymooProblem
from pymoo.optimize import minimize

from evonas.evaluate import Task
from evonas.operators import GenomeCrossover, GenomeMutation
from evonas.space import FloatArray, IntArray

__all__ = ["evolve"]

_POPULATION = 100
_GENERATIONS = 20


class _Cheap(PymooProblem):
    """A pymoo problem of a vectorised function."""

    def __init__(self, task: Task, values: Callable[[IntArray], FloatArray]) -> None:
        self._task, self._values = task, values
        super().__init__(
            n_var=len(task.space),
            n_obj=len(task.objectives),
            n_ieq_constr=len(task.exact_constraints),
            xl=np.zeros(len(task.space)),
            xu=task.space.n_choices - 1,
            vtype=int,
        )

    def _evaluate(self, x: Any, out: Any, *args: Any, **kwargs: Any) -> None:
        genomes = np.asarray(x, dtype=np.int64)
        out["F"] = self._values(genomes)
        if self._task.exact_constraints:
            out["G"] = self._task.exact_violations(genomes)


def evolve(
    task: Task,
    values: Callable[[IntArray], FloatArray],
    parents: IntArray,
    rng: np.random.Generator,
    *,
    population: int = _POPULATION,
    generations: int = _GENERATIONS,
) -> IntArray:
    """The last population of NSGA-II (Deb et al. 2002) on `values`, shape (m, n_genes), feasible or not.

    Args:
        task: whose space and exact constraints hold.
        values: genomes (n, n_genes) to what is minimised, shape (n, n_objectives).
        parents: genomes to begin with, shape (p, n_genes); mutants of them fill the first population.
        rng: where every random choice comes from.
        population: size of a generation.
        generations: how many.
    """
    mutation = GenomeMutation(task.space)
    mutants = mutation.mutate(parents[rng.integers(len(parents), size=population)], rng)
    first = np.unique(np.concatenate([parents, mutants]), axis=0)
    algorithm = NSGA2(
        pop_size=population,
        sampling=rng.permutation(first)[: 2 * population],
        crossover=GenomeCrossover(task.space),
        mutation=mutation,
    )
    result = minimize(
        _Cheap(task, values), algorithm, ("n_gen", generations), seed=int(rng.integers(2**31)), copy_algorithm=False
    )
    return np.asarray(result.pop.get("X"), dtype=np.int64)
