"""How evaluations are marked by what became of them, and the legend that says so."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from evonas.plots.points import Points
from evonas.plots.style import BLACK, GREEN, GREY, ORANGE, PURPLE, VERMILLION
from evonas.space import FloatArray

__all__ = ["BEHIND", "behind", "limit_entry", "scatter", "status_entries", "test_entry"]

_RASTER = 1500  # more marks than this become pixels in the SVG

# Statuses behind the front, lowest first: how they look, and what the legend says.
BEHIND: dict[str, tuple[dict[str, Any], str]] = {
    "infeasible": ({"marker": "+", "color": PURPLE, "markersize": 4.5}, "over an exact limit, not evaluated"),
    "dominated": ({"marker": "o", "color": GREY, "markersize": 3.2, "mew": 0.0}, "dominated"),
    "violating": ({"marker": "v", "color": ORANGE, "markersize": 4.0, "mfc": "none"}, "over a limit"),
    "failed": (
        {"marker": "x", "color": BLACK, "markersize": 4.0},
        "failed",
    ),
}


def behind(axes: Axes, points: Points, x: FloatArray, y: FloatArray) -> None:
    """All evaluations but the front at `x` and `y`, each (n,), in the units of the axes."""
    for status, (style, _) in BEHIND.items():
        chosen = points.status == status
        scatter(axes, x[chosen], y[chosen], style)


def scatter(axes: Axes, x: FloatArray, y: FloatArray, style: dict[str, Any], *, level: int = 1) -> None:
    """Marks at `x` and `y`, each (n,); one with a single known coordinate sits at the edge of `axes`."""
    raster = len(x) > _RASTER
    both = ~np.isnan(x) & ~np.isnan(y)
    if both.any():
        axes.plot(x[both], y[both], linestyle="none", zorder=level, rasterized=raster, **style)
    lost_y, lost_x = ~np.isnan(x) & np.isnan(y), np.isnan(x) & ~np.isnan(y)
    edges = (
        (lost_y, x[lost_y], np.full(lost_y.sum(), 0.015), axes.get_xaxis_transform()),
        (lost_x, np.full(lost_x.sum(), 0.015), y[lost_x], axes.get_yaxis_transform()),
    )
    for lost, across, up, transform in edges:
        if lost.any():
            at: dict[str, Any] = {"transform": transform, "clip_on": False, "zorder": level}
            axes.plot(across, up, linestyle="none", rasterized=raster, **at, **style)


def status_entries(points: Points, *, placed: bool = False, others: str = "dominated") -> list[Line2D]:
    """Legend entries of the statuses behind the front that occur, with their counts.

    Args:
        points: the evaluations.
        placed: whether the other axis places evaluations of which no objective is known.
        others: what evaluations are that were good but not good enough.
    """
    entries = []
    for status in ("dominated", "violating", "infeasible", "failed"):
        values = points.of_status(status)
        if not len(values):
            continue
        style, label = BEHIND[status]
        if status == "failed":
            seen = placed or not np.isnan(values).all()
            label = "failed, drawn at the edge" if seen else "failed, not drawn"
        text = others if status == "dominated" else label
        entries.append(Line2D([], [], linestyle="none", label=f"{text} ({len(values):,})", **style))
    return entries


def test_entry() -> Line2D:
    """The legend entry of test estimates."""
    return Line2D([], [], color=GREEN, marker="D", mfc="white", markersize=3.2, label="test score, 95 % interval")


def limit_entry() -> Line2D:
    """The legend entry of constraints."""
    return Line2D([], [], color=VERMILLION, linewidth=1.2, linestyle="--", label="limit")
