"""Results at the edges of what a search can return, built by really evaluating genomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from evonas import FunctionProblem, Objective, costs, search
from evonas.chains import Chain, Extent
from evonas.evaluate import Task, evaluate
from evonas.formats import Fixed
from evonas.objective import Constraint
from evonas.pareto import Archive
from evonas.plan import Layer, Network, PlanSpace
from evonas.problem.base import Estimate, Problem
from evonas.result import Result
from evonas.space import FloatArray, Gene, IntArray

CHOICES = {"a": list(range(10)), "b": list(range(20)), "c": list(range(6))}
LONG = "an objective with a name of many words and $signs$ & <tags>"


def of(problem: Problem, genomes: IntArray, constraints: tuple[Constraint, ...] = ()) -> Result:
    """The result of evaluating `genomes` (n, n_genes), with test scores of the front."""
    objectives = tuple(problem.objective(name) for name in problem.default_objectives)
    task = Task(problem, objectives, constraints)
    archive = Archive(task)
    for evaluation in evaluate(task, genomes, 0):
        archive.add(evaluation)
    return Result(archive, {e.number: problem.test(np.array(e.genome)) for e in archive.front})


def _function(function: Callable[..., Mapping[str, float]], objectives: Any, **more: Any) -> FunctionProblem:
    return FunctionProblem(function, CHOICES, objectives, name="case", **more)


def _fails(**_: int) -> Mapping[str, float]:
    raise RuntimeError("nothing works")


def _some_fail(a: int, b: int, c: int) -> dict[str, float]:
    if (a + b) % 3 == 0:
        raise RuntimeError("not this one")
    return {"error": (a - 5.0) ** 2 + c}


_KIB = 8.0 * 1024
_SIZE = {
    "exact": lambda b, **_: {"size": _KIB * (1 + b)},
    "exact_objectives": {"size": Objective("size", "bit", exact=True)},
}


def nothing_evaluated() -> Result:
    return Result(Archive(Task.make(_function(_some_fail, {"error": "min"}, **_SIZE))), {})


def all_failed() -> Result:
    return search(_function(_fails, {"x": "min", "y": "max"}), budget=10, progress="none")


def all_failed_one_objective() -> Result:
    return search(_function(_fails, {"x": "min"}), budget=10, progress="none")


def some_failed() -> Result:
    return search(_function(_some_fail, {"error": "min"}, **_SIZE), sampler="random", budget=60, progress="none")


def infeasible() -> Result:
    problem = _function(_some_fail, {"error": "min"}, **_SIZE)
    limits = (Constraint(problem.objective("size"), 12 * _KIB), Constraint(problem.objective("error"), 15.0))
    return of(problem, problem.space.sample(60, np.random.default_rng(0)), limits)


def all_equal() -> Result:
    problem = _function(lambda **_: {"x": 3.0, "y": 0.0}, {"x": "min", "y": "max"})
    return search(problem, budget=12, progress="none")


def single_genome() -> Result:
    problem = FunctionProblem(lambda **_: {"x": 3.0, "y": 2.0}, {"a": ["only"]}, {"x": "min", "y": "max"}, name="case")
    return search(problem, budget=5, progress="none")


def one_objective() -> Result:
    def score(a: int, b: int, **_: int) -> dict[str, float]:
        return {"score": float("nan") if a == 0 else -((a - 5.0) ** 2) - b}

    problem = _function(score, {"score": "max"})
    return search(problem, budget=80, at_least={"score": -30}, progress="none")


def two_objectives() -> Result:
    def both(a: int, b: int, c: int) -> dict[str, float]:
        return {"error": (a - 5.0) ** 2 + b, "cost": 10 ** ((20 - b) / 5) * (1 + c)}

    return search(_function(both, {"error": "min", "cost": "min"}), budget=80, progress="none")


def six_objectives() -> Result:
    weights = np.random.default_rng(0).normal(size=(6, 10))
    objectives = (
        Objective(LONG, "fraction", maximise=True, bounds=(0.0, 1.0)),
        Objective(f"{LONG} again", "µs"),
        Objective("operations", "FLOP"),
        Objective("memory", "bit"),
        Objective("energy_of_the_device", "millijoule per inference"),
        Objective("Größe", ""),
    )

    def all_six(**choices: str) -> dict[str, float]:
        s = np.abs(weights @ np.array([int(value[-1]) - 3.0 for value in choices.values()]))
        values = (
            1 / (1 + s[0]),
            1 + 100 * s[1],
            10 ** (3 + s[2] / 5),
            8e5 * (1 + s[3]),
            1e-5 * s[4],
            s[5] - 20,
        )
        return {objective.name: float(value) for objective, value in zip(objectives, values, strict=True)}

    choices = {
        f"gene number {i} of a layer with a very long name": [f"option-{j}" for j in range(8)] for i in range(10)
    }
    problem = FunctionProblem(all_six, choices, objectives, name="a problem with a name that is too long for any title")
    return search(problem, budget=120, at_most={"memory": "1MiB"}, progress="none")


def ten_objectives() -> Result:
    weights = np.random.default_rng(1).normal(size=(10, 8))

    def ten(**choices: int) -> dict[str, float]:
        return {f"f{i}": float(v) for i, v in enumerate(np.abs(weights @ (np.array(list(choices.values())) - 3.0)))}

    choices = {f"g{i}": list(range(8)) for i in range(8)}
    problem = FunctionProblem(ten, choices, {f"f{i}": "min" for i in range(10)}, name="ten")
    return search(problem, sampler="random", budget=80, progress="none")


def not_finite() -> Result:
    def exact(b: int, **_: int) -> dict[str, float]:
        return {"gain": float("nan") if b == 2 else float("inf") if b == 3 else float(b)}

    problem = FunctionProblem(
        lambda a, **_: {"x": float(a)},
        {"a": list(range(4)), "b": list(range(5)), "c": [0]},
        {"x": "min"},
        exact=exact,
        exact_objectives={"gain": "max"},
        name="case",
    )
    return search(problem, sampler="grid", budget=20, progress="none")


def huge() -> Result:
    problem = _function(lambda a, b, c: {"x": 10.0 ** (a * 30 + b), "y": -1e-9 * b * c}, {"x": "min", "y": "min"})
    return search(problem, budget=40, progress="none")


def hostile_names() -> Result:
    problem = FunctionProblem(
        lambda **choices: {
            "a<b>&\x00\n": float(next(iter(choices.values()))),
            "$\\frac": -1.0 * next(iter(choices.values())),
        },
        {"gene\x1b[0m $x$ <&>\x07": [0, 1, 2]},
        {"a<b>&\x00\n": "min", "$\\frac": "min"},
        name="\x00<name> & $\\bad{",
    )
    return search(problem, budget=3, progress="none")


EDGES: dict[str, Callable[[], Result]] = {
    case.__name__: case
    for case in (
        nothing_evaluated, all_failed, all_failed_one_objective, some_failed, infeasible, all_equal,
        single_genome, one_objective, two_objectives, six_objectives, ten_objectives, not_finite,
        huge, hostile_names,
    )
}  # fmt: skip


class Deep(Problem):
    """Convolutions in a row with formats and a few channel multipliers; accuracy is made up from the genome.

    Args:
        depth: number of layers.
    """

    def __init__(self, depth: int) -> None:
        self.name, self.options, self.depth = f"deep-{depth}", {}, depth
        chains = tuple(Chain(f"chain{i}", 16 * 2 ** (i * 6 // depth)) for i in range(depth - 1))
        ends = [Extent.of(3), *(Extent.of(chain) for chain in chains), Extent.of(1000)]
        layers = tuple(
            Layer(
                f"backbone.stage{i // 4}.block{i % 4}.conv",
                "conv",
                ends[i],
                ends[i + 1],
                taps=9,
                positions=64,
            )
            for i in range(depth)
        )
        formats = tuple(Fixed(bits) for bits in (2, 4, 8, 16))
        genes = [
            Gene(f"{layer.name}.{s}", formats, group=layer.name) for layer in layers for s in ("data_in", "weight")
        ]
        genes += [Gene(chain.name, (0.5, 1.0), ("x0.5", "x1")) for chain in chains[:3]]
        self.plan_space = PlanSpace(Network(layers, chains), genes)
        self.space = self.plan_space.space
        self.device = costs.load_device(costs.DEFAULT_DEVICE)
        self.objectives = (
            Objective("accuracy", "fraction", maximise=True, bounds=(0.0, 1.0)),
            *costs.OBJECTIVES,
        )
        self.default_objectives = ("accuracy", "latency", "size", "flops")

    def exact_values(self, genomes: IntArray) -> FloatArray:
        plans = self.plan_space.plans(genomes)
        return np.stack([costs.cost(objective.name, plans, self.device) for objective in costs.OBJECTIVES], axis=1)

    def evaluate(self, genomes: IntArray) -> list[dict[str, float]]:
        return [{"accuracy": float(1 - np.exp(-genome.mean() - 0.1))} for genome in genomes]

    def test(self, genome: IntArray) -> dict[str, Estimate]:
        value = self.evaluate(genome[None])[0]["accuracy"]
        return {"accuracy": Estimate(value - 0.01, value - 0.03, value + 0.01)}


def deep(depth: int, n: int = 60) -> Result:
    """`n` random networks of `depth` layers."""
    problem, rng = Deep(depth), np.random.default_rng(0)
    genomes = problem.space.sample(n, rng)
    return of(problem, (genomes * rng.random((n, 1)) ** 0.5).round().astype(np.int64))
