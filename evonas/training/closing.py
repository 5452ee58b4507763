"""A ReLU on logits, as the networks of some labs have one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LEAK", "ClosingReLU"]

LEAK = 0.1  # of the gradient where a logit is negative


class ClosingReLU(nn.ReLU):
    """A ReLU whose gradient leaks in training.

    Its output is a logit: where that is negative for every sample a plain ReLU passes nothing back, and the class is
    lost for good.
    """

    def forward(self, values: Tensor) -> Tensor:
        """The positive part of `values`, any shape."""
        if not self.training:
            return torch.relu(values)
        leaking = nn.functional.leaky_relu(values, LEAK)
        return leaking + (torch.relu(values) - leaking).detach()
