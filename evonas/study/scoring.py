"""How good a run was: hypervolume against evaluations, evaluations to a target, and other indicators.

All values are to be minimised. A reference is the front that runs are measured against: the enumerated one where it
is known, otherwise the union of all runs. Samplers never see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import moocore
import numpy as np

from evonas.errors import InvalidArgument
from evonas.pareto import non_dominated
from evonas.space import FloatArray

__all__ = [
    "FACTORS",
    "TARGETS",
    "Origin",
    "Reference",
    "area",
    "ecdf",
    "evaluations_to",
    "hypervolume_curve",
    "indicators",
    "reference",
]

Origin = Literal["enumerated", "union of all runs"]

TARGETS = (0.80, 0.90, 0.95, 0.98, 0.99)  # shares of the reference's hypervolume
FACTORS = (1.1, 1.5)  # reference points, in units of the front's range; the first is the one reported first


@dataclass(frozen=True)
class Reference:
    """A front and the box in which hypervolume is measured.

    Args:
        front: its points, shape (n, k).
        lower: the front's ideal point, shape (k,).
        span: the front's range, shape (k,); ones where it has none.
        origin: where it comes from.
    """

    front: FloatArray
    lower: FloatArray
    span: FloatArray
    origin: Origin

    def scaled(self, values: FloatArray) -> FloatArray:
        """Values (n, k) such that the front's range is 0 to 1."""
        result: FloatArray = (values - self.lower) / self.span
        return result

    def hypervolume(self, values: FloatArray, factor: float = FACTORS[0]) -> float:
        """Hypervolume of values (n, k), scaled, below the point with `factor` in every coordinate."""
        scaled = self.scaled(values)
        inside = scaled[(scaled < factor).all(axis=1)]
        if len(inside) == 0:
            return 0.0
        if inside.shape[1] == 1:
            return float(factor - inside.min())
        return float(moocore.hypervolume(inside, ref=np.full(inside.shape[1], factor)))


def reference(values: FloatArray, origin: Origin) -> Reference:
    """The reference whose front is the non-dominated part of `values`, shape (n, k).

    Raises:
        InvalidArgument: no values.
    """
    if len(values) == 0:
        raise InvalidArgument("a reference front needs at least one evaluated point, got none")
    front = np.unique(values[non_dominated(values)], axis=0)
    lower = front.min(axis=0)
    span = np.ptp(front, axis=0)
    return Reference(front, lower, np.where(span > 0, span, 1.0), origin)


def hypervolume_curve(values: FloatArray, against: Reference, factor: float = FACTORS[0]) -> FloatArray:
    """Share of the reference's hypervolume that the first 1, 2, ..., n points cover, shape (n,).

    Args:
        values: in the order of evaluation, shape (n, k); rows of NaN (failed) add nothing.
        against: the reference.
        factor: of the reference point.
    """
    whole = against.hypervolume(against.front, factor)
    curve = np.zeros(len(values))
    front = np.zeros((0, values.shape[1]))
    share = 0.0
    for i, point in enumerate(values):
        if np.isfinite(point).all() and not (front <= point).all(axis=1).any():
            front = np.concatenate([front[~(point <= front).all(axis=1)], point[None]])
            share = against.hypervolume(front, factor) / whole
        curve[i] = share
    return curve


def evaluations_to(curve: FloatArray, target: float, first: int = 1) -> float:
    """Evaluations until `curve` (n,) reaches `target`; infinite when it never does (a censored observation).

    Args:
        curve: share of the hypervolume after each evaluation.
        target: share to reach.
        first: evaluations spent when `curve[0]` was reached: more than one for a sampler with a charge.
    """
    reached = np.flatnonzero(curve >= target)
    return float(reached[0] + first) if len(reached) else np.inf


def area(curve: FloatArray) -> float:
    """Mean share of the hypervolume over all evaluations: the area under the curve, 0 to 1."""
    return float(curve.mean())


def ecdf(times: FloatArray, budget: int) -> FloatArray:
    """Share of (seed, target) pairs reached after 1, ..., `budget` evaluations, shape (budget,).

    `times` (any shape) are evaluations to each target, infinite where missed (Hansen et al. 2021, COCO,
    doi:10.1080/10556788.2020.1808977, section 4.2).
    """
    spent = np.arange(1, budget + 1)
    shares: FloatArray = (times.reshape(-1, 1) <= spent).mean(axis=0)
    return shares


def indicators(values: FloatArray, against: Reference) -> dict[str, float]:
    """IGD+ (Ishibuchi et al. 2015) and additive epsilon (Zitzler et al. 2003) of values (n, k), scaled; 0 is best."""
    finite = values[np.isfinite(values).all(axis=1)]
    if len(finite) == 0:
        return {"igd+": np.inf, "epsilon": np.inf}
    front, target = against.scaled(finite[non_dominated(finite)]), against.scaled(against.front)
    return {
        "igd+": float(moocore.igd_plus(front, ref=target)),
        "epsilon": float(moocore.epsilon_additive(front, ref=target)),
    }


def padded(curve: Sequence[float] | FloatArray, budget: int, charge: int = 0) -> FloatArray:
    """`curve` after 1, ..., `budget` evaluations: zero while the charge is spent, the last value once it ends."""
    found = np.concatenate([np.zeros(charge), np.asarray(curve, dtype=np.float64)])[:budget]
    last = found[-1] if len(found) else 0.0
    return np.concatenate([found, np.full(budget - len(found), last)])
