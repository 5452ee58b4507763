"""Train one network from a seed.

Nothing here reads or leaves behind global random state: the same seed gives the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evonas.quantize import single_thread
from evonas.randomness import random_state

__all__ = ["Recipe", "Told", "batches", "fit", "make_optimiser", "seeded", "train"]

Told = Callable[[int, int], None]  # what to call with (steps done, steps in all)


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The module that `build` returns, initialised from `seed`; the global generator is left as it was."""
    with random_state(seed):
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
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    seed: int,
    recipe: Recipe | None = None,
    told: Told | None = None,
) -> nn.Module:
    """Train a classifier in place, on the device that it and the data are on.

    Args:
        model: maps (n, ...) to logits (n, classes).
        inputs: shape (n, ...).
        targets: class indices, shape (n,).
        epochs: passes over the data.
        seed: of the shuffling, and of dropout.
        recipe: the defaults when None.
        told: called after every step.

    Returns:
        `model`, in evaluation mode.
    """

    def differentiate(rows: Tensor) -> None:
        model.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(inputs[rows]), targets[rows]))

    model.train()
    with random_state(seed, inputs.device):
        fit(
            differentiate,
            model.parameters(),
            len(inputs),
            epochs=epochs,
            seed=seed,
            recipe=recipe or Recipe(),
            told=told,
        )
    return model.eval()


def fit(
    differentiate: Callable[[Tensor], None],
    parameters: Iterable[nn.Parameter],
    samples: int,
    *,
    epochs: int,
    seed: int,
    recipe: Recipe,
    told: Told | None = None,
) -> None:
    """Train `parameters` in place; `differentiate` sets their gradients for the row numbers of a batch."""
    steps = epochs * -(-samples // recipe.batch)
    optimiser, schedule = make_optimiser(parameters, recipe, steps)
    with single_thread(), torch.enable_grad():  # whatever a user has turned off around a search
        for done, rows in enumerate(batches(samples, recipe.batch, epochs, seed), start=1):
            differentiate(rows)
            optimiser.step()
            schedule.step()
            if told is not None:
                told(done, steps)


def make_optimiser(
    parameters: Iterable[nn.Parameter], recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimiser and the schedule of `steps` steps that `recipe` names."""
    optimiser = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
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
