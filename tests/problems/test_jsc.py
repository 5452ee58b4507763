"""Jet tagging: exact networks, files of every kind, and one line for each way data can be wrong."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from cli.helpers import run_here

from evonas.errors import EvonasError
from evonas.graph import find_chains, resize
from evonas.problems import load
from evonas.problems.jets import FEATURES, jets
from evonas.training import Recipe, train
from problems.jet_files import jet_frame, write_arff

ROOT = Path(__file__).parents[2]
PARAMETERS = {"jsc-tiny": 117, "jsc-toy": 327, "jsc-s": 5615, "jsc-lab": 3013}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "jets.csv"
    jet_frame().to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_the_original(name: str) -> None:
    problem = load(name, {"multipliers": "1"})
    column = [objective.name for objective in problem.exact].index("parameters")
    assert problem.exact_values(problem.space.corners())[0, column] == PARAMETERS[name]


def test_splits_are_stratified_standardised_and_whole(file: Path) -> None:
    train, validation, test = jets(str(file))
    assert [len(split) for split in (train, validation, test)] == [256, 64, 80]
    assert torch.bincount(test.targets).tolist() == [16] * 5
    assert torch.allclose(train.inputs.mean(0), torch.zeros(16), atol=1e-4)
    assert torch.allclose(train.inputs.std(0, correction=0), torch.ones(16), atol=1e-4)


def test_fewer_samples_keep_the_classes(file: Path) -> None:
    train, validation, test = jets(str(file), 100)
    assert len(train) + len(validation) + len(test) == 100
    assert torch.bincount(test.targets).tolist() == [4] * 5


def test_arff_is_the_same_data_as_csv(file: Path, tmp_path: Path) -> None:
    arff = write_arff(jet_frame(), tmp_path / "jets.arff")
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(jets(str(file)), jets(str(arff)), strict=True))


def test_parquet_is_the_same_data_as_csv(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "jets.parquet"
    jet_frame().to_parquet(path)
    assert torch.allclose(jets(str(file))[0].inputs, jets(str(path))[0].inputs)


@pytest.mark.parametrize("layout", ["table", "grouped", "columns", "one-hot", "matrix"])
def test_hdf5_is_the_same_data_as_csv(file: Path, tmp_path: Path, layout: str) -> None:
    h5py = pytest.importorskip("h5py")
    frame, path = jet_frame(), tmp_path / "jets.h5"
    labels = frame.pop("class")
    if layout in ("one-hot", "matrix"):
        frame = frame.assign(**{label: (labels == label).astype(float) for label in "gqtwz"}).add_prefix("j_")
    else:
        frame["class"] = labels.astype("S1")
    with h5py.File(path, "w") as target:
        if layout == "columns":
            for name in frame:
                target[name] = frame[name].to_numpy().astype("S1" if name == "class" else float)
        elif layout == "matrix":
            target["jets"], target["names"] = frame.to_numpy(), [name.encode() for name in frame]
        else:
            types = [(name, "S1" if name == "class" else "f8") for name in frame]
            target["made/jets" if layout == "grouped" else "jets"] = np.array(
                list(frame.itertuples(index=False, name=None)), dtype=types
            )
    assert torch.allclose(jets(str(file))[0].inputs, jets(str(path))[0].inputs)


def test_labels_as_scipy_leaves_them_and_a_suffix_in_capitals(file: Path, tmp_path: Path) -> None:
    frame, path = jet_frame(), tmp_path / "JETS.CSV"
    frame["class"] = [f"b'{label}'" for label in frame["class"]]
    frame.to_csv(path, index=False)
    assert torch.equal(jets(str(file))[0].targets, jets(str(path))[0].targets)


def spoil(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    if kind == "column":
        return frame.drop(columns="mass_mmdt")
    if kind == "columns":
        return frame[["multiplicity"]].rename(columns=str.upper)
    if kind == "class":
        frame.loc[3, "class"] = "b"
    if kind == "nan":
        frame.loc[7, "zlogz"] = float("nan")
    if kind == "infinite":
        frame.loc[8, "multiplicity"] = float("inf")
    if kind == "few":
        return frame[frame["class"] != "t"]
    return frame


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("column", ["lacks the column mass_mmdt", "16 features"]),
        ("columns", ["lacks the columns zlogz, c1_b0_mmdt, c1_b1_mmdt and 14 more"]),
        ("class", ["class `b`", "g, q, t, w, z"]),
        ("nan", ["column zlogz, row 7"]),
        ("infinite", ["column multiplicity, row 8"]),
        ("few", ["0 jets of class `t`"]),
    ],
)
def test_data_that_is_wrong(tmp_path: Path, kind: str, words: list[str]) -> None:
    path = tmp_path / "jets.csv"
    spoil(jet_frame(), kind).to_csv(path, index=False)
    with pytest.raises(EvonasError) as raised:
        jets(str(path))
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.csv", None, "does not exist"),
        ("jets.txt", "a,b", "unknown suffix"),
        ("jets.arff", "@RELATION x", "no @data"),
        ("jets.csv", "", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(EvonasError, match=words):
        jets(str(path))


def test_without_a_way_to_the_data_both_ways_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import evonas.problems.jets as module

    monkeypatch.setattr(module, "CACHE", tmp_path)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    jets.cache_clear()
    with pytest.raises(EvonasError, match=r"OpenML data set 42468.*--set data=FILE") as raised:
        jets()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"multipliers": "0,1"}, "positive and finite, got 0"),
        ({"multipliers": "1,x"}, "numbers separated by commas"),
        ({"widths": ""}, "`widths` is empty"),
        ({"hidden": "16"}, "2 whole numbers"),
        (
            {"pairs": "[(1, 2), (3, 1), (1, 1)]"},
            "`fc1` multiplies its outputs by 2 and `fc2` multiplies its inputs by 3",
        ),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(EvonasError, match=words.replace("(", r"\(").replace(")", r"\)")):
        load("jsc-lab", options)


def labs(task: str) -> list[str]:
    common = ["search", "jsc-lab", "--set", "widths=float", "--no-figures", "--set", "epochs=1"]
    return (
        common
        + {
            "double": "--sampler grid --set hidden=16,16 --set uniform=true --set multipliers=1,2",
            "uniform": "--sampler grid --set uniform=true --set multipliers=1,2,4,8,16",
            "chained": "--sampler grid --set hidden=16,16 --set multipliers=1,2,4",
        }[task].split()
    )


@pytest.mark.parametrize(("task", "genomes"), [("double", 2), ("uniform", 5), ("chained", 9)])
def test_the_tasks_of_the_labs(
    task: str, genomes: int, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / task
    code, text, err = run_here(*labs(task), "--data", str(file), "--out", str(out), capsys=capsys)
    assert code == 0, err
    assert f"{genomes} evaluations, space exhausted" in text


def test_a_class_whose_logit_is_dead_comes_back(file: Path) -> None:
    data, model = jets(str(file))[0], load("jsc-lab", {"multipliers": "0.5,1"}).original
    dead = resize(model, {"chain0": 16}, chains=find_chains(model, data.inputs[:2]), init="fresh")
    with torch.no_grad():
        dead.get_parameter("fc3.bias")[2] = -10.0
    assert float(dead(data.inputs).detach()[:, 2].max()) == 0.0
    train(dead, data.inputs, data.targets, epochs=100, seed=0, recipe=Recipe(learning_rate=1e-2))
    logits = dead(data.inputs).detach()
    assert float(logits.min()) == 0.0, "it still ends in a ReLU"
    assert float((logits.argmax(1) == data.targets).float().mean()) > 0.95


def test_non_uniform_multipliers_reach_16_32_64_5() -> None:
    problem = load("jsc-lab", {"hidden": "16,16", "widths": "float", "multipliers": "1,2,4"})
    plan = problem.plan_space.plan(problem.space.encode({"hidden1": "x2", "hidden2": "x4"}))
    assert [layer.outputs for layer in plan.layers] == [32, 64, 5]


def test_published_rows_are_equal_as_strings() -> None:
    done = subprocess.run([sys.executable, "runs/lab_tables.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("31 of 31 rows are equal as strings\n")
    with (ROOT / "runs" / "lab_tables.csv").open() as rows:
        assert len(list(csv.DictReader(rows))) == 31


def test_features_are_sixteen() -> None:
    assert len(FEATURES) == len(set(FEATURES)) == 16
    assert importlib.util.find_spec("evonas.problems.jets") is not None
