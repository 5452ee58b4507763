"""What every operator must do. A new one inherits the suite of its kind and says how it is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.core.algorithm import Algorithm
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.operator import Operator
from pymoo.core.population import Population
from pymoo.core.problem import Problem as PymooProblem
from pymoo.optimize import minimize
from pymoo.util.ref_dirs import get_reference_directions
from toys import Toy, set_global_state, space_of, spaces_with_genomes, untouched_global_state

from evonas.operators import BudgetRepair, GenomeCrossover, GenomeDuplicates, GenomeMutation, GenomeSampling
from evonas.space import IntArray, SearchSpace

Make = Callable[[SearchSpace], Any]

WITHIN = 9.0  # a budget on the cost of `Toy` that few genomes meet


class Watched(PymooProblem):
    """`Toy` as a pymoo problem that remembers every genome it was asked to evaluate."""

    def __init__(self, toy: Toy) -> None:
        space = toy.space
        super().__init__(n_var=len(space), n_obj=2, xl=np.zeros(len(space)), xu=space.n_choices - 1, vtype=int)
        self.toy = toy
        self.asked: list[IntArray] = []

    def _evaluate(self, X: Any, out: Any, *args: Any, **kwargs: Any) -> None:
        self.asked.append(np.array(X))
        errors = [scores["error"] for scores in self.toy.evaluate(np.asarray(X, dtype=np.int64))]
        out["F"] = np.column_stack([errors, self.toy.exact_values(np.asarray(X, dtype=np.int64))[:, 0]])

    def __deepcopy__(self, memo: dict[int, Any]) -> Watched:
        return self  # pymoo copies what it runs; the record must stay ours


def problem_of(space: SearchSpace) -> PymooProblem:
    """A pymoo problem over `space`, for operators that are called on their own."""
    return PymooProblem(n_var=len(space), n_obj=2, xl=np.zeros(len(space)), xu=space.n_choices - 1, vtype=int)


def over_budget(space: SearchSpace) -> Callable[[IntArray], Any]:
    """How far genomes are past `WITHIN`, as `BudgetRepair` wants it."""
    toy = Toy(space.n_choices.tolist())
    return lambda genomes: toy.exact_values(genomes)[:, :1] - WITHIN


def nsga3(**operators: Any) -> Algorithm:
    """NSGA-III with our operators."""
    return NSGA3(get_reference_directions("das-dennis", 2, n_partitions=11), pop_size=12, **operators)


def sms_emoa(**operators: Any) -> Algorithm:
    """SMS-EMOA with our operators."""
    return SMSEMOA(pop_size=12, **operators)


class OperatorContract(ABC):
    """What holds for operators of every kind. Inherit one of the classes below, and return from `make` a function
    of a space that makes the operator."""

    @pytest.fixture
    def make(self) -> Make:
        """How the operator is made for a space."""
        raise NotImplementedError

    @abstractmethod
    def role(self) -> str:
        """The argument by which a pymoo algorithm takes it."""

    @abstractmethod
    def apply(self, operator: Any, space: SearchSpace, genomes: IntArray, rng: np.random.Generator) -> IntArray:
        """What the operator makes of `genomes` when pymoo calls it."""

    @given(given_=spaces_with_genomes(), seed=st.integers(0, 2**32))
    def test_valid_genomes_come_out(self, make: Make, given_: tuple[SearchSpace, IntArray], seed: int) -> None:
        space, genomes = given_
        result = self.apply(make(space), space, genomes, np.random.default_rng(seed))
        assert np.issubdtype(result.dtype, np.integer)
        space.check(result)

    @given(given_=spaces_with_genomes(), seed=st.integers(0, 2**32))
    def test_what_goes_in_is_left_as_it_was(self, make: Make, given_: tuple[SearchSpace, IntArray], seed: int) -> None:
        space, genomes = given_
        before = genomes.copy()
        self.apply(make(space), space, genomes, np.random.default_rng(seed))
        assert np.array_equal(genomes, before)

    @given(given_=spaces_with_genomes(), seed=st.integers(0, 2**32))
    def test_random_state_decides_everything(self, make: Make, given_: tuple[SearchSpace, IntArray], seed: int) -> None:
        space, genomes = given_
        results = []
        for other in (1, 2):
            set_global_state(other)
            with untouched_global_state():
                results.append(self.apply(make(space), space, genomes, np.random.default_rng(seed)))
        assert np.array_equal(*results)

    @pytest.mark.parametrize("algorithm", [nsga3, sms_emoa])
    @pytest.mark.parametrize("counts", [(4, 3, 1, 5, 4), (6,) * 5], ids=str)
    def test_works_in_other_pymoo_algorithms(
        self, make: Make, algorithm: Callable[..., Algorithm], counts: tuple[int, ...]
    ) -> None:
        space = space_of(counts)
        operators = {
            "sampling": GenomeSampling(space),
            "crossover": GenomeCrossover(space),
            "mutation": GenomeMutation(space),
            "repair": BudgetRepair(space, over_budget(space)),
            "eliminate_duplicates": GenomeDuplicates(space),
        }
        operators[self.role()] = make(space)
        watched = Watched(Toy(counts))
        with untouched_global_state():
            minimize(watched, algorithm(**operators), ("n_gen", 8), seed=1)
        genomes = np.concatenate(watched.asked)
        assert len(genomes) > 30
        space.check(genomes)
        assert len(np.unique(genomes, axis=0)) == len(genomes)  # over the whole run
        assert (over_budget(space)(genomes) <= 0).all()


class SamplingContract(OperatorContract):
    """For `pymoo.core.sampling.Sampling`."""

    def role(self) -> str:
        return "sampling"

    def apply(self, operator: Any, space: SearchSpace, genomes: IntArray, rng: np.random.Generator) -> IntArray:
        return _x(operator(problem_of(space), len(genomes), random_state=rng), space)

    @given(given_=spaces_with_genomes(), seed=st.integers(0, 2**32), n=st.integers(1, 40))
    def test_genomes_are_distinct_and_as_many_as_there_are(
        self, make: Make, given_: tuple[SearchSpace, IntArray], seed: int, n: int
    ) -> None:
        space, _ = given_
        drawn = _x(make(space)(problem_of(space), n, random_state=np.random.default_rng(seed)), space)
        assert len(np.unique(drawn, axis=0)) == len(drawn) == min(n, space.size)


class CrossoverContract(OperatorContract):
    """For `pymoo.core.crossover.Crossover` with two parents and two children."""

    def role(self) -> str:
        return "crossover"

    def apply(self, operator: Any, space: SearchSpace, genomes: IntArray, rng: np.random.Generator) -> IntArray:
        mothers, fathers = Population.new("X", genomes.copy()), Population.new("X", genomes[::-1].copy())
        matings = [[mother, father] for mother, father in zip(mothers, fathers, strict=True)]
        return _x(operator(problem_of(space), matings, random_state=rng), space)

    @given(given_=spaces_with_genomes(), seed=st.integers(0, 2**32))
    def test_every_gene_comes_from_a_parent_and_none_is_lost(
        self, make: Make, given_: tuple[SearchSpace, IntArray], seed: int
    ) -> None:
        space, genomes = given_
        children = self.apply(make(space), space, genomes, np.random.default_rng(seed))
        first, second = children[: len(genomes)], children[len(genomes) :]
        mothers, fathers = genomes, genomes[::-1]
        straight, crossed = (first == mothers) & (second == fathers), (first == fathers) & (second == mothers)
        assert (straight | crossed).all()


class MutationContract(OperatorContract):
    """For `pymoo.core.mutation.Mutation`."""

    def role(self) -> str:
        return "mutation"

    def apply(self, operator: Any, space: SearchSpace, genomes: IntArray, rng: np.random.Generator) -> IntArray:
        return _x(operator(problem_of(space), Population.new("X", genomes.copy()), random_state=rng), space)

    @given(given_=spaces_with_genomes(max_genomes=30), seed=st.integers(0, 2**32))
    def test_trap_pymoo_mutation_often_does_nothing(
        self, make: Make, given_: tuple[SearchSpace, IntArray], seed: int
    ) -> None:
        """The usual integer recipe leaves most genomes of a few choices as they are; ours changes every one."""
        space, genomes = given_
        mutated = self.apply(make(space), space, genomes, np.random.default_rng(seed))
        changed = (mutated != genomes).any(axis=1)
        assert changed.all() if (space.n_choices > 1).any() else not changed.any()


class RepairContract(OperatorContract):
    """For `pymoo.core.repair.Repair`; `make` must hold genomes to `over_budget`."""

    def role(self) -> str:
        return "repair"

    def apply(self, operator: Any, space: SearchSpace, genomes: IntArray, rng: np.random.Generator) -> IntArray:
        return _x(operator(problem_of(space), Population.new("X", genomes.copy()), random_state=rng), space)

    @given(given_=spaces_with_genomes())
    def test_the_budget_is_met_and_what_met_it_is_left_alone(
        self, make: Make, given_: tuple[SearchSpace, IntArray]
    ) -> None:
        space, genomes = given_
        within = (over_budget(space)(genomes) <= 0).all(axis=1)
        repaired = self.apply(make(space), space, genomes, np.random.default_rng(0))
        assert (over_budget(space)(repaired) <= 0).all()  # all genes at their lowest always meet it
        assert np.array_equal(repaired[within], genomes[within])


class DuplicatesContract(OperatorContract):
    """For `pymoo.core.duplicate.DuplicateElimination`."""

    def role(self) -> str:
        return "eliminate_duplicates"

    def apply(self, operator: Any, space: SearchSpace, genomes: IntArray, rng: np.random.Generator) -> IntArray:
        return _x(operator.do(Population.new("X", genomes.copy())), space)

    @given(given_=spaces_with_genomes(max_genomes=20), parts=st.integers(1, 5))
    def test_each_genome_passes_once_over_all_history(
        self, make: Make, given_: tuple[SearchSpace, IntArray], parts: int
    ) -> None:
        """Whether or not it is still in the population or among the offspring that pymoo compares with."""
        space, genomes = given_
        operator: DuplicateElimination = make(space)
        passed: list[tuple[int, ...]] = []
        for rows in np.array_split(genomes, parts):
            if len(rows):
                population = Population.new("X", rows.copy())
                passed += map(tuple, _x(operator.do(population, Population.empty()), space).tolist())
        assert sorted(passed) == sorted(set(map(tuple, genomes.tolist())))

    def test_the_population_and_the_offspring_count_too(self, make: Make) -> None:
        space = space_of((3, 3))
        parents, offspring = Population.new("X", np.array([[0, 0]])), Population.new("X", np.array([[1, 1]]))
        new = Population.new("X", np.array([[0, 0], [1, 1], [2, 2]]))
        assert _x(make(space).do(new, parents, offspring), space).tolist() == [[2, 2]]


def _x(population: Population | Operator, space: SearchSpace) -> IntArray:
    """The genomes of a population, shape (n, n_genes)."""
    return np.array([individual.X for individual in population], dtype=None).reshape(-1, len(space)).astype(np.int64)
