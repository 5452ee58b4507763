"""What a problem quantizes, and how: kinds of layers, outputs, folding and calibration, in Python and in run files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cli.helpers import run_here
from torch import Tensor, nn

import evonas
from evonas.errors import EvonasError
from evonas.problem.genes import Rule
from evonas.problem.model import ModelProblem
from evonas.problems import load
from evonas.training import seeded
from problem.networks import splits, trained


class Attentive(nn.Module):
    """A convolution with batch norm, a residual, attention over the rows, 1 x 6 x 6 to 3 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.qkv, self.head = nn.Linear(24, 24), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).transpose(1, 2).flatten(2)
        q, k, v = self.qkv(x + torch.tanh(x)).chunk(3, dim=2)
        logits: Tensor = self.head(nn.functional.scaled_dot_product_attention(q, k, v).mean(1))
        return logits


ALL = {"types": ("linear", "conv", "matmul", "add"), "tensors": ("data_in", "weight", "data_out")}
SPACE = {"widths": (4, 8), "multipliers": (1.0,)}


def attentive(**options: object) -> ModelProblem:
    model = seeded(Attentive, 0)
    with torch.no_grad():
        for _ in range(3):
            model(splits()["train"][0])  # statistics of the batch norm
    return ModelProblem(model.eval(), **splits(), name="attentive", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain() -> ModelProblem:
    return attentive(space=SPACE)


def names(problem: evonas.Problem) -> list[str]:
    return [gene.name for gene in problem.space.genes]


def exact(problem: evonas.Problem, name: str) -> float:
    """A cost of the genome of the widest formats."""
    column = [objective.name for objective in problem.exact].index(name)
    return float(problem.exact_values(problem.space.corners())[-1, column])


def test_nothing_is_searched_that_nobody_asked_for(plain: ModelProblem) -> None:
    assert names(plain) == [f"{layer}.{slot}" for layer in ("stem", "qkv", "head") for slot in ("data_in", "weight")]
    assert "scores" not in plain.describe(plain.space.corners()[0])
    assert set(plain.details(plain.space.corners()[0])[0]) >= {"data_in", "weight", "bias"}


def test_a_space_can_ask_for_all_there_is() -> None:
    problem = attentive(space=SPACE | ALL, fold=True, calibration="auto")
    slots = {"stem": "data_in weight data_out", "add": "data_in data_out", "qkv": "data_in weight data_out"}
    slots |= dict.fromkeys(("scores", "mix"), "data_in data_in2 data_out") | {"head": "data_in weight data_out"}
    assert names(problem) == [f"{layer}.{slot}" for layer, given in slots.items() for slot in given.split()]
    genomes = problem.space.sample(3, np.random.default_rng(0))
    scores = problem.evaluate(genomes)
    for genome, score in zip(genomes, scores, strict=True):
        module, (inputs, targets) = problem.model(genome), splits()["validation"]
        with torch.no_grad():
            logits = module(inputs)
        assert torch.equal(logits, problem.logits(genome, inputs))
        assert score["accuracy"] == pytest.approx(float((logits.argmax(1) == targets).double().mean()))
        assert not [one for one in module.modules() if isinstance(one, nn.BatchNorm2d)]
    rows = problem.details(genomes[0])
    assert [row["layer"] for row in rows] == list(slots)
    assert rows[1]["bound by"] == "fused"
    assert rows[3]["data_in2"].startswith("fixed")
    assert rows[0]["data_in2"] == "-"
    assert all(set(row) == set(rows[0]) for row in rows)


def test_rules_ask_by_type_name_and_tensor(plain: ModelProblem) -> None:
    two = ("fixed4", "fixed8")
    assert names(plain.with_rules([Rule(two, types=("add", "matmul"))])) == [
        "add.data_in",
        *(f"{product}.{slot}" for product in ("scores", "mix") for slot in ("data_in", "data_in2")),
    ]
    assert names(plain.with_rules([Rule(two, ("scores",), ("matmul",), ("data_in2",))])) == ["scores.data_in2"]
    assert names(plain.with_rules([Rule(two, types=("matmul",), share="type")])) == ["matmul"]
    assert names(plain.with_rules([Rule(two, ("stem", "qkv"), tensors=("data_out",))])) == [
        "stem.data_out",
        "qkv.data_out",
    ]
    with pytest.raises(EvonasError, match="`types` of a rule has `embedding`, but the network has no such layer"):
        plain.with_rules([Rule(two, types=("linear", "embedding"))])
    with pytest.raises(EvonasError, match="layer `add` is of type `add`, which the rule leaves out; add it to `types`"):
        plain.with_rules([Rule(two, ("add",))])
    with pytest.raises(EvonasError, match=r"format `int4c` has its channels along axis 0, which `mix\.data_out`"):
        plain.with_rules([Rule(("int4c", "int8"), ("mix",), ("matmul",), ("data_out",))])


def test_tensors_that_are_one_activation_can_share_a_gene() -> None:
    """Queries, keys and values read what the first sum returns; what the second adds to it has its format as well."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.out, self.head = nn.Linear(6, 4), nn.Linear(4, 4), nn.Linear(24, 3)
            self.q, self.k, self.v = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.stem(x.flatten(1, 2)))
            y = nn.functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
            logits: Tensor = self.head((x + self.out(y)).flatten(1))
            return logits

    problem = ModelProblem(seeded(Block, 0).eval(), **splits(), space=SPACE)
    tensors = ("data_in", "data_out")
    rule = Rule(("fixed4", "fixed8"), types=("linear", "add"), tensors=tensors, share="activation")
    changed = problem.with_rules([rule])
    names = [gene.name for gene in changed.space.genes]
    assert names == [
        "stem.data_in",
        "stem.data_out",  # read through the ReLU by q, k, v and the sum, and so the format of what `out` returns
        "q.data_out",
        "k.data_out",
        "v.data_out",
        "out.data_in",
        "add.data_out",  # read by `head`
        "head.data_out",
    ]
    genome = np.zeros(len(names), dtype=np.int64)
    genome[1] = 1
    wide = {
        f"{part.layer.name}.{slot}"
        for part in changed.plan_space.plan(genome).layers
        for slot, fmt in part.formats.items()
        if fmt.spec == "fixed8"
    }
    assert wide == {"stem.data_out", "q.data_in", "k.data_in", "v.data_in", "add.data_in", "out.data_out"}


def test_problems_of_one_model_do_not_share_networks(plain: ModelProblem) -> None:
    genome = plain.space.corners()[0]
    before = plain.evaluate(genome[None])
    asked = plain.with_rules([Rule(("fixed2", "fixed4"), types=("matmul", "add"))])
    folded = plain.with_quantization(fold=True, calibration="max")
    assert folded.evaluate(genome[None]) != before
    assert asked.evaluate(asked.space.corners()[:1]) != before
    assert plain.evaluate(genome[None]) == before


def test_folding_moves_a_batch_norm_into_a_bias(plain: ModelProblem) -> None:
    folded = plain.with_quantization(fold=True)
    assert exact(plain, "parameters") - exact(folded, "parameters") == 4  # weight and bias of 4 for a bias of 4
    assert exact(plain, "flops") - exact(folded, "flops") == 2 * 4 * 36
    assert exact(plain, "size") - exact(folded, "size") == 8 * 32 - 4 * 16
    wide = Rule(("float32", "fixed16"), share="all")
    genome = np.array([0])
    inputs = splits()["validation"][0]
    both = [problem.with_rules([wide]).logits(genome, inputs) for problem in (plain, folded)]
    torch.testing.assert_close(both[0], both[1])
    with pytest.raises(EvonasError, match="no batch norm can be folded"):
        load("digits", {"fold": True})


def test_every_seed_is_quantized_alike() -> None:
    problem = ModelProblem(trained(), **splits(), space=SPACE, weights="finetune", epochs=1, seeds=2)
    changed = problem.with_quantization(calibration="max", fold=True)
    (sibling,) = changed._siblings
    assert sibling.calibration == "max"
    assert sibling.plan_space is changed.plan_space
    assert problem._siblings[0].calibration == "mse"


def test_options_of_a_problem_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    problem = load("digits", {"epochs": 0, "calibration": "max"})
    assert problem.options["calibration"] == "max"
    genome = problem.space.sample(1, np.random.default_rng(0))
    other = load("digits", {"epochs": 0})
    assert "calibration" not in other.options
    assert problem.evaluate(genome) != other.evaluate(genome)
    with pytest.raises(EvonasError, match="unknown calibration method `best`"):
        load("digits", {"calibration": "best"})
    with pytest.raises(EvonasError, match="`nasbench201-cifar10` is no network, so that `fold`"):
        load("nasbench201-cifar10", {"fold": True})
    code, _, error = run_here("space", "digits", "--set", "calibration=auto", "--set", "fold=false", capsys=capsys)
    assert code == 0, error
    for wrong, message in (
        ("calibration=best", "unknown calibration method `best`"),
        ("calibation=auto", "calibration"),
    ):
        code, _, error = run_here("space", "digits", "--set", wrong, capsys=capsys)
        assert (code, error.count("\n")) == (2, 1)
        assert message in error


FILE = """
import torch
from problem.networks import splits
from problem.test_quantization import attentive

problem = attentive(space={"widths": [4, 8], "multipliers": [1.0]})
"""

RUN = """
problem = "mine.py:problem"
sampler = "random"
budget = 4
objectives = ["accuracy", "size", "bops"]
out = "run"
figures = false

[options]
calibration = "auto"
fold = true

[[genes]]
types = ["matmul", "add"]
formats = ["fixed4", "fixed6"]
share = "type"

[[genes]]
types = ["linear", "conv"]
tensors = ["weight", "data_out"]
formats = ["int3", "int8"]
"""


@pytest.mark.slow
def test_a_run_file_asks_for_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FILE)
    Path("run.toml").write_text(RUN)
    code, out, error = run_here("search", "--config", "run.toml", capsys=capsys)
    assert code == 0, error
    code, out, error = run_here("show", "run", "--pick", "0", capsys=capsys)
    assert code == 0, error
    for word in ("data_in2", "data_out", "scores", "mix", "add", "fused"):
        assert word in out
    code, out, error = run_here("resume", "run", "--budget", "6", capsys=capsys)
    assert code == 0, error
