"""New weights for a resized model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evonas.randomness import random_state

__all__ = ["reinitialise"]


def reinitialise(model: nn.Module, seed: int) -> None:
    """Draw all weights of `model` anew, in place, by the layers' own `reset_parameters`.

    Parameters outside such layers (position embeddings, layer scales) are drawn from a normal distribution
    with the mean and spread that they have; constant ones keep their value. The global random state is as
    it was afterwards.
    """
    with random_state(seed, next((p.device for p in model.parameters()), None)):
        done: set[int] = set()
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset) and next(module.children(), None) is None:
                reset()
                done |= {id(p) for p in module.parameters(recurse=False)}
        for parameter in model.parameters():
            if id(parameter) not in done:
                _redraw(parameter)


def _redraw(parameter: Tensor) -> None:
    values = parameter.detach()
    spread = float(values.std()) if values.numel() > 1 and values.is_floating_point() else 0.0
    if spread > 0:
        with torch.no_grad():
            parameter.normal_(float(values.mean()), spread)
