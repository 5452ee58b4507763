"""The memory of a generation is what the setting says, whatever the population."""

from __future__ import annotations

import numpy as np
import torch
from engine.test_engine import FIXED, quantized
from torch.profiler import ProfilerActivity, profile

from evonas.engine import Engine, Labelled, scores

NETWORK, SPACE, INPUTS = quantized("twice", FIXED, 256)
DATA = Labelled(INPUTS, torch.from_numpy(np.random.default_rng(0).integers(3, size=256)))


def peak(genomes: int, memory: int) -> int:
    """Bytes of tensors at once, at most, while random genomes are scored: by torch's own record of its allocator."""
    engine, rows = Engine(NETWORK, SPACE, memory=memory), SPACE.space.sample(genomes, np.random.default_rng(1))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        scores(engine, rows, DATA)
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(changes).max())


def test_memory_is_bounded_by_the_setting_and_not_by_the_population() -> None:
    limit = 2**19
    assert peak(1024, 2**30) > 10 * limit  # what it would take without a bound
    for population in (256, 1024):
        assert peak(population, limit) < 3 * limit  # values, and what is computed on the way from one to the next
