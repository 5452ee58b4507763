"""Channel counts from multipliers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.errors import InvalidArgument
from evonas.graph import Chain, Extent, legal_channels, round_channels


def chain(channels: int, step: int = 1, minimum: int = 1, growth: str = "any") -> Chain:
    return Chain("chain0", channels, step=step, minimum=max(step, minimum), growth=growth)


@pytest.mark.parametrize(
    ("value", "step", "round_to", "expected"),
    [(32.0, 1, 8, 32), (20.0, 1, 8, 24), (19.9, 1, 8, 16), (1.0, 1, 8, 8), (0.2, 1, 1, 1), (10.0, 3, 4, 12)],
)
def test_rounding(value: float, step: int, round_to: int, expected: int) -> None:
    assert round_channels(value, step=step, round_to=round_to) == expected


@given(st.floats(0.01, 1e4), st.integers(1, 12), st.integers(1, 16), st.integers(1, 64))
def test_rounding_is_legal_and_never_zero(value: float, step: int, round_to: int, minimum: int) -> None:
    found = round_channels(value, step=step, round_to=round_to, minimum=minimum)
    quantum = math.lcm(step, round_to)
    assert found >= max(1, minimum)
    assert found % quantum == 0
    assert abs(found - value) <= quantum / 2 or found < minimum + quantum


@given(st.integers(1, 40), st.integers(1, 8), st.floats(0.01, 20), st.sampled_from([1, 4, 8]))
def test_multipliers_give_legal_counts(units: int, step: int, multiplier: float, round_to: int) -> None:
    one = chain(units * step, step)
    count = legal_channels(one, multiplier, round_to=round_to)
    assert count >= step
    assert count % step == 0
    assert count <= one.channels if multiplier <= 1 else count >= one.channels


def test_one_is_always_the_original() -> None:
    assert legal_channels(chain(24), 1, round_to=16) == 24
    assert legal_channels(chain(24), 0.5, round_to=16) == 16
    assert legal_channels(chain(12), 0.9, round_to=16) == 12


def test_growth_is_limited_to_what_is_exact() -> None:
    assert legal_channels(chain(10, growth="integer"), 1.4) == 10
    assert legal_channels(chain(10, growth="integer"), 2.6) == 30
    assert legal_channels(chain(10, growth="none"), 4) == 10
    assert legal_channels(chain(10, growth="none"), 0.5) == 5
    assert legal_channels(chain(10), 1.5) == 15


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_bad_multipliers(bad: float) -> None:
    with pytest.raises(InvalidArgument):
        legal_channels(chain(10), bad)
    with pytest.raises(InvalidArgument, match="`round_to` must be at least 1, got 0"):
        round_channels(10.0, round_to=0)


def test_extents_take_many_genomes_at_once() -> None:
    extent = Extent(6, (("chain0", 2), ("chain1", 1)), 2)
    counts = {"chain0": np.array([4, 8]), "chain1": np.array([2, 6])}
    assert extent.count(counts).tolist() == [8, 14]
    assert extent.count({"chain0": 4, "chain1": 2}) == 8
