"""Scores of runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.errors import InvalidArgument
from evonas.study.scoring import ecdf, evaluations_to, hypervolume_curve, indicators, padded, reference


@given(seed=st.integers(0, 1000), k=st.integers(1, 4), n=st.integers(1, 40))
def test_the_curve_is_the_hypervolume_of_every_prefix(seed: int, k: int, n: int) -> None:
    values = np.random.default_rng(seed).random((n, k))
    against = reference(values, "union of all runs")
    curve = hypervolume_curve(values, against)
    assert (np.diff(curve) >= -1e-12).all()
    assert curve[-1] == pytest.approx(1.0)
    whole = against.hypervolume(against.front)
    for i in (0, n // 2):
        assert curve[i] == pytest.approx(against.hypervolume(values[: i + 1]) / whole)


def test_scale_and_shift_of_an_objective_do_not_matter() -> None:
    values = np.random.default_rng(0).random((30, 3))
    moved = values * [1e-6, 1.0, 1e9] + [5.0, -3.0, 1e9]
    first, second = (hypervolume_curve(v, reference(v, "enumerated")) for v in (values, moved))
    assert first == pytest.approx(second, abs=1e-6)


def test_failures_add_nothing() -> None:
    values = np.array([[1.0, 1.0], [np.nan, np.nan], [0.0, 2.0]])
    against = reference(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]), "enumerated")
    curve = hypervolume_curve(values, against)
    assert curve[1] == curve[0]
    assert curve[2] > curve[1]
    assert indicators(values[1:2], against) == {"igd+": np.inf, "epsilon": np.inf}
    assert indicators(against.front, against) == {"igd+": 0.0, "epsilon": 0.0}


def test_misses_are_censored_and_charges_counted() -> None:
    curve = np.array([0.5, 0.9, 0.95])
    assert evaluations_to(curve, 0.9) == 2
    assert evaluations_to(curve, 0.99) == np.inf
    assert padded(curve, 6, 2).tolist() == [0, 0, 0.5, 0.9, 0.95, 0.95]
    assert padded(curve, 4, 2).tolist() == [0, 0, 0.5, 0.9]
    assert ecdf(np.array([[1.0, 3.0], [np.inf, 2.0]]), 4).tolist() == [0.25, 0.5, 0.75, 0.75]


def test_an_empty_reference_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="at least one"):
        reference(np.zeros((0, 2)), "enumerated")
