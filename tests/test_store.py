"""The record of a run: whole or not there, locked by its writer, and exact."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.errors import RunError
from evonas.evaluate import Evaluation
from evonas.problem import Estimate
from evonas.store import DATABASE, Store, transaction

CONFIG = {"sampler": "random", "budget": 3, "at_most": {"size": 1.5}, "ended": None}

finite = st.floats(allow_nan=False, allow_infinity=False)
evaluations = st.builds(
    Evaluation,
    number=st.integers(0, 10**9),
    genome=st.lists(st.integers(0, 2**40), min_size=1, max_size=5).map(tuple),
    values=st.dictionaries(st.sampled_from(["error", "cost", "µs"]), finite | st.just(math.inf)),
    status=st.sampled_from(["ok", "failed", "infeasible"]),
    seconds=st.floats(0, 1e6),
    error=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "results" / "run"


@given(made=st.lists(evaluations, unique_by=lambda evaluation: evaluation.number))
def test_evaluations_come_back_bit_for_bit_in_the_order_of_their_numbers(made: list[Evaluation]) -> None:
    with Store.memory(CONFIG) as store:
        store.append(made)
        found = store.evaluations()
    expected = sorted(made, key=lambda evaluation: evaluation.number)
    assert found == expected
    signs = [[math.copysign(1, value) for value in e.values.values()] for e in found]  # -0.0 == 0.0
    assert signs == [[math.copysign(1, value) for value in e.values.values()] for e in expected]


@given(values=st.lists(finite, min_size=3, max_size=3))
def test_scores_on_test_come_back_and_are_replaced(values: list[float]) -> None:
    with Store.memory(CONFIG) as store:
        store.append([Evaluation(i, (i,), {}) for i in range(3)])
        store.set_tests({2: {"accuracy": Estimate(0.1, 0.2, 0.3)}})
        store.set_tests({0: {"accuracy": Estimate(*values)}, 1: {}})
        assert store.tests() == {0: {"accuracy": Estimate(*values)}}


def test_a_run_survives_on_disk(directory: Path) -> None:
    made = [Evaluation(i, (i, 1), {"error": i / 3}) for i in range(3)]
    with Store.create(directory, CONFIG) as store:
        store.append(made[:2])
    with Store.open(directory, writing=True) as store:
        store.append(made[2:])
        store.update_config("ended", "budget")
    with Store.open(directory) as store:
        assert store.evaluations() == made
        assert store.config == CONFIG | {"ended": "budget"}


def test_readers_see_what_a_writer_has_committed(directory: Path) -> None:
    with Store.create(directory, CONFIG) as writer:
        writer.append([Evaluation(0, (1,), {"error": 0.5})])
        with Store.open(directory) as reader:
            assert len(reader.evaluations()) == 1
            writer.append([Evaluation(1, (2,), {"error": 0.5})])
            assert len(reader.evaluations()) == 2


def test_an_append_is_all_or_nothing(directory: Path) -> None:
    with Store.create(directory, CONFIG) as store:
        store.append([Evaluation(0, (1,), {})])
        with pytest.raises(sqlite3.IntegrityError):
            store.append([Evaluation(1, (2,), {}), Evaluation(0, (1,), {})])
        assert [evaluation.number for evaluation in store.evaluations()] == [0]


def test_what_was_committed_survives_a_kill(directory: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from evonas.evaluate import Evaluation\n"
        "from evonas.store import Store\n"
        f"store = Store.create(Path({str(directory)!r}), {{'budget': 3}})\n"
        "store.append([Evaluation(0, (1,), {'error': 0.1})])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False)
    assert killed.returncode == -9
    with Store.open(directory, writing=True) as store:  # and its lock is gone with it
        assert [e.values for e in store.evaluations()] == [{"error": 0.1}]


def test_a_kill_while_a_run_is_created_leaves_none(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            Store.create(directory, CONFIG)
    with pytest.raises(RunError, match="is no run directory"):
        Store.open(directory)
    with Store.create(directory, CONFIG) as store:  # what is left is no obstacle
        assert store.evaluations() == []


# what is refused


def test_a_second_writer_is_refused(directory: Path) -> None:
    with Store.create(directory, CONFIG), pytest.raises(RunError, match="in use by another evonas process"):
        Store.open(directory, writing=True)
    Store.open(directory, writing=True).close()


def test_a_second_process_is_refused(directory: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from evonas.store import Store\n"
        f"Store.open(Path({str(directory)!r}), writing=True)\n"
    )
    with Store.create(directory, CONFIG):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
        )
    assert "RunError" in done.stderr
    assert "in use by another evonas process" in done.stderr


def test_a_directory_that_holds_something_is_refused_and_left_alone(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="exists and is not empty"):
        Store.create(directory, CONFIG)
    assert [entry.name for entry in directory.iterdir()] == ["thesis.txt"]


def test_a_run_is_not_started_over_another(directory: Path) -> None:
    Store.create(directory, CONFIG).close()
    with pytest.raises(RunError, match="holds a run already; continue it with `evonas resume"):
        Store.create(directory, CONFIG)


def test_a_file_is_no_directory(directory: Path) -> None:
    directory.parent.mkdir(parents=True)
    directory.write_text("a file")
    with pytest.raises(RunError, match="is a file"):
        Store.create(directory, CONFIG)
    with pytest.raises(RunError):
        Store.create(directory / "deeper", CONFIG)


def test_no_run_there(directory: Path) -> None:
    with pytest.raises(RunError, match="is no run directory"):
        Store.open(directory)


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\0" + b"\1" * 500])
@pytest.mark.parametrize("writing", [False, True])
def test_a_damaged_database_is_refused(directory: Path, content: bytes, writing: bool) -> None:
    directory.mkdir(parents=True)
    (directory / DATABASE).write_bytes(content)
    with pytest.raises(RunError, match="is damaged or is no evonas run"):
        Store.open(directory, writing=writing)


def test_a_truncated_database_is_refused(directory: Path) -> None:
    with Store.create(directory, CONFIG) as store:
        store.append([Evaluation(i, (i,), {"error": 0.5}, error="x" * 500) for i in range(200)])
    path = directory / DATABASE
    path.write_bytes(path.read_bytes()[:-8192])
    with pytest.raises(RunError, match="is damaged"):
        Store.open(directory)


def test_the_database_of_another_program_is_refused(directory: Path) -> None:
    directory.mkdir(parents=True)
    connection = sqlite3.connect(directory / DATABASE)
    connection.execute("CREATE TABLE evaluation (number INTEGER)")
    connection.close()
    with pytest.raises(RunError, match="is no evonas run"):
        Store.open(directory)


def test_the_database_of_a_newer_evonas_is_refused(directory: Path) -> None:
    Store.create(directory, CONFIG).close()
    connection = sqlite3.connect(directory / DATABASE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(RunError, match=r"written by a newer evonas \(format 99"):
        Store.open(directory)


def test_a_refused_database_is_not_left_locked(directory: Path) -> None:
    Store.create(directory, CONFIG).close()
    good = (directory / DATABASE).read_bytes()
    (directory / DATABASE).write_bytes(b"damaged")
    with pytest.raises(RunError, match="is damaged"):
        Store.open(directory, writing=True)
    (directory / DATABASE).write_bytes(good)
    Store.open(directory, writing=True).close()


def test_a_discarded_run_leaves_nothing(directory: Path) -> None:
    Store.create(directory, CONFIG).discard()
    assert not directory.exists()


def test_a_full_disk_is_one_line_and_keeps_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "full.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x TEXT)")
    with transaction(connection, path):
        connection.execute("INSERT INTO t VALUES ('kept')")
    connection.execute("PRAGMA max_page_count = 3")  # to SQLite that is a disk without room
    with pytest.raises(RunError, match="cannot be written: database or disk is full"), transaction(connection, path):
        connection.execute("INSERT INTO t VALUES (?)", ("x" * 50_000,))
    connection.close()
    assert sqlite3.connect(path).execute("SELECT x FROM t").fetchall() == [("kept",)]
