"""Expected hypervolume improvement when some objectives are known exactly and the others have a distribution.

With independent objectives the expectation factorises over any partition of the dominated region into boxes
(Emmerich, Deutz and Klinkenberg 2011, doi:10.1109/CEC.2011.5949880; Yang et al. 2019, doi:10.1007/s10898-019-00798-7).
Each factor needs only psi(t) = E[max(t - Y, 0)], which has a closed form for normal and log-normal Y and is
max(t - c, 0) for an exact c. All objectives are minimised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from evonas.space import FloatArray

__all__ = ["Exact", "LogNormal", "Marginal", "Normal", "dominated_boxes", "expected_improvement"]

_CELLS = 4_000_000  # candidates times boxes handled at a time, which bounds memory
_LARGEST_EXPONENT = 600.0


class Marginal(ABC):
    """The distribution of one objective at n candidates."""

    @abstractmethod
    def shortfall(self, bounds: FloatArray) -> FloatArray:
        """psi: the expectation of max(t - Y, 0) for every t in `bounds` (m,), shape (n, m)."""

    @abstractmethod
    def probability(self, limit: float) -> FloatArray:
        """P(Y <= limit), shape (n,)."""

    @abstractmethod
    def take(self, rows: slice) -> Marginal:
        """Of some of the candidates."""

    @property
    @abstractmethod
    def centre(self) -> FloatArray:
        """The median, shape (n,)."""

    @abstractmethod
    def quantile(self, deviations: float) -> FloatArray:
        """The value that many standard deviations from the centre, shape (n,)."""


@dataclass(frozen=True)
class Exact(Marginal):
    """Known values, shape (n,)."""

    values: FloatArray

    def shortfall(self, bounds: FloatArray) -> FloatArray:
        return np.maximum(bounds - self.values[:, None], 0.0)

    def probability(self, limit: float) -> FloatArray:
        return (self.values <= limit).astype(np.float64)

    def take(self, rows: slice) -> Exact:
        return Exact(self.values[rows])

    @property
    def centre(self) -> FloatArray:
        return self.values

    def quantile(self, deviations: float) -> FloatArray:
        return self.values


@dataclass(frozen=True)
class Normal(Marginal):
    """Y ~ N(mean, deviation), each shape (n,)."""

    mean: FloatArray
    deviation: FloatArray

    def shortfall(self, bounds: FloatArray) -> FloatArray:
        gap = bounds - self.mean[:, None]
        deviation = self.deviation[:, None]
        z = gap / deviation
        density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
        result: FloatArray = np.maximum(gap * ndtr(z) + deviation * density, 0.0)
        return result

    def probability(self, limit: float) -> FloatArray:
        result: FloatArray = ndtr((limit - self.mean) / self.deviation)
        return result

    def take(self, rows: slice) -> Normal:
        return Normal(self.mean[rows], self.deviation[rows])

    @property
    def centre(self) -> FloatArray:
        return self.mean

    def quantile(self, deviations: float) -> FloatArray:
        return self.mean + deviations * self.deviation


@dataclass(frozen=True)
class LogNormal(Marginal):
    """log(Y - shift) ~ N(mean, deviation), each shape (n,)."""

    mean: FloatArray
    deviation: FloatArray
    shift: float = 0.0

    def shortfall(self, bounds: FloatArray) -> FloatArray:
        # E[max(t - X, 0)] = t Phi(z) - exp(m + s^2/2) Phi(z - s), the Black-Scholes put
        above = np.maximum(bounds - self.shift, 1e-300)
        deviation = self.deviation[:, None]
        z = (np.log(above) - self.mean[:, None]) / deviation
        mean = np.exp(np.minimum(self.mean[:, None] + 0.5 * deviation**2, _LARGEST_EXPONENT))
        result: FloatArray = np.maximum(above * ndtr(z) - mean * ndtr(z - deviation), 0.0)
        return result

    def probability(self, limit: float) -> FloatArray:
        if limit <= self.shift:
            return np.zeros(len(self.mean))
        result: FloatArray = ndtr((np.log(limit - self.shift) - self.mean) / self.deviation)
        return result

    def take(self, rows: slice) -> LogNormal:
        return LogNormal(self.mean[rows], self.deviation[rows], self.shift)

    @property
    def centre(self) -> FloatArray:
        return self.quantile(0.0)

    def quantile(self, deviations: float) -> FloatArray:
        exponent = np.minimum(self.mean + deviations * self.deviation, _LARGEST_EXPONENT)
        result: FloatArray = np.exp(exponent) + self.shift
        return result


def dominated_boxes(front: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The region that `front` (n, k) dominates below `reference` (k,), as disjoint boxes.

    Points that do not lie strictly below the reference are left out. Algorithm: Lacour, Klamroth and Fonseca 2017,
    doi:10.1016/j.cor.2016.06.021 (local upper bounds with their defining points; theorem 3.1 for the boxes).

    Returns:
        Lower and upper corners, each (m, k); m grows linearly with n for k <= 3 and as n^(k/2) beyond.
    """
    k = len(reference)
    inside = front[(front < reference).all(axis=1)]
    bounds = reference[None].copy()  # local upper bounds, (u, k)
    # the point that defines coordinate j of each bound, (u, k, k); at first a dummy at the reference in j
    defining = np.full((1, k, k), -np.inf)
    defining[0, np.arange(k), np.arange(k)] = reference
    for point in inside[np.lexsort(inside.T[::-1])]:
        hit = (point < bounds).all(axis=1)
        if not hit.any():
            continue
        old, old_defining = bounds[hit], defining[hit]
        new, new_defining = [bounds[~hit]], [defining[~hit]]
        for j in range(k):
            others = np.delete(old_defining, j, axis=1)[:, :, j]  # coordinate j of the other defining points
            kept = (point[j] >= others.max(axis=1)) if k > 1 else np.ones(len(old), dtype=np.bool_)
            made, made_defining = old[kept].copy(), old_defining[kept].copy()
            made[:, j] = point[j]
            made_defining[:, j] = point
            new.append(made)
            new_defining.append(made_defining)
        bounds, defining = np.concatenate(new), np.concatenate(new_defining)
    lower, upper = np.empty_like(bounds), bounds.copy()  # equation 2
    lower[:, 0], upper[:, 0] = defining[:, 0, 0], reference[0]
    for j in range(1, k):
        lower[:, j] = defining[:, :j, j].max(axis=1)
    full = (upper > lower).all(axis=1)
    return lower[full], upper[full]


def expected_improvement(marginals: Sequence[Marginal], front: FloatArray, reference: FloatArray) -> FloatArray:
    """Expected growth of the hypervolume that `front` (n, k) has below `reference` (k,), shape (m,) for m candidates.

    The volume that a candidate dominates, less its overlap with every box of what is dominated already:
    prod_j psi_j(r_j) - sum_i prod_j [psi_j(u_ij) - psi_j(l_ij)].

    Args:
        marginals: one an objective, of the same m candidates each.
        front: values of the known points.
        reference: the corner that bounds the hypervolume.
    """
    lower, upper = dominated_boxes(front, reference)
    n = len(marginals[0].centre)
    rows = max(1, _CELLS // max(1, len(lower)))
    found = np.empty(n)
    for start in range(0, n, rows):
        part = slice(start, min(start + rows, n))
        overlap: FloatArray | float = 1.0
        volume = np.ones(part.stop - start)
        for j, marginal in enumerate(marginals):
            bounds, inverse = np.unique(
                np.concatenate([lower[:, j], upper[:, j], reference[j : j + 1]]), return_inverse=True
            )
            psi = marginal.take(part).shortfall(bounds)
            low, high, top = inverse[: len(lower)], inverse[len(lower) : -1], inverse[-1]
            overlap = overlap * (psi[:, high] - psi[:, low])
            volume *= psi[:, top]
        found[part] = volume - (np.sum(overlap, axis=1) if len(lower) else 0.0)
    return np.maximum(found, 0.0)
