"""How values are read, written, limited and turned around."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.errors import InvalidArgument, UnknownName
from evonas.objective import Constraint, Objective, minimised

SIZE = Objective("size", "bit", exact=True)
LATENCY = Objective("latency", "µs", exact=True)
ACCURACY = Objective("accuracy", "fraction", maximise=True, bounds=(0, 1))
FLOPS = Objective("flops", "FLOP", exact=True)
ERROR = Objective("error")


@pytest.mark.parametrize(
    ("objective", "text", "value"),
    [
        (SIZE, "2KiB", 2 * 8 * 1024),
        (SIZE, "2 KiB", 2 * 8 * 1024),
        (SIZE, "1kB", 8000),
        (SIZE, "1.5MiB", 1.5 * 8 * 1024**2),
        (SIZE, "10B", 80),
        (SIZE, "17", 17),
        (SIZE, "17bit", 17),
        (LATENCY, "50us", 50),
        (LATENCY, "50µs", 50),
        (LATENCY, "50μs", 50),  # the Greek letter rather than the micro sign
        (LATENCY, "0.2ms", 200),
        (LATENCY, "300ns", 0.3),
        (LATENCY, "1s", 1e6),
        (ACCURACY, "0.9", 0.9),
        (ACCURACY, "90%", 0.9),
        (ACCURACY, ".9", 0.9),
        (FLOPS, "10k", 1e4),
        (FLOPS, "1.2M", 1.2e6),
        (FLOPS, "1e4", 1e4),
        (FLOPS, "3G", 3e9),
        (ERROR, " -1.5 ", -1.5),
        (ERROR, "+2.", 2),
    ],
)
def test_values_are_read_with_their_units(objective: Objective, text: str, value: float) -> None:
    assert objective.parse(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("text", ["", "KiB", "two", "nan", "inf", "-inf", "1e999", "1e308MiB", "--1"])
def test_what_is_not_a_finite_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a value of size; expected a number such as 2KiB"):
        SIZE.parse(text)


@pytest.mark.parametrize(
    ("objective", "text"),
    [(SIZE, "2us"), (SIZE, "1..2"), (SIZE, "1e"), (SIZE, "0x10"), (LATENCY, "2KiB"), (ACCURACY, "2k"), (FLOPS, "2KiB")],
)
def test_a_unit_that_does_not_fit_is_refused_with_those_that_do(objective: Objective, text: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"is not a unit of {objective.name}; expected one of"):
        objective.parse(text)


@pytest.mark.parametrize(
    ("objective", "value", "text"),
    [
        (SIZE, 2 * 8 * 1024, "2 KiB"),
        (SIZE, 10_240, "1.25 KiB"),
        (SIZE, 84, "10.5 B"),
        (SIZE, 7, "7 bit"),
        (SIZE, 0, "0 bit"),
        (LATENCY, 12.345, "12.35 µs"),
        (LATENCY, 2500, "2.5 ms"),
        (LATENCY, 0.25, "0.25 µs"),
        (ACCURACY, 0.95312, "0.9531"),
        (FLOPS, 9856, "9.856 k"),
        (FLOPS, 2.21e6, "2.21 M"),
        (ERROR, 0.123456, "0.1235"),
        (ERROR, None, "-"),
        (ERROR, math.nan, "-"),
        (ERROR, math.inf, "-"),
    ],
)
def test_values_are_written_with_their_units(objective: Objective, value: float | None, text: str) -> None:
    assert objective.format(value) == text


@given(
    objective=st.sampled_from([SIZE, LATENCY, ACCURACY, FLOPS, ERROR]),
    value=st.floats(1e-3, 1e14) | st.floats(-1e14, -1e-3),
)
def test_what_is_written_can_be_read_again(objective: Objective, value: float) -> None:
    assert objective.parse(objective.format(value)) == pytest.approx(value, rel=1e-3, abs=1e-4)


# constraints


@given(limit=st.floats(-1e6, 1e6), values=st.lists(st.floats(-1e6, 1e6), min_size=1), at_least=st.booleans())
def test_a_violation_is_positive_exactly_past_the_limit(limit: float, values: list[float], at_least: bool) -> None:
    constraint = Constraint(ERROR, limit, at_least)
    violations = constraint.violation(np.array(values))
    met = [value >= limit if at_least else value <= limit for value in values]
    assert (violations <= 0).tolist() == met
    assert [constraint.excess(value) for value in values] == violations.tolist()


def test_a_constraint_is_read_and_written() -> None:
    constraint = Constraint.parse("size=2KiB", [ERROR, SIZE], at_least=False)
    assert constraint == Constraint(SIZE, 16_384.0)
    assert constraint.text == "size <= 2 KiB"
    assert Constraint.parse(" accuracy = 90%", [ACCURACY], at_least=True).text == "accuracy >= 0.9000"


def test_a_constraint_that_cannot_be() -> None:
    with pytest.raises(InvalidArgument, match="expected NAME=VALUE"):
        Constraint.parse("size<2KiB", [SIZE], at_least=False)
    with pytest.raises(UnknownName, match="unknown objective `sise`; valid names: size, error"):
        Constraint.parse("sise=2KiB", [ERROR, SIZE], at_least=False)


def test_signs_flip_for_what_is_maximised_and_back() -> None:
    values = np.array([[0.9, 10.0], [0.5, 3.0]])
    turned = minimised(values, [ACCURACY, SIZE])
    assert turned.tolist() == [[-0.9, 10.0], [-0.5, 3.0]]
    assert np.array_equal(minimised(turned, [ACCURACY, SIZE]), values)
