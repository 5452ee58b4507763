"""Bad input: one clear line on stderr, exit code 2, no traceback, nothing half written."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

import evonas
from cli.helpers import COMMAND, run_here, run_process

DEVICE = "memory_bandwidth = 1e9\nlayer_overhead = 1e-6\n[mac_per_second]\n16 = 1e9\n"
RUN_FILE = "problem = 'digits'\nobjectives = ['accuracy', 'size']\n"
POINTS = (
    '[{"inputs": 8, "outputs": 8, "width": 32, "q1": 1e-6, "median": 2e-6, "q3": 3e-6},'
    ' {"inputs": 64, "outputs": 64, "width": 32, "q1": 1e-6, "median": 2e-6, "q3": 3e-6}]'
)
TABLE = (
    '{"evonas_latency": 1, "batch": 1, "threads": 1, "layers": [{"kind": "relu", "taps": 1, "positions": 1,'
    ' "input_positions": 1, "points": ' + POINTS + "}]}"
)
PROBLEM = """
import evonas
from evonas.problem import Problem
from evonas.objective import Objective
from evonas.space import Gene, SearchSpace

def make(function):
    return evonas.FunctionProblem(function, {"a": [1, 2, 3]}, {"x": "min", "y": "max"})

def ok(a): return {"x": a, "y": a}
fine = make(ok)
fails = make(lambda a: 1 / 0)
wrong_names = make(lambda a: {"x": 1})
extra_names = make(lambda a: {"x": 1, "y": 2, "z": 3})
no_mapping = make(lambda a: (1, 2))
no_number = make(lambda a: {"x": "low", "y": 2})
number = 5
def empty_gene(): return evonas.FunctionProblem(ok, {"a": []}, {"x": "min", "y": "max"})
def fails_to_build(): return [1, 2][3]
def no_genes(): return evonas.FunctionProblem(ok, {}, {"x": "min", "y": "max"})
def same_choice(): return evonas.FunctionProblem(ok, {"a": [1, 1]}, {"x": "min", "y": "max"})
def bad_direction(): return evonas.FunctionProblem(ok, {"a": [1, 2]}, {"x": "down", "y": "max"})
def no_objective(): return evonas.FunctionProblem(ok, {"a": [1, 2]}, {})
def not_a_problem(): return 3

class WrongCount(Problem):
    name = "wrong-count"
    space = SearchSpace([Gene("a", (1, 2, 3))])
    objectives = (Objective("x"),)
    default_objectives = ("x",)
    options = {}
    def evaluate(self, genomes): return [{"x": 1.0}] * (len(genomes) + 1)
wrong_count = WrongCount()
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a problem in a file, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "mine.py").write_text(PROBLEM)
    evonas.search(f"{folder / 'mine.py'}:fine", budget=3, out=folder / "run", figures=False)
    return folder / "run"


def _copy(run: Path, to: Path) -> None:
    to.mkdir()
    for entry in ("run.sqlite", "front.csv"):
        (to / entry).write_bytes((run / entry).read_bytes())


def _set_version(folder: Path, version: int) -> None:
    connection = sqlite3.connect(folder / "run.sqlite")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()


def _truncate(folder: Path) -> None:
    content = (folder / "run.sqlite").read_bytes()
    (folder / "run.sqlite").write_bytes(content[: len(content) // 2])


def _other_database(folder: Path) -> None:
    connection = sqlite3.connect(folder / "run.sqlite")
    connection.execute("CREATE TABLE shopping (item TEXT)")
    connection.commit()
    connection.close()


SETUP: dict[str, Callable[[Path, Path], object]] = {
    "device.toml": lambda here, run: (here / "device.toml").write_text(DEVICE),
    "no_toml": lambda here, run: (here / "device.toml").write_text("peak = = 3"),
    "no_bandwidth": lambda here, run: (here / "device.toml").write_text(DEVICE.replace("memory_bandwidth", "#")),
    "negative": lambda here, run: (here / "device.toml").write_text(DEVICE.replace("16 = 1e9", "16 = -1e9")),
    "text": lambda here, run: (here / "device.toml").write_text(DEVICE.replace("16 = 1e9", "16 = 'fast'")),
    "odd_key": lambda here, run: (here / "device.toml").write_text("colour = 1\n" + DEVICE),
    "no_table": lambda here, run: (here / "device.toml").write_text(DEVICE.split("[")[0]),
    "odd_width": lambda here, run: (here / "device.toml").write_text(DEVICE.replace("16 =", "wide =")),
    "narrow": lambda here, run: (here / "device.toml").write_text(DEVICE.replace("16 =", "8 =")),
    "mine.py": lambda here, run: (here / "mine.py").write_text(PROBLEM),
    "syntax": lambda here, run: (here / "mine.py").write_text("def ("),
    "raises": lambda here, run: (here / "mine.py").write_text("1 / 0"),
    "run": lambda here, run: _copy(run, here / "run"),
    "full": lambda here, run: ((here / "run").mkdir(), (here / "run" / "notes.txt").write_text("mine")),
    "file": lambda here, run: (here / "run").write_text("mine"),
    "empty": lambda here, run: (here / "run").mkdir(),
    "garbage": lambda here, run: (_copy(run, here / "run"), (here / "run" / "run.sqlite").write_bytes(b"\0junk" * 999)),
    "zero": lambda here, run: (_copy(run, here / "run"), (here / "run" / "run.sqlite").write_bytes(b"")),
    "truncated": lambda here, run: (_copy(run, here / "run"), _truncate(here / "run")),
    "newer": lambda here, run: (_copy(run, here / "run"), _set_version(here / "run", 99)),
    "foreign": lambda here, run: ((here / "run").mkdir(), _other_database(here / "run")),
    "round_to": lambda here, run: (here / "device.toml").write_text("round_to = 2.5\n" + DEVICE),
    "table.json": lambda here, run: (here / "table.json").write_text(TABLE),
    "table_text": lambda here, run: (here / "table.json").write_text("{"),
    "table_none": lambda here, run: (here / "table.json").write_text("{}"),
    "table_missing": lambda here, run: (here / "table.json").write_text(TABLE.replace('"median"', '"middle"', 1)),
    "table_negative": lambda here, run: (here / "table.json").write_text(TABLE.replace("2e-6", "-2e-6", 1)),
    "run.toml": lambda here, run: (here / "run.toml").write_text(RUN_FILE),
    "run_text": lambda here, run: (here / "run.toml").write_text("problem ="),
    "run_key": lambda here, run: (here / "run.toml").write_text("bugdet = 3\n" + RUN_FILE),
    "run_type": lambda here, run: (here / "run.toml").write_text("budget = 'many'\n" + RUN_FILE),
    "run_option": lambda here, run: (here / "run.toml").write_text(RUN_FILE + "[options]\nfrak = 'half'\n"),
    "run_layer": lambda here, run: (here / "run.toml").write_text(
        RUN_FILE + "[[genes]]\nlayers = ['fc9']\nformats = ['int8']\n"
    ),
    "run_format": lambda here, run: (here / "run.toml").write_text(
        RUN_FILE + "[[genes]]\nformats = ['int8', 'inf4']\n"
    ),
    "run_block": lambda here, run: (here / "run.toml").write_text(
        RUN_FILE + "[[genes]]\ntensors = ['bias']\nformats = ['fixed8', 'mxint8']\n"
    ),
    "": lambda here, run: None,
}

# set up, command line, what the message must hold
CASES = [
    ("", "search digitz", ["unknown problem `digitz`", "valid names: digits, digits-ptq"]),
    ("", "search", ["Missing argument 'PROBLEM'"]),
    ("", "serch digits", ["No such command 'serch'"]),
    ("", "search digits --bugdet 3", ["No such option: --bugdet"]),
    ("", "search digits --sampler nsag2", ["unknown sampler `nsag2`", "valid names: nsga2"]),
    ("", "search digits --objectives accuracy,sise", ["unknown objective `sise`", "valid names: size"]),
    ("", "search digits --objectives ,", ["`objectives` is empty"]),
    ("", "search digits --objectives size,size", ["names one twice"]),
    ("", "search digits-ptq --objectives flops", ["none of the objectives flops varies"]),
    ("", "search digits --device pynk", ["unknown device `pynk`", "valid names: pynq-z1"]),
    ("", "search digits --device gone.toml", ["`gone.toml` does not exist", "pynq-z1"]),
    ("no_toml", "search digits --device device.toml", ["is not TOML"]),
    ("no_bandwidth", "search digits --device device.toml", ["has no `memory_bandwidth`", "expected a number"]),
    ("negative", "search digits --device device.toml", ["`mac_per_second.16` must be a positive number"]),
    ("text", "search digits --device device.toml", ["`mac_per_second.16` must be a positive number, got 'fast'"]),
    ("odd_key", "search digits --device device.toml", ["unknown key in device file", "`colour`"]),
    ("no_table", "search digits --device device.toml", ["needs a table [mac_per_second]"]),
    ("odd_width", "search digits --device device.toml", ["`mac_per_second.wide` is not a width"]),
    ("narrow", "search digits --device device.toml", ["no peak for 16-bit operands"]),
    ("round_to", "search digits --device device.toml", ["`round_to` must be a whole number of at least 1, got 2.5"]),
    ("", "search digits --latency guess:3", ["unknown source of latency `guess`", "valid names: "]),
    ("", "search digits --latency table:", ["names no file", "table:cpu.json"]),
    ("", "search digits --latency table:gone.json", ["does not exist", "evonas profile digits --out gone.json"]),
    ("", "search digits --latency measured:0", ["`0` is not a batch", "measured:32"]),
    ("", "search digits --latency measured --device pynq-z1", ["--device is short for --latency"]),
    ("table_text", "search digits --latency table:table.json", ["is not JSON"]),
    ("table_none", "search digits --latency table:table.json", ["must begin with `evonas_latency` = 1"]),
    ("table_missing", "search digits --latency table:table.json", ["`layers[0].points[0].middle`", "median"]),
    ("table_negative", "search digits --latency table:table.json", ["`layers[0].points[0].median` must be a positive"]),
    (
        "table.json",
        "search digits --latency table:table.json",
        ["does not cover `fc1` (linear, 1 positions) with 64 inputs", "evonas profile digits --out", "table.json`"],
    ),
    ("", "profile digits --out cpu.json --rounds 1", ["`rounds` must be at least 3, got 1"]),
    ("", "profile digits --out no/where/cpu.json", ["its folder does not exist", "--out"]),
    ("mine.py", "profile mine.py:fine --out cpu.json", ["is no network"]),
    ("", "search digits --set formats=fixed4,fxed8", ["format `fxed8` does not parse"]),
    ("", "search digits --set formats=,", ["name none", "fixed4,fixed8,fp8e4m3"]),
    ("", "search digits --set formats=fixed8,,float32", ["formats `fixed8,,float32`: entry 2 of 3 is empty; expected"]),
    (
        "",
        "search digits --set epochs=0 --latency table:gone.json",
        ["make it with `evonas profile digits --set epochs=0 --out gone.json`"],
    ),
    ("", "search digits --set formats=fixed4,fixed99", ["`total` bits of a fixed-point format", "99"]),
    ("", "search digits --set formats=fixed4,fixed8.99", ["`frac` bits of a fixed-point format", "99"]),
    ("", "search digits --set formats=fixed4,bfp6b4096", ["blocks of 4096 elements, but `fc1.weight` has only"]),
    ("", "search digits --set formats=fixed4,bfp6b8a3", ["along axis 3, which `fc1.data_in` cannot have"]),
    ("", "search digits --set formats=fixed4,int8c@1/2", ["gives 2 scales, but `fc1.data_in` has 64 channels"]),
    ("", "search --config gone.toml", ["run file `gone.toml` does not exist"]),
    ("run_text", "search --config run.toml", ["is not TOML"]),
    ("run_key", "search --config run.toml", ["`bugdet`; valid names: budget"]),
    ("run_type", "search --config run.toml", ["`budget` must be a whole number, got 'many'"]),
    ("run_option", "search --config run.toml", ["unknown option of problem `digits` `frak`"]),
    ("run_layer", "search --config run.toml", ["unknown layer in `genes[0].layers` `fc9`", "fc1"]),
    ("run_format", "search --config run.toml", ["`genes[0].formats`: format `inf4` does not parse"]),
    (
        "run_block",
        "search --config run.toml",
        ["blocks of 32 elements, but `fc1.bias` has only 12 in the smallest network"],
    ),
    ("run.toml", "search --config run.toml --budget 0", ["`budget` must be a whole number of at least 1, got 0"]),
    ("", "search digits --max size", ["`size` does not parse", "NAME=VALUE"]),
    ("", "search digits --max sise=2KiB", ["unknown objective `sise`", "valid names: size"]),
    ("", "search digits --max size=small", ["`small` is not a value of size", "2KiB"]),
    ("", "search digits --max size=2KiBit", ["`KiBit` is not a unit of size", "KiB"]),
    ("", "search digits --max size=nan", ["`nan` is not a value of size"]),
    ("", "search digits --max size=1e999", ["`1e999` is not a value of size"]),
    ("", "search digits --max latency=5KiB", ["`KiB` is not a unit of latency", "us"]),
    ("", "search digits --max size=1B", ["no genome can meet size <= 1 B", "smallest possible size is 296 B"]),
    ("", "search digits --min memory_density=17", ["no genome can meet memory_density >= 17", "is 16"]),
    ("", "search digits --min accuracy=1.5", ["no genome can meet accuracy >= 1.5"]),
    ("", "search digits --max accuracy=-0.1", ["no genome can meet accuracy <= -0.1"]),
    ("", "search digits-ptq --max bops=30k --min average_bitwidth=5", ["at once", "bops", "average_bitwidth"]),
    ("", "search digits --max size=1KiB --max size=2KiB", ["--max size is given twice"]),
    ("", "search digits --budget 0", ["`budget` must be a whole number of at least 1, got 0"]),
    ("", "search digits --budget -4", ["`budget` must be a whole number of at least 1, got -4"]),
    ("", "search digits --budget many", ["'--budget'", "valid integer"]),
    ("", "search digits --budget 1.5", ["'--budget'", "valid integer"]),
    ("", "search digits --seed -1", ["`seed` must be a whole number", "got -1"]),
    ("", "search digits --seed one", ["'--seed'", "valid integer"]),
    ("", "search digits --set frac", ["`frac` does not parse", "KEY=VALUE"]),
    ("", "search digits --set frak=half", ["unknown option of problem `digits` `frak`", "valid names: frac"]),
    ("", "search digits --set frac=third", ["`frac` must be calibrated or half"]),
    ("", "search digits --set epochs=some", ["`epochs` must be of type int"]),
    ("", "search digits --set epochs=-1", ["`epochs` must be 0 or more"]),
    ("run", "search digits --out run", ["holds a run already", "evonas resume run"]),
    ("full", "search digits --out run", ["exists and is not empty", "--out"]),
    ("file", "search digits --out run", ["is a file", "--out"]),
    ("", "search digits --out /proc/evonas/run", ["/proc/evonas/run cannot be written", "--out"]),
    ("", "resume gone", ["gone is no run directory", "evonas search"]),
    ("empty", "resume run", ["run is no run directory"]),
    ("garbage", "resume run", ["run.sqlite is damaged"]),
    ("zero", "resume run", ["run.sqlite is damaged"]),
    ("truncated", "resume run", ["run.sqlite is damaged"]),
    ("foreign", "resume run", ["run.sqlite is damaged or is no evonas run"]),
    ("newer", "resume run", ["newer evonas (format 99", "upgrade"]),
    ("run", "resume run --budget 2", ["`budget` is 2, but 3 evaluations are spent"]),
    ("garbage", "show run", ["run.sqlite is damaged"]),
    ("newer", "show run", ["newer evonas"]),
    ("run", "show run --sort z", ["unknown objective `z`", "x"]),
    ("run", "show run --pick 77", ["the front has points 0 to", "got 77"]),
    ("run", "show run --max x", ["`x` does not parse"]),
    ("", "plot gone", ["gone is no run directory"]),
    ("run", "plot run --pick -1", ["problem `ok` is not about a network"]),
    ("", "space digitz", ["unknown problem `digitz`"]),
    ("", "search gone.py:problem", ["`gone.py` does not exist"]),
    ("syntax", "search mine.py:problem", ["cannot be imported", "SyntaxError"]),
    ("raises", "search mine.py:problem", ["cannot be imported", "ZeroDivisionError"]),
    ("mine.py", "search mine.py:problem", ["unknown problem in mine.py `problem`", "fine"]),
    ("mine.py", "search mine.py:no_gene", ["unknown problem in mine.py `no_gene`", "valid names: no_genes"]),
    ("mine.py", "search mine.py:number", ["is a int; expected a Problem"]),
    ("mine.py", "search mine.py:not_a_problem", ["returned a int; expected a Problem"]),
    ("mine.py", "search mine.py:fails_to_build", ["`mine.py:fails_to_build` failed at mine.py:", "IndexError: list"]),
    ("mine.py", "search mine.py:empty_gene", ["gene `a` has no choices"]),
    ("mine.py", "search mine.py:no_genes", ["at least one gene"]),
    ("mine.py", "search mine.py:same_choice", ["has the choice `1` twice"]),
    ("mine.py", "search mine.py:bad_direction", ["must be 'min' or 'max', got 'down'"]),
    ("mine.py", "search mine.py:no_objective", ["`objectives` is empty"]),
    ("mine.py", "search mine.py:wrong_names", ["returned the scores x; expected exactly x, y"]),
    ("mine.py", "search mine.py:extra_names", ["returned the scores x, y, z; expected exactly x, y"]),
    ("mine.py", "search mine.py:no_mapping", ["returned the scores tuple; expected exactly x, y"]),
    ("mine.py", "search mine.py:no_number", ["a score that is not a number"]),
    ("mine.py", "search mine.py:wrong_count", ["returned 2 results for 1 genome"]),
    ("mine.py", "search mine.py:fine --device pynq-z1", ["unknown option of problem", "`latency`"]),
]


def _ids() -> list[str]:
    return [f"{setup}-{command}" if setup else command for setup, command, _ in CASES]


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"}


def _one_line(error: str, expected: list[str]) -> None:
    assert error.startswith("evonas: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    for part in expected:
        assert part in error


def _unchanged(before: dict[str, bytes], here: Path) -> None:
    after = _files(here)
    after.pop("run/run.lock", None)
    assert {k: v for k, v in after.items() if not k.endswith(("-wal", "-shm"))} == before
    assert not (here / "results").exists() or not any((here / "results").iterdir())


@pytest.mark.parametrize(("setup", "command", "expected"), CASES, ids=_ids())
def test_bad_input_is_one_clear_line(
    setup: str,
    command: str,
    expected: list[str],
    tmp_path: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    SETUP[setup](tmp_path, finished)
    before = _files(tmp_path)
    code, out, error = run_here(*command.split(), capsys=capsys)
    assert code == 2
    assert "front of" not in out
    _one_line(error, expected)
    _unchanged(before, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("setup", "command", "expected"), CASES[::6], ids=_ids()[::6])
def test_bad_input_in_a_real_process(
    setup: str, command: str, expected: list[str], tmp_path: Path, finished: Path
) -> None:
    SETUP[setup](tmp_path, finished)
    before = _files(tmp_path)
    done = run_process(*command.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert "front of" not in done.stdout
    _one_line(done.stderr, expected)
    _unchanged(before, tmp_path)


def test_a_directory_in_use_is_refused(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _copy(finished, tmp_path / "run")
    with FileLock(tmp_path / "run" / "run.lock"):
        code, _, error = run_here("resume", "run", capsys=capsys)
    assert code == 2
    _one_line(error, ["run is in use by another evonas process"])


def test_reading_needs_no_lock(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _copy(finished, tmp_path / "run")
    with FileLock(tmp_path / "run" / "run.lock"):
        code, out, _ = run_here("show", "run", capsys=capsys)
    assert code == 0
    assert "front of" in out


def test_a_problem_that_always_fails_ends_with_an_empty_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(PROBLEM)
    code, out, error = run_here("search", "mine.py:fails", "--no-figures", capsys=capsys)
    assert code == 1
    assert "3 evaluations, space exhausted, 3 failed; front of 0" in out
    assert "Traceback" not in error


@pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of files are POSIX")
@pytest.mark.parametrize("largest", [10_000, 60_000])
def test_a_file_that_cannot_grow_ends_the_search_in_one_line(tmp_path: Path, largest: int) -> None:
    """The run's database when it is made, and when it is added to."""
    import resource

    done = subprocess.run(
        [*COMMAND, "search", "synthetic-40", "--sampler", "random", "--budget", "200", "--no-figures", "--out", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)),
    )
    assert done.returncode == 2
    assert "cannot be written" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
