"""The compiled kernels give the bits of torch, which they stand in for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evonas.engine import fused
from evonas.engine.scores import Labelled, _finite, _right

pytest.importorskip("numba")
FLOATS = st.floats(width=32) | st.integers(-600, 600).map(lambda n: n / 16)  # NaN, infinities, -0, ties


def grid(data: st.DataObject, most: int) -> tuple[float, float, float]:
    """Scale, lowest and highest integer of a format of at most `most` bits."""
    half = 2.0 ** (data.draw(st.integers(1, most)) - 1)
    return 2.0 ** data.draw(st.integers(-3, 6)), -half, half - 1


def drawn(data: st.DataObject, *shape: int) -> torch.Tensor:
    """Floats of all kinds."""
    count = int(np.prod(shape))
    return torch.tensor(data.draw(st.lists(FLOATS, min_size=count, max_size=count))).reshape(shape)


@given(data=st.data())
@settings(deadline=None)
def test_gathering_rounds_as_torch_does(data: st.DataObject) -> None:
    kernels = fused.load()
    assert kernels is not None
    values, relu = drawn(data, 2, 37), data.draw(st.booleans())
    source = np.array([1, 0, 1])
    grids = [grid(data, 16) for _ in source]
    found = np.empty((3, 37), np.float32)
    kernels.gather(values.numpy(), source, np.array(grids, np.float32), relu, found)
    for row, which, (scale, low, high) in zip(found, source, grids, strict=True):
        expected = (values[which] * scale).clamp(0.0 if relu else low, high).round()
        assert np.array_equal(row, expected.numpy(), equal_nan=True)


@given(data=st.data())
@settings(deadline=None)
def test_a_layer_is_that_of_torch(data: st.DataObject) -> None:
    kernels = fused.load()
    assert kernels is not None
    inputs, outputs, samples = (data.draw(st.integers(1, most)) for most in (4, 3, 9))
    values, relu = drawn(data, 2, inputs, samples), data.draw(st.booleans())
    source, counts, parts = np.array([1, 0]), np.array([1, 2]), np.array([2, 0, 1])
    grids = [grid(data, 8) for _ in source]
    weights = torch.from_numpy(np.random.default_rng(0).integers(-99, 99, (3, outputs, inputs + 1))).float()
    doubted, largest = np.array(data.draw(st.tuples(st.booleans(), st.booleans()))), np.empty(2, np.float32)
    found = np.full((3, outputs, samples), np.nan, np.float32)
    table = np.array(grids, np.float32)
    kernels.layer(values.numpy(), source, table, relu, weights.numpy(), parts, counts, doubted, largest, found)
    looked = zip(source, grids, doubted, largest, ([0], [1, 2]), strict=True)
    for which, (scale, low, high), asked, most, results in looked:
        rounded = (values[which] * scale).clamp(0.0 if relu else low, high).round()
        assert np.array_equal(most, rounded.abs().max().numpy() if asked else 0, equal_nan=True)
        for result in results:
            weight = weights[parts[result]]
            expected = weight[:, :-1] @ rounded + weight[:, -1:]
            assert np.array_equal(found[result], expected.numpy(), equal_nan=True)


@given(data=st.data())
@settings(deadline=None)
def test_codes_are_those_of_torch(data: st.DataObject) -> None:
    kernels = fused.load()
    assert kernels is not None
    values, (scale, low, high) = drawn(data, 45), grid(data, 8)
    found = np.empty(45, np.uint8)
    nans = kernels.encode(values.numpy(), *np.array([scale, low, high], np.float32), found)
    there = ~values.isnan().numpy()
    assert nans == 45 - there.sum()
    expected = (values * scale).round().clamp(low, high).add(128).nan_to_num().to(torch.uint8).numpy()
    assert np.array_equal(found[there], expected[there])


@given(data=st.data())
@settings(deadline=None)
def test_counting_is_that_of_torch(data: st.DataObject) -> None:
    kernels = fused.load()
    assert kernels is not None
    classes, samples = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    logits = rng.integers(-2, 3, size=(3, classes, samples)).astype(np.float32)
    logits[1, rng.integers(classes), rng.integers(samples)] = data.draw(
        st.sampled_from([np.nan, np.inf, -np.inf, 3e38])
    )
    runs = Labelled(torch.zeros(samples, 1), torch.from_numpy(rng.integers(classes, size=samples))).runs(
        slice(0, samples)
    )
    right, finite = np.empty(3, np.int64), np.empty(3, np.bool_)
    kernels.count(logits, runs, right, finite)
    assert finite.tolist() == _finite(torch.from_numpy(logits)).tolist()
    assert right[finite].tolist() == _right(torch.from_numpy(logits), runs)[finite].tolist()


def test_torch_is_used_until_loading_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused._Work, "elements", 0)
    cpu = torch.device("cpu")
    assert fused.kernels(cpu, fused._PAYS) is None
    assert fused.kernels(cpu, 1) is fused.load()
    assert fused.kernels(torch.device("meta"), 1) is None
