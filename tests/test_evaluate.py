"""Tasks, and what becomes of evaluations that go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from toys import Toy, known, task_of

from evonas import FunctionProblem
from evonas.errors import EvaluationError, InvalidArgument, UnknownName
from evonas.evaluate import Evaluation, Task, evaluate
from evonas.objective import Constraint, Objective


def returning(make: Callable[[], Any]) -> Task:
    """A task whose problem returns from `evaluate` what `make` does."""
    problem = Toy((3, 3))
    problem.evaluate = lambda genomes: make()  # type: ignore[method-assign]  # noqa: ARG005
    return task_of(problem)


def raising(error: Exception) -> Callable[[], Any]:
    """A function that raises `error`."""

    def fail() -> Any:
        raise error

    return fail


ONE = np.array([[1, 2]])


# evaluations


def test_an_evaluation_holds_exact_and_measured_values() -> None:
    task = task_of(Toy((3, 3)))
    (evaluation,) = evaluate(task, ONE, 7)
    assert evaluation.number == 7
    assert evaluation.genome == (1, 2)
    assert evaluation.values == {"cost": 5.0, "top": 2.0, "error": 0.5 + 0.25 + 0.25}
    assert evaluation.status == "ok"
    assert evaluation.error == ""
    assert evaluation.seconds >= 0


def test_evaluations_are_numbered_in_order() -> None:
    task = task_of(Toy((3, 3)))
    genomes = np.array([[0, 0], [2, 2], [1, 0]])
    found = evaluate(task, genomes, 4)
    assert [(e.number, e.genome) for e in found] == [(4, (0, 0)), (5, (2, 2)), (6, (1, 0))]
    assert known(found) == known([evaluate(task, genome[None], 4 + i)[0] for i, genome in enumerate(genomes)])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (raising(RuntimeError("out of memory\nand more")), "RuntimeError: out of memory and more"),
        (raising(ZeroDivisionError()), "ZeroDivisionError"),
        (raising(FloatingPointError("the output is not finite")), "FloatingPointError: the output is not finite"),
        (lambda: [{"error": math.nan}], "error is nan"),
        (lambda: [{"error": math.inf}], "error is inf"),
        (lambda: [{"error": -math.inf}], "error is -inf"),
        (lambda: [{"error": np.float32("nan")}], "error is nan"),
    ],
)
def test_what_goes_wrong_is_recorded_with_its_text(make: Callable[[], Any], text: str) -> None:
    (evaluation,) = evaluate(returning(make), ONE, 0)
    assert evaluation.status == "failed"
    assert evaluation.error == text
    assert evaluation.values == {"cost": 5.0, "top": 2.0}  # no number stands in for what is not known


def test_one_failure_does_not_touch_the_others() -> None:
    task = task_of(Toy((3, 3), broken=lambda genome: genome == (1, 1)))
    found = evaluate(task, np.array([[0, 1], [1, 1], [2, 1]]), 0)
    assert [e.status for e in found] == ["ok", "failed", "ok"]
    assert found[1].error == "RuntimeError: (1, 1) does not run"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_failed_evaluation(interrupt: type[BaseException]) -> None:
    with pytest.raises(interrupt):
        evaluate(returning(raising(interrupt())), ONE, 0)  # type: ignore[arg-type]


def test_over_an_exact_constraint_nothing_is_evaluated() -> None:
    problem = Toy((3, 3), broken=lambda genome: pytest.fail(f"{genome} was evaluated"))
    (evaluation,) = evaluate(task_of(problem, cost=4.0), ONE, 0)
    assert evaluation.status == "infeasible"
    assert evaluation.error == ""
    assert evaluation.values == {"cost": 5.0, "top": 2.0}


def test_over_a_measured_constraint_an_evaluation_is_ok_and_in_violation() -> None:
    task = task_of(Toy((3, 3)), error=0.5)
    found = evaluate(task, ONE, 0)
    assert found[0].status == "ok"
    assert task.violations(found).tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (list, "returned 0 results for 1 genome"),
        (lambda: [{"error": 1.0}, {"error": 2.0}], "returned 2 results for 1 genome"),
        (lambda: {"error": 1.0}, "returned a mapping for 1 genome"),
        (lambda: None, "returned NoneType for 1 genome"),
        (lambda: 0.5, "returned float for 1 genome"),
        (lambda: [0.5], "returned the scores float; expected exactly error"),
        (lambda: [{}], "returned the scores none; expected exactly error"),
        (lambda: [{"eror": 1.0}], "returned the scores eror; expected exactly error"),
        (lambda: [{"error": 1.0, "cost": 2.0}], "returned the scores error, cost; expected exactly error"),
        (lambda: [{"error": None}], "a score that is not a number"),
        (lambda: [{"error": "good"}], "a score that is not a number"),
        (lambda: [{"error": [1.0, 2.0]}], "a score that is not a number"),
    ],
)
def test_a_problem_that_breaks_its_contract_ends_the_search(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        evaluate(returning(make), ONE, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_exact_objective_that_is_not_finite_is_a_failed_evaluation(value: float) -> None:
    """It would otherwise be dominated by nothing, and stay on the front for ever."""

    def exact(width: int) -> dict[str, float]:
        return {"cost": value if width == 2 else float(width)}

    problem = FunctionProblem(
        lambda width: {"error": 1.0 / width}, {"width": [1, 2, 3]}, {"error": "min"},
        exact=exact, exact_objectives={"cost": "min"},
    )  # fmt: skip
    found = evaluate(Task.make(problem), np.array([[0], [1], [2]]), 0)
    assert [e.status for e in found] == ["ok", "failed", "ok"]
    assert found[1].error == f"cost is {value}"


# tasks


def test_the_defaults_of_the_problem_are_searched() -> None:
    assert [objective.name for objective in task_of(Toy((3, 3))).objectives] == ["error", "cost"]
    assert [objective.name for objective in Task.make(Toy((3, 3)), ["top", "error"]).objectives] == ["top", "error"]


def test_an_objective_that_cannot_vary_is_left_out_of_the_front_and_reported() -> None:
    task = task_of(Toy((1, 1)))
    assert [objective.name for objective in task.objectives] == ["error"]
    assert [(objective.name, value) for objective, value in task.dropped] == [("cost", 0.0)]


@pytest.mark.parametrize(
    ("objectives", "error", "message"),
    [
        ([], InvalidArgument, "`objectives` is empty"),
        (["error", "error"], InvalidArgument, "names one twice"),
        (["eror"], UnknownName, "unknown objective `eror`; valid names: error"),
    ],
)
def test_objectives_that_cannot_be(objectives: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Task.make(Toy((3, 3)), objectives)


def test_no_objective_varies() -> None:
    with pytest.raises(InvalidArgument, match="none of the objectives cost varies"):
        Task.make(Toy((1, 1)), ["cost"])


@pytest.mark.parametrize("counts", [(3, 3), (9,) * 9], ids=["enumerated", "huge"])
def test_a_constraint_that_no_genome_can_meet_is_named_with_the_best_there_is(counts: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match=r"cost <= -1 bit: the smallest possible cost is 0 bit"):
        task_of(Toy(counts), cost=-1)
    problem = Toy(counts)
    highest = problem.exact_values(problem.space.corners())[1, 0]
    too_much = Constraint(problem.objective("cost"), highest + 1, at_least=True)
    with pytest.raises(InvalidArgument, match=r"the largest possible cost is"):
        Task.make(problem, None, [too_much])


def test_constraints_that_cannot_be_met_together() -> None:
    problem = Toy((3, 3))
    cost, top = problem.objective("cost"), problem.objective("top")
    with pytest.raises(InvalidArgument, match=r"no genome meets cost <= 1 bit and top >= 2 at once"):
        Task.make(problem, None, [Constraint(cost, 1), Constraint(top, 2, at_least=True)])


def test_a_measured_constraint_outside_the_bounds_of_its_objective() -> None:
    problem = Toy((3, 3))
    accuracy = Objective("accuracy", "fraction", maximise=True, bounds=(0.0, 1.0))
    problem.objectives = (*problem.objectives, accuracy)
    with pytest.raises(InvalidArgument, match=r"accuracy >= 1.5000: accuracy is always 0.0000 to 1.0000"):
        Task.make(problem, ["error"], [Constraint(accuracy, 1.5, at_least=True)])


def test_feasibility_follows_exact_constraints_alone() -> None:
    task = task_of(Toy((3, 3)), cost=3, error=-5.0)
    genomes = np.array([[0, 0], [2, 1], [1, 1], [0, 2]])
    assert task.feasible(genomes).tolist() == [True, False, True, False]
    assert task.exact_violations(genomes).tolist() == [[-3.0], [1.0], [0.0], [1.0]]


def test_values_are_turned_so_that_less_is_better() -> None:
    problem = Toy((3, 3))
    problem.objectives = (Objective("error", maximise=True), *problem.objectives[1:])
    task = task_of(problem)
    assert task.minimised([Evaluation(0, (0, 0), {"error": 2.0, "cost": 3.0})]).tolist() == [[-2.0, 3.0]]
