"""Make the pictures and numbers that the README shows.

    python runs/readme.py

Runs `evonas search digits` with its defaults, prints what the command prints, and puts the front's picture into
runs/figures/. Then times the exact objectives of 100,000 random genomes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from evonas.problems import load

FIGURES = Path(__file__).parent / "figures"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "evonas", "search", "digits"], cwd=folder, check=True)
        run = Path(folder) / "results" / "digits-nsga2-s0"
        FIGURES.mkdir(exist_ok=True)
        for name in ("front", "genes"):
            shutil.copy(run / f"{name}.png", FIGURES / f"digits_{name}.png")
    problem = load("digits")
    genomes = problem.space.sample(100_000, np.random.default_rng(0))
    start = time.perf_counter()
    problem.exact_values(genomes)
    print(f"\n{len(problem.exact)} exact objectives of 100,000 genomes: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
