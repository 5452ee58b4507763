"""Statistics, against scipy and against worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evonas.study.statistics import (
    Ranking,
    a12,
    bootstrap_interval,
    compare_pairs,
    friedman,
    holm,
    least_p,
    out_of_reach,
    paired_p,
    verdict,
)


def test_holm_is_that_of_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_a12_is_mann_whitney_s_u_over_the_pairs() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, 30).astype(float), rng.integers(1, 6, 20).astype(float)
    assert a12(first, second) == pytest.approx(stats.mannwhitneyu(first, second).statistic / 600)
    assert a12(first, first) == pytest.approx(0.5)


def test_wilcoxon_is_scipy_s_and_no_difference_is_no_error() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(30), rng.random(30)
    assert paired_p(first, second) == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert paired_p(first, first) == 1.0
    assert 0 <= paired_p(first, np.where(np.arange(30) < 29, first, second)) <= 1


@pytest.mark.parametrize("seeds", [1, 2, 5, 6, 12])
def test_the_least_p_is_that_of_a_sampler_that_wins_every_seed(seeds: int) -> None:
    rng = np.random.default_rng(0)
    better = 1.0 + rng.random(seeds)
    assert least_p(seeds) == pytest.approx(paired_p(better, np.zeros(seeds)))


def test_too_few_seeds_are_said_to_be_too_few() -> None:
    assert out_of_reach(5, 1) == (
        "with 5 seeds no pair can reach p < 0.05: the smallest p-value there is is 0.062; 6 seeds would do"
    )
    assert out_of_reach(6, 1) is None
    assert "0.19 after Holm over 6 pairs; 8 seeds would do" in (out_of_reach(6, 6) or "")
    assert out_of_reach(8, 6) is None
    assert out_of_reach(1, 0) is None  # one sampler: nothing to test


def test_the_bootstrap_interval_is_scipy_s() -> None:
    sample = np.random.default_rng(0).normal(0.3, 1.0, 40)
    theirs = stats.bootstrap(
        (sample,), np.median, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert bootstrap_interval(sample) == pytest.approx((theirs.low, theirs.high), abs=0.08)
    assert bootstrap_interval(sample) == bootstrap_interval(sample)


def test_friedman_is_scipy_s_and_the_critical_difference_demsar_s() -> None:
    scores = np.random.default_rng(0).random((10, 4))
    ranking = friedman(scores, ["a", "b", "c", "d"])
    assert ranking.p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    assert ranking.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 10)), rel=1e-3)  # his table 5
    assert ranking.ranks.sum() == pytest.approx(10)


def test_groups_are_the_largest_that_do_not_differ() -> None:
    ranks = np.array([4.0, 1.0, 2.0, 3.5, 9.0])
    assert Ranking(tuple("abcde"), ranks, 0.01, 1.6).groups == [("b", "c"), ("c", "d"), ("d", "a")]
    assert Ranking(tuple("abcde"), ranks, 0.01, 2.6).groups == [("b", "c", "d"), ("c", "d", "a")]
    assert Ranking(tuple("abcde"), ranks, 0.01, 0.4).groups == []


def test_a_verdict_says_when_no_difference_is_shown() -> None:
    rng = np.random.default_rng(0)
    values = {"a": rng.random(30), "b": rng.random(30), "c": rng.random(30) + 2}
    same, better, _ = compare_pairs(values)
    assert "no difference shown in area" in verdict(same, "area")
    assert verdict(better, "area").startswith("c is better than a in area")
    assert better.p_holm >= better.p
    assert better.a12 == 0.0
