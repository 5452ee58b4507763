"""Problems on a device that is not the CPU, shown on one that only pretends to be another."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from problem.networks import Small, splits, trained
from torch import nn

import evonas
from devices import pretend
from evonas.errors import InvalidArgument
from evonas.problem.model import ModelProblem
from evonas.profile import profile
from evonas.quantize.threads import full_precision
from evonas.training import seeded

pytestmark = pytest.mark.skipif(not pretend.register(), reason="this torch takes no device from Python")

SPACE = {"widths": (4, 8), "multipliers": (0.5, 1.0)}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return trained()


def mlp() -> nn.Module:
    layers = (nn.Flatten(), nn.Linear(36, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    return seeded(lambda: nn.Sequential(*layers), 0).eval()


def problem(model: nn.Module, device: str, **options: object) -> ModelProblem:
    return ModelProblem(model, **splits(), device=device, **{"space": SPACE, **options})


def both(model: nn.Module, **options: object) -> tuple[ModelProblem, ModelProblem]:
    return problem(model, "cpu", **options), problem(model, pretend.NAME, **options)


def test_the_device_is_as_strict_as_cuda() -> None:
    ours, index = torch.ones(2, device=pretend.NAME), torch.tensor([0])
    number, theirs = torch.tensor(2.0), torch.ones(2)
    assert (ours + number).device.type == ours[index].device.type == pretend.NAME
    for mixed in (
        lambda: ours + theirs,
        lambda: theirs[ours.long()],
        lambda: ours.index_select(0, index),
        lambda: theirs.add_(ours),
        lambda: torch.cat([ours, theirs]),
        lambda: torch.mul(ours, 2, out=theirs),
        lambda: torch.randn(2, device=pretend.NAME, generator=torch.Generator()),
    ):
        with pytest.raises(RuntimeError, match="device"):
            mixed()
    for stored in (ours.numpy, lambda: np.asarray(ours), lambda: torch.save(ours, "/dev/null")):
        with pytest.raises(TypeError, match=pretend.NAME):
            stored()


@pytest.mark.parametrize("weights", ["inherit", "finetune", "scratch", "supernet"])
def test_weights_and_scores_are_those_of_the_cpu(model: nn.Module, weights: str) -> None:
    here, there = both(model, weights=weights, epochs=int(weights != "inherit"))
    genomes = here.space.sample(4, np.random.default_rng(0))
    for each in (here, there):
        each.prepare(genomes)
    assert next(there.network(genomes[0]).graph.parameters()).device.type == pretend.NAME
    assert here.evaluate(genomes) == there.evaluate(genomes)
    assert here.test(genomes[0]) == there.test(genomes[0])
    assert here.summary() == there.summary()
    assert here.details(genomes[0]) == there.details(genomes[0])


def test_linear_networks_go_through_batched_products_there_as_well() -> None:
    here, there = both(mlp())
    genomes = here.space.sample(12, np.random.default_rng(0))
    assert here.evaluate(genomes) == there.evaluate(genomes)


def test_networks_trained_one_by_one_are_those_trained_together() -> None:
    here, there = both(mlp(), weights="finetune", epochs=1)
    genomes = here.space.sample(3, np.random.default_rng(0))
    for one, other in zip(here.evaluate(genomes), there.evaluate(genomes), strict=True):
        assert one == pytest.approx(other, abs=0.02)


@pytest.mark.parametrize(
    ("method", "widths"),
    [
        ("max", ("fixed6", "int4c", "uint8", "fp8e4m3bfit", "log4", "ternary", "bfp6b8")),
        ("percentile", ("int4c",)),
        pytest.param("kl", ("fixed6", "int4"), marks=pytest.mark.slow),
        pytest.param("auto", ("fixed6",), marks=pytest.mark.slow),
    ],
)
def test_formats_are_calibrated_as_on_the_cpu(model: nn.Module, method: str, widths: tuple[str, ...]) -> None:
    here, there = both(model, space={"widths": widths, "multipliers": (0.5, 1.0)}, calibration=method, fold=True)
    for genome in here.space.sample(4, np.random.default_rng(0)):
        assert here.describe(genome) == there.describe(genome)
        logits = (each.logits(genome, each.validation.inputs).cpu() for each in (here, there))
        assert torch.equal(*logits)


def test_races_and_sensitivities_are_those_of_the_cpu(model: nn.Module) -> None:
    here, there = both(model)
    genomes = here.space.corners()
    least = np.full(len(genomes), 0.5)
    assert here.race(genomes, least) == there.race(genomes, least)
    assert np.array_equal(here.sensitivities().values, there.sensitivities().values, equal_nan=True)


def test_a_model_may_be_on_the_device_already(model: nn.Module) -> None:
    here, there = problem(model, pretend.NAME), problem(copy.deepcopy(model).to(pretend.NAME), pretend.NAME)
    genomes = here.space.sample(4, np.random.default_rng(0))
    assert here.fingerprint == there.fingerprint
    assert here.evaluate(genomes) == there.evaluate(genomes)


def test_a_model_is_what_was_evaluated_where_products_are_as_precise(model: nn.Module) -> None:
    there = problem(model, pretend.NAME)
    genome, inputs = there.space.corners()[-1], there.validation.inputs
    with full_precision():
        assert torch.equal(there.model(genome)(inputs), there.logits(genome, inputs))
    assert not torch.equal(there.model(genome)(inputs), there.logits(genome, inputs))  # TF32, as by default on CUDA


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_the_users_precision_does_not_reach_what_is_evaluated(precision: str) -> None:
    here, there = both(mlp(), space={"widths": ("fixed16.12", "fixed16.14"), "multipliers": (1.0,)})
    genomes = here.space.corners()
    expected = here.evaluate(genomes)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert there.evaluate(genomes) == here.evaluate(genomes) == expected
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_users_random_state_is_as_it_was_on_every_device() -> None:
    fresh = Small().eval()
    for device in ("cpu", pretend.NAME):
        before = torch.get_rng_state(), pretend.MODULE.get_rng_state()
        each = problem(fresh, device, weights="scratch", epochs=1)
        each.evaluate(each.space.corners()[:1])
        assert torch.equal(before[0], torch.get_rng_state())
        assert torch.equal(before[1], pretend.MODULE.get_rng_state())


def test_latency_is_measured_by_the_events_of_the_device(model: nn.Module) -> None:
    there = problem(model, pretend.NAME, latency="measured")
    before = pretend.MODULE.events
    (scores,) = there.evaluate(there.space.corners()[-1:])
    assert 0 < scores["latency_q1"] <= scores["latency"] <= scores["latency_q3"]
    assert pretend.MODULE.events > before


def test_a_latency_table_is_one_of_the_device(model: nn.Module, tmp_path: Path) -> None:
    before = pretend.MODULE.events
    profile(problem(model, pretend.NAME), tmp_path / "table.json", rounds=3, points=2)
    assert pretend.MODULE.events > before
    assert pretend.MODULE.get_device_name() in (tmp_path / "table.json").read_text()


@pytest.mark.parametrize("widths", [(4, 8), ("int8c", "int8")])
def test_onnxruntime_takes_networks_of_the_device(model: nn.Module, widths: tuple[object, ...]) -> None:
    pytest.importorskip("onnxruntime")
    there = problem(
        model, pretend.NAME, space={"widths": widths, "multipliers": (1.0,)}, latency="measured:onnxruntime"
    )
    (scores,) = there.evaluate(there.space.corners()[-1:])
    assert scores["latency"] > 0


def test_weights_on_disk_are_for_any_machine(model: nn.Module, tmp_path: Path) -> None:
    there = problem(model, pretend.NAME, weights="finetune", epochs=1)
    there.keep_in(tmp_path)
    genomes = there.space.corners()
    scores = there.evaluate(genomes)
    here = problem(model, "cpu", weights="finetune", epochs=1)
    here.keep_in(tmp_path)
    assert here.evaluate(genomes) == scores
    assert all(state.device.type == "cpu" for file in tmp_path.rglob("*.pt") for state in torch.load(file).values())


def test_a_search_ends_with_a_model(model: nn.Module) -> None:
    results = [evonas.search(each, budget=10, seed=0, progress="none") for each in both(model)]
    fronts = [result.front.drop(columns="seconds", errors="ignore") for result in results]
    assert fronts[0].equals(fronts[1])
    assert next(results[1].model(0).parameters()).device.type == pretend.NAME


@pytest.mark.parametrize("device", ["nonsense", "meta", "cuda:77", ""])
def test_a_device_that_is_not_there_is_one_line_with_those_that_are(model: nn.Module, device: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"cannot be used.*cpu, {pretend.NAME}:0") as error:
        problem(model, device)
    assert "\n" not in str(error.value)
