"""Hypervolume and size of the front against distinct evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evonas import pareto
from evonas.objective import Objective
from evonas.pareto import Archive
from evonas.plots.points import counted, limits_of
from evonas.plots.scale import finite, valued
from evonas.plots.style import BLUE, GREEN, SMALL, VERMILLION, clean, place, sheet, styled, tidy, wrap
from evonas.space import FloatArray, IntArray

if TYPE_CHECKING:
    from evonas.result import Result

__all__ = ["Growth", "growth", "hypervolume"]

_EXACT = 6  # objectives; above, exact hypervolumes take minutes
_DARTS = 20_000  # random points that estimate it then
_SHARE = 0.9  # of the final hypervolume: when it was reached is marked


@dataclass(frozen=True)
class Growth:
    """The front after each of n distinct evaluations.

    Args:
        volumes: share of the reference box that the front dominates, shape (n,).
        sizes: points on the front, shape (n,).
        lower: corner of the reference box, to be minimised, shape (k,).
        upper: the other corner, shape (k,).
        estimated: whether volumes are estimates from random points.
    """

    volumes: FloatArray
    sizes: IntArray
    lower: FloatArray
    upper: FloatArray
    estimated: bool


def growth(result: Result) -> Growth:
    """The hypervolume after each distinct evaluation, in the one reference box of the whole run.

    A point adds what it dominates alone: its own box less what the front dominates within that box. So only
    evaluations that join the front cost anything. With more than six objectives it is estimated by the share
    of 20,000 fixed random points that are dominated (standard error at most 0.0036).
    """
    task, evaluations = result.task, result.archive.evaluations
    known = finite(task.minimised([evaluation for evaluation in evaluations if evaluation.status == "ok"]))
    lower, upper = pareto.reference_box(task, known[~np.isnan(known).any(axis=1)])
    drawable = np.isfinite(finite(lower)) & np.isfinite(finite(upper))
    lower, upper = np.where(drawable, lower, 0.0), np.where(drawable, upper, 0.0)
    add = _Darts(lower, upper) if int((upper > lower).sum()) > _EXACT else _Boxes(lower, upper)
    archive, volumes, sizes = Archive(task), [0.0], [0]
    for evaluation in evaluations:
        verdict = archive.add(evaluation)
        if verdict == "infeasible":
            continue
        volume, size = volumes[-1], sizes[-1]
        if verdict == "front":
            value = finite(task.minimised([evaluation]))
            volume, size = (volume if np.isnan(value).any() else add(value)), len(archive.front)
        volumes.append(volume)
        sizes.append(size)
    return Growth(np.array(volumes[1:]), np.array(sizes[1:], dtype=np.int64), lower, upper, isinstance(add, _Darts))


class _Boxes:
    """The hypervolume of a growing set, exactly."""

    def __init__(self, lower: FloatArray, upper: FloatArray) -> None:
        self.lower, self.upper = lower, upper
        self.known = np.zeros((0, len(lower)))
        self.volume = 0.0

    def __call__(self, value: FloatArray) -> float:
        """The hypervolume with `value` (1, k), which none dominates, in the set."""
        inside = np.maximum(self.known, value)
        inside = inside[pareto.non_dominated(inside)]
        own, shared = (pareto.hypervolume(v, self.lower, self.upper) for v in (value, inside))
        self.volume += max(0.0, own - shared)
        self.known = np.concatenate([self.known[~(value <= self.known).all(axis=1)], value])
        return self.volume


class _Darts:
    """The hypervolume of a growing set, estimated by random points of the box."""

    def __init__(self, lower: FloatArray, upper: FloatArray) -> None:
        self.wide = upper > lower
        self.points = np.random.default_rng(0).uniform(
            lower[self.wide], upper[self.wide], (_DARTS, int(self.wide.sum()))
        )
        self.volume = 0.0

    def __call__(self, value: FloatArray) -> float:
        """The hypervolume with `value` (1, k) in the set."""
        hit = (value[:, self.wide] <= self.points).all(axis=1)
        self.volume += float(hit.sum()) / _DARTS
        self.points = self.points[~hit]
        return self.volume


def hypervolume(result: Result) -> Figure:
    """Hypervolume of the front against distinct evaluations, and below it the size of the front."""
    with styled():
        grown = growth(result)
        box = wrap(_box(result, grown), 6.0, separator=", ")
        below = 0.62 + 0.15 * len(box)
        final = f"final {grown.volumes[-1]:.4f}" if len(grown.volumes) else "nothing was evaluated"
        notes = [final, counted(result), *limits_of(result)]
        if grown.estimated:
            notes.append(f"estimated from {_DARTS:,} random points")
        figure, _ = sheet(6.4, below + 4.4, f"{clean(result.problem.name, 30)}: hypervolume of the front", notes)
        volume = place(figure, 0.8, below + 1.15, 5.35, 3.2)
        size = place(figure, 0.8, below, 5.35, 0.95)
        spent = np.arange(1, len(grown.volumes) + 1)
        _steps(volume, spent, grown.volumes, BLUE, "hypervolume\n(share of the box)  better →")
        _steps(size, spent, grown.sizes, GREEN, "points on\nthe front")
        size.set_ylim(0, 1.1 * max(1, grown.sizes.max(initial=0)))
        size.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        volume.tick_params(labelbottom=False)
        size.set_xlabel("distinct evaluations")
        _mark_share(volume, spent, grown.volumes)
        figure.text(
            0.2 / 6.4,
            0.1 / figure.get_figheight(),
            "\n".join(box),
            va="bottom",
            fontsize=SMALL,
            color="#444444",
        )
        return figure


def _steps(axes: Axes, spent: IntArray, values: FloatArray | IntArray, colour: str, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_xlim(1, max(len(spent), 2))
    tidy(axes)
    if len(spent):
        axes.step(spent, values, where="post", color=colour, linewidth=1.6)
        low, high = float(values.min()), float(values.max())
        pad = 0.08 * (high - low) or 0.5 * high or 0.5
        axes.set_ylim(max(0.0, low - pad), high + pad)
        axes.plot(spent[-1:], values[-1:], "o", color=colour, markersize=3.5, clip_on=False)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _mark_share(axes: Axes, spent: IntArray, volumes: FloatArray) -> None:
    """A dot where `_SHARE` of the final hypervolume was reached."""
    if not len(volumes) or volumes[-1] <= 0:
        return
    first = int(np.argmax(volumes >= _SHARE * volumes[-1]))
    axes.axhline(_SHARE * volumes[-1], color=VERMILLION, linewidth=0.9, linestyle=":")
    axes.plot(spent[first], volumes[first], "o", color=VERMILLION, markersize=5, zorder=3)
    text = f"{_SHARE:.0%} of the final value after {spent[first]:,}"
    right = first > 0.6 * len(volumes)
    axes.annotate(
        text,
        (spent[first], _SHARE * volumes[-1]),
        xytext=(-6 if right else 6, -12),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize=SMALL,
        color=VERMILLION,
    )


def _box(result: Result, grown: Growth) -> list[str]:
    """The reference box in users' directions; an objective without extent is left out of the hypervolume."""
    parts = []
    for objective, low, high in zip(result.task.objectives, grown.lower, grown.upper, strict=True):
        ends = sorted((objective.sign * float(low), objective.sign * float(high)))
        if high > low:
            parts.append(f"{clean(objective.name, 24)} {_end(objective, ends[0])} to {_end(objective, ends[1])}")
    return [f"Reference box: {parts[0]}", *parts[1:]] if parts else ["Reference box: no objective has an extent"]


def _end(objective: Objective, value: float) -> str:
    return f"{value:.4g}" if objective.unit == "fraction" else valued(objective, value)
