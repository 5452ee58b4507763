"""Tables of a result: for a terminal, as plain lines, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from evonas.evaluate import Task
from evonas.objective import Objective
from evonas.result import Result

__all__ = ["front_table", "print_table", "result_json", "task_lines"]


def task_lines(task: Task) -> list[str]:
    """What is searched, in a few lines: space, objectives, constraints, and what was left out."""
    problem = task.problem
    lines = [f"{problem.name}: {problem.space.summary}"]
    lines += [_objective_line(objective) for objective in task.objectives]
    lines += [f"  constraint {constraint.text}" for constraint in task.constraints]
    lines += [
        f"  {objective.name} is {objective.format(value)} for every genome; left out of the front"
        for objective, value in task.dropped
    ]
    return lines


def _objective_line(objective: Objective) -> str:
    direction = "maximise" if objective.maximise else "minimise"
    source = "exact" if objective.exact else "measured"
    return f"  {direction} {objective.name} ({source}{': ' + objective.note if objective.note else ''})"


def front_table(result: Result, indices: Sequence[int]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the front's points `indices`, as text: objectives, test scores, short configuration."""
    task, front = result.task, result.front_evaluations
    tested = sorted({name for scores in result.tests.values() for name in scores})
    header = ["#"]
    header += [f"{objective.name} {'↑' if objective.maximise else '↓'}" for objective in task.objectives]
    header += [f"test {name} [95 %]" for name in tested]
    header += ["configuration"]
    close = indistinguishable(result)
    rows = []
    for index in indices:
        evaluation = front[index]
        row = [str(index)]
        row += [objective.format(evaluation.values[objective.name]) for objective in task.objectives]
        for name in tested:
            estimate = result.tests.get(evaluation.number, {}).get(name)
            mark = " ≈" if index in close else ""
            row.append(f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]{mark}" if estimate else "-")
        rows.append([*row, result.problem.describe(np.array(evaluation.genome))])
    return header, rows


def indistinguishable(result: Result) -> set[int]:
    """Points of the front whose test interval overlaps that of the point that is best on test, itself included."""
    scores = {
        index: next(iter(result.tests[evaluation.number].items()))
        for index, evaluation in enumerate(result.front_evaluations)
        if result.tests.get(evaluation.number)
    }
    if not scores:
        return set()
    maximise = result.problem.objective(next(iter(scores.values()))[0]).maximise
    best = max(scores.values(), key=lambda item: item[1].value if maximise else -item[1].value)[1]
    return {index for index, (_, e) in scores.items() if e.high >= best.low and e.low <= best.high}


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """A table: boxed on a terminal, aligned plain lines elsewhere."""
    if out.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD)
        for i, name in enumerate(header):
            table.add_column(name, justify="left" if i == len(header) - 1 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        Console(file=out).print(table, markup=False)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for cells in (header, *rows):
        padded = [cell.rjust(width) for cell, width in zip(cells[:-1], widths[:-1], strict=True)]
        print("  ".join([*padded, cells[-1]]), file=out)


def result_json(result: Result, indices: Sequence[int]) -> str:
    """A result as JSON: configuration, objectives, and the points `indices` of the front."""
    task, front = result.task, result.front_evaluations
    points = []
    for index in indices:
        evaluation = front[index]
        tests = result.tests.get(evaluation.number, {})
        points.append(
            {
                "index": index,
                "number": evaluation.number,
                "values": dict(evaluation.values),
                "test": {name: [e.value, e.low, e.high] for name, e in tests.items()},
                "choices": result.problem.space.labels(np.array(evaluation.genome)),
                "configuration": result.problem.describe(np.array(evaluation.genome)),
            }
        )
    content = {
        **{key: result.config.get(key) for key in ("problem", "sampler", "budget", "seed")},
        "spent": result.archive.spent,
        "charged": result.config.get("charge", 0),
        "failed": sum(e.status == "failed" for e in result.archive.evaluations),
        "stopped": sum(e.status == "stopped" for e in result.archive.evaluations),
        "ended": result.ended,
        "directory": None if result.directory is None else str(result.directory),
        "objectives": [
            {"name": o.name, "unit": o.unit, "direction": "max" if o.maximise else "min", "exact": o.exact}
            for o in task.objectives
        ],
        "left_out": {objective.name: value for objective, value in task.dropped},
        "constraints": [constraint.text for constraint in task.constraints],
        "hypervolume": result.archive.hypervolume(),
        "front": points,
    }
    return json.dumps(_finite(content), indent=2, ensure_ascii=False)


def _finite(value: Any) -> Any:
    """`value` with what JSON cannot hold (NaN, infinities) as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
