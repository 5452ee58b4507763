"""The roofline, and the files that describe devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import random_plan_space

from evonas.chains import Chain, Extent
from evonas.costs import Device, device_names, latency, latency_rows, layer_latency, load_device
from evonas.errors import InvalidArgument, UnknownName
from evonas.formats import Fixed
from evonas.plan import Layer, Network, PlanSpace
from evonas.space import Gene

GOOD = "memory_bandwidth = 1e9\nlayer_overhead = 1e-6\n[mac_per_second]\n8 = 2e9\n32 = 1e9\n"


def seconds(space: PlanSpace, genome: np.ndarray, device: Device) -> float:
    """The roofline of one plan with plain loops: a reference."""
    plan, total = space.plan(genome), 0.0
    for i, layer in enumerate(plan.layers):
        written = plan.layers[i + 1].data_in.width if i + 1 < len(plan.layers) else 32
        read = (layer.layer.fan_in or layer.layer.inputs).count(dict(plan.channels))
        elements = layer.outputs * read * layer.layer.taps
        widest = max(layer.data_in.width, layer.weight.width)
        peak = next(peak for width, peak in sorted(device.mac_per_second) if width >= widest)
        bits = elements * layer.weight.width + (layer.outputs * layer.bias.width if layer.layer.bias else 0)
        bits += layer.inputs * layer.layer.input_positions * layer.data_in.width
        bits += layer.outputs * layer.layer.positions * written
        compute, memory = elements * layer.layer.positions / peak, bits / 8 / device.memory_bandwidth
        total += max(compute, memory) + device.layer_overhead
    return total


@given(seed=st.integers(0, 2**32))
def test_latency_is_what_a_scalar_roofline_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space, genomes = (made := random_plan_space(rng)), made.space.sample(5, rng)
    for name in ("pynq-z1", "cortex-m7"):
        device = load_device(name)
        expected = [seconds(space, genome, device) for genome in genomes]
        assert latency(space.plans(genomes), device).tolist() == pytest.approx(expected, rel=1e-12)


def test_the_next_multiple_is_suggested_where_a_chain_can_follow() -> None:
    chain = Chain("c", 20)
    layers = (Layer("a", "linear", Extent(7), Extent.of(chain)), Layer("b", "linear", Extent.of(chain), Extent(10)))
    space = PlanSpace(Network(layers, (chain,)), [Gene("c", (1.0, 1.2))])
    device = Device("d", "", ((32, 1e3),), 1e12, 1e-9, round_to=8)
    rows = latency_rows(space.plans(space.space.corners()), device)
    assert [row["round_to"] for row in rows] == ["out 24", "in 24"]  # the 7 inputs and 10 classes are what they are
    assert [row["bound by"] for row in rows] == ["compute", "compute"]
    rows = latency_rows(space.plans(space.space.corners()[1:]), device)
    assert [row["round_to"] for row in rows] == ["-", "-"]


@pytest.mark.parametrize(
    ("device", "bound"),
    [
        (Device("d", "", ((32, 1e6),), 1e12, 1e-9), "compute"),
        (Device("d", "", ((32, 1e12),), 1e6, 1e-9), "memory"),
        (Device("d", "", ((32, 1e12),), 1e12, 1.0), "overhead"),
    ],
)
def test_what_binds_is_named(device: Device, bound: str) -> None:
    space = one_layer(64, 64)
    (row,) = latency_rows(space.plans(space.space.corners()[:1]), device)
    assert row["bound by"] == bound
    assert "round_to" not in row


def one_layer(inputs: int, outputs: int) -> PlanSpace:
    """A linear layer without bias, data and weight in 8 bits."""
    network = Network((Layer("fc", "linear", Extent(inputs), Extent(outputs), bias=False),))
    return PlanSpace(network, [Gene("fc.weight", (Fixed(8),))], defaults={"fc.data_in": Fixed(8)})


def test_a_layer_takes_the_longer_of_arithmetic_and_traffic_and_its_overhead() -> None:
    plans = one_layer(100, 10).plans(np.array([[0]]))
    slow_memory = Device("d", "", ((8, 1e9),), memory_bandwidth=1e6, layer_overhead=1e-3)
    slow_arithmetic = Device("d", "", ((8, 1e3),), memory_bandwidth=1e9, layer_overhead=0.0)
    assert latency(plans, slow_memory)[0] == pytest.approx((1000 + 100 + 10 * 4) / 1e6 + 1e-3)
    assert latency(plans, slow_arithmetic)[0] == pytest.approx(1.0)
    assert {name: term.shape for name, term in layer_latency(plans, slow_memory).items()} == {
        "compute": (1, 1),
        "memory": (1, 1),
        "overhead": (1, 1),
    }


def test_an_operand_runs_at_the_narrowest_width_that_holds_it() -> None:
    device = Device("d", "", ((4, 4.0), (8, 2.0), (32, 1.0)), 1.0, 0.0)
    assert device.peak(np.array([[1, 4], [5, 8], [9, 32]])).tolist() == [[4, 4], [2, 2], [1, 1]]
    with pytest.raises(InvalidArgument, match=r"no peak for 33-bit operands \(it has 4, 8, 32\)"):
        device.peak(np.array([3, 33]))


# device files


@pytest.mark.parametrize("name", device_names())
def test_a_shipped_device_gives_the_source_of_every_number(name: str) -> None:
    device = load_device(name)
    assert device.name == name
    assert device.title != name
    assert set(device.sources) == {"mac_per_second", "memory_bandwidth", "layer_overhead"}
    assert all(device.sources.values())
    peaks = [peak for _, peak in device.mac_per_second]
    assert peaks == sorted(peaks, reverse=True)  # a wider operand is never faster


def test_two_or_more_devices_are_shipped() -> None:
    assert len(device_names()) >= 2


def test_a_device_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(GOOD)
    device = load_device(str(path))
    assert device == Device("board", "board", ((8, 2e9), (32, 1e9)), 1e9, 1e-6)
    path.write_text(GOOD.replace("1e-6", "0"))
    assert load_device(str(path)).layer_overhead == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("=", "is not TOML"),
        ("", r"needs a table \[mac_per_second\]"),
        (GOOD.replace("8 = 2e9\n32 = 1e9\n", ""), r"needs a table \[mac_per_second\]"),
        ("mac_per_second = 3\n", r"needs a table \[mac_per_second\]"),
        (GOOD.replace("memory_bandwidth = 1e9\n", ""), "has no `memory_bandwidth`"),
        (GOOD.replace("layer_overhead = 1e-6\n", ""), "has no `layer_overhead`"),
        (GOOD.replace("= 1e-6", "= -1e-6"), "`layer_overhead` must be a positive number, got -1e-06"),
        (GOOD.replace("memory_bandwidth = 1e9", "memory_bandwidth = 0"), "`memory_bandwidth` must be a positive"),
        (GOOD.replace("memory_bandwidth = 1e9", "memory_bandwidth = inf"), "`memory_bandwidth` must be a positive"),
        (GOOD.replace("memory_bandwidth = 1e9", "memory_bandwidth = true"), "`memory_bandwidth` must be a positive"),
        (GOOD.replace("2e9", "-2e9"), "`mac_per_second.8` must be a positive number"),
        (GOOD.replace("2e9", "nan"), "`mac_per_second.8` must be a positive number"),
        (GOOD.replace("2e9", "'fast'"), "`mac_per_second.8` must be a positive number, got 'fast'"),
        (GOOD.replace("8 =", "eight ="), "`mac_per_second.eight` is not a width"),
        (GOOD.replace("8 =", "0 ="), "`mac_per_second.0` is not a width"),
        ("memory_bandwith = 1e9\n" + GOOD, "`memory_bandwith`; valid names: memory_bandwidth"),
        ("sources = 3\n" + GOOD, "`sources` must be a table"),
    ],
)
def test_a_device_file_that_cannot_be(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(text)
    with pytest.raises((InvalidArgument, UnknownName), match=message):
        load_device(str(path))


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown device `pynq`; valid names: pynq-z1"):
        load_device("pynq")
    with pytest.raises(InvalidArgument, match="does not exist"):
        load_device(str(tmp_path / "board.toml"))


def test_no_device_is_no_table_of_any() -> None:
    for wrong in ("", "../pynq-z1"):
        with pytest.raises(UnknownName):
            load_device(wrong)
