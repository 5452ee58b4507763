"""What a search returns: every evaluation, the front, and models made from it."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evonas.errors import InvalidArgument
from evonas.evaluate import Evaluation, Task
from evonas.objective import Constraint
from evonas.pareto import Archive
from evonas.problem.base import Estimate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

__all__ = ["FRONT_CSV", "Result"]

_BOOKKEEPING = ("number", "status", "seconds", "failure")  # columns of the frame of evaluations

FRONT_CSV = "front.csv"


class Result:
    """The outcome of a search.

    Args:
        archive: every evaluation made.
        tests: scores of the front on test data, by evaluation number.
        config: what the run was started with: sampler, budget, seed, and all else that the store holds.
        directory: of the run; None when it was kept in memory.
        ended: why the search ended: `budget`, `exhausted` or `interrupted`.
    """

    def __init__(
        self,
        archive: Archive,
        tests: Mapping[int, Mapping[str, Estimate]],
        *,
        config: Mapping[str, Any] | None = None,
        directory: Path | None = None,
        ended: str = "budget",
    ) -> None:
        self.archive = archive
        self.task: Task = archive.task
        self.problem = archive.task.problem
        self.config = config or {}
        self.tests = tests
        self.directory = directory
        self.ended = ended

    @property
    def front_evaluations(self) -> list[Evaluation]:
        """The front, best in the first objective first; the position is the index that `model` takes."""
        front = self.archive.front
        if not front:
            return []
        order = np.lexsort(self.task.minimised(front).T[::-1])
        return [front[int(i)] for i in order]

    @property
    def front(self) -> pd.DataFrame:
        """The front, one row a point, indexed as `model` expects: number, objectives, test scores, choices."""
        return self.frame(self.front_evaluations)

    @property
    def evaluations(self) -> pd.DataFrame:
        """Every evaluation in the order in which it was made, with its status, seconds and why it failed."""
        return self.frame(self.archive.evaluations, everything=True)

    def frame(self, evaluations: Sequence[Evaluation], *, everything: bool = False) -> pd.DataFrame:
        """Evaluations as a table: objectives in users' directions and the choices of every gene."""
        import pandas as pd

        return pd.DataFrame([self.row(evaluation, everything=everything) for evaluation in evaluations])

    def row(self, evaluation: Evaluation, *, everything: bool = False) -> dict[str, Any]:
        """One evaluation as a flat dictionary."""
        names = [objective.name for objective in self.problem.objectives]
        row: dict[str, Any] = {"number": evaluation.number}
        for name in names:
            row[f"objective {name}" if name in _BOOKKEEPING else name] = evaluation.values.get(name, float("nan"))
        if everything:
            row |= {"status": evaluation.status, "seconds": evaluation.seconds, "failure": evaluation.error}
        else:
            for name, estimate in self.tests.get(evaluation.number, {}).items():
                row |= {f"test_{name}": estimate.value, f"test_{name}_low": estimate.low}
                row[f"test_{name}_high"] = estimate.high
        choices = self.problem.space.labels(np.array(evaluation.genome))
        return row | {f"gene {name}" if name in row else name: label for name, label in choices.items()}

    def best(self, objective: str | None = None, **limits: float | str) -> pd.Series[Any]:
        """The row of the front that is best in `objective` (the first one) within limits.

        Limits are keyword arguments such as `size_max="2KiB"`, `latency_max=50`, `accuracy_min=0.9`.

        Raises:
            UnknownName: no such objective.
            InvalidArgument: a limit that is no limit, or no point of the front within them.
        """
        chosen = self.problem.objective(objective) if objective else self.task.objectives[0]
        constraints = [self._limit(name, value) for name, value in limits.items()]
        kept = self.within(constraints)
        if not kept:
            texts = " and ".join(constraint.text for constraint in constraints)
            raise InvalidArgument(f"no point of the front has {texts or 'any values'}; loosen the limits")
        front = self.front_evaluations
        index = min(kept, key=lambda i: chosen.sign * front[i].values[chosen.name])
        return self.front.iloc[index]

    def within(self, constraints: Sequence[Constraint]) -> list[int]:
        """Indices of the points of the front that meet all `constraints`."""
        return [
            index
            for index, evaluation in enumerate(self.front_evaluations)
            if all(c.excess(evaluation.values[c.objective.name]) <= 0 for c in constraints)
        ]

    def _limit(self, name: str, value: float | str) -> Constraint:
        base, _, side = name.rpartition("_")
        if side not in ("min", "max"):
            raise InvalidArgument(f"limit `{name}` must end in _min or _max, such as size_max")
        objective = self.problem.objective(base)
        limit = objective.parse(value) if isinstance(value, str) else float(value)
        return Constraint(objective, limit, at_least=side == "min")

    def pick(self, index: int) -> Evaluation:
        """Point `index` of the front.

        Raises:
            InvalidArgument: there is no such point.
        """
        front = self.front_evaluations
        if not front:
            raise InvalidArgument("the front is empty; no evaluation succeeded and met the constraints")
        if not 0 <= index < len(front):
            raise InvalidArgument(f"the front has points 0 to {len(front) - 1}, got {index}")
        return front[index]

    def model(self, index: int) -> nn.Module:
        """A stand-alone module of point `index` of the front; it scores what was recorded."""
        return self.problem.model(np.array(self.pick(index).genome))

    def plot(self, directory: Path | str | None = None) -> dict[str, Figure]:
        """The figures of this result by name; also saved as PNG and SVG when `directory` is given."""
        from evonas.plots import figures

        return figures(self, None if directory is None else Path(directory))

    def write_front(self, path: Path) -> None:
        """The front as CSV, one row a point; written whole or not at all."""
        rows = [self.row(evaluation) for evaluation in self.front_evaluations]
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        with partial.open("w", newline="", encoding="utf-8") as file:
            if rows:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        partial.replace(path)
