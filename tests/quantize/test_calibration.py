"""Calibration by what a layer's output loses, against trying all methods by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evonas.describe import describe
from evonas.errors import UnknownName
from evonas.formats import METHODS, Format, parse
from evonas.graph import find_chains
from evonas.network import OPTIONAL
from evonas.plan import PlanSpace
from evonas.quantize import PostTraining
from evonas.space import Gene
from evonas.training import seeded


class Mixed(nn.Module):
    """A convolution, a linear layer, a product and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv1d(3, 4, 3, padding=1), nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x)).transpose(1, 2)
        x = x + self.fc(x)
        return self.head((x @ x.transpose(1, 2)).softmax(-1) @ x)


NETWORK = describe(find_chains(seeded(Mixed, 0).eval(), torch.zeros(2, 3, 5)))


def concrete(model: nn.Module, inputs: Tensor, slot: str, specs: tuple[str, ...], method: str) -> list[Format]:
    """The formats that `specs` become in `slot` (`conv.weight`)."""
    layer, _, tensor = slot.rpartition(".")
    network = NETWORK.asking(OPTIONAL, [layer] if tensor == "data_out" else [])
    space = PlanSpace(network, [Gene(slot, tuple(parse(spec) for spec in specs))])
    quantized = PostTraining(model, inputs, network, method=method)
    plans = [quantized.concrete(space.plan(np.array([choice]))) for choice in range(len(specs))]
    return [getattr(next(part for part in plan.layers if part.layer.name == layer), tensor) for plan in plans]


def losses(model: Mixed, inputs: Tensor, slot: str, candidates: dict[str, Format]) -> dict[str, float]:
    """Mean squared difference of the output of the layer of `slot` from the float output, by method."""
    x = torch.relu(model.conv(inputs)).transpose(1, 2)
    y = model.fc(x)
    z = x + y
    first, second = z, z.transpose(1, 2)
    outputs = {
        "conv.data_in": lambda q: model.conv(q(inputs)),
        "conv.weight": lambda q: torch.nn.functional.conv1d(inputs, q(model.conv.weight), model.conv.bias, padding=1),
        "conv.data_out": lambda q: q(model.conv(inputs)),
        "fc.data_in": lambda q: model.fc(q(x)),
        "fc.bias": lambda q: torch.nn.functional.linear(x, model.fc.weight, q(model.fc.bias)),
        "add.data_in": lambda q: q(x) + q(y),
        "matmul.data_in": lambda q: q(first) @ second,
        "matmul.data_in2": lambda q: first @ q(second),
    }
    wanted = outputs[slot](lambda tensor: tensor)
    found = {method: outputs[slot](fmt.quantize) for method, fmt in candidates.items()}
    return {method: float((one - wanted).double().square().mean()) for method, one in found.items()}


SPECS = ("fixed4", "int3", "int4", "int6", "fp6e3m2bfit", "log4")
SLOTS = ("conv.data_in", "conv.weight", "conv.data_out", "fc.data_in", "fc.bias", "add.data_in")


@pytest.mark.parametrize("slot", [*SLOTS, "matmul.data_in", "matmul.data_in2"])
def test_auto_takes_what_changes_the_output_least(slot: str) -> None:
    """Of heavy-tailed inputs, for which the methods disagree."""
    model = seeded(Mixed, 0).eval()
    inputs = torch.randn(16, 3, 5, generator=torch.Generator().manual_seed(1)) ** 3
    tried = {method: concrete(model, inputs, slot, SPECS, method) for method in METHODS}
    chosen = concrete(model, inputs, slot, SPECS, "auto")
    better: set[str] = set()
    for i, fmt in enumerate(chosen):
        with torch.no_grad():
            by_hand = losses(model, inputs, slot, {method: formats[i] for method, formats in tried.items()})
        least = min(by_hand.values())
        assert fmt in [tried[method][i] for method, loss in by_hand.items() if loss <= least * (1 + 1e-6)]
        assert fmt.concrete
        better |= {method for method, loss in by_hand.items() if loss == least}
    assert len(better) > 1  # there was something to choose


def test_formats_that_are_given_stay() -> None:
    model, inputs = seeded(Mixed, 0).eval(), torch.randn(4, 3, 5)
    assert concrete(model, inputs, "conv.weight", ("fixed8.4",), "auto") == [parse("fixed8.4")]


def test_a_method_that_does_not_exist() -> None:
    with pytest.raises(UnknownName, match=r"calibration method `best`; valid names: .*auto"):
        PostTraining(seeded(Mixed, 0).eval(), torch.randn(4, 3, 5), method="best")


def test_auto_does_not_depend_on_order() -> None:
    model, inputs = seeded(Mixed, 0).eval(), torch.randn(16, 3, 5) ** 3
    network = NETWORK.asking(OPTIONAL)
    genes = [Gene(f"{layer.name}.data_in", (parse("int3"), parse("fixed4"))) for layer in network.quantizable]
    space = PlanSpace(network, genes)
    plans = [space.plan(genome) for genome in space.space.sample(3, np.random.default_rng(0))]
    forwards, backwards = (PostTraining(model, inputs, network, method="auto") for _ in range(2))
    assert [forwards.concrete(plan) for plan in plans] == [backwards.concrete(plan) for plan in plans[::-1]][::-1]
