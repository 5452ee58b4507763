"""The first population: distinct genomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pymoo.core.sampling import Sampling

from evonas.space import BoolArray, IntArray, SearchSpace

__all__ = ["GenomeSampling", "distinct"]

_TRIES = 200  # rounds of rejection before the space is walked in order
_IDLE = 5  # rounds of repair without anything new before giving up on it
_SHUFFLED = 1_000_000  # spaces up to here are drawn from a permutation


class GenomeSampling(Sampling):
    """Distinct genomes, uniformly; fewer than asked for when the space has no more.

    Args:
        space: what to draw from.
        feasible: optional, genomes (n, n_genes) to bool (n,); only True ones are drawn.
    """

    def __init__(self, space: SearchSpace, feasible: Callable[[IntArray], BoolArray] | None = None) -> None:
        super().__init__()
        self.space = space
        self.feasible = feasible

    def _do(self, problem: Any, n_samples: int, *args: Any, random_state: Any = None, **kwargs: Any) -> IntArray:
        return distinct(self.space, n_samples, np.random.default_rng(random_state), feasible=self.feasible)


def distinct(
    space: SearchSpace,
    n: int,
    rng: np.random.Generator,
    *,
    seen: set[bytes] | None = None,
    feasible: Callable[[IntArray], BoolArray] | None = None,
    repair: Callable[[IntArray], IntArray] | None = None,
) -> IntArray:
    """Up to `n` distinct genomes that are not in `seen`, shape (m, n_genes), uniform among those left.

    `feasible` maps genomes (k, n_genes) to bool (k,). m < n only when the space holds no more; in a large space of
    which so little is feasible that drawing does not hit it, also when `repair` (genomes to genomes nearer to being
    feasible) finds no more. What repair finds is not uniform.
    """
    if n <= 0:
        return np.zeros((0, len(space)), dtype=np.int64)
    taken = set(seen or ())
    found: list[IntArray] = []

    def keep(candidates: IntArray) -> None:
        if feasible is not None:
            candidates = candidates[feasible(candidates)]
        for key, genome in zip(space.keys(candidates), candidates, strict=True):
            if len(found) < n and key not in taken:
                taken.add(key)
                found.append(genome)

    if space.size <= _SHUFFLED and 4 * (len(taken) + n) > space.size:
        keep(space.unrank(rng.permutation(space.size)))
    else:
        for _ in range(_TRIES):
            if len(found) == n:
                break
            keep(space.sample(max(64, 2 * (n - len(found))), rng))
        idle = 0
        while repair is not None and len(found) < n and idle < _IDLE:
            before = len(found)
            keep(repair(space.sample(64, rng)))
            idle = 0 if len(found) > before else idle + 1
        if len(found) < n and space.indexable:
            _walk(space, rng, keep, lambda: len(found) == n)
    return np.array(found, dtype=np.int64).reshape(len(found), len(space))


def _walk(
    space: SearchSpace, rng: np.random.Generator, keep: Callable[[IntArray], None], full: Callable[[], bool]
) -> None:
    """Visit every genome once, from a random start with a random stride: for the rare feasible ones."""
    stride = int(rng.integers(1, space.size)) if space.size > 1 else 1
    while np.gcd(stride, space.size) != 1:
        stride += 1
    position, chunk = int(rng.integers(space.size)), 65_536
    for start in range(0, space.size, chunk):
        steps = range(start, min(start + chunk, space.size))
        ranks = np.array([(position + step * stride) % space.size for step in steps], dtype=np.int64)
        keep(space.unrank(ranks))
        if full():
            return
