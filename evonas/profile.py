"""Building a latency table: every distinct layer shape of a network, timed over a grid of channel counts."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn

from evonas.costs.table import FORMAT, TIMED, Shape
from evonas.errors import InvalidArgument
from evonas.plan import Layer
from evonas.problem.network import NetworkProblem
from evonas.timing import interleaved, timed_module

__all__ = ["profile"]

Make = Callable[[int, int], tuple[nn.Module, Tensor]]


def profile(
    problem: NetworkProblem, out: Path, *, batch: int = 1, rounds: int = 30, points: int = 5, threads: int = 1
) -> int:
    """Measure the layers of `problem` in float32 on this machine and write them to `out`; how many points there are.

    Args:
        problem: whose network and range of channels are measured.
        out: the JSON file.
        batch: samples a call.
        rounds: of interleaved measurements.
        points: channel counts on each axis, from the smallest to the largest of the space.
        threads: that torch uses.

    Raises:
        InvalidArgument: a number below its least, or a network with layers that cannot be timed alone.
    """
    for name, value, least in (
        ("batch", batch, 1),
        ("rounds", rounds, 3),
        ("points", points, 2),
        ("threads", threads, 1),
    ):
        if value < least:
            raise InvalidArgument(f"`{name}` must be at least {least}, got {value}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        layers = _measure(problem, batch, rounds, points)
    finally:
        torch.set_num_threads(before)
    content = {
        "evonas_latency": FORMAT,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
        "model": problem.name,
        "torch": torch.__version__,
        "batch": batch,
        "threads": threads,
        "rounds": rounds,
        "layers": layers,
    }
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(out)
    return sum(len(layer["points"]) for layer in layers)


def _measure(problem: NetworkProblem, batch: int, rounds: int, points: int) -> list[dict[str, Any]]:
    network = problem.plan_space.network
    base = {chain.name: chain.channels for chain in network.chains}
    makers = _makers(problem, batch)
    shapes: dict[Shape, list[Layer]] = {}
    for layer in network.layers:
        if layer.kind in TIMED:
            shapes.setdefault(Shape.of(layer, base), []).append(layer)
    places = {shape: _places(problem, shape, layers, points) for shape, layers in shapes.items()}
    calls = [
        timed_module(*makers(layers[0], shape)(inputs, outputs))
        for shape, layers in shapes.items()
        for inputs, outputs in places[shape]
    ]
    timings = iter(interleaved(calls, rounds=rounds, rng=np.random.default_rng(0)))
    return [
        {
            "kind": shape.kind,
            "taps": shape.taps,
            "positions": shape.positions,
            "input_positions": shape.input_positions,
            "groups": shape.groups,
            "points": [_point(inputs, outputs, next(timings)) for inputs, outputs in places[shape]],
        }
        for shape in shapes
    ]


def _point(inputs: int, outputs: int, timing: tuple[float, float, float]) -> dict[str, Any]:
    q1, median, q3 = timing
    return {"inputs": inputs, "outputs": outputs, "width": 32, "q1": q1, "median": median, "q3": q3}


def _places(problem: NetworkProblem, shape: Shape, layers: list[Layer], points: int) -> list[tuple[int, int]]:
    """The channel counts to measure one shape at: a full grid, or a line when outputs are as many as inputs."""
    extremes = problem.plan_space.extreme_channels
    groups = max(1, shape.groups)

    def axis(side: str) -> list[int]:
        ends = [getattr(layer, side).count(counts) for layer in layers for counts in extremes]
        low, high = min(ends), max(ends)
        return sorted({*ends, *(round(c / groups) * groups for c in np.geomspace(low, high, points))} - {0})

    if shape.square:
        return [(count, count) for count in axis("outputs")]
    return [(inputs, outputs) for inputs in axis("inputs") for outputs in axis("outputs")]


def _makers(problem: NetworkProblem, batch: int) -> Callable[[Layer, Shape], Make]:
    """For a layer: what makes a module of its shape with other channels, and an input for it."""
    original = np.array(problem.space.corners()[0])
    traced = problem.network(original).graph
    seen = dict(_seen(traced, problem.train_split.inputs[:1]))

    def makers(layer: Layer, shape: Shape) -> Make:
        if layer.kind not in ("linear", "conv"):
            return lambda _, channels: _elementwise(layer, channels, batch)
        if layer.name not in seen:
            raise InvalidArgument(f"`{layer.name}` is no module of its own, so that it cannot be timed alone")
        module, received = seen[layer.name]
        return lambda inputs, outputs: _resized(module, received, inputs, outputs, shape.groups, batch)

    return makers


def _seen(traced: torch.fx.GraphModule, sample: Tensor) -> Iterator[tuple[str, tuple[nn.Module, torch.Size]]]:
    """Name, module and the input shape of each leaf module."""
    found: dict[str, torch.Size] = {}

    class Recorder(torch.fx.Interpreter):
        def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            found[str(target)] = args[0].shape
            return super().call_module(target, args, kwargs)

    with torch.no_grad():
        Recorder(traced).run(sample)
    for name, shape in found.items():
        yield name, (traced.get_submodule(name), shape)


def _elementwise(layer: Layer, channels: int, batch: int) -> tuple[nn.Module, Tensor]:
    inputs = torch.randn(batch, channels, layer.positions)
    return (nn.ReLU() if layer.kind == "relu" else nn.BatchNorm1d(channels)).eval(), inputs


def _resized(
    module: nn.Module, received: torch.Size, inputs: int, outputs: int, groups: int, batch: int
) -> tuple[nn.Module, Tensor]:
    """A module like `module` with other channels, and an input like that of shape `received`."""
    bias = module.bias is not None
    if isinstance(module, nn.Linear):
        return nn.Linear(inputs, outputs, bias=bias).eval(), torch.randn(batch, *received[1:-1], inputs)
    made: Any = type(module)
    options = {name: getattr(module, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    new = made(inputs, outputs, groups=groups or inputs, bias=bias, **options).eval()
    return new, torch.randn(batch, inputs, *received[2:])
