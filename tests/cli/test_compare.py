"""`evonas compare` and `evonas table`: what they print, continue and refuse."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from cli.helpers import COMMAND, run_here

ROWS = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3)]
TABLE = 'a,b,error (min),"size (min, exact)"\n' + "".join(f"{a},{b},{1 / (a * b)},{a + b}\n" for a, b in ROWS)
SLOW = """
import time
import evonas

def evaluate(**genes):
    time.sleep(0.02)
    return {"error": 1 / (1 + sum(genes.values())), "cost": genes["a"] + 2 * genes["b"]}

problem = evonas.FunctionProblem(
    evaluate, {"a": range(40), "b": range(40), "c": range(40)}, {"error": "min", "cost": "min"}
)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a table of nine genomes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nine.csv").write_text(TABLE)
    return tmp_path


def test_a_comparison_goes_on_with_more_samplers_and_seeds(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("compare", "nine.csv", "--budget", "50", "--workers", "1", "--out", "study")
    code, out, err = run_here(*common, "--samplers", "nsga2,random", "--seeds", "2", "--no-figures", capsys=capsys)
    assert code == 0, err
    assert "nine has 9 genomes: its runs end there, not at 50" in out
    assert "with 2 seeds no pair can reach p < 0.05" in out
    assert "nsga2 and random: no difference shown in hypervolume on nine after 9 evaluations" in out
    code, out, err = run_here(*common, "--samplers", "nsga2,random,local", "--seeds", "6", capsys=capsys)
    assert code == 0, err
    assert "medians over 6 seeds, 9 evaluations; front: enumerated" in out
    with sqlite3.connect(here / "study" / "study.sqlite") as store:
        assert store.execute("SELECT count(*) FROM run").fetchone() == (18,)
    written = {path.name for path in (here / "study").iterdir()}
    assert {"summary.csv", "pairs.csv", "curves.csv", "table.tex", "verdicts.txt", "curves-nine.png"} <= written
    assert "no pair can reach" in (here / "study" / "verdicts.txt").read_text()
    (here / "other.csv").write_text(TABLE)
    code, out, err = run_here("compare", "other.csv", *common[2:], "--samplers", "nsga2", "--seeds", "2", capsys=capsys)
    assert code == 0, err
    assert "the study also holds runs of `nine`, which these tables and figures leave out" in out
    assert "the study also holds runs of `random`, `local`" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--samplers nsga2,ngsa2", "unknown sampler `ngsa2`; valid names: nsga2"),
        ("--samplers optuna:TPE", "unknown sampler `optuna:TPE`; valid names: optuna:TPESampler"),
        ("--samplers grid,brute-force", "sampler `grid` is named twice; each once"),
        ("--samplers ,", "`samplers` is empty"),
        ("--seeds 0", "`seeds` must be a whole number of at least 1, got 0"),
        ("--budget -3", "`budget` must be a whole number of at least 1, got -3"),
        ("--workers 0", "`workers` must be a whole number of at least 1, got 0"),
        ("--start -1", "`start` and `first_seed` must be 0 or more"),
        ("--start 3", "a common start of 3 genomes leaves samplers nothing to choose in the 3 evaluations"),
        ("--max size=1", "no genome can meet size <= 1"),
        ("--max size", "`size` does not parse"),
    ],
)
def test_options_that_cannot_be_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    given = ["--seeds", "1", "--samplers", "random", "--budget", "3", "--out", "study"]
    code, _, err = run_here("compare", "nine.csv", *given, *options.split(" "), capsys=capsys)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (here / "study").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("1,1,1.0,2", "1,1,,2"), "column `error (min)` has no finite value in row 1; fill or remove it"),
        (("1,1,1.0,2", "1,,1.0,2"), "column `b` has no finite value in row 1"),
        (("1,1,1.0,2", "1,1,inf,2"), "column `error (min)` has no finite value in row 1"),
        (("1,1,1.0,2", "1,1,nan,2"), "error is nan at a=1 b=1; every value must be a finite number"),
        (("1,1,1.0,2", "1,1,low,2"), "holds cells that are not numbers"),
        (("1,1,1.0,2", "1,2,1.0,2"), "the genome a=1 b=2 is there more than once (1 such of 9)"),
        (("1,1,1.0,2\n", ""), "the genome a=1 b=1 is missing (1 such of 9)"),
        ((TABLE, ""), "cannot be read as csv"),
    ],
)
def test_tables_that_cannot_be_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], message: str
) -> None:
    text = (here / "nine.csv").read_text()
    (here / "nine.csv").write_text("" if change[0] == TABLE else text.replace(*change, 1))
    code, _, err = run_here("compare", "nine.csv", "--samplers", "random", "--out", "study", capsys=capsys)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("here")
def test_a_study_of_another_problem_is_refused_and_the_difference_named(capsys: pytest.CaptureFixture[str]) -> None:
    common = ("compare", "nine.csv", "--samplers", "random", "--seeds", "1", "--workers", "1", "--budget", "4")
    assert run_here(*common, "--out", "study", "--no-figures", capsys=capsys)[0] == 0
    for options, difference in [
        (("--start", "2"), "start of `nine`: 0, now 2"),
        (("--objectives", "size,error"), "objectives of `nine`: ['error', 'size'], now ['size', 'error']"),
        (("--max", "size=5"), "constraints of `nine`: [], now [['size', 5.0, False]]"),
    ]:
        code, _, err = run_here(*common, "--out", "study", *options, capsys=capsys)
        assert code == 2
        assert difference in err
        assert err.count("\n") == 1


def test_the_search_of_a_table_is_shown_and_goes_on_until_the_table_changes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run_here("search", "nine.csv", "--out", "run", "--budget", "4", "--no-figures", capsys=capsys)
    assert code == 0, err
    assert run_here("show", "run", capsys=capsys)[0] == 0
    code, out, err = run_here("resume", "run", "--budget", "6", "--no-figures", capsys=capsys)
    assert code == 0, err
    assert "6 evaluations" in out
    (here / "nine.csv").write_text(TABLE.replace("1,1,1.0,2", "1,1,0.9,2"))
    code, _, err = run_here("resume", "run", "--budget", "8", capsys=capsys)
    assert code == 2
    assert "was run on other genes, objectives, weights or values than problem `nine` has now" in err


@pytest.mark.usefixtures("here")
def test_a_table_is_written_once_and_searched(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run_here("table", "nine.csv", "--out", "four.csv", "--limit", "4", capsys=capsys)
    assert code == 0, err
    assert "4 genomes" in out
    assert run_here("table", "nine.csv", "--out", "four.csv", capsys=capsys)[2].startswith(
        "evonas: table four.csv exists"
    )
    assert run_here("table", "digits", "--out", "all.csv", capsys=capsys)[2].count("give a limit (--limit 10000)") == 1


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_as_one_that_was_not(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "slow.py").write_text(SLOW)
    common = ["compare", "slow.py:problem", "--samplers", "nsga2,random", "--seeds", "2", "--budget", "60"]
    with subprocess.Popen([*COMMAND, *common, "--out", "killed"], start_new_session=True) as process:
        database = here / "killed" / "study.sqlite"
        while not database.is_file() or _count(database) < 20:
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    recorded = _count(database)
    assert 20 <= recorded < 240
    for out in ("killed", "whole"):
        assert run_here(*common, "--out", out, "--workers", "1", "--no-figures", capsys=capsys)[0] == 0
    assert _genomes(here / "killed" / "study.sqlite") == _genomes(here / "whole" / "study.sqlite")


def _count(database: Path) -> int:
    with sqlite3.connect(database, timeout=60) as store:
        try:
            return int(store.execute("SELECT count(*) FROM evaluation").fetchone()[0])
        except sqlite3.OperationalError:  # begun, and not written yet
            return 0


def _genomes(database: Path) -> list[tuple[object, ...]]:
    query = 'SELECT sampler, seed, number, genome, "values" FROM run JOIN evaluation ON run.id = run ORDER BY 1, 2, 3'
    with sqlite3.connect(database) as store:
        return store.execute(query).fetchall()
