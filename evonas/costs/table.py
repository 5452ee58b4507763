"""Latency from a file of measured layers: looked up, interpolated over channels and widths, and summed.

`evonas profile` writes such a file. A layer is looked up by its shape (kind, kernel, positions, groups), whatever its
name; between the measured channel counts and widths the time is linear in each. An operand narrower than any that
was measured takes the narrowest one's time. Layers run one after another, and what whole networks take beyond the sum
is `whole` in the file: seconds = factor x sum + offset.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evonas.chains import Extent
from evonas.errors import InvalidArgument, Unmeasured, unknown_name
from evonas.plan import Layer, Plans
from evonas.space import FloatArray, IntArray

__all__ = ["FORMAT", "TIMED", "Shape", "Table", "load_table", "parse_layers"]

FORMAT = 1
TIMED = ("linear", "conv", "relu", "batchnorm")  # kinds of layers that a table holds
_SHAPE = ("kind", "taps", "positions", "input_positions", "groups")
_POINT = ("inputs", "outputs", "width", "q1", "median", "q3")
_FLOAT_BITS = 32


@dataclass(frozen=True)
class Shape:
    """What makes two layers take the same time at the same channels.

    Args:
        kind: `linear`, `conv`, `relu` or `batchnorm`.
        taps: kernel positions.
        positions: output positions of a channel.
        input_positions: input positions of a channel.
        groups: of a convolution; 0 for as many as channels (depthwise).
    """

    kind: str
    taps: int = 1
    positions: int = 1
    input_positions: int = 1
    groups: int = 1

    @classmethod
    def of(cls, layer: Layer, channels: Mapping[str, int]) -> Shape:
        """The shape of `layer`, given the original count of every chain."""
        if layer.kind not in ("linear", "conv"):
            return cls(layer.kind, 1, layer.positions, layer.positions)
        groups = 1
        if layer.fan_in == Extent(1):
            groups = 0 if layer.inputs.count(channels) > 1 else 1
        elif layer.fan_in is not None:
            groups = layer.inputs.count(channels) // layer.fan_in.count(channels)
        return cls(layer.kind, layer.taps, layer.positions, layer.input_positions, groups)

    @property
    def square(self) -> bool:
        """True when outputs are as many as inputs, so that one of them says all."""
        return self.groups == 0 or self.kind in ("relu", "batchnorm")

    def __str__(self) -> str:
        kernel = f", {self.taps} taps, {self.groups or 'depthwise'} groups" if self.kind == "conv" else ""
        return f"{self.kind}{kernel.replace('depthwise groups', 'depthwise')}, {self.positions} positions"


@dataclass(frozen=True)
class Grid:
    """Seconds over inputs x outputs x width, each axis ascending; shape (inputs, outputs, widths)."""

    axes: tuple[IntArray, IntArray, IntArray]
    seconds: FloatArray

    def at(self, where: tuple[IntArray, IntArray, IntArray]) -> FloatArray:
        """Seconds at points (n,) of each axis, linear in each; NaN outside, but below the narrowest width."""
        low, share = [], []
        inside = np.ones(len(where[0]), dtype=np.bool_)
        for axis, wanted in zip(self.axes, (where[0], where[1], np.maximum(where[2], self.axes[2][0])), strict=True):
            inside &= (wanted >= axis[0]) & (wanted <= axis[-1])
            place = np.clip(np.searchsorted(axis, wanted, side="right") - 1, 0, max(0, len(axis) - 2))
            gap = axis[np.minimum(place + 1, len(axis) - 1)] - axis[place]
            low.append(place)
            share.append((wanted - axis[place]) / np.maximum(gap, 1))
        total = np.zeros(len(where[0]))
        for corner in itertools.product((0, 1), repeat=3):
            part = np.ones(len(where[0]))
            index = []
            for side, place, fraction, axis in zip(corner, low, share, self.axes, strict=True):
                part *= fraction if side else 1 - fraction
                index.append(np.minimum(place + side, len(axis) - 1))
            total += part * self.seconds[tuple(index)]
        return np.where(inside, total, np.nan)


@dataclass(frozen=True)
class Table:
    """Measured layers of one machine.

    Args:
        origin: the file.
        batch: samples in each measured call; latencies are per sample.
        threads: that the measurement ran on.
        grids: shape to its times.
        machine: what was measured on, in words.
        factor: whole networks take this times the sum of their layers,
        offset: and these seconds a call.
    """

    origin: str
    batch: int
    threads: int
    grids: Mapping[Shape, Grid] = field(hash=False)
    machine: str = ""
    factor: float = 1.0
    offset: float = 0.0

    @cached_property
    def note(self) -> str:
        """Half a sentence about what the numbers are."""
        widths = sorted({int(width) for grid in self.grids.values() for width in grid.axes[2]})
        text = ", ".join(map(str, widths))
        return f"sum of layers measured in {self.origin}: {text} bits, batch {self.batch}, {self.threads} thread(s)"

    def layer_seconds(self, plans: Plans) -> dict[str, FloatArray]:
        """Seconds a sample of each layer that is timed, by name, shape (n,) each; without the share of `offset`.

        Raises:
            InvalidArgument: a layer that the table does not cover: which, and how to add it.
        """
        layers = [layer for layer in plans.network.layers if layer.kind in (*TIMED, "matmul")]
        return {layer.name: self._one(plans, layer) * self.factor / self.batch for layer in layers}

    def seconds(self, plans: Plans) -> FloatArray:
        """Seconds of one sample, shape (n,)."""
        return sum(self.layer_seconds(plans).values(), np.full(plans.n, self.offset / self.batch))

    def _one(self, plans: Plans, layer: Layer) -> FloatArray:
        shape = Shape.of(layer, {chain.name: chain.channels for chain in plans.network.chains})
        outputs = plans.count(layer.outputs)
        inputs = outputs if shape.square else plans.count(layer.inputs)
        width = np.full(plans.n, _FLOAT_BITS, dtype=np.int64)
        if layer.quantizable:
            column = plans.network.quantizable.index(layer)
            width = np.maximum(plans.widths["data_in"][:, column], plans.widths["weight"][:, column])
        if shape not in self.grids or layer.repeats is not None:
            raise self._uncovered(layer, shape, int(inputs[0]), int(outputs[0]), int(width[0]))
        found = self.grids[shape].at((inputs, outputs, width))
        missing = np.flatnonzero(np.isnan(found))
        if len(missing):
            at = int(missing[0])
            raise self._uncovered(layer, shape, int(inputs[at]), int(outputs[at]), int(width[at]))
        return found

    def _uncovered(self, layer: Layer, shape: Shape, inputs: int, outputs: int, width: int) -> Unmeasured:
        return Unmeasured(
            f"latency table `{self.origin}` does not cover `{layer.name}` ({shape}) with {inputs} inputs, {outputs} "
            f"outputs and {width} bits; add it",
            self.origin,
        )


def load_table(name: str) -> Table:
    """The table in the JSON file `name`.

    Raises:
        InvalidArgument: no such file, no JSON, or a number that is missing, not positive, or of the wrong type.
        UnknownName: a key that tables do not have.
    """
    path = Path(name)
    if not path.is_file():
        raise Unmeasured(f"latency table `{name}` does not exist; make it", name)
    try:
        content = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidArgument(f"latency table `{name}` is not JSON: {error}") from None
    if not isinstance(content, dict) or content.get("evonas_latency") != FORMAT:
        raise InvalidArgument(f"latency table `{name}` is none: it must begin with `evonas_latency` = {FORMAT}")
    keys = ("evonas_latency", "machine", "model", "torch", "batch", "threads", "rounds", "clock", "layers", "whole")
    _known(name, "", content, keys)
    grids = parse_layers(name, content.get("layers"))
    batch, threads = (int(_number(name, "", content, key, whole=True)) for key in ("batch", "threads"))
    whole = content.get("whole", {"networks": 1, "factor": 1, "offset": 0})
    _known(name, "whole", whole, ("networks", "factor", "offset"))
    factor = _number(name, "whole", whole, "factor")
    offset = 0.0 if whole.get("offset") == 0 else _number(name, "whole", whole, "offset")
    return Table(name, batch, threads, grids, str(content.get("machine", "")), factor, offset)


def parse_layers(origin: str, layers: Any) -> dict[Shape, Grid]:
    """The `layers` of a table file.

    Raises:
        InvalidArgument: a number that is missing, not positive, or of the wrong type; the message names `origin`.
        UnknownName: a key that layers do not have.
    """
    if not isinstance(layers, list) or not layers:
        raise InvalidArgument(f"latency table `{origin}`: `layers` must be a list of at least one layer")
    return dict(_layer(origin, f"layers[{i}]", layer) for i, layer in enumerate(layers))


def _known(origin: str, where: str, content: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(content, dict):
        raise InvalidArgument(f"latency table `{origin}`: `{where}` must be an object, got {type(content).__name__}")
    for key in content:
        if key not in keys:
            raise unknown_name(f"key in latency table `{origin}`", f"{where}.{key}".lstrip("."), keys)


def _number(origin: str, where: str, content: Mapping[str, Any], key: str, *, whole: bool = False) -> float:
    name = f"{where}.{key}".lstrip(".")
    if key not in content:
        raise InvalidArgument(f"latency table `{origin}` has no `{name}`; expected a positive number")
    value = content[key]
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    if not good or (whole and value != int(value)):
        kind = "whole number" if whole else "number"
        raise InvalidArgument(f"latency table `{origin}`: `{name}` must be a positive {kind}, got {value!r}")
    return float(value)


def _layer(origin: str, where: str, content: Any) -> tuple[Shape, Grid]:
    _known(origin, where, content, (*_SHAPE, "points"))
    if content.get("kind") not in TIMED:
        raise unknown_name(f"`{where}.kind` in latency table `{origin}`", str(content.get("kind")), TIMED)
    taps, out, into = (int(_number(origin, where, content, key, whole=True)) for key in _SHAPE[1:-1])
    groups = 0
    if content.get("groups", 1) != 0:
        groups = int(_number(origin, where, {"groups": 1, **content}, "groups", whole=True))
    points = content.get("points")
    if not isinstance(points, list) or not points:
        raise InvalidArgument(f"latency table `{origin}`: `{where}.points` must be a list of at least one point")
    found: dict[tuple[int, int, int], float] = {}
    for i, point in enumerate(points):
        path = f"{where}.points[{i}]"
        _known(origin, path, point, _POINT)
        place = [int(_number(origin, path, point, key, whole=True)) for key in _POINT[:3]]
        quartiles = [_number(origin, path, point, key) for key in _POINT[3:]]
        if quartiles != sorted(quartiles):
            raise InvalidArgument(f"latency table `{origin}`: `{path}` must have q1 <= median <= q3")
        found[place[0], place[1], place[2]] = quartiles[1]
    shape = Shape(str(content["kind"]), taps, out, into, groups)
    return shape, _grid(origin, where, shape, found)


def _grid(origin: str, where: str, shape: Shape, points: Mapping[tuple[int, int, int], float]) -> Grid:
    """Points as a full grid; for a square shape only outputs count."""
    if shape.square:
        outputs, widths = (np.array(sorted({point[i] for point in points})) for i in (1, 2))
        axes = outputs, outputs, widths
        seconds = np.array([[points.get((o, o, w), np.nan) for w in widths] for o in outputs])
        if np.isnan(seconds).any():
            raise InvalidArgument(
                f"latency table `{origin}`: `{where}` must have as many inputs as outputs in each point"
            )
        full = (seconds[:, None] + seconds[None]) / 2  # between two outputs, both axes meet at their common value
        return Grid(axes, full)
    axes = tuple(np.array(sorted({point[i] for point in points})) for i in range(3))  # type: ignore[assignment]
    full = np.array([[[points.get((i, o, w), np.nan) for w in axes[2]] for o in axes[1]] for i in axes[0]])
    if np.isnan(full).any():
        hole = [axes[k][int(place)] for k, place in enumerate(np.argwhere(np.isnan(full))[0])]
        raise InvalidArgument(
            f"latency table `{origin}`: `{where}` has no point for inputs {hole[0]}, outputs {hole[1]}, "
            f"width {hole[2]}; every combination is needed"
        )
    return Grid(axes, full)
