"""Where to start: the greedy path along sensitivities per cost, and a spread over the exact objectives."""

from __future__ import annotations

import numpy as np

from evonas.evaluate import Task
from evonas.problem.base import Sensitivities
from evonas.samplers.features import alike, coordinates
from evonas.space import FloatArray, IntArray

__all__ = ["greedy_path", "log_costs", "spread", "thinned"]

_CANDIDATES = 2048  # random genomes among which a spread is chosen


def log_costs(task: Task, genomes: IntArray) -> FloatArray:
    """The front's exact objectives on comparable scales, to be minimised, shape (n, n_exact), of genomes (n, n_genes).

    The logarithm where an objective is positive over the space, its share of the range otherwise.
    """
    names = [objective.name for objective in task.problem.exact]
    values = task.problem.exact_values(genomes)
    columns = []
    for objective in task.objectives:
        if objective.exact:
            column = values[:, names.index(objective.name)]
            low, high = task.bounds.lowest[objective.name], task.bounds.highest[objective.name]
            scaled = np.log(np.maximum(column, low)) if low > 0 else (column - low) / (high - low)
            columns.append(objective.sign * scaled)
    return np.stack(columns, axis=1) if columns else np.zeros((len(genomes), 0))


def greedy_path(task: Task, sensitivities: Sensitivities) -> IntArray:
    """From the highest choice of every gene to the lowest, one step at a time, shape (steps + 1, n_genes).

    Each step lowers the gene that gains most cost for the sensitivity that it adds. Genes without sensitivities
    stay at their highest choice.
    """
    harm = np.maximum.accumulate(np.nan_to_num(np.maximum(sensitivities.values, 0.0))[:, ::-1], axis=1)[:, ::-1]
    free = np.flatnonzero(np.isfinite(sensitivities.values).any(axis=1))
    current = task.space.n_choices - 1
    path = [current]
    while (movable := free[current[free] > 0]).size:
        tried = np.repeat(current[None], len(movable) + 1, axis=0)
        tried[np.arange(len(movable)), movable] -= 1
        costs = log_costs(task, tried)
        gained = (costs[-1] - costs[:-1]).sum(axis=1) if costs.shape[1] else np.ones(len(movable))
        added = harm[movable, current[movable] - 1] - harm[movable, current[movable]]
        current = tried[int(np.argmax(gained / (added + 1e-9)))]
        path.append(current)
    return np.array(path)


def thinned(task: Task, path: IntArray, n: int) -> IntArray:
    """Up to `n` genomes of a path (m, n_genes), its ends among them, evenly spaced in the logarithm of cost."""
    costs = log_costs(task, path)
    length = costs.mean(axis=1) if costs.shape[1] else -np.arange(len(path), dtype=np.float64)
    wanted = np.linspace(length[0], length[-1], n)
    nearest = np.abs(length[:, None] - wanted).argmin(axis=0)
    kept: IntArray = path[np.unique(nearest)]
    return kept


def spread(task: Task, n: int, rng: np.random.Generator) -> IntArray:
    """`n` genomes that spread over the exact objectives, shape (n, n_genes); not necessarily distinct.

    The first half are uniform: every ordered gene as far along its line as every other, from the highest choices to
    the lowest, and all genes with the same categories at the same one. The rest are chosen from random genomes, each
    farthest from all before it in the logarithm of cost (in the genes themselves where nothing is exact).
    """
    diagonal = _diagonal(task, -(-n // 2), rng)
    candidates = task.space.sample(_CANDIDATES, rng)
    candidates = candidates[task.feasible(candidates)]
    points = np.concatenate([diagonal, candidates])
    place = log_costs(task, points)
    if place.shape[1] == 0:
        place = np.stack([coordinates(gene)[points[:, i]] for i, gene in enumerate(task.space.genes)], axis=1)
    span = np.ptp(place, axis=0)
    place = place / np.where(span > 0, span, 1.0)
    chosen = list(range(len(diagonal)))
    distance = np.min([np.square(place - place[row]).sum(axis=1) for row in chosen], axis=0)
    while len(chosen) < min(n, len(points)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.square(place - place[chosen[-1]]).sum(axis=1))
    return points[chosen]


def _diagonal(task: Task, n: int, rng: np.random.Generator) -> IntArray:
    """`n` genomes whose ordered genes go together from the highest choice to the lowest.

    Genes with the same categories all have the same one, a different one every time; other categories are random.
    """
    genomes = task.space.sample(n, rng)
    for genes in alike(task.space):
        count = len(task.space.genes[genes[0]].choices)
        orders = [rng.permutation(count) for _ in range(-(-n // count))]
        genomes[:, genes] = np.concatenate(orders)[:n, None]
    share = np.linspace(1.0, 0.0, n)
    for i, gene in enumerate(task.space.genes):
        if gene.ordered:
            genomes[:, i] = np.round(share * (len(gene.choices) - 1)).astype(np.int64)
    return genomes
