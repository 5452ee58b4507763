"""Recompute the statistics of batch norms after a model was resized."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from evonas.errors import InvalidArgument

__all__ = ["recalibrate_batchnorm"]


def recalibrate_batchnorm(model: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """Set the running mean and variance of every batch norm to their averages over `batches`, in place.

    Everything else, dropout included, runs in evaluation mode. A model without batch norms is left alone.

    Args:
        model: any module; it is returned for convenience, in the mode it came in.
        batches: inputs of forward: tensors, or tuples of arguments.

    Raises:
        InvalidArgument: there is no batch.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return model
    modes = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average over all batches
        norm.train()
    count = 0
    try:
        with torch.no_grad():
            for batch in batches:
                model(*batch) if isinstance(batch, (tuple, list)) else model(batch)
                count += 1
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    if count == 0:
        raise InvalidArgument("`batches` is empty: recalibration needs at least one batch")
    return model
