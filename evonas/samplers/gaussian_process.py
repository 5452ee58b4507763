"""Gaussian process regression with a Matern-5/2 kernel plus a linear one, hyperparameters at their mode.

Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning": equations 2.23 to 2.26 (prediction), 4.17
(Matern-5/2), 5.8 and 5.9 (marginal likelihood and its gradient).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from evonas.space import FloatArray, IntArray

__all__ = ["GaussianProcess", "Hyperparameters", "fit"]

_JITTER = 1e-8
_ROOT5 = np.sqrt(5.0)
# Log-normal priors, as mean and standard deviation of the logarithm. Length scales grow with the root of the number of
# inputs, as in Hvarfner et al. 2024 (arXiv:2402.02229), equation 7, but are shorter and surer than theirs: with a few
# dozen points long ones make the model too sure of what it has not seen.
_LENGTH_MEAN, _LENGTH_SD = -0.5, 0.75
_VARIANCE_PRIORS = np.array([[-0.5, 1.0], [0.0, 1.0], [-5.0, 1.5]])  # Matern, linear, noise
# Of the logarithms of length scales, of both variances and of the noise: beyond, a covariance matrix of a few hundred
# points may not be positive definite, and the search for the mode ends where it began.
_LENGTH_BOUNDS, _VARIANCE_BOUNDS, _NOISE_BOUNDS = (-5.0, 8.0), (-8.0, 4.0), (-9.0, 2.0)
_CUT = 500.0  # larger exponents of the kernel are as good as zero


@dataclass(frozen=True)
class Hyperparameters:
    """All as natural logarithms, for targets of variance one.

    Args:
        lengths: length scale of each group of inputs, shape (n_groups,).
        variances: of the Matern kernel, the linear kernel and the noise, shape (3,).
    """

    lengths: FloatArray
    variances: FloatArray

    @classmethod
    def default(cls, groups: int) -> Hyperparameters:
        """The modes of the priors."""
        return cls(np.full(groups, _LENGTH_MEAN + 0.5 * np.log(groups)), _VARIANCE_PRIORS[:, 0].copy())

    @property
    def vector(self) -> FloatArray:
        """All of them, shape (n_groups + 3,)."""
        return np.concatenate([self.lengths, self.variances])

    @classmethod
    def of(cls, vector: FloatArray) -> Hyperparameters:
        """The inverse of `vector`."""
        return cls(vector[:-3].copy(), vector[-3:].copy())


class GaussianProcess:
    """The posterior given data and hyperparameters. Targets are centred and scaled inside.

    Args:
        stationary: inputs of the Matern kernel, shape (n, d).
        linear: inputs of the linear kernel, shape (n, e).
        targets: shape (n,).
        owners: group of each column of `stationary`, shape (d,); a group shares a length scale.
        hyperparameters: as `fit` finds them.
    """

    def __init__(
        self,
        stationary: FloatArray,
        linear: FloatArray,
        targets: FloatArray,
        owners: IntArray,
        hyperparameters: Hyperparameters,
    ) -> None:
        self.hyperparameters = hyperparameters
        self._inverse_lengths = np.exp(-hyperparameters.lengths)[owners]
        self._matern, self._slope, self._noise = np.exp(hyperparameters.variances)
        self._scaled = stationary * self._inverse_lengths
        self._linear = linear
        self._mean, self._deviation = standardisation(targets)
        covariance = self._covariance(self._scaled, self._linear)
        covariance[np.diag_indices_from(covariance)] += self._noise + _JITTER
        self._factor = cholesky(covariance, lower=True)
        self._weights = cho_solve((self._factor, True), (targets - self._mean) / self._deviation)
        # many points are predicted from one factor, and a product with its inverse is faster than a solve
        self._inverse = solve_triangular(self._factor, np.eye(len(covariance)), lower=True, check_finite=False)

    def _covariance(self, scaled: FloatArray, linear: FloatArray) -> FloatArray:
        """Prior covariance between new points and the data, shape (m, n)."""
        squared = squared_distances(scaled, self._scaled)
        result: FloatArray = self._matern * matern(squared) + self._slope * (linear @ self._linear.T)
        return result

    def predict(self, stationary: FloatArray, linear: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation, noise left out, each (m,), at inputs (m, d) and (m, e)."""
        scaled = stationary * self._inverse_lengths
        cross = self._covariance(scaled, linear)
        mean = cross @ self._weights
        explained = cross @ self._inverse.T
        prior = self._matern + self._slope * np.einsum("ij,ij->i", linear, linear)
        variance = np.maximum(prior - np.einsum("ij,ij->i", explained, explained), 1e-12)
        return mean * self._deviation + self._mean, np.sqrt(variance) * self._deviation

    @property
    def noise(self) -> float:
        """Standard deviation of the noise, in the targets' unit."""
        return float(np.sqrt(self._noise) * self._deviation)


def fit(
    stationary: FloatArray,
    linear: FloatArray,
    targets: FloatArray,
    owners: IntArray,
    *,
    start: Hyperparameters | None = None,
    iterations: int = 40,
) -> tuple[Hyperparameters, float]:
    """The mode of the hyperparameters, from `start` or the priors' modes by L-BFGS-B, and the log density there.

    That is the joint density of targets and hyperparameters but for a constant; minus infinity where no mode was found.

    Args:
        stationary: shape (n, d).
        linear: shape (n, e).
        targets: shape (n,).
        owners: shape (d,).
        start: where to begin.
        iterations: at most.
    """
    groups = int(owners.max()) + 1
    mean, deviation = standardisation(targets)
    problem = _Posterior(stationary, linear, (targets - mean) / deviation, owners)
    begin = (start or Hyperparameters.default(groups)).vector
    found = minimize(
        problem,
        begin,
        jac=True,
        method="L-BFGS-B",
        bounds=[_LENGTH_BOUNDS] * groups + [_VARIANCE_BOUNDS] * 2 + [_NOISE_BOUNDS],
        options={"maxiter": iterations},
    )
    if not np.isfinite(found.fun):
        return Hyperparameters.of(begin), -np.inf
    return Hyperparameters.of(found.x), -float(found.fun) - len(targets) * float(np.log(deviation))


class _Posterior:
    """Minus the log posterior density of hyperparameters, and its gradient."""

    def __init__(self, stationary: FloatArray, linear: FloatArray, targets: FloatArray, owners: IntArray) -> None:
        self._stationary = stationary
        self._gram = linear @ linear.T
        self._targets = targets
        self._owners = owners
        groups = int(owners.max()) + 1
        length_prior = [[_LENGTH_MEAN + 0.5 * np.log(groups), _LENGTH_SD]] * groups
        self._prior_mean, self._prior_sd = np.concatenate([np.array(length_prior), _VARIANCE_PRIORS]).T

    def __call__(self, vector: FloatArray) -> tuple[float, FloatArray]:
        scaled = self._stationary * np.exp(-vector[:-3])[self._owners]
        matern_variance, slope, noise = np.exp(vector[-3:])
        squared = squared_distances(scaled, scaled)
        distance = np.sqrt(5.0 * squared)
        decay = np.exp(-np.minimum(distance, _CUT))
        shape = (1.0 + distance + distance**2 / 3.0) * decay
        covariance = matern_variance * shape + slope * self._gram
        n = len(covariance)
        covariance[np.diag_indices(n)] += noise + _JITTER
        try:
            factor = cholesky(covariance, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(vector)
        weights = cho_solve((factor, True), self._targets, check_finite=False)
        value = 0.5 * self._targets @ weights + np.log(np.diag(factor)).sum()
        inner = np.outer(weights, weights) - cho_solve((factor, True), np.eye(n), check_finite=False)

        # d Matern / d log l_g = 5/3 v (1 + r) exp(-r) times the group's share of the squared distance
        weighted = inner * ((5.0 / 3.0) * matern_variance * (1.0 + distance) * decay)
        per_column = 2.0 * (weighted.sum(axis=1) @ scaled**2 - np.einsum("ij,ij->j", scaled, weighted @ scaled))
        lengths = np.bincount(self._owners, per_column, minlength=len(vector) - 3)
        variances = np.array(
            [matern_variance * (inner * shape).sum(), slope * (inner * self._gram).sum(), noise * np.trace(inner)]
        )
        gradient = -0.5 * np.concatenate([lengths, variances])
        deviation = (vector - self._prior_mean) / self._prior_sd
        return float(value + 0.5 * deviation @ deviation), gradient + deviation / self._prior_sd


def matern(squared: FloatArray) -> FloatArray:
    """The Matern-5/2 correlation of scaled squared distances, any shape."""
    distance = np.sqrt(5.0 * squared)
    result: FloatArray = (1.0 + distance + (5.0 / 3.0) * squared) * np.exp(-np.minimum(distance, _CUT))
    return result


def squared_distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """Squared Euclidean distances, shape (n, m), of points (n, d) and (m, d)."""
    norms = np.einsum("ij,ij->i", first, first)[:, None] + np.einsum("ij,ij->i", second, second)
    result: FloatArray = np.maximum(norms - 2.0 * first @ second.T, 0.0)
    return result


def standardisation(targets: FloatArray) -> tuple[float, float]:
    """Mean and standard deviation of targets (n,); a deviation of zero becomes one."""
    deviation = float(targets.std())
    return float(targets.mean()), deviation if deviation > 0.0 else 1.0
