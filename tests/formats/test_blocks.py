"""Block formats and MX against numpy references whose elements and scales are cast by ml_dtypes."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
import torch

from evonas.errors import InvalidArgument
from evonas.formats import BlockFloat, BlockLog, BlockMinifloat, Format, MXFloat, MXInt, parse
from evonas.formats.blocks import Blocked

_MX = {
    "mxfp8e4m3": (ml_dtypes.float8_e4m3fn, 8),
    "mxfp8e5m2": (ml_dtypes.float8_e5m2, 15),
    "mxfp6e3m2": (ml_dtypes.float6_e3m2fn, 4),
    "mxfp6e2m3": (ml_dtypes.float6_e2m3fn, 2),
    "mxfp4e2m1": (ml_dtypes.float4_e2m1fn, 2),
}


def _blocks(seed: int, count: int = 400, size: int = 32) -> np.ndarray:
    """Rows of one block each: ordinary, tiny, huge, spread over many binades, with zeros, with ties."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((count, size))
    rows[1::5] *= 2.0 ** generator.integers(-120, 120, (len(rows[1::5]), 1))
    rows[2::5] *= 2.0 ** generator.integers(-12, 12, rows[2::5].shape)
    rows[3::5] = np.round(rows[3::5] * 16) / 16
    rows[4::5] *= generator.integers(0, 2, rows[4::5].shape)
    rows[4] = 0
    return rows.astype(np.float32)


def _mx_reference(block: np.ndarray, dtype: type, emax: int) -> np.ndarray:
    """Section 6.3 of the OCP MX Specification v1.0 for one block, in float64."""
    largest = float(np.abs(block).max())
    if largest == 0:
        return np.zeros_like(block)
    shared = min(127, max(-127, math.frexp(largest)[1] - 1 - emax))
    scale = 2.0**shared
    assert float(np.float32(scale).astype(ml_dtypes.float8_e8m0fnu)) == scale
    limit = float(ml_dtypes.finfo(dtype).max)
    elements = np.clip(block.astype(np.float64) / scale, -limit, limit).astype(np.float32).astype(dtype)
    return (elements.astype(np.float64) * scale).astype(np.float32)


@pytest.mark.parametrize("spec", _MX)
def test_mxfp_is_ml_dtypes_elements_times_e8m0(spec: str) -> None:
    dtype, emax = _MX[spec]
    rows = _blocks(1)
    wanted = np.stack([_mx_reference(row, dtype, emax) for row in rows])
    assert torch.equal(parse(spec).quantize(torch.from_numpy(rows)), torch.from_numpy(wanted))


@pytest.mark.parametrize("spec", _MX)
def test_mxfp_elements_at_every_value_midpoint_and_neighbour(spec: str) -> None:
    """One element runs through all points while another pins the scale to 1."""
    from contracts.formats import neighbourhood

    dtype, emax = _MX[spec]
    format = parse(spec)
    assert format.levels is not None
    points = neighbourhood(format.levels)
    points = points[points.abs() < 2.0 ** (emax + 1)]
    blocks = torch.zeros(len(points), 32)
    blocks[:, 0], blocks[:, 17] = 2.0**emax, points
    limit = float(ml_dtypes.finfo(dtype).max)
    wanted = points.clamp(-limit, limit).numpy().astype(dtype).astype(np.float32)
    result = format.quantize(blocks)
    assert torch.equal(result[:, 17], torch.from_numpy(wanted))
    assert bool((format.scales(blocks) == 1).all())


@pytest.mark.parametrize("total", [2, 4, 8, 16])
def test_mxint_reference(total: int) -> None:
    rows = _blocks(2)
    wanted = []
    for row in rows.astype(np.float64):
        largest = np.abs(row).max()
        scale = 2.0 ** max(-127, math.frexp(largest)[1] - 1) if largest else 1.0
        steps, limit = 2.0 ** (total - 2), 2 ** (total - 1) - 1
        wanted.append(np.clip(np.round(row / scale * steps), -limit, limit) / steps * scale)
    result = MXInt(total).quantize(torch.from_numpy(rows))
    assert torch.equal(result, torch.from_numpy(np.stack(wanted).astype(np.float32)))


def _least_error(row: np.ndarray, format: Blocked) -> np.ndarray:
    """How far off each value is at the smallest shared exponent that clips by half a step at most."""
    assert format.levels is not None
    levels = format.levels.double().numpy()
    top = levels.max()
    last_gap = levels[-1] - levels[-2] if not isinstance(format, BlockLog) else top
    largest = float(np.abs(row).max())
    if largest == 0:
        return np.zeros_like(row)
    exponent = -127
    # A tie goes to the even neighbour, which for minifloats is beyond the top.
    past = (lambda a, b: a >= b) if isinstance(format, BlockMinifloat) else (lambda a, b: a > b)
    while past(largest, (top + last_gap / 2) * 2.0**exponent):
        exponent += 1
    scale = 2.0**exponent
    distance = np.abs(row[:, None] - levels * scale)
    return distance.min(1)


@pytest.mark.parametrize(
    "spec", ["bfp6b32", "bfp2b32", "bfp8b32", "bm6e3m2b32", "bm4e2m1b32", "bm8e4m3b32", "blog4b32"]
)
def test_block_formats_choose_the_finest_scale_that_holds_the_block(spec: str) -> None:
    format = parse(spec)
    assert isinstance(format, Blocked)
    rows = _blocks(3, count=200)
    result = format.quantize(torch.from_numpy(rows)).double().numpy()
    for row, quantized in zip(rows.astype(np.float64), result, strict=True):
        expected = _least_error(row, format)
        np.testing.assert_array_equal(np.abs(quantized - row), expected)


@pytest.mark.parametrize(
    "format", [BlockFloat(6, 16), BlockMinifloat(6, 3, 16), BlockLog(4, 16), MXInt(), MXFloat(8, 4)], ids=str
)
def test_blocks_lie_along_the_axis_and_end_with_the_line(format: Format) -> None:
    assert isinstance(format, Blocked)
    block, _ = format.block_axis
    values = torch.randn(3, 2 * block + 5, generator=torch.Generator().manual_seed(9)) * torch.tensor(
        [[1.0], [9.0], [80.0]]
    )
    result = format.quantize(values)
    for row in range(3):
        for start in (0, block):
            piece = values[row : row + 1, start : start + block]
            assert torch.equal(format.quantize(piece), result[row : row + 1, start : start + block])
    other = parse(format.spec + "a0")
    assert torch.equal(other.quantize(values.t()), result.t())
    assert torch.equal(parse(format.spec + "a1").quantize(values.reshape(3, -1, 1)), result.reshape(3, -1, 1))


@pytest.mark.parametrize("spec", ["bfp6b16", "bm6e3m2b16", "blog4b16", "mxint8", "mxfp4e2m1"])
def test_a_tensor_smaller_than_a_block_is_refused(spec: str) -> None:
    for values in (torch.ones(15), torch.ones(()), torch.ones(3, 5)):
        with pytest.raises(InvalidArgument, match="larger than a tensor of shape") as caught:
            parse(spec).quantize(values)
        assert "\n" not in str(caught.value)
    assert parse(spec).quantize(torch.ones(32)).shape == (32,)
    with pytest.raises(InvalidArgument, match="axis"):
        parse(spec + "a2").quantize(torch.ones(8, 8))


def test_rank_zero_with_blocks_of_one() -> None:
    assert BlockFloat(6, 1).quantize(torch.tensor(1.99)).item() == 2.0


def test_shared_exponents_count() -> None:
    assert parse("bfp6b16").tensor_bits((4, 32)) == 128 * 6 + 8 * 8
    assert parse("bfp6b16").tensor_bits((4, 33)) == 132 * 6 + 12 * 8
    assert parse("bfp6b16a0").tensor_bits((4, 33)) == 132 * 6 + 33 * 8
    assert parse("mxfp4e2m1").tensor_bits((64,)) == 64 * 4 + 16
    assert parse("mxfp4e2m1").bits(64) == 64 * 4 + 16
    assert parse("mxfp4e2m1").tensor_bits((0, 8)) == 0
    assert parse("bfp6b1").tensor_bits(()) == 14
    many = parse("mxint8").bits(np.array([320, 660]), rows=np.array([10, 20]))
    assert many.tolist() == [320 * 8 + 80, 660 * 8 + 20 * 2 * 8]


def test_infinity_outshines_its_block_and_nan_does_not() -> None:
    values = torch.ones(2, 32)
    values[0, 0], values[1, 0] = torch.inf, torch.nan
    result = parse("mxfp8e4m3").quantize(values)
    assert result[0, 0] == 448 * 2.0**119
    assert bool((result[0, 1:] == 0).all())
    assert result[1, 0].isnan()
    assert bool((result[1, 1:] == 1).all())


@pytest.mark.parametrize(
    "make",
    [
        lambda: BlockFloat(1, 16),
        lambda: BlockFloat(17, 16),
        lambda: BlockFloat(6, 0),
        lambda: BlockFloat(6, -16),
        lambda: BlockFloat(6, 1 << 21),
        lambda: BlockMinifloat(6, 7, 16),
        lambda: BlockMinifloat(3, 3, 16),
        lambda: BlockLog(9, 16),
        lambda: MXInt(1),
        lambda: MXFloat(8, 3),
        lambda: MXFloat(5, 2),
    ],
)
def test_what_cannot_be(make: object) -> None:
    assert callable(make)
    with pytest.raises(InvalidArgument) as caught:
        make()
    assert "\n" not in str(caught.value)
