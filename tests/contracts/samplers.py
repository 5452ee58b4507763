"""What every sampler must do. A new sampler inherits `SamplerContract` and says how it is made."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Toy, every_genome, genomes_of, known, run, set_global_state, task_of, untouched_global_state

from evonas.evaluate import Task, evaluate
from evonas.samplers.base import Sampler

Make = Callable[[Task, int], Sampler]

MIDDLING = (4, 3, 1, 5, 4)  # 240 genomes, one gene without a choice
HUGE = (10,) * 20  # 10^20 genomes: more than an int64 can number


class SamplerContract:
    """Inherit, and return the sampler's class, or a function of a task and a seed, from the fixture `make`."""

    @pytest.fixture
    def make(self) -> Make:
        """How the sampler is made from a task and a seed."""
        raise NotImplementedError

    # what is proposed

    @pytest.mark.parametrize("counts", [MIDDLING, (9,) * 9, HUGE], ids=str)
    def test_proposes_valid_genomes_and_none_twice(self, make: Make, counts: tuple[int, ...]) -> None:
        task = task_of(Toy(counts))
        found = genomes_of(run(make(task, 0), 230))
        assert len(found) == 230
        assert len(set(found)) == 230
        task.space.check(found)

    @pytest.mark.parametrize(("counts", "cost"), [(MIDDLING, 9), ((6,) * 8, 14), (HUGE, 60)], ids=str)
    def test_proposes_only_what_meets_the_exact_constraints(
        self, make: Make, counts: tuple[int, ...], cost: float
    ) -> None:
        task = task_of(Toy(counts), cost=cost)
        found = run(make(task, 1), 60)
        assert len(found) == 60
        assert all(evaluation.values["cost"] <= cost for evaluation in found)
        assert {evaluation.status for evaluation in found} == {"ok"}

    @pytest.mark.parametrize(
        ("counts", "cost", "error"),
        [
            ((1,), None, None),
            ((2,), None, None),
            ((7,), None, None),
            ((1, 1, 1), None, None),
            ((1, 3, 1, 2), None, None),
            ((3, 3, 3, 3), None, None),
            (MIDDLING, None, None),
            (MIDDLING, 9, None),
            (MIDDLING, 0, None),
            ((6, 6, 6, 6), 5, None),
            ((6, 6, 6, 6), 1, None),
            ((3, 3, 3, 3), None, 2.0),
            ((3, 3, 3, 3), 7, 2.0),
            ((3, 3, 3, 3), None, -1.0),
        ],
    )
    def test_ends_when_every_feasible_genome_was_proposed_once(
        self, make: Make, counts: tuple[int, ...], cost: float | None, error: float | None
    ) -> None:
        task = task_of(Toy(counts), cost=cost, error=error)
        space = every_genome(task.space)
        feasible = [g for g in space if cost is None or task.problem.exact_values(np.array([g]))[0, 0] <= cost]
        sampler = make(task, 3)
        assert sorted(genomes_of(run(sampler))) == sorted(feasible)
        assert sampler.ask(5).shape == (0, len(counts))  # and it stays so
        assert sampler.ask(1).shape == (0, len(counts))
        assert sampler.exhausted

    def test_an_empty_ask_says_whether_the_sampler_waits_or_is_at_its_end(self, make: Make) -> None:
        task = task_of(Toy((3, 4, 2)))
        sampler, pending = make(task, 0), []
        while len(asked := sampler.ask(7)):
            assert not sampler.exhausted
            pending += [tuple(genome) for genome in asked.tolist()]
        if not sampler.exhausted:
            sampler.tell(evaluate(task, np.array(pending), 0))
            asked = sampler.ask(1)
            assert len(asked) == 1 or sampler.exhausted
            pending += [tuple(genome) for genome in asked.tolist()]
        if sampler.exhausted:
            assert sorted(pending) == every_genome(task.space)

    def test_never_returns_more_than_was_asked_for(self, make: Make) -> None:
        task = task_of(Toy(MIDDLING))
        sampler = make(task, 0)
        for n in (1, 2, 3, 50, 1, 7):
            asked = sampler.ask(n)
            assert asked.dtype == np.int64
            assert asked.ndim == 2
            assert 1 <= len(asked) <= n
            sampler.tell(evaluate(task, asked, 0))

    # reproducibility

    @pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
    def test_the_same_seed_gives_the_same_run(self, make: Make, seed: int) -> None:
        task = task_of(Toy((6, 5, 4, 6)), cost=20, error=4.0)
        assert known(run(make(task, seed), 150)) == known(run(make(task, seed), 150))

    @pytest.mark.parametrize("size", [1, 3, 20, 1000])
    def test_how_many_are_asked_for_at_a_time_does_not_matter(self, make: Make, size: int) -> None:
        task = task_of(Toy((6, 5, 4, 6)))
        changing = random.Random(size)
        expected = genomes_of(run(make(task, 5), 130))
        assert genomes_of(run(make(task, 5), 130, ask=lambda: size)) == expected
        assert genomes_of(run(make(task, 5), 130, ask=lambda: changing.randint(1, size))) == expected

    @settings(max_examples=15)  # each shuffles every batch of a run, and some samplers think long
    @given(order=st.randoms(use_true_random=False))
    def test_a_batch_may_be_told_in_any_order(self, make: Make, order: random.Random) -> None:
        task = task_of(Toy((6, 5, 4, 6)))
        expected = genomes_of(run(make(task, 2), 100))
        assert genomes_of(run(make(task, 2), 100, order=lambda told: order.sample(told, len(told)))) == expected

    def test_a_batch_may_be_told_one_by_one(self, make: Make) -> None:
        task = task_of(Toy((6, 5, 4, 6)))
        sampler, found = make(task, 2), []
        while len(found) < 100:
            for genome in sampler.ask(100 - len(found)):
                found += evaluate(task, genome[None], len(found))
                sampler.tell(found[-1:])
                sampler.tell([])
        assert genomes_of(found) == genomes_of(run(make(task, 2), 100))

    @pytest.mark.parametrize("cut", [0, 1, 19, 20, 21, 64, 99])
    def test_a_fresh_sampler_fed_the_record_goes_on_as_if_never_stopped(self, make: Make, cut: int) -> None:
        task = task_of(Toy((6, 5, 4, 6), broken=lambda genome: sum(genome) % 5 == 0), error=4.0)
        whole = run(make(task, 4), 100)
        replayed = run(make(task, 4), 100, replay=run(make(task, 4), cut))
        assert known(replayed) == known(whole)

    def test_global_random_state_is_neither_read_nor_changed(self, make: Make) -> None:
        task = task_of(Toy((6, 5, 4, 6)), cost=20)
        runs = []
        for seed in (1, 2):
            set_global_state(seed)
            with untouched_global_state():
                runs.append(known(run(make(task, 0), 120)))
        assert runs[0] == runs[1]

    # failures

    def test_survives_when_every_evaluation_fails(self, make: Make) -> None:
        task = task_of(Toy(MIDDLING, broken=lambda _: True))
        found = run(make(task, 0))
        assert sorted(genomes_of(found)) == every_genome(task.space)
        assert {evaluation.status for evaluation in found} == {"failed"}

    @pytest.mark.parametrize("share", [2, 10], ids=["half succeed", "one in ten succeeds"])
    def test_survives_when_some_evaluations_fail(self, make: Make, share: int) -> None:
        task = task_of(Toy(MIDDLING, broken=lambda genome: sum(genome) % share != 0), error=5.0)
        found = run(make(task, 0))
        assert sorted(genomes_of(found)) == every_genome(task.space)
        assert {evaluation.status for evaluation in found} == {"ok", "failed"}

    def test_survives_when_evaluations_begin_to_fail_later(self, make: Make) -> None:
        task = task_of(Toy(MIDDLING))
        sampler = make(task, 0)
        run(sampler, 40)
        task.problem.broken = lambda _: True  # type: ignore[attr-defined]
        assert len(run(sampler)) == 200

    def test_one_objective_is_enough(self, make: Make) -> None:
        task = task_of(Toy(MIDDLING), objectives=["error"])
        assert sorted(genomes_of(run(make(task, 0)))) == every_genome(task.space)
