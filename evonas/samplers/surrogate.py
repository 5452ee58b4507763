"""Surrogate-assisted NSGA-II: models what must be measured, and spends evaluations where they promise most.

Of the family of MSuNAS (Lu et al. 2020, arXiv:2007.10396), with three differences: objectives that follow from the
genome are never modelled, the next genome maximises expected hypervolume improvement, and per-gene sensitivities are
used where a problem offers them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from evonas.errors import unknown_name
from evonas.evaluate import Evaluation, Task
from evonas.objective import Objective
from evonas.operators import GenomeCrossover, GenomeMutation
from evonas.pareto import non_dominated
from evonas.samplers.base import Sampler
from evonas.samplers.features import Features
from evonas.samplers.improvement import Exact, Marginal, expected_improvement
from evonas.samplers.inner import evolve
from evonas.samplers.models import Kind, Model, make_model
from evonas.samplers.paths import greedy_path, spread, thinned
from evonas.space import BoolArray, FloatArray, IntArray

__all__ = ["Settings", "SurrogateSampler"]

_WHOLE = 1_048_576  # spaces up to here are scored whole
_CHUNK = 16_384  # genomes scored at a time
_SHORTLIST = 1024  # genomes that a search of the whole space hands on
_SEARCH_GROWTH = 1.08  # the whole space is searched again when the data has grown by this factor
_LOCAL = 1024  # neighbours of the front in a pool, at most
_CHILDREN = 512
_RANDOM = 256
_MARGIN = 0.1  # of the reference point past the range of the fronts
_OPTIMISM = 2.0  # standard deviations by which predictions are taken to be better when the box is chosen
_START, _PATH = 4, 7  # genomes of the initial design, without (at least) and with sensitivities
_GENES_EACH = 5  # genes for each genome of an initial design without sensitivities
_LEAST = 3  # evaluations that a model needs
_RECONSIDERED = 256  # best candidates among which the rest of a batch is chosen
_CHOICES = {
    "model": ("auto", "gp", "trees"),
    "acquisition": ("ehvi", "mean"),
    "design": ("stratified", "random"),
}


@dataclass(frozen=True)
class Settings:
    """What can be turned off or changed, mostly to see what it is worth.

    Args:
        sensitivities: whether a problem's sensitivities are used; they are then charged.
        exactness: whether exact objectives are taken as they are rather than modelled.
        model: `gp`, `trees`, or `auto`: a Gaussian process to 500 points and trees beyond.
        acquisition: `ehvi`, or `mean`: the hypervolume improvement of the predicted values.
        start: genomes of the initial design; where None 7 along the greedy path, or else a fifth of the number of
            genes, at least 4.
        design: `stratified` over the exact objectives, or along the greedy path where there are sensitivities; or
            `random`.
        batch: genomes chosen from one fit.
        explore: every so many suggestions one is a random neighbour of the front, whatever the model says.
    """

    sensitivities: bool = True
    exactness: bool = True
    model: Kind = "auto"
    acquisition: Literal["ehvi", "mean"] = "ehvi"
    start: int | None = None
    design: Literal["stratified", "random"] = "stratified"
    batch: int = 1
    explore: int = 20

    @classmethod
    def of(cls, given: Settings | Mapping[str, Any] | None) -> Settings:
        """Settings from a mapping of some of the fields.

        Raises:
            UnknownName: no such setting, or no such choice of one.
        """
        if isinstance(given, Settings):
            return given
        names = [field.name for field in fields(cls)]
        for name, value in (given or {}).items():
            if name not in names:
                raise unknown_name("setting of sa-nsga2", name, names)
            if name in _CHOICES and value not in _CHOICES[name]:
                raise unknown_name(f"{name} of sa-nsga2", str(value), _CHOICES[name])
        return cls(**(given or {}))


class SurrogateSampler(Sampler):
    """Our surrogate-assisted sampler, `sa-nsga2`.

    Failed evaluations teach nothing and are never proposed again. Genomes that were proposed and not told yet count as
    evaluated with their predicted values.

    Args:
        task: what is searched.
        seed: of every random choice.
        settings: see there; a mapping of some of its fields will do.
    """

    def __init__(self, task: Task, seed: int, *, settings: Settings | Mapping[str, Any] | None = None) -> None:
        super().__init__(task, seed)
        self.settings = Settings.of(settings)
        self.sensitivities = task.problem.sensitivities() if self.settings.sensitivities else None
        self.charge = 0.0 if self.sensitivities is None else self.sensitivities.cost
        self._features = Features(self.space, self.sensitivities)
        self._order: list[bytes] = []
        self._told: dict[bytes, Evaluation] = {}
        self._known: dict[bytes, Evaluation] = {}
        self._failed: set[bytes] = set()
        self._models: dict[str, Model] = {}
        self._shortlist = np.zeros((0, len(self.space)), dtype=np.int64)
        self._searched = 0  # evaluations known when the shortlist was made
        self._started = False
        self._suggested = 0

    def begin_with(self, genomes: IntArray) -> None:
        """`genomes` (n, n_genes) are the initial design."""
        super().begin_with(genomes)
        self._order += self.space.keys(genomes)
        self._started = True

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from evaluations, in any order."""
        for evaluation in evaluations:
            key = np.array(evaluation.genome, dtype=np.int64).tobytes()
            if evaluation.status == "ok":
                self._told[key] = evaluation
            else:
                self._failed.add(key)
        # as they were proposed: in whatever order a batch is told, the same sums come out
        order = [key for key in self._order if key in self._told]
        self._known = {key: self._told[key] for key in order}

    def _next_block(self) -> IntArray:
        with threadpool_limits(1):  # sums in one fixed order, whatever the machine
            if not self._started:
                self._started = True
                block = self._start()
            elif len(self._known) < _LEAST:
                block = self._random_genomes(1)
            else:
                block = self._suggest()
        self._order += self.space.keys(block)
        return block

    def _start(self) -> IntArray:
        """The initial design: along the greedy path where there are sensitivities, spread over the costs otherwise."""
        usual = max(_START, len(self.space) // _GENES_EACH) if self.sensitivities is None else _PATH
        n = self.settings.start or usual
        if self.settings.design == "random":
            return self._random_genomes(n)
        if self.sensitivities is None:
            design = spread(self.task, n, self.rng)
        else:
            design = thinned(self.task, greedy_path(self.task, self.sensitivities), n)
            unknown = np.flatnonzero(~np.isfinite(self.sensitivities.values).any(axis=1))
            if len(unknown):
                design[1:, unknown] = self.space.sample(len(design), self.rng)[1:, unknown]
        return self._completed(design, n)

    def _suggest(self) -> IntArray:
        """The next batch by the acquisition function."""
        self._fit()
        pending = self._pending()
        for model in self._models.values():
            if len(pending):
                model.believe(pending)
        front = self._front(pending)
        pool = self._pool(front)
        if len(pool) == 0:
            return self._random_genomes(1)  # nothing left near the front: anything that is left
        self._suggested += 1
        if self.settings.explore and self._suggested % self.settings.explore == 0:
            near = self._fresh(self._neighbours(self._front_genomes()))
            if len(near):
                return self.rng.choice(near, 1)
        return self._batch(pool, front)

    def _batch(self, pool: IntArray, front: FloatArray) -> IntArray:
        """Greedily the best of the pool, each believed before the next is chosen."""
        scores = self._score(pool, front)
        chosen = [pool[int(scores.argmax())]]
        kept = np.argsort(-scores, kind="stable")[:_RECONSIDERED]
        pool = pool[kept]
        while len(chosen) < min(self.settings.batch, len(pool)):
            for model in self._models.values():
                model.believe(chosen[-1][None])
            front = np.concatenate([front, self._centres(chosen[-1][None])])
            scores = self._score(pool, front)
            taken = (pool[:, None, :] == np.array(chosen)).all(axis=2).any(axis=1)
            chosen.append(pool[int(np.where(taken, -1.0, scores).argmax())])
        return np.array(chosen)

    # what is known

    def _pending(self) -> IntArray:
        keys = [key for key in self._order if key not in self._known and key not in self._failed]
        return np.frombuffer(b"".join(keys), dtype=np.int64).reshape(len(keys), len(self.space))

    def _known_genomes(self) -> IntArray:
        return np.frombuffer(b"".join(self._known), dtype=np.int64).reshape(len(self._known), len(self.space))

    def _meets(self) -> BoolArray:
        """Which known evaluations meet the measured constraints, shape (n,)."""
        return np.asarray((self.task.violations(list(self._known.values())) <= 0).all(axis=1))

    def _front(self, pending: IntArray) -> FloatArray:
        """Values of known points that meet the constraints, and what is believed of pending ones, (n, k)."""
        values = self.task.minimised(list(self._known.values()))[self._meets()]
        if len(pending):
            values = np.concatenate([values, self._centres(pending)])
        return values[non_dominated(values)]

    def _front_genomes(self) -> IntArray:
        meets = self._meets()
        if not meets.any():
            return self._known_genomes()
        values = self.task.minimised(list(self._known.values()))[meets]
        return self._known_genomes()[meets][non_dominated(values)]

    # the model

    def _modelled(self, objective: Objective) -> bool:
        return not (objective.exact and self.settings.exactness)

    def _fit(self) -> None:
        """Fit a model to every objective and constraint that must be measured."""
        evaluations, genomes = list(self._known.values()), self._known_genomes()
        wanted = [*self.task.objectives, *(c.objective for c in self.task.measured_constraints)]
        for objective in {o.name: o for o in wanted}.values():
            if not self._modelled(objective):
                continue
            values = objective.sign * np.array([e.values[objective.name] for e in evaluations])
            fresh = make_model(self.settings.model, len(genomes), self._features)
            kept = self._models.get(objective.name)
            model = kept if kept is not None and type(kept) is type(fresh) else fresh
            model.fit(genomes, values, self.rng)
            self._models[objective.name] = model

    def _marginals(self, genomes: IntArray) -> list[Marginal]:
        """The distribution of each of the front's objectives at genomes (n, n_genes)."""
        names = [objective.name for objective in self.task.problem.exact]
        exact = self.task.problem.exact_values(genomes)
        return [
            self._models[o.name].predict(genomes)
            if self._modelled(o)
            else Exact(o.sign * exact[:, names.index(o.name)])
            for o in self.task.objectives
        ]

    def _centres(self, genomes: IntArray) -> FloatArray:
        return np.stack([marginal.centre for marginal in self._marginals(genomes)], axis=1)

    def _score(self, genomes: IntArray, front: FloatArray) -> FloatArray:
        """The acquisition function, shape (n,): improvement times the probability of meeting the constraints."""
        marginals = self._marginals(genomes)
        hopes = np.stack([marginal.quantile(-_OPTIMISM) for marginal in marginals], axis=1)
        if self.settings.acquisition == "mean":
            marginals = [Exact(marginal.centre) for marginal in marginals]
        scores = np.ones(len(genomes))
        if len(front):
            scores = expected_improvement(marginals, front, self._reference(front, hopes))
        for constraint in self.task.measured_constraints:
            limit = constraint.objective.sign * constraint.limit
            marginal = self._models[constraint.objective.name].predict(genomes)
            below = constraint.at_least == constraint.objective.maximise  # in minimised values the limit is from above
            scores = scores * (marginal.probability(limit) if below else 1.0 - marginal.probability(limit))
        return scores

    def _reference(self, front: FloatArray, hopes: FloatArray) -> FloatArray:
        """A little past the range of the known front and the hoped-for one together, but not past all that was seen.

        With the known front alone, a few small networks collapse the box, and a region that is good in another
        objective gets no credit for ever.
        """
        predicted = hopes[non_dominated(hopes)]
        seen = self.task.minimised(list(self._known.values())).max(axis=0)
        upper = np.maximum(front.max(axis=0), np.minimum(predicted.max(axis=0), seen))
        lower = np.minimum(front.min(axis=0), predicted.min(axis=0))
        reference: FloatArray = upper + _MARGIN * np.maximum(upper - lower, 1e-12)
        return reference

    # candidates

    def _pool(self, front: FloatArray) -> IntArray:
        """Candidates: near the front, bred from it, random, and what a search of the whole space found."""
        known, parents = len(self._known), self._front_genomes()
        if known >= _SEARCH_GROWTH * self._searched or len(self._shortlist) == 0:
            self._searched = known
            self._shortlist = (
                self._searched_whole(front) if self.space.size <= _WHOLE else self._searched_by_evolution(parents)
            )
        near = self._neighbours(parents)
        if len(near) > _LOCAL:
            near = near[self.rng.choice(len(near), _LOCAL, replace=False)]
        children = self._children(parents)
        random = self.space.sample(_RANDOM, self.rng)
        return self._fresh(np.concatenate([self._shortlist, near, children, random]))

    def _neighbours(self, genomes: IntArray) -> IntArray:
        """Every genome that differs from one of `genomes` in one step, or in any category of one gene."""
        near = [self.space.neighbours(genome) for genome in genomes]
        for i, gene in enumerate(self.space.genes):
            if not gene.ordered:
                moved = np.repeat(genomes, len(gene.choices), axis=0)
                moved[:, i] = np.tile(np.arange(len(gene.choices)), len(genomes))
                near.append(moved)
        return np.concatenate(near)

    def _children(self, parents: IntArray) -> IntArray:
        crossover, mutation = GenomeCrossover(self.space), GenomeMutation(self.space)
        first, second = (parents[self.rng.integers(len(parents), size=_CHILDREN)] for _ in range(2))
        child = np.where(crossover.swaps(_CHILDREN, self.rng), first, second)
        mutated = self.rng.random(_CHILDREN) < 0.5
        child[mutated] = mutation.mutate(child[mutated], self.rng)
        return child

    def _searched_whole(self, front: FloatArray) -> IntArray:
        """The genomes of the whole space with the best scores."""
        best, scores = self._shortlist[:0], np.zeros(0)
        for chunk in self.space.chunks(_CHUNK):
            fresh = chunk[self.task.feasible(chunk)]
            if len(fresh) == 0:
                continue
            best = np.concatenate([best, fresh])
            scores = np.concatenate([scores, self._score(fresh, front)])
            kept = np.argsort(-scores, kind="stable")[: _SHORTLIST + len(self.proposed)]
            best, scores = best[kept], scores[kept]
        return self._fresh(best)[:_SHORTLIST]

    def _searched_by_evolution(self, parents: IntArray) -> IntArray:
        """The last population of NSGA-II on predicted and exact objectives, begun at the front and its neighbours."""
        return evolve(self.task, self._centres, parents, self.rng)
