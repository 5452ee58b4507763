"""The front of a search for a single objective: its value at every evaluation, and the best so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from evonas.plots.marks import behind, limit_entry, status_entries, test_entry
from evonas.plots.points import Points, counted, limits_of
from evonas.plots.scale import Scale, valued
from evonas.plots.style import BLUE, GREEN, ORANGE, VERMILLION, clean, place, sheet, styled, tidy
from evonas.space import FloatArray

if TYPE_CHECKING:
    from evonas.result import Result

__all__ = ["course"]


def course(result: Result, points: Points, scale: Scale) -> Figure:
    """The one objective of `result` against evaluations.

    Args:
        result: with one objective in its task.
        points: its evaluations.
        scale: of the objective.
    """
    with styled():
        objective = result.task.objectives[0]
        front = result.front_evaluations
        notes = [
            f"best {valued(objective, front[0].values[objective.name])}" if front else "no evaluation is on the front"
        ]
        if len(front) > 1:
            notes.append(f"reached by {len(front)} evaluations")
        notes += [counted(result), *limits_of(result)]
        figure, _ = sheet(6.4, 4.9, f"{clean(result.problem.name, 30)}: {clean(objective.name)}", notes)
        axes = place(figure, 0.8, 1.35, 5.35, 3.5)
        scale.on_y(axes)
        axes.set_xlabel("evaluation")
        axes.set_ylabel(scale.label(3.5))
        tidy(axes)
        numbers = np.arange(1, len(points.values) + 1, dtype=np.float64)
        axes.set_xlim(0.5, max(len(numbers), 2) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        y = scale.shown(points.values[:, 0])
        behind(axes, points, numbers, y)
        entries = status_entries(points, placed=True, others="other evaluations")
        if len(points.front):
            best = _best_so_far(points, y, objective.maximise)
            axes.step(numbers, best, where="post", color=BLUE, linewidth=1.6, zorder=2)
            axes.plot(
                numbers[points.front],
                y[points.front],
                "*",
                color=ORANGE,
                markersize=11,
                mec="black",
                mew=0.7,
                zorder=4,
            )
            star = Line2D(
                [],
                [],
                linestyle="none",
                marker="*",
                color=ORANGE,
                markersize=10,
                mec="black",
                mew=0.7,
                label="best",
            )
            entries = [star, Line2D([], [], color=BLUE, linewidth=1.6, label="best so far"), *entries]
        scored = ~np.isnan(points.tests).any(axis=(1, 2))
        if scored.any():
            at = numbers[points.front[scored]]
            value, low, high = scale.shown(points.tests[scored, 0]).T
            axes.vlines(at, low, high, color=GREEN, linewidth=1.2, zorder=3)
            axes.plot(at, value, "D", color="white", mec=GREEN, markersize=3.5, zorder=3)
            entries.append(test_entry())
        for constraint in result.task.constraints:
            if constraint.objective.name == objective.name and scale.holds(constraint.limit):
                axes.axhline(constraint.limit / scale.factor, color=VERMILLION, linewidth=1.2, linestyle="--")
                entries.append(limit_entry())
        corner = (0.1 / 6.4, 0.08 / figure.get_figheight())
        figure.legend(
            handles=entries,
            loc="lower left",
            bbox_to_anchor=corner,
            borderaxespad=0.0,
            frameon=False,
            ncols=2,
        )
        return figure


def _best_so_far(points: Points, y: FloatArray, maximise: bool) -> FloatArray:
    """The best of `y` (n,) that met every limit, up to each evaluation, shape (n,); NaN before the first."""
    allowed = np.isin(points.status, ("front", "dominated"))
    kept = np.where(allowed, y, np.nan)
    best: FloatArray = np.fmax.accumulate(kept) if maximise else np.fmin.accumulate(kept)
    return best
