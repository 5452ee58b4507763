"""Networks as they are deployed, by onnxruntime: the same answers as simulated, in fewer bytes."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from evonas.costs import load_latency
from evonas.deploy import int8_module, int8_throughout, onnx_model, session
from evonas.errors import InvalidArgument
from evonas.problem.model import ModelProblem
from evonas.problems.digits import digits


class Net(nn.Module):
    """Batch norms of either sign after plain, grouped and strided convolutions, a skip connection, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.grouped, self.bn1 = nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.BatchNorm2d(16)
        self.strided, self.bn2 = nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32)
        self.head = nn.Linear(32, 10)

    def forward(self, values: Tensor) -> Tensor:
        values = torch.relu(self.bn(self.stem(values)))
        values = torch.relu(values + self.bn1(self.grouped(values)))
        logits: Tensor = self.head(torch.relu(self.bn2(self.strided(values))).mean((2, 3)))
        return logits


def problem(*formats: str) -> ModelProblem:
    """`Net` with batch norms that have seen the digits, and everything random otherwise."""
    torch.manual_seed(0)
    net = Net()
    for norm in (net.bn, net.bn1, net.bn2):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
    images = images.float().reshape(-1, 1, 8, 8) / 16
    net(images[:500])
    data = {"train": (images[:500], labels[:500]), "validation": (images[500:1000], labels[500:1000])}
    return ModelProblem(net.eval(), **data, space={"widths": [*formats, "float32"], "multipliers": [1]})


def close(found: Tensor, expected: Tensor) -> None:
    """Equal but for float error and the rounding of biases, and for the steps of 1 in 255 that they move."""
    assert float((found - expected).abs().mean()) < 0.02 * float(expected.std())
    assert float((found.argmax(1) == expected.argmax(1)).float().mean()) > 0.98


@pytest.mark.parametrize("spec", ["int8", "fixed8"])
def test_a_convolutional_network_gives_what_was_simulated_in_fewer_bytes(spec: str) -> None:
    made = problem(spec)
    genome, inputs = np.zeros(len(made.space), dtype=np.int64), made.validation.inputs
    plan, network = made.plan_space.plan(genome), made.network(genome)
    assert int8_throughout(network.concrete(plan))
    module = int8_module(network, plan, inputs[:2])
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    model, floats = onnx_model(module, inputs[:2]), onnx_model(made.deployable({}), inputs[:2])
    expected = made.logits(genome, inputs)
    with torch.no_grad():
        close(module(inputs), expected)
    close(session(model)(inputs), expected)
    close(session(floats)(inputs), made.logits(made.space.corners()[1], inputs))
    assert float((session(floats)(inputs) - expected).abs().max()) > 0  # rounding does change something


@pytest.mark.parametrize("formats", [("int8",), ("fixed8",), ("fixed8.4",)])
def test_trained_digits_in_int8_are_a_third_of_float32(formats: tuple[str, ...]) -> None:
    made = digits(epochs=3, formats=",".join((*formats, "float32")))
    genome = made.space.corners()[0]
    inputs, plan, network = made.validation.inputs, made.plan_space.plan(genome), made.network(genome)
    model = onnx_model(int8_module(network, plan, inputs[:2]), inputs[:2])
    close(session(model)(inputs), made.logits(genome, inputs))
    wide = np.array([0 if "float32" in gene.labels else len(gene.choices) - 1 for gene in made.space.genes])
    plan = made.plan_space.plan(wide)
    large = onnx_model(int8_module(made.network(wide), plan, inputs[:2]), inputs[:2])
    floats = onnx_model(made.deployable(dict(plan.channels)), inputs[:2])
    assert len(large) < 0.4 * len(floats)


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ("int8", True),
        ("fixed8", True),
        ("int8n", False),  # an activation of -128 would not be held back
        ("int4", False),  # neither would one of 8
        ("int8a", False),  # weights with zero points
        ("int8c", False),  # activations with a scale for each channel
        ("int9", False),
        ("fp8e4m3", False),
        ("mxint8", False),
        ("float32", False),
    ],
)
def test_what_runs_in_int8(spec: str, fits: bool) -> None:
    made = digits(epochs=0, formats=spec if spec == "float32" else f"{spec},float32")
    genome = made.space.corners()[0]
    plan, network = made.plan_space.plan(genome), made.network(genome)
    assert int8_throughout(network.concrete(plan)) is fits
    if not fits:
        with pytest.raises(InvalidArgument, match="not int8 throughout; give it formats such as int8"):
            int8_module(network, plan, made.validation.inputs[:2])


def test_latency_measured_by_onnxruntime_says_what_was_timed() -> None:
    made = digits(epochs=0, formats="int8,float32", latency="measured:onnxruntime:4")
    assert "onnxruntime in int8 where the plan is int8 throughout, else float32, at" in made.objective("latency").note
    low, high = made.evaluate(made.space.corners())
    assert (low["latency_bits"], high["latency_bits"]) == (8, 32)
    for scores in (low, high):
        assert 0 < scores["latency_q1"] <= scores["latency"] <= scores["latency_q3"]


def test_without_onnxruntime_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InvalidArgument, match=r"onnxruntime is not installed; pip install 'evonas\[deploy\]'"):
        digits(epochs=0, latency="measured:onnxruntime")


@pytest.mark.parametrize(
    ("spec", "batch", "runtime"),
    [
        ("measured", 1, "torch"),
        ("measured:8", 8, "torch"),
        ("measured:torch:8", 8, "torch"),
        ("measured:onnxruntime", 1, "onnxruntime"),
        ("measured:onnxruntime:8", 8, "onnxruntime"),
    ],
)
def test_specs(spec: str, batch: int, runtime: str) -> None:
    source = load_latency(spec)
    assert (source.batch, source.runtime) == (batch, runtime)  # type: ignore[union-attr]
