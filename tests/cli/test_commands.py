"""The commands as a person uses them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

import evonas
from cli.helpers import run_here, run_process

COMMANDS = ("search", "resume", "show", "plot", "problems", "space")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of digits-ptq."""
    directory = tmp_path_factory.mktemp("commands") / "run"
    evonas.search("digits-ptq", budget=40, out=directory, figures=False)
    return directory


def test_help_of_every_command_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_here("--help", capsys=capsys)
    assert code == 0
    for command in COMMANDS:
        assert command in out
        code, text, _ = run_here(command, "--help", capsys=capsys)
        assert code == 0
        assert f"Example: evonas {command}" in text


def test_search_in_a_real_process(tmp_path: Path) -> None:
    done = run_process("search", "digits", "--budget", "30", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "digits: 8 genes, 4,194,304 genomes; nsga2, seed 0, 30 evaluations" in done.stdout
    assert re.search(r"accuracy on test 0\.9\d+ \[0\.\d+, 0\.\d+\]", done.stdout)
    assert "30/30 evaluations" in done.stderr
    directory = tmp_path / "results" / "digits-nsga2-s0"
    names = {path.name for path in directory.iterdir()}
    assert {"run.sqlite", "front.csv", "weights"} <= names
    for figure in ("front", "hypervolume", "genes", "network"):
        assert (directory / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (directory / f"{figure}.svg").read_text()
    with (directory / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(re.findall(r"^ *\d+ +0\.", done.stdout, re.MULTILINE))
    assert {"accuracy", "latency", "size", "flops", "test_accuracy_low", "fc1.weight", "hidden1"} <= set(rows[0])


def test_json_is_all_there_is_on_stdout(tmp_path: Path) -> None:
    done = run_process("search", "digits-ptq", "--budget", "25", "--json", "--no-figures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["spent"] == 25
    assert content["left_out"] == {"flops": 9936.0}
    assert [objective["name"] for objective in content["objectives"]] == ["accuracy", "latency", "size"]
    for point in content["front"]:
        value, low, high = point["test"]["accuracy"]
        assert low <= value <= high
        assert set(point["choices"]) == {f"fc{i}.{slot}" for i in (1, 2, 3) for slot in ("data_in", "weight")}


def test_constraints_hold_for_every_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    limits = ("--max", "size=2KiB", "--max", "latency=3.9us", "--min", "accuracy=60%")
    code, out, error = run_here(
        "search", "digits-ptq", "--budget", "60", *limits, "--no-figures", "--json", capsys=capsys
    )
    assert code == 0, error
    content = json.loads(out)
    assert content["front"]
    for point in content["front"]:
        assert point["values"]["size"] <= 2 * 1024 * 8
        assert point["values"]["latency"] <= 3.9
        assert point["values"]["accuracy"] >= 0.6


def test_show_sorts_and_filters(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run_here("show", str(run), "--sort", "size", "--json", capsys=capsys)
    sizes = [point["values"]["size"] for point in json.loads(out)["front"]]
    assert sizes == sorted(sizes)
    middle = sizes[len(sizes) // 2]
    _, out, _ = run_here("show", str(run), "--max", f"size={middle}", "--json", capsys=capsys)
    kept = [point["values"]["size"] for point in json.loads(out)["front"]]
    assert sorted(kept) == [size for size in sizes if size <= middle]


def test_show_with_limits_that_nothing_meets_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_here("show", str(run), "--max", "size=1B", capsys=capsys)
    assert code == 0
    assert "no point to show" in out


def test_pick_shows_one_network_layer_by_layer(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_here("show", str(run), "--pick", "0", capsys=capsys)
    assert code == 0
    layers = re.findall(r"^ +(fc\d) +(\d+) +(\d+) +(fixed\S+) +(fixed\S+) +(fixed\S+)", out, re.MULTILINE)
    assert [(name, int(i), int(o)) for name, i, o, *_ in layers] == [("fc1", 64, 48), ("fc2", 48, 32), ("fc3", 32, 10)]
    assert "bound by" in out


def test_plain_lines_have_no_boxes_and_no_colours(run: Path) -> None:
    done = run_process("show", str(run), cwd=run)
    assert done.returncode == 0
    assert not re.search("[\x1b─│┃━]", done.stdout)


def test_resume_with_a_larger_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "run"
    short = evonas.search("digits-ptq", budget=33, seed=5, out=directory, figures=False)
    code, out, error = run_here("resume", str(directory), "--budget", "70", "--no-figures", "--json", capsys=capsys)
    assert code == 0, error
    assert json.loads(out)["spent"] == 70
    whole = evonas.search("digits-ptq", budget=70, seed=5)
    longer = evonas.load_result(directory)
    columns = ["number", "accuracy", "loss", "size"]
    assert longer.evaluations[columns].equals(whole.evaluations[columns])
    assert longer.evaluations[columns].head(33).equals(short.evaluations[columns])


def test_space_lists_genes_chains_and_objectives(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_here("space", "digits", capsys=capsys)
    assert code == 0
    assert "8 genes, 4,194,304 genomes" in out
    assert "x0.25 < x0.5 < x1 < x2" in out
    assert re.search(r"hidden1 +48 +fc1 out, fc2 in", out) or re.search(r"hidden1 .*48 .*fc1 out, fc2 in", out)
    assert "roofline model of pynq-z1" in out


def test_problems_lists_options(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_here("problems", capsys=capsys)
    assert code == 0
    assert "digits-ptq" in out
    assert "frac=calibrated" in out


def test_options_reach_the_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("search", "digits-ptq", "--budget", "3", "--set", "frac=half", "--set", "epochs=1", "--no-figures")
    code, out, error = run_here(*arguments, "--device", "cortex-m7", "--json", capsys=capsys)
    assert code == 0, error
    content = json.loads(out)
    assert content["problem"]["options"] == {
        "frac": "half",
        "train_seed": 0,
        "epochs": 1,
        "latency": "roofline:cortex-m7",
        "formats": "",
    }
    for point in content["front"]:
        for label in point["choices"].values():
            width, frac = label.removeprefix("fixed").split(".")
            assert int(frac) == int(width) // 2


def test_a_problem_from_a_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import evonas\n"
        "def score(a, b):\n"
        "    if a == b == 2: raise RuntimeError('no such thing')\n"
        "    return {'x': a + b, 'y': (a - 2) ** 2 - b}\n"
        "problem = evonas.FunctionProblem(score, {'a': [0, 1, 2], 'b': [0, 1, 2]}, {'x': 'min', 'y': 'max'})\n"
    )
    code, out, error = run_here("search", "mine.py:problem", "--sampler", "brute-force", capsys=capsys)
    assert code == 0, error
    assert "9 evaluations, space exhausted, 1 failed" in out
    code, out, error = run_here("show", "results/score-grid-s0", "--sort", "y", "--json", capsys=capsys)
    assert code == 0, error
    values = [(point["values"]["x"], point["values"]["y"]) for point in json.loads(out)["front"]]
    assert values == [(0.0, 4.0)]


MINE = """
import evonas
from evonas.problems.digits import digits_ptq

def function(a): return {"x": a, "y": -a}
def wide(most=3): return evonas.FunctionProblem(function, {"a": list(range(most))}, {"x": "min", "y": "min"})
def free(**options): return wide(**options)
def ours(passes=1): return digits_ptq(epochs=passes)
instance = digits_ptq(epochs=0)
"""


@pytest.mark.parametrize("asked", ["wide --set most=9", "free --set most=9", "ours --set passes=0", "instance"])
def test_a_problem_in_a_file_resumes_with_the_options_that_it_was_given(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    command = f"search mine.py:{asked} --budget 4 --no-figures --out run"
    code, _, error = run_here(*command.split(), capsys=capsys)
    assert code == 0, error
    code, out, error = run_here("resume", "run", "--budget", "6", "--no-figures", capsys=capsys)
    assert code == 0, error
    assert "6 evaluations" in out


HOSTILE = """
import torch
from torch import nn
import evonas

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        y = self.a(x)
        before = y.view(-1, 2, 2)
        y += self.b(y)
        y = y + x
        return self.c(y * before.flatten(1))

data = (torch.randn(40, 4), torch.arange(40) % 2)
problem = evonas.ModelProblem(Net().eval(), train=data, validation=data, test=data, space={"widths": [4, 8]})
"""


def test_space_says_which_sums_stay_in_float_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hostile.py").write_text(HOSTILE)
    code, out, error = run_here("space", f"{tmp_path / 'hostile.py'}:problem", capsys=capsys)
    assert code == 0, error
    assert re.search(r"^ *add +add_1$", out, re.MULTILINE)
    reason = r"it writes into a value that `return self.c\(y \* before.flatten\(1\)\)` \(hostile.py:\d+\) still has"
    assert re.search(rf"^ *add +{reason}", out, re.MULTILINE)
