"""Small real problems, and what tests need around them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product

import numpy as np
import torch
from hypothesis import strategies as st

from evonas.evaluate import Evaluation, Task, evaluate
from evonas.objective import Constraint, Objective
from evonas.problem import Problem
from evonas.samplers.base import Sampler
from evonas.space import FloatArray, Gene, IntArray, SearchSpace


def space_of(counts: Sequence[int], per_layer: int = 2) -> SearchSpace:
    """Genes `g0`, `g1`, ... with the choices 0, 1, ...; `per_layer` neighbouring genes form a layer."""
    return SearchSpace([Gene(f"g{i}", tuple(range(n)), group=f"layer{i // per_layer}") for i, n in enumerate(counts)])


def every_genome(space: SearchSpace) -> list[tuple[int, ...]]:
    """All genomes of a small space, by brute force."""
    return list(product(*(range(len(gene.choices)) for gene in space.genes)))


class Toy(Problem):
    """Higher choices cost more and err less, so that nearly every cost has its own best error.

    Args:
        counts: choices of each gene.
        broken: genomes on which `evaluate` raises.
        flat: the error is the same everywhere.
    """

    name = "toy"

    def __init__(
        self, counts: Sequence[int], *, broken: Callable[[tuple[int, ...]], bool] | None = None, flat: bool = False
    ) -> None:
        self.space = space_of(counts)
        self.objectives = (Objective("error"), Objective("cost", "bit", exact=True), Objective("top", exact=True))
        self.default_objectives = ("error", "cost")
        self.options = {}
        self.broken = broken
        self.flat = flat

    def exact_values(self, genomes: IntArray) -> FloatArray:
        """`cost`: a weighted sum; `top`: the highest index."""
        prices = np.arange(len(self.space)) % 3 + 1
        return np.stack([(genomes * prices).sum(axis=1), genomes.max(axis=1)], axis=1).astype(np.float64)

    def evaluate(self, genomes: IntArray) -> list[dict[str, float]]:
        """`error`: halves with every step, summed over genes, with a kink and many ties."""
        scores = []
        for genome in genomes:
            key = tuple(genome.tolist())
            if self.broken is not None and self.broken(key):
                raise RuntimeError(f"{key} does not run")
            error = sum(2.0**-index for index in key) + 0.25 * (key[0] % 2)
            scores.append({"error": 0.5 if self.flat else error})
        return scores


def task_of(
    problem: Problem, *, cost: float | None = None, error: float | None = None, objectives: Sequence[str] | None = None
) -> Task:
    """A search of `problem`, with at most `cost` (exact) and at most `error` (measured)."""
    limits = {"cost": cost, "error": error}
    constraints = [Constraint(problem.objective(name), limit) for name, limit in limits.items() if limit is not None]
    return Task.make(problem, objectives, constraints)


def run(
    sampler: Sampler,
    budget: int = 10_000,
    *,
    ask: Callable[[], int] = lambda: 64,
    order: Callable[[list[Evaluation]], list[Evaluation]] = lambda told: told,
    replay: Sequence[Evaluation] = (),
) -> list[Evaluation]:
    """What is evaluated when `sampler` is asked and told until the budget is spent or it proposes nothing more.

    Args:
        sampler: under test.
        budget: evaluations.
        ask: size of the next batch.
        order: in which a batch is told.
        replay: evaluations told from a record instead of being made.
    """
    made: list[Evaluation] = []
    while len(made) < budget:
        genomes = sampler.ask(min(ask(), budget - len(made)))
        if len(genomes) == 0:
            break
        batch = []
        for genome in genomes:
            number = len(made) + len(batch)
            if number < len(replay):
                assert replay[number].genome == tuple(genome.tolist())
                batch.append(replay[number])
            else:
                batch += evaluate(sampler.task, genome[None], number)
        made += batch
        sampler.tell(order(batch))
    return made


def genomes_of(evaluations: Sequence[Evaluation]) -> list[tuple[int, ...]]:
    """The genomes, in order."""
    return [evaluation.genome for evaluation in evaluations]


def known(evaluations: Sequence[Evaluation]) -> list[tuple[object, ...]]:
    """All that two runs must agree on; the seconds are not."""
    return [(e.number, e.genome, dict(e.values), e.status, e.error) for e in evaluations]


def global_state() -> tuple[object, ...]:
    """The state of every global random generator, comparable with ==."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - the global one is the point
    return random.getstate(), (name, keys.tolist(), position, has_gauss, cached), torch.get_rng_state().tolist()


def set_global_state(seed: int) -> None:
    """Seed every global random generator."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global one is the point
    torch.manual_seed(seed)


@contextmanager
def untouched_global_state() -> Iterator[None]:
    """Fail if the block draws from a global random generator, or seeds one."""
    before = global_state()
    yield
    assert global_state() == before


counts_lists = st.lists(st.integers(1, 5), min_size=1, max_size=6)


@st.composite
def spaces_with_genomes(draw: st.DrawFn, max_genomes: int = 8) -> tuple[SearchSpace, IntArray]:
    """A small space, and some of its genomes, shape (n, n_genes), repeats among them."""
    space = space_of(draw(counts_lists), per_layer=draw(st.integers(1, 3)))
    genome = st.tuples(*(st.integers(0, int(n) - 1) for n in space.n_choices))
    rows = draw(st.lists(genome, min_size=1, max_size=max_genomes))
    return space, np.array(rows, dtype=np.int64)
