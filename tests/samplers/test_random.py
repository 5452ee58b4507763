"""Random search without replacement."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from contracts.samplers import HUGE, Make, SamplerContract
from toys import Toy, every_genome, genomes_of, run, task_of

from evonas.samplers.random import RandomSampler


class TestRandom(SamplerContract):
    @pytest.fixture
    def make(self) -> Make:
        return RandomSampler


def test_another_seed_gives_another_run() -> None:
    task = task_of(Toy((6, 5, 4, 6)))
    assert genomes_of(run(RandomSampler(task, 0), 50)) != genomes_of(run(RandomSampler(task, 1), 50))


def test_every_feasible_genome_is_equally_likely_to_be_first() -> None:
    task = task_of(Toy((3, 3)), cost=3)
    feasible = [g for g in every_genome(task.space) if g[0] + 2 * g[1] <= 3]
    first = Counter(tuple(RandomSampler(task, seed).ask(1)[0].tolist()) for seed in range(600))
    assert sorted(first) == sorted(feasible)
    expected = 600 / len(feasible)
    assert all(abs(count - expected) < 4.5 * expected**0.5 for count in first.values())


def test_levels_of_a_huge_space_are_equally_likely() -> None:
    genomes = np.array(genomes_of(run(RandomSampler(task_of(Toy(HUGE)), 0), 512)))
    counts = np.bincount(genomes.ravel(), minlength=10)
    assert np.abs(counts - genomes.size / 10).max() < 4.5 * (genomes.size / 10) ** 0.5


def test_what_was_told_changes_nothing() -> None:
    told, untold = (RandomSampler(task_of(Toy((6, 5, 4, 6))), 0) for _ in range(2))
    assert genomes_of(run(told, 100)) == [tuple(genome.tolist()) for _ in range(100) for genome in untold.ask(1)]
