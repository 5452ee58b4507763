"""Accuracy and loss of many genomes, from what the engine returns chunk by chunk.

Both are the same bits whatever genomes are scored together: a count is exact, and losses are summed as whole numbers
of 2^-30 nats, in which no order of summation loses anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evonas.engine.engine import Engine
from evonas.engine.fused import kernels
from evonas.engine.values import stacked
from evonas.engine.walk import Walk
from evonas.space import BoolArray, FloatArray, IntArray

__all__ = ["Labelled", "Scores", "Totals", "scores", "totals"]

_LANES = 32  # chunks are whole multiples of it, so that every element goes through the same vector instructions
_STEPS = 2.0**30  # of a loss, in one nat


@dataclass(frozen=True)
class Scores:
    """Scores of n genomes.

    Args:
        accuracy: share of right answers, shape (n,); of equal logits the first counts, as with `argmax`.
        loss: mean cross entropy in nats, shape (n,); NaN when it was not asked for.
        finite: whether every logit is finite, shape (n,); where not, the other two mean nothing.
    """

    accuracy: FloatArray
    loss: FloatArray
    finite: np.ndarray[tuple[int], np.dtype[np.bool_]]


class Labelled:
    """Samples sorted by class, so that those of one class are consecutive; filled up with repeats that do not count.

    Args:
        inputs: shape (n, ...).
        targets: class indices, shape (n,).
    """

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        order = targets.argsort(stable=True)
        filled = order[torch.arange(-len(order) // _LANES * -_LANES) % len(order)]
        self.inputs = inputs[filled]
        self.count = len(targets)
        self._targets = targets[order].cpu().numpy()
        self._runs: dict[tuple[int, int], IntArray] = {}

    def runs(self, samples: slice) -> IntArray:
        """Each class among `samples`, and the first and the end of its own in them, shape (r, 3)."""
        key = (samples.start, samples.stop)
        if key not in self._runs:
            targets = self._targets[samples]
            starts = np.flatnonzero(np.diff(targets, prepend=-1))  # a chunk of repeats alone has none
            stops = np.append(starts[1:], len(targets))[: len(starts)]
            self._runs[key] = np.stack([targets[starts], starts, stops], axis=1).astype(np.int64)
        return self._runs[key]


@dataclass(frozen=True)
class Totals:
    """Sums over samples of n genomes: those of parts of the data add up to those of all, exactly.

    Args:
        right: right answers, shape (n,).
        lost: cross entropies in units of 2^-30 nats, shape (n,), whole numbers; NaN when not asked for.
        finite: whether every logit is finite, shape (n,).
        count: samples.
    """

    right: IntArray
    lost: FloatArray
    finite: np.ndarray[tuple[int], np.dtype[np.bool_]]
    count: int

    @classmethod
    def none(cls, n: int) -> Totals:
        """Those of no samples."""
        return cls(np.zeros(n, dtype=np.int64), np.zeros(n), np.ones(n, dtype=np.bool_), 0)

    def __add__(self, other: Totals) -> Totals:
        both = self.finite & other.finite
        return Totals(self.right + other.right, self.lost + other.lost, both, self.count + other.count)

    def scores(self) -> Scores:
        """The means."""
        return Scores(self.right / self.count, self.lost / _STEPS / self.count, self.finite)


def scores(engine: Engine, genomes: IntArray, data: Labelled, *, loss: bool = True) -> Scores:
    """Accuracy and, unless told not to, loss of `genomes` (n, n_genes) on `data`."""
    return totals(engine.walk(genomes, data.inputs[:2]), len(genomes), data, loss=loss).scores()


def totals(walk: Walk, n: int, data: Labelled, *, loss: bool = True) -> Totals:
    """Right answers and, unless told not to, losses of the n genomes that `walk` was made for, on `data`.

    Zeros for those that it does not run any more.
    """
    right = np.zeros(n, dtype=np.int64)
    lost = np.zeros(n) if loss else np.full(n, np.nan)
    finite = np.ones(n, dtype=np.bool_)
    for found in walk.run(data.inputs):
        runs = data.runs(found.samples)
        logits = stacked(found.value).exact()
        answers, sound = _counted(logits, runs)
        right[found.genomes] += answers[found.variants]
        finite[found.genomes] &= sound[found.variants]
        if loss:
            lost[found.genomes] += _lost(logits, runs).cpu().numpy()[found.variants]
    return Totals(right, lost, finite, data.count)


def _counted(logits: Tensor, runs: IntArray) -> tuple[IntArray, BoolArray]:
    """How many answers are right and whether all logits are finite, both shape (variants,); see `_right`."""
    compiled = kernels(logits.device, logits.numel())
    if compiled is None or not logits.is_contiguous() or logits.dtype != torch.float32:
        return _right(logits, runs).cpu().numpy(), _finite(logits).cpu().numpy()
    right, finite = np.empty(len(logits), np.int64), np.empty(len(logits), np.bool_)
    compiled.count(logits.numpy(), runs, right, finite)
    return right, finite


def _right(logits: Tensor, runs: IntArray) -> Tensor:
    """How many answers are right, shape (variants,), for logits (variants, classes, samples)."""
    total = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    for label, start, stop in runs.tolist():
        samples = slice(start, stop)
        mine = logits[:, label, samples]
        right = torch.ones_like(mine, dtype=torch.bool)
        if label:
            right = mine > logits[:, :label, samples].amax(1)  # `argmax` over this axis is 30 times slower
        if label + 1 < logits.shape[1]:
            right &= mine >= logits[:, label + 1 :, samples].amax(1)
        total += right.sum(1)
    return total


def _finite(logits: Tensor) -> Tensor:
    """Whether all logits are finite, shape (variants,)."""
    flat = logits.flatten(1)
    return flat.amax(1).isfinite() & flat.amin(1).isfinite()


def _lost(logits: Tensor, runs: IntArray) -> Tensor:
    """Sum of the cross entropies in units of 2^-30 nats, shape (variants,), float64 that holds whole numbers."""
    highest = logits.amax(1)
    losses = (logits - highest.unsqueeze(1)).exp_().sum(1).log_().add_(highest)
    total = torch.zeros(len(logits), dtype=torch.float64, device=logits.device)
    for label, start, stop in runs.tolist():
        total += (losses[:, start:stop] - logits[:, label, start:stop]).double().mul_(_STEPS).round_().sum(1)
    return total
