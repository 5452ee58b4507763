"""Domination, hypervolume, and the archive of every evaluation ever made. All values are minimised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import moocore
import numpy as np

from evonas.evaluate import Evaluation, Task
from evonas.space import BoolArray, FloatArray

__all__ = ["Archive", "Verdict", "hypervolume", "non_dominated", "reference_box"]

Verdict = Literal["front", "dominated", "violating", "failed", "infeasible", "stopped"]


def non_dominated(values: FloatArray) -> BoolArray:
    """Which rows of `values`, shape (n, k), no other row dominates, shape (n,); equal rows all stay."""
    if len(values) == 0:
        return np.zeros(0, dtype=np.bool_)
    if values.shape[1] == 1:
        lowest: BoolArray = values[:, 0] == values.min()
        return lowest
    kept: BoolArray = moocore.is_nondominated(values, keep_weakly=True)
    return kept


def hypervolume(values: FloatArray, lower: FloatArray, upper: FloatArray) -> float:
    """Share of the box from `lower` to `upper`, each (k,), that `values`, shape (n, k), dominate; 0 to 1.

    Zitzler and Thiele 1998, computed by moocore. A box without extent in some objective has that one left out.
    """
    wide = upper > lower
    if not wide.any() or len(values) == 0:
        return 0.0
    scaled = np.clip((values[:, wide] - lower[wide]) / (upper[wide] - lower[wide]), 0.0, 1.0)
    if scaled.shape[1] == 1:
        return float(1.0 - scaled.min())
    return float(moocore.hypervolume(scaled, ref=np.ones(scaled.shape[1])))


def reference_box(task: Task, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The box in which hypervolume is measured, lower and upper corner, each (n_objectives,).

    An objective with known bounds (an accuracy), or an exact one, whose range over the space is known, takes
    those; the range of `values`, shape (n, n_objectives), stands in for any other.
    """
    lower, upper = np.zeros(len(task.objectives)), np.zeros(len(task.objectives))
    for column, objective in enumerate(task.objectives):
        if objective.name in task.bounds.lowest:
            ends = (task.bounds.lowest[objective.name], task.bounds.highest[objective.name])
        elif objective.bounds is not None:
            ends = objective.bounds
        elif len(values):
            lower[column], upper[column] = values[:, column].min(), values[:, column].max()
            continue
        else:
            continue
        lower[column], upper[column] = sorted(objective.sign * end for end in ends)
    return lower, upper


class Archive:
    """Every evaluation of a run, in order; the front is a view of it.

    Args:
        task: whose objectives and constraints decide.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.evaluations: list[Evaluation] = []
        self._front: list[Evaluation] = []
        self._front_values = np.zeros((0, len(task.objectives)))

    def __len__(self) -> int:
        return len(self.evaluations)

    @property
    def front(self) -> list[Evaluation]:
        """The non-dominated evaluations that meet every constraint, in the order in which they were made."""
        return sorted(self._front, key=lambda evaluation: evaluation.number)

    @property
    def spent(self) -> int:
        """Evaluations that cost something: all but the infeasible."""
        return sum(evaluation.status != "infeasible" for evaluation in self.evaluations)

    def add(self, evaluation: Evaluation) -> Verdict:
        """Keep `evaluation` and say what became of it."""
        self.evaluations.append(evaluation)
        if evaluation.status != "ok":
            return evaluation.status
        if (self.task.violations([evaluation]) > 0).any():
            return "violating"
        values = self.task.minimised([evaluation])
        known = self._front_values
        at_most, below = (known <= values).all(axis=1), (known < values).any(axis=1)
        if (at_most & below).any():
            return "dominated"
        beaten = np.atleast_1d((values <= known).all(axis=1) & (values < known).any(axis=1))
        self._front = [kept for kept, lost in zip(self._front, beaten, strict=True) if not lost] + [evaluation]
        self._front_values = np.concatenate([known[~beaten], values])
        return "front"

    def bar(self) -> Callable[[Mapping[str, float]], float | None]:
        """What a candidate must reach, given its exact values, as the front is now; it stays so.

        That is the best measured value on the front among points that are as good in every exact objective: a
        candidate whose measured value is worse is dominated, and stays so. None when no such point is there, and
        whatever is measured may reach the front. For tasks with one measured objective.
        """
        goals, front = self.task.objectives, self._front_values
        exact = [column for column, goal in enumerate(goals) if goal.exact]
        (measured,) = set(range(len(goals))) - set(exact)

        def reached(values: Mapping[str, float]) -> float | None:
            mine = np.array([goals[column].sign * values[goals[column].name] for column in exact])
            as_good = (front[:, exact] <= mine).all(axis=1)
            return goals[measured].sign * float(front[as_good, measured].min()) if as_good.any() else None

        return reached

    def hypervolume(self) -> float:
        """Share of the reference box that the front dominates, 0 to 1."""
        ok = [evaluation for evaluation in self.evaluations if evaluation.status == "ok"]
        return hypervolume(self._front_values, *reference_box(self.task, self.task.minimised(ok)))
