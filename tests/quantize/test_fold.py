"""Folded batch norms: the same outputs, and a count of what is left."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from graph.models_real import REAL
from graph.reference import randomise
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from evonas.costs import arithmetic
from evonas.describe import describe
from evonas.errors import InvalidArgument
from evonas.formats import Float32, parse
from evonas.graph import find_chains, resize
from evonas.plan import PlanSpace
from evonas.quantize import PostTraining
from evonas.space import Gene
from evonas.training import seeded

FOLDS = {"resnet": 10, "mobilenet_v2": 13, "efficientnet": 11, "densenet": 4, "shufflenet_v1": 4, "shufflenet_v2": 8}
FOLDS |= {"resnet_in_place": 12, "vit": 0, "unet": 10, "audio": 2, "resnext": 4, "convnext": 0, "res2net": 5}
COUNTED = ("linear", "conv", "addmm", "matmul", "bmm", "batch_norm")


@pytest.mark.parametrize("name", REAL)
def test_real_architectures_with_folded_batch_norms(name: str) -> None:
    """Outputs in float32, against float64 without folding; parameters and operations, against the folded module."""
    build, inputs = REAL[name]
    model = seeded(lambda: randomise(build()), 0)
    chains = find_chains(model, inputs.double())
    network = describe(chains)
    assert sum(bool(layer.norm) for layer in network.layers) == FOLDS[name]
    if not FOLDS[name]:
        with pytest.raises(InvalidArgument, match="no batch norm can be folded"):
            network.folded()
        return
    chain_genes = [Gene(chain.name, (0.5, 1.0)) for chain in network.chains]
    space = PlanSpace(network.folded(), chain_genes)
    for genome in space.space.corners():
        plan = space.plan(genome)
        sized = resize(model, dict(plan.channels), chains=chains)
        with torch.no_grad():
            wanted = tree_leaves(sized(inputs.double()))
            network_ = PostTraining(sized.float(), inputs, space.network)
            found = tree_leaves(network_.forward(plan, inputs))
        for one, other in zip(wanted, found, strict=True):
            torch.testing.assert_close(other.double(), one, rtol=1e-4, atol=1e-4 * float(one.abs().max()))
        plans = space.plans(genome[None])
        assert arithmetic.parameters(plans)[0] == sum(p.numel() for p in network_.graph.parameters())
        assert arithmetic.size(plans)[0] == 32 * arithmetic.parameters(plans)[0]
        assert arithmetic.flops(plans, "fvcore")[0] == operations(network_.graph, inputs)


def operations(model: nn.Module, inputs: Tensor) -> float:
    """Multiply-adds of one sample, and two an element of a batch norm."""
    analysis = FlopCountAnalysis(model, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counts = analysis.by_operator()
    return float(sum(counts[name] for name in COUNTED)) / len(inputs)


class Every(nn.Module):
    """A batch norm after every kind of layer that can take it, and after some that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.n1 = nn.Conv1d(2, 4, 3, padding=1, groups=2), nn.BatchNorm1d(4)
        self.t1, self.m1 = nn.ConvTranspose1d(4, 4, 2, stride=2), nn.BatchNorm1d(4, affine=False)
        self.g1, self.o1 = nn.ConvTranspose1d(4, 4, 1, groups=2), nn.BatchNorm1d(4)  # grouped: stays
        self.tokens, self.p1 = nn.Linear(8, 4), nn.BatchNorm1d(4)  # along the last of three dims: stays
        self.shared, self.q1 = nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4)  # runs twice: stays
        self.fc, self.r1 = nn.Linear(16, 5, bias=False), nn.BatchNorm1d(5)
        self.read, self.s1 = nn.Linear(5, 5), nn.BatchNorm1d(5)  # also read without the norm: stays

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.n1(self.c1(x)))
        x = self.o1(self.g1(self.m1(self.t1(x))))
        x = self.p1(self.tokens(x))
        x = self.shared(self.q1(self.shared(x)))
        x = self.r1(self.fc(x.flatten(1)))
        y = self.read(x)
        return self.s1(y) + y


def test_what_can_be_folded_is() -> None:
    model, inputs = seeded(lambda: randomise(Every()), 0).float(), torch.randn(3, 2, 4)
    network = describe(find_chains(model, inputs)).folded()
    assert network.folds == {"c1": "n1", "t1": "m1", "fc": "r1"}
    found = PostTraining(model, inputs, network)
    kept = {name for name, module in found.graph.named_modules() if isinstance(module, nn.BatchNorm1d)}
    assert kept == {"o1", "p1", "q1", "s1"}
    space = PlanSpace(network, [Gene("fc.weight", (Float32(),))])
    with torch.no_grad():
        torch.testing.assert_close(found.forward(space.plan(np.array([0])), inputs), model(inputs))


def test_the_weight_that_is_quantized_is_the_folded_one() -> None:
    model, inputs = seeded(lambda: randomise(Every()), 0).float(), torch.randn(3, 2, 4)
    network = describe(find_chains(model, inputs)).folded()
    space = PlanSpace(network, [Gene("fc.weight", (parse("fixed6.4"),))], defaults={"fc.bias": parse("fixed8.4")})
    plan = space.plan(np.array([0]))
    quantized = PostTraining(model, inputs, network).module(plan).get_submodule("fc")
    scale = model.r1.weight / (model.r1.running_var + model.r1.eps).sqrt()
    weight = (model.fc.weight * scale[:, None] * 16).round().clamp(-32, 31) / 16
    bias = ((model.r1.bias - model.r1.running_mean * scale) * 16).round().clamp(-128, 127) / 16
    assert torch.equal(quantized.weight, weight)
    assert torch.equal(quantized.bias, bias)
    plans = space.plans(np.array([[0]]))
    assert arithmetic.layer_bits(plans)[0][-2] == 16 * 5 * 6 + 5 * 8
