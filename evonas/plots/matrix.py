"""The front in every pair of objectives, all evaluations behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evonas.pareto import non_dominated
from evonas.plots.course import course
from evonas.plots.marks import behind, limit_entry, scatter, status_entries, test_entry
from evonas.plots.points import Points, counted, knee, limits_of, scales
from evonas.plots.scale import Scale, valued
from evonas.plots.style import BLUE, GREEN, ORANGE, SKY, VERMILLION, clean, place, sheet, styled, tidy
from evonas.space import FloatArray, IntArray

if TYPE_CHECKING:
    from evonas.result import Result

__all__ = ["front"]

_MOST_OBJECTIVES = 8  # more would leave no room for any panel
_MOST_BARS = 16  # test intervals in one panel
_PANEL = {
    1: (5.2, 3.6),
    2: (3.4, 2.7),
    3: (2.7, 2.3),
    4: (2.4, 2.0),
    5: (2.2, 1.8),
}  # inches, by panels in a row
_LEFT, _BELOW, _GAP = 0.8, 0.6, 0.36
_LEGEND = 0.85  # room below a lone panel; several leave an empty corner
_STAR: dict[str, Any] = {"marker": "*", "color": ORANGE, "markersize": 11, "mec": "black", "mew": 0.7}
_DOT: dict[str, Any] = {"marker": "o", "color": BLUE, "markersize": 5, "mec": "white", "mew": 0.5}


def front(result: Result) -> Figure:
    """A panel for each pair of objectives, or the course of the search where there is only one.

    Shows every evaluation, which of them are on the front, the best trade-offs of each pair as a line,
    limits, and, where the front was scored on test data, those scores with their 95 % intervals.
    """
    with styled():
        points = Points.of(result)
        scale = scales(result, points)[:_MOST_OBJECTIVES]
        if len(scale) == 1:
            return course(result, points, scale[0])
        panels, middle = len(scale) - 1, knee(result)
        across, up = _PANEL.get(panels, (2.0, 1.7))
        below = _BELOW if panels > 1 else _BELOW + _LEGEND
        width = _LEFT + panels * across + (panels - 1) * _GAP + 0.25
        height = below + panels * up + (panels - 1) * _GAP
        figure, _ = sheet(width, height, f"{clean(result.problem.name, 30)}: Pareto front", _notes(result, len(scale)))
        for row in range(panels):
            for column in range(row, panels):
                bottom = below + (panels - 1 - row) * (up + _GAP)
                axes = place(figure, _LEFT + column * (across + _GAP), bottom, across, up)
                pair = (scale[column + 1], scale[row])
                _panel(axes, points, (column + 1, row), pair, middle)
                _limits(axes, result, pair)
                axes.tick_params(labelbottom=column == row, labelleft=column == row)
                if column == row:
                    axes.set_xlabel(pair[0].label(across))
                    axes.set_ylabel(pair[1].label(up))
        row = min(2, panels - 1)  # the first whose left is wide enough for the legend
        top = _LEGEND if panels == 1 else below + (panels - 1 - row) * (up + _GAP) + up - _GAP
        figure.legend(
            handles=_legend(result, points, middle),
            loc="upper left",
            bbox_to_anchor=(0.15 / width, top / figure.get_figheight()),
            borderaxespad=0.0,
            frameon=False,
            ncols=1 if panels > 1 else 2,
        )
        return figure


def _notes(result: Result, drawn: int) -> list[str]:
    size = len(result.archive.front)
    notes = [f"{size} point{'' if size == 1 else 's'} on the front" if size else "no evaluation is on the front"]
    notes.append(counted(result))
    if drawn < len(result.task.objectives):
        notes.append(f"the first {drawn} of {len(result.task.objectives)} objectives")
    notes += [f"{clean(o.name)} is {valued(o, value)} throughout" for o, value in result.task.dropped]
    return notes + limits_of(result)


def _panel(axes: Axes, points: Points, columns: tuple[int, int], pair: tuple[Scale, Scale], middle: int) -> None:
    """One pair of objectives; `columns` and `pair` are those of x and y."""
    pair[0].on_x(axes, 5)
    pair[1].on_y(axes, 5)
    tidy(axes)
    x, y = (scale.shown(points.values[:, column]) for scale, column in zip(pair, columns, strict=True))
    behind(axes, points, x, y)
    if not len(points.front):
        return
    best = points.values[points.front][:, columns]
    chosen = _best_of_pair(best, pair)
    _staircase(axes, best[chosen], pair)
    _intervals(axes, best, points.tests[:, columns], chosen, pair)
    x, y = x[points.front], y[points.front]
    scatter(axes, x, y, _DOT, level=4)
    scatter(axes, x[[middle]], y[[middle]], _STAR, level=5)


def _limits(axes: Axes, result: Result, pair: tuple[Scale, Scale]) -> None:
    """A line at each constraint on one of the two objectives that lies on its axis."""
    for constraint in result.task.constraints:
        for scale, draw in zip(pair, (axes.axvline, axes.axhline), strict=True):
            if constraint.objective.name == scale.objective.name and scale.holds(constraint.limit):
                at = constraint.limit / scale.factor
                draw(at, color=VERMILLION, linewidth=1.2, linestyle="--", zorder=2)


def _best_of_pair(values: FloatArray, pair: tuple[Scale, Scale]) -> IntArray:
    """Which of the front's `values` (n, 2) no other beats in these two objectives, from the best x on."""
    known = np.flatnonzero(~np.isnan(values).any(axis=1))
    signed = values[known] * [scale.objective.sign for scale in pair]
    kept = non_dominated(signed)
    return known[kept][np.lexsort(signed[kept].T[::-1])]


def _staircase(axes: Axes, values: FloatArray, pair: tuple[Scale, Scale]) -> None:
    """The border of what `values` (n, 2), ordered from the best x, dominate, to the ends of the axes."""
    if not len(values):
        return
    x, y = (scale.shown(values[:, i]) for i, scale in enumerate(pair))
    worst_x, worst_y = (scale.low if scale.objective.maximise else scale.high for scale in pair)
    corners_x = np.append(np.repeat(x, 2), worst_x)
    corners_y = np.concatenate([[worst_y], np.repeat(y, 2)])
    axes.plot(corners_x, corners_y, color=SKY, linewidth=1.4, zorder=2, solid_joinstyle="miter")


def _intervals(axes: Axes, values: FloatArray, tests: FloatArray, chosen: IntArray, pair: tuple[Scale, Scale]) -> None:
    """Test estimates (n, 2, 3) with their intervals, of at most `_MOST_BARS` of the `chosen` points."""
    if len(chosen) > _MOST_BARS:
        chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, _MOST_BARS).round().astype(int))]
    lines: tuple[Any, Any] = (axes.hlines, axes.vlines)
    for j, (scale, draw) in enumerate(zip(pair, lines, strict=True)):
        scored = chosen[~np.isnan(tests[chosen, j]).any(axis=1)]
        if not len(scored):
            continue
        value, low, high = scale.shown(tests[scored, j]).T
        other = pair[1 - j].shown(values[scored, 1 - j])
        draw(other, low, high, color=GREEN, linewidth=1.0, zorder=3)
        marks = (value, other) if j == 0 else (other, value)
        axes.plot(*marks, "D", color="white", mec=GREEN, mew=0.9, markersize=3.2, zorder=3)


def _legend(result: Result, points: Points, middle: int) -> list[Line2D]:
    """Entries for what there is, the most important first."""
    entries = []
    if len(points.front):
        entries = [
            Line2D([], [], linestyle="none", label=f"front ({len(points.front)})", **_DOT),
            Line2D(
                [],
                [],
                linestyle="none",
                label=f"point {middle}, nearest to the front's ideal corner",
                **_STAR,
            ),
            Line2D([], [], color=SKY, linewidth=1.4, label="best trade-offs of the two objectives"),
        ]
    if not np.isnan(points.tests).all():
        entries.append(test_entry())
    entries += status_entries(points)
    return [*entries, limit_entry()] if result.task.constraints else entries
