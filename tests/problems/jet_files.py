"""Small files in the schema of the jet data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from evonas.problems.jets import CLASSES, FEATURES


def jet_frame(jets: int = 400, seed: int = 0) -> pd.DataFrame:
    """Jets whose classes can be told apart: column `class`, and 16 features of very different scales."""
    rng = np.random.default_rng(seed)
    labels = np.arange(jets) % len(CLASSES)
    centres = rng.normal(size=(len(CLASSES), len(FEATURES)))
    values = centres[labels] + 0.7 * rng.normal(size=(jets, len(FEATURES)))
    values = values * np.logspace(-4, 2, len(FEATURES)) + 10
    frame = pd.DataFrame(values, columns=list(FEATURES))
    frame["class"] = [CLASSES[label] for label in labels]
    return frame


def write_arff(frame: pd.DataFrame, path: Path) -> Path:
    """As OpenML writes it."""
    lines = ["% a comment", "@RELATION jets", ""]
    lines += [f"@ATTRIBUTE {name} REAL" for name in FEATURES]
    lines += ["@ATTRIBUTE class {g, q, t, w, z}", "", "@DATA"]
    lines += [",".join(map(str, row)) for row in frame.itertuples(index=False)]
    path.write_text("\n".join(lines) + "\n")
    return path
