"""Train a network from a seed, and keep what was trained.

Nothing here reads or leaves behind global random state: the same seed gives the same weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from evonas.errors import RunError
from evonas.quantize import single_thread

__all__ = ["WeightStore", "seeded", "train"]


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The module that `build` returns, initialised from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def train(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    seed: int,
    learning_rate: float = 3e-3,
    batch: int = 64,
) -> nn.Module:
    """Train a classifier in place: Adam (arXiv:1412.6980), cross entropy, cosine decay.

    Args:
        model: maps (n, ...) to logits (n, classes).
        inputs: shape (n, ...).
        targets: class indices, shape (n,).
        epochs: passes over the data.
        seed: of the shuffling.
        learning_rate: at the start; decays to zero along a half cosine.
        batch: samples a step.

    Returns:
        `model`, in evaluation mode.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    steps = epochs * -(-len(inputs) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    model.train()
    with single_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for layers that draw while they train, such as dropout
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(inputs), generator=generator), batch):
                optimiser.zero_grad()
                loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
    return model.eval()


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
        self._memory[key] = {name: value.detach().clone() for name, value in state.items()}
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
