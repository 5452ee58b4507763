"""Any module: stateless evaluation, exact models, trained once, reported over seeds, and from the command line."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.helpers import run_here
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import evonas
from evonas.problem.model import ModelProblem
from problem.networks import Small, splits, trained

SPACE = {"widths": (4, 8), "multipliers": (0.5, 1.0, 2.0)}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return trained()


@pytest.fixture(scope="module")
def problem(model: nn.Module) -> ModelProblem:
    return ModelProblem(model, **splits(), space=SPACE, name="small")


def best(problem: ModelProblem) -> np.ndarray:
    """The genome with the widest formats and the original channels."""
    labels = {g.name: "x1" if g.name.startswith("chain") else g.labels[-1] for g in problem.space.genes}
    return problem.space.encode(labels)


def test_layers_and_chains_are_genes_together(problem: ModelProblem) -> None:
    names = [gene.name for gene in problem.space.genes]
    assert names == [f"{layer}.{slot}" for layer in ("stem", "conv", "head") for slot in ("data_in", "weight")] + [
        "chain0"
    ]
    assert {(frozen.layer, frozen.side) for frozen in problem.frozen} == {("stem", "in"), ("head", "out")}


def test_the_wide_original_scores_what_the_model_scores(problem: ModelProblem, model: nn.Module) -> None:
    inputs, targets = splits()["validation"]
    with torch.no_grad():
        accuracy = float((model(inputs).argmax(1) == targets).float().mean())
    (scores,) = problem.evaluate(best(problem)[None])
    assert scores["accuracy"] == pytest.approx(accuracy, abs=0.05)
    assert accuracy > 0.8


def test_a_model_is_exactly_what_was_evaluated(problem: ModelProblem) -> None:
    for genome in problem.space.sample(6, np.random.default_rng(1)):
        inputs = problem.validation.inputs
        assert torch.equal(problem.model(genome)(inputs), problem.logits(genome, inputs))


def test_evaluation_depends_on_nothing_but_the_genome(model: nn.Module) -> None:
    before = copy.deepcopy(model.state_dict())
    genomes = ModelProblem(model, **splits(), space=SPACE).space.sample(8, np.random.default_rng(0))
    forwards = ModelProblem(model, **splits(), space=SPACE).evaluate(genomes)
    backwards = ModelProblem(model, **splits(), space=SPACE).evaluate(genomes[::-1])
    assert forwards == backwards[::-1]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_costs_are_those_of_the_module_that_is_built(problem: ModelProblem) -> None:
    names = [objective.name for objective in problem.exact]
    for genome in problem.space.sample(6, np.random.default_rng(2)):
        count = sum(parameter.numel() for parameter in problem.model(genome).parameters())
        assert problem.exact_values(genome[None])[0][names.index("parameters")] == count


@pytest.mark.parametrize("kind", ["loader", "dataset", "list", "generator"])
def test_data_in_any_form_is_the_same_data(model: nn.Module, kind: str) -> None:
    given = {}
    for name, (inputs, targets) in splits().items():
        dataset = TensorDataset(inputs, targets)
        given[name] = {
            "loader": DataLoader(dataset, batch_size=7),
            "dataset": dataset,
            "list": [(inputs[:50], targets[:50]), (inputs[50:], targets[50:])],
            "generator": (pair for pair in zip(inputs, targets, strict=True)),
        }[kind]
    problem = ModelProblem(model, **given, space=SPACE)
    assert torch.equal(problem.validation.inputs, splits()["validation"][0])
    assert torch.equal(problem.test_split.targets, splits()["test"][1])


@pytest.mark.parametrize("weights", ["finetune", "scratch", "supernet"])
def test_trained_once_and_kept_under_the_run(model: nn.Module, tmp_path: Path, weights: str) -> None:
    space = {"widths": (8,), "multipliers": (0.5, 1.0)}

    def make() -> ModelProblem:
        made = ModelProblem(model, **splits(), space=space, weights=weights, epochs=2)
        made.keep_in(tmp_path)
        return made

    genomes = make().space.sample(4, np.random.default_rng(0))
    first = make().evaluate(genomes)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "weights").iterdir()}
    assert len(files) == (1 if weights == "supernet" else 2)
    assert make().evaluate(genomes) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "weights").iterdir()} == files


def test_seeds_report_mean_and_spread(model: nn.Module) -> None:
    def make(seeds: int) -> ModelProblem:
        return ModelProblem(model, **splits(), space=SPACE, weights="scratch", epochs=1, seeds=seeds)

    three = make(3)
    genome = best(three)
    assert {"accuracy_spread", "loss_spread"} <= {objective.name for objective in three.measured}
    (scores,) = three.evaluate(genome[None])
    alone = [three.evaluate(genome[None])[0], make(1).evaluate(genome[None])[0]]
    assert alone[0] == scores
    assert scores["loss_spread"] > 0
    assert scores["loss"] != alone[1]["loss"]


def test_batch_norms_are_recalibrated_after_inheriting(problem: ModelProblem, model: nn.Module) -> None:
    small = problem.trained({"chain0": 4})
    statistics = small.get_submodule("bn").running_mean
    kept = model.get_submodule("bn").running_mean
    assert statistics is not None
    assert kept is not None
    assert len(statistics) == 4
    assert not torch.isin(statistics, kept).any()


def test_search_and_space_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    tests = Path(__file__).parents[1]
    file.write_text(
        f"import sys\nsys.path.insert(0, {str(tests)!r})\n"
        "from evonas import ModelProblem\nfrom problem.networks import splits, trained\n"
        "problem = ModelProblem(trained(), **splits(), space={'widths': (4, 8)})\n"
    )
    code, out, _ = run_here("space", f"{file}:problem", capsys=capsys)
    assert code == 0
    assert "stem out, conv both, head in, bn both" in out
    assert "it is an output of the model" in out
    arguments = ("search", f"{file}:problem", "--budget", "6", "--no-figures", "--out", str(tmp_path / "run"))
    code, out, err = run_here(*arguments, capsys=capsys)
    assert code == 0, err
    assert "6 evaluations" in out
    result = evonas.load_result(tmp_path / "run")
    network = result.model(0)
    inputs, targets = splits()["validation"]
    accuracy = float((network(inputs).argmax(1) == targets).float().mean())
    assert accuracy == pytest.approx(result.front["accuracy"].iloc[0], abs=1e-6)


def test_it_searches_in_python(model: nn.Module) -> None:
    problem = ModelProblem(model, **splits(), space={"widths": (), "multipliers": (0.5, 1.0), "round_to": 4})
    front = evonas.search(problem, sampler="grid", budget=10).front
    assert set(front["parameters"]) <= {float(problem.exact_values(np.array([[i]]))[0][3]) for i in range(2)}


def test_a_model_in_double_precision_parts_is_never_modified(problem: ModelProblem) -> None:
    assert isinstance(problem.original, Small)
    assert not problem.original.training
