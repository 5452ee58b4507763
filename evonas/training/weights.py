"""Keep what was trained."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from evonas.errors import RunError

__all__ = ["WeightStore"]


class WeightStore:
    """Trained state dictionaries by key, in memory and, once given a folder, on disk.

    Files are written whole and then renamed, so that a kill leaves either the old file or the new one.
    """

    def __init__(self) -> None:
        self._memory: dict[str, dict[str, Tensor]] = {}
        self._folder: Path | None = None

    def keep_in(self, folder: Path) -> None:
        """Keep everything in `folder` from now on, with what is in memory already."""
        self._folder = folder
        for key, state in self._memory.items():
            self._write(key, state)

    def load(self, key: str) -> dict[str, Tensor] | None:
        """The state kept under `key`, or None.

        Raises:
            RunError: there is a file, but it cannot be read as weights.
        """
        if key not in self._memory and self._folder is not None:
            path = self._folder / f"{key}.pt"
            if path.is_file():
                try:
                    self._memory[key] = torch.load(path, weights_only=True)
                except Exception as error:
                    raise RunError(
                        f"weights file {path} cannot be read ({type(error).__name__}); delete it to train again"
                    ) from None
        return self._memory.get(key)

    def save(self, key: str, state: dict[str, Tensor]) -> None:
        """Keep `state` under `key`; keys are file names without a suffix."""
        self._memory[key] = {name: value.detach().cpu().clone() for name, value in state.items()}
        self._write(key, self._memory[key])

    def _write(self, key: str, state: dict[str, Tensor]) -> None:
        if self._folder is None:
            return
        path = self._folder / f"{key}.pt"
        if path.exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        torch.save(state, partial)
        partial.replace(path)
