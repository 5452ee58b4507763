"""The search sections of the TOML files of MASE (github.com/DeepWok/mase), the toolbox of the mixed-precision labs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evonas.config import Metric, RunFile, checked, read_own, read_toml
from evonas.errors import InvalidArgument, unknown_name
from evonas.formats import Fixed
from evonas.network import TYPES
from evonas.problem.genes import Rule

__all__ = ["SAMPLERS", "read_lab_file", "read_run_file"]

SAMPLERS = {
    "random": "random",
    "tpe": "tpe",
    "nsgaii": "nsga2",
    "nsgaiii": "nsga3",
    "qmc": "optuna:QMCSampler",
    "brute-force": "grid",
    "bruteforce": "grid",
}
METRICS = {"model size": "size", "model_size": "size"}
MAXIMISED = ("accuracy", "memory_density")
NAMES = ("accuracy", "loss", "average_bitwidth", "memory_density", "latency", "flops", "size")
_SPACE = "search.search_space."
_SETUP = "search.strategy.setup."
_TENSORS = ("data_in", "weight", "bias", "data_out")
_KINDS = {"conv1d": "conv", "conv2d": "conv", "conv3d": "conv", "bmm": "matmul"}  # their words for ours
_SEEDS = (*TYPES, "matmul", "add")  # types that a seed may be about
_READ = {"matmul": ("data_in", "weight", "data_out"), "add": ("data_in", "data_out")}  # other layers: all tensors


def read_run_file(path: Path) -> RunFile:
    """The run file at `path`: ours, or one with the search sections of a lab.

    Raises:
        UnknownName: a key that does not exist.
        InvalidArgument: no file, no TOML, or a value of the wrong type.
    """
    content = read_toml(path)
    return read_lab_file(content) if "search" in content else read_own(content)


def read_lab_file(content: Mapping[str, Any]) -> RunFile:
    """The run that the search sections describe.

    `model` names the problem. What is outside `[search]`, and what has no effect here, is listed in `notes`.

    Raises:
        UnknownName: a key of the search sections that is not supported.
        InvalidArgument: a value of the wrong type, or one that is not supported.
    """
    search = content["search"]
    checked({"search": search}, "", {"search": dict})
    checked(search, "search.", {"search_space": dict, "strategy": dict})
    strategy = search.get("strategy", {})
    kinds = {"name": str, "eval_mode": bool, "sw_runner": dict, "hw_runner": dict, "setup": dict, "metrics": dict}
    checked(strategy, "search.strategy.", kinds)
    notes = [f"`{key}` has no effect here" for key in content if key not in ("search", "model")]
    notes += _runner_notes(strategy)
    setup = strategy.get("setup", {})
    metrics = _metrics(strategy.get("metrics", {}))
    total = _total(setup)
    notes += [_against(metric, total) for metric in metrics if total and _is_against(metric, total)]
    return RunFile(
        problem=content.get("model"),
        sampler=_sampler(setup),
        budget=setup.get("n_trials"),
        objectives=tuple(metric.name for metric in metrics) or None,
        rules=_rules(search.get("search_space", {})),
        channels=False,
        metrics=metrics,
        total=total,
        timeout=setup.get("timeout"),
        notes=tuple(notes),
    )


def _runner_notes(strategy: Mapping[str, Any]) -> list[str]:
    notes = []
    for kind in ("sw_runner", "hw_runner"):
        for runner in strategy.get(kind, {}):
            notes.append(f"`search.strategy.{kind}.{runner}` has no effect: all of the validation split is always used")
    if strategy.get("eval_mode") is False:
        raise InvalidArgument("`search.strategy.eval_mode` must be true: candidates are not trained after quantization")
    if strategy.get("name", "optuna") != "optuna":
        raise InvalidArgument(
            f"`search.strategy.name` must be optuna, got {strategy['name']!r}; choose by `setup.sampler`"
        )
    return notes


def _sampler(setup: Mapping[str, Any]) -> str | None:
    kinds: dict[str, type | tuple[type, ...]] = {"n_jobs": int, "n_trials": int, "timeout": (int, float)}
    kinds |= {"sampler": str, "sum_scaled_metrics": bool, "direction": str}
    checked(setup, _SETUP, kinds)
    if setup.get("n_jobs", 1) != 1:
        raise InvalidArgument(f"`{_SETUP}n_jobs` must be 1, got {setup['n_jobs']}")
    if setup.get("timeout", 1) <= 0:
        raise InvalidArgument(f"`{_SETUP}timeout` must be a positive number of seconds, got {setup['timeout']}")
    name = setup.get("sampler")
    if name is None:
        return None
    if name.lower() not in SAMPLERS:
        raise unknown_name(f"`{_SETUP}sampler`", name, SAMPLERS)
    return SAMPLERS[name.lower()]


def _total(setup: Mapping[str, Any]) -> str | None:
    """The direction of the sum of scaled metrics, None when they are objectives of their own."""
    if not setup.get("sum_scaled_metrics", False):
        return None
    direction: str = setup.get("direction", "maximize")
    if direction not in ("maximize", "minimize"):
        raise InvalidArgument(f"`{_SETUP}direction` must be maximize or minimize, got {direction!r}")
    return direction


def _is_against(metric: Metric, total: str) -> bool:
    """Whether the best sum has the worse metric."""
    return metric.scale != 0 and ((metric.name in MAXIMISED) == (total == "maximize")) != (metric.scale > 0)


def _against(metric: Metric, total: str) -> str:
    """Say so."""
    wanted = "higher" if metric.name in MAXIMISED else "lower"
    return (
        f"`search.strategy.metrics.{metric.name}.scale` = {metric.scale:g} goes against the search, for which {wanted} "
        f"{metric.name} is better: with `{_SETUP}direction` = {total} the best sum wants {-metric.scale:g}"
    )


def _metrics(tables: Mapping[str, Any]) -> tuple[Metric, ...]:
    path, found = "search.strategy.metrics.", []
    for given, table in tables.items():
        name = METRICS.get(given, given)
        if name not in NAMES:
            raise unknown_name("metric of a run file", f"{path}{given}", [f"{path}{known}" for known in NAMES])
        checked({given: table}, path, {given: dict})
        checked(table, f"{path}{given}.", {"scale": (int, float), "direction": str})
        wanted = "maximize" if name in MAXIMISED else "minimize"
        if table.get("direction", wanted) != wanted:
            raise InvalidArgument(f"`{path}{given}.direction` must be {wanted}, got {table['direction']!r}")
        found.append(Metric(name, float(table.get("scale", 1.0))))
    return tuple(found)


def _rules(space: Mapping[str, Any]) -> tuple[Rule, ...]:
    checked(space, _SPACE, {"name": str, "setup": dict, "seed": dict})
    setup, seed = space.get("setup", {}), space.get("seed", {})
    checked(setup, f"{_SPACE}setup.", {"by": str})
    by = setup.get("by", "name")
    if by not in ("name", "type"):
        raise InvalidArgument(f"`{_SPACE}setup.by` must be name or type, got {by!r}")
    named, fallback = [], []
    for key, table in seed.items():
        path = f"{_SPACE}seed.{key}."
        checked({key: table}, f"{_SPACE}seed.", {key: dict})
        checked(table, path, {"config": dict})
        kind = _KINDS.get(key, key)
        if key != "default" and by == "type" and kind not in _SEEDS:
            raise unknown_name("type of layer in a run file", path.rstrip("."), _SEEDS)
        if key != "default" and by == "name" and key in TYPES:
            continue  # seeds by type lie idle when layers are chosen by name
        tensors = _tensors(table.get("config", {}), f"{path}config.", kind if by == "type" else "")
        if key == "default":
            fallback = [Rule(specs, tensors=(tensor,)) for tensor, specs in tensors.items()]
        else:
            layer, types = ("*", (kind,)) if by == "type" else (key, TYPES)
            named += [Rule(specs, (layer,), types, (tensor,), path=path[:-1]) for tensor, specs in tensors.items()]
    return (*named, *fallback)


def _tensors(config: Mapping[str, Any], path: str, kind: str) -> dict[str, tuple[str, ...]]:
    """Tensor to the specs that a config allows it; all float32 when its name is NA.

    The weight of a product of activations is its second operand.
    """
    read = _READ.get(kind, _TENSORS)
    keys = ["name", *(f"{tensor}_{what}" for tensor in read for what in ("width", "frac_width"))]
    checked(config, path, dict.fromkeys(keys, list))
    names = config.get("name", ["NA"])
    if len(names) != 1 or names[0] not in ("NA", "integer", "fixed"):
        raise InvalidArgument(f"`{path}name` must be one of ['integer'], ['fixed'] and ['NA'], got {names!r}")
    needed = ("data_in",) if kind in _READ else _TENSORS[:3]
    if names[0] == "NA":
        return dict.fromkeys(needed, ("float32",))
    found = {}
    for tensor in read:
        if tensor not in needed and f"{tensor}_width" not in config:
            continue
        widths, fracs = config.get(f"{tensor}_width"), config.get(f"{tensor}_frac_width", ["NA"])
        if not widths:
            raise InvalidArgument(f"`{path}{tensor}_width` is missing; expected a list of widths in bits")
        _numbers(widths, f"{path}{tensor}_width", na=False)
        _numbers(fracs, f"{path}{tensor}_frac_width", na=True)
        pairs = sorted({(w, w // 2 if f == "NA" else f) for w in widths for f in fracs})
        try:
            found[tensor] = tuple(Fixed(width, frac).spec for width, frac in pairs)
        except InvalidArgument as error:
            raise InvalidArgument(f"`{path}{tensor}_width` and `{tensor}_frac_width`: {error}") from None
    second = found.pop("weight", None) if kind == "matmul" else None
    return found if second is None else {"data_in2": second, **found}


def _numbers(values: list[Any], path: str, *, na: bool) -> None:
    for value in values:
        if (isinstance(value, bool) or not isinstance(value, int)) and not (na and value == "NA"):
            raise InvalidArgument(f"`{path}` must hold whole numbers{' or NA' if na else ''}, got {value!r}")
    if not values:
        raise InvalidArgument(f"`{path}` is empty; give at least one")
