"""What the core relies on in fixed point and float32; the formats have a suite of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evonas.errors import InvalidArgument
from evonas.formats import Fixed, Float32, parse


@given(
    values=st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=20),
    total=st.integers(1, 16),
    frac=st.integers(-3, 12),
)
def test_fixed_point_rounds_half_to_even_and_saturates(values: list[float], total: int, frac: int) -> None:
    exact = np.array(values, dtype=np.float64)
    expected = np.clip(np.rint(exact * 2.0**frac), -(2 ** (total - 1)), 2 ** (total - 1) - 1) / 2.0**frac
    assert Fixed(total, frac).quantize(torch.tensor(values)).double().tolist() == expected.tolist()


def test_float32_changes_nothing() -> None:
    values = torch.tensor([0.1, -3.7e20, 1e-40])
    assert torch.equal(Float32().quantize(values), values)
    assert Float32().width == 32


def test_a_format_without_a_fraction_width_wants_calibration() -> None:
    values = torch.linspace(-1.9, 1.9, 100)
    with pytest.raises(InvalidArgument, match="`fixed8` is not concrete"):
        Fixed(8).quantize(values)
    assert Fixed(8).calibrate(values) == Fixed(8, 6)
    assert Fixed(8, 3).calibrate(values) == Fixed(8, 3)


@pytest.mark.parametrize("fmt", [Fixed(8), Fixed(8, 4), Fixed(8, -2), Float32()])
def test_a_spec_is_read_back(fmt: Fixed | Float32) -> None:
    assert parse(fmt.spec) == fmt
    assert str(fmt) == fmt.spec
    assert fmt.bits(10) == 10 * fmt.width
