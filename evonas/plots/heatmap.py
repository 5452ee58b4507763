"""What the points of the front are made of: every gene of every point, under their objectives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from evonas.plots.points import Points, counted, knee, limits_of
from evonas.plots.scale import Scale
from evonas.plots.style import (
    BLUE,
    GREEN,
    LEVELS,
    ORANGE,
    SMALL,
    VERMILLION,
    char,
    clean,
    ink,
    place,
    sheet,
    styled,
    tidy,
)
from evonas.space import Gene, IntArray

if TYPE_CHECKING:
    from evonas.result import Result

__all__ = ["genes"]

_STRIP, _SCORED, _STRIP_GAP = (
    0.5,
    0.9,
    0.14,
)  # inches of an objective's strip, of one with test scores, above it
_MOST_STRIPS = 8
_CELLS = 8.0  # inches of all columns together
_CELL = (0.03, 0.6)  # inches, narrowest and widest column
_ROWS = 14.0  # inches of all rows together
_ROW = (0.12, 0.26)  # inches, lowest and highest row
_BELOW = 1.05
_SMALLEST = 5.0  # points; labels that do not fit at this size are left out
_MOST_LABELS = 600  # more take seconds to draw
_RASTER = 1500  # more cells than this become pixels in the SVG


def genes(result: Result) -> Figure:
    """A heat map with one column a point of the front and one row a gene, and the objectives above it.

    Columns go from the best to the worst in the first objective and have the numbers by which points are
    picked. Colour is the position of the choice among its gene's choices, whose ends the right margin names.

    Raises:
        InvalidArgument: the front is empty.
    """
    result.pick(0)
    with styled():
        points = Points.of(result)
        scale = _scales(result, points)
        order = np.concatenate(result.problem.space.groups)
        rows = [result.problem.space.genes[i] for i in order]
        levels = np.array([evaluation.genome for evaluation in result.front_evaluations])[:, order].T
        cell = float(np.clip(_CELLS / levels.shape[1], *_CELL))
        height = float(np.clip(_ROWS / len(rows), *_ROW))
        font = min(SMALL, 0.7 * height * 72)
        names, ends = [clean(gene.name, 40) for gene in rows], [_ends(gene) for gene in rows]
        left = 0.25 + max(char(font) * max(map(len, names)), 0.55)
        beside = 0.25 + max(char(font) * max(map(len, ends)), char(SMALL) * max(len(one.name) for one in scale))
        across, up = max(cell * levels.shape[1], 1.5), height * len(rows)
        width = max(left + across + beside, 5.6)
        strips = [_SCORED if np.isfinite(points.tests[:, i]).any() else _STRIP for i in range(len(scale))]
        total = _BELOW + up + sum(strips) + len(strips) * _STRIP_GAP
        figure, _ = sheet(width, total, f"{clean(result.problem.name, 30)}: genes along the front", _notes(result))
        axes = place(figure, left, _BELOW, across, up)
        _cells(axes, rows, levels, across / levels.shape[1], font)
        _margins(axes, names, ends, font)
        _columns(axes, levels.shape[1], across, knee(result) if _outlined(result) else None)
        axes.set_xlabel(f"point of the front, by {clean(result.task.objectives[0].name, 28)}, best first")
        for column, one in enumerate(scale):
            bottom = total - sum(strips[: column + 1]) - column * _STRIP_GAP
            _strip(place(figure, left, bottom, across, strips[column]), result, points, column, one)
        _key(place(figure, left, 0.3, 1.5, 0.11))
        return figure


def _scales(result: Result, points: Points) -> list[Scale]:
    """Of each objective along the front alone."""
    return [
        Scale.of(
            objective,
            np.concatenate([points.values[points.front, column], points.tests[:, column].ravel()]),
            [c.limit for c in result.task.constraints if c.objective.name == objective.name],
        )
        for column, objective in enumerate(result.task.objectives[:_MOST_STRIPS])
    ]


def _notes(result: Result) -> list[str]:
    size = len(result.archive.front)
    notes = [f"{size} point{'' if size == 1 else 's'} on the front", counted(result)]
    if _outlined(result):
        notes.append(f"outlined: point {knee(result)}, nearest to the front's ideal corner")
    return notes + limits_of(result)


def _outlined(result: Result) -> bool:
    """Whether there is a point to single out: several, with something to trade."""
    return len(result.archive.front) > 1 and len(result.task.objectives) > 1


def _cells(axes: Axes, rows: list[Gene], levels: IntArray, cell: float, font: float) -> None:
    """Coloured cells, with the choices written into them where they fit, and a line between groups."""
    spans = np.array([max(1, len(gene.choices) - 1) for gene in rows])
    colours = levels / spans[:, None]
    raster = levels.size > _RASTER
    edges = np.arange(levels.shape[1] + 1) - 0.5, np.arange(len(rows) + 1) - 0.5
    mesh = axes.pcolormesh(*edges, colours, cmap=LEVELS, vmin=0, vmax=1, rasterized=raster)
    if not raster:
        mesh.set(edgecolor="white", linewidth=0.6)
    axes.invert_yaxis()
    groups = [sum(other.group == gene.group for other in rows) for gene in rows]
    for row, gene in enumerate(rows):
        if row and rows[row - 1].group != gene.group and {groups[row], groups[row - 1]} != {1}:
            axes.axhline(row - 0.5, color="white", linewidth=3.5)
            axes.axhline(row - 0.5, color="black", linewidth=0.6)
        labels = _short(gene)
        fitting = min(font, 0.95 * cell / (max(map(len, labels)) * char(1.0)))
        if fitting < _SMALLEST or levels.size > _MOST_LABELS:
            continue
        for column, level in enumerate(levels[row]):
            colour = ink(float(colours[row, column]))
            axes.text(column, row, labels[level], ha="center", va="center", fontsize=fitting, color=colour)


def _margins(axes: Axes, names: list[str], ends: list[str], font: float) -> None:
    """Names of the genes on the left, the ends of their choices on the right."""
    axes.spines[:].set_visible(False)
    axes.set_yticks(range(len(names)), names, fontsize=font)
    axes.tick_params(length=0, axis="y")
    for row, text in enumerate(ends):
        place_at = axes.get_yaxis_transform()
        axes.text(1.0, row, f"  {text}", transform=place_at, va="center", fontsize=font, color="#444444")


def _columns(axes: Axes, count: int, across: float, middle: int | None) -> None:
    """Numbers of the points, as many as fit, and an outline around the middle one."""
    step = max(1, math.ceil(char(SMALL) * (len(str(count)) + 1.0) * count / across))
    step = next(nice for nice in (1, 2, 5, 10, 20, 50, 100, 200, 500, step) if nice >= step)
    axes.set_xticks(range(0, count, step), [str(i) for i in range(0, count, step)], fontsize=SMALL)
    axes.tick_params(length=2, axis="x")
    if middle is None:
        return
    low, high = sorted(axes.get_ylim())
    outline = Rectangle(
        (middle - 0.5, low),
        1,
        high - low,
        fill=False,
        zorder=5,
        edgecolor=ORANGE,
        linewidth=1.6,
        clip_on=False,
    )
    axes.add_patch(outline)


def _strip(axes: Axes, result: Result, points: Points, column: int, scale: Scale) -> None:
    """One objective along the front, with its test intervals and limits."""
    x, y = np.arange(len(points.front)), scale.shown(points.values[points.front, column])
    many = len(x) > 80
    scale.on_y(axes, 2)
    tidy(axes)
    axes.set_xlim(-0.5, len(x) - 0.5)
    axes.set_xticks([])
    axes.step(x, y, where="mid", color=BLUE, linewidth=1.0, zorder=3)
    axes.plot(x, y, "o", color=BLUE, markersize=1.5 if many else 3, zorder=3, clip_on=False)
    scored = ~np.isnan(points.tests[:, column]).any(axis=1)
    better = "↑ better" if scale.objective.maximise else "↓ better"
    note = ""
    if scored.any():
        _, low, high = scale.shown(points.tests[scored, column]).T
        axes.vlines(x[scored], low, high, color=GREEN, linewidth=0.7 if many else 1.6, alpha=0.7, zorder=2)
        note = "\nbars: test, 95 %"
    for constraint in result.task.constraints:
        if constraint.objective.name == scale.objective.name and scale.holds(constraint.limit):
            axes.axhline(constraint.limit / scale.factor, color=VERMILLION, linewidth=1.0, linestyle="--")
            note += "\ndashed: limit"
    axes.text(
        1.0,
        0.5,
        f"  {scale.name}\n  {better}{note}".replace("\nb", "\n  b").replace("\nd", "\n  d"),
        transform=axes.transAxes,
        va="center",
        fontsize=SMALL,
    )


def _key(axes: Axes) -> None:
    """What colours mean."""
    steps = np.linspace(0, 1, 32)
    axes.pcolormesh(np.linspace(0, 1, 33), [0, 1], steps[None], cmap=LEVELS, vmin=0, vmax=1)
    axes.set_yticks([])
    axes.set_xticks([0, 1], ["first choice", "last choice"], fontsize=SMALL)
    axes.tick_params(length=0)
    axes.text(1.06, 0.5, "colour: the choice's place in its gene", va="center", fontsize=SMALL, color="#444444")


def _short(gene: Gene) -> list[str]:
    """Labels without the word that all of them begin with: `fixed8.4` as `8.4`."""
    first, last = min(gene.labels), max(gene.labels)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    word = first[:same].rstrip("0123456789.-+")
    cut = len(word) if 3 <= len(word) < len(first) else 0
    return [clean(label[cut:], 24) for label in gene.labels]


def _ends(gene: Gene) -> str:
    """The first and the last choice of a gene."""
    first, last = clean(gene.labels[0], 14), clean(gene.labels[-1], 14)
    return first if len(gene.labels) == 1 else f"{first} … {last}"
