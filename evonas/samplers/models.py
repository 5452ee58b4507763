"""Surrogates of one measured objective: a Gaussian process while that is affordable, ridge and trees beyond."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from evonas.samplers.features import Features
from evonas.samplers.gaussian_process import GaussianProcess, Hyperparameters, fit, standardisation
from evonas.samplers.improvement import LogNormal, Marginal, Normal
from evonas.space import FloatArray, IntArray

__all__ = ["GpModel", "Kind", "Model", "Scale", "TreeModel", "make_model"]

Kind = Literal["auto", "gp", "trees"]

_GP_POINTS = 500  # beyond, `auto` takes trees
_FIT_POINTS = 250  # hyperparameters are fitted to at most so many
_EVERY_STEP = 60  # up to here hyperparameters are fitted at every step,
_GROWTH = 1.04  # beyond, when the data has grown by this factor
_ROOMS = (1.0, 2.0, 4.0)  # below the smallest value, in units of the median's distance from it
_TREES = 100
_TREES_GROWTH = 1.01
_LEAF = 2  # samples at least in a leaf


@dataclass(frozen=True)
class Scale:
    """The scale on which an objective is modelled: as it is, or the logarithm of what it exceeds `shift` by.

    With a logarithm a long tail of bad values does not drown the differences between good ones; where values are
    logarithms already, it only distorts.

    Args:
        shift: below every value; None: the objective as it is.
    """

    shift: float | None = None

    @classmethod
    def candidates(cls, values: FloatArray) -> list[Scale]:
        """The scales worth trying for values to be minimised (n,).

        Shifts lie below the smallest value, by multiples of the distance from there to the median.
        """
        best, middle = float(values.min()), float(np.median(values))
        return [cls(), *(cls(best - room * (middle - best)) for room in _ROOMS if middle > best)]

    @classmethod
    def most_normal(cls, values: FloatArray) -> Scale:
        """The candidate under which values (n,) look most normal (Box and Cox 1964, section 3: profile likelihood)."""

        def likelihood(scale: Scale) -> float:
            deviation = max(float(scale.apply(values).std()), 1e-300)
            return scale.log_jacobian(values) - len(values) * float(np.log(deviation))

        return max(cls.candidates(values), key=likelihood)

    def covers(self, values: FloatArray) -> bool:
        """Whether all of `values` have a place on it."""
        return self.shift is None or bool(values.min() > self.shift)

    def apply(self, values: FloatArray) -> FloatArray:
        """`values` as the model sees them."""
        return values if self.shift is None else np.log(values - self.shift)

    def log_jacobian(self, values: FloatArray) -> float:
        """Logarithm of the volume by which `apply` changes densities at values (n,)."""
        return 0.0 if self.shift is None else -float(np.log(values - self.shift).sum())

    def marginal(self, mean: FloatArray, deviation: FloatArray) -> Marginal:
        """The distribution of an objective whose model says `mean` and `deviation`, each (n,)."""
        deviation = np.maximum(deviation, 1e-9)
        return Normal(mean, deviation) if self.shift is None else LogNormal(mean, deviation, self.shift)


class Model(ABC):
    """Learns one objective from genomes; predicts its distribution for others.

    Args:
        features: of the genomes.
    """

    def __init__(self, features: Features) -> None:
        self.features = features
        self.scale = Scale()

    @abstractmethod
    def fit(self, genomes: IntArray, values: FloatArray, rng: np.random.Generator) -> None:
        """Learn from genomes (n, n_genes) and values to be minimised (n,)."""

    @abstractmethod
    def believe(self, genomes: IntArray) -> None:
        """Take what is predicted for genomes (n, n_genes) for true, until the next `fit`."""

    @abstractmethod
    def predict(self, genomes: IntArray) -> Marginal:
        """The distribution of the objective, noise left out, at genomes (m, n_genes)."""


class GpModel(Model):
    """A Gaussian process; scale and hyperparameters are fitted again as the data grows.

    The scale is the one under which the process explains the values best: with the highest joint density of values and
    hyperparameters at the mode (a warped Gaussian process: Snelson, Rasmussen and Ghahramani 2004).
    """

    def __init__(self, features: Features) -> None:
        super().__init__(features)
        self._modes: list[Hyperparameters | None] = [None] * (1 + len(_ROOMS))  # of each candidate scale
        self._fitted = 0

    def fit(self, genomes: IntArray, values: FloatArray, rng: np.random.Generator) -> None:
        stationary, linear = self.features.stationary(genomes), self.features.linear(genomes)
        due = len(genomes) <= _EVERY_STEP or len(genomes) >= _GROWTH * self._fitted
        if due or not self.scale.covers(values):
            rows = np.arange(len(genomes))
            if len(rows) > _FIT_POINTS:
                rows = np.sort(rng.choice(rows, _FIT_POINTS, replace=False))
            self._choose(stationary[rows], linear[rows], values[rows], Scale.candidates(values))
            self._fitted = len(genomes)
        self._data = (stationary, linear, self.scale.apply(values))
        self._condition()

    def _choose(self, stationary: FloatArray, linear: FloatArray, values: FloatArray, scales: list[Scale]) -> None:
        """The scale and the hyperparameters that explain values (n,) best."""
        best = -np.inf
        for i, scale in enumerate(scales):
            targets = scale.apply(values)
            mode, density = fit(stationary, linear, targets, self.features.owners, start=self._modes[i])
            self._modes[i] = mode
            if density + scale.log_jacobian(values) > best or i == 0:
                best, self.scale, self._hyperparameters = density + scale.log_jacobian(values), scale, mode

    def _condition(self) -> None:
        self._process = GaussianProcess(*self._data, self.features.owners, self._hyperparameters)

    def believe(self, genomes: IntArray) -> None:
        stationary, linear = self.features.stationary(genomes), self.features.linear(genomes)
        mean, _ = self._process.predict(stationary, linear)
        added = (stationary, linear, mean)
        self._data = tuple(np.concatenate(pair) for pair in zip(self._data, added, strict=True))  # type: ignore[assignment]
        self._condition()

    def predict(self, genomes: IntArray) -> Marginal:
        mean, deviation = self._process.predict(self.features.stationary(genomes), self.features.linear(genomes))
        return self.scale.marginal(mean, deviation)


class TreeModel(Model):
    """Ridge regression plus extremely randomised trees (Geurts et al. 2006) on what it leaves.

    The deviation is the spread of the trees. Fitted again as the data grows.
    """

    def __init__(self, features: Features) -> None:
        super().__init__(features)
        self._fitted = 0

    def fit(self, genomes: IntArray, values: FloatArray, rng: np.random.Generator) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        if len(genomes) < _TREES_GROWTH * self._fitted:
            return  # one point more or less hardly changes an ensemble, and growing it takes as long as choosing
        self._fitted = len(genomes)
        self.scale = Scale.most_normal(values)
        linear = self.features.linear(genomes)
        targets = self.scale.apply(values)
        self._mean, self._deviation = standardisation(targets)
        scaled = (targets - self._mean) / self._deviation
        self._coefficients = _ridge(linear, scaled)
        self._trees = ExtraTreesRegressor(
            _TREES, min_samples_leaf=_LEAF, bootstrap=True, random_state=int(rng.integers(2**31)), n_jobs=1
        )
        self._trees.fit(self.features.stationary(genomes), scaled - linear @ self._coefficients)

    def believe(self, genomes: IntArray) -> None:
        """Trees have nothing to condition; batches differ by their fantasies on the front alone."""

    def predict(self, genomes: IntArray) -> Marginal:
        stationary = self.features.stationary(genomes).astype(np.float32)
        votes = np.stack([tree.predict(stationary, check_input=False) for tree in self._trees.estimators_])
        mean = self.features.linear(genomes) @ self._coefficients + votes.mean(axis=0)
        return self.scale.marginal(mean * self._deviation + self._mean, votes.std(axis=0) * self._deviation)


def _ridge(inputs: FloatArray, targets: FloatArray) -> FloatArray:
    """Coefficients (d,) with the penalty, from a fixed list, of the least generalised cross-validation error.

    Golub, Heath and Wahba 1979, doi:10.1080/00401706.1979.10489751.
    """
    n = len(inputs)
    gram, projected = inputs.T @ inputs, inputs.T @ targets
    best: tuple[float, FloatArray] = (np.inf, np.zeros(inputs.shape[1]))
    for penalty in (1e-3, 1e-2, 1e-1, 1.0, 10.0):
        factor = cho_factor(gram + penalty * np.eye(len(gram)))
        coefficients = cho_solve(factor, projected)
        freedom = n - float(np.trace(cho_solve(factor, gram)))
        error = n * float(np.square(targets - inputs @ coefficients).sum()) / max(freedom, 1e-9) ** 2
        if error < best[0]:
            best = (error, coefficients)
    return best[1]


def make_model(kind: Kind, points: int, features: Features) -> Model:
    """The model of that kind for so many data points."""
    if kind == "trees" or (kind == "auto" and points > _GP_POINTS):
        return TreeModel(features)
    return GpModel(features)
