"""What resize returns: right attributes, weights that can be loaded, pickled and exported; refusals."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable

import pytest
import torch
from graph.models_real import REAL, AudioNet, Vit
from graph.models_small import (
    SMALL,
    AttentionNet,
    CalledTwice,
    FunctionalConv,
    FusedAttention,
    GroupedConv,
    GroupNormNet,
    HardCodedView,
    LayerNormNet,
    Mlp,
    ShuffleDense,
    TiedEmbedding,
    image,
    tokens,
)
from torch import Tensor, fx, nn

from evonas.errors import InvalidArgument, UnknownName
from evonas.graph import find_chains, group_l1, group_l2, legal_channels, resize


def half(model: nn.Module, inputs: Tensor, **options: object) -> nn.Module:
    chains = find_chains(model.eval(), inputs)
    return resize(model, {n: legal_channels(c, 0.5) for n, c in chains.items()}, chains=chains, **options)


def test_attributes_follow() -> None:
    small = half(Mlp(), torch.randn(2, 6))
    assert (small[2].in_features, small[2].out_features, small[3].num_features) == (6, 6, 6)
    assert (small[7].num_parameters, small[8].in_features, small[8].out_features) == (4, 4, 5)
    grouped = half(GroupedConv(), image())
    assert (grouped.g.in_channels, grouped.g.out_channels, grouped.g.groups) == (6, 9, 3)
    assert (grouped.h.in_channels, grouped.h.out_channels, grouped.h.groups) == (8, 8, 4)
    norms = half(GroupNormNet(), image())
    assert [(norms[i].num_channels, norms[i].num_groups) for i in (1, 4, 7)] == [(6, 2), (8, 4), (3, 1)]
    assert half(LayerNormNet(), tokens()).norm.normalized_shape == (4,)
    assert half(TiedEmbedding(), SMALL["tied_embedding"][1]).embed.embedding_dim == 4


def test_heads_follow_in_the_users_own_class() -> None:
    small = half(AttentionNet(), tokens())
    assert type(small) is AttentionNet
    assert (small.attn.num_heads, small.attn.head_dim) == (2, 4)  # 1.5 heads round to 2
    assert half(Vit(), REAL["vit"][1]).blocks[0].attn.num_heads == 2


@pytest.mark.parametrize(
    ("large", "small", "inputs"),
    [
        (lambda: AttentionNet(), lambda: _attention(6, 2), tokens()),
        (lambda: Mlp(), lambda: _mlp(6, 4), torch.randn(2, 6)),
        (lambda: CalledTwice(), lambda: _called_twice(3), image()),
    ],
)
def test_weights_load_into_a_model_written_by_hand(
    large: Callable[[], nn.Module], small: Callable[[], nn.Module], inputs: Tensor
) -> None:
    resized, by_hand = half(large(), inputs), small().eval()
    by_hand.load_state_dict(resized.state_dict())
    torch.testing.assert_close(by_hand(inputs), resized(inputs))


def _attention(dim: int, heads: int) -> nn.Module:
    model = AttentionNet()
    model.embed, model.attn, model.head = nn.Linear(5, dim), FusedAttention(dim, heads, 4), nn.Linear(dim, 3)
    return model


def _mlp(first: int, second: int) -> nn.Module:
    model = Mlp()
    model[2], model[3], model[5] = nn.Linear(6, first), nn.BatchNorm1d(first), nn.Linear(first, second)
    model[7], model[8] = nn.PReLU(second), nn.Linear(second, 5)
    return model


def _called_twice(width: int) -> nn.Module:
    model = CalledTwice()
    model.a, model.c = nn.Conv2d(3, width, 1), nn.Conv2d(width, 2, 1)
    model.b = nn.Conv2d(width, width, 3, padding=1)
    return model


def test_the_most_important_channels_stay() -> None:
    model = Mlp().eval()
    with torch.no_grad():
        for layer, size in ((model[2], 12), (model[5], 8)):
            layer.weight.copy_(torch.ones_like(layer.weight) * torch.arange(size).flip(0)[:, None])
    chains = find_chains(model, torch.randn(2, 6))
    small = resize(model, {"chain0": 3, "chain1": 2}, chains=chains)
    assert small[2].weight[:, 0].tolist() == [11.0, 10.0, 9.0]
    assert small[5].weight[:, 0].tolist() == [7.0, 6.0]


def test_the_importance_can_be_replaced() -> None:
    model = Mlp().eval()
    chains = find_chains(model, torch.randn(2, 6))

    def last(weight: Tensor, dim: int) -> Tensor:
        return torch.arange(weight.shape[dim]).float()

    small = resize(model, {"chain0": 2}, chains=chains, importance=last)
    assert torch.equal(small[2].weight, model[2].weight[-2:])
    weight = torch.randn(3, 4, 2)
    torch.testing.assert_close(group_l2(weight, 1), weight.square().sum((0, 2)).sqrt())
    torch.testing.assert_close(group_l1(weight, 0), weight.abs().sum((1, 2)))
    with pytest.raises(InvalidArgument, match="`importance` must return shape"):
        resize(model, {"chain0": 2}, chains=chains, importance=lambda w, _: w)


def test_copies_differ_in_what_reads_them() -> None:
    """Equal copies with equal readers would stay equal in training."""
    model = Mlp().eval()
    chains = find_chains(model, torch.randn(2, 6))
    large = resize(model, {"chain0": 24}, chains=chains)
    columns = large[5].weight.detach()
    assert torch.equal(large[2].weight[0], large[2].weight[1])
    assert not torch.allclose(columns[:, 0], columns[:, 1])
    other = resize(model, {"chain0": 24}, chains=chains, seed=1)
    assert not torch.equal(other[5].weight, large[5].weight)
    again = resize(model, {"chain0": 24}, chains=chains)
    assert torch.equal(again[5].weight, large[5].weight)


def test_fresh_weights_follow_the_seed_and_nothing_global() -> None:
    model = LayerNormNet().eval()
    chains = find_chains(model, tokens())
    state = torch.random.get_rng_state()
    one, same, other = (resize(model, {"chain1": 8}, chains=chains, init="fresh", seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.up.weight, other.up.weight)
    assert not torch.equal(one.embed.weight, model.embed.weight)
    assert not torch.equal(one.position, model.position)


def test_the_mode_and_gradients_are_the_models() -> None:
    model = Mlp().eval()
    chains = find_chains(model, torch.randn(2, 6))
    model.train()
    model[2].weight.requires_grad_(False)
    small = resize(model, {"chain0": 4}, chains=chains)
    assert small.training
    assert not small[2].weight.requires_grad
    assert small[5].weight.requires_grad
    small(torch.randn(4, 6)).sum().backward()


def test_a_rewritten_graph_keeps_names_and_dropout() -> None:
    model = FunctionalConv().eval()
    chains = find_chains(model, image())
    small = resize(model, {"chain0": 4}, chains=chains)
    assert isinstance(small, fx.GraphModule)
    assert small.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(small(image()), small(image()))
    small.train()
    assert not torch.equal(small(image()), small(image()))


@pytest.mark.parametrize(
    "name", ["mlp", "attention", "hard_coded_view", "shuffle_dense", "functional", "tied_embedding"]
)
def test_results_pickle(name: str) -> None:
    build, inputs = SMALL[name]
    small = half(build(), inputs)
    file = io.BytesIO()
    torch.save(small, file)
    file.seek(0)
    # A file that this test wrote itself; whole modules need the full unpickler.
    again = torch.load(file, weights_only=False)
    assert torch.equal(again(inputs), small(inputs))


@pytest.mark.parametrize("name", ["hard_coded_view", "shuffle_dense", "attention"])
def test_results_export(name: str) -> None:
    build, inputs = SMALL[name]
    small = half(build(), inputs)
    program = torch.export.export(small, (inputs,))
    torch.testing.assert_close(program.module()(inputs), small(inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", {**SMALL, **REAL})
def test_every_result_exports(name: str) -> None:
    build, inputs = {**SMALL, **REAL}[name]
    small = half(build(), inputs)
    program = torch.export.export(small, (inputs,))
    torch.testing.assert_close(program.module()(inputs), small(inputs))


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript")),
    reason="onnx is not installed",
)
@pytest.mark.parametrize("name", ["mlp", "hard_coded_view", "attention"])
def test_results_export_to_onnx(name: str) -> None:
    build, inputs = SMALL[name]
    torch.onnx.export(half(build(), inputs), (inputs,), io.BytesIO())


def test_refusals_name_the_chain_and_the_reason() -> None:
    model, inputs = LayerNormNet().eval(), tokens()
    chains = find_chains(model, inputs)
    with pytest.raises(InvalidArgument, match=r"`chain0` can only grow by integer factors of 8, got 12: a layer norm"):
        resize(model, {"chain0": 12}, chains=chains)
    with pytest.raises(InvalidArgument, match="at least 1, got 0"):
        resize(model, {"chain1": 0}, chains=chains)
    with pytest.raises(InvalidArgument, match=r"must be an int, got 4\.0"):
        resize(model, {"chain1": 4.0}, chains=chains)
    with pytest.raises(UnknownName, match="chain0, chain1"):
        resize(model, {"chain2": 4}, chains=chains)
    with pytest.raises(UnknownName, match="unknown init `scratch`"):
        resize(model, {}, chains=chains, init="scratch")
    with pytest.raises(InvalidArgument, match="is not the one that `chains` was found on"):
        resize(Mlp().eval(), {}, chains=chains)
    grouped = GroupedConv().eval()
    found = find_chains(grouped, image())
    with pytest.raises(InvalidArgument, match="must be a multiple of 3"):
        resize(grouped, {"chain0": 8}, chains=found)
    tied = TiedEmbedding().eval()
    found = find_chains(tied, SMALL["tied_embedding"][1])
    with pytest.raises(InvalidArgument, match="`chain0` cannot grow beyond 8 channels, got 16: the tied weight"):
        resize(tied, {"chain0": 16}, chains=found)


def test_a_norm_over_several_chains_grows_only_as_a_whole() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 4), nn.Linear(5, 6)
            self.norm, self.c = nn.LayerNorm(10), nn.Linear(10, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.norm(torch.cat([self.a(x), self.b(x)], -1)))

    model, x = Joined().eval(), torch.randn(2, 5)
    chains = find_chains(model, x)
    assert [c.growth for c in chains.values()] == ["integer", "integer"]
    with pytest.raises(InvalidArgument, match="they can only grow together"):
        resize(model, {"chain0": 8}, chains=chains)
    both = resize(model, {"chain0": 8, "chain1": 12}, chains=chains)
    torch.testing.assert_close(both(x), model(x))


def test_other_weights_of_the_same_structure_can_be_resized() -> None:
    chains = find_chains(AudioNet().eval(), REAL["audio"][1])
    trained = AudioNet().eval()
    large = resize(trained, {n: legal_channels(c, 2) for n, c in chains.items()}, chains=chains)
    torch.testing.assert_close(large(REAL["audio"][1]), trained(REAL["audio"][1]), rtol=1e-4, atol=1e-5)


def test_a_resized_model_can_be_analysed_again() -> None:
    for build, inputs in ((HardCodedView, image()), (ShuffleDense, image()), (Mlp, torch.randn(2, 6))):
        small = half(build(), inputs)
        chains = find_chains(small, inputs)
        assert len(chains) > 0
        smaller = resize(small, {n: legal_channels(c, 0.5) for n, c in chains.items()}, chains=chains)
        assert smaller(inputs).shape == small(inputs).shape
