"""What every sampler does: propose genomes, and learn from their evaluations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from evonas.evaluate import Evaluation, Task
from evonas.operators.sampling import distinct
from evonas.samplers.repairing import budget_repair
from evonas.space import IntArray

__all__ = ["Sampler"]


class Sampler(ABC):
    """Proposes genomes (`ask`) and learns from evaluations (`tell`); never evaluates.

    No genome is proposed twice, and none that breaks an exact constraint. The same seed and the same tells give
    the same proposals, however many are asked for at a time.

    Args:
        task: what is searched.
        seed: of every random choice the sampler makes.

    Attributes:
        charge: what the sampler spent besides evaluations, such as a problem's sensitivities, in evaluations. It
            counts against the budget, rounded up.
        exhausted: whether nothing is left to propose. It is known when `ask` comes back empty; if it is False then,
            pending genomes must be told first.
    """

    charge: float = 0.0
    exhausted: bool = False

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.space = task.space
        self.rng = np.random.default_rng(seed)
        self.proposed: set[bytes] = set()
        self._queue: list[IntArray] = []
        self._repair: Callable[[IntArray], IntArray] | None = None

    def ask(self, n: int) -> IntArray:
        """Up to `n` new genomes, shape (m, n_genes).

        m is zero when every genome was proposed (`exhausted`), or when pending ones must be told first.
        """
        if not self._queue:
            block = self._next_block()
            self.exhausted = len(block) == 0 and not self._waiting
            self.proposed.update(self.space.keys(block))
            self._queue = list(block)
        asked, self._queue = self._queue[:n], self._queue[n:]
        return np.array(asked, dtype=np.int64).reshape(len(asked), len(self.space))

    def begin_with(self, genomes: IntArray) -> None:
        """Propose distinct genomes (n, n_genes) first, in place of the sampler's own start; before it is asked."""
        self._queue = list(genomes)
        self.proposed.update(self.space.keys(genomes))

    def _random_genomes(self, n: int, beside: Iterable[bytes] = ()) -> IntArray:
        """Up to `n` random feasible genomes that were not proposed and are not `beside` (keys), shape (m, n_genes).

        Where drawing does not hit the feasible ones, random genomes are repaired.
        """
        if self._repair is None and self.task.exact_constraints:
            self._repair = budget_repair(self.task, ball=1).repaired
        seen = self.proposed.union(beside)
        return distinct(self.space, n, self.rng, seen=seen, feasible=self.task.feasible, repair=self._repair)

    def _fresh(self, genomes: IntArray) -> IntArray:
        """Those of genomes (n, n_genes) that are feasible and were not proposed, each once, in order."""
        unique = dict(zip(self.space.keys(genomes), genomes, strict=True))
        rows = [genome for key, genome in unique.items() if key not in self.proposed]
        kept = np.array(rows, dtype=np.int64).reshape(len(rows), len(self.space))
        return kept[self.task.feasible(kept)]

    def _completed(self, genomes: IntArray, n: int) -> IntArray:
        """The fresh ones of genomes (m, n_genes), made up to `n` with random ones, shape (up to n, n_genes)."""
        fresh = self._fresh(genomes)[:n]
        return np.concatenate([fresh, self._random_genomes(n - len(fresh), self.space.keys(fresh))])

    @property
    def _waiting(self) -> bool:
        """Whether an empty block means that pending genomes must be told; never, unless a sampler says so."""
        return False

    @abstractmethod
    def _next_block(self) -> IntArray:
        """The next genomes, none in `self.proposed`, shape (m, n_genes); as many as suits the sampler."""

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from evaluations of proposed genomes, in any order, failed ones among them; nothing by default."""
        return
