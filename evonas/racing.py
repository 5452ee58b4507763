"""Stop the validation of a candidate once it can no longer reach the front.

Samples are visited in one random order, so the right answers among the first k of n are a draw without replacement
from the n: hypergeometric. Inverting its tail gives the most right answers that all n can hold at a given risk; the
risk is shared out over the looks (union bound), so that a candidate's bound fails at any look with at most 1 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

__all__ = ["RISK", "Raced", "looks", "most_right"]

RISK = 0.01  # that a candidate was stopped that a full validation would not have put behind the front
_SHARES = (16, 8, 4, 2)  # a look after each of these parts of the samples
_LANES = 32  # samples: looks are multiples of it, so that a part is made of whole vectors


@dataclass(frozen=True)
class Raced:
    """What came of a race.

    Args:
        scores: measured objective -> value, of one that was validated to the end; None when it was stopped.
        samples: that were validated.
        share: of right answers among them, of one that was stopped.
        bound: the most that the accuracy can be, of one that was stopped.
    """

    scores: Mapping[str, float] | None
    samples: int
    share: float = 0.0
    bound: float = 1.0


def looks(total: int) -> list[int]:
    """After how many of `total` samples a candidate is looked at before the end."""
    found = {total // share // _LANES * _LANES for share in _SHARES}
    return sorted(count for count in found if 0 < count < total)


@cache
def most_right(right: int, seen: int, total: int, risk: float) -> int:
    """The most right answers among `total` with which at most `right` of `seen` are not a surprise.

    The largest K with P(X <= right) > risk, where X are the right ones among `seen` of `total` samples drawn without
    replacement of which K are right. For every true K it is at least K with probability 1 - risk or more, as the tail
    falls with K (e.g. Buonaccorsi 1987, doi:10.1080/00031305.1987.10475476).
    """
    from scipy.stats import hypergeom

    low, high = right, total - seen + right  # P = 1 at the lower end
    while low < high:
        middle = (low + high + 1) // 2
        if hypergeom.cdf(right, total, middle, seen) > risk:
            low = middle
        else:
            high = middle - 1
    return low
