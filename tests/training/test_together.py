"""Training together: the same as alone within float error, and the same in any company, bit for bit."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import evonas.training
from evonas.errors import InvalidArgument
from evonas.problems.digits import digits
from evonas.problems.jsc import jet_network
from evonas.quantize import single_thread
from evonas.training import Recipe, WeightStore, layout, seeded, together, train, train_kept, train_together
from evonas.training.packed import Packed
from evonas.training.stack import Stack

pytest.importorskip("numba")
RECIPE = Recipe(learning_rate=1e-2, batch=16, weight_decay=1e-3)


class Residual(nn.Module):
    """A sum of two branches, one of them without bias, and of a value with itself."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.flat = nn.Flatten()
        self.first = nn.Linear(12, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.down = nn.Linear(hidden, inner, bias=False)
        self.up = nn.Linear(inner, hidden)
        self.last = nn.Linear(hidden, 3)

    def forward(self, values: Tensor) -> Tensor:
        values = torch.relu(self.norm(self.first(self.flat(values))))
        values = values + self.up(self.down(values).relu())
        logits: Tensor = self.last(nn.functional.relu(values + values))
        return logits


class Twice(nn.Module):
    """A layer that runs twice: its gradients add up."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, values: Tensor) -> Tensor:
        values = torch.relu(self.again(torch.relu(self.first(values))))
        logits: Tensor = self.last(torch.relu(self.again(values)))
        return logits


class Reads(nn.Module):
    """What `forward` makes of two layers and the data."""

    def __init__(self, forward: Callable[[nn.Module, nn.Module, Tensor], Tensor], second: int = 6) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(4, second), nn.Linear(6, 2)
        self.how = forward

    def forward(self, values: Tensor) -> Tensor:
        logits: Tensor = self.last(self.how(self.first, self.second, values))
        return logits


def in_place(first: nn.Module, second: nn.Module, values: Tensor) -> Tensor:
    hidden = first(values)
    positive = nn.functional.relu(hidden, inplace=True)
    return second(values) + positive + hidden  # type: ignore[no-any-return]


def mlp(*sizes: int) -> nn.Sequential:
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(*(part for layer in layers[:-1] for part in (layer, nn.ReLU())), layers[-1])


def jets(first: int, second: int) -> nn.Sequential:
    return jet_network(f"BN16 ReLU L16-{first} BN{first} ReLU L{first}-{second} ReLU L{second}-5 BN5 ReLU")


def data(shape: Sequence[int], classes: int, samples: int = 70) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, *shape, generator=generator)
    return inputs, torch.randint(0, classes, (samples,), generator=generator)


CASES: dict[str, tuple[Callable[[int, int], nn.Module], Sequence[int], int]] = {
    "mlp": (lambda a, b: mlp(20, a, b, 10), (20,), 10),
    "batch norms, a ReLU at the end": (jets, (16,), 5),
    "sums, images": (Residual, (1, 3, 4), 3),
}
WIDTHS = [(a, b) for a in (8, 16, 17, 40) for b in (9, 16, 19, 24)]


def trained(case: str, widths: Sequence[tuple[int, int]], groups: int, epochs: int = 3) -> list[dict[str, Tensor]]:
    """States after training networks of these widths, `groups` at a time."""
    make, shape, classes = CASES[case]
    networks = [seeded(lambda w=w: make(*w), 0) for w in widths]  # type: ignore[misc]
    inputs, targets = data(shape, classes)
    for start in range(0, len(networks), groups):
        part = networks[start : start + groups]
        train_together(part, inputs, targets, widest=make(40, 24), epochs=epochs, seed=1, recipe=RECIPE)
    assert not any(network.training for network in networks)
    return [network.state_dict() for network in networks]


@pytest.fixture(params=["torch", "compiled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to train networks together, however little there is to train."""
    way: str = request.param
    monkeypatch.setattr(together, "PAYS", 0 if way == "compiled" else 2**60)
    return way


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def gradients(stack: Stack | Packed, learned: Sequence[str], networks: Sequence[nn.Module]) -> list[dict[str, Tensor]]:
    """Each network's, in its own shapes; what reaches padding is seen to be nothing."""
    whole = [parameter.grad for parameter in stack.parameters() if parameter.grad is not None]
    shapes = [{name: network.get_parameter(name).shape for name in learned} for network in networks]
    found: list[dict[str, Tensor]] = [{} for _ in networks]
    if isinstance(stack, Packed):
        (vector,), start = whole, 0
        for mine, wanted in zip(found, shapes, strict=True):
            for name, shape in wanted.items():
                mine[name] = vector[start : start + shape.numel()].view(shape)
                start += shape.numel()
            start += -start % 16
        assert start == len(vector)
        return found
    for name, value in zip(learned, whole, strict=True):
        for slot, (mine, wanted) in enumerate(zip(found, shapes, strict=True)):
            turned = value[slot].mT if value.dim() == 3 else value[slot]
            mine[name] = turned[tuple(slice(size) for size in wanted[name])]
            assert turned.count_nonzero() == mine[name].count_nonzero()
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", [Stack, Packed])
def test_gradients_and_running_statistics_are_those_of_autograd(case: str, kind: type[Stack | Packed]) -> None:
    make, shape, classes = CASES[case]
    inputs, targets = data(shape, classes)
    networks = [seeded(lambda w=widths: make(*w), 0) for widths in WIDTHS]  # type: ignore[misc]
    found = layout(make(40, 24), inputs)
    assert found is not None
    options = {"batch": 31} if kind is Packed else {}
    stack = kind(found, networks, inputs, targets, **options)
    stack.differentiate(torch.arange(30, -1, -1))
    for network, mine in zip(networks, gradients(stack, found.learned, networks), strict=True):
        network.double().train()
        with single_thread():
            nn.functional.cross_entropy(network(inputs[:31].double()), targets[:31]).backward()  # type: ignore[no-untyped-call]
        for name, value in network.named_parameters():
            assert value.grad is not None
            assert torch.allclose(mine[name].double(), value.grad, atol=1e-6), name
    after = [{name: value.clone() for name, value in network.named_buffers()} for network in networks]
    stack.write(networks)
    for expected, network in zip(after, networks, strict=True):
        for name, value in network.named_buffers():
            assert torch.allclose(value, expected[name] + (name.endswith("tracked")), atol=1e-6), name


@pytest.mark.usefixtures("way")
def test_the_same_as_alone_within_float_error() -> None:
    make, shape, classes = CASES["mlp"]
    inputs, targets = data(shape, classes)
    for widths, state in zip(WIDTHS, trained("mlp", WIDTHS, 16), strict=True):
        alone = seeded(lambda w=widths: make(*w), 0)  # type: ignore[misc]
        start = copy.deepcopy(alone.state_dict())
        train(alone, inputs, targets, epochs=3, seed=1, recipe=RECIPE)
        assert all(torch.allclose(state[name], value, atol=1e-5) for name, value in alone.state_dict().items())
        assert any(not torch.allclose(state[name], value, atol=1e-2) for name, value in start.items())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("case", CASES)
def test_the_same_bits_in_any_company(case: str) -> None:
    together = trained(case, WIDTHS, 16)
    for groups in (1, 2, 7):
        assert all(map(same, trained(case, WIDTHS, groups), together)), groups
    backwards = trained(case, WIDTHS[::-1], 5)[::-1]
    assert all(map(same, backwards, together))


@settings(deadline=None, max_examples=15)
@given(
    sizes=st.lists(st.integers(1, 130), min_size=2, max_size=5),
    classes=st.integers(2, 20),
    samples=st.integers(2, 150),
    batch=st.integers(1, 130),
    company=st.integers(1, 15),
    place=st.integers(0, 15),
)
def test_the_same_bits_in_any_company_for_any_shape(
    sizes: list[int], classes: int, samples: int, batch: int, company: int, place: int
) -> None:
    inputs, targets = data((sizes[0],), classes, samples)
    widest = seeded(lambda: mlp(*sizes, classes), 0)
    rest = [seeded(lambda: mlp(*sizes, classes), seed) for seed in range(1, company + 1)]
    for pays in (0, 2**60):
        alone, accompanied = copy.deepcopy(widest), copy.deepcopy(widest)
        group = [*rest[: place % (company + 1)], accompanied, *rest[place % (company + 1) :]]
        for networks in ([alone], group):
            recipe = Recipe(batch=batch)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(together, "PAYS", pays)
                train_together(networks, inputs, targets, widest=widest, epochs=1, seed=0, recipe=recipe)
        assert same(alone.state_dict(), accompanied.state_dict())


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)), (1, 4, 4)),
        (nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2)), (4,)),
        (nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 2)), (4,)),  # a padded channel would be 1/2
        (nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2)), (4,)),
        (nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 2)), (4,)),
        (Twice(), (4,)),
        (Reads(lambda first, second, values: first(values) + second(values), 1), (4,)),  # a sum that broadcasts
        (Reads(in_place), (4,)),  # what is read later has changed
        (Reads(lambda first, second, values: (first(values), second(values))[0]), (4,)),  # a layer that nobody reads
    ],
)
def test_what_cannot_be_stacked_is_trained_one_by_one(module: nn.Module, shape: tuple[int, ...]) -> None:
    inputs, targets = data(shape, 2, 40)
    assert layout(module, inputs) is None
    networks = [copy.deepcopy(module) for _ in range(3)]
    alone = copy.deepcopy(module)
    train(alone, inputs, targets, epochs=2, seed=0)
    train_together(networks, inputs, targets, widest=module, epochs=2, seed=0)
    assert all(same(network.state_dict(), alone.state_dict()) for network in networks)


def test_in_place_where_nobody_else_reads_it_is_stacked() -> None:
    inputs, _ = data((4,), 2, 10)
    assert layout(nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)), inputs) is not None


def test_every_way_that_a_value_can_be_read_is_that_of_autograd(way: str) -> None:
    def forward(first: nn.Module, second: nn.Module, values: Tensor) -> Tensor:
        mine = first(values + values) + second(torch.relu(values))
        return mine + torch.relu(mine) + mine  # type: ignore[no-any-return]

    inputs, targets = data((4,), 2, 40)
    alone = seeded(lambda: Reads(forward), 0)
    network = copy.deepcopy(alone)
    assert layout(alone, inputs) is not None
    train(alone, inputs, targets, epochs=2, seed=0, recipe=RECIPE)
    train_together([network], inputs, targets, widest=copy.deepcopy(network), epochs=2, seed=0, recipe=RECIPE)
    for name, value in alone.state_dict().items():
        assert torch.allclose(network.state_dict()[name], value, atol=1e-5), (way, name)


def test_torch_alone_where_numba_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "PAYS", 2**60)
    expected = trained("mlp", WIDTHS[:3], 3)
    monkeypatch.setattr(together, "PAYS", 0)
    compiled = trained("mlp", WIDTHS[:3], 3)
    for name in ("kernels", "packed"):
        monkeypatch.delitem(sys.modules, f"evonas.training.{name}")
        monkeypatch.delattr(evonas.training, name)
    monkeypatch.setitem(sys.modules, "numba", None)  # which makes importing it fail
    assert all(map(same, trained("mlp", WIDTHS[:3], 3), expected))
    assert not any(map(same, compiled, expected))


@pytest.mark.usefixtures("way")
def test_labels_beyond_the_logits_are_refused() -> None:
    inputs, targets = data((20,), 10)
    targets[3] = 10
    with pytest.raises((InvalidArgument, RuntimeError), match=r"number of logits|num_classes"):
        train_together([mlp(20, 8, 10)], inputs, targets, widest=mlp(20, 8, 10), epochs=1, seed=0)


def test_tied_and_frozen_weights_are_not_stacked() -> None:
    inputs, _ = data((4,), 4, 10)
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight  # type: ignore[union-attr]
    frozen = mlp(4, 5, 2)
    frozen.requires_grad_(False)
    assert layout(tied, inputs) is None
    assert layout(frozen, inputs) is None
    assert layout(mlp(4, 5, 2), inputs) is not None


def test_a_network_that_is_wider_or_other_is_trained_by_itself() -> None:
    inputs, targets = data((20,), 10)
    make = [lambda: mlp(20, 8, 8, 10), lambda: mlp(20, 60, 8, 10), lambda: mlp(20, 8, 10)]
    networks, alone = [[seeded(one, 0) for one in make] for _ in range(2)]
    train_together(networks, inputs, targets, widest=mlp(20, 16, 16, 10), epochs=2, seed=0)
    for network in alone:
        train(network, inputs, targets, epochs=2, seed=0)
    assert [same(a.state_dict(), b.state_dict()) for a, b in zip(alone[1:], networks[1:], strict=True)] == [True, True]
    assert torch.allclose(alone[0][0].weight, networks[0][0].weight, atol=1e-5)  # type: ignore[index]


def test_what_fits_is_the_same_with_and_without_tracing() -> None:
    inputs, _ = data((20,), 10)
    found = layout(mlp(20, 16, 16, 10), inputs)
    assert found is not None
    assert found.chain is not None
    others = [mlp(20, 8, 9, 10), mlp(20, 8, 10), mlp(20, 8, 17, 10), mlp(20, 8, 9, 10)[:4], mlp(20, 8, 9, 8, 10)]
    one = nn.Linear(16, 16)
    others += [nn.Sequential(*mlp(20, 8, 9, 10)[:3], nn.Identity(), nn.Linear(9, 10))]
    others += [nn.Sequential(nn.Linear(20, 16), one, nn.ReLU(), one, nn.Linear(16, 10))]
    fits = [found.fits(network) for network in others]
    assert fits == [True, False, False, False, False, False, False]
    traced = dataclasses.replace(found, chain=None)
    assert fits == [traced.fits(network) for network in others]


def test_it_says_how_far_it_is() -> None:
    inputs, targets = data((20,), 10, 32)
    seen: list[tuple[int, int]] = []
    networks = [mlp(20, 4, 10) for _ in range(18)] + [mlp(20, 4, 4, 10)]
    recipe = Recipe(batch=16)
    train_together(
        networks,
        inputs,
        targets,
        widest=mlp(20, 4, 10),
        epochs=2,
        seed=0,
        recipe=recipe,
        told=lambda done, total: seen.append((done, total)),
    )
    assert [total for _, total in seen] == [4 * 19] * 12
    assert [done for done, _ in seen] == [16, 32, 48, 64, 66, 68, 70, 72, 73, 74, 75, 76]


def test_only_what_is_not_kept_is_trained(tmp_path: Path) -> None:
    inputs, targets = data((20,), 10)
    store = WeightStore()
    store.keep_in(tmp_path)
    store.save("b", mlp(20, 5, 10).state_dict())
    kept = store.load("b")
    assert kept is not None
    before = copy.deepcopy(kept)
    wanted = {name: lambda: seeded(lambda: mlp(20, 5, 10), 0) for name in "abc"}
    train_kept(store, wanted, inputs, targets, widest=lambda: mlp(20, 5, 10), epochs=1, seed=0, recipe=RECIPE)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "b", "c"]
    first, second, third = (store.load(name) for name in "abc")
    assert first is not None
    assert second is not None
    assert third is not None
    assert same(second, before)
    assert same(first, third)
    assert not same(first, second)


def test_a_problem_prepares_the_networks_that_its_genomes_need() -> None:
    prepared, direct = digits(epochs=1), digits(epochs=1)
    rng = np.random.default_rng(0)
    genomes = rng.integers(0, prepared.space.n_choices, (12, len(prepared.space)))
    steps: list[int] = []
    prepared.prepare(genomes, lambda *progress: steps.append(progress[1]))
    assert len(set(steps)) == 1
    steps.clear()
    scores = prepared.evaluate(genomes)
    prepared.prepare(genomes, lambda *progress: steps.append(progress[1]))
    assert not steps  # everything was there
    for genome, found in zip(genomes[::-1], scores[::-1], strict=True):
        assert direct.evaluate(genome[None]) == [found]
