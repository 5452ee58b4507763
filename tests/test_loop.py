"""The search itself: budgets, reproducibility, stopping and going on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import Toy, every_genome, genomes_of, known, untouched_global_state

import evonas
from evonas.errors import EvaluationError, InvalidArgument, RunError, UnknownName
from evonas.pareto import non_dominated
from evonas.problems.digits import digits_ptq
from evonas.result import Result
from evonas.samplers.nsga2 import POPULATION

COUNTS = (6, 5, 4, 6)  # 720 genomes


def search(problem: Any = None, **arguments: Any) -> Result:
    return evonas.search(problem or Toy(COUNTS), figures=False, progress="none", **arguments)


def resume(directory: Path, problem: Any = None, **arguments: Any) -> Result:
    return evonas.resume(directory, problem or Toy(COUNTS), figures=False, progress="none", **arguments)


def outcome(result: Result) -> tuple[Any, ...]:
    """All that two runs must agree on."""
    tests = {number: scores for number, scores in result.tests.items() if scores}
    return known(result.archive.evaluations), known(result.front_evaluations), tests, result.ended


def after(n: int) -> Callable[[], bool]:
    """A `stop` that says so from the n-th time on."""
    asked = iter(range(1, 10**9))
    return lambda: next(asked) >= n


# the budget


@pytest.mark.parametrize("budget", [1, 2, 19, 20, 21, 39, 64, 65, 97, 137])
@pytest.mark.parametrize("sampler", ["nsga2", "random", "grid"])
def test_trap_pymoo_overruns_a_budget_that_is_no_multiple_of_the_population(sampler: str, budget: int) -> None:
    asked = []
    problem = Toy(COUNTS, broken=lambda genome: bool(asked.append(genome)))
    result = search(problem, sampler=sampler, budget=budget)
    assert len(asked) == len(set(asked)) == budget
    assert genomes_of(result.archive.evaluations) == asked
    assert result.ended == "budget"


@pytest.mark.parametrize("sampler", ["nsga2", "random", "grid", "brute-force"])
def test_a_space_smaller_than_the_budget_is_exhausted(sampler: str) -> None:
    result = search(Toy((3, 3, 3)), sampler=sampler, budget=400)
    assert sorted(genomes_of(result.archive.evaluations)) == every_genome(result.problem.space)
    assert result.ended == "exhausted"


def test_failed_evaluations_are_spent_too() -> None:
    result = search(Toy(COUNTS, broken=lambda _: True), budget=50)
    assert len(result.archive.evaluations) == result.archive.spent == 50
    assert result.archive.front == []


def test_trap_pymoo_reports_the_last_population_and_not_the_archive() -> None:
    result = search(Toy((8,) * 6), budget=300)
    ok = result.archive.evaluations
    expected = {ok[i].genome for i in np.flatnonzero(non_dominated(result.task.minimised(ok)))}
    assert set(genomes_of(result.archive.front)) == expected
    assert len(expected) > POPULATION


# the same run


@pytest.mark.parametrize("sampler", ["nsga2", "random", "grid"])
def test_the_same_seed_gives_the_same_run(sampler: str) -> None:
    arguments: dict[str, Any] = {"sampler": sampler, "budget": 90, "seed": 11, "at_most": {"cost": 20, "error": 3.0}}
    with untouched_global_state():
        first = search(**arguments)
    assert outcome(first) == outcome(search(**arguments))


def test_on_disk_and_in_memory_are_the_same_run(tmp_path: Path) -> None:
    kept = search(budget=70, seed=3, out=tmp_path / "run")
    assert outcome(kept) == outcome(search(budget=70, seed=3))
    assert outcome(evonas.load_result(tmp_path / "run", Toy(COUNTS))) == outcome(kept)


# stopping and going on


@pytest.mark.parametrize("stops", [[1], [2], [19], [20], [21], [63], [64], [65], [89], [5, 30, 31]])
@pytest.mark.parametrize("sampler", ["nsga2", "random", "grid"])
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(
    sampler: str, stops: list[int], tmp_path: Path
) -> None:
    def problem() -> Toy:
        return Toy(COUNTS, broken=lambda genome: sum(genome) % 4 == 0)

    arguments: dict[str, Any] = {"sampler": sampler, "budget": 90, "seed": 2, "at_most": {"cost": 25, "error": 3.0}}
    whole = search(problem(), **arguments)
    stopped = search(problem(), out=tmp_path / "run", stop=after(stops[0]), **arguments)
    assert stopped.ended == "interrupted"
    assert len(stopped.archive) == stops[0]
    for stop in stops[1:]:
        stopped = resume(tmp_path / "run", problem(), stop=after(stop - len(stopped.archive) + 1))
        assert stopped.ended == "interrupted"
        assert len(stopped.archive) == stop
    assert outcome(resume(tmp_path / "run", problem())) == outcome(whole)
    assert (tmp_path / "run" / "front.csv").is_file()


def test_a_stop_during_the_replay_waits_for_its_end_and_loses_nothing(tmp_path: Path) -> None:
    search(budget=90, out=tmp_path / "run", stop=after(50))
    stopped = resume(tmp_path / "run", stop=lambda: True)
    assert stopped.ended == "interrupted"
    assert len(stopped.archive) == 50
    assert outcome(resume(tmp_path / "run")) == outcome(search(budget=90))


def test_nothing_is_evaluated_twice(tmp_path: Path) -> None:
    asked: list[tuple[int, ...]] = []
    problem = Toy(COUNTS, broken=lambda genome: bool(asked.append(genome)))
    search(problem, budget=60, out=tmp_path / "run", stop=after(25))
    resume(tmp_path / "run", problem)
    assert len(asked) == len(set(asked)) == 60


@pytest.mark.parametrize("sampler", ["nsga2", "random", "grid"])
def test_a_larger_budget_goes_on_from_a_finished_run(sampler: str, tmp_path: Path) -> None:
    search(sampler=sampler, budget=33, out=tmp_path / "run")
    extended = resume(tmp_path / "run", budget=np.int64(75))
    assert outcome(extended) == outcome(search(sampler=sampler, budget=75))
    assert evonas.load_result(tmp_path / "run", Toy(COUNTS)).config["budget"] == 75


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    finished = search(budget=30, out=tmp_path / "run")
    table = (tmp_path / "run" / "front.csv").read_bytes()
    assert outcome(resume(tmp_path / "run")) == outcome(finished)
    assert (tmp_path / "run" / "front.csv").read_bytes() == table


def test_a_stop_at_the_very_end_is_no_interruption() -> None:
    assert search(budget=30, stop=after(30)).ended == "budget"


def test_each_evaluation_is_stored_before_the_next_is_made(tmp_path: Path) -> None:
    stored: list[int] = []

    def look(_: tuple[int, ...]) -> bool:
        stored.append(len(evonas.load_result(tmp_path / "run", Toy(COUNTS)).archive))
        return False

    search(Toy(COUNTS, broken=look), budget=10, out=tmp_path / "run")
    assert stored == list(range(10))


# what is refused


@pytest.mark.parametrize("budget", [0, -1, 2.5, "many", None, True])
def test_a_budget_is_a_whole_number_of_at_least_one(budget: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="`budget` must be a whole number of at least 1"):
        search(budget=budget, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "x", None])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(InvalidArgument, match="`seed` must be a whole number"):
        search(seed=seed)


def test_an_unknown_sampler_lists_the_nearest_first() -> None:
    with pytest.raises(UnknownName, match="unknown sampler `nsga7`; valid names: nsga"):
        search(sampler="nsga7")


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), "nan", "2us"])
def test_a_limit_is_a_finite_number_with_a_unit_that_fits(limit: Any) -> None:
    with pytest.raises(InvalidArgument, match="cost"):
        search(at_most={"cost": limit})


def test_limits_may_be_written_with_units() -> None:
    result = search(budget=40, at_most={"cost": "2B"})
    assert max(evaluation.values["cost"] for evaluation in result.archive.evaluations) <= 16


def test_a_problem_that_breaks_its_contract_leaves_no_run_behind(tmp_path: Path) -> None:
    problem = Toy(COUNTS)
    problem.evaluate = lambda _: [{"eror": 1.0}]  # type: ignore[method-assign]
    with pytest.raises(EvaluationError, match="eror"):
        search(problem, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_of_a_problem_object_wants_it_again(tmp_path: Path) -> None:
    search(budget=5, out=tmp_path / "run")
    with pytest.raises(InvalidArgument, match="give it again"):
        evonas.resume(tmp_path / "run")
    with pytest.raises(RunError, match="other genes, objectives, weights or values"):
        resume(tmp_path / "run", Toy((2, 2)))


def test_a_budget_below_what_was_spent_is_refused(tmp_path: Path) -> None:
    search(budget=30, out=tmp_path / "run")
    with pytest.raises(InvalidArgument, match="30 evaluations are spent already"):
        resume(tmp_path / "run", budget=29)


def test_a_record_that_the_sampler_does_not_repeat_is_refused(tmp_path: Path) -> None:
    import sqlite3

    search(budget=30, out=tmp_path / "run", stop=after(20))
    connection = sqlite3.connect(tmp_path / "run" / "run.sqlite")
    with connection:
        connection.execute("UPDATE evaluation SET genome = '[0, 1, 0, 1]' WHERE number = 7")
    connection.close()
    with pytest.raises(RunError, match="no longer proposes what evaluation 7 recorded"):
        resume(tmp_path / "run")


# validation and test


def test_the_search_never_sees_the_test_split() -> None:
    """With a test split of noise, every evaluation is as before; only the scores on test are not."""
    clean, corrupted = digits_ptq(epochs=2), digits_ptq(epochs=2)
    inputs = corrupted.test_split.inputs
    corrupted.test_split = type(corrupted.test_split)(inputs.flip(0), corrupted.test_split.targets)
    first, second = (search(problem, budget=45) for problem in (clean, corrupted))
    assert known(first.archive.evaluations) == known(second.archive.evaluations)
    assert first.tests.keys() == second.tests.keys()
    assert first.tests != second.tests


def test_the_front_and_only_the_front_is_scored_on_test() -> None:
    result = search(digits_ptq(epochs=2), budget=45)
    assert set(result.tests) == {evaluation.number for evaluation in result.archive.front}
    for scores in result.tests.values():
        assert scores["accuracy"].low <= scores["accuracy"].value <= scores["accuracy"].high


def test_a_shipped_problem_is_resumed_by_its_name(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"budget": 30, "seed": 1, "figures": False, "progress": "none"}
    stopped = evonas.search("digits-ptq", out=tmp_path / "run", stop=after(7), **arguments)
    assert stopped.ended == "interrupted"
    resumed = evonas.resume(tmp_path / "run", figures=False, progress="none")
    assert outcome(resumed) == outcome(evonas.search("digits-ptq", **arguments))
