"""What each figure of a real search shows, and in which words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from plots.cases import all_failed, infeasible, one_objective, some_failed, two_objectives

from evonas import plots
from evonas.errors import InvalidArgument
from evonas.result import Result

Words = Callable[[Figure], str]


def test_every_figure_has_a_title_and_keeps_its_text_apart(
    widths: Result, channels: Result, spilled: Callable[[Figure], list[str]]
) -> None:
    for result in (widths, channels):
        drawn = plots.figures(result)
        assert list(drawn) == ["front", "hypervolume", "genes", "network"]
        for figure in drawn.values():
            assert figure.get_suptitle().startswith(result.problem.name)
            assert spilled(figure) == []


def test_front_has_a_panel_for_each_pair_with_units_and_directions(channels: Result, words: Words) -> None:
    figure = plots.front(channels)
    assert len(figure.axes) == 6
    text = words(figure)
    for label in (
        "accuracy (fraction)  better →",
        "latency (µs)  ← better",
        "size (KiB)  ← better",
        "flops (kFLOP)  ← better",
    ):
        assert label in text
    size = len(channels.archive.front)
    assert f"front ({size})" in text
    assert f"dominated ({40 - size})" in text
    assert "test score, 95 % interval" in text
    assert "40 distinct evaluations" in text


def test_front_marks_points_where_they_are(channels: Result) -> None:
    axes = plots.front(channels).axes[0]  # latency across, accuracy up
    marked = {
        (round(float(x), 9), round(float(y), 9))
        for line in axes.lines
        if line.get_marker() == "o"
        for x, y in line.get_xydata()
    }
    expected = {(round(e.values["latency"], 9), round(e.values["accuracy"], 9)) for e in channels.archive.evaluations}
    assert marked == expected


def test_staircase_never_passes_a_point_of_the_front(channels: Result) -> None:
    front = channels.front_evaluations
    stairs = next(line for line in plots.front(channels).axes[0].lines if line.get_color() == "#56B4E9").get_xydata()
    for evaluation in front:
        x, y = evaluation.values["latency"], evaluation.values["accuracy"]
        attained = stairs[stairs[:, 0] <= x + 1e-9][:, 1].max()
        assert attained >= y - 1e-9


def test_limits_are_named_and_drawn(widths: Result, words: Words) -> None:
    figure = plots.front(widths)
    assert "limits: size ≤ 2 KiB" in words(figure)
    dashed = [line for axes in figure.axes for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed
    assert all(2.0 in (line.get_xdata()[0], line.get_ydata()[0]) for line in dashed)


def test_what_did_not_count_is_marked_apart(words: Words) -> None:
    result = infeasible()
    archive = result.archive
    over = sum(e.status == "infeasible" for e in archive.evaluations)
    violating = int(
        (result.task.violations([e for e in archive.evaluations if e.status == "ok"]) > 0).any(axis=1).sum()
    )
    failed = sum(e.status == "failed" for e in archive.evaluations)
    assert over
    assert violating
    text = words(plots.front(result))
    assert f"over an exact limit, not evaluated ({over})" in text
    assert f"over a limit ({violating})" in text
    assert f"failed, drawn at the edge ({failed})" in text


def test_failures_of_known_size_stand_at_the_edge() -> None:
    result = some_failed()
    axes = plots.front(result).axes[0]
    (crosses,) = [line for line in axes.lines if line.get_marker() == "x"]
    sizes = [e.values["size"] / 8192 for e in result.archive.evaluations if e.status == "failed"]
    assert np.allclose(crosses.get_xdata(), sizes)
    assert crosses.get_transform() == axes.get_xaxis_transform()


def test_one_objective_is_drawn_as_the_course_of_the_search(words: Words) -> None:
    result = one_objective()
    figure = plots.front(result)
    assert len(figure.axes) == 1
    text = words(figure)
    assert "best so far" in text
    assert "score  better →" in text
    assert "evaluation" in text
    (best,) = [line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post"]
    values = best.get_ydata()
    known = values[~np.isnan(values)]
    assert (np.diff(known) >= 0).all()
    assert known[-1] == result.front_evaluations[0].values["score"]


def test_wide_ranges_get_logarithmic_axes() -> None:
    axes = plots.front(two_objectives()).axes[0]
    assert axes.get_xscale() == "log"
    axes = plots.front(some_failed()).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")


def test_hypervolume_states_its_box_and_its_evaluations(channels: Result, words: Words) -> None:
    text = words(plots.hypervolume(channels)).replace("\n", " ")
    bounds = channels.task.bounds
    assert "Reference box: accuracy 0 to 1" in text
    size = channels.problem.objective("size")
    assert f"size {size.format(bounds.lowest['size'])} to {size.format(bounds.highest['size'])}" in text
    assert "distinct evaluations" in text
    assert f"final {channels.archive.hypervolume():.4f}" in text


def test_genes_have_a_column_a_point_and_a_row_a_gene(channels: Result, words: Words) -> None:
    figure = plots.genes(channels)
    cells = figure.axes[0]
    levels = np.asarray(cells.collections[0].get_array())
    genomes = np.array([evaluation.genome for evaluation in channels.front_evaluations])
    assert np.allclose(levels, (genomes / (channels.problem.space.n_choices - 1)).T)
    names = [label.get_text() for label in cells.get_yticklabels()]
    assert names == [gene.name for gene in channels.problem.space.genes]
    text = words(figure)
    assert "point of the front, by accuracy, best first" in text
    assert "fixed2 … fixed16" in text
    assert "x0.25 … x2" in text
    for strip in ("accuracy (fraction)\n", "latency (µs)\n", "size (KiB)\n", "flops (kFLOP)\n"):
        assert strip in text


def test_network_shows_channels_formats_and_shares(channels: Result, words: Words) -> None:
    for index, evaluation in enumerate(channels.front_evaluations):
        figure = plots.network(channels, index)
        plan = channels.problem.plan_space.plan(np.array(evaluation.genome))  # type: ignore[attr-defined]
        text = words(figure)
        assert f"point {index} of the front" in figure.get_suptitle()
        for layer in plan.layers:
            assert f"{layer.inputs} → {layer.outputs}" in text
            assert layer.layer.name in text
            assert str(layer.weight) in text
        size = channels.problem.objective("size").format(evaluation.values["size"])
        assert f"size {size}" in text
        shares = [bar.get_width() for bar in figure.axes[2].patches]
        assert len(shares) == 3 * len(plan.layers)
        assert sum(shares) == pytest.approx(300)


def test_network_names_the_point_it_chose(channels: Result) -> None:
    title = plots.network(channels).get_suptitle()
    assert f"point {plots.knee(channels)} of the front, the nearest to its ideal corner" in title


def test_network_refuses_what_it_cannot_draw(channels: Result) -> None:
    with pytest.raises(InvalidArgument, match="not about a network"):
        plots.network(two_objectives())
    with pytest.raises(InvalidArgument, match="the front has points 0 to"):
        plots.network(channels, 10_000)


def test_genes_refuse_an_empty_front() -> None:
    with pytest.raises(InvalidArgument, match="front is empty"):
        plots.genes(all_failed())


def test_knee_is_the_point_nearest_to_the_ideal_corner() -> None:
    result = two_objectives()
    values = result.task.minimised(result.front_evaluations)
    scaled = (values - values.min(axis=0)) / np.ptp(values, axis=0)
    assert plots.knee(result) == np.linalg.norm(scaled, axis=1).argmin()


def test_pyplot_is_never_loaded() -> None:
    program = "import sys, evonas.plots; sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
