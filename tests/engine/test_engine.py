"""Many genomes together give the same bits as each alone, on graphs of every shape and formats of every family."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from graph.models_real import REAL
from graph.models_small import SMALL
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evonas.describe import describe
from evonas.engine import Engine, fused
from evonas.engine.engine import _Shapes
from evonas.engine.linear import largest_inputs
from evonas.formats import Fixed, parse_list
from evonas.graph import find_chains
from evonas.graph.trace import as_module, retrace
from evonas.plan import LayerPlan, PlanSpace
from evonas.quantize import PostTraining
from evonas.space import Gene, IntArray
from evonas.training import seeded

MIXED = parse_list("fixed3,fixed8.4,fixed16.8,int6,fp8e4m3,float32")
FIXED = parse_list("fixed2,fixed4,fixed8,fixed16")


class InPlace(nn.Module):
    """Writes into its own values, which others read afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.second(x)
        y.add_(x)
        x += y
        return x * y


class InPlaceView(nn.Module):
    """Writes into a value of which a view is read afterwards, so that no value can be shared."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        view = x.view(-1, 6)
        x += 1.0
        return self.second(view)


class InPlaceRelu(nn.Module):
    """An in-place ReLU that nobody else sees, and one that the sum sees."""

    def __init__(self, seen: bool) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.relu, self.seen = nn.ReLU(inplace=True), seen

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.second(self.relu(x))
        return self.third(self.relu(x + y) if self.seen else self.relu(y))


class Twice(nn.Module):
    """A layer that runs twice, and a sum of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.both, self.head = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + torch.relu(self.both(x))
        return torch.relu(self.head(torch.relu(self.both(x))))


FLAT = torch.randn(2, 5)
MODELS = {
    **{name: made for name, made in {**SMALL, **REAL}.items() if name not in ("tied_autoencoder", "functional")},
    "in_place": (InPlace, FLAT),
    "in_place_view": (InPlaceView, FLAT),
    "in_place_relu": (lambda: InPlaceRelu(False), FLAT),
    "in_place_relu_seen": (lambda: InPlaceRelu(True), FLAT),
    "twice": (Twice, FLAT),
}


def quantized(name: str, formats: tuple = MIXED, samples: int = 70) -> tuple[PostTraining, PlanSpace, Tensor]:
    """A model with random weights and statistics, genes for all its layers, and data for it."""
    made, example = MODELS[name]
    model = seeded(made, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.2 * torch.rand(tensor.shape, generator=generator))
    model = as_module(model, *retrace(model.eval(), (example,)), name).eval()
    network = describe(find_chains(model, example))
    genes = [
        Gene(f"{layer.name}.{slot}", formats)
        for layer in network.quantizable
        for slot in ("data_in", "weight")
        if layer.module and not layer.tied
    ]
    space = PlanSpace(network, genes, defaults={g.name[:-8] + ".bias": Fixed(16) for g in genes[::2]})
    shape = (samples, *example.shape[1:])
    inputs = torch.randn(shape, generator=generator)
    if not example.is_floating_point():
        inputs = torch.randint(int(example.max()) + 1, shape, generator=generator)
    return PostTraining(model, inputs[:32], network), space, inputs


def outputs_of(engine: Engine, genomes: IntArray, inputs: Tensor) -> list[list[tuple[slice, Tensor]]]:
    """Per genome, what the engine returns for each chunk of samples."""
    found: list[list[tuple[slice, Tensor]]] = [[] for _ in genomes]
    for output in engine.run(genomes, inputs):
        for genome, variant in zip(output.genomes, output.variants, strict=True):
            found[genome].append((output.samples, output.value.one(int(variant)).clone()))
    return found


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", MODELS)
def test_each_genome_gets_the_bits_of_the_plain_path(name: str) -> None:
    network, space, inputs = quantized(name)
    genomes = np.concatenate([space.space.corners(), space.space.sample(4, np.random.default_rng(0))])
    genomes = np.concatenate([genomes, genomes[:1]])  # the same one twice
    for genome, chunks in zip(genomes, outputs_of(Engine(network, space), genomes, inputs), strict=True):
        assert chunks[0][0].start == 0
        assert sum(samples.stop - samples.start for samples, _ in chunks) == len(inputs)
        for samples, found in chunks:
            assert torch.equal(found, network.forward(space.plan(genome), inputs[samples]))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_neither_company_nor_order_nor_memory_changes_a_bit(data: st.DataObject) -> None:
    network, space, inputs = QUANTIZED[data.draw(st.sampled_from(sorted(QUANTIZED)))]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    genomes = space.space.sample(data.draw(st.integers(1, 40)), rng)
    together = outputs_of(Engine(network, space), genomes, inputs)
    few = rng.permutation(len(genomes))[: data.draw(st.integers(1, len(genomes)))]
    memory = data.draw(st.sampled_from([1, 2**14, 2**18, 2**30]))
    again = outputs_of(Engine(network, space, memory=memory), genomes[few], inputs)
    for row, chunks in zip(few, again, strict=True):
        for (_, one), (_, other) in zip(together[row], chunks, strict=True):
            assert torch.equal(one, other)


QUANTIZED = {
    "fixed": quantized("twice", FIXED, 600),
    "mixed": quantized("twice", MIXED, 600),
    "mlp": quantized("mlp", FIXED, 600),
    "cat": quantized("cat_then_add" if "cat_then_add" in MODELS else "cat", MIXED),
}


@pytest.mark.parametrize("name", ["fixed", "mixed", "images"])
def test_compiled_kernels_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    network, space, inputs = quantized("resnet", FIXED[:3], 20) if name == "images" else QUANTIZED[name]
    inputs = inputs.clone()
    inputs[3, 0] = torch.nan
    genomes = space.space.sample(12, np.random.default_rng(0))
    found = []
    for elements in (-(2**40), fused._PAYS):  # torch is used until this many are rounded
        monkeypatch.setattr(fused._Work, "elements", elements)
        found.append(outputs_of(Engine(network, space), genomes, inputs))
    for one, other in zip(*found, strict=True):
        for (_, first), (_, second) in zip(one, other, strict=True):
            assert torch.equal(first.nan_to_num(nan=123.0), second.nan_to_num(nan=123.0))
            assert first.stride() == second.stride()


def test_a_full_grid_computes_each_value_once() -> None:
    network, space, inputs = quantized("twice", FIXED[:2], 40)
    genomes = np.concatenate(list(space.space.chunks()))
    engine = Engine(network, space, memory=2**30)
    (output,) = engine.run(genomes, inputs)
    plain = {network.forward(space.plan(genome), inputs).numpy().tobytes() for genome in genomes}
    assert len(plain) <= len(output.value) <= len(genomes)
    assert sorted(output.genomes.tolist()) == list(range(len(genomes)))


def test_values_that_are_not_finite_stay_what_they_are_alone() -> None:
    network, space, inputs = quantized("twice", FIXED, 40)
    inputs[3, 2], inputs[5, 1] = torch.nan, torch.inf
    genomes = space.space.sample(20, np.random.default_rng(0))
    for genome, chunks in zip(genomes, outputs_of(Engine(network, space), genomes, inputs), strict=True):
        for samples, found in chunks:
            expected = network.forward(space.plan(genome), inputs[samples])
            assert torch.equal(found.nan_to_num(nan=123.0), expected.nan_to_num(nan=123.0))


@pytest.mark.parametrize("rounded", [-(2**40), fused._PAYS])
def test_large_inputs_make_sums_inexact_and_are_computed_alone(rounded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused._Work, "elements", rounded)  # in torch, and compiled where numba is there
    network, space, inputs = quantized("mlp", parse_list("fixed16.2,fixed16.4"), 64)
    inputs *= 2.0**11  # far beyond what 24 bits hold in sums of products
    genomes = space.space.sample(12, np.random.default_rng(0))
    for genome, chunks in zip(genomes, outputs_of(Engine(network, space), genomes, inputs), strict=True):
        for samples, found in chunks:
            assert torch.equal(found, network.forward(space.plan(genome), inputs[samples]))


@settings(max_examples=60, deadline=None)
@given(
    data_bits=st.integers(2, 16),
    weight_bits=st.integers(2, 16),
    frac=st.integers(-2, 18),
    inputs=st.integers(1, 40),
    seed=st.integers(0, 2**16),
)
def test_sums_are_exact_below_the_largest_inputs(
    data_bits: int, weight_bits: int, frac: int, inputs: int, seed: int
) -> None:
    """In any order, and as whole numbers say: the reference is integer arithmetic."""
    layer = quantized("mlp", FIXED, 40)[1].network.quantizable[0]
    rng = np.random.default_rng(seed)
    plan = LayerPlan(layer, inputs, 3, data_in=Fixed(data_bits, 3), weight=Fixed(weight_bits, frac), bias=Fixed(16, 9))
    whole_weight = rng.integers(-(2 ** (weight_bits - 1)), 2 ** (weight_bits - 1), size=(3, inputs))
    whole_bias = rng.integers(-(2**15), 2**15, size=3)
    weight = torch.from_numpy(whole_weight).float() * 2.0**-frac
    bias = torch.from_numpy(whole_bias).float() * 2.0**-9
    room = largest_inputs(plan, weight, bias)
    if room < 1:
        return
    most = int(min(np.ceil(room) - 1, 2 ** (data_bits - 1)))
    data = rng.integers(-most, most + 1, size=inputs)
    unit = max(frac + 3, 9)
    exact = (whole_weight.astype(object) @ data.astype(object)) * 2 ** (unit - frac - 3) + whole_bias.astype(
        object
    ) * 2 ** (unit - 9)
    order = torch.from_numpy(rng.permutation(inputs))
    values = torch.from_numpy(data).float() * 2.0**-3
    found = bias.clone()
    for i in order:
        found += weight[:, i] * values[i]
    assert [float(value) * 2**unit for value in found] == [float(value) for value in exact]


def test_chunks_of_small_networks_are_large_and_of_large_ones_small() -> None:
    network, _, inputs = quantized("mlp", FIXED, 600)
    assert _Shapes.of(network.graph, inputs[:2]).chunk == 256
    network = quantized("resnet")[0]
    assert _Shapes.of(network.graph, torch.zeros(2, 3, 64, 64)).chunk < 256
