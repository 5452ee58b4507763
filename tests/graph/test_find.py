"""What find_chains accepts, refuses and says; and that a wrong chain does not survive its proof."""

from __future__ import annotations

import time

import pytest
import torch
import torch.nn.functional as F
from graph.models_real import ResNet50
from graph.models_small import Asserted, Mlp, Permuted, image
from torch import Tensor, nn

from evonas.errors import EvonasError, InvalidArgument, UnknownName
from evonas.graph import (
    UntraceableModel,
    elementwise,
    find_chains,
    legal_channels,
    movement,
    propagate,
    resize,
    rewrite,
    rules,
)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if y.sum() > 0:  # the line that stops the trace
            return y
        return -y


class Counts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(len(x))


def test_an_untraceable_model_names_the_line_and_the_remedy() -> None:
    with pytest.raises(UntraceableModel) as caught:
        find_chains(Branches().eval(), torch.randn(2, 4))
    text = str(caught.value)
    assert "if y.sum() > 0:" in text
    assert "test_find.py" in text
    assert "torch.where" in text
    assert "\n" not in text
    assert isinstance(caught.value, EvonasError)


def test_other_untraceable_code_is_named_too() -> None:
    with pytest.raises(UntraceableModel, match=r"return x \* float\(len\(x\)\).*torch\.fx\.wrap"):
        find_chains(Counts().eval(), torch.randn(2, 4))


class Parts(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.how = nn.Linear(4, 8), how

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        parts = list(y.chunk(5, 1)) if self.how == "chunk" else [part * 2 for part in y.split(4, 1)]
        return torch.cat(parts, 1)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("chunk", r"loses what `parts = list.*\(tuple index out of range\); write it in another way"),
        ("split", r"parts = list.*cannot be iterated\); unpack into names \(a, b = x.split\(4, 1\)\)"),
    ],
)
def test_parts_whose_number_is_not_known_are_refused_by_name(how: str, words: str) -> None:
    with pytest.raises(UntraceableModel, match=words) as caught:
        find_chains(Parts(how).eval(), torch.randn(2, 4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "inputs", "words"),
    [
        (Mlp(), torch.randn(2, 6), "training mode"),
        (Mlp().eval(), torch.randn(2, 7), "does not accept `example_inputs` of shape"),
        (Mlp().eval(), "text", "must be a tensor or a tuple"),
        (Mlp().eval(), (), "does not accept"),
        (lambda x: x, torch.randn(2, 6), "must be a torch.nn.Module"),
        (nn.Sequential(nn.LazyLinear(3)).eval(), torch.randn(2, 6), "lazy parameter"),
    ],
)
def test_wrong_arguments_are_one_line(model: nn.Module, inputs: Tensor, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        find_chains(model, inputs)
    assert "\n" not in str(caught.value)


def test_a_miss_lists_the_names() -> None:
    chains = find_chains(Mlp().eval(), torch.randn(2, 6))
    with pytest.raises(UnknownName, match="chain0, chain1"):
        chains["chain7"]


def test_the_model_is_untouched() -> None:
    model = Mlp().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    find_chains(model, torch.randn(2, 6, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.random.get_rng_state(), state), "randomness is an argument, never global"
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.training


class Flipped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(F.relu(self.b(x.flip(1) * 2.0 + x.flip(1))))


def test_a_wrong_rule_does_not_survive_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `flip` taken for an element-wise op the chain of `a` is wrong: only the proof can tell."""
    model, inputs = Flipped().eval(), torch.randn(2, 4)
    assert len(find_chains(model, inputs)) == 2
    for module in (propagate, rewrite):
        monkeypatch.setattr(module, "MOVEMENT", movement.MOVEMENT - {"flip"})
    monkeypatch.setattr(propagate, "ELEMENTWISE", rules.ELEMENTWISE | {"flip"})
    assert len(find_chains(model, inputs, proof=False)) == 2
    chains = find_chains(model, inputs)
    assert [c.channels for c in chains.values()] == [6]
    reasons = {(f.layer, f.side): f.reason for f in chains.frozen}
    assert "differs from the original" in reasons["a", "out"]


def test_a_missing_union_does_not_survive_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """With sums that unite nothing, both sides of an add look free."""

    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = (
                nn.Linear(4, 8),
                nn.Linear(4, 8),
                nn.Linear(8, 6),
                nn.Linear(6, 2),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.d(F.relu(self.c(self.a(x) + self.b(x))))

    real = elementwise._meet_two
    monkeypatch.setattr(
        elementwise, "_meet_two", lambda flow, one, other: one if other.ndim else real(flow, one, other)
    )
    chains = find_chains(Added().eval(), torch.randn(2, 4))
    assert [[m.layer for m in c.members] for c in chains.values()] == [["c", "d"]]


def test_arguments_of_forward_keep_their_defaults() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 2.0) -> Tensor:
            x = self.a(x) * scale
            if mask is not None:
                x = x * mask
            return self.b(x)

    model, x = Optional().eval(), torch.randn(2, 4)
    chains = find_chains(model, x)
    large = resize(model, {"chain0": 12}, chains=chains)
    torch.testing.assert_close(large(x), model(x))


def test_several_inputs_and_outputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            hidden = torch.relu(self.a(x) + self.b(y))
            return {"out": self.c(hidden), "mean": hidden.mean(1)}

    chains = find_chains(Two().eval(), (torch.randn(2, 4), torch.randn(2, 3)))
    assert len(chains) == 0
    assert any("reduced to one value" in f.reason for f in chains.frozen)


def test_asserts_on_sizes_do_not_stop_a_resize() -> None:
    model = Asserted().eval()
    chains = find_chains(model, image())
    large = resize(model, {"chain0": 16}, chains=chains)
    torch.testing.assert_close(large(image()), model(image()))
    assert resize(model, {"chain0": 4}, chains=chains)(image()).shape == (2, 2, 8, 8)


def test_a_deep_network_is_found_and_proved() -> None:
    model = ResNet50().eval()
    chains = find_chains(model, torch.zeros(1, 3, 64, 64))
    assert len(chains) == 37
    assert [f.layer for f in chains.frozen] == ["conv1", "fc"]
    small = resize(model, {n: legal_channels(c, 0.5, round_to=8) for n, c in chains.items()}, chains=chains)
    assert type(small) is ResNet50
    assert 3.5 < sum(p.numel() for p in model.parameters()) / sum(p.numel() for p in small.parameters()) < 4


def test_a_permutation_held_as_a_buffer_shrinks_with_its_channels() -> None:
    model, x = Permuted().eval(), torch.randn(2, 5)
    chains = find_chains(model, x)
    assert [c.channels for c in chains.values()] == [6, 4]
    large = resize(model, {"chain0": 12, "chain1": 8}, chains=chains)
    torch.testing.assert_close(large(x), model(x))
    assert type(large) is Permuted
    assert large.order.shape == (12,)
    assert model.order.shape == (6,)
    assert resize(model, {"chain0": 3}, chains=chains)(x).shape == (2, 3)


def test_inputs_are_left_alone() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x += 1.0
            return self.b(self.a(x).relu_())

    x = torch.randn(2, 4)
    before = x.clone()
    assert len(find_chains(InPlace().eval(), x)) == 1
    assert torch.equal(x, before)


@pytest.mark.slow
def test_time_of_a_deep_network(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints how long a ResNet-50 at full resolution takes; asserts nothing about it."""
    model, inputs = ResNet50().eval(), torch.zeros(1, 3, 224, 224)
    start, used = time.perf_counter(), time.process_time()
    chains = find_chains(model, inputs)
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    with capsys.disabled():
        print(f"\nResNet-50: {len(chains)} chains in {seconds:.1f} s ({processor:.1f} s of one core)")
