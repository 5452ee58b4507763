"""Figures as files: the same figure is the same bytes, and a file is written whole or not at all."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from evonas.errors import RunError
from evonas.plots.style import styled

__all__ = ["DPI", "save"]

DPI = 160
_FORMATS: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}}


def save(figures: Mapping[str, Figure], directory: Path) -> list[Path]:
    """Write each figure as `<name>.png` and `<name>.svg` into `directory`, which is made when missing.

    Raises:
        RunError: the directory cannot be written.
    """
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            for suffix, metadata in _FORMATS.items():
                path = directory / f"{name}.{suffix}"
                _replace(path, _render(figure, suffix, metadata))
                written.append(path)
    except OSError as error:
        raise RunError(f"figures cannot be written into {directory}: {error.strerror or error}") from None
    return written


def _render(figure: Figure, suffix: str, metadata: Mapping[str, Any]) -> bytes:
    buffer = BytesIO()
    with styled(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # names in any script are drawn as boxes
        figure.savefig(buffer, format=suffix, dpi=DPI, metadata=dict(metadata))
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
