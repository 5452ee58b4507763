"""No result is too strange to be drawn, and nothing that is drawn falls off the sheet."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from plots.cases import EDGES, deep

from evonas.plots import figures


@pytest.mark.parametrize("name", EDGES)
def test_strange_results_are_drawn(name: str, tmp_path: Path, spilled: Callable[[Figure], list[str]]) -> None:
    result = EDGES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = figures(result, tmp_path)
    assert set(drawn) == {"front", "hypervolume"} | ({"genes"} if result.archive.front else set())
    for figure in drawn.values():
        assert spilled(figure) == []
    for path in tmp_path.glob("*.svg"):
        ElementTree.parse(path)


@pytest.mark.parametrize("depth", [2, 20, 60])
def test_networks_of_any_depth_are_drawn(depth: int, spilled: Callable[[Figure], list[str]]) -> None:
    drawn = figures(deep(depth))
    assert set(drawn) == {"front", "hypervolume", "genes", "network"}
    for figure in drawn.values():
        assert spilled(figure) == []


def test_hundreds_of_points_on_the_front_are_drawn(spilled: Callable[[Figure], list[str]]) -> None:
    result = deep(6, 2500)
    assert len(result.archive.front) > 150
    for figure in figures(result).values():
        assert spilled(figure) == []
