"""Keep what was trained."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["WeightStore"]


class WeightStore:
    """Trained state dictionaries by key, in memory and, once given a folder, on disk.

    Files are written whole and then renamed, so that a kill leaves either the old file or the new one.
    """

    def __init__(self) -> None:
        self._memory: dict[str, dict[str, Tensor]] = {}
        self._folder: Path | None = None
        self._damaged: set[str] = set()  # keys whose file is to be replaced

    def keep_in(self, folder: Path) -> None:
        """Keep everything in `folder` from now on, with what is in memory already."""
        self._folder = folder
        for key, state in self._memory.items():
            self._write(key, state)

    def load(self, key: str) -> dict[str, Tensor] | None:
        """The state kept under `key`, or None.

        A damaged file is named on stderr and counts as none: what is trained anew is the same, and takes its place.
        """
        path = self._path(key)
        if key not in self._memory and path is not None and path.is_file() and key not in self._damaged:
            try:
                self._memory[key] = _read(path)
            except Exception as error:  # a damaged file can raise anything
                print(f"weights file {path} is damaged ({type(error).__name__}): training again", file=sys.stderr)
                self._damaged.add(key)
        return self._memory.get(key)

    def save(self, key: str, state: dict[str, Tensor]) -> None:
        """Keep `state` under `key`; keys are file names without a suffix."""
        self._memory[key] = {name: value.detach().cpu().clone() for name, value in state.items()}
        self._write(key, self._memory[key])

    def _write(self, key: str, state: dict[str, Tensor]) -> None:
        path = self._path(key)
        if path is None or (path.exists() and key not in self._damaged):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        torch.save(state, partial)
        partial.replace(path)
        self._damaged.discard(key)

    def _path(self, key: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{key}.pt"


def _read(path: Path) -> dict[str, Tensor]:
    """The weights in `path`; torch does not compare the checksums that it writes, so that is done here."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile
    state: dict[str, Tensor] = torch.load(path, weights_only=True)
    return state
