"""Timing of modules on this machine: warm-up, interleaved rounds, median and quartiles; a GPU's own events there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from evonas.errors import unknown_name
from evonas.space import FloatArray

__all__ = ["CLOCKS", "Stopwatch", "Timing", "Told", "interleaved", "rounds_of", "stopwatch", "timed_module"]

Told = Callable[[int, int], None]  # what is called with how much is done, and how much there is
Stopwatch = Callable[[Callable[[], object], int], float]  # a call and how often it is made, to seconds

CLOCKS = {"wall": time.perf_counter, "cpu": time.thread_time}
_LEAST = 2e-4  # seconds a measurement lasts at least, so that the clock's resolution does not matter
_MOST_CALLS = 1000


class Timing(NamedTuple):
    """Seconds of one call: median and quartiles over the rounds."""

    q1: float
    median: float
    q3: float


def interleaved(
    calls: Sequence[Callable[[], object]],
    *,
    rounds: int,
    rng: np.random.Generator,
    device: str | torch.device = "cpu",
    clock: str = "wall",
    told: Told | None = None,
) -> list[Timing]:
    """The time of each of `calls`, which are repeated in turn, in another order every round.

    So a machine that slows down for a while slows all of them. Each is called often enough for a measurement to
    last 0.2 ms, and two times before the first one.

    Args:
        calls: what is timed.
        rounds: of measurements.
        rng: of the order.
        device: where the calls compute. On a GPU they only queue their work, so its own clock is read.
        clock: `wall`, or `cpu`: only the seconds that this thread runs, whatever else the machine does. A single thread
            with a core of its own takes the same by both.
        told: called after every round.
    """
    seconds = rounds_of(calls, rounds=rounds, rng=rng, device=device, clock=clock, told=told)
    return [Timing(*(float(q) for q in np.quantile(column, (0.25, 0.5, 0.75)))) for column in seconds.T]


def rounds_of(
    calls: Sequence[Callable[[], object]],
    *,
    rounds: int,
    rng: np.random.Generator,
    device: str | torch.device = "cpu",
    clock: str = "wall",
    told: Told | None = None,
) -> FloatArray:
    """Every measurement of `interleaved`, seconds a call, shape (rounds, len(calls))."""
    watch = stopwatch(torch.device(device), clock)
    repeats = [_repeats(call, watch) for call in calls]
    seconds = np.empty((rounds, len(calls)))
    for done, row in enumerate(seconds, 1):
        for position in rng.permutation(len(calls)):
            row[position] = watch(calls[position], repeats[position]) / repeats[position]
        if told is not None:
            told(done, rounds)
    return seconds


def _repeats(call: Callable[[], object], watch: Stopwatch) -> int:
    watch(call, 1)
    return int(np.clip(np.ceil(_LEAST / max(watch(call, 1), 1e-9)), 1, _MOST_CALLS))


def stopwatch(device: torch.device, clock: str = "wall") -> Stopwatch:
    """What measures the seconds that a number of calls take on `device`.

    Raises:
        UnknownName: no such clock.
    """
    if clock not in CLOCKS:
        raise unknown_name("clock", clock, CLOCKS)
    return partial(_on_cpu, CLOCKS[clock]) if device.type == "cpu" else partial(_queued, device)


def _on_cpu(now: Callable[[], float], call: Callable[[], object], times: int) -> float:
    start = now()
    for _ in range(times):
        call()
    return now() - start


def _queued(device: torch.device, call: Callable[[], object], times: int) -> float:
    """Between two events on the stream of `device`, which need not be the current one."""
    module = torch.get_device_module(device)
    stream = module.current_stream(device)
    start, end = (module.Event(enable_timing=True) for _ in range(2))
    start.record(stream)
    for _ in range(times):
        call()
    end.record(stream)
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3  # it counts milliseconds


def timed_module(module: nn.Module, inputs: Tensor) -> Callable[[], object]:
    """A call that runs `module` on `inputs` without gradients."""

    def call() -> object:
        with torch.inference_mode():
            return module(inputs)

    return call
