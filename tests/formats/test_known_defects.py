"""Mistakes that other implementations of these formats make."""

from __future__ import annotations

import pytest
import torch

from evonas.formats import Minifloat, parse


def test_mantissa_carries_in_minifloats() -> None:
    assert Minifloat(8, 4).quantize(torch.tensor(1.99)).item() == 2.0
    assert Minifloat(7, 3).quantize(torch.tensor(1.99)).item() == 2.0


@pytest.mark.parametrize("exponent", [2, 3, 4, 5])
@pytest.mark.parametrize("mantissa", [1, 2, 3, 4])
def test_one_is_one_in_every_minifloat(exponent: int, mantissa: int) -> None:
    for special in ("ieee", "fn", "fnuz", "finite"):
        format = Minifloat(1 + exponent + mantissa, exponent, special)
        assert format.quantize(torch.tensor(1.0)).item() == 1.0


def test_one_is_one_where_it_is_subnormal() -> None:
    format = Minifloat(6, 2, "finite", bias=-2)  # steps of one half below 8
    assert format.quantize(torch.tensor(1.0)).item() == 1.0


@pytest.mark.parametrize("spec", ["bfp2b16", "bfp6b16", "bfp8b16", "bm6e3m2b16", "blog4b16", "mxint8", "mxfp4e2m1"])
@pytest.mark.parametrize("value", [1.0, -1.0, 0.25, 2.0**20])
def test_a_block_of_ones_is_exact(spec: str, value: float) -> None:
    block = torch.full((32,), value)
    assert torch.equal(parse(spec).quantize(block), block)


def test_mantissa_carries_in_blocks() -> None:
    assert parse("bfp6b16").quantize(torch.full((16,), 1.99)).tolist() == [2.0] * 16
    assert parse("bm6e3m2b16").quantize(torch.full((16,), 1.99)).tolist() == [2.0] * 16


def test_mxfp_e4m3_does_not_lose_the_binade() -> None:
    """1.99 is beyond 448/256 in its block, which the specification clips; it must not fall to 1."""
    assert parse("mxfp8e4m3").quantize(torch.full((32,), 1.99)).tolist() == [1.75] * 32
    block = torch.full((32,), 1.99)
    block[0] = 3.0
    assert parse("mxfp8e4m3").quantize(block).tolist() == [3.0] + [2.0] * 31


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-4, 1e-8, 1e-20])
def test_block_minifloat_keeps_small_weights(size: float) -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) * size
    for spec, limit in (("bm8e4m3b16", 0.04), ("bm6e3m2b16", 0.08), ("bm4e2m1b16", 0.2)):
        loss = (parse(spec).quantize(weight) - weight).norm() / weight.norm()
        assert float(loss) < limit


@pytest.mark.parametrize("spec", ["binary", "binarys", "binarysc", "ternary", "ternarys", "ternarysc"])
def test_binary_and_ternary_take_matrices(spec: str) -> None:
    weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(1))
    assert parse(spec).calibrate(weight).quantize(weight).shape == (8, 16)


def test_shared_parts_are_counted() -> None:
    assert parse("int4c").tensor_bits((8, 16)) > 8 * 16 * 4
    assert parse("bfp4b16").tensor_bits((8, 16)) > 8 * 16 * 4
    assert parse("mxfp4e2m1").tensor_bits((8, 32)) > 8 * 32 * 4
    assert parse("ternarys").tensor_bits((8, 16)) > 8 * 16 * 2
