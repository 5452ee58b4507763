"""Reading format specs from left to right, so that an error can say where one goes wrong."""

from __future__ import annotations

import math
import re

import numpy as np

from evonas.errors import InvalidArgument

__all__ = ["Reader", "number_text", "shown"]

_SHOWN = 60


def shown(spec: str) -> str:
    """`spec` for a one-line message: control characters escaped, long text cut."""
    text = repr(spec)[1:-1]
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def number_text(value: float) -> str:
    """The shortest text that reads back as the same float32, without a trailing `.0`."""
    return str(np.float32(value)).removesuffix(".0")


class Reader:
    """A place in the text of a spec. Every method reads from there and moves on, or raises.

    All raise `InvalidArgument` with the spec, the character (from 1) and what was expected there.
    """

    def __init__(self, spec: str, word: str) -> None:
        self.spec = spec
        self.word = word
        self.at = len(word)

    @classmethod
    def of(cls, spec: str, *words: str) -> Reader | None:
        """A reader after the leading letters of `spec` if these are one of `words`, otherwise None."""
        letters = re.match(r"[A-Za-z]*", spec)
        word = letters[0] if letters else ""
        return cls(spec, word) if word in words else None

    def fail(self, expected: str) -> InvalidArgument:
        """The error that something else than `expected` stands here."""
        rest = self.spec[self.at :]
        where = f"character {self.at + 1}, `{shown(rest[:1])}`" if rest else "its end"
        return InvalidArgument(f"format `{shown(self.spec)}` does not parse at {where}: expected {expected}")

    def _match(self, pattern: str) -> str | None:
        found = re.compile(pattern).match(self.spec, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def integer(self, expected: str) -> int:
        """A whole number, perhaps negative, of up to nine digits."""
        found = self._match(r"-?[0-9]{1,9}(?![0-9])")
        if found is None:
            raise self.fail(expected)
        return int(found)

    def real(self, expected: str) -> float:
        """A finite decimal number such as `0.25` or `1e-05`."""
        start = self.at
        found = self._match(r"-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]{1,3})?")
        if found is None or not math.isfinite(float(found)):
            self.at = start
            raise self.fail(expected)
        return float(found)

    def option(self, *texts: str) -> str:
        """The first of `texts` that stands here, or the empty string."""
        for text in texts:
            if self.spec.startswith(text, self.at):
                self.at += len(text)
                return text
        return ""

    def literal(self, text: str, expected: str) -> None:
        """Exactly `text`."""
        if not self.option(text):
            raise self.fail(expected)

    def axis(self, default: int) -> int:
        """An axis number if one stands here, otherwise `default`."""
        found = self._match(r"-?[0-9]{1,2}")
        return default if found is None else int(found)

    def end(self, expected: str = "nothing more") -> None:
        """The end of the spec; `expected` says what else could have come."""
        if self.at != len(self.spec):
            raise self.fail(expected)
