"""What every number format must do. A new format inherits `FormatContract` and gives the fixture `format`."""

from __future__ import annotations

import dataclasses

import hypothesis.extra.numpy
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from evonas.errors import InvalidArgument
from evonas.formats import Format, parse

# Formats never change, so sharing one between examples is safe, and so is inheriting the tests.
checked = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
SHAPE = (2, 32)  # two channels, and a whole block of any format
_VALUES = st.one_of(
    st.floats(-4, 4, width=32),
    st.floats(-(2.0**-8), 2.0**-8, width=32),
    st.floats(-600, 600, width=32),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.integers(-40, 40).map(lambda n: n / 16),  # many ties
)
tensors = hypothesis.extra.numpy.arrays(np.float32, SHAPE, elements=_VALUES).map(torch.from_numpy)


def neighbourhood(levels: Tensor) -> Tensor:
    """All `levels` (ascending), the points halfway between, beyond both ends, and the floats next to each."""
    wide = levels.double()
    middles = ((wide[1:] + wide[:-1]) / 2).float()
    gaps = (wide[[1, -1]] - wide[[0, -2]]) / 2
    beyond = [wide[0] - gaps[0], wide[0] - 2 * gaps[0], wide[-1] + gaps[1], wide[-1] + 2 * gaps[1]]
    points = torch.cat([levels, middles, torch.stack(beyond).float(), torch.tensor([0.0, -0.0])])
    up = torch.nextafter(points, torch.tensor(torch.inf))
    down = torch.nextafter(points, torch.tensor(-torch.inf))
    return torch.cat([points, up, down])


def grid(format: Format, values: Tensor) -> Tensor | None:
    """The levels open to each element of `values`, shape (..., levels), in float64; None if not listed."""
    levels = format.levels
    if levels is None:
        return None
    if levels.dim() == 2:  # one row for each channel; channels come first in all values of this suite
        levels = levels.reshape(levels.shape[0], *[1] * (values.dim() - 1), -1)
    return format.scales(values).double().unsqueeze(-1) * levels.double()


class FormatContract:
    """Inherit, and give a fixture `format` that returns a concrete format."""

    @pytest.fixture
    def format(self) -> Format:
        raise NotImplementedError

    def test_spec_round_trips(self, format: Format) -> None:
        assert format.concrete
        assert parse(format.spec) == format
        assert parse(format.spec).spec == format.spec == str(format)
        assert "\n" not in format.spec

    def test_is_a_frozen_value(self, format: Format) -> None:
        field = dataclasses.fields(format)[0].name if dataclasses.fields(format) else "anything"
        with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
            setattr(format, field, 1)
        assert hash(parse(format.spec)) == hash(format)

    def test_calibration_respects_what_is_given(self, format: Format) -> None:
        assert format.calibrate(torch.randn(SHAPE)) is format

    @checked
    @given(values=tensors)
    def test_idempotent(self, format: Format, values: Tensor) -> None:
        once = format.quantize(values)
        assert torch.equal(format.quantize(once), once)

    @checked
    @given(values=tensors)
    def test_monotone(self, format: Format, values: Tensor) -> None:
        """Among elements that share their scale; rows may have scales of their own."""
        quantized, scales = format.quantize(values), format.scales(values)
        for row in range(len(values)):
            ordered = values[row][:, None] <= values[row][None, :]
            same = scales[row][:, None] == scales[row][None, :]
            kept = quantized[row][:, None] <= quantized[row][None, :]
            assert bool((kept | ~(ordered & same)).all())

    @checked
    @given(values=tensors)
    def test_odd_where_said(self, format: Format, values: Tensor) -> None:
        if format.odd:
            assert torch.equal(format.quantize(-values), -format.quantize(values))

    @checked
    @given(values=tensors)
    def test_nearest_level_and_never_outside(self, format: Format, values: Tensor) -> None:
        """On the grid, within its ends, and off by at most half a step: nothing on the grid is nearer."""
        levels = grid(format, values)
        if levels is None:
            return
        quantized = format.quantize(values).double()
        assert bool((levels.float().double() == quantized.unsqueeze(-1)).any(-1).all())
        assert bool((quantized <= levels.amax(-1).float()).all())
        assert bool((quantized >= levels.amin(-1).float()).all())
        wanted = values.double().clamp(levels.amin(-1), levels.amax(-1))
        least = (levels - wanted.unsqueeze(-1)).abs().amin(-1)
        # Scales that are no powers of two are rounded themselves.
        slack = 1e-6 * wanted.abs() + 2.0**-149
        assert bool(((quantized - wanted).abs() <= least + slack).all())

    @checked
    @given(values=tensors)
    def test_gradient_is_one_inside_and_zero_where_clipped(self, format: Format, values: Tensor) -> None:
        leaf = values.clone().requires_grad_()
        result = format.quantize(leaf)
        assert torch.equal(result.detach(), format.quantize(values))
        result.sum().backward()
        assert leaf.grad is not None
        levels = grid(format, values)
        if levels is None:
            assert set(leaf.grad.unique().tolist()) <= {0.0, 1.0}
            return
        low, high = levels.amin(-1), levels.amax(-1)
        ordered = levels.sort(-1).values
        gap = torch.maximum(ordered[..., 1] - ordered[..., 0], ordered[..., -1] - ordered[..., -2])
        inside = (values.double() >= low) & (values.double() <= high)
        clipped = (values.double() < low - gap) | (values.double() > high + gap)
        assert bool((leaf.grad[inside] == 1).all())
        assert bool((leaf.grad[clipped] == 0).all())

    def test_functional_transforms(self, format: Format) -> None:
        """`torch.func.grad` sees the same gradient as autograd."""
        values = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)).requires_grad_()
        format.quantize(values).sum().backward()
        found = torch.func.grad(lambda x: format.quantize(x).sum())(values.detach())
        assert torch.equal(found, values.grad)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
    def test_keeps_dtype_and_stays_in_range_there(self, format: Format, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        for size in (0.01, 1.0, 100.0):
            values = (torch.randn(SHAPE, generator=generator) * size).to(dtype)
            result = format.quantize(values)
            assert result.dtype == dtype
            assert result.shape == values.shape
            assert torch.equal(format.quantize(result), result)
            levels = grid(format, values)
            if levels is not None:
                ends = levels.amin(-1), levels.amax(-1)
                if not format.short:
                    ends = ends[0].to(dtype).double(), ends[1].to(dtype).double()
                slack = 1e-6 * ends[1].abs() if dtype == torch.float64 else 0.0
                assert bool((result.double() >= ends[0] - slack).all())
                assert bool((result.double() <= ends[1] + slack).all())

    @pytest.mark.parametrize("shape", [(2, 32), (2, 4, 8), (2, 2, 4, 4), (2, 2, 2, 2, 4), (2, 35), (2, 3, 33)])
    def test_any_rank_and_layout(self, format: Format, shape: tuple[int, ...]) -> None:
        values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        before = values.clone()
        result = format.quantize(values)
        assert torch.equal(values, before)
        assert result.shape == values.shape
        assert torch.equal(format.quantize(result), result)
        strided = values.transpose(0, -1).contiguous().transpose(0, -1)
        assert torch.equal(format.quantize(strided), result)

    @pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 32), (2, 0, 3)])
    def test_empty(self, format: Format, shape: tuple[int, ...]) -> None:
        values = torch.zeros(shape, requires_grad=True)
        result = format.quantize(values)
        assert result.shape == values.shape
        result.sum().backward()
        assert format.scales(values).shape == values.shape

    def test_zeros(self, format: Format) -> None:
        result = format.quantize(torch.zeros(SHAPE))
        levels = format.levels
        if levels is None or bool((levels == 0).any()):
            assert torch.equal(result, torch.zeros(SHAPE))
        assert bool(torch.isfinite(format.scales(torch.zeros(SHAPE))).all())

    def test_nan_stays_and_infinities_take_the_ends(self, format: Format) -> None:
        values = torch.ones(SHAPE)
        values[0, 3], values[0, 5], values[1, 7] = torch.nan, torch.inf, -torch.inf
        result = format.quantize(values)
        assert result[0, 3].isnan()
        assert int(result.isnan().sum()) == 1
        levels = grid(format, values)
        if levels is not None:
            assert result[0, 5] == levels[0, 5].amax().float()
            assert result[1, 7] == levels[1, 7].amin().float()

    def test_gradient_of_nan_and_infinity_is_zero(self, format: Format) -> None:
        values = torch.tensor([[torch.nan, torch.inf] * 16, [-torch.inf, 1.0] * 16], requires_grad=True)
        format.quantize(values).sum().backward()
        assert values.grad is not None
        assert bool(torch.isfinite(values.grad).all())

    def test_integers_are_refused(self, format: Format) -> None:
        with pytest.raises(InvalidArgument, match="tensor of floats"):
            format.quantize(torch.ones(SHAPE, dtype=torch.int64))

    def test_bits_of_many_tensors_at_once(self, format: Format) -> None:
        elements = np.array([64, 640, 6400])
        many = format.bits(elements, channels=np.array([2, 2, 4]), rows=np.array([2, 20, 4]))
        one_by_one = [format.bits(e, channels=c, rows=r) for e, c, r in [(64, 2, 2), (640, 2, 20), (6400, 4, 4)]]
        assert many.tolist() == one_by_one
        assert (many >= elements * format.width).all()
        assert format.tensor_bits(SHAPE) == format.bits(64, channels=2, rows=2)
        assert isinstance(format.tensor_bits(SHAPE), int)

    def test_levels_fit_the_width(self, format: Format) -> None:
        levels = format.levels
        if levels is not None:
            assert levels.dtype == torch.float32
            assert levels.shape[-1] <= 2**format.width
            assert bool((levels.diff(dim=-1) > 0).all())
