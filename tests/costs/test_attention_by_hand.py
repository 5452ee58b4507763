"""Costs of attention, a residual sum and a table, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evonas.costs import cost, load_device
from evonas.describe import describe
from evonas.formats import parse
from evonas.graph import find_chains
from evonas.network import OPTIONAL, Network
from evonas.plan import PlanSpace
from evonas.space import Gene

DEVICE = load_device("pynq-z1")
WORDS, WIDTH, LENGTH, HEADS, CLASSES = 11, 8, 6, 2, 2


class Block(nn.Module):
    """Embedding, one attention of two heads with a residual, and a head; 6 tokens of 8 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, CLASSES, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head(x + self.out(y))


@pytest.fixture(scope="module")
def described() -> Network:
    return describe(find_chains(Block().eval(), torch.zeros(2, LENGTH, dtype=torch.int64)))


def costs(network: Network, formats: dict[str, str], *names: str) -> list[float]:
    """Costs with `formats`, all else in float32."""
    space = PlanSpace(network, [Gene(name, (parse(spec),)) for name, spec in formats.items()])
    plans = space.plans(np.zeros((1, len(formats)), dtype=np.int64))
    return [float(cost(name, plans, DEVICE)[0]) for name in names]


PRODUCTS = LENGTH * LENGTH * WIDTH  # multiply-accumulates of each of both products, over all heads
LINEAR = LENGTH * (3 * WIDTH * WIDTH + WIDTH * WIDTH + CLASSES * WIDTH)
WEIGHTS = 4 * WIDTH * WIDTH + CLASSES * WIDTH
TABLE = WORDS * WIDTH
FORMATS = {"scores.data_in": "fixed4", "scores.data_in2": "fixed6", "mix.data_in": "fixed8", "mix.data_in2": "fixed3"}


def test_products_without_formats_count_as_float32(described: Network) -> None:
    found = costs(described, {"out.weight": "float32"}, "macs", "bops", "size", "average_bitwidth")
    assert found == [LINEAR + 2 * PRODUCTS, 1024 * (LINEAR + 2 * PRODUCTS), 32 * (WEIGHTS + TABLE), 32]


def test_operands_of_products_count_at_their_widths(described: Network) -> None:
    found = costs(described.asking(["matmul"]), FORMATS, "macs", "bops", "size")
    assert found[0] == LINEAR + 2 * PRODUCTS
    assert found[1] == 1024 * LINEAR + PRODUCTS * (4 * 6 + 8 * 3)
    assert found[2] == 32 * (WEIGHTS + TABLE)


def test_averages_count_every_operand_once(described: Network) -> None:
    """Inputs of three linear layers, four operands of products, both of the sum; layers in float count 32 bits."""
    activations = LENGTH * WIDTH
    scores = HEADS * LENGTH * LENGTH
    bits = 3 * 32 * activations + activations * (4 + 6 + 3) + 8 * scores + 2 * activations * 5
    elements = 3 * activations + 3 * activations + scores + 2 * activations
    formats = FORMATS | {"add.data_in": "fixed5", "table.weight": "fixed2"}
    found = costs(described.asking(OPTIONAL[:3]), formats, "average_bitwidth", "average_bitwidth_all", "size")
    stored = 32 * WEIGHTS + 2 * TABLE
    assert found[0] == pytest.approx(stored / (WEIGHTS + TABLE), rel=1e-14)
    assert found[1] == pytest.approx((bits + stored) / (elements + WEIGHTS + TABLE), rel=1e-14)
    assert found[2] == stored


def test_probabilities_are_held_while_they_are_mixed(described: Network) -> None:
    """The largest moment of float32 holds x, q, k, v as they leave `qkv`; probabilities count with formats alone."""
    activations, scores = LENGTH * WIDTH, HEADS * LENGTH * LENGTH
    assert costs(described, {"out.weight": "float32"}, "activation_memory") == [32 * (activations + 3 * activations)]
    asked = described.asking(["matmul"])
    # while `mix` runs: x for the sum, the values, the probabilities, and what it returns
    wide = {"mix.data_in": "fixed24", "scores.data_in": "fixed2", "scores.data_in2": "fixed2", "mix.data_in2": "fixed2"}
    (found,) = costs(asked, wide, "activation_memory")
    assert found == 32 * activations + 2 * activations + 24 * scores + 32 * activations


def test_a_sum_decides_in_which_format_its_operands_are_held(described: Network) -> None:
    """While `qkv` runs: x, which it and the sum read, and what it returns, which nothing with a format reads."""
    activations = LENGTH * WIDTH
    asked = described.asking(["add"])
    formats = {"qkv.data_in": "fixed4", "add.data_in": "fixed6", "out.data_in": "fixed8", "head.data_in": "fixed16"}
    assert costs(asked, formats, "activation_memory") == [activations * 6 + 3 * activations * 8]
    without = {name: spec for name, spec in formats.items() if name != "add.data_in"}
    assert costs(described, without, "activation_memory") == [activations * 16 + 3 * activations * 8]


def test_an_output_format_decides_how_it_is_held_and_written(described: Network) -> None:
    activations = LENGTH * WIDTH
    asked = described.asking(outputs=["qkv"])
    formats = {"qkv.data_in": "fixed4", "out.data_in": "fixed8", "head.data_in": "fixed6", "qkv.data_out": "fixed5"}
    # both halves of attention work in float32, so that what `qkv` wrote is read as it is
    assert costs(asked, formats, "activation_memory") == [activations * 6 + 3 * activations * 5]
    space = PlanSpace(asked, [Gene("qkv.data_out", (parse("fixed2"), parse("fixed8")))])
    latency, energy = (cost(name, space.plans(np.array([[0], [1]])), DEVICE) for name in ("latency", "energy"))
    assert energy[1] - energy[0] == pytest.approx(3 * activations * 6 * 100 / 64 / 1000)
    assert latency[1] >= latency[0]


def test_only_the_rows_that_are_looked_up_are_read(described: Network) -> None:
    asked = described.asking(["embedding"])
    space = PlanSpace(asked, [Gene("table.weight", (parse("fixed2"), parse("fixed8")))])
    energy = cost("energy", space.plans(np.array([[0], [1]])), DEVICE)
    assert energy[1] - energy[0] == pytest.approx(LENGTH * WIDTH * 6 * 100 / 64 / 1000)
