"""The evaluations of a result as arrays to draw, and the point in the middle of its front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evonas.evaluate import Evaluation, Task
from evonas.plots.scale import Scale, finite
from evonas.plots.style import clean
from evonas.space import FloatArray, IntArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evonas.result import Result

__all__ = ["Points", "counted", "knee", "limits_of", "scales"]


@dataclass(frozen=True)
class Points:
    """All evaluations of a result, n of them, in the order in which they were made.

    Args:
        values: of the task's objectives, in users' directions, NaN where not known, shape (n, k).
        status: what became of each: `front`, `dominated`, `violating`, `failed` or `infeasible`, shape (n,).
        front: rows of the front, best in the first objective first, shape (n_front,).
        tests: value, lower and upper end of the test estimate of each point of the front, NaN where there is
            none, shape (n_front, k, 3).
    """

    values: FloatArray
    status: NDArray[np.str_]
    front: IntArray
    tests: FloatArray

    @classmethod
    def of(cls, result: Result) -> Points:
        """The evaluations of `result`."""
        evaluations, objectives = result.archive.evaluations, result.task.objectives
        rows = [[e.values.get(o.name, np.nan) for o in objectives] for e in evaluations]
        values = finite(np.array(rows, dtype=np.float64).reshape(len(rows), len(objectives)))
        front = result.front_evaluations
        on_front = {evaluation.number for evaluation in front}
        status = np.array([_status(result.task, e, e.number in on_front) for e in evaluations], dtype="U10")
        row_of = {evaluation.number: row for row, evaluation in enumerate(evaluations)}
        tests = np.full((len(front), len(objectives), 3), np.nan)
        for i, evaluation in enumerate(front):
            for j, objective in enumerate(objectives):
                estimate = result.tests.get(evaluation.number, {}).get(objective.name)
                if estimate is not None:
                    tests[i, j] = estimate.value, estimate.low, estimate.high
        return cls(values, status, np.array([row_of[e.number] for e in front], dtype=np.int64), finite(tests))

    def of_status(self, status: str) -> FloatArray:
        """Values of the evaluations of one status, shape (m, k)."""
        found: FloatArray = self.values[self.status == status]
        return found


def _status(task: Task, evaluation: Evaluation, on_front: bool) -> str:
    if evaluation.status != "ok":
        return evaluation.status
    if on_front:
        return "front"
    return "violating" if (task.violations([evaluation]) > 0).any() else "dominated"


def scales(result: Result, points: Points) -> list[Scale]:
    """One scale per objective of the task."""
    return [
        Scale.of(
            objective,
            np.concatenate([points.values[:, column], points.tests[:, column].ravel()]),
            [c.limit for c in result.task.constraints if c.objective.name == objective.name],
        )
        for column, objective in enumerate(result.task.objectives)
    ]


def knee(result: Result) -> int:
    """Index of the point of the front that is nearest to its ideal corner.

    Every objective is scaled to 0 (best on the front) to 1 (worst on it); distance is Euclidean; the first of
    equals. 0 when the front is empty or has no finite point.
    """
    values = finite(result.task.minimised(result.front_evaluations))
    values = values[:, ~np.isnan(values).all(axis=0)] if len(values) else values
    if values.size == 0:
        return 0
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    distances = np.sqrt((np.where(np.isnan(scaled), 2.0, scaled) ** 2).sum(axis=1))
    return int(distances.argmin())


def counted(result: Result) -> str:
    """`200 distinct evaluations`, with those that failed when there are any."""
    spent = result.archive.spent
    failed = sum(evaluation.status == "failed" for evaluation in result.archive.evaluations)
    text = f"{spent:,} distinct evaluation{'' if spent == 1 else 's'}"
    return f"{text}, {failed:,} of them failed" if failed else text


def limits_of(result: Result) -> list[str]:
    """The constraints for a note under a title; empty when there are none."""
    texts = [clean(constraint.text.replace("<=", "≤").replace(">=", "≥"), 60) for constraint in result.task.constraints]
    return [f"limits: {', '.join(texts)}"] if texts else []
