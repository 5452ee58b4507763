"""What the nodes of a stack of networks do, forward and backward, on values (networks, n, features).

Written out rather than left to autograd, whose bookkeeping would cost as much as the arithmetic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from evonas.training.closing import LEAK

__all__ = ["BatchNorm", "ClosingRelu", "Linear", "Operation", "Pass", "Relu", "Sum"]


class Operation(ABC):
    """One node. A backward pass follows the forward pass that it differentiates."""

    @abstractmethod
    def forward(self, *values: Tensor) -> Tensor:
        """The node's value."""

    @abstractmethod
    def backward(self, gradient: Tensor, *, needed: bool) -> Tensor | None:
        """Set the gradients of the node's own tensors.

        Args:
            gradient: of the loss by the node's value.
            needed: whether that by what it read is wanted.

        Returns:
            The gradient by each thing that it read, None where it is not needed.
        """


class Linear(Operation):
    """A matrix product and a bias.

    Args:
        weight: shape (networks, in, out).
        bias: shape (networks, out), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def forward(self, *values: Tensor) -> Tensor:
        (self._read,) = values
        if self._bias is None:
            return torch.bmm(self._read, self._weight)
        return torch.baddbmm(self._bias[:, None], self._read, self._weight)

    def backward(self, gradient: Tensor, *, needed: bool) -> Tensor | None:
        self._weight.grad = torch.bmm(self._read.mT, gradient)
        if self._bias is not None:
            self._bias.grad = gradient.sum(1)
        return torch.bmm(gradient, self._weight.mT) if needed else None


class BatchNorm(Operation):
    """Statistics of the batch, and running ones as torch keeps them (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Args:
        weight: shape (networks, features), and so are the next three.
        bias: what is added.
        mean: running; changed in place.
        variance: running, unbiased; changed in place.
        eps: added to the variance.
        momentum: share of a new batch in the running statistics.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, eps: float, momentum: float
    ) -> None:
        self._weight, self._bias, self._mean, self._variance = weight, bias, mean, variance
        self._eps, self._momentum = eps, momentum

    def forward(self, *values: Tensor) -> Tensor:
        """Algorithm 1 of the paper."""
        (read,) = values
        count = read.shape[1]
        mean = read.mean(1, keepdim=True)
        centred = read - mean
        variance = (centred * centred).mean(1, keepdim=True)
        self._mean.lerp_(mean[:, 0], self._momentum)
        self._variance.lerp_(variance[:, 0] * (count / (count - 1)), self._momentum)
        self._scale = torch.rsqrt(variance + self._eps)
        self._normalised = centred * self._scale
        return torch.addcmul(self._bias[:, None], self._normalised, self._weight[:, None])

    def backward(self, gradient: Tensor, *, needed: bool) -> Tensor | None:
        """The gradients of section 3 of the paper, summed up."""
        count = gradient.shape[1]
        self._bias.grad = gradient.sum(1)
        self._weight.grad = (gradient * self._normalised).sum(1)
        if not needed:
            return None
        towards = torch.addcmul(self._bias.grad[:, None], self._normalised, self._weight.grad[:, None])
        return gradient.sub(towards, alpha=1 / count).mul_(self._scale * self._weight[:, None])


class Relu(Operation):
    """The positive part."""

    def forward(self, *values: Tensor) -> Tensor:
        self._value = values[0].relu()
        return self._value

    def backward(self, gradient: Tensor, *, needed: bool) -> Tensor | None:
        return torch.ops.aten.threshold_backward(gradient, self._value, 0) if needed else None


class ClosingRelu(Relu):
    """`ClosingReLU`: where the input is negative, a part of the gradient passes."""

    def backward(self, gradient: Tensor, *, needed: bool) -> Tensor | None:
        return torch.where(self._value > 0, gradient, gradient * LEAK) if needed else None


class Sum(Operation):
    """Two values added; the same one twice when only one is read."""

    def forward(self, *values: Tensor) -> Tensor:
        self._times = 2 // len(values)
        return values[0] + values[-1]

    def backward(self, gradient: Tensor, *, needed: bool) -> Tensor | None:
        return gradient * self._times


class Pass(Operation):
    """What changes nothing: an identity, a flattening of what is flat already."""

    def forward(self, *values: Tensor) -> Tensor:
        return values[0]

    def backward(self, gradient: Tensor, *, needed: bool) -> Tensor | None:
        return gradient
