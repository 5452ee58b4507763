"""A run that is killed or interrupted ends, once resumed, as one that was not."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cli.helpers import COMMAND, run_process
from evonas.store import Store

KILLS = 20
BUDGET = 150
SEARCH = ("search", "digits", "--budget", str(BUDGET), "--seed", "3", "--no-figures")

pytestmark = pytest.mark.slow


def _content(run: Path) -> tuple[list[tuple[object, ...]], object, bytes]:
    """Everything a run holds but its clock: evaluations, test scores, the front's file."""
    with Store.open(run) as store:
        rows = [(e.number, e.genome, e.values, e.status, e.error) for e in store.evaluations()]
        return rows, store.tests(), (run / "front.csv").read_bytes()


def _start(*arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, *arguments], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _started(cwd: Path) -> subprocess.Popen[bytes]:
    """A search that has opened its run."""
    process = _start(*SEARCH, "--out", "run", cwd=cwd)
    while not (cwd / "run" / "run.sqlite-wal").exists():
        time.sleep(0.02)
        assert process.poll() is None
    return process


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that nobody disturbed, and the seconds it took."""
    folder = tmp_path_factory.mktemp("whole")
    start = time.perf_counter()
    done = run_process(*SEARCH, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", time.perf_counter() - start


def test_killed_twenty_times_and_resumed(uninterrupted: tuple[Path, float], tmp_path: Path) -> None:
    whole, seconds = uninterrupted
    rng = random.Random(7)
    killed = 0
    for _ in range(KILLS):
        begun = (tmp_path / "run" / "run.sqlite").exists()
        arguments = ("resume", "run", "--no-figures") if begun else (*SEARCH, "--out", "run")
        process = _start(*arguments, cwd=tmp_path)
        time.sleep(rng.uniform(0.2, 0.6 * seconds))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert killed >= KILLS // 2, "most kills must hit a living process"
    done = run_process("resume", "run", "--no-figures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows, tests, front = _content(tmp_path / "run")
    expected_rows, expected_tests, expected_front = _content(whole)
    assert len(rows) == BUDGET
    assert rows == expected_rows
    assert tests == expected_tests
    assert front == expected_front


def test_a_race_killed_and_resumed(tmp_path: Path) -> None:
    race = ("search", "digits-ptq", "--budget", "150", "--racing", "--objectives", "accuracy,size", "--no-figures")
    start = time.perf_counter()
    assert run_process(*race, "--out", "whole", cwd=tmp_path).returncode == 0
    seconds = time.perf_counter() - start
    process = _start(*race, "--out", "run", cwd=tmp_path)
    for part in (0.7, 0.8):
        time.sleep(part * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        begun = (tmp_path / "run" / "run.sqlite").exists()
        process = _start(*(("resume", "run", "--no-figures") if begun else (*race, "--out", "run")), cwd=tmp_path)
    assert process.wait() == 0
    rows, tests, front = _content(tmp_path / "whole")
    assert any(row[3] == "stopped" for row in rows)
    assert _content(tmp_path / "run") == (rows, tests, front)


def test_ctrl_c_saves_and_says_how_to_resume(uninterrupted: tuple[Path, float], tmp_path: Path) -> None:
    whole, _ = uninterrupted
    process = _started(tmp_path)
    time.sleep(0.4)  # well into the search, which goes on for three times as long
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert b"evonas resume run" in error
    assert b"Traceback" not in error
    assert (tmp_path / "run" / "front.csv").exists()
    done = run_process("resume", "run", "--no-figures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert _content(tmp_path / "run") == _content(whole)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first = _started(tmp_path)
    first.send_signal(signal.SIGSTOP)  # it holds the run for as long as the second process takes to start
    second = run_process("resume", "run", cwd=tmp_path)
    first.kill()
    first.wait()
    assert second.returncode == 2
    assert "run is in use by another evonas process" in second.stderr
    assert second.stderr.count("\n") == 1


def test_the_same_seed_gives_the_same_run(uninterrupted: tuple[Path, float], tmp_path: Path) -> None:
    whole, _ = uninterrupted
    done = run_process(*SEARCH, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert _content(tmp_path / "run") == _content(whole)
