"""Axes: units, ends, logarithms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evonas.objective import Objective
from evonas.plots.scale import Scale, plain, valued
from evonas.plots.style import clean, wrap

SIZE = Objective("size", "bit")
PLAIN = Objective("value")
ACCURACY = Objective("accuracy", "fraction", maximise=True, bounds=(0.0, 1.0))


@pytest.mark.parametrize(
    ("objective", "values", "name"),
    [
        (SIZE, [8 * 1024, 8 * 4096], "size (KiB)"),
        (SIZE, [8.0, 800.0], "size (B)"),
        (SIZE, [8 * 1024**2, 9 * 1024**2], "size (MiB)"),
        (Objective("latency", "µs"), [2.0, 30.0], "latency (µs)"),
        (Objective("latency", "µs"), [2e4, 3e4], "latency (ms)"),
        (Objective("flops", "FLOP"), [1e4, 9e4], "flops (kFLOP)"),
        (Objective("flops", "FLOP"), [1e6, 9e6], "flops (MFLOP)"),
        (Objective("parameters", "parameter"), [1e6, 9e6], "parameters (10⁶ parameter)"),
        (PLAIN, [1.0, 2.0], "value"),
        (PLAIN, [1e-7, 2e-7], "value (10⁻⁹)"),
        (ACCURACY, [0.001, 0.9], "accuracy (fraction)"),
    ],
)
def test_units_suit_the_values(objective: Objective, values: list[float], name: str) -> None:
    assert Scale.of(objective, np.array(values)).name == name


def test_wide_positive_ranges_are_logarithmic_unless_bounded() -> None:
    assert Scale.of(PLAIN, np.array([1.0, 40.0])).log
    assert not Scale.of(PLAIN, np.array([1.0, 30.0])).log
    assert not Scale.of(PLAIN, np.array([0.0, 1e6])).log
    assert not Scale.of(PLAIN, np.array([-1.0, 1e6])).log
    assert not Scale.of(ACCURACY, np.array([0.001, 1.0])).log


@pytest.mark.parametrize(
    "values",
    [
        [],
        [math.nan],
        [math.inf, -math.inf],
        [3.0],
        [0.0, 0.0],
        [-2.0, -2.0],
        [1e-300, 1e90],
        [math.nan, 4.0],
        [1e300],
    ],
)
def test_ends_are_finite_and_apart(values: list[float]) -> None:
    for objective in (PLAIN, SIZE, ACCURACY):
        scale = Scale.of(objective, np.array(values))
        assert math.isfinite(scale.low)
        assert math.isfinite(scale.high)
        assert scale.low < scale.high
        assert all(scale.holds(value) for value in values if abs(value) < 1e100)


def test_near_limits_are_on_the_axis_and_far_ones_are_not() -> None:
    values = np.array([10.0, 20.0])
    assert Scale.of(PLAIN, values, [25.0]).holds(25.0)
    assert not Scale.of(PLAIN, values, [1000.0]).holds(1000.0)
    assert not Scale.of(PLAIN, np.array([1.0, 100.0]), [-5.0]).holds(-5.0)


def test_labels_say_which_way_is_better_and_fit() -> None:
    assert Scale.of(ACCURACY, np.array([0.5])).label(4.0).endswith("better →")
    assert Scale.of(SIZE, np.array([8.0])).label(4.0).endswith("← better")
    long = Scale.of(Objective("n" * 100, "u" * 100), np.array([1.0])).label(2.0)
    assert long.count("\n") == 1
    assert all(len(line) <= 27 for line in long.splitlines())


def test_numbers_on_logarithmic_axes() -> None:
    assert [plain(v) for v in (0.003, 1.0, 30.0, 1e4, 1e6, 3e-7)] == [
        "0.003",
        "1",
        "30",
        "10000",
        "10⁶",
        "3·10⁻⁷",
    ]


def test_values_have_their_units() -> None:
    assert valued(Objective("flops", "FLOP"), 2268.0) == "2.268 kFLOP"
    assert valued(Objective("flops", "FLOP"), 12.0) == "12 FLOP"
    assert valued(SIZE, 8192.0) == "1 KiB"
    assert valued(ACCURACY, 0.9) == "0.9000"
    assert valued(Objective("parameters", "parameter"), 2268.0) == "2.268 k parameter"
    assert valued(PLAIN, math.nan) == "-"


def test_text_is_cut_in_the_middle_and_holds_nothing_unprintable() -> None:
    assert clean("a\x00b\n c\x1b", 10) == "a b c"
    cut = clean("abcdefghijklmnopqrstuvwxyz", 10)
    assert len(cut) == 10
    assert cut.startswith("abcdef…")
    assert cut.endswith("yz")


def test_notes_break_between_parts() -> None:
    lines = wrap([f"part {i} of the notes" for i in range(6)], 3.0)
    assert len(lines) == 3
    assert all(line.startswith("part") for line in lines)
    assert len(wrap(["word " * 400], 3.0, lines=4)) == 4
