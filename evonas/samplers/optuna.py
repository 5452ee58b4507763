"""Any sampler of Optuna (Akiba et al. 2019, arXiv:1907.10902), asked through our interface."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState
from threadpoolctl import threadpool_limits

from evonas.errors import InvalidArgument, unknown_name
from evonas.evaluate import Evaluation, Task
from evonas.samplers.base import Sampler
from evonas.space import IntArray

__all__ = ["OptunaSampler", "TpeSampler", "optuna_samplers"]

_TRIES = 50  # proposals in a row that are repeats or infeasible, before a random genome is taken


def optuna_samplers() -> list[str]:
    """Names of Optuna's samplers that can be seeded and need nothing else."""
    names = []
    for name, cls in vars(optuna.samplers).items():
        if inspect.isclass(cls) and issubclass(cls, optuna.samplers.BaseSampler) and not inspect.isabstract(cls):
            parameters = inspect.signature(cls).parameters
            needed = [p for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
            if "seed" in parameters and not needed:
                names.append(name)
    return sorted(names)


class OptunaSampler(Sampler):
    """One of Optuna's samplers, in its documented settings.

    Ordered genes are integers, others categories. Optuna proposes repeats (TPE in a fifth of its trials or more): those
    are answered from memory and cost nothing. Genomes over an exact constraint are reported as failed, and so are
    failed evaluations; measured constraints are passed on. When a sampler proposes nothing new any more, random genomes
    do.

    Args:
        task: what is searched.
        seed: of Optuna's sampler and of the random genomes.
        name: of a class in `optuna.samplers`.
        options: keyword arguments of that class.

    Raises:
        UnknownName: Optuna has no such sampler.
        InvalidArgument: it does not take the options, or cannot search several objectives.
    """

    def __init__(self, task: Task, seed: int, *, name: str = "TPESampler", **options: Any) -> None:
        super().__init__(task, seed)
        if name not in optuna_samplers():
            raise unknown_name("sampler of Optuna", name, optuna_samplers())
        self._name = name
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                sampler = getattr(optuna.samplers, name)(seed=int(self.rng.integers(2**31)), **options)
            except TypeError as error:
                raise InvalidArgument(f"sampler optuna:{name} does not take these options: {error}") from None
        self._study = optuna.create_study(directions=["minimize"] * len(task.objectives), sampler=sampler)
        self._distributions: dict[str, BaseDistribution] = {
            gene.name: IntDistribution(0, len(gene.choices) - 1)
            if gene.ordered
            else CategoricalDistribution(tuple(range(len(gene.choices))))
            for gene in self.space.genes
        }
        self._trials: dict[bytes, optuna.Trial] = {}  # proposed and not told yet
        self._known: dict[bytes, Evaluation] = {}

    def _next_block(self) -> IntArray:
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")
            for _ in range(_TRIES):
                if len(self.proposed) >= self.space.size:
                    break
                trial, genome = self._ask()
                key = genome.tobytes()
                if key in self._known:
                    self._answer(trial, self._known[key])
                elif key in self.proposed or not self.task.feasible(genome[None])[0]:
                    self._study.tell(trial, state=TrialState.FAIL)
                else:
                    self._trials[key] = trial
                    return genome[None]
        return self._random()

    def _ask(self) -> tuple[optuna.Trial, IntArray]:
        try:
            trial = self._study.ask(self._distributions)
        except Exception as error:
            raise InvalidArgument(f"sampler optuna:{self._name} cannot search this problem: {error}") from None
        return trial, np.array([trial.params[gene.name] for gene in self.space.genes], dtype=np.int64)

    def begin_with(self, genomes: IntArray) -> None:
        """`genomes` (n, n_genes) are Optuna's first trials."""
        super().begin_with(genomes)
        self._enqueue(genomes)

    def _random(self) -> IntArray:
        """A genome that was not proposed."""
        genomes = self._random_genomes(1)
        self._enqueue(genomes)
        return genomes

    def _enqueue(self, genomes: IntArray) -> None:
        """Have Optuna propose `genomes` (n, n_genes), which somebody else chose."""
        for genome in genomes:
            fixed = {gene.name: int(choice) for gene, choice in zip(self.space.genes, genome, strict=True)}
            self._study.enqueue_trial(fixed)
            self._trials[genome.tobytes()] = self._study.ask(self._distributions)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Pass evaluations on to Optuna's study, in any order."""
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")
            for evaluation in evaluations:
                key = np.array(evaluation.genome, dtype=np.int64).tobytes()
                trial = self._trials.pop(key, None)
                if trial is not None:
                    self._known[key] = evaluation
                    self._answer(trial, evaluation)

    def _answer(self, trial: optuna.Trial, evaluation: Evaluation) -> None:
        if evaluation.status != "ok":
            self._study.tell(trial, state=TrialState.FAIL)
            return
        violations = self.task.violations([evaluation])[0]
        for constraint, violation in zip(self.task.measured_constraints, violations, strict=True):
            trial.set_constraint(constraint.text, float(violation))
        self._study.tell(trial, self.task.minimised([evaluation])[0].tolist())


class TpeSampler(OptunaSampler):
    """Multi-objective TPE (Ozaki et al. 2022, doi:10.1613/jair.1.13188), multivariate."""

    def __init__(self, task: Task, seed: int) -> None:
        super().__init__(task, seed, name="TPESampler", multivariate=True)
