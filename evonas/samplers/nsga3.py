"""NSGA-III (Deb and Jain 2014, doi:10.1109/TEVC.2013.2281535): pymoo's algorithm with our operators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.util.ref_dirs import get_reference_directions

from evonas.samplers.nsga2 import Nsga2Sampler

__all__ = ["Nsga3Sampler"]


class Nsga3Sampler(Nsga2Sampler):
    """NSGA-III with as many Das-Dennis directions as a generation has room for.

    Arguments, constraints and the end of a finite space are as for `Nsga2Sampler`.
    """

    def _make(self, **operators: Any) -> Any:
        objectives = len(self.task.objectives)
        if objectives == 1:
            return super()._make(**operators)  # one objective has one direction, and nothing to niche by
        partitions = 1
        while math.comb(partitions + objectives, objectives - 1) <= self.population:
            partitions += 1
        directions = get_reference_directions("das-dennis", objectives, n_partitions=partitions)
        selection = TournamentSelection(func_comp=_feasible_first)
        return NSGA3(directions, pop_size=max(self.population, len(directions)), selection=selection, **operators)


def _feasible_first(pop: Any, P: Any, random_state: Any = None, **_: Any) -> Any:
    """The parent that violates less, and at random between equals; pymoo's own breaks these ties unseeded."""
    violation = pop.get("CV")[:, 0]
    first, second = P[:, 0], P[:, 1]
    tie = random_state.random(len(P)) < 0.5
    better = np.where(violation[first] == violation[second], tie, violation[first] < violation[second])
    return np.where(better, first, second)[:, None].astype(int)
