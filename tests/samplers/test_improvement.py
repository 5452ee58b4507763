"""Expected hypervolume improvement: boxes against moocore, expectations against Monte Carlo."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evonas.samplers.improvement import Exact, LogNormal, Normal, dominated_boxes, expected_improvement


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 5), n=st.integers(0, 25), levels=st.integers(2, 50))
@settings(max_examples=60, deadline=None)
def test_boxes_are_disjoint_and_fill_what_is_dominated(seed: int, k: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    front = rng.integers(0, levels, (n, k)) / levels  # with ties
    reference = np.full(k, 0.9)
    lower, upper = dominated_boxes(front, reference)
    assert (upper > lower).all()
    inside = front[(front < reference).all(axis=1)]
    expected = moocore.hypervolume(inside, ref=reference) if len(inside) else 0.0
    assert np.prod(upper - lower, axis=1).sum() == pytest.approx(expected, abs=1e-12)
    points = rng.random((200, k))
    holding = ((points[:, None] >= lower) & (points[:, None] < upper)).all(axis=2).sum(axis=1)
    dominated = ((inside <= points[:, None]).all(axis=2)).any(axis=1) & (points < reference).all(axis=1)
    assert (holding == dominated).all()


@pytest.mark.parametrize("seed", range(5))
def test_expectation_agrees_with_monte_carlo(seed: int) -> None:
    rng = np.random.default_rng(seed)
    front, reference, draws = rng.random((15, 3)), np.full(3, 1.1), 4000
    normal, known = Normal(rng.random(1), rng.uniform(0.05, 0.3, 1)), Exact(rng.random(1))
    skewed = LogNormal(np.log(rng.uniform(0.1, 1, 1)), rng.uniform(0.1, 0.8, 1), -0.1)
    (found,) = expected_improvement([normal, known, skewed], front, reference)
    y = np.column_stack(
        [
            rng.normal(normal.mean, normal.deviation, draws),
            np.full(draws, known.values[0]),
            np.exp(rng.normal(skewed.mean, skewed.deviation, draws)) - 0.1,
        ]
    )
    before = moocore.hypervolume(front, ref=reference)
    gains = np.array([moocore.hypervolume(np.vstack([front, point]), ref=reference) - before for point in y])
    assert found == pytest.approx(gains.mean(), abs=4 * gains.std() / np.sqrt(draws) + 1e-9)


def test_certain_predictions_give_the_hypervolume_improvement() -> None:
    rng = np.random.default_rng(0)
    front, points, reference = rng.random((10, 3)), rng.random((40, 3)), np.full(3, 1.1)
    before = moocore.hypervolume(front, ref=reference)
    exact = [moocore.hypervolume(np.vstack([front, point]), ref=reference) - before for point in points]
    by_values = expected_improvement([Exact(column) for column in points.T], front, reference)
    nearly = [Exact(points[:, 0]), Exact(points[:, 1]), Normal(points[:, 2], np.full(40, 1e-9))]
    assert by_values == pytest.approx(np.array(exact), abs=1e-12)
    assert expected_improvement(nearly, front, reference) == pytest.approx(np.array(exact), abs=1e-6)


def test_one_objective_is_the_expected_improvement_of_jones() -> None:
    from scipy.stats import norm

    mean, deviation, best = np.array([0.4, 0.9]), np.array([0.2, 0.3]), 0.5
    z = (best - mean) / deviation
    expected = (best - mean) * norm.cdf(z) + deviation * norm.pdf(z)
    found = expected_improvement([Normal(mean, deviation)], np.array([[best]]), np.array([1e6]))
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "marginal", [Normal(np.array([0.3]), np.array([0.5])), LogNormal(np.array([0.2]), np.array([0.7]), -1.0)]
)
def test_probability_and_quantile_agree_with_the_shortfall(marginal: Normal | LogNormal) -> None:
    t, step = 0.6, 1e-5  # psi'(t) = P(Y <= t)
    low, high = marginal.shortfall(np.array([t - step, t + step]))[0]
    assert marginal.probability(t)[0] == pytest.approx((high - low) / (2 * step), abs=1e-6)
    assert marginal.probability(float(marginal.quantile(0.0)[0]))[0] == pytest.approx(0.5)
    assert marginal.centre == marginal.quantile(0.0)
