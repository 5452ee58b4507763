"""Exhaustive search."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.samplers import HUGE, MIDDLING, Make, SamplerContract
from toys import Toy, every_genome, genomes_of, run, task_of

from evonas.samplers import make_sampler
from evonas.samplers.grid import GridSampler


class TestGrid(SamplerContract):
    @pytest.fixture
    def make(self) -> Make:
        return GridSampler


@pytest.mark.parametrize("seed", [0, 1])
def test_goes_in_lexicographic_order_whatever_the_seed(seed: int) -> None:
    task = task_of(Toy(MIDDLING))
    assert genomes_of(run(GridSampler(task, seed))) == every_genome(task.space)


def test_counts_past_what_an_int64_can_number() -> None:
    sampler = GridSampler(task_of(Toy(HUGE)), 0)
    genomes = np.concatenate([sampler.ask(64) for _ in range(100)])
    assert genomes[0].tolist() == [0] * 20
    assert genomes[6_399].tolist() == [0] * 16 + [6, 3, 9, 9]  # the number 6399 in base 10


def test_brute_force_is_another_name_for_it() -> None:
    assert isinstance(make_sampler("brute-force", task_of(Toy((2, 2))), 0), GridSampler)
