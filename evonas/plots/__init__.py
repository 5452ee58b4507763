"""Figures of a result: the front, its hypervolume, its genes, and the shape of one network.

Colours are those of Okabe and Ito (2008) and the `cividis` map, which colour-blind readers can tell apart.
Nothing here touches pyplot or matplotlib's global settings.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evonas.plots.files import save
from evonas.plots.growth import hypervolume
from evonas.plots.heatmap import genes
from evonas.plots.matrix import front
from evonas.plots.points import knee
from evonas.plots.shape import has_layers, network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evonas.result import Result

__all__ = ["figures", "front", "genes", "hypervolume", "knee", "network", "save"]


def figures(result: Result, directory: Path | None = None) -> dict[str, Figure]:
    """Every figure that this result has something to show in, by name.

    Args:
        result: of a search, finished or not.
        directory: where each is also saved as `<name>.png` and `<name>.svg`, whole or not at all.

    Returns:
        `front` and `hypervolume` always; `genes` when the front is not empty; `network` when, besides, the
        problem is about a network.

    Raises:
        RunError: `directory` cannot be written.
    """
    drawn = {"front": front(result), "hypervolume": hypervolume(result)}
    if result.archive.front:
        drawn["genes"] = genes(result)
        if has_layers(result.problem):
            drawn["network"] = network(result)
    if directory is not None:
        save(drawn, directory)
    return drawn
