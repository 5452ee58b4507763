"""Tables as problems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import Toy, every_genome

from evonas.errors import InvalidArgument, UnknownName
from evonas.problem import TableProblem
from evonas.problem.table import subspace
from evonas.problems import load
from evonas.study import table


def small() -> pd.DataFrame:
    """Two genes, four rows, in no order."""
    columns = {"op": ["b", "a", "b", "a"], "width": [8, 8, 2, 2]}
    return pd.DataFrame(columns | {"error (min)": [0.1, 0.2, 0.3, 0.4], "score (max, exact, points)": [1, 2, 3, 4]})


def written(frame: pd.DataFrame, directory: Path, suffix: str = ".csv") -> Path:
    path = directory / f"some{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        np.savez(
            path, **{str(k): c.to_numpy().astype(str) if c.dtype == object else c.to_numpy() for k, c in frame.items()}
        )
    return path


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_a_table_is_read_with_its_objectives_and_genes(tmp_path: Path, suffix: str) -> None:
    frame = small().astype({"op": object})
    problem = TableProblem.read(written(frame, tmp_path, suffix))
    assert [(o.name, o.maximise, o.exact, o.unit) for o in problem.objectives] == [
        ("error", False, False, ""),
        ("score", True, True, "points"),
    ]
    op, width = problem.space.genes
    assert (op.labels, op.ordered) == (("b", "a"), False)  # categories as they come
    assert (width.choices, width.ordered) == ((2, 8), True)  # numbers in their order
    genome = problem.space.encode({"op": "a", "width": 8})
    assert problem.evaluate(genome[None]) == [{"error": 0.2}]
    assert problem.exact_values(genome[None]).tolist() == [[2.0]]
    assert problem.true_values(genome[None], problem.objectives).tolist() == [[0.2, -2.0]]


def test_plain_columns_are_objectives_when_named(tmp_path: Path) -> None:
    frame = small().set_axis(["op", "width", "error", "cost"], axis=1)
    problem = TableProblem.read(written(frame, tmp_path), {"error": "min", "cost": "min"}, exact=["cost"])
    assert [o.exact for o in problem.objectives] == [False, True]


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str) -> None:
    made = table(Toy((3, 1, 4)), tmp_path / f"toy{suffix}")
    again = TableProblem.read(tmp_path / f"toy{suffix}")
    assert again.space.fingerprint == made.space.fingerprint
    assert np.array_equal(again.values, made.values)


def test_an_enumerated_problem_has_the_problem_s_own_values() -> None:
    toy = Toy((3, 2, 4))
    problem = TableProblem.of(toy)
    genomes = np.array(every_genome(toy.space))
    assert problem.evaluate(genomes) == toy.evaluate(genomes)
    assert np.array_equal(problem.exact_values(genomes), toy.exact_values(genomes))


@pytest.mark.slow
def test_digits_ptq_is_enumerated_bit_for_bit(tmp_path: Path) -> None:
    problem = load("digits-ptq")
    made = table(problem, tmp_path / "digits-ptq.npz")
    assert made.space.size == 46_656
    rows = np.random.default_rng(0).permutation(46_656)[:100]
    genomes = problem.space.unrank(rows)
    assert [problem.evaluate(genome[None])[0] for genome in genomes] == made.evaluate(genomes)
    again = TableProblem.read(tmp_path / "digits-ptq.npz")
    assert np.array_equal(again.values, made.values)
    kept, known = again.sensitivities(), problem.sensitivities()
    assert kept is not None
    assert known is not None
    assert np.array_equal(kept.values, known.values, equal_nan=True)


def test_a_large_space_is_thinned_evenly() -> None:
    space = Toy((8, 8, 8, 8)).space
    thin = subspace(space, 500)
    assert thin.size <= 500
    for gene, whole in zip(thin.genes, space.genes, strict=True):
        assert {gene.choices[0], gene.choices[-1]} == {whole.choices[0], whole.choices[-1]}
    assert subspace(space, 10_000) is space
    problem = TableProblem.of(Toy((8, 8, 8, 8)), limit=500)
    genome = np.zeros(4, dtype=np.int64)
    assert problem.evaluate(genome[None]) == Toy((8, 8, 8, 8)).evaluate(genome[None])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: pd.concat([f, f.iloc[:1]]), "op=b width=8 is there more than once"),
        (lambda f: f.iloc[1:], "op=b width=8 is missing"),
        (
            lambda f: f.assign(**{"error (min)": [0.1, None, 0.3, 0.4]}),
            r"column `error \(min\)` has no finite value in row 2",
        ),
        (lambda f: f.assign(**{"error (min)": [0.1, 0.2, np.inf, 0.4]}), "no finite value in row 3"),
        (lambda f: f.assign(op=["b", "a", None, "a"]), "column `op` has no finite value in row 3"),
        (lambda f: f.assign(**{"error (min)": ["x", "1", "2", "3"]}), "not numbers"),
        (lambda f: f[["op", "width"]], "no objectives"),
        (lambda f: f[["error (min)"]], "no gene columns"),
        (lambda f: f.iloc[:0], "is empty"),
    ],
)
def test_tables_that_cannot_be_are_refused_by_name(tmp_path: Path, change: object, message: str) -> None:
    path = written(change(small()), tmp_path)  # type: ignore[operator]
    with pytest.raises(InvalidArgument, match=message):
        TableProblem.read(path)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="does not exist"):
        TableProblem.read(tmp_path / "none.csv")
    with pytest.raises(InvalidArgument, match=r"must end in \.csv"):
        TableProblem.read(tmp_path / "some.txt")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(InvalidArgument, match="cannot be read as npz"):
        TableProblem.read(tmp_path / "bad.npz")
    with pytest.raises(UnknownName, match="valid names"):
        TableProblem.read(written(small(), tmp_path), {"eror": "min"})
    with pytest.raises(InvalidArgument, match="exists already"):
        table(Toy((2, 2)), written(small(), tmp_path))


def test_problems_that_cannot_be_enumerated_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="too many for a table"):
        TableProblem.of(Toy((10,) * 20))
    with pytest.raises(InvalidArgument, match=r"g0=1 g1=1 fails with RuntimeError: \(1, 1\) does not run"):
        TableProblem.of(Toy((2, 2), broken=lambda genome: genome == (1, 1)))


def test_a_table_is_a_problem_by_its_file_name(tmp_path: Path) -> None:
    assert load(str(written(small(), tmp_path))).space.size == 4
