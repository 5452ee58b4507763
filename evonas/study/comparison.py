"""`compare`: samplers x seeds on problems, and what came out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from evonas.errors import InvalidArgument, RunError
from evonas.evaluate import Task
from evonas.problem import Problem, TableProblem
from evonas.problem.table import subspace
from evonas.problem.table_file import check_suffix
from evonas.problems import load
from evonas.samplers import sampler_name
from evonas.study.results import ProblemResult, RunRecord, Study
from evonas.study.run import Job, Limits, SamplerSpec, Source, run_jobs
from evonas.study.scoring import Reference, reference
from evonas.study.store import DATABASE, Row, StudyStore

__all__ = ["compare", "load_study", "table"]

_TABLE_LIMIT = 1_000_000  # genomes that a table holds unless another limit is given
TABULATED = 50_000  # spaces up to here are enumerated, so that their true front is known
_TABLES = "tables"

Samplers = Sequence[str] | Mapping[str, tuple[str, Mapping[str, Any]]]


def compare(
    problems: str | Problem | Sequence[str | Problem],
    samplers: Samplers = ("nsga2", "random", "tpe", "sa-nsga2"),
    *,
    seeds: int = 30,
    first_seed: int = 0,
    budget: int = 200,
    objectives: Sequence[str] | None = None,
    at_most: Mapping[str, float | str] | None = None,
    at_least: Mapping[str, float | str] | None = None,
    start: int = 0,
    out: Path | str | None = None,
    workers: int | None = None,
    tabulate: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Run every sampler from every seed on every problem, and compare them.

    Args:
        problems: names, files (`FILE.py:VARIABLE`, or a table) or `Problem` objects; the latter run in this process
            unless they are tables.
        samplers: names, or label to (name, options of the sampler's class).
        seeds: how many; all samplers get the same ones.
        first_seed: the first of them.
        budget: distinct evaluations of a run, charges for sensitivities among them.
        objectives: names; each problem's defaults when None.
        at_most: limits on objectives, as in `search`.
        at_least: likewise.
        start: if above 0, every sampler begins with the same so many genomes, instead of its own start.
        out: directory of the study. A study that is there is continued; samplers, seeds, problems and budget may
            be added, but what is compared must be the same. Kept nowhere when None.
        workers: processes; all cores when None.
        tabulate: whether problems are enumerated first, so that their true front is known; when None, those of up to
            50,000 genomes are.
        progress: called now and then with evaluations done and evaluations planned.

    Raises:
        EvonasError: anything about the arguments that cannot be.
    """
    chosen = _samplers(samplers)
    for name, value in (("seeds", seeds), ("budget", budget), ("workers", 1 if workers is None else workers)):
        _at_least_one(name, value)
    if start < 0 or first_seed < 0:
        raise InvalidArgument(f"`start` and `first_seed` must be 0 or more, got {start} and {first_seed}")
    given = [problems] if isinstance(problems, str | Problem) else list(problems)
    if not given:
        raise InvalidArgument("`problems` is empty; name at least one")
    options = _Options(budget, objectives, at_most or {}, at_least or {}, start, tabulate)
    checked = [_checked(problem, options) for problem in given]  # before anything is written
    names = [problem.name for _, problem, _ in checked]
    if len(set(names)) != len(names):
        raise InvalidArgument(f"two problems are named `{next(name for name in names if names.count(name) > 1)}`")
    wanted = range(first_seed, first_seed + seeds)
    with ExitStack() as stack:
        directory = Path(out) if out is not None else Path(stack.enter_context(TemporaryDirectory())) / "study"
        existing = (directory / DATABASE).is_file()
        store = stack.enter_context(StudyStore.open(directory) if existing else StudyStore.create(directory, {}))
        setups = [_setup(*found, options, directory) for found in checked]
        _record(store, directory, setups, chosen)
        jobs = [
            Job(str(directory), setup.problem.name, setup.source, spec, seed, setup.limits)
            for setup in setups
            for seed in wanted
            for spec in chosen
            if store.run(setup.problem.name, spec.label, seed).budget < setup.limits.budget
        ]
        total = len(chosen) * seeds * sum(setup.limits.budget for setup in setups)
        cores = (workers or os.cpu_count() or 1) if all(setup.source for setup in setups) else 1
        report = (lambda done: progress(min(done, total), total)) if progress else (lambda _: None)
        run_jobs(jobs, workers=cores, told=report, problems={s.problem.name: s.problem for s in setups})
        labels = [spec.label for spec in chosen]
        results = [_result(store, setup.problem, setup.limits, labels, wanted) for setup in setups]
        left_out = _left_out(store, names, labels)
    notes = [
        f"{problem.name} has {problem.space.size:,} genomes: its runs end there, not at {budget:,}"
        for _, problem, limits in checked
        if limits.budget < budget
    ]
    return Study(results, [*notes, *left_out], None if out is None else directory)


def load_study(directory: Path | str, problems: Mapping[str, Problem] | None = None) -> Study:
    """The study in `directory` as far as it is: the samplers and seeds that every problem has, at its least budget.

    Args:
        directory: of the study.
        problems: label to problem, needed for those that were given as objects and not tabulated.

    Raises:
        RunError: there is no study, or nothing is finished in it.
    """
    directory = Path(directory)
    results = []
    with StudyStore.open(directory) as store:
        for label, config in store.config.get("problems", {}).items():
            runs = [run for run in store.runs(label) if run.budget > 0]
            samplers = list(dict.fromkeys(run.sampler for run in runs))
            seeds = [{run.seed for run in runs if run.sampler == sampler} for sampler in samplers]
            shared = sorted(set.intersection(*seeds)) if seeds else []
            if not shared:
                raise RunError(f"{directory} has no seed that every sampler finished on `{label}`; let it go on first")
            path = directory / _TABLES / f"{label}.npz"
            problem = (problems or {}).get(label)
            if problem is None and config["spec"] is None:
                raise InvalidArgument(f"{directory} compared samplers on the problem object `{label}`; give it again")
            if path.is_file():
                problem = TableProblem.read(path, name=label)
            constraints = tuple((name, limit, least) for name, limit, least in config["constraints"])
            budget = min(run.budget for run in runs if run.seed in shared)
            limits = Limits(tuple(config["objectives"]), constraints, budget, config["start"])
            results.append(_result(store, problem or load(config["spec"]), limits, samplers, shared))
    if not results:
        raise RunError(f"{directory} holds a study in which nothing has run yet")
    return Study(results, (), directory)


def table(
    problem: str | Problem,
    path: Path | str,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TableProblem:
    """Enumerate a problem into a file.

    Args:
        problem: a name, a file, or a `Problem`.
        path: to write to, ending in .csv, .parquet or .npz; must not exist.
        limit: at most so many genomes; choices are left out evenly until the space is that small.
        progress: called with genomes done and genomes in all.

    Raises:
        InvalidArgument: the path cannot be written, or the problem cannot be enumerated.
    """
    path = Path(path)
    if path.exists():
        raise InvalidArgument(f"table {path} exists already; give another path or remove it")
    check_suffix(path)
    found = load(problem) if isinstance(problem, str) else problem
    if limit is None and found.space.size > _TABLE_LIMIT:
        raise InvalidArgument(
            f"problem `{found.name}` has {found.space.summary}, too many to enumerate; give a limit (--limit 10000) "
            "and choices are left out evenly"
        )
    size = found.space.size if limit is None else subspace(found.space, limit).size
    made = TableProblem.of(found, limit=limit, progress=(lambda done: progress(done, size)) if progress else None)
    made.write(path)
    return made


@dataclass(frozen=True)
class _Setup:
    """One problem of a study, made ready.

    Args:
        problem: the problem, or its table.
        limits: that its runs share.
        source: where other processes find it; None when they cannot.
        config: what must be the same when the study is continued.
    """

    problem: Problem
    limits: Limits
    source: Source | None
    config: Mapping[str, Any]


def _checked(given: str | Problem, options: _Options) -> tuple[str | Problem, Problem, Limits]:
    """What was given, the problem loaded, and its limits, which it can meet."""
    problem = load(given) if isinstance(given, str) else given
    limits = options.limits(problem)
    limits.task(problem)
    if limits.start >= limits.budget:
        raise InvalidArgument(
            f"a common start of {limits.start} genomes leaves samplers nothing to choose in the {limits.budget} "
            f"evaluations of a run on `{problem.name}`; give a smaller start"
        )
    return given, problem, limits


def _setup(given: str | Problem, problem: Problem, limits: Limits, options: _Options, directory: Path) -> _Setup:
    """Enumerate a problem where that is wanted."""
    config = {
        "spec": given if isinstance(given, str) else None,
        "genes": [[gene.name, list(gene.labels)] for gene in problem.space.genes],
        "objectives": list(limits.objectives),
        "constraints": [list(constraint) for constraint in limits.constraints],
        "start": limits.start,
        "content": problem.fingerprint,
    }
    source = Source(given, table=None) if isinstance(given, str) else None
    whole = problem.space.size <= TABULATED if options.tabulate is None else options.tabulate
    if whole and not isinstance(problem, TableProblem):
        path = directory / _TABLES / f"{problem.name}.npz"
        if not path.is_file():
            TableProblem.of(problem).write(path)
        problem, source = TableProblem.read(path, name=problem.name), Source(None, str(path))
    return _Setup(problem, limits, source, config)


def _difference(label: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """How the problem that a study compared differs from the one given now; None if it does not."""
    old, new = dict(was.get("genes", now["genes"])), dict(now["genes"])
    for gene in {**old, **new}:
        if old.get(gene) != new.get(gene):
            before, after = (" ".join(genes[gene]) if gene in genes else "not there" for genes in (old, new))
            return f"gene `{gene}` of `{label}` was {before}, now it is {after}"
    for key in ("objectives", "constraints", "start", "spec"):
        if was.get(key, now[key]) != now[key]:
            return f"{key} of `{label}`: {was[key]}, now {now[key]}"
    if was.get("content", now["content"]) != now["content"]:
        return f"`{label}` has the same genes and objectives, but other values or weights now"
    return None


@dataclass(frozen=True)
class _Options:
    """The arguments of `compare` that every problem gets."""

    budget: int
    objectives: Sequence[str] | None
    at_most: Mapping[str, float | str]
    at_least: Mapping[str, float | str]
    start: int
    tabulate: bool | None

    def limits(self, problem: Problem) -> Limits:
        """The same for one problem, in its units."""
        constraints = []
        for given, least in ((self.at_most, False), (self.at_least, True)):
            for name, value in given.items():
                objective = problem.objective(name)
                constraints.append((name, objective.parse(value) if isinstance(value, str) else float(value), least))
        names = tuple(problem.default_objectives if self.objectives is None else self.objectives)
        return Limits(names, tuple(constraints), min(self.budget, problem.space.size), self.start)


def _samplers(given: Samplers) -> list[SamplerSpec]:
    """Checked samplers, aliases resolved."""
    if isinstance(given, str):
        raise InvalidArgument(f"`samplers` must be a list of names, got the text `{given}`")
    if isinstance(given, Mapping):
        specs = [SamplerSpec(label, sampler_name(name), dict(options)) for label, (name, options) in given.items()]
    else:
        specs = [SamplerSpec(sampler_name(name), sampler_name(name), {}) for name in given]
    if not specs:
        raise InvalidArgument("`samplers` is empty; name at least one")
    labels = [spec.label for spec in specs]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InvalidArgument(f"sampler `{twice}` is named twice; each once")
    return specs


def _record(store: StudyStore, directory: Path, setups: Sequence[_Setup], specs: Sequence[SamplerSpec]) -> None:
    """Keep what is compared; refuse to mix it with what the study held under the same names.

    Raises:
        RunError: a problem or a sampler differs; the message names the difference.
    """
    config = store.config
    problems, samplers = config.get("problems", {}), config.get("samplers", {})
    for setup in setups:
        label = setup.problem.name
        differs = _difference(label, problems.get(label, {}), setup.config)
        if differs is not None:
            raise RunError(f"{directory} holds another comparison: {differs}; give another directory")
        problems[label] = setup.config
    for spec in specs:
        now = [spec.name, dict(spec.options)]
        if samplers.setdefault(spec.label, now) != now:
            raise RunError(
                f"{directory} holds the sampler `{spec.label}` as {samplers[spec.label]}, now it is {now}; "
                "give it another label, or another directory"
            )
    store.update_config("problems", problems)
    store.update_config("samplers", samplers)


def _left_out(store: StudyStore, problems: Sequence[str], samplers: Sequence[str]) -> list[str]:
    """A sentence each on problems and samplers that the study holds and that are not among those asked for."""
    found = []
    for kind, now in (("problem", problems), ("sampler", samplers)):
        others = [f"`{name}`" for name in store.config.get(f"{kind}s", {}) if name not in now]
        if others:
            found.append(
                f"the study also holds runs of {', '.join(others)}, which these tables and figures leave out: the same "
                f"command with every {kind} named has them all"
            )
    return found


def _result(
    store: StudyStore, problem: Problem, limits: Limits, labels: Sequence[str], seeds: Sequence[int]
) -> ProblemResult:
    """The runs of a problem, scored."""
    task = limits.task(problem)
    runs = {(run.sampler, run.seed): run for run in store.runs(problem.name)}
    records: dict[str, list[RunRecord]] = {label: [] for label in labels}
    for label in labels:
        for seed in seeds:
            run = runs[label, seed]
            records[label].append(_scored(task, store.rows(run), seed, math.ceil(run.charge), limits.budget))
    return ProblemResult(problem.name, task.objectives, _reference(task, records), limits.budget, records)


def _scored(task: Task, rows: Sequence[Row], seed: int, charge: int, budget: int) -> RunRecord:
    """What one run is scored by: true values where the problem knows them; NaN for failures and violations."""
    spent = [row for row in rows if row.evaluation.status != "infeasible"][: max(1, budget - charge)]
    genomes = np.array([row.evaluation.genome for row in spent], dtype=np.int64).reshape(len(spent), len(task.space))
    values = np.full((len(spent), len(task.objectives)), np.nan)
    ok = [i for i, row in enumerate(spent) if row.evaluation.status == "ok"]
    found = [spent[i].evaluation for i in ok]
    met = np.asarray((task.violations(found) <= 0).all(axis=1))
    counted = [row for row, counts in zip(ok, met, strict=True) if counts]
    if counted:
        values[counted] = task.problem.true_values(genomes[counted], task.objectives)
        if not np.isfinite(values[counted]).all():
            values[counted] = task.minimised([spent[i].evaluation for i in counted])
    seconds = np.array([row.suggestion_seconds for row in spent])
    return RunRecord(seed, charge, values, seconds, np.arange(len(spent), dtype=np.float64))


def _reference(task: Task, records: Mapping[str, Sequence[RunRecord]]) -> Reference:
    """The enumerated front of a table, the union of all runs otherwise."""
    problem = task.problem
    if isinstance(problem, TableProblem) and not task.constraints:
        genomes = problem.space.unrank(np.arange(problem.space.size, dtype=np.int64))
        return reference(problem.true_values(genomes, task.objectives), "enumerated")
    values = np.concatenate([run.values for runs in records.values() for run in runs])
    return reference(values[np.isfinite(values).all(axis=1)], "union of all runs")


def _at_least_one(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InvalidArgument(f"`{name}` must be a whole number of at least 1, got {value!r}")
