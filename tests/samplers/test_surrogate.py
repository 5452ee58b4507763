"""Our surrogate-assisted sampler."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.samplers import Make, SamplerContract
from toys import Toy, genomes_of, run, task_of

from evonas.errors import UnknownName
from evonas.evaluate import evaluate
from evonas.problem import Sensitivities
from evonas.samplers.random import RandomSampler
from evonas.samplers.surrogate import Settings, SurrogateSampler


@pytest.mark.slow
class TestSurrogate(SamplerContract):
    @pytest.fixture
    def make(self) -> Make:
        return SurrogateSampler


@pytest.mark.slow
class TestSurrogateInBatches(SamplerContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda task, seed: SurrogateSampler(task, seed, settings=Settings(batch=4, model="trees"))


class Sensitive(Toy):
    """A toy that knows how much each choice hurts, for a tenth of an evaluation."""

    def sensitivities(self) -> Sensitivities:
        steps = 2.0 ** -np.arange(max(self.space.n_choices))
        known = np.arange(len(steps)) < self.space.n_choices[:, None]
        return Sensitivities(np.where(known, steps, np.nan), 0.1)


def test_the_same_seed_and_tells_give_the_same_asks() -> None:
    task = task_of(Sensitive((6, 5, 4, 6)))
    expected = genomes_of(run(SurrogateSampler(task, 5), 40))
    assert len(set(expected)) == 40
    assert genomes_of(run(SurrogateSampler(task, 5), 40, ask=lambda: 1)) == expected
    assert genomes_of(run(SurrogateSampler(task, 5), 40, replay=run(SurrogateSampler(task, 5), 17))) == expected
    assert genomes_of(run(SurrogateSampler(task, 6, settings=Settings(sensitivities=False)), 40)) != expected


def test_sensitivities_are_charged_only_when_they_are_used() -> None:
    task = task_of(Sensitive((4, 4)))
    assert SurrogateSampler(task, 0).charge == 0.1
    assert SurrogateSampler(task, 0, settings={"sensitivities": False}).charge == 0.0


def test_genomes_asked_for_before_others_are_told_differ() -> None:
    task = task_of(Toy((6, 5, 4, 6)))
    sampler = SurrogateSampler(task, 0)
    run(sampler, 12)
    asked = [tuple(sampler.ask(1)[0].tolist()) for _ in range(12)]  # twelve workers, none of them done
    assert len(set(asked)) == 12
    sampler.tell(evaluate(task, np.array(asked[::-1]), 12))
    assert len(sampler.ask(1)) == 1


@pytest.mark.parametrize(
    "settings",
    [
        Settings(exactness=False),
        Settings(model="trees"),
        Settings(acquisition="mean"),
        Settings(batch=4),
        Settings(explore=0),
        Settings(start=3),
        Settings(design="random"),
    ],
)
def test_everything_that_can_be_changed_still_searches(settings: Settings) -> None:
    task = task_of(Toy((6, 5, 4, 6), broken=lambda genome: sum(genome) == 7), cost=25, error=6.0)
    found = run(SurrogateSampler(task, 0, settings=settings), 40)
    assert len(set(genomes_of(found))) == 40


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modle": "gp"}, "unknown setting of sa-nsga2 `modle`; valid names: model"),
        ({"model": "forest"}, "unknown model of sa-nsga2 `forest`; valid names: trees"),
    ],
)
def test_unknown_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        SurrogateSampler(task_of(Toy((3, 3))), 0, settings=settings)


def test_it_covers_more_than_random_search_with_the_same_budget() -> None:
    from evonas.study.scoring import hypervolume_curve, reference

    task = task_of(Toy((6, 6, 6, 6, 6)))
    shares = []
    for make in (SurrogateSampler, RandomSampler):
        values = [task.minimised(run(make(task, seed), 30)) for seed in range(3)]
        shares.append(values)
    against = reference(np.concatenate([v for values in shares for v in values]), "union of all runs")
    ours, theirs = ([hypervolume_curve(v, against)[-1] for v in values] for values in shares)
    assert min(ours) > max(theirs)
