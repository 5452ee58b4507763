"""Figures of a study: curves, ECDF, attainment, and critical differences where there are enough problems."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import moocore
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MultipleLocator, NullFormatter

from evonas.plots.files import save
from evonas.plots.scale import Scale
from evonas.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    VERMILLION,
    clean,
    place,
    sheet,
    styled,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evonas.study.results import ProblemResult, Study
    from evonas.study.statistics import Ranking

__all__ = ["attainment", "critical_difference", "curves", "distribution", "draw"]

_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK, GREY)
_DASHES = ("-", "--", "-.", ":")
_LEAST_REGRET = 1e-3  # curves end here on their logarithmic axis
_WIDTH, _HEIGHT, _LEFT, _GAP = 2.9, 2.4, 0.75, 0.85  # inches


def draw(study: Study, directory: Path) -> list[Path]:
    """Every figure that the study has something to show in, as PNG and SVG; their paths."""
    figures: dict[str, Figure] = {}
    for problem in study.problems:
        figures[f"curves-{problem.label}"] = curves(problem)
        figures[f"ecdf-{problem.label}"] = distribution(problem)
        if 2 <= len(problem.objectives) <= 3:
            figures[f"attainment-{problem.label}"] = attainment(problem)
    ranking = study.ranking()
    if ranking is not None:
        figures["critical-difference"] = critical_difference(ranking, len(study.problems))
    return save(figures, directory)


def _looks(problem: ProblemResult) -> list[tuple[str, str, str]]:
    """Sampler, colour, dashes: told apart without colour too."""
    return [(s, c, d) for s, c, d in zip(problem.runs, cycle(_COLOURS), cycle(_DASHES), strict=False)]


def _note(problem: ProblemResult) -> list[str]:
    return [f"{len(problem.seeds)} seeds", f"reference front: {problem.reference.origin}"]


def _panels(count: int, title: str, notes: list[str], width: float = _WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels side by side, each `width` inches, above room for a legend."""
    height = _HEIGHT
    figure, _ = sheet(_LEFT + count * (width + _GAP), height + 1.1, title, notes)
    axes = [place(figure, _LEFT + i * (width + _GAP), 0.85, width, height) for i in range(count)]
    for panel in axes:
        tidy(panel)
    return figure, axes


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    shown = [clean(label, 28) for label in labels]
    figure.legend(handles, shown, loc="lower left", ncols=4, frameon=False, fontsize=SMALL, bbox_to_anchor=(0.01, 0.0))


def curves(problem: ProblemResult) -> Figure:
    """Hypervolume regret against distinct evaluations: medians over seeds, and bands of the quartiles."""
    with styled():
        notes = [*_note(problem), "line: median, band: quartiles", "charges for sensitivities are counted"]
        figure, (axes,) = _panels(1, f"Hypervolume regret on {problem.label}", notes, 4.2)
        spent = np.arange(1, problem.budget + 1)
        for sampler, colour, dashes in _looks(problem):
            low, middle, high = np.percentile(problem.curves(sampler), [25, 50, 75], axis=0)
            best, regret, worst = (np.maximum(1 - share, _LEAST_REGRET) for share in (high, middle, low))
            axes.step(spent, regret, dashes, where="post", color=colour, label=sampler, linewidth=1.4)
            axes.fill_between(spent, best, worst, step="post", color=colour, alpha=0.15, linewidth=0)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # a range within one decade has labels too
        axes.yaxis.set_major_formatter(lambda value, _: f"{'' if value > _LEAST_REGRET else '≤ '}{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(1, problem.budget)
        axes.set_xlabel("distinct evaluations")
        axes.set_ylabel("1 - share of hypervolume")
        _legend(figure, axes)
    return figure


def distribution(problem: ProblemResult) -> Figure:
    """Share of (seed, target) pairs reached against evaluations."""
    with styled():
        shown = ", ".join(f"{target:.0%}" for target in problem.targets)
        figure, (axes,) = _panels(1, f"Targets reached on {problem.label}", [*_note(problem), f"targets: {shown}"], 4.2)
        for sampler, colour, dashes in _looks(problem):
            shares = problem.ecdf(sampler)
            spent = np.arange(1, problem.budget + 1)
            axes.step(spent, shares, dashes, where="post", color=colour, label=sampler, linewidth=1.4)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        reached = [int(np.argmax(problem.ecdf(s) > 0)) for s in problem.runs if problem.ecdf(s)[-1] > 0]
        axes.set_xlim(max(1, min(reached, default=0)), problem.budget)  # from just before the first target
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("distinct evaluations")
        axes.set_ylabel("share of seeds and targets")
        _legend(figure, axes)
    return figure


def attainment(problem: ProblemResult) -> Figure:
    """Median empirical attainment surface of each sampler, projected on every pair of objectives.

    Fonseca, Guerreiro, Lopez-Ibanez and Paquete 2011, doi:10.1007/978-3-642-19893-9_8, computed by moocore.
    """
    k = len(problem.objectives)
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    with styled():
        notes = [*_note(problem), f"attained by half of the runs after {problem.budget} evaluations"]
        figure, axes = _panels(len(pairs), f"Median attainment on {problem.label}", notes)
        signs = np.array([objective.sign for objective in problem.objectives])
        scales = [Scale.of(o, problem.reference.front[:, i] * o.sign) for i, o in enumerate(problem.objectives)]
        for sampler, colour, dashes in _looks(problem):
            runs = [run.values[np.isfinite(run.values).all(axis=1)] for run in problem.runs[sampler]]
            data = np.concatenate([np.column_stack([values, np.full(len(values), i)]) for i, values in enumerate(runs)])
            surface = moocore.eaf(data[:, :-1], sets=data[:, -1], percentiles=[50])[:, :-1]
            for panel, pair in zip(axes, pairs, strict=True):
                flat = surface[:, pair]
                flat = flat[moocore.is_nondominated(flat)]
                flat = flat[np.argsort(flat[:, 0])] * signs[list(pair)] / [scales[i].factor for i in pair]
                alone = "o" if len(flat) == 1 else ""  # a step needs two points
                lines = panel.plot(*flat.T, dashes, color=colour, label=sampler, linewidth=1.3, drawstyle="steps-post")
                lines[0].set(marker=alone, markersize=4)
        for panel, (i, j) in zip(axes, pairs, strict=True):
            front = problem.reference.front[:, [i, j]]
            front = front[moocore.is_nondominated(front)] * signs[[i, j]] / [scales[i].factor, scales[j].factor]
            panel.plot(*front.T, ".", color=GREY, markersize=4, label="reference", zorder=3)
            panel.set_xlabel(scales[i].label(_WIDTH))
            panel.set_ylabel(scales[j].label(_HEIGHT))
        _legend(figure, axes[0])
    return figure


def critical_difference(ranking: Ranking, problems: int) -> Figure:
    """Mean ranks over problems; samplers over one bar do not differ at 5 % (Demsar 2006, figure 1)."""
    ranks = dict(zip(ranking.samplers, ranking.ranks, strict=True))
    names = sorted(ranks, key=lambda name: ranks[name])
    groups = ranking.groups
    rows = len(names) + len(groups) + 1
    with styled():
        notes = [f"{problems} problems", f"Friedman p = {ranking.p:.2g}", "a bar joins what does not differ at 5 %"]
        figure, _ = sheet(6.0, 1.0 + 0.24 * rows, "Mean ranks by final hypervolume", notes)
        axes = place(figure, 1.9, 0.5, 3.8, 0.3 + 0.24 * rows)
        tidy(axes)
        axes.grid(visible=False, axis="y")
        for row, name in enumerate(names):
            axes.hlines(row, 1, ranks[name], color=GREY, linewidth=0.8, linestyles=":")
            axes.plot(ranks[name], row, "o", color=BLUE, markersize=5)
        for row, group in enumerate(groups, len(names)):
            axes.hlines(row, ranks[group[0]], ranks[group[-1]], color=BLACK, linewidth=3)
        axes.hlines(rows - 1, 1, 1 + ranking.critical_difference, color=VERMILLION, linewidth=1.5)
        shown = [clean(name, 26) for name in names]
        axes.set_yticks(
            range(rows), [*shown, *[""] * len(groups), f"critical difference {ranking.critical_difference:.2f}"]
        )
        axes.set_xlim(0.9, max(len(names), 1 + ranking.critical_difference) + 0.1)
        axes.set_ylim(rows - 0.5, -0.5)
        axes.xaxis.set_major_locator(MultipleLocator(1))
        axes.set_xlabel("mean rank (1 is best)")
    return figure
