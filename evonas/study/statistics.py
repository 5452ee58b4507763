"""Is one sampler better than another? Paired tests, effect sizes and intervals, and a sentence that says so.

Samplers are paired by seed. Smaller p-values do not mean larger differences: read them with A12 and the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from evonas.space import FloatArray

__all__ = [
    "Comparison",
    "Ranking",
    "a12",
    "bootstrap_interval",
    "compare_pairs",
    "friedman",
    "holm",
    "least_p",
    "out_of_reach",
    "paired_p",
    "verdict",
]

ALPHA = 0.05
_RESAMPLES = 9_999
LEAST_PROBLEMS = 5  # problems from which ranks over problems are tested


@dataclass(frozen=True)
class Comparison:
    """Two samplers on one problem; larger values are better.

    Args:
        first: name.
        second: name.
        difference: median of first - second over seeds.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        p: Wilcoxon signed-rank, two-sided.
        p_holm: the same, adjusted for all pairs of the problem.
        a12: probability that a run of `first` beats one of `second`.
        seeds: pairs compared.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    a12: float
    seeds: int

    @property
    def turned(self) -> Comparison:
        """The same seen from the other side."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            a12=1.0 - self.a12,
        )


@dataclass(frozen=True)
class Ranking:
    """Samplers ranked over problems: mean ranks (1 is best), Friedman's p, and Nemenyi's critical difference."""

    samplers: tuple[str, ...]
    ranks: FloatArray
    p: float
    critical_difference: float

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """The largest groups of samplers that do not differ at 5 %, two or more each, best first (Demsar 2006)."""
        order = np.argsort(self.ranks, kind="stable")
        sorted_ranks = self.ranks[order]
        ends = np.searchsorted(sorted_ranks, sorted_ranks + self.critical_difference, side="right")
        begins = [i for i in range(len(order)) if ends[i] > i + 1 and (i == 0 or ends[i] > ends[i - 1])]
        return [tuple(self.samplers[row] for row in order[i : ends[i]]) for i in begins]


def a12(first: FloatArray, second: FloatArray) -> float:
    """P(first > second) + P(first = second) / 2 over all pairs of (n,) and (m,) (Vargha and Delaney 2000, eq. 1)."""
    gaps = first[:, None] - second
    return float((gaps > 0).mean() + 0.5 * (gaps == 0).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for multiple tests (Holm 1979), in the given order."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate([(len(p_values) - i) * p_values[row] for i, row in enumerate(order)])
    return [float(p) for p in np.minimum(adjusted, 1.0)]


def paired_p(first: FloatArray, second: FloatArray) -> float:
    """Two-sided Wilcoxon signed-rank p-value of paired values (n,); 1 when no pair differs."""
    if np.array_equal(first, second):
        return 1.0
    return float(stats.wilcoxon(first, second, zero_method="pratt", method="auto").pvalue)


def least_p(seeds: int) -> float:
    """The smallest two-sided Wilcoxon p-value of so many pairs, reached when one sampler wins all of them."""
    return min(1.0, 2.0 ** (1 - seeds))


def out_of_reach(seeds: int, pairs: int) -> str | None:
    """A sentence on which p-values are possible at all, if none below 5 % is; None if one is, or nothing is tested."""
    least = least_p(seeds)
    if pairs == 0 or pairs * least < ALPHA:
        return None
    enough = next(n for n in range(seeds, 100) if pairs * least_p(n) < ALPHA)
    after = f", {min(1.0, pairs * least):.2g} after Holm over {pairs} pairs" if pairs > 1 else ""
    return (
        f"with {seeds} seed{'s' * (seeds != 1)} no pair can reach p < {ALPHA}: the smallest p-value there is is "
        f"{least:.2g}{after}; {enough} seeds would do"
    )


def bootstrap_interval(differences: FloatArray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the median of `differences` (n,) (Efron and Tibshirani 1993, chapter 13)."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(differences), size=(_RESAMPLES, len(differences)))
    low, high = np.percentile(np.median(differences[rows], axis=1), [2.5, 97.5])
    return float(low), float(high)


def compare_pairs(values: dict[str, FloatArray]) -> list[Comparison]:
    """Every pair of samplers, from sampler name to one value a seed, shape (n_seeds,), seeds in the same order."""
    names = list(values)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    p_values = [paired_p(values[a], values[b]) for a, b in pairs]
    found = []
    for (a, b), p, adjusted in zip(pairs, p_values, holm(p_values), strict=True):
        gap = values[a] - values[b]
        low, high = bootstrap_interval(gap)
        effect = a12(values[a], values[b])
        found.append(Comparison(a, b, float(np.median(gap)), low, high, p, adjusted, effect, len(gap)))
    return found


def friedman(scores: FloatArray, samplers: Sequence[str]) -> Ranking:
    """Ranks over problems, from scores (n_problems, n_samplers), larger better (Demsar 2006, JMLR 7, section 3.2)."""
    problems, count = scores.shape
    ranks = stats.rankdata(-scores, axis=1)
    statistic = (
        12 * problems / (count * (count + 1)) * (np.square(ranks.mean(axis=0)).sum() - count * (count + 1) ** 2 / 4)
    )
    p = float(stats.chi2.sf(statistic, count - 1))
    critical = stats.studentized_range.ppf(1 - ALPHA, count, np.inf) / np.sqrt(2.0)
    difference = float(critical * np.sqrt(count * (count + 1) / (6.0 * problems)))
    return Ranking(tuple(samplers), ranks.mean(axis=0), p, difference)


def verdict(pair: Comparison, what: str) -> str:
    """One sentence on a pair: which is better, or that no difference is shown. `what` names the quantity."""
    if pair.p_holm < ALPHA and pair.difference < 0:
        pair = pair.turned  # the sentence names the better one first
    facts = (
        f"median of paired differences {pair.difference:+.4f} [{pair.low:+.4f}, {pair.high:+.4f}], "
        f"A12 {pair.a12:.2f}, p {_shown(pair.p_holm)} after Holm, {pair.seeds} seeds"
    )
    if pair.p_holm >= ALPHA or pair.difference == 0.0:
        return f"{pair.first} and {pair.second}: no difference shown in {what} ({facts})"
    return f"{pair.first} is better than {pair.second} in {what} ({facts})"


def _shown(p: float) -> str:
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"
