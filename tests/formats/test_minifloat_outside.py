"""Minifloats against ml_dtypes, torch, numpy and qonnx, bit for bit at values, midpoints and neighbours."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
import torch
from contracts.formats import neighbourhood
from qonnx.custom_op.general.floatquant import float_quant

from evonas.errors import InvalidArgument
from evonas.formats import Minifloat, parse

_ML_DTYPES = {
    "fp8e4m3fn": ml_dtypes.float8_e4m3fn,
    "fp8e4m3ieee": ml_dtypes.float8_e4m3,
    "fp8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "fp8e4m3fnuzb11": ml_dtypes.float8_e4m3b11fnuz,
    "fp8e5m2": ml_dtypes.float8_e5m2,
    "fp8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "fp8e3m4": ml_dtypes.float8_e3m4,
    "fp6e3m2": ml_dtypes.float6_e3m2fn,
    "fp6e2m3": ml_dtypes.float6_e2m3fn,
    "fp4e2m1": ml_dtypes.float4_e2m1fn,
    "fp16e8m7": ml_dtypes.bfloat16,
}
_TORCH = {
    "fp8e4m3": torch.float8_e4m3fn,
    "fp8e4m3fnuz": torch.float8_e4m3fnuz,
    "fp8e5m2": torch.float8_e5m2,
    "fp8e5m2fnuz": torch.float8_e5m2fnuz,
    "fp16e5m10": torch.float16,
    "fp16e8m7": torch.bfloat16,
}


def _format(spec: str) -> Minifloat:
    format = parse(spec)
    assert isinstance(format, Minifloat)
    return format


def _points(format: Minifloat) -> torch.Tensor:
    assert format.levels is not None
    return neighbourhood(format.levels)


def _same_bits(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal with the signs of zeros; NaN equals NaN whatever its payload."""
    assert torch.equal(ours.isnan(), theirs.isnan())
    numbers = ~ours.isnan()
    assert torch.equal(ours[numbers].view(torch.int32), theirs[numbers].view(torch.int32))


@pytest.mark.parametrize("spec", _ML_DTYPES)
def test_ml_dtypes_levels(spec: str) -> None:
    """Every code of the word, read by ml_dtypes."""
    format = _format(spec)
    codes = np.arange(2**format.total, dtype=np.uint16 if format.total > 8 else np.uint8)
    read = codes.view(_ML_DTYPES[spec]).astype(np.float32)
    assert format.levels is not None
    assert format.levels.tolist() == sorted(set(read[np.isfinite(read)].tolist()))
    assert format.largest == float(ml_dtypes.finfo(_ML_DTYPES[spec]).max)


@pytest.mark.parametrize("spec", _ML_DTYPES)
def test_ml_dtypes_at_every_value_midpoint_and_neighbour(spec: str) -> None:
    """With `o`, so that what overflows does as there; formats without infinity and NaN saturate in both."""
    format = _format(spec + "o")
    values = torch.cat([_points(format), torch.tensor([torch.inf, -torch.inf, 3e38, -3e38, 1e-45, -1e-45])])
    if format.special != "finite":
        values = torch.cat([values, torch.tensor([torch.nan])])
    wanted = torch.from_numpy(values.numpy().astype(_ML_DTYPES[spec]).astype(np.float32))
    _same_bits(format.quantize(values), wanted)


@pytest.mark.parametrize("spec", _ML_DTYPES)
def test_saturation_is_the_cast_of_the_clamped(spec: str) -> None:
    format = _format(spec)
    values = torch.cat([_points(format), torch.tensor([torch.inf, -torch.inf])])
    clamped = values.clamp(-format.largest, format.largest)
    wanted = torch.from_numpy(clamped.numpy().astype(_ML_DTYPES[spec]).astype(np.float32))
    _same_bits(format.quantize(values), wanted)


@pytest.mark.parametrize("spec", _TORCH)
def test_torch_at_every_value_midpoint_and_neighbour(spec: str) -> None:
    format = _format(spec)
    values = _points(format)
    values = values[values.abs() <= format.largest]
    _same_bits(format.quantize(values), values.to(_TORCH[spec]).float())


def test_numpy_float16_at_every_value_midpoint_and_neighbour() -> None:
    format = Minifloat(16, 5, overflow=True)
    with np.errstate(over="ignore"):
        values = torch.cat([_points(format), torch.tensor([torch.nan, torch.inf, -torch.inf, 1e38])])
        wanted = torch.from_numpy(values.numpy().astype(np.float16).astype(np.float32))
    _same_bits(format.quantize(values), wanted)


def test_float32_is_itself() -> None:
    bits = torch.randint(0, 2**31, (4096,), generator=torch.Generator().manual_seed(3), dtype=torch.int64)
    values = bits.to(torch.int32).view(torch.float32)
    values = values[torch.isfinite(values)]
    _same_bits(Minifloat(32, 8).quantize(values), values)


@pytest.mark.parametrize("exponent", range(1, 7))
@pytest.mark.parametrize("mantissa", range(1, 6))
def test_qonnx_for_any_split(exponent: int, mantissa: int) -> None:
    """In float64, where qonnx's logarithm is exact enough next to powers of two."""
    format = Minifloat(1 + exponent + mantissa, exponent, "finite")
    values = _points(format)
    bias = np.float64(format.offset)
    wanted = float_quant(
        values.double().numpy(),
        np.float64(1),
        np.float64(exponent),
        np.float64(mantissa),
        bias,
        has_subnormal=True,
    )
    assert torch.equal(format.quantize(values), torch.from_numpy(wanted).float())


def test_standard_names_and_constructors() -> None:
    assert parse("fp8e4m3") == Minifloat(8, 4) == Minifloat(8, 4, "fn") == parse("fp8e4m3fn")
    assert Minifloat(8, 4).largest == 448
    assert Minifloat(8, 4, "ieee").largest == 240
    assert Minifloat(8, 4, "ieee").spec == "fp8e4m3ieee"
    assert Minifloat(16, 5).largest == 65504
    assert parse("fp8e5m2o").quantize(torch.tensor(1e9)).item() == math.inf
    assert parse("fp8e5m2").quantize(torch.tensor(1e9)).item() == 57344


def test_negative_zero_only_where_it_has_a_code() -> None:
    zero = torch.tensor(-0.0)
    assert math.copysign(1, parse("fp8e4m3").quantize(zero).item()) == -1
    assert math.copysign(1, parse("fp8e4m3fnuz").quantize(zero).item()) == 1


def test_bias_is_calibrated_only_on_request() -> None:
    small = torch.randn(500, generator=torch.Generator().manual_seed(4)) * 1e-4
    assert parse("fp8e4m3").calibrate(small) == parse("fp8e4m3")
    for method in ("max", "percentile", "mse", "kl"):
        fitted = parse("fp8e4m3bfit").calibrate(small, method)
        assert isinstance(fitted, Minifloat)
        assert fitted.bias is not None
        assert fitted.concrete
        assert parse(fitted.spec) == fitted
        error = (fitted.quantize(small) - small).abs().max() / small.abs().max()
        assert float(error) < (0.2 if method == "percentile" else 0.1)
    with pytest.raises(InvalidArgument, match="not concrete"):
        parse("fp8e4m3bfit").quantize(small)
    assert parse("fp8e4m3bfit").calibrate(torch.zeros(3)) == parse("fp8e4m3")
    for size in (1e-45, 1e-38, 3e38):
        extreme = parse("fp8e4m3bfit").calibrate(torch.tensor([size]))
        assert bool(torch.isfinite(extreme.quantize(torch.tensor([size, 1.0]))).all())


@pytest.mark.parametrize("largest", [448.0, 449.0, 464.0, 465.0, 479.0, 480.0, 1.0, 1.99])
def test_max_bias_is_the_finest_that_does_not_clip(largest: float) -> None:
    format = parse("fp8e4m3bfit").calibrate(torch.tensor([largest, -0.01]), "max")
    assert isinstance(format, Minifloat)
    assert format.bias is not None
    value = torch.tensor(largest)
    assert bool(format.nearest(value)[1])
    assert not bool(Minifloat(8, 4, bias=format.bias + 1).nearest(value)[1])


@pytest.mark.parametrize(
    "arguments",
    [
        {"total": 8, "exponent": 0},
        {"total": 8, "exponent": 9},
        {"total": 4, "exponent": 4},
        {"total": 33, "exponent": 8},
        {"total": 8, "exponent": 4, "special": "inf"},
        {"total": 4, "exponent": 1, "special": "ieee"},
        {"total": 5, "exponent": 4, "special": "ieee"},
        {"total": 5, "exponent": 4, "special": "fn"},
        {"total": 8, "exponent": 4, "bias": 1000},
        {"total": 8, "exponent": 4, "bias": -1000},
        {"total": 12, "exponent": 8, "special": "finite"},
        {"total": 8, "exponent": 4, "bias": 7, "fit": True},
    ],
    ids=str,
)
def test_what_cannot_be(arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Minifloat(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
