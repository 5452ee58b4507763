"""Profiling on this machine, and latency that is measured."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evonas.costs import Table, cost, load_latency
from evonas.errors import InvalidArgument, UnknownName
from evonas.problem.model import ModelProblem
from evonas.problems.digits import digits
from evonas.profile import fitted, profile
from evonas.timing import interleaved, stopwatch


def convolutional() -> ModelProblem:
    """A problem with other layer shapes than `digits`."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 10, 6), nn.Flatten())
    data = (torch.randn(40, 1, 8, 8), torch.arange(40) % 10)
    return ModelProblem(model.eval(), train=data, validation=data, space={"widths": [8], "multipliers": [0.5, 1]})


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
    shown = digits(epochs=0, latency=f"table:{out}")
    rows = shown.details(shown.space.corners()[0])
    assert sum(float(row["share"].rstrip("%")) for row in rows) <= 100.2
    layers = sum(row["latency"] for row in rows)
    whole = cost("latency", space.plans(problem.space.corners()[:1]), source)[0]
    (line,) = shown.remarks(shown.space.corners()[0])
    assert f"layers {layers:.4g} µs" in line
    assert f"beyond its layers {whole - layers:.4g} µs" in line
    assert "known of rooflines only" in line


def test_a_table_is_exact_at_what_was_measured(tmp_path: Path) -> None:
    problem, out = digits(epochs=0), tmp_path / "cpu.json"
    profile(problem, out, rounds=3, points=2)
    content = json.loads(out.read_text())
    table = {
        (point["inputs"], point["outputs"]): content["whole"]["factor"] * point["median"]
        for layer in content["layers"]
        if layer["kind"] == "linear"
        for point in layer["points"]
    }
    source, plans = load_latency(f"table:{out}"), problem.plan_space.plans(problem.space.corners())
    assert isinstance(source, Table)
    found = source.layer_seconds(plans)
    assert found["fc1"].tolist() == [table[64, 12], table[64, 96]]
    assert found["fc3"].tolist() == [table[8, 10], table[64, 10]]
    assert source.seconds(plans) == pytest.approx(np.sum([*found.values()], axis=0) + content["whole"]["offset"])


def test_a_profile_has_every_channel_count_of_a_small_space(tmp_path: Path) -> None:
    problem, out = digits(epochs=0), tmp_path / "cpu.json"
    told: list[tuple[int, int]] = []
    profile(problem, out, rounds=3, told=lambda *progress: told.append(progress))
    (points,) = (layer["points"] for layer in json.loads(out.read_text())["layers"] if layer["kind"] == "linear")
    plans = problem.plan_space.plans(problem.space.sample(300, np.random.default_rng(0)))
    layers = problem.plan_space.network.quantizable
    inputs, outputs = (set(side.ravel().tolist()) for side in (plans.inputs(layers), plans.outputs(layers)))
    assert {point["inputs"] for point in points} == inputs
    assert {point["outputs"] for point in points} == outputs
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_second_profile_adds_to_a_table_what_it_did_not_cover(tmp_path: Path) -> None:
    out = tmp_path / "cpu.json"
    first, second = digits(epochs=0), convolutional()
    profile(first, out, rounds=3, points=2)
    assert profile(second, out, rounds=3, points=2) > 0
    for problem in (first, second):
        source = load_latency(f"table:{out}")
        assert (cost("latency", problem.plan_space.plans(problem.space.corners()), source) > 0).all()
    with pytest.raises(
        InvalidArgument, match=r"with batch 1 and 1 thread\(s\), this would .* batch 2 .*give another file"
    ):
        profile(first, out, rounds=3, points=2, batch=2)
    out.write_text("notes")
    with pytest.raises(InvalidArgument, match="is not JSON"):
        profile(first, out, rounds=3, points=2)
    assert out.read_text() == "notes"


@given(factor=st.floats(0.5, 3), offset=st.floats(0, 1e-3), seed=st.integers(0, 2**32))
def test_what_whole_networks_take_beyond_the_sum_is_found(factor: float, offset: float, seed: int) -> None:
    sums = np.random.default_rng(seed).uniform(1e-4, 1e-3, 8)
    assert fitted(sums, factor * sums + offset) == pytest.approx((factor, offset), rel=1e-6, abs=1e-9)


def test_networks_that_are_all_alike_give_no_factor() -> None:
    assert fitted(np.array([1e-3]), np.array([3e-3])) == (1.0, 2e-3)
    assert fitted(np.array([2e-3]), np.array([1e-3])) == (1.0, 0.0)
    assert fitted(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == (1.0, 0.0)  # faster when larger is noise


def test_the_clock_is_that_of_the_device() -> None:
    assert stopwatch(torch.device("cpu")) is not stopwatch(torch.device("cuda"))
    with pytest.raises(UnknownName, match="unknown clock `moon`; valid names"):
        stopwatch(torch.device("cpu"), "moon")


def test_the_time_of_the_thread_leaves_out_what_it_waits() -> None:
    waiting = partial(time.sleep, 0.02)
    wall, cpu = (
        interleaved([waiting], rounds=3, rng=np.random.default_rng(0), clock=clock)[0] for clock in ("wall", "cpu")
    )
    assert wall.q1 >= 0.02 > 0.01 > cpu.median


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_timed_until_its_work_is_done() -> None:
    values = torch.randn(4096, 4096, device="cuda")
    small, large = interleaved(
        [lambda: values[:64] @ values, lambda: values @ values], rounds=5, rng=np.random.default_rng(0), device="cuda"
    )
    assert 0 < small.q1 <= small.median < large.median


def test_quartiles_are_ordered_and_a_longer_call_takes_longer() -> None:
    timings = interleaved([lambda: time.sleep(0.001), lambda: time.sleep(0.01)], rounds=5, rng=np.random.default_rng(0))
    for timing in timings:
        assert timing.q1 <= timing.median <= timing.q3
    assert timings[0].median < timings[1].median


def test_measured_latency_is_an_objective_that_must_be_evaluated() -> None:
    problem = digits(epochs=0, latency="measured:4")
    assert "measured of the whole network" in problem.remarks(problem.space.corners()[0])[0]
    assert digits(epochs=0).remarks(problem.space.corners()[0]) == []
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
