"""Calibration: what each method promises, on data where the answer can be found otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evonas.errors import InvalidArgument, UnknownName
from evonas.formats import METHODS, Fixed, Format, Integer, parse
from evonas.formats.calibration import _divergence, _histogram, finite_row

_OPEN = """fixed8 fixed4 int8 int4 int4n int8a uint4 int4c int8ac fp8e4m3bfit fp4e2m1bfit log4 binarys
ternarysc""".split()  # noqa: SIM905


def _data(seed: int = 0) -> torch.Tensor:
    return torch.randn(6, 500, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spec", _OPEN)
@pytest.mark.parametrize("method", METHODS)
def test_gives_a_concrete_format_that_reads_back(spec: str, method: str) -> None:
    format = parse(spec)
    assert not format.concrete
    found = format.calibrate(_data(), method)
    assert found.concrete
    assert parse(found.spec) == found
    assert found.calibrate(_data(1), method) is found
    assert found.quantize(_data()).shape == (6, 500)


@pytest.mark.parametrize("spec", _OPEN)
def test_mse_is_the_default_and_never_worse_than_the_others(spec: str) -> None:
    data = _data()

    def error(found: Format) -> float:
        return float((found.quantize(data) - data).square().mean())

    best = parse(spec).calibrate(data)
    assert best == parse(spec).calibrate(data, "mse")
    for method in ("max", "percentile", "kl"):
        # A percentile range need not be one of the ranges that the search tries.
        assert error(best) <= error(parse(spec).calibrate(data, method)) * 1.02


@pytest.mark.parametrize("spec", _OPEN)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_finite_does_not_count(spec: str, method: str) -> None:
    clean = _data()
    dirty = torch.cat([clean, torch.zeros(6, 3)], 1)
    spoilt = torch.cat([clean, torch.tensor([torch.nan, torch.inf, -torch.inf]).expand(6, 3)], 1)
    format = parse(spec)
    if spec.endswith("c"):  # in channels a zero stands in
        assert format.calibrate(spoilt, method) == format.calibrate(dirty, method)
    else:
        assert format.calibrate(spoilt, method) == format.calibrate(clean, method)


def test_percentile_is_that_of_numpy() -> None:
    data = _data()
    for percentile in (50.0, 90.0, 99.0, 100.0):
        found = Integer(8, narrow=True).calibrate(data, "percentile", percentile=percentile)
        limit = np.percentile(data.abs().numpy(), percentile, method="inverted_cdf")
        assert isinstance(found.scale, tuple)
        assert found.scale[0] == pytest.approx(float(limit) / 127, rel=1e-6)


def test_outliers_move_max_and_hardly_the_others() -> None:
    data = torch.cat([torch.randn(20000, generator=torch.Generator().manual_seed(3)), torch.tensor([40.0])])
    scale = {method: Integer(8).calibrate(data, method).scale for method in METHODS}
    assert all(isinstance(s, tuple) for s in scale.values())
    largest = {method: s[0] * 127 for method, s in scale.items() if isinstance(s, tuple)}
    assert largest["max"] == pytest.approx(40.0)
    assert largest["percentile"] < 4
    assert largest["kl"] < 10
    fixed = {method: Fixed(8).calibrate(data, method).frac for method in METHODS}
    assert fixed["max"] == 1
    assert fixed["percentile"] == 5


def test_int8_ranges_of_a_gaussian() -> None:
    """Between 3 and 5 standard deviations for a large normal sample, as is known for 8 bits."""
    data = torch.randn(200_000, generator=torch.Generator().manual_seed(4))
    for method in ("mse", "kl"):
        found = Integer(8, narrow=True).calibrate(data, method)
        assert isinstance(found.scale, tuple)
        assert 3 < found.scale[0] * 127 < 5


@pytest.mark.parametrize("spec", ["int8", "int4", "int8a", "uint4", "fixed8", "ternarys"])
@pytest.mark.parametrize("count", [50, 300, 20_000])
def test_kl_does_not_collapse_onto_the_middle(spec: str, count: int) -> None:
    """A range of a few histogram bins would have no divergence at all."""
    data = torch.randn(count, generator=torch.Generator().manual_seed(7))
    found = parse(spec).calibrate(data, "kl")
    widest = parse(spec).calibrate(data, "max")
    inside = found.nearest(data)[1].float().mean()
    assert float(inside) >= 0.85 * float(widest.nearest(data)[1].float().mean())


def test_affine_ranges_always_include_zero() -> None:
    found = Integer(8, affine=True).calibrate(torch.tensor([2.0, 3.0]), "max")
    assert found.scale == pytest.approx((3 / 255,))
    assert found.zero == (-128,)
    found = Integer(8, affine=True).calibrate(torch.tensor([-2.0, -3.0]), "max")
    assert found.zero == (127,)


def test_channels_are_calibrated_each_for_itself() -> None:
    data = _data() * torch.logspace(-2, 2, 6).unsqueeze(1)
    for method in METHODS:
        together = Integer(4, per_channel=True).calibrate(data, method)
        assert isinstance(together.scale, tuple)
        for row, scale in zip(data, together.scale, strict=True):
            assert Integer(4).calibrate(row, method).scale == pytest.approx((scale,))


def test_divergence_against_a_loop() -> None:
    """The vectorised divergence is the sum over bins that its description says."""
    row = finite_row(_data()[0])
    centers, shares = _histogram(row)
    format = Integer(3, scale=0.5)
    found, kept = _divergence(shares, centers, format.quantize(centers))
    p, c = shares[0].double().numpy(), centers[0].numpy()
    level = format.quantize(centers)[0].numpy()
    clipped = (c < level[0]) | (c > level[-1])
    inner = np.flatnonzero(~clipped)
    expected = np.where(clipped, 0.0, p)
    expected[inner[0]] += p[: inner[0]].sum()
    expected[inner[-1]] += p[inner[-1] + 1 :].sum()
    kept_mass = p[~clipped].sum()
    total = 0.0
    for value in np.unique(level):
        cell = (level == value) & (expected > 0)
        q = p[(level == value) & ~clipped].sum() / kept_mass / max(1, cell.sum())
        total += sum(e * np.log(e / max(q, 1e-7)) for e in expected[cell])
    assert float(found[0]) == pytest.approx(total, abs=1e-4)
    assert float(kept[0]) == pytest.approx(kept_mass, abs=1e-5)


def test_unknown_method_and_bad_percentile() -> None:
    for spec in ("fixed8", "fixed8.4", "int8", "fp8e4m3bfit", "log4", "ternarys"):
        with pytest.raises(UnknownName, match=r"valid names: mse"):
            parse(spec).calibrate(_data(), "mze")
        with pytest.raises(InvalidArgument, match="percentile"):
            parse(spec).calibrate(_data(), "percentile", percentile=0)
