"""Run samplers x seeds on problems, on all cores, into a store that can be continued and extended."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from evonas.errors import RunError
from evonas.evaluate import Evaluation, Task, evaluate
from evonas.objective import Constraint
from evonas.operators.sampling import distinct
from evonas.problem import Problem, TableProblem
from evonas.problems import load
from evonas.samplers import make_sampler
from evonas.samplers.paths import spread
from evonas.samplers.repairing import budget_repair
from evonas.space import IntArray
from evonas.study.store import Row, Run, StudyStore

__all__ = ["Job", "Limits", "SamplerSpec", "Source", "run_jobs"]

_FLUSH = 1.0  # seconds between two transactions of a run
_POLL = 0.25  # seconds between two looks at how far the study is
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Source:
    """Where a worker gets a problem from.

    Args:
        spec: as `load` takes it.
        table: an npz file that holds the problem enumerated, if it was; then that is used.
    """

    spec: str | None
    table: str | None

    def problem(self) -> Problem:
        """The problem, or its table."""
        if self.table is not None:
            return TableProblem.read(self.table)
        assert self.spec is not None
        return load(self.spec)


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler as a study names it: a registered name, and options of its class."""

    label: str
    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Limits:
    """What every run of a problem shares.

    Args:
        objectives: names.
        constraints: (objective, limit, at least?) triples.
        budget: evaluations, charges among them.
        start: genomes that every sampler has to begin with, the same for one seed; 0 for their own starts.
    """

    objectives: tuple[str, ...]
    constraints: tuple[tuple[str, float, bool], ...]
    budget: int
    start: int = 0

    def task(self, problem: Problem) -> Task:
        """The task of a search under these limits."""
        constraints = [Constraint(problem.objective(name), limit, least) for name, limit, least in self.constraints]
        return Task.make(problem, self.objectives, constraints)


@dataclass(frozen=True)
class Job:
    """One run to be brought to the end of its budget."""

    directory: str
    label: str
    source: Source | None
    sampler: SamplerSpec
    seed: int
    limits: Limits


def run_jobs(
    jobs: Sequence[Job], *, workers: int, told: Callable[[int], None], problems: Mapping[str, Problem]
) -> None:
    """Bring every job to its end.

    Args:
        jobs: what to run.
        workers: processes; with 1 everything runs in this one.
        told: called now and then with the number of evaluations in the store.
        problems: label to problem, for jobs in this process.
    """
    if not jobs:
        return
    directory = Path(jobs[0].directory)
    if workers == 1:
        made: dict[str, Task] = {}
        for job in jobs:
            if job.label not in made:
                made[job.label] = job.limits.task(problems[job.label])
            _run(job, made[job.label], told)
        return
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # inherited by the workers: one core each
    try:
        with (
            StudyStore.open(directory) as store,
            ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool,
        ):
            _await([pool.submit(_work, job) for job in jobs], lambda: told(store.count()), pool)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _await(futures: list[Future[None]], look: Callable[[], None], pool: ProcessPoolExecutor) -> None:
    """Wait for all; the first error or an interruption cancels what has not begun."""
    pending = set(futures)
    try:
        while pending:
            done, pending = wait(pending, timeout=_POLL, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            look()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


_TASKS: dict[tuple[Source, Limits], Task] = {}  # of this worker process, so that a problem is loaded once


def _work(job: Job) -> None:
    assert job.source is not None
    key = (job.source, job.limits)
    if key not in _TASKS:
        _TASKS[key] = job.limits.task(job.source.problem())
    _run(job, _TASKS[key], lambda _: None)


def _run(job: Job, task: Task, told: Callable[[int], None]) -> None:
    """One run: replay what is recorded, then ask, evaluate, record, tell."""
    with StudyStore.open(Path(job.directory)) as store:
        run = store.run(job.label, job.sampler.label, job.seed)
        sampler = make_sampler(job.sampler.name, task, job.seed, **job.sampler.options)
        if job.limits.start:
            sampler.begin_with(same_start(task, job.limits.start, job.seed))
        limit = max(1, job.limits.budget - math.ceil(sampler.charge))
        recorder = _Recorder(store, run, told)
        spent = number = 0
        while spent < limit:
            start = time.perf_counter()
            genomes = sampler.ask(limit - spent)
            each = (time.perf_counter() - start) / max(1, len(genomes))
            if len(genomes) == 0:
                break
            for genome in genomes:
                evaluation = recorder.replayed(number, genome) or evaluate(task, genome[None], number)[0]
                start = time.perf_counter()
                sampler.tell([evaluation])
                recorder.add(Row(evaluation, each + time.perf_counter() - start))
                number += 1
                spent += evaluation.status != "infeasible"
        recorder.flush()
        store.finish(run, sampler.charge, job.limits.budget)


def same_start(task: Task, n: int, seed: int) -> IntArray:
    """Up to `n` distinct feasible genomes, the same for every sampler, shape (m, n_genes).

    Stratified over the exact objectives, as `sa-nsga2` begins without sensitivities; random ones in place of repeats
    and of those that break an exact constraint.
    """
    rng = np.random.default_rng(seed)
    found = spread(task, n, rng)
    found = np.unique(found[task.feasible(found)], axis=0)
    repair = budget_repair(task, ball=1).repaired if task.exact_constraints else None
    seen = set(task.space.keys(found))
    more = distinct(task.space, n - len(found), rng, seen=seen, feasible=task.feasible, repair=repair)
    return np.concatenate([found, more])


class _Recorder:
    """Writes the rows of a run that are not recorded yet, a second's worth at a time."""

    def __init__(self, store: StudyStore, run: Run, told: Callable[[int], None]) -> None:
        self._store, self._run, self._told = store, run, told
        self._recorded = store.rows(run)
        self._rows: list[Row] = []
        self._last = time.perf_counter()

    def replayed(self, number: int, genome: Any) -> Evaluation | None:
        """What is recorded under that number; it must be of `genome`."""
        if number >= len(self._recorded):
            return None
        found = self._recorded[number].evaluation
        if found.genome != tuple(genome.tolist()):
            raise RunError(
                f"the study cannot be continued: {self._run.sampler} with seed {self._run.seed} no longer proposes "
                f"what it recorded as evaluation {number} on {self._run.problem}; install the versions it was run "
                "with, or start anew"
            )
        return found

    def add(self, row: Row) -> None:
        """Keep a new row; replayed ones are kept already."""
        if row.evaluation.number >= len(self._recorded):
            self._rows.append(row)
        if time.perf_counter() - self._last > _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if self._rows:
            self._store.append(self._run, self._rows)
        self._rows = []
        self._last = time.perf_counter()
        self._told(self._store.count())
