"""What a forward pass writes in place: the graph does what eager torch does, and gives formats only where it may."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evonas.describe import describe
from evonas.engine import Engine
from evonas.formats import parse
from evonas.graph import find_chains
from evonas.graph.trace import as_module, retrace
from evonas.graph.writes import mutates, shareable
from evonas.network import OPTIONAL
from evonas.plan import PlanSpace
from evonas.quantize import PostTraining
from evonas.space import Gene
from evonas.training import seeded

Body = Callable[[SimpleNamespace], Tensor]


class Writes(nn.Module):
    """Two layers of which `body` joins the outputs, and a head."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.relu, self.body = nn.ReLU(inplace=True), body
        self.register_buffer("table", torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        z = self.b(F.relu(y))
        return self.head(self.body(SimpleNamespace(x=x, y=y, z=z, b=self.b, relu=self.relu, table=self.table)))


def fresh_after_relu(v: SimpleNamespace) -> Tensor:
    y, z = v.y, v.z
    z = v.relu(z)
    z += y
    return v.relu(z)


def other_half(v: SimpleNamespace) -> Tensor:
    z = v.z
    left, right = z.chunk(2, 1)
    left += right
    return torch.cat([left, right], 1)


def same_name(v: SimpleNamespace) -> Tensor:
    y, z = v.y, v.z
    also = z
    also += y
    return z * 2


def to_the_input(v: SimpleNamespace) -> Tensor:
    x, y, z = v.x, v.y, v.z
    x += z
    return x * y


def own_zeros(v: SimpleNamespace) -> Tensor:
    y, z = v.y, v.z
    total = torch.zeros(6)
    total += y.mean(0)
    total += z[0]
    return y * total


def sizes(v: SimpleNamespace) -> Tensor:
    x, y, z = v.x, v.y, v.z
    n = x.shape[0]
    rows = n
    n += 1
    z += y
    return z.reshape(rows, -1) * n


FREE = [fresh_after_relu, other_half, same_name, to_the_input, own_zeros, sizes]


def view_before(v: SimpleNamespace) -> Tensor:
    y, z = v.y, v.z
    view = z.view(-1, 2, 3)
    z += y
    return z * view.flatten(1)


def part_of_it(v: SimpleNamespace) -> Tensor:
    y, z = v.y, v.z
    part = z[:, :3]
    part += y[:, 3:]
    return z - y


def relu_of_another(v: SimpleNamespace) -> Tensor:
    y, z = v.y, v.z
    view = z.t()
    view += y.t()
    v.relu(z)
    return z + view.t()


def view_of_the_input(v: SimpleNamespace) -> Tensor:
    x, y, z = v.x, v.y, v.z
    view = x.view(-1, 6)
    x += z
    return view * y


def to_a_buffer(v: SimpleNamespace) -> Tensor:
    y, z = v.y, v.z
    row = v.table.view(1, 6)
    row += z[:1]
    return y * v.table


def wider(v: SimpleNamespace) -> Tensor:
    y, z = v.y, v.z
    z += y.double()
    return z


KEPT = [view_before, part_of_it, relu_of_another, view_of_the_input, to_a_buffer, wider]
INPUTS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def traced(body: Body) -> tuple[nn.Module, torch.fx.GraphModule]:
    model = seeded(lambda: Writes(body), 0).eval()
    return model, as_module(model, *retrace(model, (INPUTS,)))


@pytest.mark.parametrize("body", [*FREE, *KEPT])
def test_a_trace_does_what_eager_torch_does_and_changes_nothing_outside(body: Body) -> None:
    model, graph = traced(body)
    given = INPUTS.clone()
    with torch.no_grad():
        found = [graph(given) for _ in range(2)]
        assert torch.equal(model.table, torch.ones(6))
        assert torch.equal(given, INPUTS)
        wanted = model(given)
    assert torch.equal(found[0], wanted)
    assert torch.equal(found[1], wanted)  # nothing is left of the first run


@pytest.mark.parametrize("body", FREE)
def test_a_write_that_nobody_sees_is_a_fresh_value(body: Body) -> None:
    _, graph = traced(body)
    assert all(node.op == "call_module" for node in graph.graph.nodes if mutates(graph, node))
    assert shareable(graph, INPUTS)


@pytest.mark.parametrize("body", KEPT)
def test_a_write_that_is_seen_stays_and_so_does_the_sum_in_float(body: Body) -> None:
    model, graph = traced(body)
    network = describe(find_chains(model, INPUTS)).asking(OPTIONAL)
    adds = {layer.name: layer for layer in network.layers if layer.kind == "add"}
    stays = "add" if body is not to_a_buffer else ""
    assert [name for name in adds if adds[name].why] == ([stays] if stays else [])
    assert all(not adds[name].slots and not adds[name].optional for name in network.barred)
    if body is view_before:
        assert network.barred["add"].startswith("it writes into a value that `return z * view.flatten(1)`")
        assert not shareable(graph, INPUTS)
    if body is wider:
        assert network.barred == {"add": "its result would no longer be float32"}


@pytest.mark.parametrize("body", [*FREE, *KEPT])
def test_plans_of_what_writes_are_the_same_together_alone_and_as_modules(body: Body) -> None:
    model = seeded(lambda: Writes(body), 0).eval()
    network = describe(find_chains(model, INPUTS)).asking(OPTIONAL, ("a", "b"))
    choices = (parse("fixed3"), parse("fixed6"))
    names = [f"{layer.name}.{slot}" for layer in network.quantizable for slot in layer.slots if layer.has(slot)]
    space = PlanSpace(network, [Gene(name, choices) for name in names])
    quantized, data = PostTraining(model, INPUTS, network), INPUTS.clone()
    genomes = space.space.sample(6, np.random.default_rng(0))
    together = Engine(quantized, space).outputs(genomes, data)
    for genome, found in zip(genomes, together, strict=True):
        plan = space.plan(genome)
        assert torch.equal(found, quantized.forward(plan, data))
        with torch.no_grad():
            assert torch.equal(found, quantized.module(plan)(data))
    assert torch.equal(data, INPUTS)


def test_formats_are_calibrated_on_what_a_layer_reads_not_on_what_is_written_there_later() -> None:
    def body(v: SimpleNamespace) -> Tensor:
        z = v.z
        w = v.b(z)
        z.view(-1, 6).mul_(100.0)
        return w + z

    model = seeded(lambda: Writes(body), 0).eval()
    network = describe(find_chains(model, INPUTS))
    space = PlanSpace(network, [Gene("b.data_in", (parse("fixed8"),))])
    node = [n for n in PostTraining(model, INPUTS, network).graph.graph.nodes if n.target == "b"][-1]
    quantized = PostTraining(model, INPUTS, network)
    quantized.concrete(space.plan(np.array([0])))
    seen = next(value[0][0] for key, value in quantized._seen.items() if key.name == node.name)
    with torch.no_grad():
        assert torch.equal(seen, model.b(F.relu(model.a(INPUTS))))
