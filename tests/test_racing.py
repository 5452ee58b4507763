"""Racing: the bound is exact, nothing that was stopped is on the front, and a stopped run resumes to the same end."""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli.helpers import run_here
from hypothesis import given, settings
from hypothesis import strategies as st
from problem.networks import Small, blobs
from scipy.stats import hypergeom
from toys import Toy

import evonas
from evonas.errors import InvalidArgument
from evonas.evaluate import Evaluation, Task, evaluate
from evonas.pareto import Archive
from evonas.problem.model import ModelProblem
from evonas.problems.digits import digits_ptq
from evonas.racing import RISK, Raced, beaten, looks, most_right
from evonas.result import Result
from evonas.space import FloatArray, IntArray

OBJECTIVES = ["accuracy", "size", "bops"]


def race(*, out: Path | None = None, racing: bool = True, **more: Any) -> Result:
    arguments: dict[str, Any] = {"budget": 120, "objectives": OBJECTIVES, "figures": False, "progress": "none"}
    return evonas.search(digits_ptq(epochs=5), out=out, racing=racing, **(arguments | more))


@pytest.fixture(scope="module")
def raced() -> Result:
    return race()


def after(n: int) -> Callable[[], bool]:
    calls = iter(range(1, 10**9))
    return lambda: next(calls) >= n


def known(evaluations: list[Evaluation]) -> list[tuple[object, ...]]:
    return [(e.number, e.genome, e.values, e.status, e.error) for e in evaluations]


# the bound


@given(st.data(), st.integers(1, 60), st.floats(1e-4, 0.3))
def test_the_bound_is_the_inverted_tail(data: st.DataObject, total: int, risk: float) -> None:
    seen = data.draw(st.integers(1, total))
    right = data.draw(st.integers(0, seen))
    bound = most_right(right, seen, total, risk)
    assert right <= bound <= total - seen + right

    def tail(all_right: int) -> float:
        ways = [comb(all_right, k) * comb(total - all_right, seen - k) for k in range(right + 1)]
        return sum(ways) / comb(total, seen)

    assert tail(bound) > risk * (1 - 1e-9)
    assert bound == total - seen + right or tail(bound + 1) <= risk * (1 + 1e-9)


@given(st.data(), st.integers(1, 200_000), st.floats(1e-4, 0.3))
def test_the_bound_of_many_samples_is_that_of_scipy(data: st.DataObject, total: int, risk: float) -> None:
    seen = data.draw(st.integers(1, total))
    right = data.draw(st.integers(0, seen))
    bound = most_right(right, seen, total, risk)
    assert hypergeom.cdf(right, total, bound, seen) > risk * (1 - 1e-7)
    if bound < total - seen + right:
        assert hypergeom.cdf(right, total, bound + 1, seen) <= risk * (1 + 1e-7)


@settings(max_examples=40)
@given(st.data(), st.integers(2, 400))
def test_the_bound_fails_no_more_often_than_said(data: st.DataObject, total: int) -> None:
    """Exact coverage: the chance, over orders of the samples, that the bound is below the truth."""
    truth = data.draw(st.integers(0, total))
    seen = data.draw(st.integers(1, total))
    chances = hypergeom.pmf(np.arange(seen + 1), total, truth, seen)
    failing = [right for right in np.flatnonzero(chances > 0) if most_right(int(right), seen, total, RISK) < truth]
    assert chances[failing].sum() <= RISK * (1 + 1e-9)


@given(st.data(), st.integers(2, 500))
def test_who_is_beaten_has_a_bound_below_the_bar(data: st.DataObject, total: int) -> None:
    seen = data.draw(st.integers(1, total))
    right = data.draw(st.lists(st.integers(0, seen), min_size=1, max_size=5))
    bars = st.one_of(st.integers(0, total).map(lambda k: k / total), st.floats(0, 1), st.just(-np.inf))
    least = np.array(data.draw(st.lists(bars, min_size=len(right), max_size=len(right))))
    bounds = np.array([most_right(one, seen, total, RISK) / total for one in right])
    assert beaten(np.array(right), seen, total, least, RISK).tolist() == (bounds < least).tolist()


def test_with_everything_seen_the_bound_is_the_count() -> None:
    assert most_right(7, 10, 10, RISK) == 7


@given(st.integers(1, 10**6))
def test_looks_are_few_and_before_the_end(total: int) -> None:
    found = looks(total)
    assert found == sorted(set(found))
    assert all(128 <= count < total and count % 32 == 0 for count in found)
    assert len(found) <= 4


# a search


def test_candidates_are_stopped_and_none_of_them_is_on_the_front(raced: Result) -> None:
    stopped = [e for e in raced.archive.evaluations if e.status == "stopped"]
    assert len(stopped) > 10
    assert not {e.number for e in stopped} & {e.number for e in raced.archive.front}
    for evaluation in stopped:
        known_then = raced.archive.evaluations[: evaluation.number // 16 * 16]  # before its generation
        assert evaluation.values["samples"] in looks(719)
        assert evaluation.values["seen"] < evaluation.values["accuracy"]
        assert "accuracy at most" in evaluation.error
        assert "loss" not in evaluation.values
        dominating = [
            e
            for e in known_then
            if e.status == "ok"
            and e.values["accuracy"] > evaluation.values["accuracy"]
            and all(e.values[name] <= evaluation.values[name] for name in ("size", "bops"))
        ]
        assert dominating, "a stopped candidate is dominated by what was known when it was stopped"


def test_what_is_not_stopped_scores_as_ever_and_bounds_hold(raced: Result) -> None:
    problem = digits_ptq(epochs=5)
    evaluations = raced.archive.evaluations
    scores = problem.evaluate(np.array([e.genome for e in evaluations]))
    wrong = 0
    for evaluation, score in zip(evaluations, scores, strict=True):
        if evaluation.status == "ok":
            assert {name: evaluation.values[name] for name in score} == score
        else:
            wrong += score["accuracy"] > evaluation.values["accuracy"]
    assert wrong <= 0.05 * len(evaluations)  # 1 % each


def test_a_race_that_is_stopped_and_resumed_ends_as_one_that_was_not(raced: Result, tmp_path: Path) -> None:
    first = race(out=tmp_path / "run", stop=after(37))
    assert first.ended == "interrupted"
    evonas.resume(tmp_path / "run", digits_ptq(epochs=5), figures=False, progress="none", stop=after(20))
    resumed = evonas.resume(tmp_path / "run", digits_ptq(epochs=5), figures=False, progress="none")
    assert known(resumed.archive.evaluations) == known(raced.archive.evaluations)
    shown = evonas.load_result(tmp_path / "run", digits_ptq(epochs=5))
    assert known(shown.archive.front) == known(raced.archive.front)


def test_a_race_that_gets_more_budget_ends_as_one_that_had_it_from_the_start(raced: Result, tmp_path: Path) -> None:
    race(out=tmp_path / "run", budget=70)  # in the middle of a generation
    resumed = evonas.resume(tmp_path / "run", digits_ptq(epochs=5), budget=120, figures=False, progress="none")
    assert known(resumed.archive.evaluations) == known(raced.archive.evaluations)


def test_how_many_are_evaluated_together_changes_nothing(raced: Result) -> None:
    task = raced.task
    archive = Archive(task)
    for evaluation in raced.archive.evaluations[:80]:
        archive.add(evaluation)
    bar, genomes = archive.bar(), task.space.sample(24, np.random.default_rng(0))
    together = evaluate(task, genomes, 0, bar=bar)
    assert {e.status for e in together} == {"ok", "stopped"}
    alone = [one for i, genome in enumerate(genomes) for one in evaluate(task, genome[None], i, bar=bar)]
    assert known(together) == known(alone)


def test_one_that_fails_takes_nobody_with_it(raced: Result) -> None:
    broken = digits_ptq(epochs=5)
    whole = broken.race

    def race(genomes: IntArray, least: FloatArray) -> list[Raced]:
        if (genomes == 0).all(axis=1).any():
            raise FloatingPointError("the network's output is not finite")
        return whole(genomes, least)

    broken.race = race  # type: ignore[method-assign]
    task = Task.make(broken, OBJECTIVES)
    genomes = np.concatenate([task.space.corners(), task.space.sample(3, np.random.default_rng(0))])
    found = evaluate(task, genomes, 0, bar=lambda _: None)
    assert [e.status for e in found] == ["failed", "ok", "ok", "ok", "ok"]
    assert "not finite" in found[0].error
    plain = evaluate(raced.task, genomes[1:], 1)
    assert known(found[1:]) == known(plain)


def test_without_racing_nothing_is_stopped(raced: Result) -> None:
    plain = race(racing=False)
    assert {e.status for e in plain.archive.evaluations} == {"ok"}
    assert raced.config["racing"] is True
    assert plain.config["racing"] is False


@pytest.mark.parametrize("sampler", ["random", "sa-nsga2"])
def test_other_samplers_race_too(sampler: str) -> None:
    result = race(sampler=sampler, budget=40)
    assert {e.status for e in result.archive.evaluations} <= {"ok", "stopped"}
    assert any(e.status == "stopped" for e in result.archive.evaluations)


def test_a_raced_run_can_be_drawn(tmp_path: Path) -> None:
    assert race(out=tmp_path / "run", figures=True, budget=30).ended == "budget"
    assert (tmp_path / "run" / "front.png").exists() or any((tmp_path / "run").glob("*.png"))


def test_a_network_whose_output_is_not_finite_fails() -> None:
    problem = digits_ptq(epochs=0)
    network = problem.network(np.zeros(6, dtype=np.int64)).graph
    with torch.no_grad():
        network.get_parameter("fc3.bias").fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        problem.race(np.zeros((1, 6), dtype=np.int64), np.array([0.5]))


# what is refused


def test_a_loss_cannot_be_raced() -> None:
    with pytest.raises(InvalidArgument, match="`racing` cannot bound `loss`"):
        race(objectives=["accuracy", "loss", "size"])
    with pytest.raises(InvalidArgument, match="`racing` cannot bound `loss`"):
        race(at_most={"loss": 1.0})
    with pytest.raises(InvalidArgument, match="accuracy, which is no objective"):
        race(objectives=["bops", "size"])


def test_a_problem_without_samples_cannot_be_raced() -> None:
    with pytest.raises(InvalidArgument, match="`racing` needs an accuracy over samples"):
        evonas.search(Toy((4, 4, 4, 4)), racing=True, budget=5)


def test_a_mean_over_seeds_cannot_be_raced() -> None:
    problem = ModelProblem(
        Small().eval(), train=blobs(40, 0), validation=blobs(40, 1), weights="scratch", epochs=1, seeds=2
    )
    with pytest.raises(InvalidArgument, match="`racing` needs an accuracy over samples of one trained network"):
        evonas.search(problem, racing=True, budget=5)


# the command line


def test_racing_from_the_command_line_and_from_a_run_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("search", "digits-ptq", "--budget", "60", "--set", "epochs=5", "--no-figures")
    arguments = (*arguments, "--objectives", "accuracy,size,bops")
    code, out, error = run_here(*arguments, "--racing", "--out", str(tmp_path / "a"), capsys=capsys)
    assert code == 0, error
    assert "racing stopped" in out
    code, out, _ = run_here("show", str(tmp_path / "a"), capsys=capsys)
    assert "of them behind the front, each with 99 % confidence" in out
    (tmp_path / "run.toml").write_text("racing = true\n")
    more = ("--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "b"))
    code, out, error = run_here(*arguments, *more, capsys=capsys)
    assert code == 0, error
    assert "racing stopped" in out
    (tmp_path / "run.toml").write_text("racing = 1\n")
    code, _, error = run_here(*arguments, *more, capsys=capsys)
    assert code != 0
    assert "`racing` must be true or false" in error
