"""The hypervolume curve against hypervolumes computed from scratch."""

from __future__ import annotations

import numpy as np
import pytest
from plots.cases import infeasible, not_finite, one_objective, six_objectives, ten_objectives

from evonas import FunctionProblem, pareto
from evonas.evaluate import Evaluation, Task
from evonas.pareto import Archive
from evonas.plots.growth import growth
from evonas.result import Result


def made(n: int, k: int, seed: int = 0, closeness: float = 4.0) -> Result:
    """A result of `n` evaluations of `k` objectives, on a grid of values so that some are equal."""
    rng = np.random.default_rng(seed)
    names = [f"f{i}" for i in range(k)]
    problem = FunctionProblem(lambda **_: {}, {"g": list(range(n))}, dict.fromkeys(names, "min"))
    archive = Archive(Task(problem, problem.objectives))
    directions = np.abs(rng.normal(size=(n, k)))
    rows = directions / np.linalg.norm(directions, axis=1, keepdims=True) * (1 + rng.exponential(1 / closeness, (n, 1)))
    for number, row in enumerate(rows.round(3)):
        archive.add(Evaluation(number, (number,), dict(zip(names, row.tolist(), strict=True))))
    return Result(archive, {})


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
def test_every_step_is_the_hypervolume_of_the_front_so_far(k: int) -> None:
    result = made(80, k)
    grown = growth(result)
    archive = Archive(result.task)
    for i, evaluation in enumerate(result.archive.evaluations):
        archive.add(evaluation)
        values = result.task.minimised(archive.front)
        assert grown.volumes[i] == pytest.approx(pareto.hypervolume(values, grown.lower, grown.upper), abs=1e-12)
        assert grown.sizes[i] == len(archive.front)


def test_the_end_is_the_hypervolume_of_the_archive(widths: Result, channels: Result) -> None:
    for result in (widths, channels, one_objective(), six_objectives(), infeasible()):
        assert growth(result).volumes[-1] == pytest.approx(result.archive.hypervolume(), abs=1e-12)


def test_it_never_falls_and_counts_what_was_spent(channels: Result) -> None:
    for result in (channels, infeasible(), not_finite(), ten_objectives()):
        grown = growth(result)
        assert len(grown.volumes) == len(grown.sizes) == result.archive.spent
        assert (np.diff(grown.volumes) >= 0).all()


def test_many_objectives_are_estimated_closely() -> None:
    result = made(60, 7)
    grown = growth(result)
    assert grown.estimated
    assert grown.volumes[-1] == pytest.approx(result.archive.hypervolume(), abs=0.015)
