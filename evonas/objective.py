"""Objectives and constraints: a name, a unit, a direction, and how a person reads and writes their values."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evonas.errors import InvalidArgument, unknown_name
from evonas.space import FloatArray

__all__ = ["Constraint", "Objective", "minimised"]

# Per unit in which values are kept: what a person may write, and how many of the unit it is.
_UNITS: dict[str, dict[str, float]] = {
    "bit": {"bit": 1, "bits": 1, "B": 8, "kB": 8e3, "KB": 8e3, "MB": 8e6, "KiB": 8 * 1024, "MiB": 8 * 1024**2},
    "µs": {"ns": 1e-3, "us": 1, "µs": 1, "μs": 1, "ms": 1e3, "s": 1e6},
    "nJ": {"pJ": 1e-3, "nJ": 1, "uJ": 1e3, "µJ": 1e3, "mJ": 1e6},
    "fraction": {"%": 0.01},
}
_COUNTS: dict[str, float] = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_SHOWN = {
    "bit": (("MiB", 8 * 1024**2), ("KiB", 8 * 1024), ("B", 8)),
    "µs": (("s", 1e6), ("ms", 1e3), ("µs", 1.0)),
    "nJ": (("mJ", 1e6), ("µJ", 1e3), ("nJ", 1.0)),
}


@dataclass(frozen=True)
class Objective:
    """One quantity to be minimised or maximised.

    Args:
        name: what users and stores call it.
        unit: `bit`, `µs`, `fraction`, or a word such as `FLOP` that is counted in k, M, G; may be empty.
        maximise: the direction; minimised when False.
        exact: True when the value follows from the genome alone, at no cost; False when it must be evaluated.
        bounds: smallest and largest value there can be, where known (0 and 1 for an accuracy).
        note: the definition or convention, in half a sentence.
    """

    name: str
    unit: str = ""
    maximise: bool = False
    exact: bool = False
    bounds: tuple[float, float] | None = None
    note: str = ""

    @property
    def sign(self) -> float:
        """+1 when minimised, -1 when maximised: a value times it is minimised."""
        return -1.0 if self.maximise else 1.0

    def format(self, value: float | None) -> str:
        """`value` for people, with its unit: `1.25 KiB`, `12.3 µs`, `0.953`, `9.86 k`."""
        if value is None or not math.isfinite(value):
            return "-"
        if self.unit in _SHOWN:
            for unit, factor in _SHOWN[self.unit]:
                if abs(value) >= factor:
                    return f"{value / factor:.4g} {unit}"
            return f"{value:.4g} {self.unit}"
        if self.unit == "fraction":
            return f"{value:.4f}"
        if abs(value) >= 1000:
            scale, suffix = next((f, s) for s, f in (("G", 1e9), ("M", 1e6), ("k", 1e3)) if abs(value) >= f)
            return f"{value / scale:.4g} {suffix}"
        return f"{value:.4g}"

    def parse(self, text: str) -> float:
        """The number that a person wrote, in this objective's unit: `2KiB`, `50us`, `90%`, `1e4`.

        Raises:
            InvalidArgument: not a finite number, or a unit that does not fit.
        """
        match = re.fullmatch(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)\s*", text)
        units = _UNITS.get(self.unit, _COUNTS)
        factor = units.get(match[2], 1.0) if match else 1.0
        if match is None or not math.isfinite(float(match[1]) * factor):
            example = {"bit": "2KiB", "µs": "50us", "fraction": "0.9"}.get(self.unit, "10k")
            raise InvalidArgument(f"`{text}` is not a value of {self.name}; expected a number such as {example}")
        if match[2] and match[2] not in units:
            plain = self.unit or "a plain number"
            raise InvalidArgument(
                f"`{match[2]}` is not a unit of {self.name}; expected one of {', '.join(units)}, or none for {plain}"
            )
        return float(match[1]) * factor


@dataclass(frozen=True)
class Constraint:
    """A limit on one objective: `objective <= limit`, or `>= limit` when `at_least`."""

    objective: Objective
    limit: float
    at_least: bool = False

    @property
    def text(self) -> str:
        """The limit as a person would write it: `size <= 2 KiB`."""
        return f"{self.objective.name} {'>=' if self.at_least else '<='} {self.objective.format(self.limit)}"

    def excess(self, value: float) -> float:
        """How far one value is past the limit; <= 0 when it meets it."""
        return self.limit - value if self.at_least else value - self.limit

    def violation(self, values: FloatArray) -> FloatArray:
        """How far `values` (any shape, in the objective's unit) are past the limit; <= 0 when they meet it."""
        return self.limit - values if self.at_least else values - self.limit

    @classmethod
    def parse(cls, text: str, catalog: Sequence[Objective], *, at_least: bool) -> Constraint:
        """`size=2KiB` as a constraint on one of the objectives in `catalog`.

        Raises:
            InvalidArgument: no `=`, or the value does not parse.
            UnknownName: no such objective.
        """
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidArgument(f"constraint `{text}` does not parse; expected NAME=VALUE, such as size=2KiB")
        for objective in catalog:
            if objective.name == name.strip():
                return cls(objective, objective.parse(value), at_least)
        raise unknown_name("objective", name.strip(), [objective.name for objective in catalog])


def minimised(values: FloatArray, objectives: Sequence[Objective]) -> FloatArray:
    """Values (n, k) in users' directions as values to be minimised, and back: the one place where signs flip."""
    signs = np.array([objective.sign for objective in objectives])
    flipped: FloatArray = values * signs
    return flipped
