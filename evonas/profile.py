"""Building a latency table: every distinct layer shape of a network, timed over a grid of channel counts.

Layers timed alone add up to less than the network takes: pools and sums are missing, and inside a network a layer finds
its weights and inputs in slower caches. So some whole networks are timed with them, and what they take beyond the sum
is fitted as `factor * sum + offset` and kept in the file. That changes no ranking by the table, only its scale.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn

from evonas.chains import Extent
from evonas.costs.table import FORMAT, TIMED, Shape, Table, load_table, parse_layers
from evonas.errors import InvalidArgument
from evonas.network import Layer
from evonas.plan import PlanSpace
from evonas.problem.network import NetworkProblem
from evonas.space import FloatArray, IntArray
from evonas.timing import Told, interleaved, timed_module

__all__ = ["fitted", "profile"]

_WHOLE = 8  # whole networks that are measured with the layers
_MOST_COUNTS = 1000  # combinations of chains' counts that are enumerated

Make = Callable[[int, int], tuple[nn.Module, Tensor]]


def profile(
    problem: NetworkProblem,
    out: Path,
    *,
    batch: int = 1,
    rounds: int = 30,
    points: int = 8,
    threads: int = 1,
    clock: str = "wall",
    told: Told | None = None,
) -> int:
    """Measure the layers of `problem` in float32 on this machine and write them to `out`; how many points there are.

    A table that is there already keeps its layers of other shapes.

    Args:
        problem: whose network and range of channels are measured.
        out: the JSON file.
        batch: samples a call.
        rounds: of interleaved measurements.
        points: channel counts on each axis: all that the space has if they are no more, otherwise so many from its
            smallest to its largest and the ends of each layer.
        threads: that torch uses.
        clock: `wall`, or `cpu` for the time that one thread runs, as in `evonas.timing.interleaved`.
        told: called after every round with how many are done, and how many there are.

    Raises:
        InvalidArgument: a number below its least, a network with layers that cannot be timed alone, or a file that is
            no table, or one of another machine, batch or number of threads.
    """
    for name, value, least in (
        ("batch", batch, 1),
        ("rounds", rounds, 3),
        ("points", points, 2),
        ("threads", threads, 1),
    ):
        if value < least:
            raise InvalidArgument(f"`{name}` must be at least {least}, got {value}")
    kept = _kept(out, _machine(problem), batch, threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        content = {
            "evonas_latency": FORMAT,
            "machine": _machine(problem),
            "model": problem.name,
            "torch": torch.__version__,
            "batch": batch,
            "threads": threads,
            "rounds": rounds,
            "clock": clock,
            **_measure(problem, str(out), batch, rounds, points, threads, clock, told),
        }
    finally:
        torch.set_num_threads(before)
    count = sum(len(layer["points"]) for layer in content["layers"])
    shapes = parse_layers(str(out), content["layers"])
    content["layers"] += [layer for layer in kept if not parse_layers(str(out), [layer]).keys() & shapes.keys()]
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(out)
    return count


def _machine(problem: NetworkProblem) -> str:
    """The processor, and the device if the problem's networks run on another."""
    found = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}"
    device = problem.validation.inputs.device
    return found if device.type == "cpu" else f"{torch.get_device_module(device).get_device_name(device)}, {found}"


def _timed(device: torch.device, module: nn.Module, inputs: Tensor) -> Callable[[], object]:
    return timed_module(module.to(device), inputs.to(device))


def _kept(out: Path, machine: str, batch: int, threads: int) -> list[Any]:
    """The layers of a table that is there already, to which others are added."""
    if not out.exists():
        return []
    table = load_table(str(out))
    there, wanted = (table.machine, table.batch, table.threads), (machine, batch, threads)
    if there != wanted:
        raise InvalidArgument(
            f"latency table `{out}` was measured on {there[0]} with batch {there[1]} and {there[2]} thread(s), this "
            f"would be {wanted[0]} with batch {batch} and {threads} thread(s); give another file"
        )
    layers: list[Any] = json.loads(out.read_text(encoding="utf-8"))["layers"]
    return layers


def _measure(
    problem: NetworkProblem,
    origin: str,
    batch: int,
    rounds: int,
    points: int,
    threads: int,
    clock: str,
    told: Told | None,
) -> dict[str, Any]:
    """`layers` and `whole` of the file: all is measured in turn, so that both mean the same machine."""
    network = problem.plan_space.network
    base = {chain.name: chain.channels for chain in network.chains}
    makers = _makers(problem, batch)
    shapes: dict[Shape, list[Layer]] = {}
    for layer in network.layers:
        if layer.kind in TIMED:
            shapes.setdefault(Shape.of(layer, base), []).append(layer)
    places = {shape: _places(problem.plan_space, shape, layers, points) for shape, layers in shapes.items()}
    device = problem.validation.inputs.device
    calls = [
        _timed(device, *makers(layers[0], shape)(inputs, outputs))
        for shape, layers in shapes.items()
        for inputs, outputs in places[shape]
    ]
    genomes = _genomes(problem)
    samples = problem.validation.inputs[torch.arange(batch) % len(problem.validation)]
    plans = problem.plan_space.plans(genomes)
    channels = [{name: int(counts[i]) for name, counts in plans.channels.items()} for i in range(len(genomes))]
    calls += [timed_module(problem.deployable(counts), samples) for counts in channels]
    timings = interleaved(calls, rounds=rounds, rng=np.random.default_rng(0), device=device, clock=clock, told=told)
    of_layers = iter(timings)
    layers = [
        {
            "kind": shape.kind,
            "taps": shape.taps,
            "positions": shape.positions,
            "input_positions": shape.input_positions,
            "groups": shape.groups,
            "points": [_point(inputs, outputs, next(of_layers)) for inputs, outputs in places[shape]],
        }
        for shape in shapes
    ]
    sums = Table(origin, 1, threads, parse_layers(origin, layers)).seconds(plans)
    factor, offset = fitted(sums, np.array([timing.median for timing in of_layers]))
    return {"layers": layers, "whole": {"networks": len(genomes), "factor": factor, "offset": offset}}


def _genomes(problem: NetworkProblem) -> IntArray:
    """The corners of the space and some random genomes, one a channel configuration."""
    space = problem.plan_space
    drawn = np.concatenate([space.space.corners(), space.space.sample(4 * _WHOLE, np.random.default_rng(0))])
    counts = np.array([*space.channels(drawn).values()], dtype=np.int64).reshape(-1, len(drawn))
    first = np.sort(np.unique(counts, axis=1, return_index=True)[1])
    found: IntArray = drawn[first[:_WHOLE]]
    return found


def fitted(sums: FloatArray, measured: FloatArray) -> tuple[float, float]:
    """`factor` > 0 and `offset` >= 0 with which `factor * sums + offset` is nearest to `measured`, both shape (n,).

    By least squares of the relative error. Where that leaves no factor (noise, or networks all alike), it is 1.
    """
    from scipy.optimize import nnls

    both = np.stack([sums, np.ones_like(sums)], axis=1)
    factor, offset = nnls(both / measured[:, None], np.ones(len(sums)))[0]
    if len(sums) > 1 and factor > 0:
        return float(factor), float(offset)
    return 1.0, max(0.0, float(np.median(measured - sums)))


def _point(inputs: int, outputs: int, timing: tuple[float, float, float]) -> dict[str, Any]:
    q1, median, q3 = timing
    return {"inputs": inputs, "outputs": outputs, "width": 32, "q1": q1, "median": median, "q3": q3}


def _places(space: PlanSpace, shape: Shape, layers: list[Layer], points: int) -> list[tuple[int, int]]:
    """The channel counts to measure one shape at: a full grid, or a line when outputs are as many as inputs."""

    def axis(side: str) -> list[int]:
        of_layers = [_counts(space, getattr(layer, side)) for layer in layers]
        counts = sorted(set().union(*of_layers))
        if len(counts) <= points:
            return counts
        wanted = np.geomspace(counts[0], counts[-1], points)
        inner = (min(counts, key=lambda count, w=w: abs(count - w)) for w in wanted)  # type: ignore[misc]
        return sorted({*map(min, of_layers), *map(max, of_layers), *inner})

    if shape.square:
        return [(count, count) for count in axis("outputs")]
    return [(inputs, outputs) for inputs in axis("inputs") for outputs in axis("outputs")]


def _counts(space: PlanSpace, extent: Extent) -> set[int]:
    """The channel counts that `extent` has in the space; only the least and the largest where chains make many."""
    names = [name for name, _ in extent.terms]
    choices = [sorted(set(space.counts(name).tolist())) for name in names]
    if math.prod(len(each) for each in choices) > _MOST_COUNTS:
        choices = [[each[0], each[-1]] for each in choices]
    return {int(extent.count(dict(zip(names, each, strict=True)))) for each in itertools.product(*choices)} - {0}


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
