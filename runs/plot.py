"""Draw the figures of a finished run from Python.

    python runs/plot.py results/digits-nsga2-s0 [FOLDER]

Writes front, hypervolume, genes and network, as PNG and SVG, into FOLDER (the run's own otherwise).
"""

from __future__ import annotations

import sys
from pathlib import Path

import evonas


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run = Path(sys.argv[1])
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else run
    for name in evonas.load_result(run).plot(folder):
        print(folder / f"{name}.png")


if __name__ == "__main__":
    main()
