"""What is searched: a space, objectives, and a way to evaluate a genome."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evonas.chains import Chain
from evonas.errors import InvalidArgument, unknown_name
from evonas.objective import Objective
from evonas.racing import Raced
from evonas.space import FloatArray, IntArray, SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from evonas.graph import Frozen

__all__ = ["Estimate", "Problem", "Sensitivities"]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Sensitivities:
    """How much each choice of each gene hurts when all other genes are at their highest choice.

    Args:
        values: larger is worse, shape (n_genes, most choices of any gene); NaN where a gene has no such choice, and
            over the whole row of a gene whose sensitivity is not known.
        cost: of measuring them, in full evaluations.
    """

    values: FloatArray
    cost: float


class Problem(ABC):
    """A search problem. Subclasses set the attributes and implement `exact_values` and `evaluate`.

    Attributes:
        name: what the command line and the run directory call it.
        space: the genomes.
        objectives: all that the problem can compute, exact and measured.
        default_objectives: names of those searched unless others are asked for.
        options: the keyword arguments that rebuild this problem, as JSON can hold them.
        together: whether `evaluate` is faster for many genomes than for each alone.
        spec: what `evonas.problems.load` makes this problem from; None for one made in Python.
        races: whether `race` works: whether accuracy is a share of samples that are validated one after another.
    """

    name: str
    space: SearchSpace
    objectives: tuple[Objective, ...]
    default_objectives: tuple[str, ...]
    options: Mapping[str, Any]
    together: bool = False
    spec: str | None = None
    races: bool = False

    @property
    def fingerprint(self) -> str:
        """A digest of genes and objectives: what must be the same when a run is continued."""
        goals = [[goal.name, goal.unit, goal.maximise, goal.exact] for goal in self.objectives]
        return hashlib.sha256(json.dumps([self.space.fingerprint, goals]).encode()).hexdigest()[:16]

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Coupled channels, for a problem about a network; none otherwise."""
        return ()

    @property
    def frozen(self) -> tuple[Frozen, ...]:
        """Sides of layers whose channels cannot change, and why, where that was found out."""
        return ()

    @property
    def exact(self) -> tuple[Objective, ...]:
        """The objectives that follow from the genome alone."""
        return tuple(objective for objective in self.objectives if objective.exact)

    @property
    def measured(self) -> tuple[Objective, ...]:
        """The objectives that must be evaluated."""
        return tuple(objective for objective in self.objectives if not objective.exact)

    def objective(self, name: str) -> Objective:
        """The objective of that name.

        Raises:
            UnknownName: there is none; the message lists those there are.
        """
        for objective in self.objectives:
            if objective.name == name:
                return objective
        raise unknown_name("objective", name, [objective.name for objective in self.objectives])

    def exact_values(self, genomes: IntArray) -> FloatArray:
        """The exact objectives, in the order of `exact`, shape (n, n_exact), of genomes (n, n_genes)."""
        return np.zeros((len(genomes), 0))

    @abstractmethod
    def evaluate(self, genomes: IntArray) -> Sequence[Mapping[str, float]]:
        """The measured objectives by name, one mapping per genome, for genomes (n, n_genes).

        Must not depend on what was evaluated before, nor on the other genomes of the call. May raise: the
        genome is then recorded as failed, with the text.
        """

    def prepare(self, genomes: IntArray, told: Callable[[int, int], None] | None = None) -> None:
        """Do at once what evaluating genomes (n, n_genes) will need, such as training; nothing by default.

        No evaluation may depend on it. `told` is called with (done, total) every now and then.
        """
        return

    def race(self, genomes: IntArray, least: FloatArray) -> Sequence[Raced]:
        """Evaluate genomes (n, n_genes), but stop those whose accuracy is below `least` (n,) with 99 % confidence.

        Scores of one that is not stopped are those of `evaluate`, but for the last bits where sums are not exact. What
        becomes of one must not depend on the other genomes of the call. `least` is -inf where no accuracy is too low.
        For problems with `races`.
        """
        raise NotImplementedError

    def true_values(self, genomes: IntArray, objectives: Sequence[Objective]) -> FloatArray:
        """What samplers are compared by, minimised, shape (n, len(objectives)), for evaluated genomes (n, n_genes).

        NaN where nothing better than the evaluation is known, which is the rule. Samplers never see it.
        """
        return np.full((len(genomes), len(objectives)), np.nan)

    def sensitivities(self) -> Sensitivities | None:
        """How much each gene matters, where that can be had for far less than evaluations; None where it cannot.

        The same every time it is asked.
        """
        return None

    def test(self, genome: IntArray) -> dict[str, Estimate]:
        """Measured objectives on data that the search never sees; empty where there is none."""
        return {}

    def model(self, genome: IntArray) -> nn.Module:
        """A stand-alone module for one genome (n_genes,).

        Raises:
            InvalidArgument: the problem has no models.
        """
        raise InvalidArgument(f"problem `{self.name}` has no models to return")

    def describe(self, genome: IntArray) -> str:
        """One genome (n_genes,) in short form, for a table."""
        return " ".join(f"{name}={label}" for name, label in self.space.labels(genome).items())

    def details(self, genome: IntArray) -> list[dict[str, Any]]:
        """One genome (n_genes,) gene by gene or layer by layer: one dictionary a row of a table."""
        return [{"gene": name, "choice": label} for name, label in self.space.labels(genome).items()]

    def remarks(self, genome: IntArray) -> list[str]:
        """What there is to say of `details`, in lines."""
        return []

    def keep_in(self, directory: Path) -> None:
        """Keep whatever was expensive to make (trained weights) in `directory` from now on; nothing by default."""
        return

    def summary(self) -> list[str]:
        """Lines that a person should read before a search: data, float accuracy, assumptions."""
        return []
