"""What every problem must do. A new problem inherits `ProblemContract` and says how it is made."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import set_global_state, untouched_global_state

from evonas.problem import Problem
from evonas.space import IntArray

Make = Callable[[], Problem]


def scored(problem: Problem, genome: IntArray) -> dict[str, float]:
    """The measured objectives of one genome."""
    (scores,) = problem.evaluate(genome[None])
    return dict(scores)


def some_genomes(problem: Problem, n: int, seed: int = 0) -> IntArray:
    """The corners of the space and `n` random genomes."""
    return np.concatenate([problem.space.corners(), problem.space.sample(n, np.random.default_rng(seed))])


class ProblemContract:
    """Inherit, and return from the fixture `make` a function that makes the problem anew, with nothing kept.

    Set `has_models` to False for a problem that is not about networks.
    """

    has_models = True

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Make:
        """How the problem is made."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def problem(cls, make: Make) -> Problem:
        """One that may have evaluated anything."""
        return make()

    @pytest.fixture(scope="class")
    @classmethod
    def alone(cls, make: Make, problem: Problem) -> list[tuple[IntArray, dict[str, float]]]:
        """Genomes, each with the scores that a problem gives that never evaluated anything else."""
        return [(genome, scored(make(), genome)) for genome in some_genomes(problem, 4)]

    def test_says_what_it_is(self, problem: Problem) -> None:
        names = [objective.name for objective in problem.objectives]
        assert problem.name
        assert len(set(names)) == len(names)
        assert set(problem.default_objectives) <= set(names)
        assert json.loads(json.dumps(dict(problem.options))) == dict(problem.options)

    # exact objectives

    def test_exact_values_of_many_are_those_of_each(self, problem: Problem) -> None:
        genomes = some_genomes(problem, 200)
        together = problem.exact_values(genomes)
        assert together.shape == (len(genomes), len(problem.exact))
        assert together.dtype == np.float64
        apart = np.concatenate([problem.exact_values(genome[None]) for genome in genomes])
        assert together.tobytes() == apart.tobytes()

    def test_exact_values_are_finite_and_lie_within_their_bounds(self, problem: Problem) -> None:
        values = problem.exact_values(some_genomes(problem, 200))
        assert np.isfinite(values).all()
        for objective, column in zip(problem.exact, values.T, strict=True):
            if objective.bounds:
                assert (objective.bounds[0] <= column).all()
                assert (column <= objective.bounds[1]).all()

    def test_exact_values_of_none(self, problem: Problem) -> None:
        none = np.zeros((0, len(problem.space)), dtype=np.int64)
        assert problem.exact_values(none).shape == (0, len(problem.exact))

    # measured objectives

    def test_scores_have_the_measured_names(self, alone: list, problem: Problem) -> None:
        for _, scores in alone:
            assert set(scores) == {objective.name for objective in problem.measured}
            assert all(math.isfinite(score) for score in scores.values())

    @settings(max_examples=12)
    @given(order=st.randoms(use_true_random=False), data=st.data())
    def test_a_score_depends_on_nothing_that_was_evaluated_before(
        self, problem: Problem, alone: list, order: random.Random, data: st.DataObject
    ) -> None:
        """Neither on other candidates, nor on the order, nor on how often: bit for bit."""
        extra = data.draw(st.integers(0, 2**16))
        for genome in problem.space.sample(2, np.random.default_rng(extra)):
            problem.evaluate(genome[None])
        for genome, scores in order.choices(alone, k=len(alone)):
            assert scored(problem, genome) == scores

    @settings(max_examples=12)
    @given(order=st.randoms(use_true_random=False))
    def test_a_score_does_not_depend_on_its_batch(self, problem: Problem, alone: list, order: random.Random) -> None:
        chosen = order.sample(alone, order.randint(1, len(alone)))
        together = problem.evaluate(np.stack([genome for genome, _ in chosen]))
        assert [dict(scores) for scores in together] == [scores for _, scores in chosen]

    def test_a_score_does_not_depend_on_the_threads(self, make: Make, alone: list) -> None:
        before = torch.get_num_threads()
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                problem = make()
                assert [scored(problem, genome) for genome, _ in alone] == [scores for _, scores in alone]
                assert torch.get_num_threads() == threads  # and leaves them as they were
        finally:
            torch.set_num_threads(before)

    def test_global_random_state_is_neither_read_nor_changed(self, make: Make, alone: list) -> None:
        genome, scores = alone[-1]
        for seed in (1, 2):
            set_global_state(seed)
            with untouched_global_state():
                problem = make()
                problem.exact_values(genome[None])
                assert scored(problem, genome) == scores
                problem.test(genome)
                problem.describe(genome)
                problem.details(genome)

    def test_genomes_are_not_changed(self, problem: Problem) -> None:
        genomes = some_genomes(problem, 1)
        before = genomes.copy()
        problem.exact_values(genomes)
        problem.evaluate(genomes)
        assert np.array_equal(genomes, before)

    # what is shown and returned

    def test_a_genome_is_described_in_one_line_and_in_rows(self, problem: Problem) -> None:
        low, high = problem.space.corners()
        assert "\n" not in problem.describe(low)
        assert problem.describe(low) != problem.describe(high)
        rows = problem.details(low)
        assert rows
        assert all(set(row) == set(rows[0]) for row in rows)
        assert problem.details(low) != problem.details(high)

    def test_estimates_hold_their_value(self, problem: Problem) -> None:
        for name, estimate in problem.test(problem.space.corners()[1]).items():
            assert name in {objective.name for objective in problem.measured}
            assert estimate.low <= estimate.value <= estimate.high

    def test_an_unknown_objective_is_refused_with_those_there_are(self, problem: Problem) -> None:
        with pytest.raises(LookupError, match=problem.objectives[0].name):
            problem.objective("no such thing")

    def test_models_are_plain_modules_or_refused(self, problem: Problem) -> None:
        genome = problem.space.corners()[1]
        if self.has_models:
            assert isinstance(problem.model(genome), torch.nn.Module)
        else:
            with pytest.raises(ValueError, match="no models"):
                problem.model(genome)
