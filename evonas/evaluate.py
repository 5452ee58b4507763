"""The task of a search, and the evaluation of genomes under it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from evonas.errors import EvaluationError, InvalidArgument
from evonas.objective import Constraint, Objective, minimised
from evonas.problem.base import Problem
from evonas.racing import Raced
from evonas.space import BoolArray, FloatArray, IntArray, SearchSpace, extremes

__all__ = ["Evaluation", "Evaluator", "Status", "Task", "evaluate"]

Status = Literal["ok", "failed", "infeasible", "stopped"]

_ENUMERABLE = 5_000_000  # spaces up to here are enumerated to prove that a constraint cannot be met
_SECONDS = 1.0  # that a batch of genomes should take, so that progress is seen and a kill loses little
_MOST = 4096  # genomes of a batch
_PROBE = 4096  # random genomes that show whether an objective varies and whether constraints can be met


@dataclass(frozen=True)
class Evaluation:
    """What is known of one genome.

    Args:
        number: position in the run, from 0.
        genome: one index per gene.
        values: objective name to value, in users' directions; only the exact ones unless status is ok. When stopped,
            `accuracy` is the most that it can be, with 99 % confidence, `samples` how many were validated, and `seen`
            the accuracy on those.
        status: `ok`, `failed` (raised, or a score was not finite), or `infeasible` (over an exact constraint, so
            that it was not evaluated), or `stopped` (by racing: it cannot reach the front).
        seconds: that the evaluation took; of genomes evaluated together, an equal share.
        error: what went wrong, when failed; how far it got, when stopped.
    """

    number: int
    genome: tuple[int, ...]
    values: Mapping[str, float]
    status: Status = "ok"
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest value of each exact objective over the space; proved when it was enumerated."""

    lowest: Mapping[str, float]
    highest: Mapping[str, float]
    proved: bool


@dataclass(frozen=True)
class Task:
    """A problem with the objectives and constraints of one search.

    Samplers get the task: they may ask it for exact objectives and for the exact constraints at any time, but
    never for a measured value.

    Args:
        problem: what is searched.
        objectives: those that span the front; each varies over the space.
        constraints: limits on any of the problem's objectives.
        dropped: objectives asked for that cannot vary over the space, with their one value.
    """

    problem: Problem
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    dropped: tuple[tuple[Objective, float], ...] = ()
    bounds: Bounds = field(default_factory=lambda: Bounds({}, {}, True), compare=False)

    @classmethod
    def make(
        cls, problem: Problem, objectives: Sequence[str] | None = None, constraints: Sequence[Constraint] = ()
    ) -> Task:
        """Choose objectives by name (the problem's defaults when None) and check that a search makes sense.

        Raises:
            UnknownName: an objective that the problem does not have.
            InvalidArgument: no objectives left, one named twice, or constraints that no genome can meet.
        """
        names = list(problem.default_objectives if objectives is None else objectives)
        if not names:
            raise InvalidArgument("`objectives` is empty; name at least one")
        if len(set(names)) != len(names):
            raise InvalidArgument(f"`objectives` names one twice: {', '.join(names)}")
        chosen = [problem.objective(name) for name in names]
        bounds = _bounds(problem)
        fixed = {name for name in bounds.lowest if bounds.lowest[name] == bounds.highest[name]}
        varying = tuple(objective for objective in chosen if objective.name not in fixed)
        if not varying:
            raise InvalidArgument(f"none of the objectives {', '.join(names)} varies over this space; choose another")
        dropped = tuple((objective, bounds.lowest[objective.name]) for objective in chosen if objective.name in fixed)
        task = cls(problem, varying, tuple(constraints), dropped, bounds)
        _require_feasible(task)
        return task

    @property
    def space(self) -> SearchSpace:
        """The problem's space."""
        return self.problem.space

    @property
    def exact_constraints(self) -> tuple[Constraint, ...]:
        """The constraints that need no evaluation."""
        return tuple(constraint for constraint in self.constraints if constraint.objective.exact)

    @property
    def measured_constraints(self) -> tuple[Constraint, ...]:
        """The constraints on what must be evaluated."""
        return tuple(constraint for constraint in self.constraints if not constraint.objective.exact)

    def exact_violations(self, genomes: IntArray) -> FloatArray:
        """How far genomes (n, n_genes) are past each exact constraint, shape (n, k); <= 0 is met."""
        values = self.problem.exact_values(genomes)
        columns = {objective.name: i for i, objective in enumerate(self.problem.exact)}
        parts = [c.violation(values[:, columns[c.objective.name]]) for c in self.exact_constraints]
        return np.stack(parts, axis=1) if parts else np.zeros((len(genomes), 0))

    def feasible(self, genomes: IntArray) -> BoolArray:
        """Which genomes (n, n_genes) meet every exact constraint, shape (n,)."""
        if not self.exact_constraints:
            return np.ones(len(genomes), dtype=np.bool_)
        return np.asarray((self.exact_violations(genomes) <= 0).all(axis=1), dtype=np.bool_)

    def minimised(self, evaluations: Sequence[Evaluation]) -> FloatArray:
        """The front's objectives of evaluations that are ok, to be minimised, shape (n, n_objectives)."""
        rows = [[evaluation.values[objective.name] for objective in self.objectives] for evaluation in evaluations]
        return minimised(np.array(rows, dtype=np.float64).reshape(-1, len(self.objectives)), self.objectives)

    def violations(self, evaluations: Sequence[Evaluation]) -> FloatArray:
        """How far evaluations that are ok are past each measured constraint, shape (n, k); <= 0 is met."""
        constraints = self.measured_constraints
        rows = [[c.excess(evaluation.values[c.objective.name]) for c in constraints] for evaluation in evaluations]
        return np.array(rows, dtype=np.float64).reshape(len(evaluations), len(constraints))


def _bounds(problem: Problem) -> Bounds:
    """Range of every exact objective: enumerated when the space is small, explored otherwise."""
    names = [objective.name for objective in problem.exact]
    if not names:
        return Bounds({}, {}, True)
    low, high, proved = extremes(problem.space, problem.exact_values, np.random.default_rng(0), _PROBE)
    return Bounds(dict(zip(names, low.tolist(), strict=True)), dict(zip(names, high.tolist(), strict=True)), proved)


def _require_feasible(task: Task) -> None:
    """Raise if no genome meets the constraints: which one, and how far it could be met."""
    for constraint in task.constraints:
        bounds = constraint.objective.bounds
        if bounds and (constraint.limit > bounds[1] if constraint.at_least else constraint.limit < bounds[0]):
            raise InvalidArgument(
                f"no genome can meet {constraint.text}: {constraint.objective.name} is always "
                f"{constraint.objective.format(bounds[0])} to {constraint.objective.format(bounds[1])}"
            )
    lowest = {constraint.objective.name: constraint for constraint in task.constraints if constraint.at_least}
    for upper in task.constraints:
        lower = lowest.get(upper.objective.name, upper)
        if lower.limit > upper.limit:
            raise InvalidArgument(f"no genome can meet {lower.text} and {upper.text} at once; loosen one of them")
    if not task.exact_constraints:
        return
    probes = np.concatenate([task.space.corners(), task.space.sample(_PROBE, np.random.default_rng(0))])
    if task.feasible(probes).any():
        return
    problem = task.problem
    low, high, proved = extremes(task.space, problem.exact_values, np.random.default_rng(0), _ENUMERABLE)
    columns = {objective.name: i for i, objective in enumerate(problem.exact)}
    for constraint in task.exact_constraints:
        best = (high if constraint.at_least else low)[columns[constraint.objective.name]]
        if constraint.violation(np.array([best]))[0] > 0:
            extreme = "largest" if constraint.at_least else "smallest"
            raise InvalidArgument(
                f"no genome {'can meet' if proved else 'found that meets'} {constraint.text}: the {extreme} possible "
                f"{constraint.objective.name} is {constraint.objective.format(float(best))}"
            )
    if proved and not any(task.feasible(chunk).any() for chunk in task.space.chunks()):
        limits = " and ".join(constraint.text for constraint in task.exact_constraints)
        raise InvalidArgument(f"no genome meets {limits} at once; each can be met alone, so loosen one of them")


Bar = Callable[[Mapping[str, float]], float | None]  # exact values -> accuracy below which they are dominated


def evaluate(task: Task, genomes: IntArray, first: int, *, bar: Bar | None = None) -> list[Evaluation]:
    """Evaluate genomes (n, n_genes), numbered from `first`; with `bar`, each may be stopped early.

    Exact objectives come from the genome. A genome over an exact constraint is not evaluated. What the problem
    raises, and objectives and scores that are not finite, make a failed evaluation with their text.

    Raises:
        EvaluationError: the problem returned the wrong count or names of scores.
    """
    exact = task.problem.exact_values(genomes)
    names = [objective.name for objective in task.problem.exact]
    feasible = task.feasible(genomes)
    found: list[Evaluation] = []
    for i, genome in enumerate(genomes):
        values = dict(zip(names, exact[i].tolist(), strict=True))
        unknown = [o.name for o in task.objectives if o.exact and not math.isfinite(values[o.name])]
        status: Status = "infeasible" if not feasible[i] else "failed" if unknown else "ok"
        error = f"{unknown[0]} is {values[unknown[0]]}" if status == "failed" else ""
        found.append(Evaluation(first + i, tuple(int(gene) for gene in genome), values, status, 0.0, error))
    rows = [i for i, evaluation in enumerate(found) if evaluation.status == "ok"]
    if bar is None:
        measured = _measured(task.problem, genomes[rows])
    else:  # even where all may reach the front, so that no score depends on who is evaluated together
        least = [-math.inf if (needed := bar(found[i].values)) is None else needed for i in rows]
        measured = _raced(task.problem, genomes[rows], np.array(least))
    for i, (more, status, error, seconds) in zip(rows, measured, strict=True):
        found[i] = replace(found[i], values={**found[i].values, **more}, status=status, seconds=seconds, error=error)
    return found


class Evaluator:
    """Evaluates genomes in batches that take about a second, where the problem evaluates many together.

    Args:
        task: whose problem evaluates.
        told: called with (done, total) while the problem prepares, which may take long.
    """

    def __init__(self, task: Task, told: Callable[[int, int], None] | None = None) -> None:
        self._task = task
        self._told = told
        self._size = 1

    def __call__(self, genomes: IntArray, first: int, bar: Bar | None = None) -> Iterator[Evaluation]:
        """The evaluations of genomes (n, n_genes), numbered from `first`, as `evaluate` makes them with this `bar`.

        Which are evaluated together depends on the clock, and what becomes of them does not: all meet the same bar.
        """
        done = 0
        if len(genomes):
            self._prepare(genomes)
        while done < len(genomes):
            start = time.perf_counter()
            found = evaluate(self._task, genomes[done : done + self._size], first + done, bar=bar)
            seconds = (time.perf_counter() - start) / len(found)
            done += len(found)
            if self._task.problem.together:
                self._size = int(min(max(_SECONDS / seconds, 1), 2 * self._size + 14, _MOST))
            yield from found

    def _prepare(self, genomes: IntArray) -> None:
        with contextlib.suppress(Exception):  # a genome whose preparation fails says so when it is evaluated
            self._task.problem.prepare(genomes[self._task.feasible(genomes)], self._told)


_Measured = tuple[Mapping[str, float], Status, str, float]  # values, status, what went wrong, seconds


def _measured(problem: Problem, genomes: IntArray) -> list[_Measured]:
    """What is measured of genomes (n, n_genes): together where the problem can, and none of them fails."""
    if problem.together and len(genomes) > 1:
        start = time.perf_counter()
        try:
            scores = _checked(problem, problem.evaluate(genomes), len(genomes))
        except Exception:  # each by itself says which one it is
            return [_alone(problem, genome) for genome in genomes]
        seconds = (time.perf_counter() - start) / len(genomes)
        return [_scored(found, seconds) for found in scores]
    return [_alone(problem, genome) for genome in genomes]


def _alone(problem: Problem, genome: IntArray) -> _Measured:
    start = time.perf_counter()
    scores, error = _scores(problem, genome)
    seconds = time.perf_counter() - start
    return ({}, "failed", error, seconds) if error else _scored(scores, seconds)


def _raced(problem: Problem, genomes: IntArray, least: FloatArray) -> list[_Measured]:
    """The same of those that reach `least` (n,), and of the others the bound at which they were stopped."""
    start = time.perf_counter()
    try:
        raced = list(zip(problem.race(genomes, least), least.tolist(), strict=True))
    except Exception as error:
        if len(genomes) == 1:
            return [({}, "failed", _text(error), time.perf_counter() - start)]
        rows = [slice(i, i + 1) for i in range(len(genomes))]  # each by itself says which one it is
        return [one for row in rows for one in _raced(problem, genomes[row], least[row])]
    seconds = (time.perf_counter() - start) / len(genomes)
    return [_scored(f.scores, seconds) if f.scores is not None else _stopped(f, bar, seconds) for f, bar in raced]


def _scored(scores: Mapping[str, float], seconds: float) -> _Measured:
    broken = _broken(scores)
    return ({}, "failed", broken, seconds) if broken else (scores, "ok", "", seconds)


def _stopped(raced: Raced, least: float, seconds: float) -> _Measured:
    values = {"accuracy": raced.bound, "samples": float(raced.samples), "seen": raced.share}
    text = f"after {raced.samples} samples: accuracy at most {raced.bound:.4f}, {least:.4f} would be needed"
    return values, "stopped", text, seconds


def _text(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _broken(scores: Mapping[str, float]) -> str:
    """The first score that is not finite, as a sentence; empty if all are."""
    return next((f"{name} is {value}" for name, value in scores.items() if not math.isfinite(value)), "")


def _scores(problem: Problem, genome: IntArray) -> tuple[dict[str, float], str]:
    """Measured values of one genome, and the text of what went wrong."""
    try:
        returned = problem.evaluate(genome[None])
    except EvaluationError:
        raise
    except Exception as error:
        return {}, _text(error)
    try:
        (scores,) = _checked(problem, returned, 1)
    except EvaluationError as error:
        choices = ", ".join(f"{name}={label}" for name, label in problem.space.labels(genome).items())
        raise EvaluationError(f"{error} (it was given {choices})") from None
    return scores, ""


def _checked(problem: Problem, returned: Sequence[Mapping[str, float]], n: int) -> list[dict[str, float]]:
    """The `n` mappings that `evaluate` returned, with exactly the measured names."""
    try:
        count = len(returned)
    except TypeError:
        count = -1
    if count != n or isinstance(returned, Mapping):
        got = "a mapping" if isinstance(returned, Mapping) else f"{count} results"
        got = got if count >= 0 else type(returned).__name__
        raise EvaluationError(
            f"problem `{problem.name}`: evaluate returned {got} for {n} genome{'s' * (n > 1)}; "
            f"expected a list of {n} mapping{'s' * (n > 1)}"
        )
    return [_checked_scores(problem, scores) for scores in returned]


def _checked_scores(problem: Problem, scores: Mapping[str, float]) -> dict[str, float]:
    names = [objective.name for objective in problem.measured]
    if not isinstance(scores, Mapping) or set(scores) != set(names):
        got = ", ".join(map(str, scores)) if isinstance(scores, Mapping) else type(scores).__name__
        raise EvaluationError(
            f"problem `{problem.name}`: evaluate returned the scores {got or 'none'}; "
            f"expected exactly {', '.join(names)}"
        )
    try:
        if any(isinstance(scores[name], str) for name in names):
            raise ValueError
        return {name: float(scores[name]) for name in names}
    except (TypeError, ValueError, OverflowError):
        raise EvaluationError(
            f"problem `{problem.name}`: evaluate returned a score that is not a number; "
            f"expected one for each of {', '.join(names)}"
        ) from None
