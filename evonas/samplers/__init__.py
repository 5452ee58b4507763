"""Samplers: they propose genomes and learn from evaluations. Made by name with `make_sampler`."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from evonas.errors import InvalidArgument, unknown_name

if TYPE_CHECKING:
    from evonas.evaluate import Task
    from evonas.samplers.base import Sampler

__all__ = ["ALIASES", "OPTUNA", "SAMPLERS", "make_sampler", "sampler_name"]

# name -> (module, class); modules are imported when used, since pymoo and Optuna take a while
SAMPLERS: dict[str, tuple[str, str]] = {
    "nsga2": ("evonas.samplers.nsga2", "Nsga2Sampler"),
    "nsga3": ("evonas.samplers.nsga3", "Nsga3Sampler"),
    "sa-nsga2": ("evonas.samplers.surrogate", "SurrogateSampler"),
    "tpe": ("evonas.samplers.optuna", "TpeSampler"),
    "local": ("evonas.samplers.local", "LocalSampler"),
    "greedy": ("evonas.samplers.local", "GreedySampler"),
    "random": ("evonas.samplers.random", "RandomSampler"),
    "grid": ("evonas.samplers.grid", "GridSampler"),
}
ALIASES = {"brute-force": "grid"}
OPTUNA = "optuna:"  # followed by the name of any of Optuna's samplers


def sampler_name(name: str) -> str:
    """The canonical name of a sampler: aliases resolved.

    Raises:
        UnknownName: there is none; the message lists those there are.
    """
    canonical = ALIASES.get(name, name)
    if canonical.startswith(OPTUNA):
        from evonas.samplers.optuna import optuna_samplers

        if canonical.removeprefix(OPTUNA) not in optuna_samplers():
            raise unknown_name("sampler", name, [OPTUNA + known for known in optuna_samplers()])
    elif canonical not in SAMPLERS:
        raise unknown_name("sampler", name, [*SAMPLERS, *ALIASES, OPTUNA + "<Sampler>"])
    return canonical


def make_sampler(name: str, task: Task, seed: int, **options: Any) -> Sampler:
    """The sampler of that name for a task, seeded.

    Args:
        name: see `sampler_name`.
        task: what is searched.
        seed: of every random choice.
        options: keyword arguments of the sampler's class.

    Raises:
        UnknownName: no such sampler.
        InvalidArgument: the sampler does not take the options.
    """
    canonical = sampler_name(name)
    if canonical.startswith(OPTUNA):
        module, cls = "evonas.samplers.optuna", "OptunaSampler"
        options = {"name": canonical.removeprefix(OPTUNA), **options}
    else:
        module, cls = SAMPLERS[canonical]
    made = getattr(import_module(module), cls)
    try:
        signature(made).bind(task, seed, **options)
    except TypeError as error:
        raise InvalidArgument(f"sampler {name} does not take these options: {error}") from None
    sampler: Sampler = made(task, seed, **options)
    return sampler
