"""Every structure: found, resized to x0.5, x1, x2 and random counts, compared with references."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import pytest
import torch
from graph.models_real import REAL
from graph.models_small import SMALL
from graph.reference import as_double, assert_close, randomise, zeroed
from torch import nn

from evonas.graph import Chains, find_chains, legal_channels, resize

MODELS = {**SMALL, **REAL}


@functools.cache
def found(name: str) -> tuple[nn.Module, Chains, torch.Tensor]:
    build, inputs = MODELS[name]
    torch.manual_seed(1)
    model = randomise(build())
    inputs = as_double(inputs)
    return model, find_chains(model, inputs), inputs


def halved(name: str) -> dict[str, int]:
    return {n: legal_channels(c, 0.5) for n, c in found(name)[1].items()}


@pytest.mark.parametrize("name", MODELS)
def test_half_equals_the_zeroed_original(name: str) -> None:
    model, chains, inputs = found(name)
    small = resize(model, halved(name), chains=chains)
    if halved(name) != chains.channels:
        assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    assert_close(small(inputs), zeroed(name, model, small)(inputs))


@pytest.mark.parametrize("name", MODELS)
def test_random_counts_equal_the_zeroed_original(name: str) -> None:
    model, chains, inputs = found(name)
    draw = random.Random(name)
    for _ in range(3):
        counts = {n: draw.randrange(c.minimum, c.channels + 1, c.step) for n, c in chains.items()}
        small = resize(model, counts, chains=chains)
        assert_close(small(inputs), zeroed(name, model, small)(inputs))


@pytest.mark.parametrize("name", MODELS)
def test_original_counts_change_nothing(name: str) -> None:
    model, chains, inputs = found(name)
    same = resize(model, chains.channels, chains=chains)
    assert type(same) is type(model)
    assert same.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(same(inputs), model(inputs))


@pytest.mark.parametrize("name", MODELS)
def test_double_computes_the_same(name: str) -> None:
    model, chains, inputs = found(name)
    large = resize(model, {n: legal_channels(c, 2) for n, c in chains.items()}, chains=chains)
    if any(c.growth != "none" for c in chains.values()):
        assert sum(p.numel() for p in large.parameters()) > sum(p.numel() for p in model.parameters())
    assert_close(large(inputs), model(inputs))


@pytest.mark.parametrize("name", MODELS)
def test_uneven_growth_computes_the_same(name: str) -> None:
    model, chains, inputs = found(name)
    draw = random.Random(name)
    counts = {
        n: c.channels + c.step * draw.randrange(0, 2 * c.channels // c.step)
        if c.growth == "any"
        else legal_channels(c, 3)
        for n, c in chains.items()
    }
    assert_close(resize(model, counts, chains=chains)(inputs), model(inputs))


@pytest.mark.parametrize("name", MODELS)
def test_mixed_counts_fit_each_other(name: str) -> None:
    """Some chains smaller, some larger: growing must not change what shrinking left, and the weights must
    load into a fresh model."""
    model, chains, inputs = found(name)
    draw = random.Random(name)
    counts = {n: legal_channels(c, draw.choice([0.25, 0.5, 1, 2])) for n, c in chains.items()}
    counts = {n: min(k, chains[n].channels) if chains[n].growth != "any" else k for n, k in counts.items()}
    one = resize(model, counts, chains=chains)
    small = resize(model, {n: min(k, chains[n].channels) for n, k in counts.items()}, chains=chains)
    assert_close(one(inputs), small(inputs))
    other = resize(model, counts, chains=chains, init="fresh", seed=3)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(inputs), other(inputs))


@pytest.mark.parametrize("name", MODELS)
def test_affine_extents_are_the_real_sizes(name: str) -> None:
    model, chains, _ = found(name)
    for multiplier in (0.5, 1, 2):
        counts = {n: legal_channels(c, multiplier) for n, c in chains.items()}
        sized = resize(model, counts, chains=chains)
        modules = dict(sized.named_modules())
        for layer in chains.layers:
            module = modules.get(layer.name)
            if isinstance(module, nn.Linear):
                assert layer.inputs.count(counts) == module.in_features
                assert layer.outputs.count(counts) == module.out_features
            elif isinstance(module, nn.modules.conv._ConvNd):
                assert layer.inputs.count(counts) == module.in_channels
                assert layer.outputs.count(counts) == module.out_channels
                assert layer.group_inputs.count(counts) == module.in_channels // module.groups
                kernel = module.weight[0, 0].numel()
                assert layer.group_inputs.count(counts) * layer.outputs.count(counts) * kernel == module.weight.numel()


@pytest.mark.parametrize("name", MODELS)
def test_the_original_is_left_alone(name: str) -> None:
    model, chains, inputs = found(name)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    plain = {path: str(module) for path, module in model.named_modules()}
    resize(model, halved(name), chains=chains, init="fresh")
    assert {path: str(module) for path, module in model.named_modules()} == plain
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    model(inputs)


def _frozen_reasons(name: str) -> str:
    return "\n".join(str(f) for f in found(name)[1].frozen)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("multihead_module", "nn.MultiheadAttention keeps its sizes"),
        ("recurrent", "recurrent layers keep their sizes"),
        ("channel_softmax", "softmax runs over channels at `return self.c(self.b(self.a(x)).softmax(1))`"),
        ("one_channel", "it has a single channel"),
        ("mixer", "it mixes positions, not channels"),
        ("outer_product", "outer product"),
        ("index_picks", "picked by an index tensor"),
        ("shufflenet_v1", "grouped layers around it tie all its channels into one"),
        ("mlp", "it is coupled to the input `input` of the model"),
        ("mlp", "it is an output of the model"),
        ("weight_norm", "computed before use"),
        ("unknown_op", "`cdist` is not known to evonas.graph at `"),
    ],
)
def test_what_is_refused_says_why(name: str, words: str) -> None:
    assert words in _frozen_reasons(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tied_embedding", "the tied weight `embed.weight` both makes and reads them"),
        ("single_head", "a product sums over them"),
        ("layer_norm", "a layer norm at"),
    ],
)
def test_limited_growth_says_why(name: str, words: str) -> None:
    assert any(words in chain.growth_note and chain.growth != "any" for chain in found(name)[1].values())


SIDES: dict[str, Callable[[Chains], bool]] = {
    "residual_add": lambda c: dict(_sides(c, "stem")) == {"stem": "out", "a": "in", "b": "out", "head": "in"},
    "depthwise": lambda c: _sides(c, "a") == {"a": "out", "dw": "both", "b": "in", "bn": "both"},
    "called_twice": lambda c: _sides(c, "a") == {"a": "out", "b": "both", "c": "in"},
    "cat": lambda c: [k.channels for k in c.values()] == [4, 6],
    "flatten_2d": lambda c: c["chain0"].channels == 6 and c["chain0"].followers == ("4",),
    "attention": lambda c: (c["chain1"].granularity, c["chain1"].step, c["chain1"].units) == ("heads", 4, 3),
    "depthwise_multiplier": lambda c: c["chain0"].channels == 6,
    "grouped_conv": lambda c: (
        [(k.granularity, k.step) for k in c.values()] == [("group width", 3), ("group width", 3), ("groups", 2)]
    ),
    "resnext": lambda c: (c["chain1"].granularity, c["chain1"].step) == ("groups", 2),
    "densenet": lambda c: len(c) == 10,
    "mobilenet_v2": lambda c: len(c) == 8,
    "vit": lambda c: [k.granularity for k in c.values()] == ["channels", "heads", "channels", "heads", "channels"],
}


def _sides(chains: Chains, layer: str) -> dict[str, str]:
    """The members of the chain that `layer` makes."""
    for chain in chains.values():
        members = {m.layer: m.side for m in chain.members}
        if members.get(layer) == "out":
            return members
    return {}


@pytest.mark.parametrize("name", SIDES)
def test_chains_are_what_a_person_would_write(name: str) -> None:
    assert SIDES[name](found(name)[1])
