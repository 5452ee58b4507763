"""Fixed point against qonnx, for every width, and against the definition of `ap_fixed` in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from contracts.formats import neighbourhood
from qonnx.custom_op.general.intquant import int_quant

from evonas.errors import InvalidArgument
from evonas.formats import Fixed, parse


def _words(total: int, count: int = 1 << 12) -> torch.Tensor:
    """All integers of a word, or for wide ones those at the ends, around zero and some between."""
    low, high = -(1 << (total - 1)), (1 << (total - 1)) - 1
    if high - low < 2 * count:
        return torch.arange(low, high + 1).double()
    drawn = torch.randint(low, high + 1, (count,), generator=torch.Generator().manual_seed(total))
    near = torch.arange(-64, 65)
    return torch.cat([drawn, near, low + near.clamp(min=0), high - near.clamp(min=0)]).unique().double()


def _qonnx(values: torch.Tensor, total: int, frac: int) -> torch.Tensor:
    scale, bits = np.float32(2.0**-frac), np.array(total, dtype=np.float32)
    result = int_quant(values.numpy(), scale, np.float32(0), bits, True, False, "ROUND")
    return torch.from_numpy(np.asarray(result, dtype=np.float32))


@pytest.mark.parametrize("total", range(2, 25))
@pytest.mark.parametrize("shift", [0, 3, -5])
def test_qonnx_at_every_value_midpoint_and_neighbour(total: int, shift: int) -> None:
    frac = total // 2 + shift
    values = neighbourhood((_words(total) / 2.0**frac).float())
    assert torch.equal(Fixed(total, frac).quantize(values), _qonnx(values, total, frac))


def _ap_fixed(value: float, total: int, integer: int) -> float:
    """`ap_fixed<total, integer, AP_RND_CONV, AP_SAT>`, one value, without floating point."""
    frac = total - integer
    scaled = Fraction(value) * Fraction(2) ** frac
    floor = math.floor(scaled)
    rest = scaled - floor
    word = floor + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor % 2 == 1))
    word = max(-(2 ** (total - 1)), min(2 ** (total - 1) - 1, word))
    return float(Fraction(word) / Fraction(2) ** frac)


@pytest.mark.parametrize(("total", "frac"), [(1, 0), (2, 1), (4, 2), (6, 9), (8, 4), (8, -3)])
def test_ap_fixed_scalar_reference(total: int, frac: int) -> None:
    values = neighbourhood((_words(total) / 2.0**frac).float())
    wanted = [_ap_fixed(v, total, total - frac) for v in values.tolist()]
    assert Fixed(total, frac).quantize(values).tolist() == wanted


@pytest.mark.parametrize(("total", "frac"), [(4, 2), (8, 4), (8, 7)])
def test_levels_are_all_words(total: int, frac: int) -> None:
    levels = Fixed(total, frac).levels
    assert levels is not None
    assert levels.tolist() == [k / 2**frac for k in range(-(2 ** (total - 1)), 2 ** (total - 1))]


def test_bfloat16_limit_is_cut_inside_the_range() -> None:
    assert Fixed(16, 8).quantize(torch.tensor([1000.0, -1000.0]).bfloat16()).tolist() == [127.5, -128.0]


def test_half_is_what_na_means() -> None:
    assert Fixed(8).half() == Fixed(8, 4)
    assert Fixed(5).half() == Fixed(5, 2)


@pytest.mark.parametrize("method", ["max", "percentile", "mse", "kl"])
def test_calibration_covers_powers_of_two_and_empties(method: str) -> None:
    assert Fixed(8).calibrate(torch.zeros(4), method) == Fixed(8, 7)
    assert Fixed(8).calibrate(torch.tensor([torch.nan, torch.inf]), method) == Fixed(8, 7)
    assert Fixed(8).calibrate(torch.empty(0), method) == Fixed(8, 7)


def test_max_takes_the_finest_grid_without_clipping() -> None:
    for largest, frac in [(1.0, 6), (0.99, 7), (127 / 128, 7), (2.0, 5), (100.0, 0), (1e-3, 16)]:
        chosen = Fixed(8).calibrate(torch.tensor([largest, -largest / 3]), "max")
        assert chosen.frac == frac
        assert abs(float(chosen.quantize(torch.tensor(largest))) - largest) <= 2.0**-frac / 2


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_calibration_of_extreme_magnitudes(size: float) -> None:
    for method in ("max", "mse"):
        frac = Fixed(8).calibrate(torch.tensor([size, -size]), method).frac
        assert frac == (60 if size < 1 else -60)


@pytest.mark.parametrize(
    ("total", "frac"), [(0, 0), (25, 0), (-3, 0), (8, 61), (8, -61), (2.5, 0), ("8", 0), (True, 0)]
)
def test_what_cannot_be(total: int, frac: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Fixed(total, frac)
    assert "\n" not in str(caught.value)


def test_specs() -> None:
    assert parse("fixed8.-2") == Fixed(8, -2)
    assert parse("fixed8") == Fixed(8)
    with pytest.raises(InvalidArgument, match="not concrete"):
        Fixed(8).quantize(torch.ones(1))
    with pytest.raises(InvalidArgument, match="not concrete"):
        _ = Fixed(8).levels
