"""What can go wrong, in one line each.

Every error evonas raises on purpose is an `EvonasError`, and also the builtin that a Python programmer
would expect. Its message is one line: what was wrong, what was expected, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "EvaluationError",
    "EvonasError",
    "InvalidArgument",
    "RunError",
    "UnknownName",
    "Unmeasured",
    "unknown_name",
]


class EvonasError(Exception):
    """Base of all errors of evonas. The command line prints the message and exits with code 2."""


class InvalidArgument(EvonasError, ValueError):
    """A value that cannot be used: the message names it, what was expected, and what to do."""


class Unmeasured(InvalidArgument):
    """What must be profiled first, with the command that does it.

    Args:
        fault: what is wrong.
        origin: the table.
        problem: what the command calls the problem, with its options.
    """

    def __init__(self, fault: str, origin: str, problem: str = "FILE.py:VARIABLE") -> None:
        self.fault, self.origin = fault, origin
        super().__init__(f"{fault} with `evonas profile {problem} --out {origin}`")

    def of(self, problem: str) -> Unmeasured:
        """The same with the words of a known problem."""
        return Unmeasured(self.fault, self.origin, problem)


class UnknownName(EvonasError, LookupError):
    """A name that does not exist: the message lists the names that do, the nearest first."""


class RunError(EvonasError, OSError):
    """A run directory that cannot be used: it exists, is locked, damaged, newer, or not writable."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class EvaluationError(EvonasError, TypeError):
    """A problem whose `evaluate` breaks its contract (wrong count or names of scores)."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UnknownName:
    """The error for an unknown `name`: `valid` names listed, the nearest first.

    `kind` is a noun for the message ("sampler", "objective").
    """
    names = list(valid)
    ranked = sorted(names, key=lambda candidate: -_similarity(name, candidate))
    listing = ", ".join(ranked) if ranked else "there are none"
    return UnknownName(f"unknown {kind} `{name}`; valid names: {listing}")


def _similarity(first: str, second: str) -> float:
    return difflib.SequenceMatcher(None, first.lower(), second.lower()).ratio()
