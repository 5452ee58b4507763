"""The search: ask, evaluate, record, tell, until the budget is spent or the space is exhausted.

Everything that decides is a function of the configuration, so a run resumes by replaying its sampler from the seed
and feeding it the recorded evaluations until they run out.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import itertools
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import evonas
from evonas.errors import EvonasError, InvalidArgument, RunError
from evonas.evaluate import Evaluation, Evaluator, Task
from evonas.objective import Constraint
from evonas.pareto import Archive
from evonas.problem.base import Problem
from evonas.problems import load
from evonas.progress import Progress
from evonas.result import FRONT_CSV, Result
from evonas.samplers import make_sampler, sampler_name
from evonas.store import Store

__all__ = ["load_result", "resume", "search"]

_CONFIGURED = ("problem", "fingerprint", "sampler", "budget", "seed", "objectives", "at_most", "at_least", "ended")
_ASKED = 64  # genomes asked for at a time; no result depends on it
_RACING = 16  # the same of races, of which results do: these meet the front of the moment in which they were asked for
_SEEDS = 2**63


def search(
    problem: Problem | str,
    *,
    sampler: str = "nsga2",
    budget: int = 400,
    seed: int = 0,
    objectives: Sequence[str] | None = None,
    at_most: Mapping[str, float | str] | None = None,
    at_least: Mapping[str, float | str] | None = None,
    out: Path | str | None = None,
    racing: bool = False,
    figures: bool = True,
    progress: str | None = None,
    started: Callable[[Task], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Result:
    """Search a problem for its Pareto front.

    Args:
        problem: a `Problem`, or the name of one that ships with evonas, or `FILE.py:VARIABLE`.
        sampler: `nsga2`, `random` or `grid`.
        budget: distinct evaluations to spend; met exactly unless the space has fewer genomes.
        seed: of the sampler; the same seed gives the same run.
        objectives: names; the problem's defaults when None.
        at_most: limits such as `{"size": "2KiB"}`, on any objective of the problem.
        at_least: likewise, such as `{"accuracy": 0.9}`.
        out: directory for the run, its tables and figures; in memory when None.
        racing: whether a candidate's validation stops once it cannot reach the front, with 99 % confidence. The
            other objectives must be exact.
        figures: whether figures are drawn into `out`.
        progress: `bar`, `lines` or `none`; when None, a bar if stderr is a terminal.
        started: called once with the task, when everything has been checked and before the first evaluation.
        stop: asked after every evaluation; True ends the search early, to be resumed later.

    Raises:
        EvonasError: anything about the arguments that cannot be.
    """
    found = load(problem) if isinstance(problem, str) else problem
    if not isinstance(found, Problem):
        raise InvalidArgument(f"`problem` must be a Problem or the name of one, got {type(problem).__name__}")
    if not isinstance(sampler, str):
        raise InvalidArgument(f"`sampler` must be a name, got {type(sampler).__name__}")
    if isinstance(objectives, str):
        raise InvalidArgument(f"`objectives` must be a list of names, got the text `{objectives}`")
    config = {
        "problem": {"spec": found.spec, "name": found.name, "options": dict(found.options)},
        "fingerprint": found.fingerprint,
        "sampler": sampler_name(sampler),
        "budget": _at_least_one("budget", budget),
        "seed": _seed(seed),
        "objectives": list(found.default_objectives if objectives is None else objectives),
        "at_most": {name: _limit(found, name, value) for name, value in (at_most or {}).items()},
        "at_least": {name: _limit(found, name, value) for name, value in (at_least or {}).items()},
        "racing": bool(racing),
        "versions": _versions(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "ended": None,
    }
    task = _task(found, config)
    if racing:
        _require_raceable(task)
    store = Store.memory(config) if out is None else Store.create(Path(out), config)
    try:
        return _run(task, store, [], figures=figures, progress=progress, started=started, stop=stop)
    except EvonasError:
        if not store.evaluations():
            store.discard()
        raise
    finally:
        store.close()


def resume(
    directory: Path | str,
    problem: Problem | None = None,
    *,
    budget: int | None = None,
    figures: bool = True,
    progress: str | None = None,
    started: Callable[[Task], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Result:
    """Continue the run in `directory` to the end of its budget, or of a larger one.

    Args:
        directory: of the run.
        problem: needed when the run was started on a problem object rather than by name.
        budget: a new budget, at least what was spent; the run's own when None.
        figures: whether figures are drawn.
        progress: as in `search`.
        started: as in `search`.
        stop: as in `search`.

    Raises:
        EvonasError: no run there, another problem, or a budget below what was spent.
    """
    with Store.open(Path(directory), writing=True) as store:
        config = store.config
        task = _task(_problem(config, Path(directory), problem), config)
        recorded = _recorded(store)
        if budget is not None:
            spent = sum(evaluation.status != "infeasible" for evaluation in recorded)
            if _at_least_one("budget", budget) < spent:
                raise InvalidArgument(f"`budget` is {budget}, but {spent} evaluations are spent already; give more")
            store.update_config("budget", int(budget))
        return _run(task, store, recorded, figures=figures, progress=progress, started=started, stop=stop)


def load_result(directory: Path | str, problem: Problem | None = None) -> Result:
    """The result of the run in `directory` so far; nothing is evaluated, and the run may be in progress.

    Raises:
        EvonasError: no run there, or another problem.
    """
    with Store.open(Path(directory)) as store:
        config = store.config
        archive = Archive(_task(_problem(config, Path(directory), problem), config))
        for evaluation in _recorded(store):
            archive.add(evaluation)
        archive.task.problem.keep_in(Path(directory))
        return Result(
            archive, store.tests(), config=config, directory=Path(directory), ended=config["ended"] or "interrupted"
        )


def _run(
    task: Task,
    store: Store,
    recorded: Sequence[Evaluation],
    *,
    figures: bool,
    progress: str | None,
    started: Callable[[Task], None] | None,
    stop: Callable[[], bool] | None,
) -> Result:
    """Replay what is recorded, evaluate the rest of the budget, score the front on test, write the reports."""
    config = store.config
    if store.directory is not None:
        task.problem.keep_in(store.directory)
    if started is not None:
        started(task)
    sampler = make_sampler(config["sampler"], task, config["seed"])
    archive = Archive(task)
    charge = math.ceil(sampler.charge)
    budget = max(1, config["budget"] - charge)
    replay, ended = list(recorded), "budget"
    racing = config.get("racing", False)
    with Progress(budget, progress) as shown:
        evaluated = Evaluator(task, shown.preparing)
        while ended == "budget" and archive.spent < budget:
            genomes = sampler.ask(min(_RACING if racing else _ASKED, budget - archive.spent))
            if len(genomes) == 0:
                ended = "exhausted"
            bar = archive.bar() if racing else None  # before any of them is known, recorded or not
            old = [_replayed(*pair) for pair in zip(replay[len(archive) :], genomes, strict=False)]
            for evaluation in itertools.chain(old, evaluated(genomes[len(old) :], len(archive) + len(old), bar)):
                if evaluation.number >= len(replay):
                    store.append([evaluation])
                archive.add(evaluation)
                sampler.tell([evaluation])
                shown.update(archive)
                replaying = len(archive) < len(replay)
                if stop is not None and not replaying and stop() and archive.spent < budget:
                    ended = "interrupted"
                    break
    if len(archive) < len(replay):
        raise _diverged(len(archive))
    store.update_config("ended", ended)
    store.update_config("charge", charge)
    result = Result(archive, store.tests(), config=store.config, directory=store.directory, ended=ended)
    if ended != "interrupted":
        result.tests = {e.number: task.problem.test(np.array(e.genome)) for e in archive.front}
        store.set_tests(result.tests)
    if store.directory is not None:
        result.write_front(store.directory / FRONT_CSV)
        if figures and ended != "interrupted" and archive.front:
            result.plot(store.directory)
    return result


def _recorded(store: Store) -> list[Evaluation]:
    """The evaluations of a run, checked to be all there."""
    found = store.evaluations()
    if [evaluation.number for evaluation in found] != list(range(len(found))):
        raise store.damaged("evaluations are missing")
    return found


def _replayed(evaluation: Evaluation, genome: np.ndarray) -> Evaluation:
    if evaluation.genome != tuple(genome.tolist()):
        raise _diverged(evaluation.number)
    return evaluation


def _diverged(number: int) -> RunError:
    return RunError(
        f"the run cannot be continued: the sampler no longer proposes what evaluation {number} recorded. "
        "Install the versions in the run's configuration, or start a new run"
    )


def _task(problem: Problem, config: Mapping[str, Any]) -> Task:
    constraints = [
        Constraint(problem.objective(name), limit, at_least)
        for key, at_least in (("at_most", False), ("at_least", True))
        for name, limit in config[key].items()
    ]
    return Task.make(problem, config["objectives"], constraints)


def _require_raceable(task: Task) -> None:
    """Raise unless all that is measured of a candidate is an accuracy that can be bounded before the end."""
    if not task.problem.races:
        raise InvalidArgument(
            f"`racing` needs an accuracy over samples of one trained network, which problem `{task.problem.name}` has "
            "not; search without racing"
        )
    others = [o.name for o in (*task.objectives, *(c.objective for c in task.measured_constraints))]
    others = [name for name in others if not task.problem.objective(name).exact and name != "accuracy"]
    if others:
        raise InvalidArgument(
            f"`racing` cannot bound `{others[0]}` before the end; search accuracy and exact objectives, or do not race"
        )
    if all(objective.exact for objective in task.objectives):
        raise InvalidArgument("`racing` stops candidates by their accuracy, which is no objective; name it as one")


def _problem(config: Mapping[str, Any], directory: Path, problem: Problem | None) -> Problem:
    """The problem of a recorded run, checked to be the same one."""
    missing = [key for key in _CONFIGURED if key not in config]
    if missing:
        raise RunError(f"{directory} is damaged: its configuration lacks `{missing[0]}`; start a new run")
    recorded = config["problem"]
    if problem is None:
        if recorded["spec"] is None:
            raise InvalidArgument(
                f"{directory} was started in Python on the problem object `{recorded['name']}`; "
                "give it again: evonas.resume(directory, problem)"
            )
        problem = load(recorded["spec"], recorded["options"])
    if problem.fingerprint != config["fingerprint"]:
        raise RunError(
            f"{directory} was run on other genes, objectives, weights or values than problem `{problem.name}` has now; "
            "give the same problem, or start a new run"
        )
    return problem


def _limit(problem: Problem, name: str, value: float | str) -> float:
    objective = problem.objective(name)
    try:
        limit = objective.parse(value) if isinstance(value, str) else float(value)
    except TypeError:
        raise InvalidArgument(f"the limit on {name} must be a number, got {value!r}") from None
    if not np.isfinite(limit):
        raise InvalidArgument(f"the limit on {name} must be a finite number, got {value}")
    return limit


def _at_least_one(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InvalidArgument(f"`{name}` must be a whole number of at least 1, got {value!r}")
    return int(value)


def _seed(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < _SEEDS:
        raise InvalidArgument(f"`seed` must be a whole number from 0 to 2^63 - 1, got {value!r}")
    return int(value)


def _versions() -> dict[str, str]:
    names = ("numpy", "pymoo", "torch", "scikit-learn")
    return {
        "evonas": evonas.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }
