"""Duplicate elimination over all history."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.operators import DuplicatesContract, Make, Watched, nsga3
from pymoo.optimize import minimize
from toys import Toy

from evonas.operators import GenomeCrossover, GenomeDuplicates, GenomeMutation, GenomeSampling


class TestGenomeDuplicates(DuplicatesContract):
    @pytest.fixture
    def make(self) -> Make:
        return GenomeDuplicates


@pytest.mark.parametrize(("ours", "repeats"), [(True, False), (False, True)], ids=["ours", "pymoo's own"])
def test_trap_pymoo_forgets_what_left_the_population(ours: bool, repeats: bool) -> None:
    """Its own elimination compares with the current population alone, and evaluates most of a small space again."""
    toy = Toy((3, 3, 3, 3))
    watched = Watched(toy)
    algorithm = nsga3(
        sampling=GenomeSampling(toy.space),
        crossover=GenomeCrossover(toy.space),
        mutation=GenomeMutation(toy.space),
        eliminate_duplicates=GenomeDuplicates(toy.space) if ours else True,
    )
    minimize(watched, algorithm, ("n_gen", 20), seed=0)
    genomes = np.concatenate(watched.asked)
    assert (len(np.unique(genomes, axis=0)) < len(genomes)) == repeats


def test_two_runs_of_one_algorithm_do_not_share_a_history() -> None:
    toy = Toy((3, 3, 3, 3))
    algorithm = nsga3(
        sampling=GenomeSampling(toy.space),
        crossover=GenomeCrossover(toy.space),
        mutation=GenomeMutation(toy.space),
        eliminate_duplicates=GenomeDuplicates(toy.space),
    )
    runs = []
    for _ in range(2):
        watched = Watched(toy)
        minimize(watched, algorithm, ("n_gen", 4), seed=3)
        runs.append(np.concatenate(watched.asked).tolist())
    assert runs[0] == runs[1]
