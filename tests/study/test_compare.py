"""Comparisons as a whole: run, continue, extend, refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys import Toy, every_genome, task_of

from evonas.errors import EvonasError, RunError
from evonas.objective import Objective
from evonas.problem import FunctionProblem, TableProblem
from evonas.study import Study, compare, load_study
from evonas.study.run import same_start
from evonas.study.store import StudyStore


def toy() -> TableProblem:
    return TableProblem.of(Toy((4, 4, 4)))


def values(study: Study) -> list[np.ndarray]:
    return [run.values for runs in study.problems[0].runs.values() for run in runs]


def test_a_comparison_has_a_row_for_every_sampler(tmp_path: Path) -> None:
    study = compare(toy(), ["nsga2", "random", "brute-force"], seeds=4, budget=30, out=tmp_path / "study")
    summary = study.summary()
    assert summary["sampler"].tolist() == ["nsga2", "random", "grid"]
    assert study.problems[0].reference.origin == "enumerated"
    assert summary["hypervolume"].between(0, 1).all()
    assert len(study.pairs()) == 6  # three pairs, two quantities
    assert len(study.verdicts()) == 6
    assert "with 4 seeds no pair can reach p < 0.05" in study.notes[0]
    assert "toprule" in study.latex()
    for path in study.write(tmp_path / "out"):
        assert path.stat().st_size > 0
    assert load_study(tmp_path / "study", {"toy": toy()}).summary().equals(summary)


def test_a_study_is_extended_by_seeds_samplers_and_budget(tmp_path: Path) -> None:
    whole = compare(toy(), ["nsga2", "random", "local"], seeds=3, budget=30)
    out = tmp_path / "study"
    compare(toy(), ["nsga2"], seeds=2, budget=12, out=out)
    compare(toy(), ["random", "nsga2"], seeds=3, budget=20, out=out)
    grown = compare(toy(), ["nsga2", "random", "local"], seeds=3, budget=30, out=out)
    for first, second in zip(values(whole), values(grown), strict=True):
        assert np.array_equal(first, second)


def test_an_interrupted_study_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "study"
    whole = compare(toy(), ["nsga2", "random"], seeds=2, budget=30, out=out)
    with StudyStore.open(out) as store:
        store._connection.execute("DELETE FROM evaluation WHERE run = 2 AND number >= 7")
        store._connection.execute("DELETE FROM evaluation WHERE run = 3")
        store._connection.execute("UPDATE run SET budget = 0 WHERE id IN (2, 3)")
        store._connection.commit()
    again = compare(toy(), ["nsga2", "random"], seeds=2, budget=30, out=out)
    for first, second in zip(values(whole), values(again), strict=True):
        assert np.array_equal(first, second)


def test_workers_find_what_one_process_finds(tmp_path: Path) -> None:
    path = tmp_path / "toy.npz"
    toy().write(path)
    seen: list[tuple[int, int]] = []
    options = {"seeds": 2, "budget": 15, "out": tmp_path / "study"}
    both = compare(str(path), ["nsga2", "random"], workers=2, progress=lambda *now: seen.append(now), **options)  # type: ignore[arg-type]
    alone = compare(str(path), ["nsga2", "random"], seeds=2, budget=15, workers=1)
    for first, second in zip(values(both), values(alone), strict=True):
        assert np.array_equal(first, second)
    assert seen[-1] == (60, 60)


def test_a_budget_above_the_space_ends_with_it_and_says_so() -> None:
    study = compare(toy(), ["grid"], seeds=1, budget=1000)
    assert study.problems[0].budget == 64
    assert "64 genomes" in study.notes[0]
    assert study.summary()["hypervolume"][0] == pytest.approx(1.0)


def test_without_a_known_front_the_union_of_all_runs_stands_in() -> None:
    study = compare(Toy((9,) * 9), ["nsga2", "random"], seeds=2, budget=30)
    assert study.problems[0].reference.origin == "union of all runs"


def test_the_same_start_is_given_to_all() -> None:
    study = compare(toy(), ["nsga2", "random", "tpe", "local"], seeds=2, budget=12, start=5)
    runs = list(study.problems[0].runs.values())
    for others in runs[1:]:
        for first, second in zip(runs[0], others, strict=True):
            assert np.array_equal(first.values[:5], second.values[:5])
    assert not np.array_equal(runs[0][0].values[5:], runs[1][0].values[5:])


def test_the_same_start_meets_the_exact_constraints() -> None:
    task = task_of(Toy((4, 4, 4)), cost=6)
    start = same_start(task, 8, 0)
    assert len(np.unique(start, axis=0)) == 8
    assert task.feasible(start).all()
    assert len(same_start(task, 1000, 0)) == int(task.feasible(np.array(every_genome(task.space))).sum())


def test_failures_are_scored_as_nothing() -> None:
    def function(a: int, b: int) -> dict[str, float]:
        if a == 1:
            raise ValueError("no")
        return {"error": float(a + b)}

    problem = FunctionProblem(function, {"a": [0, 1, 2], "b": [0, 1, 2]}, {"error": "min"})
    study = compare(problem, ["grid"], seeds=1, budget=9, tabulate=False)
    assert np.isnan(values(study)[0]).sum() == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samplers": ["nsga2", "ngsa2"]}, "unknown sampler `ngsa2`; valid names: nsga2"),
        ({"samplers": ["grid", "brute-force"]}, "`grid` is named twice"),
        ({"samplers": []}, "`samplers` is empty"),
        ({"samplers": "nsga2"}, "list of names"),
        ({"seeds": 0}, "`seeds` must be a whole number of at least 1, got 0"),
        ({"budget": 0}, "`budget`"),
        ({"budget": 2.5}, "`budget`"),
        ({"workers": 0}, "`workers`"),
        ({"start": -1}, "`start`"),
        ({"objectives": ["eror"]}, "unknown objective `eror`; valid names: error"),
        ({"at_most": {"cost": -1}}, "no genome"),
        ({"problems": []}, "`problems` is empty"),
        ({"problems": [toy(), toy()]}, "two problems are named `toy`"),
        ({"problems": "digit"}, "unknown problem `digit`; valid names: digits"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: dict[str, object], message: str) -> None:
    given = {"problems": toy(), "samplers": ["random"], "seeds": 2, "budget": 5, **arguments}
    with pytest.raises(EvonasError, match=message) as error:
        compare(**given)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_runs_on_different_problems_are_not_mixed(tmp_path: Path) -> None:
    out = tmp_path / "study"
    compare(toy(), ["random"], seeds=1, budget=5, out=out)
    other = TableProblem.of(Toy((4, 4, 5)))
    with pytest.raises(RunError, match="gene `g2` of `toy` was 0 1 2 3, now it is 0 1 2 3 4"):
        compare(other, ["random"], seeds=1, budget=5, out=out)
    with pytest.raises(RunError, match="same genes and objectives, but other values"):
        compare(TableProblem.of(Toy((4, 4, 4), flat=True)), ["random"], seeds=1, budget=5, out=out)
    with pytest.raises(RunError, match=r"objectives of `toy`: \['error', 'cost'\], now \['error', 'top'\]"):
        compare(toy(), ["random"], seeds=1, budget=5, objectives=["error", "top"], out=out)
    compare(toy(), {"mine": ("nsga2", {"population": 8})}, seeds=1, budget=5, out=out)
    with pytest.raises(RunError, match="holds the sampler `mine`"):
        compare(toy(), {"mine": ("nsga2", {"population": 10})}, seeds=1, budget=5, out=out)


def test_directories_that_are_no_studies_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="not empty and holds no study"):
        compare(toy(), ["random"], seeds=1, budget=5, out=tmp_path)
    with pytest.raises(RunError, match="holds no study"):
        load_study(tmp_path)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "study.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(RunError, match="damaged"):
        load_study(tmp_path / "damaged")


def test_truth_is_what_is_scored_and_never_what_samplers_see() -> None:
    table = Toy((3, 3))
    enumerated = TableProblem.of(table)
    problem = TableProblem(
        table.space,
        [Objective("error"), Objective("cost", exact=True)],
        enumerated.values[:, :2],
        truth=enumerated.values[:, :2] + 1.0,
        name="noisy",
    )
    study = compare(problem, ["grid"], seeds=1, budget=9)
    assert np.allclose(values(study)[0], enumerated.values[:, :2] + 1.0)
