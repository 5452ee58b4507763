"""Global random state of torch, for code that reads no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["random_state"]


@contextmanager
def random_state(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Inside the block the global generators start from `seed`; outside they are as they were.

    Args:
        seed: of the CPU's generator, and of that of `device`.
        device: where more is drawn than on the CPU; generators of other devices are never touched.
    """
    if device is None or device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    every = range(torch.get_device_module(device).device_count())  # torch seeds all of a kind
    with torch.random.fork_rng(devices=every, device_type=device.type):
        torch.manual_seed(seed)
        yield
