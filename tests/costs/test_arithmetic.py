"""Costs against a reference that counts one plan with plain loops, against fvcore, and against published tables."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from hypothesis import given
from hypothesis import strategies as st
from networks import random_plan_space
from torch import nn

from evonas.chains import Chain, Extent
from evonas.costs import OBJECTIVES, cost, load_device
from evonas.costs.arithmetic import flops, parameters
from evonas.formats import Fixed
from evonas.plan import Layer, Network, Plan, PlanSpace
from evonas.space import Gene

DATA = Path(__file__).parents[1] / "data"


def counted(network: Network, plan: Plan) -> dict[str, float]:
    """Every cost of one plan, from its definition."""
    channels = dict(plan.channels)
    planned = {layer.layer.name: layer for layer in plan.layers}
    found = dict.fromkeys(["macs", "flops", "fvcore", "bops", "parameters", "size"], 0)
    weights = weight_bits = 0
    for layer in network.layers:
        outputs = layer.outputs.count(channels)
        if layer.kind == "relu":
            found["flops"] += outputs * layer.positions
        elif layer.kind == "batchnorm":
            found["flops"] += 2 * outputs * layer.positions
            found["fvcore"] += 2 * outputs * layer.positions
            found["parameters"] += 2 * outputs
            found["size"] += 2 * outputs * 32
        else:
            formats = planned[layer.name]
            elements = outputs * (layer.fan_in or layer.inputs).count(channels) * layer.taps
            biases = outputs if layer.bias else 0
            macs = elements * layer.positions
            found["macs"] += macs
            found["flops"] += 2 * macs
            found["fvcore"] += macs
            found["bops"] += macs * formats.data_in.width * formats.weight.width
            found["parameters"] += elements + biases
            found["size"] += elements * formats.weight.width + biases * formats.bias.width
            weights += elements
            weight_bits += elements * formats.weight.width
    return found | {"average_bitwidth": weight_bits / weights, "memory_density": 32 * weights / weight_bits}


@given(seed=st.integers(0, 2**32))
def test_every_objective_is_what_a_scalar_count_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = random_plan_space(rng)
    genomes = space.space.sample(6, rng)
    plans = space.plans(genomes)
    expected = [counted(space.network, space.plan(genome)) for genome in genomes]
    device = load_device("pynq-z1")
    for objective in OBJECTIVES:
        if objective.name not in expected[0]:
            continue  # has a reference of its own
        values = cost(objective.name, plans, device)
        assert values.dtype == np.float64
        assert values.tolist() == pytest.approx([one[objective.name] for one in expected], rel=1e-14)
    assert flops(plans, "fvcore").tolist() == [one["fvcore"] for one in expected]


@given(seed=st.integers(0, 2**32))
def test_many_genomes_cost_what_each_costs_alone_bit_for_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space, device = random_plan_space(rng, max_layers=30), load_device("pynq-z1")
    genomes = space.space.sample(9, rng)
    for objective in OBJECTIVES:
        together = cost(objective.name, space.plans(genomes), device)
        apart = [cost(objective.name, space.plans(genome[None]), device)[0] for genome in genomes]
        assert together.tobytes() == np.array(apart).tobytes()


# fvcore


def test_flops_agree_with_fvcore_on_a_real_convolutional_network() -> None:
    """With a stride, padding, groups, a batch norm and a flatten, at every multiplier of two chains."""
    first, second = Chain("first", 8), Chain("second", 6)
    network = Network(
        (
            Layer("0", "conv", Extent(3), Extent.of(first), taps=9, positions=36, input_positions=144),
            Layer("1", "batchnorm", Extent.of(first), Extent.of(first), positions=36),
            Layer("2", "relu", Extent.of(first), Extent.of(first), positions=36),
            Layer("3", "conv", Extent.of(first), Extent.of(first), Extent(1), taps=9, positions=36, input_positions=36),
            Layer("4", "conv", Extent.of(first), Extent.of(second), positions=36, input_positions=36, bias=False),
            Layer("6", "linear", Extent(0, (("second", 36),)), Extent(5)),
        ),
        (first, second),
    )
    space = PlanSpace(network, [Gene("first", (0.5, 1.0, 2.0)), Gene("second", (0.5, 1.0))])
    for genome in (chunk for chunks in space.space.chunks() for chunk in chunks):
        channels = dict(space.plan(genome).channels)
        a, b = channels["first"], channels["second"]
        module = nn.Sequential(
            nn.Conv2d(3, a, 3, stride=2, padding=1),
            nn.BatchNorm2d(a),
            nn.ReLU(),
            nn.Conv2d(a, a, 3, padding=1, groups=a),
            nn.Conv2d(a, b, 1, bias=False),
            nn.Flatten(),
            nn.Linear(36 * b, 5),
        ).eval()
        plans = space.plans(genome[None])
        logging.getLogger("fvcore").setLevel(logging.ERROR)
        assert flops(plans, "fvcore") == [FlopCountAnalysis(module, torch.zeros(1, 3, 12, 12)).total()]
        assert parameters(plans) == [sum(parameter.numel() for parameter in module.parameters())]


# the published tables


def lab_network() -> PlanSpace:
    """BatchNorm(16)-ReLU-Linear(16, 32x)-ReLU-Linear(32x, 64y)-ReLU-Linear(64y, 5)-ReLU."""
    first, second = Chain("first", 32), Chain("second", 64)
    widths = [Extent(16), Extent.of(first), Extent.of(second), Extent(5)]
    layers = [Layer("norm", "batchnorm", widths[0], widths[0])]
    for i, width in enumerate(widths):
        if i:
            layers.append(Layer(f"linear{i}", "linear", widths[i - 1], width))
        layers.append(Layer(f"relu{i}", "relu", width, width))
    multipliers = (1, 2, 4, 8, 16, 64)
    return PlanSpace(Network(tuple(layers), (first, second)), [Gene("first", multipliers), Gene("second", multipliers)])


def printed(number: float) -> str:
    """As the tables print it: two digits, in thousands or millions."""
    number = float(number)  # numpy rounds in another way
    return f"{round(number / 1e6, 2)} M" if number >= 1e6 else f"{round(number / 1e3, 2)} K"


def lab_rows() -> list[dict[str, str]]:
    """The rows about multipliers."""
    lines = (DATA / "lab_multipliers.csv").read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


@pytest.mark.parametrize("row", lab_rows(), ids=lambda row: f"{row['first']},{row['second']}")
def test_parameters_and_flops_are_those_of_the_published_tables(row: dict[str, str]) -> None:
    space = lab_network()
    genome = space.space.encode({"first": int(row["first"]), "second": int(row["second"])})
    plans = space.plans(genome[None])
    assert printed(parameters(plans)[0]) == row["parameters"]
    assert printed(8 * flops(plans, "two")[0]) == row["flops"]


def test_all_31_rows_are_there() -> None:
    assert len(lab_rows()) == 31


def test_a_narrower_weight_makes_a_network_smaller_and_denser() -> None:
    chain = Chain("c", 4)
    network = Network((Layer("fc", "linear", Extent(10), Extent.of(chain)),), (chain,))
    space = PlanSpace(network, [Gene("fc.weight", (Fixed(2), Fixed(8)))], defaults={"fc.bias": Fixed(16)})
    plans, device = space.plans(np.array([[0], [1]])), load_device("pynq-z1")
    assert cost("size", plans, device).tolist() == [40 * 2 + 4 * 16, 40 * 8 + 4 * 16]
    assert cost("average_bitwidth", plans, device).tolist() == [2.0, 8.0]
    assert cost("memory_density", plans, device).tolist() == [16.0, 4.0]
    assert cost("parameters", plans, device).tolist() == [44.0, 44.0]
