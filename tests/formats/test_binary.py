"""Binary and ternary against qonnx's bipolar and two-bit narrow quantizers, and their closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contracts.formats import neighbourhood
from qonnx.custom_op.general.intquant import int_quant

from evonas.errors import InvalidArgument
from evonas.formats import Binary, Ternary, parse


def _qonnx(values: torch.Tensor, bits: int, scale: float) -> torch.Tensor:
    width = np.array(bits, dtype=np.float32)
    result = int_quant(values.numpy(), np.float32(scale), np.float32(0), width, True, True, "ROUND")
    return torch.from_numpy(np.asarray(result, dtype=np.float32))


@pytest.mark.parametrize("scale", [1.0, 0.3, 2.0**-7, 19.0])
def test_qonnx_at_every_value_midpoint_and_neighbour(scale: float) -> None:
    for format, bits in ((Binary(True, scale=scale), 1), (Ternary(True, scale=scale), 2)):
        assert format.levels is not None
        values = neighbourhood(format.levels)
        values = values[(values == 0) | (values.abs() > 1e-40)]  # qonnx divides these to zero
        assert torch.equal(format.quantize(values), _qonnx(values, bits, scale))


def test_binary_is_odd_but_for_zero() -> None:
    values = torch.tensor([-2.0, -1e-30, -0.0, 0.0, 1e-30, 2.0])
    assert Binary().quantize(values).tolist() == [-1, -1, 1, 1, 1, 1]


def test_mse_scale_of_binary_is_the_mean_magnitude() -> None:
    """XNOR-Net, arXiv:1603.05279, equation 6."""
    weight = torch.randn(6, 20, generator=torch.Generator().manual_seed(6))
    one = Binary(True).calibrate(weight)
    assert one.scale == pytest.approx((float(weight.abs().mean()),))
    each = Binary(True, True).calibrate(weight)
    assert each.scale == pytest.approx(tuple(weight.abs().mean(1).tolist()))


def test_mse_scale_of_ternary_is_close_to_the_optimum() -> None:
    """Best threshold and scale by trying every split of the sorted magnitudes."""
    weight = torch.randn(30, 40, generator=torch.Generator().manual_seed(7))
    ordered = weight.abs().flatten().sort(descending=True).values.double()
    sums = ordered.cumsum(0)
    counts = torch.arange(1, len(ordered) + 1)
    best = float((ordered.square().sum() - (sums.square() / counts).max()) / len(ordered))
    ours = Ternary(True).calibrate(weight)
    assert float((ours.quantize(weight) - weight).square().mean()) <= best * 1.01


@pytest.mark.parametrize("shape", [(7,), (5, 4), (5, 4, 3), (5, 4, 3, 3)])
@pytest.mark.parametrize("spec", ["binary", "binarys", "binarysc", "ternary", "ternarys", "ternarysc", "ternarysc-1"])
def test_any_rank(shape: tuple[int, ...], spec: str) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(8))
    for method in ("max", "percentile", "mse", "kl"):
        format = parse(spec).calibrate(weight, method)
        assert format.quantize(weight).shape == shape
        assert parse(format.spec) == format


def test_bits() -> None:
    assert Binary().bits(100) == 100
    assert Binary(True).bits(100) == 132
    assert Ternary().bits(100) == 200
    assert Ternary(True, True).tensor_bits((10, 10)) == 200 + 320
    assert Ternary(True, True, axis=1).tensor_bits((10, 5)) == 100 + 160


def test_degenerate_data() -> None:
    for spec in ("binarys", "ternarys"):
        for values in (torch.zeros(4), torch.empty(0), torch.tensor([torch.nan, torch.inf])):
            format = parse(spec).calibrate(values)
            assert format == parse(spec + "@1")
    assert Ternary(True, True).calibrate(torch.zeros(0, 3)).concrete


def test_what_cannot_be() -> None:
    for make in (
        lambda: Binary(per_channel=True),
        lambda: Ternary(scale=0.5),
        lambda: Binary(True, scale=0.0),
        lambda: Ternary(True, scale=(0.5, 0.5)),
        lambda: Binary(True, True, axis=3).calibrate(torch.ones(2, 2)),
    ):
        with pytest.raises(InvalidArgument) as caught:
            make()
        assert "\n" not in str(caught.value)
