"""The scale on which a surrogate models an objective."""

from __future__ import annotations

import numpy as np
import pytest

from evonas.samplers.features import Features
from evonas.samplers.models import GpModel, Scale
from evonas.space import Gene, SearchSpace

SPACE = SearchSpace([Gene(f"g{i}", tuple(range(6))) for i in range(4)])


def fitted(values: np.ndarray, genomes: np.ndarray) -> GpModel:
    model = GpModel(Features(SPACE))
    model.fit(genomes, values, np.random.default_rng(0))
    return model


@pytest.mark.parametrize("seed", range(5))
def test_a_process_models_an_objective_on_the_scale_on_which_it_is_smooth(seed: int) -> None:
    """A sum over genes as it is, or bent very little; its exponential by a logarithm that straightens it."""
    genomes = SPACE.sample(40, np.random.default_rng(seed))
    total = genomes @ np.array([1.0, 0.6, 0.3, 0.1]) / 2.0
    long_tail = np.exp(2.0 * total)
    assert np.corrcoef(total, fitted(total, genomes).scale.apply(total))[0, 1] > 0.99
    straightened = fitted(long_tail, genomes).scale.apply(long_tail)
    assert np.corrcoef(total, straightened)[0, 1] > np.corrcoef(total, long_tail)[0, 1] + 0.15


def test_a_scale_is_left_once_a_value_lies_below_its_shift() -> None:
    """However seldom it is fitted again."""
    genomes = SPACE.sample(100, np.random.default_rng(0))
    values = np.exp(genomes @ np.array([1.0, 0.6, 0.3, 0.1]))
    model = fitted(values[:99], genomes[:99])
    shift = model.scale.shift
    assert shift is not None
    values[99] = shift - 1.0
    model.fit(genomes, values, np.random.default_rng(0))
    assert model.scale.covers(values)
    assert np.isfinite(model.predict(genomes).centre).all()


def test_the_scales_jacobian_is_that_of_finite_differences() -> None:
    values, step = np.array([0.5, 2.0, 7.0]), 1e-6
    for scale in Scale.candidates(values):
        slopes = (scale.apply(values + step) - scale.apply(values)) / step
        assert scale.log_jacobian(values) == pytest.approx(np.log(slopes).sum(), abs=1e-5)
