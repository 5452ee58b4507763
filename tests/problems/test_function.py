"""Search over the choices of any function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from contracts.problems import Make, ProblemContract

import evonas
from evonas import FunctionProblem, Objective
from evonas.errors import EvaluationError, InvalidArgument


def loaf(flour: str, minutes: int, water: float) -> dict[str, float]:
    """How good a bread is, and how long one waits."""
    return {"taste": len(flour) / 10 + water - abs(minutes - 40) / 100, "crumbs": minutes * water}


def price(flour: str, minutes: int, water: float) -> dict[str, float]:
    """What it costs."""
    return {"cents": 10.0 * len(flour) + 0.1 * minutes + water}


CHOICES: dict[str, list[Any]] = {"flour": ["rye", "wheat"], "minutes": [30, 40, 50], "water": [0.6, 0.7]}


def bread(**changed: Any) -> FunctionProblem:
    arguments: dict[str, Any] = {
        "function": loaf,
        "choices": CHOICES,
        "objectives": {"taste": "max", "crumbs": "min"},
        "exact": price,
        "exact_objectives": {"cents": "min"},
    }
    return FunctionProblem(**(arguments | changed))


class TestFunctionProblem(ProblemContract):
    has_models = False

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Make:
        return bread


class TestFunctionWithoutExactObjectives(ProblemContract):
    has_models = False

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Make:
        return lambda: FunctionProblem(loaf, CHOICES, {"taste": "max", "crumbs": "min"})


def test_the_function_gets_the_choices_by_name() -> None:
    problem = bread()
    genome = problem.space.encode({"flour": "wheat", "minutes": 30, "water": 0.7})
    assert problem.evaluate(genome[None]) == [loaf("wheat", 30, 0.7)]
    assert problem.exact_values(genome[None]).tolist() == [[price("wheat", 30, 0.7)["cents"]]]
    assert problem.describe(genome) == "flour=wheat minutes=30 water=0.7"


def test_directions_and_names() -> None:
    problem = bread(name="bakery")
    assert problem.name == "bakery"
    assert bread().name == "loaf"
    assert problem.objective("taste").maximise
    assert not problem.objective("crumbs").maximise
    assert [objective.name for objective in problem.exact] == ["cents"]


def test_an_objective_may_be_given_whole() -> None:
    problem = bread(objectives={"taste": Objective("taste", "points", maximise=True), "crumbs": "min"})
    assert problem.objective("taste").unit == "points"


def test_a_whole_search_finds_the_front_of_a_function() -> None:
    result = evonas.search(bread(), sampler="grid", budget=100)
    assert len(result.evaluations) == 12
    assert set(result.front["flour"]) <= {"rye", "wheat"}
    best = result.best("taste")
    assert (best["flour"], best["minutes"], best["water"]) == ("wheat", "40", "0.7")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"function": 3}, "callable"),
        ({"choices": {}}, "at least one gene"),
        ({"choices": {"flour": []}}, "`flour` has no choices"),
        ({"choices": {"flour": "rye"}}, "must be a list or tuple"),
        ({"choices": {"flour": {"rye"}}}, "must be a list or tuple"),
        ({"choices": {"flour": ["rye", "rye"]}}, "`rye` twice"),
        ({"objectives": {}}, "`objectives` is empty"),
        ({"objectives": {"taste": "up"}}, "'min' or 'max'"),
        ({"objectives": {"taste": "max", "cents": "min"}}, "distinct"),
        ({"exact": None}, "belong together"),
        ({"exact_objectives": None}, "belong together"),
        ({"objectives": [Objective("taste", exact=True)]}, "`taste` must have"),
        ({"objectives": {"taste": Objective("crumbs")}}, "`taste` must have"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        bread(**changed)


@pytest.mark.parametrize("returned", [{}, {"pence": 3.0}, {"cents": 3.0, "pence": 1.0}, 3.0])
def test_wrong_names_of_exact_scores(returned: Mapping[str, float] | float) -> None:
    problem = bread(exact=lambda **_: returned)
    with pytest.raises(EvaluationError, match="cents"):
        problem.exact_values(np.zeros((1, 3), dtype=np.int64))
