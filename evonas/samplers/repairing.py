"""Repair towards the exact constraints of a task."""

from __future__ import annotations

import numpy as np

from evonas.evaluate import Task
from evonas.operators.repair import BudgetRepair

__all__ = ["budget_repair"]


def budget_repair(task: Task, *, ball: int | None = None) -> BudgetRepair:
    """Repair that brings genomes within the exact constraints; `ball` as for `BudgetRepair`.

    Each violation is divided by its limit, so that repair can add them up.
    """
    limits = np.array([abs(constraint.limit) for constraint in task.exact_constraints])
    scale = np.where(limits > 0, limits, 1.0)
    options = {} if ball is None else {"ball": ball}
    return BudgetRepair(task.space, lambda genomes: task.exact_violations(genomes) / scale, **options)
