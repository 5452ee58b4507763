"""One look for all figures: colours, fonts, and placement in inches."""

from __future__ import annotations

import textwrap
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "LEVELS",
    "ORANGE",
    "PURPLE",
    "SKY",
    "SMALL",
    "TEXT",
    "VERMILLION",
    "char",
    "clean",
    "ink",
    "place",
    "sheet",
    "styled",
    "tidy",
    "wrap",
]

# Okabe, Ito 2008, "Color Universal Design".
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
GREY = "#B4B4B4"
LEVELS: Colormap = matplotlib.colormaps["cividis"].reversed()  # light is little, dark is much

TEXT, SMALL = 9.0, 7.5  # font sizes in points

_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.facecolor": "white",
    "axes.grid": False,
    "axes.labelcolor": "black",
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.8,
    "axes.titlesize": TEXT,
    "axes.unicode_minus": True,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": TEXT,
    "legend.fontsize": SMALL,
    "savefig.bbox": None,
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "evonas",
    "text.color": "black",
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.color": "#222222",
    "xtick.labelsize": SMALL,
    "ytick.color": "#222222",
    "ytick.labelsize": SMALL,
}


def styled() -> AbstractContextManager[None]:
    """Settings under which figures are made and saved; matplotlib's own come back afterwards."""
    return matplotlib.rc_context(_STYLE)


def char(size: float) -> float:
    """Width of an average character in inches at a font of `size` points."""
    return 0.62 * size / 72


def clean(text: str, limit: int = 40) -> str:
    """`text` on one line of at most `limit` characters, the middle cut out; nothing that XML cannot hold."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(line) <= limit:
        return line
    head = max(1, (limit - 1) * 2 // 3)
    return f"{line[:head]}…{line[len(line) - max(0, limit - 1 - head) :]}"


def wrap(parts: list[str], inches: float, size: float = SMALL, separator: str = " · ", lines: int = 6) -> list[str]:
    """`parts` joined into lines of at most `inches`, broken between parts where possible; at most `lines`."""
    width = max(20, int(inches / char(size)))
    found = [""]
    for part in parts:
        joined = f"{found[-1]}{separator}{part}" if found[-1] else part
        if len(joined) < width or not found[-1]:
            found[-1] = joined
        else:
            found[-1] += separator.rstrip(" ·")
            found.append(part)
    broken = [piece for line in found for piece in textwrap.wrap(line, width)]
    return broken if len(broken) <= lines else [*broken[: lines - 1], f"{broken[lines - 1]} …"]


def sheet(width: float, height: float, title: str, notes: list[str]) -> tuple[Figure, float]:
    """An empty figure of `height` inches below its heading: a bold title and lines of notes.

    Returns:
        The figure, and the height in inches of its heading.
    """
    lines = wrap(notes, width - 0.4)
    heading = 0.42 + 0.15 * len(lines)
    figure = Figure(figsize=(width, height + heading))
    FigureCanvasAgg(figure)
    left, top = 0.2 / width, height + heading
    shown = clean(title, int((width - 0.4) / char(TEXT + 3)))
    figure.suptitle(shown, x=left, y=1 - 0.12 / top, ha="left", va="top", fontsize=TEXT + 2, fontweight="bold")
    figure.text(left, 1 - 0.36 / top, "\n".join(lines), ha="left", va="top", fontsize=SMALL, color="#444444")
    return figure, heading


def place(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches from the lower left corner of `figure`."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def tidy(axes: Axes, *, grid: bool = True) -> None:
    """Only the left and lower spine, small ticks, a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL, length=3, width=0.8)
    if grid:
        axes.grid(True, color="#E6E6E6", linewidth=0.6)


def ink(level: float) -> str:
    """Black or white, whichever can be read on `LEVELS` at `level` (0 to 1)."""
    red, green, blue, _ = LEVELS(level)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
