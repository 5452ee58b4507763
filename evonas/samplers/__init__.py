"""Samplers: they propose genomes and learn from evaluations. Made by name with `make_sampler`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from evonas.errors import unknown_name

if TYPE_CHECKING:
    from evonas.evaluate import Task
    from evonas.samplers.base import Sampler

__all__ = ["ALIASES", "SAMPLERS", "make_sampler", "sampler_name"]

# name -> (module, class); modules are imported when used, since pymoo takes a while
SAMPLERS: dict[str, tuple[str, str]] = {
    "nsga2": ("evonas.samplers.nsga2", "Nsga2Sampler"),
    "random": ("evonas.samplers.random", "RandomSampler"),
    "sa-nsga2": ("evonas.samplers.surrogate", "SurrogateSampler"),
    "grid": ("evonas.samplers.grid", "GridSampler"),
}
ALIASES = {"brute-force": "grid"}


def sampler_name(name: str) -> str:
    """The canonical name of a sampler: aliases resolved.

    Raises:
        UnknownName: there is none; the message lists those there are.
    """
    canonical = ALIASES.get(name, name)
    if canonical not in SAMPLERS:
        raise unknown_name("sampler", name, [*SAMPLERS, *ALIASES])
    return canonical


def make_sampler(name: str, task: Task, seed: int) -> Sampler:
    """The sampler of that name for a task, seeded."""
    module, cls = SAMPLERS[sampler_name(name)]
    sampler: Sampler = getattr(import_module(module), cls)(task, seed)
    return sampler
