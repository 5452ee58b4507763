"""Results to draw: real searches, small enough for every test run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

import evonas
from evonas.problems.digits import Digits
from evonas.result import Result


def _texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


@pytest.fixture
def words() -> Callable[[Figure], str]:
    """All text of a figure, one piece a line."""
    return lambda figure: "\n".join(text.get_text() for text in _texts(figure))


@pytest.fixture
def spilled() -> Callable[[Figure], list[str]]:
    """Text of a figure that does not lie on its sheet, and pairs of texts that lie on each other."""

    def find(figure: Figure) -> list[str]:
        figure.canvas.draw()
        unseen = {id(label) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in _unseen(axis)}
        texts = [text for text in _texts(figure) if id(text) not in unseen]
        boxes = [text.get_window_extent() for text in texts]
        corners = np.array([[box.x0, box.y0, box.x1, box.y1] for box in boxes])
        sheet = figure.bbox.padded(1.0)
        off = (corners[:, :2] < (sheet.x0, sheet.y0)).any(axis=1) | (corners[:, 2:] > (sheet.x1, sheet.y1)).any(axis=1)
        found = [texts[i].get_text() for i in np.flatnonzero(off)]
        shared = np.minimum(corners[:, None, 2:], corners[None, :, 2:]) - np.maximum(
            corners[:, None, :2], corners[None, :, :2]
        )
        for i, j in np.argwhere(np.triu((shared > 1.0).all(axis=2), 1)):
            found.append(f"{texts[i].get_text()} | {texts[j].get_text()}")
        return found

    return find


def _unseen(axis: Axis) -> list[Text]:
    """Labels of ticks beyond the ends of `axis`, which matplotlib keeps and does not draw."""
    low, high = sorted(axis.get_view_interval())
    beyond = [tick for tick in [*axis.majorTicks, *axis.minorTicks] if not low <= tick.get_loc() <= high]
    return [label for tick in beyond for label in (tick.label1, tick.label2)]


@pytest.fixture(scope="session")
def widths() -> Result:
    """Formats of the digits network under a limit on size: three objectives, scored on test."""
    return evonas.search("digits-ptq", budget=40, seed=0, at_most={"size": "2KiB"}, progress="none")


@pytest.fixture(scope="session")
def channels() -> Result:
    """Formats and channels of the digits network, hardly trained: four objectives."""
    return evonas.search(Digits(epochs=1), budget=40, seed=1, progress="none")


@pytest.fixture(autouse=True)
def untouched() -> Any:
    """Every test leaves matplotlib's settings as they were."""
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


@pytest.fixture(scope="session")
def saved(widths: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the figures of `widths`."""
    directory = tmp_path_factory.mktemp("run") / "figures"
    widths.plot(directory)
    return directory
