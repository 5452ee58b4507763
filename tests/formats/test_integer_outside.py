"""Scaled integers against qonnx for every width, and torch's own fake quantization where they agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contracts.formats import neighbourhood
from qonnx.custom_op.general.intquant import int_quant

from evonas.errors import InvalidArgument
from evonas.formats import Integer, parse


def _qonnx(values: torch.Tensor, format: Integer) -> torch.Tensor:
    assert isinstance(format.scale, tuple)
    assert isinstance(format.zero, tuple)
    shape = [-1] + [1] * (values.dim() - 1) if format.per_channel else []
    scale = np.array(format.scale, dtype=np.float32).reshape(shape)
    zero = np.array(format.zero, dtype=np.float32).reshape(shape)
    bits = np.array(format.total, dtype=np.float32)
    result = int_quant(values.numpy(), scale, zero, bits, format.signed, format.narrow, "ROUND")
    return torch.from_numpy(np.asarray(result, dtype=np.float32))


def _codes(format: Integer) -> torch.Tensor:
    low, high = format.lowest, format.highest
    if high - low < 1 << 13:
        return torch.arange(low, high + 1).double()
    drawn = torch.randint(low, high + 1, (1 << 12,), generator=torch.Generator().manual_seed(format.total))
    near = torch.arange(65)
    return torch.cat([drawn, near, low + near, high - near]).unique().double()


# A single signed bit is `binary`; there is no such integer.
_KINDS = [(t, f) for t in range(1, 25) for f in ("", "n", "a", "na", "u", "ua") if t > 1 or "u" in f]


@pytest.mark.parametrize(("total", "flags"), _KINDS)
@pytest.mark.parametrize("scale", [0.25, 0.0371])
def test_qonnx_at_every_value_midpoint_and_neighbour(total: int, flags: str, scale: float) -> None:
    signed = "u" not in flags
    format = Integer(total, signed, "n" in flags, "a" in flags, scale=scale)
    if format.affine:
        zero = (format.lowest + format.highest) // 3
        format = Integer(total, signed, "n" in flags, True, scale=scale, zero=zero)
    assert isinstance(format.scale, tuple)
    assert isinstance(format.zero, tuple)
    values = neighbourhood(((_codes(format) - format.zero[0]) * format.scale[0]).float())
    assert torch.equal(format.quantize(values), _qonnx(values, format))


@pytest.mark.parametrize("total", [2, 4, 8])
@pytest.mark.parametrize("affine", [False, True])
def test_qonnx_per_channel_on_4d_weights(total: int, affine: bool) -> None:
    values = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    values = values * torch.arange(1.0, 6).reshape(5, 1, 1, 1)
    format = Integer(total, affine=affine, per_channel=True).calibrate(values)
    assert torch.equal(format.quantize(values), _qonnx(values, format))


@pytest.mark.parametrize("total", [2, 4, 8])
def test_torch_fake_quantize_at_a_power_of_two(total: int) -> None:
    format = Integer(total, scale=0.125)
    assert format.levels is not None
    values = neighbourhood(format.levels)
    wanted = torch.fake_quantize_per_tensor_affine(values, 0.125, 0, format.lowest, format.highest)
    assert torch.equal(format.quantize(values), wanted)


def test_channels_along_another_axis() -> None:
    values = torch.randn(4, 3, 5)
    along = Integer(4, per_channel=True, axis=1).calibrate(values)
    front = Integer(4, per_channel=True).calibrate(values.movedim(1, 0))
    assert along.scale == front.scale
    assert torch.equal(along.quantize(values), front.quantize(values.movedim(1, 0)).movedim(0, 1))
    assert parse(along.spec) == along
    assert along.spec.startswith("int4c1@")
    assert along.tensor_bits(values.shape) == 60 * 4 + 3 * 32


def test_scales_and_zero_points_count() -> None:
    assert Integer(8).bits(100) == 800 + 32
    assert Integer(8, affine=True).bits(100) == 800 + 40
    assert Integer(4, per_channel=True).bits(100, channels=10) == 400 + 320
    assert Integer(4, affine=True, per_channel=True).tensor_bits((10, 2, 5)) == 400 + 10 * 36


def test_zero_is_exact_in_affine_formats() -> None:
    for values in (torch.tensor([0.1, 3.0]), torch.tensor([-5.0, -0.2]), torch.tensor([-1.0, 2.5])):
        for method in ("max", "percentile", "mse", "kl"):
            format = Integer(8, affine=True).calibrate(values, method)
            assert float(format.quantize(torch.zeros(()))) == 0.0


def test_max_covers_the_data() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(2))
    for spec in ("int8", "int8n", "int8a", "uint8a"):
        format = parse(spec).calibrate(values, "max")
        assert isinstance(format, Integer)
        assert isinstance(format.scale, tuple)
        assert float((format.quantize(values) - values).abs().max()) <= format.scale[0] * 0.51


@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e38, 3.4e38])
def test_extreme_magnitudes_stay_finite(size: float) -> None:
    values = torch.tensor([size, -size, size / 3])
    for spec in ("int2", "int8", "int8a", "int8n", "uint8"):
        for method in ("max", "mse", "kl"):
            assert bool(torch.isfinite(parse(spec).calibrate(values, method).quantize(values)).all())


def test_degenerate_channels() -> None:
    values = torch.tensor([[0.0, 0.0], [torch.nan, torch.inf], [1.0, -1.0]])
    format = Integer(8, per_channel=True).calibrate(values)
    assert isinstance(format.scale, tuple)
    assert format.scale[:2] == (1.0, 1.0)
    assert Integer(8, per_channel=True).calibrate(torch.zeros(0, 4)).concrete
    with pytest.raises(InvalidArgument, match="3 scales does not suit 2 channels"):
        format.quantize(torch.ones(2, 2))
    with pytest.raises(InvalidArgument, match="axis"):
        Integer(8, per_channel=True).calibrate(torch.tensor(1.0))


@pytest.mark.parametrize(
    "arguments",
    [
        {"total": 1},
        {"total": 25},
        {"total": 8, "signed": False, "narrow": True},
        {"total": 8, "scale": 0.0},
        {"total": 8, "scale": -1.0},
        {"total": 8, "scale": float("nan")},
        {"total": 8, "scale": float("inf")},
        {"total": 8, "scale": (0.5, 0.5)},
        {"total": 8, "scale": ()},
        {"total": 8, "zero": 3},
        {"total": 8, "scale": 0.5, "zero": 3},
        {"total": 8, "affine": True, "scale": 0.5, "zero": 128},
        {"total": 8, "affine": True, "scale": 0.5, "zero": (1, 2)},
    ],
    ids=str,
)
def test_what_cannot_be(arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Integer(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
