"""Run files: a search written down in TOML, every key checked, with its path in the message."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evonas.errors import InvalidArgument, unknown_name
from evonas.problem.genes import Rule

__all__ = ["Metric", "RunFile", "checked", "read_own", "read_toml"]

_KEYS: dict[str, type | tuple[type, ...]] = {
    "problem": str,
    "sampler": str,
    "budget": int,
    "seed": int,
    "objectives": list,
    "out": str,
    "figures": bool,
    "racing": bool,
    "channels": bool,
    "options": dict,
    "max": dict,
    "min": dict,
    "genes": list,
}
_WORDS = {str: "text", int: "a whole number", list: "a list", bool: "true or false", dict: "a table", float: "a number"}


@dataclass(frozen=True)
class Metric:
    """An objective of a lab's file, and what it is multiplied with in the table of best trials."""

    name: str
    scale: float = 1.0


@dataclass(frozen=True)
class RunFile:
    """What a run file says; None where it says nothing.

    Args:
        problem, sampler, budget, seed, objectives, out, figures, racing: as on the command line.
        options: of the problem.
        at_most, at_least: limits.
        rules: where formats go; the problem's own genes when empty.
        channels: whether the problem's genes of channels stay when there are rules.
        metrics: of a lab's file, for its table of best trials.
        total: whether the best trial is that of the best sum of scaled metrics, and whether it is the largest.
        timeout: seconds after which the search stops.
        notes: lines that a person should read: what the file holds that has no effect.
    """

    problem: str | None = None
    sampler: str | None = None
    budget: int | None = None
    seed: int | None = None
    objectives: tuple[str, ...] | None = None
    out: str | None = None
    figures: bool | None = None
    racing: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    at_most: Mapping[str, float | str] = field(default_factory=dict)
    at_least: Mapping[str, float | str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    channels: bool = True
    metrics: tuple[Metric, ...] = ()
    total: str | None = None
    timeout: float | None = None
    notes: tuple[str, ...] = ()


def read_toml(path: Path) -> dict[str, Any]:
    """What the file at `path` holds.

    Raises:
        InvalidArgument: no file, or no TOML.
    """
    if not path.is_file():
        raise InvalidArgument(f"run file `{path}` does not exist")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8", errors="replace"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"run file `{path}` is not TOML: {error}") from None


def checked(content: Mapping[str, Any], path: str, kinds: Mapping[str, type | tuple[type, ...]]) -> None:
    """Raise unless `content` has only keys of `kinds`, with values of these types; `path` is where it stands."""
    for key, value in content.items():
        if key not in kinds:
            raise unknown_name("key of a run file", f"{path}{key}", [f"{path}{known}" for known in kinds])
        kind = kinds[key]
        wanted = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            words = " or ".join(_WORDS[one] for one in wanted)
            raise InvalidArgument(f"`{path}{key}` must be {words}, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidArgument(f"`{path}{key}` must be finite, got {value!r}")


def read_own(content: Mapping[str, Any]) -> RunFile:
    """A run file of ours.

    Raises:
        UnknownName: a key that does not exist.
        InvalidArgument: a value of the wrong type.
    """
    checked(content, "", _KEYS)
    for side in ("max", "min"):
        checked(content.get(side, {}), f"{side}.", dict.fromkeys(content.get(side, {}), (int, float, str)))
    options = content.get("options", {})
    checked(options, "options.", dict.fromkeys(options, (int, float, str, bool)))
    names = content.get("objectives")
    if names is not None and not all(isinstance(name, str) for name in names):
        raise InvalidArgument(f"`objectives` must be a list of texts, got {names!r}")
    rules = tuple(Rule.read(table, f"genes[{i}]") for i, table in enumerate(content.get("genes", [])))
    return RunFile(
        problem=content.get("problem"),
        sampler=content.get("sampler"),
        budget=content.get("budget"),
        seed=content.get("seed"),
        objectives=None if names is None else tuple(names),
        out=content.get("out"),
        figures=content.get("figures"),
        racing=content.get("racing"),
        options=options,
        at_most=content.get("max", {}),
        at_least=content.get("min", {}),
        rules=rules,
        channels=content.get("channels", True),
    )
