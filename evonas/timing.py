"""Timing of modules on this machine: warm-up, interleaved rounds, median and quartiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Timing", "interleaved", "timed_module"]

_LEAST = 2e-4  # seconds a measurement lasts at least, so that the clock's resolution does not matter
_MOST_CALLS = 1000


class Timing(NamedTuple):
    """Seconds of one call: median and quartiles over the rounds."""

    q1: float
    median: float
    q3: float


def interleaved(calls: Sequence[Callable[[], object]], *, rounds: int, rng: np.random.Generator) -> list[Timing]:
    """The time of each of `calls`, which are repeated in turn, in another order every round.

    So a machine that slows down for a while slows all of them. Each is called often enough for a measurement to
    last 0.2 ms, and two times before the first one.
    """
    repeats = [_repeats(call) for call in calls]
    seconds = np.empty((rounds, len(calls)))
    for row in seconds:
        for position in rng.permutation(len(calls)):
            call, times = calls[position], repeats[position]
            start = time.perf_counter()
            for _ in range(times):
                call()
            row[position] = (time.perf_counter() - start) / times
    return [Timing(*(float(q) for q in np.quantile(column, (0.25, 0.5, 0.75)))) for column in seconds.T]


def _repeats(call: Callable[[], object]) -> int:
    call()
    start = time.perf_counter()
    call()
    once = max(time.perf_counter() - start, 1e-9)
    return int(np.clip(np.ceil(_LEAST / once), 1, _MOST_CALLS))


def timed_module(module: nn.Module, inputs: Tensor) -> Callable[[], object]:
    """A call that runs `module` on `inputs` without gradients."""

    def call() -> object:
        with torch.inference_mode():
            return module(inputs)

    return call
