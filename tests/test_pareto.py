"""Domination, hypervolume and the archive, against brute force and moocore."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import Toy, task_of

from evonas.evaluate import Evaluation, Task
from evonas.objective import Constraint, Objective
from evonas.pareto import Archive, hypervolume, non_dominated, reference_box

few_values = st.integers(0, 4).map(float)  # so that ties and equal points are common


@st.composite
def point_sets(draw: st.DrawFn) -> np.ndarray:
    """Points, shape (n, k), k = 1 to 4."""
    k = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(few_values, min_size=k, max_size=k), min_size=1, max_size=25))
    return np.array(rows)


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """By the definition."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@given(values=point_sets())
def test_non_dominated_points_are_those_that_no_other_dominates(values: np.ndarray) -> None:
    expected = [not any(dominates(other, point) for other in values) for point in values]
    assert non_dominated(values).tolist() == expected
    if values.shape[1] > 1:
        assert moocore.is_nondominated(values, keep_weakly=True).tolist() == expected


def test_no_points_at_all() -> None:
    assert non_dominated(np.zeros((0, 3))).shape == (0,)
    assert hypervolume(np.zeros((0, 2)), np.zeros(2), np.ones(2)) == 0.0


@given(values=point_sets())
def test_hypervolume_is_the_share_of_grid_cells_that_are_dominated(values: np.ndarray) -> None:
    """On integer points the cells of the unit grid are either dominated or not, and can be counted."""
    k = values.shape[1]
    cells = np.stack(np.meshgrid(*[np.arange(4)] * k, indexing="ij"), axis=-1).reshape(-1, k)
    dominated = (values[:, None, :] <= cells[None]).all(axis=2).any(axis=0)
    assert hypervolume(values, np.zeros(k), np.full(k, 4.0)) == pytest.approx(dominated.mean(), abs=1e-12)


def test_hypervolume_leaves_out_an_objective_without_extent() -> None:
    values = np.array([[1.0, 7.0], [2.0, 7.0]])
    assert hypervolume(values, np.array([0.0, 7.0]), np.array([4.0, 7.0])) == 0.75
    assert hypervolume(values, np.array([1.0, 7.0]), np.array([1.0, 7.0])) == 0.0


def test_points_outside_the_box_count_as_on_its_edge() -> None:
    box = np.zeros(2), np.ones(2)
    assert hypervolume(np.array([[-5.0, 0.5]]), *box) == 0.5
    assert hypervolume(np.array([[0.5, 3.0]]), *box) == 0.0


# the reference box


def test_the_box_takes_ranges_that_are_known_and_observed_ones_otherwise() -> None:
    task = task_of(Toy((3, 3)))  # the error is only observed; the cost is known to be 0 to 6
    lower, upper = reference_box(task, np.array([[2.0, 3.0], [1.5, 3.0]]))
    assert lower.tolist() == [1.5, 0.0]
    assert upper.tolist() == [2.0, 6.0]
    lower, upper = reference_box(task, np.zeros((0, 2)))
    assert (lower.tolist(), upper.tolist()) == ([0.0, 0.0], [0.0, 6.0])


def test_the_box_of_a_maximised_objective_is_turned_around() -> None:
    objective = Objective("accuracy", maximise=True, bounds=(0.0, 1.0))
    task = Task(Toy((3, 3)), (objective,))
    assert [end.tolist() for end in reference_box(task, np.array([[-0.5]]))] == [[-1.0], [-0.0]]


# the archive


class Scored(Toy):
    """Evaluations are made up by the tests: two measured objectives, one of them maximised."""

    def __init__(self) -> None:
        super().__init__((50,))
        self.objectives = (Objective("loss"), Objective("gain", maximise=True))
        self.default_objectives = ("loss", "gain")


def evaluations(rows: list[tuple[float, float]], status: list[str]) -> list[Evaluation]:
    """One evaluation a row, those that are not ok without values."""
    return [
        Evaluation(i, (i,), {"loss": loss, "gain": gain} if state == "ok" else {}, state)  # type: ignore[arg-type]
        for i, ((loss, gain), state) in enumerate(zip(rows, status, strict=True))
    ]


@given(data=st.data(), rows=st.lists(st.tuples(few_values, few_values), max_size=30), limited=st.booleans())
def test_an_archive_filled_one_by_one_has_the_front_of_all_at_once(
    data: st.DataObject, rows: list[tuple[float, float]], limited: bool
) -> None:
    problem = Scored()
    limit = (Constraint(problem.objective("gain"), 2.0, at_least=True),) if limited else ()
    task = Task(problem, problem.objectives, limit)
    n, states = len(rows), st.sampled_from(["ok", "ok", "ok", "failed", "infeasible"])
    status = data.draw(st.lists(states, min_size=n, max_size=n))
    made = evaluations(rows, status)
    archive = Archive(task)
    for n, evaluation in enumerate(made, 1):
        verdict = archive.add(evaluation)
        good = [e for e in made[:n] if e.status == "ok" and (not limited or e.values["gain"] >= 2.0)]
        kept = non_dominated(task.minimised(good))
        front = [e for e, keep in zip(good, kept, strict=True) if keep]
        assert archive.front == front
        expected = evaluation.status if evaluation.status != "ok" else "violating" if evaluation not in good else None
        assert verdict == (expected or ("front" if evaluation in front else "dominated"))
    assert archive.evaluations == made
    assert len(archive) == len(made)
    assert archive.spent == sum(state != "infeasible" for state in status)


def test_equal_points_all_stay_on_the_front() -> None:
    archive = Archive(Task(Scored(), Scored().objectives))
    for evaluation in evaluations([(1, 1), (1, 1), (2, 1), (1, 1)], ["ok"] * 4):
        archive.add(evaluation)
    assert [evaluation.number for evaluation in archive.front] == [0, 1, 3]


def test_the_hypervolume_of_an_archive_is_that_of_its_front() -> None:
    task = task_of(Toy((3, 3)))
    archive = Archive(task)
    assert archive.hypervolume() == 0.0
    for i, (error, cost) in enumerate([(2.0, 0.0), (1.0, 3.0), (1.5, 5.0), (0.0, 6.0)]):
        archive.add(Evaluation(i, (i // 3, i % 3), {"error": error, "cost": cost}))
    assert archive.hypervolume() == pytest.approx((1.0 - 0.5) * 0.5)
