"""Stop the validation of a candidate once it can no longer reach the front.

Samples are visited in one random order, so the right answers among the first k of n are a draw without replacement
from the n: hypergeometric. Inverting its tail gives the most right answers that all n can hold at a given risk; the
risk is shared out over the looks (union bound), so that a candidate's bound fails at any look with at most 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from evonas.space import BoolArray, FloatArray, IntArray

__all__ = ["RISK", "Raced", "beaten", "looks", "most_right"]

RISK = 0.01  # that a candidate was stopped that a full validation would not have put behind the front
_SHARES = (16, 8, 4, 2)  # a look after each of these parts of the samples
_LEAST = 128  # samples before which a look would stop hardly anybody, and waste its share of the risk
_CHUNKS = tuple(2**power for power in range(9, 4, -1))  # samples that run at once: parts are made of whole ones


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
    chunk = next((count for count in _CHUNKS if count * max(_SHARES) <= total), min(_CHUNKS))
    found = {total // share // chunk * chunk for share in _SHARES}
    return sorted(count for count in found if _LEAST <= count < total)


def beaten(right: IntArray, seen: int, total: int, least: FloatArray, risk: float) -> BoolArray:
    """Which of n candidates have a bound on their accuracy below `least`, shape (n,).

    That is `most_right(...) / total < least`, without the search for the bound: as the tail falls with K, one look at
    it for the fewest right answers that would do.

    Args:
        right: right answers of each among those seen, shape (n,).
        seen: samples seen.
        total: samples that there are.
        least: accuracy that each must reach, shape (n,); -inf for none.
        risk: of each bound, below 1/2.
    """
    needed = np.minimum(np.searchsorted(np.arange(total + 1) / total, least), total)
    pairs = zip(right.tolist(), needed.tolist(), strict=True)
    return np.array([_surprising(one, seen, total, fewest, risk) for one, fewest in pairs], dtype=np.bool_)


def most_right(right: int, seen: int, total: int, risk: float) -> int:
    """The most right answers among `total` with which at most `right` of `seen` are not a surprise.

    The largest K with P(X <= right) > risk, where X are the right ones among `seen` of `total` samples drawn without
    replacement of which K are right. For every true K it is at least K with probability 1 - risk or more, as the tail
    falls with K (e.g. Buonaccorsi 1987, doi:10.1080/00031305.1987.10475476). `risk` is below 1/2.
    """
    low, high = right, total - seen + right  # P = 1 at the lower end
    middle, step = _approximately_most(right, seen, total, risk), 1
    while low < high:  # away from the first guess by more and more, then by halves
        middle = middle if low < middle <= high else (low + high + 1) // 2
        if _surprising(right, seen, total, middle, risk):
            high, middle = middle - 1, middle - step
        else:
            low, middle = middle, middle + step
        step *= 2
    return low


def _surprising(right: int, seen: int, total: int, all_right: int, risk: float) -> bool:
    """Whether P(X <= right) <= risk, with X as in `most_right` for K = `all_right`.

    Term by term from the largest on, in a tenth of the time of scipy.s tail: a run asks for thousands.
    """
    wrong = total - all_right
    if right * total >= seen * all_right:
        return False  # no less than the mean, so no less than the median (Siegel 2001, "Median bounds")
    if seen - right > wrong:
        return True  # there are not so many wrong answers
    logarithms = _log_choices(all_right, right), _log_choices(wrong, seen - right), _log_choices(total, seen)
    term, tail = math.exp(logarithms[0] + logarithms[1] - logarithms[2]), 0.0
    while tail <= risk and term > 1e-16 * risk:
        tail += term
        term *= right * (wrong - seen + right) / ((all_right - right + 1) * (seen - right + 1))
        right -= 1
    return tail <= risk


def _log_choices(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _approximately_most(right: int, seen: int, total: int, risk: float) -> int:
    """`most_right` by the normal distribution: Wilson's interval (1927, doi:10.1080/01621459.1927.10502953)."""
    share = min(1.0, (right + 0.5) / seen)
    spread = NormalDist().inv_cdf(1 - risk) ** 2 / seen * (total - seen) / max(1, total - 1)
    return int(total * (share + spread / 2 + math.sqrt(spread * (spread / 4 + share * (1 - share)))) / (1 + spread))
