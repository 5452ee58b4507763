"""Costs of plans that mix formats of every family, against one plan counted with plain loops."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
from costs.mixed import random_mixed, shape
from hypothesis import given, settings
from hypothesis import strategies as st

from evonas.chains import Chain, Extent
from evonas.costs import cost, load_device
from evonas.errors import InvalidArgument
from evonas.formats import Float32, Format, parse
from evonas.formats.blocks import Blocked
from evonas.network import DATA, SLOTS
from evonas.plan import Layer, LayerPlan, Network, Plan, PlanSpace
from evonas.space import Gene

DEVICE = load_device("pynq-z1")


def bits(layer: LayerPlan, slot: str, channels: Mapping[str, int]) -> int:
    """Bits of one tensor: the format's own count on the shape that PyTorch gives the tensor."""
    fmt: Format = getattr(layer, slot)
    found = shape(layer.layer, slot, channels)
    if slot in DATA and (isinstance(fmt, Blocked) or getattr(fmt, "per_channel", False)):
        fmt = dataclasses.replace(fmt, axis=-1)  # type: ignore[type-var]
    return fmt.tensor_bits(found) if found else 0


def counted(network: Network, plan: Plan) -> dict[str, float]:
    """Size, averages, memory and energy of one plan, from their definitions."""
    channels = dict(plan.channels)
    parameter_bits = parameters = data_bits = data = 0
    moments, picojoules, operations = [], 0.0, 0
    for layer in network.layers:
        if layer.kind == "batchnorm":
            parameters += 2 * layer.outputs.count(channels)
            parameter_bits += 64 * layer.outputs.count(channels)
        elif layer.kind == "embedding" and not layer.asked:
            parameters += 30 * layer.outputs.count(channels)
            parameter_bits += 32 * 30 * layer.outputs.count(channels)
        elif layer.kind == "matmul" and not layer.quantizable:
            macs = layer.positions * layer.outputs.count(channels) * layer.inputs.count(channels)
            picojoules, operations = picojoules + macs * 4.6, operations + 1024 * macs
    for i, layer in enumerate(plan.layers):
        own = {slot: bits(layer, slot, channels) for slot in SLOTS}
        elements = {slot: int(np.prod(s)) if (s := shape(layer.layer, slot, channels)) else 0 for slot in own}
        parameter_bits += own["weight"] + own["bias"]
        parameters += elements["weight"] + elements["bias"]
        data_bits, data = data_bits + sum(own[slot] for slot in DATA), data + sum(elements[slot] for slot in DATA)
        each, followers = 32.0, [other for other in plan.layers[i + 1 :] if "data_in" in other.layer.slots]
        if layer.layer.rounds:
            each = own["data_out"] / elements["data_out"]
        elif followers:
            read = shape(followers[0].layer, "data_in", channels)
            each = bits(followers[0], "data_in", channels) / int(np.prod(read))
        written = layer.outputs * layer.layer.positions * each
        inputs = own["data_in"] + own["data_in2"]
        moments.append(inputs + written)
        second, macs = layer.weight, elements["weight"] * (layer.layer.uses or layer.layer.positions)
        stored = own["weight"] + own["bias"]
        if layer.layer.kind == "matmul":
            second, macs = layer.data_in2, layer.layer.positions * layer.outputs * layer.inputs
        if layer.layer.kind == "embedding":
            macs, stored = 0, own["weight"] * layer.layer.positions / 30  # the rows that are looked up
        product = 0.2 * layer.data_in.width * second.width / 64 + 0.1
        if isinstance(layer.data_in, Float32) or isinstance(second, Float32):
            product = 4.6
        picojoules += macs * product
        operations += macs * layer.data_in.width * second.width
        if layer.layer.kind != "add":  # which is fused
            picojoules += (stored + inputs + written) * 100 / 64
    return {
        "size": parameter_bits,
        "parameters": parameters,
        "average_bitwidth_all": (parameter_bits + data_bits) / (parameters + data),
        "activation_memory": max(moments),
        "energy": picojoules / 1000,
        "bops": operations,
    }


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_costs_of_mixed_formats_are_what_a_scalar_count_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = random_mixed(rng)
    genomes = space.space.sample(5, rng)
    plans = space.plans(genomes)
    expected = [counted(space.network, space.plan(genome)) for genome in genomes]
    for name in expected[0]:
        assert cost(name, plans, DEVICE).tolist() == pytest.approx([one[name] for one in expected], rel=1e-12)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_many_genomes_cost_what_each_costs_alone_bit_for_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = random_mixed(rng)
    genomes = space.space.sample(6, rng)
    for name in ("size", "average_bitwidth_all", "activation_memory", "energy", "latency"):
        together = cost(name, space.plans(genomes), DEVICE)
        apart = [cost(name, space.plans(genome[None]), DEVICE)[0] for genome in genomes]
        assert together.tobytes() == np.array(apart).tobytes()


def one_linear(slot: str, spec: str, *, inputs: int = 40, outputs: int = 10) -> PlanSpace:
    """A linear layer with one tensor in the format `spec`, the others in float32."""
    network = Network((Layer("fc", "linear", Extent(inputs), Extent(outputs)),))
    return PlanSpace(network, [Gene(f"fc.{slot}", (parse(spec),))])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("float32", 400 * 32),
        ("fixed4", 400 * 4),
        ("int8", 400 * 8 + 32),
        ("int8c", 400 * 8 + 10 * 32),
        ("int8a", 400 * 8 + 32 + 8),
        ("int4ac", 400 * 4 + 10 * (32 + 4)),
        ("fp8e4m3", 400 * 8),
        ("binarysc", 400 + 10 * 32),
        ("mxfp4e2m1", 400 * 4 + 10 * 2 * 8),  # 40 inputs are two blocks, 32 and 8
        ("bfp6b16", 400 * 6 + 10 * 3 * 8),
        ("bfp6b16a0", 400 * 6 + 40 * 1 * 8),
    ],
)
def test_the_size_of_a_weight_by_hand(spec: str, expected: int) -> None:
    plans = one_linear("weight", spec).plans(np.array([[0]]))
    assert cost("size", plans, DEVICE).tolist() == [expected + 10 * 32]


@pytest.mark.parametrize(
    ("slot", "spec", "message"),
    [
        ("bias", "mxfp4e2m1", r"blocks of 32 elements, but `fc\.bias` has only 10"),
        ("weight", "bfp6b512", r"blocks of 512 elements, but `fc\.weight` has only 400"),
        ("weight", "bfp6b16a2", r"blocks along axis 2, which `fc\.weight` cannot have"),
        ("data_in", "int8c3", r"channels along axis 3, which `fc\.data_in` cannot have"),
        ("weight", "int8c@0.5/0.25", r"gives 2 scales, but `fc\.weight` has 10 channels"),
    ],
)
def test_a_format_that_does_not_fit_is_refused_when_the_space_is_made(slot: str, spec: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        one_linear(slot, spec)


def test_the_smallest_network_decides_whether_a_block_fits() -> None:
    chain = Chain("c", 32)
    network = Network((Layer("fc", "linear", Extent(8), Extent.of(chain)),), (chain,))
    genes = [Gene("fc.bias", (parse("mxint8"),))]
    assert PlanSpace(network, genes).space.size == 1
    with pytest.raises(InvalidArgument, match="has only 16 in the smallest network"):
        PlanSpace(network, [*genes, Gene("c", (0.5, 1.0))])
