"""Run files of ours and of the labs, and rules that say where formats go."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.helpers import run_here
from torch import nn

import evonas
import evonas.formats
from evonas.chains import Extent
from evonas.config_labs import read_run_file
from evonas.errors import EvonasError
from evonas.plan import Layer, Network, PlanSpace
from evonas.problem.genes import Rule, with_rules
from evonas.problems import load
from evonas.problems.digits import digits
from evonas.space import Gene

CONFIGS = Path(__file__).parents[1] / "runs" / "configs"
LAB = (CONFIGS / "lab.toml").read_text()
OWN = (CONFIGS / "digits.toml").read_text()


def blocks() -> PlanSpace:
    """Two blocks of two convolutions, a linear layer, and one gene that is replaced."""
    names = ("blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2")
    layers = [Layer(name, "conv", Extent(64), Extent(64), taps=9, positions=4, input_positions=4) for name in names]
    network = Network((*layers, Layer("head", "linear", Extent(64), Extent(32))))
    return PlanSpace(network, [Gene("head.weight", (evonas.formats.parse("fixed8"),))])


def genes(*rules: Rule) -> dict[str, list[str]]:
    """Gene name to its choices."""
    return {gene.name: list(gene.labels) for gene in with_rules(blocks(), rules).space.genes}


TWO = ("fixed4", "fixed8")


def test_genes_by_name_pattern_type_and_together() -> None:
    assert list(genes(Rule(TWO, ("head",)))) == ["head.data_in", "head.weight"]
    assert list(genes(Rule(TWO, ("blocks.*.conv1",), tensors=("weight",)))) == [
        "blocks.0.conv1.weight",
        "blocks.1.conv1.weight",
    ]
    assert list(genes(Rule(TWO, types=("linear",), tensors=("bias",)))) == ["head.bias"]
    assert list(genes(Rule(TWO, share="layer")))[:2] == ["blocks.0.conv1", "blocks.0.conv2"]
    assert genes(Rule(TWO, share="type")) == {"conv": list(TWO), "linear": list(TWO)}
    assert genes(Rule(TWO, share="all", name="everything")) == {"everything": list(TWO)}


def test_the_first_rule_that_fits_counts_and_the_rest_is_float32() -> None:
    space = with_rules(
        blocks(),
        [Rule(("int8",), ("head",), tensors=("weight",)), Rule(TWO, tensors=("weight",), types=("linear", "conv"))],
    )
    assert "head.weight" not in [gene.name for gene in space.space.genes]
    plan = space.plan(np.zeros(4, dtype=np.int64))
    assert [layer.weight.spec for layer in plan.layers] == ["fixed4"] * 4 + ["int8"]
    assert {layer.data_in.spec for layer in plan.layers} == {"float32"}


def test_a_tie_gives_several_tensors_one_format() -> None:
    space = with_rules(
        blocks(), [Rule(TWO, ("blocks.?.conv2", "head"), tensors=("data_in",), share="all", name="added")]
    )
    plan = space.plan(np.array([1]))
    assert [layer.data_in.spec for layer in plan.layers] == ["float32", "fixed8", "float32", "fixed8", "fixed8"]


def test_layers_left_in_float_count_32_bits() -> None:
    problem = digits(epochs=0).with_rules([Rule(("fixed2", "fixed4"), ("fc3",), tensors=("weight",))], channels=False)
    values = dict(zip([o.name for o in problem.exact], problem.exact_values(np.array([[0]]))[0], strict=True))
    weights = (64 * 48, 48 * 32, 32 * 10)
    bits = (weights[0] + weights[1]) * 32 + weights[2] * 2
    assert values["size"] == bits + (48 + 32 + 10) * 32
    assert values["average_bitwidth"] == bits / sum(weights)


def test_a_problem_with_rules_is_rebuilt_from_its_options() -> None:
    made = digits(epochs=0).with_rules([Rule(TWO, ("fc1", "fc2"), share="layer")])
    again = load("digits", json.loads(json.dumps(dict(made.options))))
    assert again.space.fingerprint == made.space.fingerprint
    assert [gene.name for gene in again.space.genes] == ["fc1", "fc2", "hidden1", "hidden2"]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([Rule(TWO, ("blocks.*.conv3",))], r"unknown layer `blocks\.\*\.conv3`; valid names"),
        ([Rule(("fixed4",))], "nothing to search"),
        (
            [Rule(("fixed4", "bfp6b64"), ("head",), tensors=("bias",))],
            r"blocks of 64 elements, but `head\.bias` has only 32",
        ),
        ([Rule(TWO, ("head",), share="all"), Rule(TWO, share="all")], "formats"),
    ],
)
def test_rules_that_cannot_be(rules: list[Rule], message: str) -> None:
    with pytest.raises(EvonasError, match=message):
        with_rules(blocks(), rules)


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def test_a_lab_file_says_the_same_as_its_sections(tmp_path: Path) -> None:
    file = read_run_file(written(tmp_path, LAB))
    assert (file.problem, file.budget, file.sampler, file.timeout) == ("digits", 40, "nsga2", 20000)
    assert [(metric.name, metric.scale) for metric in file.metrics] == [("accuracy", 1.0), ("average_bitwidth", 0.2)]
    rules = {(rule.layers, rule.tensors): rule.formats for rule in file.rules}
    assert rules[("fc1",), ("data_in",)] == ("fixed4.2", "fixed8.4")  # NA is half the width
    assert rules[("fc2",), ("data_in",)] == ("fixed4.2", "fixed4.4", "fixed8.2", "fixed8.4")
    assert rules[("fc1",), ("weight",)] == ("fixed2.1", "fixed4.2", "fixed8.4")
    assert rules[("*",), ("weight",)] == ("float32",)
    assert any("basic_evaluation" in note for note in file.notes)


@pytest.mark.parametrize(("total", "scale", "noted"), [("max", 0.2, True), ("max", -0.2, False), ("min", 0.2, False)])
def test_a_weight_that_goes_against_the_search_is_noted(total: str, scale: float, noted: bool, tmp_path: Path) -> None:
    text = LAB.replace("sum_scaled_metrics = false", f'sum_scaled_metrics = true\ndirection = "{total}imize"')
    text = text.replace("average_bitwidth.scale = 0.2", f"average_bitwidth.scale = {scale}")
    file = read_run_file(written(tmp_path, text))
    assert any("average_bitwidth.scale` = " in note for note in file.notes) == noted
    assert any("accuracy.scale` = 1 goes against" in note for note in file.notes) == (total == "min")


def test_by_type_seeds_are_those_of_layers(tmp_path: Path) -> None:
    file = read_run_file(
        written(
            tmp_path,
            LAB.replace('by = "name"', 'by = "type"')
            .replace("seed.fc1.", "seed.linear.")
            .replace("seed.fc2.", "seed.conv2d."),
        )
    )
    assert [rule.types for rule in file.rules[:6:3]] == [("linear",), ("conv",)]


SUMS = """
model = "{model}"
[search.search_space.setup]
by = "type"
[search.search_space.seed.default.config]
name = ["NA"]
[search.search_space.seed.linear.config]
name = ["fixed"]
data_in_width = [4, 8]
weight_width = [8]
bias_width = [8]
data_out_width = [6, 8]
data_out_frac_width = ["NA"]
[search.search_space.seed.matmul.config]
name = ["fixed"]
data_in_width = [4, 8]
weight_width = [3]
weight_frac_width = [2]
[search.search_space.seed.add.config]
name = ["fixed"]
data_in_width = [5]
"""
ATTENDING = """
import torch
from torch import nn
import evonas

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = self.a(x)
        y += (y @ y.transpose(1, 2)).softmax(-1) @ y
        return self.b(y).mean(1)

data = (torch.randn(20, 3, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 4)
torch.manual_seed(0)
problem = evonas.ModelProblem(Net().eval(), train=data, validation=data, test=data, space={"widths": [4, 8]})
"""


def test_types_of_a_lab_file_that_are_no_layers_with_weights(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(ATTENDING)
    file = read_run_file(written(tmp_path, SUMS.format(model="digits")))
    problem = load(f"{tmp_path / 'net.py'}:problem", {"genes": [rule.table() for rule in file.rules]})
    genes = {gene.name: gene.labels for gene in problem.space.genes if "." in gene.name}
    assert genes == {
        "a.data_in": ("fixed4.2", "fixed8.4"),
        "a.data_out": ("fixed6.3", "fixed8.4"),
        "matmul.data_in": ("fixed4.2", "fixed8.4"),
        "matmul_1.data_in": ("fixed4.2", "fixed8.4"),
        "b.data_in": ("fixed4.2", "fixed8.4"),
        "b.data_out": ("fixed6.3", "fixed8.4"),
    }
    plan = {layer.layer.name: layer.formats for layer in problem.plan_space.plan(problem.space.corners()[0]).layers}
    assert plan["matmul"]["data_in2"].spec == "fixed3.2"
    assert plan["add"]["data_in"].spec == "fixed5.2"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed.matmul", "seed.mul", r"`search\.search_space\.seed\.mul`; valid names: matmul"),
        (
            "[search.search_space.seed.add.config]",
            "bias_width = [8]\n[search.search_space.seed.add.config]",
            "bias_width",
        ),
        ("data_in_width = [5]", "", r"seed\.add\.config\.data_in_width` is missing"),
    ],
)
def test_what_such_a_type_cannot_say_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(EvonasError, match=message):
        read_run_file(written(tmp_path, SUMS.format(model="digits").replace(old, new)))


def test_a_layer_that_a_file_names_and_the_network_has_not_is_said_with_its_path(tmp_path: Path) -> None:
    file = read_run_file(written(tmp_path, LAB.replace("seed.fc2", "seed.fc9")))
    with pytest.raises(EvonasError, match=r"unknown layer in `search\.search_space\.seed\.fc9` `fc9`; valid names: fc"):
        digits(epochs=0).with_rules(file.rules)
    own = read_run_file(written(tmp_path, OWN.replace('layers = ["fc1"]', 'layers = ["fc9"]')))
    with pytest.raises(EvonasError, match=r"unknown layer in `genes\[0\]\.layers` `fc9`"):
        digits(epochs=0).with_rules(own.rules)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("random", "random"), ("tpe", "tpe"), ("nsgaiii", "nsga3"), ("qmc", "optuna:QMCSampler"), ("brute-force", "grid")],
)
def test_samplers_of_the_labs(name: str, expected: str, tmp_path: Path) -> None:
    assert read_run_file(written(tmp_path, LAB.replace("nsgaii", name))).sampler == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "n_trials = 40",
            "n_trails = 40",
            r"`search\.strategy\.setup\.n_trails`; valid names: search\.strategy\.setup\.n_trials",
        ),
        ("n_trials = 40", "n_trials = '40'", r"`search\.strategy\.setup\.n_trials` must be a whole number, got '40'"),
        ("n_jobs = 1", "n_jobs = 4", r"`search\.strategy\.setup\.n_jobs` must be 1, got 4"),
        ("timeout = 20000", "timeout = -1", r"`search\.strategy\.setup\.timeout` must be a positive number"),
        ('"nsgaii"', '"cma"', r"`search\.strategy\.setup\.sampler` `cma`; valid names"),
        ("accuracy.scale = 1.0", "speed.scale = 1.0", r"`search\.strategy\.metrics\.speed`; valid names"),
        (
            "accuracy.scale = 1.0",
            "accuracy.scale = 'x'",
            r"`search\.strategy\.metrics\.accuracy\.scale` must be a whole number or a number",
        ),
        ('"maximize"', '"minimize"', r"`search\.strategy\.metrics\.accuracy\.direction` must be maximize"),
        ('by = "name"', 'by = "size"', r"`search\.search_space\.setup\.by` must be name or type"),
        ("bias_width = [8]", "bias_widht = [8]", r"`search\.search_space\.seed\.fc1\.config\.bias_widht`; valid names"),
        (
            "data_in_width = [4, 8]",
            "data_in_width = [4, 'wide']",
            r"fc1\.config\.data_in_width` must hold whole numbers, got 'wide'",
        ),
        ("data_in_width = [4, 8]", "", r"fc1\.config\.data_in_width` is missing"),
        ('name = ["integer"]', 'name = ["minifloat_ieee"]', r"fc1\.config\.name` must be one of \['integer'\]"),
        ("eval_mode = true", "eval_mode = false", r"`search\.strategy\.eval_mode` must be true"),
        ("eval_mode = true", "colour = 1", r"`search\.strategy\.colour`; valid names"),
        ("[search.search_space]", "[search.spaces]\n[search.search_space]", r"`search\.spaces`; valid names"),
    ],
)
def test_lab_files_that_cannot_be(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in LAB
    with pytest.raises(EvonasError, match=message):
        read_run_file(written(tmp_path, LAB.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("budget = 200", "bugdet = 200", "`bugdet`; valid names: budget"),
        ("budget = 200", "budget = 2.5", "`budget` must be a whole number, got 2.5"),
        ("budget = 200", "budget = true", "`budget` must be a whole number, got True"),
        ('"accuracy", "size"', "1", "`objectives` must be a list of texts"),
        ('size = "4KiB"', "size = [1]", r"`max\.size` must be a whole number or a number or text, got \[1\]"),
        ('share = "all"', 'share = "some"', r"`genes\[1\]\.share` `some`; valid names"),
        ('share = "all"', "shares = 1", r"`genes\[1\]\.shares`; valid names"),
        ('"fixed4", "fixed8", "mxfp', '"fixde4", "mxfp', r"`genes\[0\]\.formats`: format `fixde4` does not parse"),
        ('tensors = ["weight"]', 'tensors = ["weights"]', r"`genes\[1\]\.tensors` `weights`; valid names: weight"),
        ('layers = ["fc1"]', "layers = 1", r"`genes\[0\]\.layers` must be a list of texts, got 1"),
        ('problem = "digits"', 'problem = "digits', "is not TOML"),
    ],
)
def test_run_files_that_cannot_be(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in OWN
    with pytest.raises(EvonasError, match=message):
        read_run_file(written(tmp_path, OWN.replace(old, new, 1)))


def test_a_search_from_a_lab_file_ends_with_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, LAB.replace("sum_scaled_metrics = false", "sum_scaled_metrics = true"))
    arguments = ("search", "--config", str(path), "--budget", "6", "--set", "epochs=1", "--no-figures")
    code, out, error = run_here(*arguments, capsys=capsys)
    assert code == 0, error
    assert "average_bitwidth.scale` = 0.2 goes against the search, for which lower average_bitwidth is better" in out
    trials = evonas.load_result(tmp_path / "results" / "digits-nsga2-s0").archive.evaluations
    best = max(trials, key=lambda trial: trial.values["accuracy"] + 0.2 * trial.values["average_bitwidth"])
    assert out.split("Best trial(s):\n")[1].splitlines()[1].split()[0] == str(best.number)
    assert "6 evaluations; front of" in out
    header, row = out.split("Best trial(s):\n")[1].splitlines()
    assert header.split() == ["number", "software_metrics", "hardware_metrics", "scaled_metrics"]
    assert re.search(r"\{'accuracy': [\d.]+\}  \{'average_bitwidth': [\d.]+\}  \{'accuracy': .*'average_bitwidth'", row)
    code, out, error = run_here("show", "results/digits-nsga2-s0", capsys=capsys)
    assert code == 0, error


def test_the_command_line_goes_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, OWN)
    arguments = ("search", "digits-ptq", "--config", str(path), "--sampler", "random", "--budget", "3", "--seed", "7")
    code, out, error = run_here(*arguments, "--set", "epochs=1", "--json", "--no-figures", capsys=capsys)
    assert code == 0, error
    content = json.loads(out)
    assert (content["problem"]["name"], content["sampler"], content["budget"], content["seed"]) == (
        "digits-ptq",
        "random",
        3,
        7,
    )
    assert [objective["name"] for objective in content["objectives"]] == ["accuracy", "size", "energy"]


def test_one_sample_through_a_block_larger_than_it() -> None:
    """8 inputs of a layer are less than a block of 32; one sample alone gives what it gives among others."""
    problem = digits(epochs=0, formats="mxfp4e2m1,mxint8")
    genome = problem.space.corners()[0]
    network = problem.model(genome)
    assert isinstance(network, nn.Module)
    inputs = problem.validation.inputs[:40]
    together = network(inputs)
    alone = torch.cat([network(inputs[i : i + 1]) for i in range(40)])
    assert torch.allclose(together, alone, atol=1e-6)
