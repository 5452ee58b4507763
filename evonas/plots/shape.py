"""One network layer by layer: its channels, its formats, and where its costs are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evonas.errors import InvalidArgument
from evonas.plots.points import knee
from evonas.plots.scale import valued
from evonas.plots.style import (
    BLUE,
    GREY,
    LEVELS,
    ORANGE,
    SKY,
    SMALL,
    TEXT,
    VERMILLION,
    char,
    clean,
    ink,
    place,
    sheet,
    styled,
    tidy,
)
from evonas.space import FloatArray, IntArray

if TYPE_CHECKING:
    from evonas.formats import Format
    from evonas.plan import LayerPlan, PlanSpace
    from evonas.problem.base import Problem
    from evonas.result import Result

__all__ = ["has_layers", "network"]

_ROWS = 16.0  # inches of all layers together
_ROW = (0.2, 0.42)  # inches, lowest and highest layer
_CHANNELS, _COSTS, _GAP = 2.7, 2.3, 0.35  # inches
_BELOW = 0.85
_BITS = 4.0  # doublings from 2 bits, the lightest colour, to 32 bits, the darkest
_SLOTS = {"data_in": "data in", "data_in2": "second in", "weight": "weight", "bias": "bias", "data_out": "data out"}
_SHARES = {"size": BLUE, "MACs": ORANGE, "latency": VERMILLION}


def has_layers(problem: Problem) -> bool:
    """Whether `problem` is about a network with layers that have formats."""
    plan_space: PlanSpace | None = getattr(problem, "plan_space", None)
    return plan_space is not None and len(plan_space.network.quantizable) > 0


def network(result: Result, index: int | None = None) -> Figure:
    """The network of one point of the front, a row a layer from its input to its output.

    Shows channels out of each layer over those of the original network, the format of each tensor coloured by
    its bits, and each layer's share of the costs.

    Args:
        result: of a search on networks.
        index: of the point on the front; the one nearest to the front's ideal corner when None.

    Raises:
        InvalidArgument: the problem is not about a network, or the front has no such point.
    """
    problem = result.problem
    if not has_layers(problem):
        raise InvalidArgument(f"problem `{problem.name}` is not about a network, so there is no shape to draw")
    plan_space: PlanSpace = problem.plan_space  # type: ignore[attr-defined]
    chosen = knee(result) if index is None else index
    genome = np.array(result.pick(chosen).genome)
    layers = plan_space.plan(genome).layers
    with styled():
        height = float(np.clip(_ROWS / max(1, len(layers)), *_ROW))
        font = min(SMALL, 0.62 * height * 72)
        names = [clean(layer.layer.name, 34) for layer in layers]
        slots = [slot for slot in plan_space.network.slots if any(slot in layer.layer.slots for layer in layers)]
        tensors = [[getattr(layer, slot) if slot in layer.layer.slots else None for slot in slots] for layer in layers]
        specs = [["" if fmt is None else clean(str(fmt), 12) for fmt in row] for row in tensors]
        left = 0.3 + max(char(font) * max(map(len, names), default=0), 0.4)
        cell = max(0.62, 0.12 + char(font) * max((len(spec) for row in specs for spec in row), default=0))
        formats, up = cell * len(slots), height * len(layers)
        width = left + _CHANNELS + formats + _COSTS + 2 * _GAP + 0.25
        which = ", the nearest to its ideal corner" if index is None else ""
        title = f"{clean(problem.name, 30)}: point {chosen} of the front{which}"
        figure, _ = sheet(width, _BELOW + up + 0.36, title, _notes(result, chosen))
        axes = [
            place(figure, start, _BELOW, wide, up)
            for start, wide in (
                (left, _CHANNELS),
                (left + _CHANNELS + _GAP, formats),
                (left + _CHANNELS + formats + 2 * _GAP, _COSTS),
            )
        ]
        _channels(axes[0], layers, _originals(plan_space), names, font)
        _formats(axes[1], slots, tensors, specs, font)
        _costs(axes[2], _shares(problem, genome))
        for one in axes:
            one.set_ylim(len(layers) - 0.5, -0.5)
        return figure


def _notes(result: Result, index: int) -> list[str]:
    """The point's objectives, with test scores where there are any."""
    evaluation = result.pick(index)
    notes = []
    for objective in result.task.objectives:
        value = f"{clean(objective.name)} {valued(objective, evaluation.values[objective.name])}"
        estimate = result.tests.get(evaluation.number, {}).get(objective.name)
        if estimate is not None:
            low, high = objective.format(estimate.low), objective.format(estimate.high)
            value += f" (test {objective.format(estimate.value)} [{low}, {high}])"
        notes.append(value)
    return notes


def _originals(plan_space: PlanSpace) -> list[int]:
    """Channels out of each layer before any multiplier."""
    channels = {chain.name: chain.channels for chain in plan_space.network.chains}
    return [int(layer.outputs.count(channels)) for layer in plan_space.network.quantizable]


def _shares(problem: Problem, genome: IntArray) -> dict[str, FloatArray]:
    """Share of each layer, 0 to 1, in each cost of the quantizable layers, by name, each (n_layers,)."""
    from evonas.costs.arithmetic import layer_bits, layer_macs  # loads torch, which only networks need

    plans = problem.plan_space.plans(genome[None])  # type: ignore[attr-defined]
    found = {"size": layer_bits(plans)[0].astype(np.float64), "MACs": layer_macs(plans)[0].astype(np.float64)}
    known = getattr(problem, "latency_rows", None)  # a problem with a plan space need not model latency
    rows = known(plans) if known else []
    if rows and all("latency" in row for row in rows):
        found["latency"] = np.array([row["latency"] for row in rows])
    return {name: values / (float(values.sum()) or 1.0) for name, values in found.items()}


def _channels(axes: Axes, layers: Sequence[LayerPlan], originals: list[int], names: list[str], font: float) -> None:
    """Bars of channels out, over those of the original, with the counts in and out at their ends."""
    rows, outputs = range(len(layers)), [layer.outputs for layer in layers]
    axes.barh(rows, originals, height=0.8, color="#E2E2E2", edgecolor=GREY, linewidth=0.6, label="original network")
    axes.barh(rows, outputs, height=0.5, color=SKY, edgecolor=BLUE, linewidth=0.6, label="this network")
    longest = max(*outputs, *originals)
    texts = [f"{layer.inputs} → {layer.outputs}" for layer in layers]
    room = char(font) * (max(map(len, texts)) + 1.5) / _CHANNELS
    for row, text in enumerate(texts):
        end = max(outputs[row], originals[row])
        axes.annotate(text, (end, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=font)
    axes.set_xlim(0, longest / max(0.3, 1 - room))
    axes.set_yticks(rows, names, fontsize=font)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_title("channels, in → out", fontsize=TEXT)
    axes.set_xlabel("channels out")
    tidy(axes, grid=False)
    axes.tick_params(axis="y", labelsize=font, length=0)
    _legend(axes, *axes.get_legend_handles_labels())


def _formats(
    axes: Axes,
    slots: Sequence[str],
    tensors: Sequence[Sequence[Format | None]],
    specs: list[list[str]],
    font: float,
) -> None:
    """A cell for each tensor of each layer: its format, coloured by its bits; none where a layer has no such tensor."""
    bits = np.array([[np.nan if fmt is None else fmt.width for fmt in row] for row in tensors], dtype=np.float64)
    levels = np.clip((np.log2(np.maximum(bits, 2.0)) - 1) / _BITS, 0.0, 1.0)
    edges = np.arange(len(slots) + 1) - 0.5, np.arange(len(tensors) + 1) - 0.5
    axes.pcolormesh(*edges, levels, cmap=LEVELS, vmin=0, vmax=1, edgecolors="white", linewidth=1.0)
    for row, column in np.ndindex(bits.shape):
        colour = ink(float(np.nan_to_num(levels[row, column])))
        axes.text(column, row, specs[row][column], ha="center", va="center", fontsize=font, color=colour)
    axes.set_title("formats", fontsize=TEXT)
    axes.set_xticks(range(len(slots)), [_SLOTS[slot] for slot in slots], fontsize=SMALL)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("tensor, coloured by bits")


def _costs(axes: Axes, shares: dict[str, FloatArray]) -> None:
    """Thin bars of each layer's share of each cost."""
    thin = 0.8 / len(shares)
    for i, (name, share) in enumerate(shares.items()):
        rows = np.arange(len(share)) + (i - (len(shares) - 1) / 2) * thin
        axes.barh(rows, 100 * share, height=thin * 0.9, color=_SHARES[name], label=name)
    axes.set_xlim(left=0)
    axes.set_yticks([])
    axes.set_title("share of each cost", fontsize=TEXT)
    axes.set_xlabel("share of these layers (%)")
    tidy(axes, grid=False)
    axes.grid(True, axis="x", color="#E6E6E6", linewidth=0.6)
    _legend(axes, *axes.get_legend_handles_labels())


def _legend(axes: Axes, handles: list[Any], labels: list[str]) -> None:
    """A legend in one line below the axis label."""
    below = -0.42 / (axes.get_position().height * axes.get_figure().get_figheight())  # type: ignore[union-attr]
    axes.legend(
        handles, labels, loc="upper center", bbox_to_anchor=(0.5, below), ncols=len(labels), frameon=False,
        borderaxespad=0.0, handlelength=1.2, columnspacing=1.0,
    )  # fmt: skip
