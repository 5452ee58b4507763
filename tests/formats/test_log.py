"""Logarithmic numbers against a scalar reference in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from contracts.formats import neighbourhood

from evonas.errors import InvalidArgument
from evonas.formats import Log, parse


def _reference(value: float, format: Log) -> float:
    """The nearest value of the list; of two equally near ones that with the even code."""
    assert format.top is not None
    powers = [Fraction(2) ** k for k in range(format.top - format.exponents + 1, format.top + 1)]
    coded = list(enumerate([Fraction(0), *powers]))
    size = abs(Fraction(value))
    _, _, best = min((abs(level - size), code % 2, level) for code, level in coded)
    return float(best if value >= 0 else -best)


@pytest.mark.parametrize(("total", "top"), [(2, 0), (3, 0), (4, 0), (4, -3), (4, 5), (5, 1), (6, 20), (8, 60)])
def test_scalar_reference_at_every_value_midpoint_and_neighbour(total: int, top: int) -> None:
    format = Log(total, top)
    assert format.levels is not None
    values = neighbourhood(format.levels)
    assert format.quantize(values).tolist() == [_reference(v, format) for v in values.tolist()]


def test_how_zero_is_held() -> None:
    """Code 0 is zero, so 4 bits have 7 powers; from half the smallest down all is zero."""
    format = Log(4, 0)
    assert format.levels is not None
    assert len(format.levels) == 15
    smallest = 2.0**-6
    values = torch.tensor([smallest, smallest * 0.51, smallest * 0.5, 0.0])
    assert format.quantize(values).tolist() == [smallest, smallest, 0.0, 0.0]


@pytest.mark.parametrize("method", ["max", "percentile", "mse", "kl"])
def test_calibration(method: str) -> None:
    values = torch.randn(4000, generator=torch.Generator().manual_seed(5))
    format = Log(4).calibrate(values, method)
    assert format.top in (0, 1, 2)
    scaled = Log(4).calibrate(values * 2.0**-9, method)
    assert scaled.top == format.top - 9
    assert Log(4).calibrate(torch.zeros(3), method) == Log(4, 0)
    assert Log(4).calibrate(torch.empty(0), method) == Log(4, 0)
    assert parse("log4.3").calibrate(values, method) == Log(4, 3)


def test_max_takes_the_nearest_power() -> None:
    for largest, top in [(1.0, 0), (1.49, 0), (1.5, 0), (1.51, 1), (0.2, -2), (1e-44, -120), (3e38, 127)]:
        assert Log(4).calibrate(torch.tensor([largest]), "max").top == top


@pytest.mark.parametrize(("total", "top"), [(1, 0), (9, 0), (4, 128), (4, -121), (8, -1)])
def test_what_cannot_be(total: int, top: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Log(total, top)
    assert "\n" not in str(caught.value)
