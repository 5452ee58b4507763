"""Races: who is stopped follows from each candidate alone, and who is not scores as without a race."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from engine.test_engine import FIXED, outputs_of, quantized
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evonas.engine import Engine, Labelled, race, scores
from evonas.racing import RISK, looks, most_right

SAMPLES = 1040
NETWORK, SPACE, INPUTS = quantized("twice", FIXED, SAMPLES)
GENOMES = SPACE.space.sample(30, np.random.default_rng(1))


def as_the_float_network_says(inputs: Tensor) -> Tensor:
    """Classes that the quantized networks mostly get right."""
    with torch.no_grad():
        return NETWORK.graph(inputs).argmax(1)


TARGETS = as_the_float_network_says(INPUTS)
ENDS = [0, *looks(SAMPLES), SAMPLES]
PARTS = [np.arange(SAMPLES)[start:stop] for start, stop in pairwise(ENDS)]
HEATS = [Labelled(INPUTS[part], TARGETS[part]) for part in PARTS]
WHOLE = scores(Engine(NETWORK, SPACE), GENOMES, Labelled(INPUTS, TARGETS))


def test_who_cannot_reach_the_bar_is_stopped_with_the_bound_of_the_first_look_that_shows_it() -> None:
    least = np.full(len(GENOMES), float(np.quantile(WHOLE.accuracy, 0.8)))
    raced = race(Engine(NETWORK, SPACE), GENOMES, HEATS, least)
    right = [np.array(_answers(genome)).cumsum() for genome in GENOMES]
    risk = RISK / len(looks(SAMPLES))
    assert {found.samples for found in raced} > {SAMPLES, min(looks(SAMPLES))}
    for found, counts, bar in zip(raced, right, least, strict=True):
        bounds = {seen: most_right(int(counts[seen - 1]), seen, SAMPLES, risk) / SAMPLES for seen in looks(SAMPLES)}
        below = [seen for seen, bound in bounds.items() if bound < bar]
        assert found.samples == min(below, default=SAMPLES)
        assert (found.scores is None) == bool(below)
        if below:
            assert found.bound == bounds[found.samples]
            assert found.share == counts[found.samples - 1] / found.samples


def _answers(genome: np.ndarray) -> list[bool]:
    found: list[bool] = (NETWORK.forward(SPACE.plan(genome), INPUTS).argmax(1) == TARGETS).tolist()
    return found


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16), count=st.integers(1, 30), memory=st.sampled_from([1, 2**16, 2**28]))
def test_what_becomes_of_one_does_not_depend_on_the_others(seed: int, count: int, memory: int) -> None:
    rng = np.random.default_rng(seed)
    least = rng.choice([-np.inf, *np.quantile(WHOLE.accuracy, [0.2, 0.5, 0.9])], size=len(GENOMES))
    every = race(Engine(NETWORK, SPACE), GENOMES, HEATS, least)
    rows = rng.permutation(len(GENOMES))[:count]
    few = race(Engine(NETWORK, SPACE, memory=memory), GENOMES[rows], HEATS, least[rows])
    assert few == [every[row] for row in rows]
    for row in np.flatnonzero(least == -np.inf):
        assert every[row].scores == {"accuracy": WHOLE.accuracy[row], "loss": WHOLE.loss[row]}


def test_when_all_are_stopped_the_race_is_over() -> None:
    raced = race(Engine(NETWORK, SPACE), GENOMES, HEATS, np.full(len(GENOMES), 1.5))
    assert {found.samples for found in raced} == {min(looks(SAMPLES))}


def test_an_output_that_is_not_finite_is_said_unless_its_candidate_was_stopped_before() -> None:
    inputs = INPUTS.clone()
    inputs[SAMPLES - 1] = torch.nan
    heats = [Labelled(inputs[part], TARGETS[part]) for part in PARTS]
    with pytest.raises(FloatingPointError, match="not finite"):
        race(Engine(NETWORK, SPACE), GENOMES, heats, np.full(len(GENOMES), -np.inf))
    beaten = GENOMES[WHOLE.accuracy < 0.5]
    assert len(beaten) > 1
    assert all(found.scores is None for found in race(Engine(NETWORK, SPACE), beaten, heats, np.ones(len(beaten))))


@pytest.mark.parametrize("name", ["twice", "in_place_view"])
def test_a_walk_of_fewer_genomes_has_the_same_bits(name: str) -> None:
    network, space, inputs = quantized(name, FIXED, 100)
    genomes = space.space.sample(12, np.random.default_rng(0))
    expected = outputs_of(Engine(network, space), genomes, inputs)
    rows = np.array([3, 4, 9])
    walk = Engine(network, space).walk(genomes, inputs[:2])
    fewer = walk.only(rows, 10**9)
    assert sorted(fewer.rows.tolist()) == rows.tolist()
    met = set()
    for output in fewer.run(inputs):
        for genome, variant in zip(output.genomes, output.variants, strict=True):
            (alone,) = [value for samples, value in expected[genome] if samples == output.samples]
            assert torch.equal(output.value.one(int(variant)), alone)
            met.add(int(genome))
    assert met == set(rows.tolist())
    assert len(walk.only(rows, 1).rows) == (12 if name == "twice" else 3)  # preparing blocks anew would not pay
