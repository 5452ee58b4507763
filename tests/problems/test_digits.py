"""The handwritten digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts.problems import Make, ProblemContract, some_genomes
from torchmetrics.classification import MulticlassAccuracy
from toys import untouched_global_state

from evonas.errors import InvalidArgument, UnknownName
from evonas.formats import Fixed
from evonas.problems import load
from evonas.problems.digits import Digits, digits, digits_ptq, splits

EPOCHS = 3  # enough for scores to differ


class TestDigits(ProblemContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Make:
        return lambda: digits(epochs=EPOCHS)


class TestDigitsPtq(ProblemContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Make:
        return lambda: digits_ptq(epochs=EPOCHS)


class TestDigitsWithTheBinaryPointInTheMiddle(ProblemContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Make:
        return lambda: digits(epochs=EPOCHS, frac="half", train_seed=1, latency="roofline:cortex-m7")


@pytest.fixture(scope="module")
def problem() -> Digits:
    return digits(epochs=EPOCHS)


# the space


def test_digits_has_8_genes_and_some_4_million_genomes(problem: Digits) -> None:
    assert len(problem.space) == 8
    assert problem.space.size == 8**6 * 4**2 == 4_194_304
    assert [tuple(choice.width for choice in gene.choices) for gene in problem.space.genes[:6]] == [
        (2, 3, 4, 5, 6, 7, 8, 16)
    ] * 6
    assert [gene.choices for gene in problem.space.genes[6:]] == [(0.25, 0.5, 1.0, 2.0)] * 2


def test_digits_ptq_has_6_genes_and_46656_genomes() -> None:
    space = digits_ptq().space
    assert len(space) == 6
    assert space.size == 6**6 == 46_656
    assert {tuple(choice.width for choice in gene.choices) for gene in space.genes} == {(2, 3, 4, 5, 6, 8)}


def test_the_formats_of_a_layer_are_one_group(problem: Digits) -> None:
    groups = [[problem.space.genes[i].name for i in genes] for genes in problem.space.groups]
    assert groups == [
        ["fc1.data_in", "fc1.weight"],
        ["fc2.data_in", "fc2.weight"],
        ["fc3.data_in", "fc3.weight"],
        ["hidden1"],
        ["hidden2"],
    ]


def test_layer_shapes_always_agree(problem: Digits) -> None:
    """(64, 48x), (48x, 32y), (32y, 10), for every pair of multipliers."""
    for x, first in [("x0.25", 12), ("x0.5", 24), ("x1", 48), ("x2", 96)]:
        for y, second in [("x0.25", 8), ("x0.5", 16), ("x1", 32), ("x2", 64)]:
            choices = {gene.name: gene.labels[0] for gene in problem.space.genes} | {"hidden1": x, "hidden2": y}
            genome = problem.space.encode(choices)
            expected = [(64, first), (first, second), (second, 10)]
            planned = problem.plan_space.plan(genome)
            assert [(layer.inputs, layer.outputs) for layer in planned.layers] == expected
            model = problem.trained(dict(planned.channels))
            assert [tuple(model.get_submodule(name).weight.T.shape) for name in ("fc1", "fc2", "fc3")] == expected


# the data


def test_splits_are_disjoint_and_hold_every_digit_once() -> None:
    from sklearn.datasets import load_digits

    images = load_digits().data / 16.0
    parts = [part.inputs.numpy() for part in splits()]
    assert [len(part) for part in parts] == [719, 719, 359]
    together = np.concatenate(parts)
    assert len(np.unique(images, axis=0)) == len(images) == 1797  # so that an equal image is the same image
    assert np.array_equal(_sorted(together), _sorted(images.astype(np.float32)))


def test_splits_are_stratified() -> None:
    shares = np.array([np.bincount(part.targets.numpy(), minlength=10) / len(part) for part in splits()])
    assert (np.abs(shares - shares.mean(axis=0)) < 2 / 359).all()


def test_splits_are_fixed() -> None:
    """The same on every machine: these sums were computed once and must not change."""
    splits.cache_clear()
    with untouched_global_state():
        first = [(float(part.inputs.double().sum()), part.targets[:12].tolist()) for part in splits()]
    assert first == FIXED_SPLITS


FIXED_SPLITS = [
    (14035.5625, [1, 7, 1, 9, 2, 3, 2, 7, 6, 4, 9, 9]),
    (14080.9375, [1, 3, 4, 0, 6, 7, 3, 0, 3, 8, 6, 3]),
    (6990.875, [5, 5, 6, 7, 5, 6, 1, 7, 6, 0, 4, 8]),
]


# the model


def test_the_model_of_a_genome_scores_what_was_recorded_bit_for_bit(problem: Digits) -> None:
    for genome in some_genomes(problem, 6):
        (scores,) = problem.evaluate(genome[None])
        model = problem.model(genome)
        with torch.no_grad():
            logits = model(problem.validation.inputs)
        assert torch.equal(logits, problem.logits(genome, problem.validation.inputs))
        metric = MulticlassAccuracy(10, average="micro")
        assert metric(logits, problem.validation.targets) == torch.tensor(scores["accuracy"])  # in float32


def test_the_weights_of_a_model_lie_on_the_grid_of_their_format(problem: Digits) -> None:
    genome = problem.space.corners()[0]
    model = problem.model(genome)
    for row in problem.details(genome):
        weight = model.get_submodule(row["layer"]).weight
        assert len(weight.unique()) <= 4  # two bits


def test_a_model_may_be_changed_without_changing_later_scores() -> None:
    problem = digits_ptq(epochs=EPOCHS)
    genome = problem.space.corners()[1]
    before = problem.evaluate(genome[None])
    model = problem.model(genome)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert problem.evaluate(genome[None]) == before
    assert all(parameter.abs().sum() > 0 for parameter in problem.model(genome).parameters())


def test_evaluating_never_touches_the_trained_network() -> None:
    problem = digits_ptq(epochs=EPOCHS)
    genomes = some_genomes(problem, 10)
    problem.evaluate(genomes[:1])
    graph = problem.network(genomes[0]).graph
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    problem.evaluate(genomes)
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())


def test_half_puts_the_binary_point_in_the_middle() -> None:
    problem = digits(epochs=0, frac="half")
    assert problem.space.genes[0].choices[:3] == (Fixed(2, 1), Fixed(3, 1), Fixed(4, 2))


def test_kept_weights_are_the_trained_ones(tmp_path: Path) -> None:
    trained, reader = digits_ptq(epochs=EPOCHS), digits_ptq(epochs=EPOCHS)
    trained.keep_in(tmp_path)
    genome = trained.space.corners()[1]
    scores = trained.evaluate(genome[None])
    reader.keep_in(tmp_path)
    with torch.no_grad():  # a changed file shows that it is read, and that nothing is trained again
        (file,) = tmp_path.glob("weights/*.pt")
        assert reader.evaluate(genome[None]) == scores
        torch.save({name: torch.zeros_like(value) for name, value in torch.load(file).items()}, file)
    zeroed = digits_ptq(epochs=EPOCHS)
    zeroed.keep_in(tmp_path)
    assert zeroed.evaluate(genome[None]) != scores


def _flipped(content: bytes) -> bytes:
    """One bit of one weight is wrong: torch reads such a file without complaint."""
    middle = content.index(b"/data/0") + 1000
    return content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda _: b"not weights", lambda content: content[:-99], _flipped])
def test_a_damaged_weights_file_is_named_and_trained_again(
    damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = digits_ptq(epochs=1)
    first.keep_in(tmp_path)
    scores = first.evaluate(first.space.corners())
    (file,) = tmp_path.glob("weights/*.pt")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    again = digits_ptq(epochs=1)
    again.keep_in(tmp_path)
    capsys.readouterr()
    assert again.evaluate(again.space.corners()) == scores
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"weights file {file} is damaged" in said
    reader = digits_ptq(epochs=1)
    reader.keep_in(tmp_path)
    assert reader.evaluate(reader.space.corners()) == scores
    assert capsys.readouterr().err == "", "the damaged file was replaced"


def test_the_whole_training_reaches_the_accuracy_that_is_promised() -> None:
    problem = digits_ptq()
    model = problem.trained({"hidden1": 48, "hidden2": 32})
    with torch.no_grad():
        right = model(problem.test_split.inputs).argmax(1) == problem.test_split.targets
    assert 0.94 <= float(right.float().mean()) <= 0.98


# by name


@pytest.mark.parametrize("name", ["digits", "digits-ptq"])
def test_shipped_problems_are_made_by_name_and_rebuilt_from_their_options(name: str) -> None:
    problem = load(name, {"epochs": 0, "train_seed": 5})
    again = load(name, problem.options)
    assert again.name == name
    assert again.options == problem.options
    assert again.space.fingerprint == problem.space.fingerprint
    genome = problem.space.corners()[1]
    assert again.evaluate(genome[None]) == problem.evaluate(genome[None])


def test_an_unknown_problem_lists_the_nearest_first() -> None:
    with pytest.raises(UnknownName, match="valid names: digits-ptq, digits"):
        load("digits-ptp")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"frac": "third"}, "calibrated or half"), ({"epochs": -1}, "0 or more"), ({"colour": "red"}, "do not fit")],
)
def test_options_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        load("digits", options)


def test_a_device_that_cannot_run_the_widest_plan_is_refused(tmp_path: Path) -> None:
    device = tmp_path / "narrow.toml"
    device.write_text("memory_bandwidth = 1e9\nlayer_overhead = 0\n[mac_per_second]\n8 = 1e9\n")
    with pytest.raises(InvalidArgument, match="no peak for 16-bit operands"):
        digits(latency=str(device))


def test_costs_of_100000_genomes_build_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = digits()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a module was built")

    monkeypatch.setattr(torch.nn.Module, "__init__", refuse)
    values = problem.exact_values(problem.space.sample(100_000, np.random.default_rng(0)))
    assert values.shape == (100_000, len(problem.exact))


def _sorted(images: np.ndarray) -> np.ndarray:
    return images[np.lexsort(images.T[::-1])]


def test_what_neighbours_share_changes_no_bit() -> None:
    problem = load("digits-ptq")
    genomes = np.repeat(problem.space.sample(4, np.random.default_rng(0)), 5, axis=0)
    genomes[:, -2:] = problem.space.sample(20, np.random.default_rng(1))[:, -2:]  # many share their first layers
    assert problem.evaluate(genomes) == [problem.evaluate(genome[None])[0] for genome in genomes]


def test_sensitivities_fall_with_width_and_are_known_for_formats_only() -> None:
    known = load("digits", {"epochs": 5}).sensitivities()
    assert known is not None
    assert 0 < known.cost < 10
    assert np.isfinite(known.values[:6]).all()
    assert np.isnan(known.values[6:]).all()  # channels would need another network
    assert (known.values[:6, 0] > known.values[:6, -1]).all()
