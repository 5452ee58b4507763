"""`evonas search --config FILE`: what a run file says, under what the command line says."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from evonas.errors import InvalidArgument

if TYPE_CHECKING:
    from evonas.config import Metric, RunFile
    from evonas.problem import Problem
    from evonas.result import Result

__all__ = ["Given", "best_trials", "given"]

_SOFTWARE = ("accuracy", "loss")


@dataclass(frozen=True)
class Given:
    """The command line of `search`, filled up from a run file."""

    problem: str
    sampler: str
    budget: int
    seed: int
    objectives: Sequence[str] | None
    out: Path | None
    figures: bool
    racing: bool
    file: RunFile

    def load(self, texts: Sequence[str]) -> Problem:
        """The problem, with options from the command line (`key=value`) over those of the file."""
        from evonas.problems import load, parse_options

        options = parse_options(self.problem, [f"{key}={value}" for key, value in self.file.options.items()])
        options |= parse_options(self.problem, texts)
        if self.file.rules:
            options |= {"genes": self.file.rules, "channels": self.file.channels}
        return load(self.problem, options)

    def stop(self, interrupted: Callable[[], bool]) -> Callable[[], bool]:
        """True once interrupted, or when the file's time is over."""
        end = time.monotonic() + (self.file.timeout or float("inf"))
        return lambda: interrupted() or time.monotonic() > end


def given(context: typer.Context, config: Path | None, problem: str | None, values: Mapping[str, Any]) -> Given:
    """`values` of the command line, those left at their defaults replaced by what the file at `config` says.

    Raises:
        EvonasError: a file that cannot be used, or no problem anywhere.
    """
    from evonas.config import RunFile
    from evonas.config_labs import read_run_file

    file = RunFile() if config is None else read_run_file(config)
    name = problem or file.problem
    if name is None:
        raise InvalidArgument("Missing argument 'PROBLEM'. See `evonas search --help`.")
    merged = dict(values)
    for key in values:
        source = context.get_parameter_source(key)
        said = getattr(file, key)
        if said is not None and (source is None or source.name.startswith("DEFAULT")):
            merged[key] = Path(said) if key == "out" else said
    if isinstance(merged["objectives"], str):
        merged["objectives"] = [part.strip() for part in merged["objectives"].split(",") if part.strip()]
    return Given(name, file=file, **merged)


def best_trials(result: Result, file: RunFile) -> None:
    """Print the front as the labs' table: number, software_metrics, hardware_metrics, scaled_metrics.

    With `sum_scaled_metrics` only the trial of the best sum of all: it is not on the front where a weight goes against
    its objective.
    """
    from evonas.report import print_table

    trials = list(result.front_evaluations)
    if file.total is not None and trials:
        best = max if file.total == "maximize" else min
        scored = [trial for trial in result.archive.evaluations if trial.status == "ok"]
        over = result.task.violations(scored)
        meeting = [trial for trial, excess in zip(scored, over, strict=True) if (excess <= 0).all()]
        trials = [best(meeting, key=lambda trial: sum(_scaled(trial.values, file.metrics).values()))]
    rows = []
    for trial in trials:
        values = {metric.name: trial.values[metric.name] for metric in file.metrics}
        parts = [{k: v for k, v in values.items() if (k in _SOFTWARE) is software} for software in (True, False)]
        rows.append([str(trial.number), *(_text(part) for part in (*parts, _scaled(values, file.metrics)))])
    print("Best trial(s):")
    print_table(["number", "software_metrics", "hardware_metrics", "scaled_metrics"], rows, sys.stdout)


def _scaled(values: Mapping[str, float], metrics: Sequence[Metric]) -> dict[str, float]:
    return {metric.name: metric.scale * values[metric.name] for metric in metrics}


def _text(values: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"'{name}': {value:.4g}" for name, value in values.items()) + "}"
