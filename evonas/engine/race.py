"""Validate genomes together, and drop on the way those that cannot reach what they must."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evonas.engine.engine import Engine
from evonas.engine.scores import Labelled, Totals, totals
from evonas.racing import RISK, Raced, beaten, most_right
from evonas.space import FloatArray, IntArray

__all__ = ["race"]


def race(engine: Engine, genomes: IntArray, heats: Sequence[Labelled], least: FloatArray) -> list[Raced]:
    """Accuracy and loss of `genomes` (n, n_genes) on all `heats`; after each, those that are beaten are stopped.

    What becomes of one does not depend on the others.

    Args:
        engine: of their network.
        genomes: that race.
        heats: the samples in random order, divided at the looks.
        least: accuracies below which they are of no use, shape (n,).

    Raises:
        FloatingPointError: an output is not finite.
    """
    total, risk = sum(heat.count for heat in heats), RISK / max(1, len(heats) - 1)
    raced: dict[int, Raced] = {}
    running = np.arange(len(genomes))
    walk, found = engine.walk(genomes, heats[0].inputs[:2]), Totals.none(len(genomes))
    for heat in heats:
        found += totals(walk, len(genomes), heat)
        if not found.finite[running].all():
            raise FloatingPointError("the network's output is not finite")
        if found.count == total:
            break
        lost = beaten(found.right[running], found.count, total, least[running], risk)
        for row in running[lost].tolist():
            right = int(found.right[row])
            bound = most_right(right, found.count, total, risk) / total
            raced[row] = Raced(None, found.count, right / found.count, bound)
        running = running[~lost]
        if not len(running):
            break
        walk = walk.only(running, total - found.count)
    scored = found.scores()
    for row in running.tolist():
        raced[row] = Raced({"accuracy": float(scored.accuracy[row]), "loss": float(scored.loss[row])}, total)
    return [raced[row] for row in range(len(genomes))]
