"""What a search returns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toys import Toy

import evonas
from evonas.errors import InvalidArgument, UnknownName
from evonas.objective import Constraint
from evonas.problems.digits import Digits, digits
from evonas.result import Result


def found(**changed: object) -> Result:
    problem = Toy((6, 5, 4), broken=lambda genome: genome[0] == 5)
    return evonas.search(problem, sampler="random", budget=80, figures=False, progress="none", **changed)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result() -> Result:
    return found()


@pytest.fixture(scope="module")
def network() -> Result:
    return evonas.search(digits(epochs=2), budget=40, progress="none")


def test_evaluations_are_a_frame_of_everything(result: Result) -> None:
    frame = result.evaluations
    assert frame["number"].tolist() == list(range(80))
    assert set(frame.columns) == {
        *("number", "error", "cost", "top"),  # the objectives
        *("status", "seconds", "failure"),
        *("g0", "g1", "g2"),  # the choices
    }
    assert (frame.loc[frame["g0"] == "5", "status"] == "failed").all()
    assert (frame.loc[frame["g0"] != "5", "status"] == "ok").all()
    assert frame.loc[frame["status"] == "ok", "error"].tolist() == [
        evaluation.values["error"] for evaluation in result.archive.evaluations if evaluation.status == "ok"
    ]
    assert frame.loc[frame["status"] == "failed", "error"].isna().all()
    assert frame.loc[frame["status"] == "failed", "failure"].str.startswith("RuntimeError").all()
    assert (frame.loc[frame["status"] == "ok", "failure"] == "").all()


def test_the_front_is_sorted_by_the_first_objective_and_nothing_on_it_is_dominated(result: Result) -> None:
    front = result.front
    assert front["error"].is_monotonic_increasing
    assert front["cost"].is_monotonic_decreasing
    assert front.index.tolist() == list(range(len(front)))
    assert [evaluation.number for evaluation in result.front_evaluations] == front["number"].tolist()


def test_the_best_within_limits(result: Result) -> None:
    front = result.front
    assert result.best()["number"] == front.iloc[0]["number"]
    assert result.best("cost")["number"] == front.iloc[-1]["number"]
    limited = result.best(cost_max=8)
    expected = front[front["cost"] <= 8].iloc[0]
    assert limited["number"] == expected["number"]
    assert result.best(cost_max="1B", error_min=0.0)["cost"] <= 8
    assert result.best("top", cost_min=9)["top"] == front[front["cost"] >= 9]["top"].min()


@pytest.mark.parametrize(
    ("limits", "error", "message"),
    [
        ({"cost_max": -1}, InvalidArgument, "no point of the front has cost <= -1 bit"),
        ({"cost": 3}, InvalidArgument, "`cost` must end in _min or _max"),
        ({"price_max": 3}, UnknownName, "unknown objective `price`"),
        ({"cost_max": "3us"}, InvalidArgument, "is not a unit of cost"),
    ],
)
def test_limits_that_cannot_be(result: Result, limits: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        result.best(**limits)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="unknown objective `price`"):
        result.best("price")


def test_points_within_constraints_are_given_by_index(result: Result) -> None:
    cost = result.problem.objective("cost")
    expected = [i for i, value in enumerate(result.front["cost"]) if value <= 9]
    assert result.within([Constraint(cost, 9)]) == expected
    assert result.within([]) == list(range(len(result.front)))


def test_a_point_is_picked_by_index(result: Result) -> None:
    assert result.pick(1) is result.front_evaluations[1]
    for index in (-1, len(result.front)):
        with pytest.raises(InvalidArgument, match=f"points 0 to {len(result.front) - 1}, got {index}"):
            result.pick(index)


def test_an_empty_front() -> None:
    nothing = evonas.search(Toy((3, 3), broken=lambda _: True), budget=5, figures=False, progress="none")
    assert nothing.front_evaluations == []
    assert len(nothing.front) == 0
    with pytest.raises(InvalidArgument, match="the front is empty"):
        nothing.pick(0)
    with pytest.raises(InvalidArgument, match="no point of the front"):
        nothing.best()


def test_front_csv_is_the_front(tmp_path: Path) -> None:
    result = found(out=tmp_path / "run")
    table = pd.read_csv(tmp_path / "run" / "front.csv")
    pd.testing.assert_frame_equal(table.astype(str), result.front.astype(str))
    assert table["error"].tolist() == result.front["error"].tolist()  # no digit is lost
    assert [path.name for path in (tmp_path / "run").glob("*.tmp")] == []


def test_scores_on_test_stand_in_the_front_with_their_interval(network: Result) -> None:
    front = network.front
    assert (front["test_accuracy_low"] <= front["test_accuracy"]).all()
    assert (front["test_accuracy"] <= front["test_accuracy_high"]).all()
    assert "test_accuracy" not in network.evaluations.columns


def test_a_model_scores_what_was_recorded(network: Result) -> None:
    problem = network.problem
    assert isinstance(problem, Digits)
    for index in (0, len(network.front) - 1):
        model = network.model(index)
        with torch.no_grad():
            right = model(problem.validation.inputs).argmax(1) == problem.validation.targets
            tested = model(problem.test_split.inputs).argmax(1) == problem.test_split.targets
        row = network.front.loc[index]
        assert float(right.double().mean()) == row["accuracy"]
        assert float(tested.float().mean()) == row["test_accuracy"]
        assert not math.isnan(row["loss"])


def test_the_interval_is_wilsons(network: Result) -> None:
    """Against the formula of Wilson 1927, with z = 1.959964."""
    n, z = 359, 1.959963984540054
    for scores in network.tests.values():
        estimate = scores["accuracy"]
        centre = (estimate.value + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(estimate.value * (1 - estimate.value) / n + z**2 / (4 * n**2))
        assert (estimate.low, estimate.high) == pytest.approx((centre - half, centre + half), abs=1e-6)
