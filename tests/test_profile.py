"""Profiling on this machine, and latency that is measured."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from evonas.costs import cost, load_latency
from evonas.problems.digits import digits
from evonas.profile import profile
from evonas.timing import interleaved


def test_a_profile_covers_the_whole_space_of_its_problem(tmp_path: Path) -> None:
    problem, out = digits(epochs=0), tmp_path / "cpu.json"
    before = torch.get_num_threads()
    count = profile(problem, out, rounds=3, points=2, batch=2)
    assert torch.get_num_threads() == before
    content = json.loads(out.read_text())
    assert {key: content[key] for key in ("batch", "threads", "rounds", "model")} == {
        "batch": 2,
        "threads": 1,
        "rounds": 3,
        "model": "digits",
    }
    assert sum(len(layer["points"]) for layer in content["layers"]) == count
    source, space = load_latency(f"table:{out}"), problem.plan_space
    genomes = problem.space.sample(500, np.random.default_rng(0))
    values = cost("latency", space.plans(np.concatenate([genomes, problem.space.corners()])), source)
    assert np.isfinite(values).all()
    assert (values > 0).all()


def test_a_table_is_exact_at_what_was_measured(tmp_path: Path) -> None:
    problem, out = digits(epochs=0), tmp_path / "cpu.json"
    profile(problem, out, rounds=3, points=2)
    table = {
        (point["inputs"], point["outputs"]): point["median"]
        for layer in json.loads(out.read_text())["layers"]
        if layer["kind"] == "linear"
        for point in layer["points"]
    }
    found = load_latency(f"table:{out}").layer_seconds(problem.plan_space.plans(problem.space.corners()))  # type: ignore[union-attr]
    assert found["fc1"].tolist() == [table[64, 12], table[64, 96]]
    assert found["fc3"].tolist() == [table[8, 10], table[64, 10]]


def test_quartiles_are_ordered_and_a_longer_call_takes_longer() -> None:
    timings = interleaved([lambda: time.sleep(0.001), lambda: time.sleep(0.01)], rounds=5, rng=np.random.default_rng(0))
    for timing in timings:
        assert timing.q1 <= timing.median <= timing.q3
    assert timings[0].median < timings[1].median


def test_measured_latency_is_an_objective_that_must_be_evaluated() -> None:
    problem = digits(epochs=0, latency="measured:4")
    assert not problem.objective("latency").exact
    assert "batch 4, one thread" in problem.objective("latency").note
    (scores,) = problem.evaluate(problem.space.corners()[:1])
    assert set(scores) == {"accuracy", "loss", "latency", "latency_q1", "latency_q3"}
    assert 0 < scores["latency_q1"] <= scores["latency"] <= scores["latency_q3"]


@pytest.mark.parametrize(("option", "value"), [("batch", 0), ("rounds", 2), ("points", 1), ("threads", 0)])
def test_numbers_below_their_least(option: str, value: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be at least"):
        profile(digits(epochs=0), tmp_path / "cpu.json", **{option: value})
    assert not list(tmp_path.iterdir())
