"""Train a network from a seed, and keep what was trained.

Nothing here reads or leaves behind global random state: the same seed gives the same weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from evonas.errors import RunError
from evonas.quantize import single_thread

__all__ = ["Recipe", "WeightStore", "batches", "make_optimiser", "random_state", "seeded", "train"]


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The module that `build` returns, initialised from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained: Adam (arXiv:1412.6980), cross entropy, cosine decay.

    Args:
        learning_rate: at the start; decays to zero along a half cosine.
        batch: samples a step.
        weight_decay: decoupled (AdamW, arXiv:1711.05101).
    """

    learning_rate: float = 3e-3
    batch: int = 64
    weight_decay: float = 0.0


def train(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, epochs: int, seed: int, recipe: Recipe | None = None
) -> nn.Module:
    """Train a classifier in place, on the device that it and the data are on.

    Args:
        model: maps (n, ...) to logits (n, classes).
        inputs: shape (n, ...).
        targets: class indices, shape (n,).
        epochs: passes over the data.
        seed: of the shuffling, and of dropout.
        recipe: the defaults when None.

    Returns:
        `model`, in evaluation mode.
    """
    recipe = recipe or Recipe()
    steps = epochs * -(-len(inputs) // recipe.batch)
    optimiser, schedule = make_optimiser(model, recipe, steps)
    model.train()
    with single_thread(), random_state(seed, inputs.device):
        for rows in batches(len(inputs), recipe.batch, epochs, seed):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    return model.eval()


def make_optimiser(
    model: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimiser and the schedule of `steps` steps that `recipe` names."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    return optimiser, torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))


def batches(samples: int, batch: int, epochs: int, seed: int) -> Iterator[Tensor]:
    """Row numbers of each batch, shape (<= batch,), shuffled anew every epoch.

    A last batch of one sample is left out: batch norms cannot train on it.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(samples, generator=generator), batch):
            if len(rows) > 1 or samples == 1:
                yield rows


@contextmanager
def random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Inside the block the global generators start from `seed` (dropout); outside they are as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


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
