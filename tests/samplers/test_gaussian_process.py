"""The Gaussian process, against scikit-learn's and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

from evonas.samplers import gaussian_process
from evonas.samplers.gaussian_process import GaussianProcess, Hyperparameters, fit, standardisation


def data(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.random((n, 3))
    return inputs, np.sin(4 * inputs[:, 0]) + inputs[:, 1] + 0.05 * rng.standard_normal(n)


@pytest.mark.parametrize("seed", range(3))
def test_predictions_are_those_of_scikit_learn(seed: int) -> None:
    inputs, targets = data(seed)
    rng = np.random.default_rng(seed + 100)
    lengths, variances = rng.uniform(-1, 1, 3), np.array([0.3, -0.7, -4.0])
    matern, slope, noise = np.exp(variances)
    kernel = ConstantKernel(matern) * Matern(np.exp(lengths), nu=2.5) + ConstantKernel(slope) * DotProduct(sigma_0=0.0)
    theirs = GaussianProcessRegressor(kernel + WhiteKernel(noise), alpha=1e-8, optimizer=None)
    mean, deviation = standardisation(targets)
    theirs.fit(inputs, (targets - mean) / deviation)
    points = rng.random((20, 3))
    their_mean, their_deviation = theirs.predict(points, return_std=True)
    ours = GaussianProcess(inputs, inputs, targets, np.arange(3), Hyperparameters(lengths, variances))
    our_mean, our_deviation = ours.predict(points, points)
    assert our_mean == pytest.approx(their_mean * deviation + mean, abs=1e-7)
    # scikit-learn's deviation is of an observation, ours of the function
    assert our_deviation**2 == pytest.approx(deviation**2 * (their_deviation**2 - noise), abs=1e-7)
    assert ours.noise == pytest.approx(np.sqrt(noise) * deviation)


def test_the_gradient_is_that_of_finite_differences() -> None:
    inputs, targets = data(0)
    posterior = gaussian_process._Posterior(inputs, inputs, targets / targets.std(), np.array([0, 0, 1]))
    at = np.array([0.3, -0.4, 0.1, -0.5, -3.0])
    numeric = approx_fprime(at, lambda vector: posterior(vector)[0], 1e-6)
    assert posterior(at)[1] == pytest.approx(numeric, abs=1e-3)


def test_fitting_finds_the_noise_and_which_inputs_matter() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.random((150, 3))
    targets = np.sin(6 * inputs[:, 0]) + 0.2 * rng.standard_normal(150)
    found, _ = fit(inputs, np.ones((150, 1)), targets, np.arange(3))
    assert found.lengths[0] < min(found.lengths[1:])
    assert GaussianProcess(inputs, np.ones((150, 1)), targets, np.arange(3), found).noise == pytest.approx(
        0.2, rel=0.25
    )


def test_fitting_without_noise_gets_somewhere() -> None:
    """Where there is no noise its estimate falls until rounding breaks the factorisation; the fit must not give up."""
    genomes = np.random.default_rng(1).integers(0, 5, (200, 4))
    inputs, owners = np.eye(5)[genomes].reshape(200, -1) / np.sqrt(2.0), np.repeat(np.arange(4), 5)
    targets = np.log(1.01 - 0.9 * (genomes == 2).any(axis=1))
    found, _ = fit(inputs, np.concatenate([np.ones((200, 1)), inputs], axis=1), targets, owners)
    assert not np.array_equal(found.vector, Hyperparameters.default(4).vector)


@pytest.mark.parametrize("targets", [np.zeros(5), np.array([1e100, 0, 0, 0, 1.0])])
def test_constant_and_huge_targets_are_survived(targets: np.ndarray) -> None:
    inputs = np.linspace(0, 1, 5)[:, None]
    found, _ = fit(inputs, inputs, targets, np.zeros(1, dtype=np.int64))
    mean, deviation = GaussianProcess(inputs, inputs, targets, np.zeros(1, dtype=np.int64), found).predict(
        inputs, inputs
    )
    assert np.isfinite(mean).all()
    assert np.isfinite(deviation).all()
