"""What the commands print, and how they stop."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evonas.evaluate import Task
    from evonas.result import Result

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "finish",
    "graceful",
    "introduce",
    "print_details",
    "print_result",
    "progress_kind",
    "results_only",
]

INTERRUPTED = 130
FAILED = 1  # not one evaluation succeeded


def progress_kind(json: bool) -> str:
    """How a search says how far it is: a bar for a person, lines for a file, nothing beside JSON."""
    if sys.stderr.isatty():
        return "bar"
    return "none" if json else "lines"


@contextlib.contextmanager
def graceful(directory: Path, json: bool) -> Iterator[Callable[[], bool]]:
    """Yields whether Ctrl-C was pressed; a second press interrupts at once.

    With `json`, what a user's code prints goes to stderr, so that stdout holds JSON and nothing else.
    """
    pressed = False

    def handler(_number: int, _frame: Any) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping after this evaluation; Ctrl-C again stops at once", file=sys.stderr)

    before = signal.signal(signal.SIGINT, handler)
    try:
        with results_only(json):
            yield lambda: pressed
    except KeyboardInterrupt:
        if (directory / "run.sqlite").exists():
            print(f"stopped; what was evaluated is saved: {resume_hint(directory)}", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def results_only(json: bool) -> contextlib.AbstractContextManager[Any]:
    """With `json`, what a user's code prints goes to stderr."""
    return contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext()


def resume_hint(directory: Path | None) -> str:
    return f"continue with `evonas resume {shlex.quote(str(directory))}`"


def introduce(task: Task, run: str, notes: Sequence[str] = ()) -> None:
    """Print what is about to be searched."""
    from evonas.report import task_lines

    first, *others = task_lines(task)
    print(f"{first}; {run}")
    for line in [*others, *(f"  {line}" for line in (*task.problem.summary(), *notes))]:
        print(line, flush=True)


def finish(result: Result, json: bool) -> int:
    """Print what a run came to, and return the exit code."""
    if result.ended == "interrupted":
        if json:
            print_result(result, range(len(result.front_evaluations)), json)
        print(
            f"stopped after {result.archive.spent} evaluations, all saved; {resume_hint(result.directory)}",
            file=sys.stderr,
        )
        return INTERRUPTED
    print_result(result, range(len(result.front_evaluations)), json)
    if not json:
        more = "" if result.ended == "exhausted" else ", `evonas resume --budget` goes on"
        print(f"saved in {result.directory}; `evonas show` and `evonas plot` read it{more}")
    return FAILED if all(e.status == "failed" for e in result.archive.evaluations) else 0


def print_result(result: Result, indices: Sequence[int], json: bool) -> None:
    """Print these points of the front, and how the run ended."""
    from evonas.report import front_table, print_table, result_json

    if json:
        print(result_json(result, indices))
        return
    archive = result.archive
    failed = sum(evaluation.status == "failed" for evaluation in archive.evaluations)
    ending = ", space exhausted" if result.ended == "exhausted" else ""
    ending += f", {failed} failed" if failed else ""
    ending += f", {charge} more charged for sensitivities" if (charge := result.config.get("charge", 0)) else ""
    print(
        f"{archive.spent} evaluations{ending}; front of {len(archive.front)}, hypervolume {archive.hypervolume():.4f}"
    )
    if failed:
        texts = Counter(e.error for e in archive.evaluations if e.status == "failed")
        text, count = texts.most_common(1)[0]
        print(f"failed {count} time{'s' * (count != 1)}: {text}")
    if stopped := [e for e in archive.evaluations if e.status == "stopped"]:
        most = max(e.values["accuracy"] for e in stopped)
        print(
            f"racing stopped {len(stopped)} of them behind the front, each with 99 % confidence; they are not on it "
            f"(the highest bound on an accuracy is {most:.4f})"
        )
    header, rows = front_table(result, indices)
    if rows:
        print_table(header, rows, sys.stdout)
    if any("≈" in cell for row in rows for cell in row):
        print("≈ cannot be told apart from the point that is best on test: their 95 % intervals overlap")
    if not archive.front:
        print("the front is empty: no evaluation succeeded and met the constraints")
    elif not rows:
        print("no point to show: nothing on the front meets the limits")


def print_details(result: Result, index: int) -> None:
    """Print one point of the front layer by layer."""
    import numpy as np

    from evonas.report import print_table

    genome = np.array(result.pick(index).genome)
    rows = result.problem.details(genome)
    header = list(dict.fromkeys(key for row in rows for key in row))
    cells = [
        [f"{v:.4g}" if isinstance(v, float) else str(v) for v in (row.get(key, "-") for key in header)] for row in rows
    ]
    print_table([key.replace("latency", "latency µs") for key in header], cells, sys.stdout)
    for line in result.problem.remarks(genome):
        print(line)
