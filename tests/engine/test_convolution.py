"""Convolutions in 8-bit integers: the bits of float32, for every stride, padding, dilation and group."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evonas.chains import Extent
from evonas.engine.convolution import _codes, _eight_bit, eight_bits_work
from evonas.engine.values import Listed
from evonas.formats import Fixed
from evonas.plan import Layer, LayerPlan

here = pytest.mark.skipif(not eight_bits_work(), reason="this processor's 8-bit convolutions are not exact")


def made(data: st.DataObject, data_bits: int, weight_bits: int) -> tuple[nn.Conv2d, LayerPlan, Tensor]:
    """A convolution with weights on the grid of its format, its plan, and inputs."""
    groups = data.draw(st.sampled_from([1, 2, 4]))
    module = nn.Conv2d(
        4 * groups,
        4 * data.draw(st.integers(1, 4)) * groups,
        data.draw(st.integers(1, 3)),
        stride=data.draw(st.integers(1, 2)),
        padding=data.draw(st.integers(0, 2)),
        dilation=data.draw(st.integers(1, 2)),
        groups=groups,
        bias=data.draw(st.booleans()),
    ).eval()
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
    layer = Layer("conv", "conv", Extent(4), Extent(4), bias=module.bias is not None)
    plan = LayerPlan(layer, 4, 4, data_in=Fixed(data_bits, 3), weight=Fixed(weight_bits, 5), bias=Fixed(12, 6))
    module.weight.data = plan.weight.quantize(3 * torch.randn(module.weight.shape, generator=generator))
    if module.bias is not None:
        module.bias.data = plan.bias.quantize(torch.randn(module.bias.shape, generator=generator))
    return module, plan, 20 * torch.randn(3, module.in_channels, 7, 6, generator=generator)


@here
@settings(max_examples=60, deadline=None)
@given(data=st.data(), data_bits=st.integers(1, 8), weight_bits=st.integers(1, 8))
def test_integers_give_the_bits_of_floats(data: st.DataObject, data_bits: int, weight_bits: int) -> None:
    module, plan, values = made(data, data_bits, weight_bits)
    with torch.no_grad():
        convolved = _eight_bit(module, plan, module.weight, module.bias)
        codes = _codes(plan.data_in, values)
        assert convolved is not None
        assert codes is not None
        found = convolved(codes)
        assert torch.equal(found, module(plan.data_in.quantize(values)))
        one = Listed([found], turned=True).one(0)
        assert torch.equal(one, found)
        assert one.stride() == torch.empty(found.shape).stride()  # as in the plain path


@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_what_has_more_bits_is_left_to_floats(data: st.DataObject) -> None:
    for bits in ((9, 4), (4, 9)):
        module, plan, _ = made(data, *bits)
        assert _eight_bit(module, plan, module.weight, module.bias) is None


def test_a_value_that_is_no_number_has_no_code() -> None:
    assert _codes(Fixed(8, 2), torch.tensor([[[[1.0, torch.nan]]]])) is None
    assert _codes(Fixed(8, 2), torch.tensor([[[[1.0, torch.inf]]]])) is not None  # it saturates
