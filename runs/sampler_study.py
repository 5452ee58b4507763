"""Compare samplers on problems whose fronts are known, and print how many evaluations each needs.

    python runs/sampler_study.py                       # the table: four problems, every sampler, 20 seeds
    python runs/sampler_study.py --only digits-ptq     # one problem
    python runs/sampler_study.py --ablations           # what each part of sa-nsga2 is worth
    python runs/sampler_study.py --same-start          # every sampler begins with the same 8 genomes
    python runs/sampler_study.py --slow                # with Optuna's Gaussian process, a second a suggestion

Runs on all cores and continues where it was interrupted. NAS-Bench-201 and HPOLib come with
`pip install 'evonas[bench]'`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evonas.evaluate import Task
from evonas.problem import TableProblem
from evonas.space import FloatArray, IntArray
from evonas.study import ProblemResult, compare
from evonas.study.scoring import evaluations_to, hypervolume_curve, padded

# problem: objectives (None: its own), evaluations of the quick samplers, and the share of hypervolume that is aimed at
PROBLEMS: dict[str, tuple[list[str] | None, int, float]] = {
    "digits-ptq": (["accuracy", "size", "bops"], 400, 0.95),
    "nasbench201-cifar10": (None, 200, 0.90),
    "hpolib-slice": (None, 200, 0.90),
    "synthetic-40": (None, 1000, 0.90),
}
SHORT = {"digits-ptq": 200, "nasbench201-cifar10": 80, "hpolib-slice": 80, "synthetic-40": 100}
SENSITIVE = ("digits-ptq", "synthetic-40")

Samplers = dict[str, tuple[str, dict[str, Any]]]
QUICK: Samplers = {name: (name, {}) for name in ("random", "nsga2", "optuna:NSGAIISampler")}
BLIND = {"sensitivities": False}
ABLATIONS: dict[str, dict[str, Any]] = {
    "sa-nsga2": {},
    "no sensitivities": BLIND,
    "no exactness": {**BLIND, "exactness": False},
    "trees": {**BLIND, "model": "trees"},
    "predicted mean": {**BLIND, "acquisition": "mean"},
    "no exploration": {**BLIND, "explore": 0},
    "batches of 4": {**BLIND, "batch": 4},
}


def model_based(problem: str, *, ablations: bool, slow: bool) -> Samplers:
    """The samplers that think before they suggest."""
    if ablations:
        return {label: ("sa-nsga2", {"settings": options}) for label, options in ABLATIONS.items()}
    found: Samplers = {"tpe": ("tpe", {}), "sa-nsga2": ("sa-nsga2", {"settings": BLIND})}
    if problem in SENSITIVE:
        found["greedy"] = ("greedy", {})
        found["sa-nsga2 with sensitivities"] = ("sa-nsga2", {})
    if slow:
        found = {"optuna:GPSampler": ("optuna:GPSampler", {})}
    return found


def pymoo_curves(task: Task, result: ProblemResult, seeds: int, budget: int) -> FloatArray:
    """pymoo's own NSGA-II as its documentation sets it up for integers; repeats are answered from memory, free."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    class Memory(PymooProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            self.seen: dict[bytes, list[float]] = {}
            top = task.space.n_choices - 1
            super().__init__(n_var=len(top), n_obj=len(task.objectives), xl=np.zeros(len(top)), xu=top, vtype=int)

        def _evaluate(self, x: Any, out: Any, *args: Any, **kwargs: Any) -> None:
            genomes: IntArray = np.asarray(x, dtype=np.int64)
            values = task.problem.true_values(genomes, task.objectives)
            for key, row in zip(task.space.keys(genomes), values.tolist(), strict=True):
                self.seen.setdefault(key, row)
            out["F"] = values

    curves = []
    for seed in range(seeds):
        memory = Memory()
        operators = {
            "sampling": IntegerRandomSampling(),
            "crossover": SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
            "mutation": PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        }
        algorithm = NSGA2(pop_size=40, eliminate_duplicates=True, **operators)
        algorithm.setup(memory, termination=("n_gen", 10 * budget), seed=seed)
        while len(memory.seen) < budget and algorithm.has_next():
            algorithm.next()
        values = np.array(list(memory.seen.values()))[:budget]
        curves.append(padded(hypervolume_curve(values, result.reference), budget))
    return np.array(curves)


def rows(result: ProblemResult, target: float, extra: Mapping[str, FloatArray]) -> list[dict[str, object]]:
    """One row a sampler: evaluations to the target with misses counted, and hypervolume on the way."""
    summary = result.summary().set_index("sampler")
    found = []
    for sampler, curves in {**{name: result.curves(name) for name in result.runs}, **extra}.items():
        times = np.array([evaluations_to(curve, target) for curve in curves])
        row: dict[str, object] = {"problem": result.label, "sampler": sampler, "seeds": len(curves)}
        row[f"to {target:.0%}"] = float(np.median(times))
        row["misses"] = int(np.isinf(times).sum())
        for count in (20, 50, 100, 200, 400, 1000):
            row[f"at {count}"] = float(np.median(curves[:, count - 1])) if count <= curves.shape[1] else np.nan
        row["s/suggestion"] = summary["s/suggestion"].get(sampler, np.nan)
        found.append(row)
    return found


def study(problem: str, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """All samplers on one problem; the quick ones get more evaluations, measured against the same front."""
    objectives, budget, target = PROBLEMS[problem]
    common: dict[str, Any] = {"objectives": objectives, "workers": arguments.workers}
    start = 8 if arguments.same_start else 0
    out = arguments.out / (f"{problem}-same-start" if start else problem)
    samplers = model_based(problem, ablations=arguments.ablations, slow=arguments.slow)
    shorter = min(SHORT[problem], 60) if arguments.slow else SHORT[problem]
    seeds = min(arguments.seeds, 5) if arguments.slow else arguments.seeds
    found = compare(problem, samplers, seeds=seeds, budget=shorter, start=start, out=out, **common)
    print("\n".join(found.verdicts()), flush=True)
    if arguments.ablations or arguments.slow:
        return rows(found.problems[0], target, {})
    quick = compare(problem, QUICK, seeds=seeds, budget=budget, start=start, out=out, **common).problems[0]
    enumerated = quick.reference.origin == "enumerated"
    against = quick if enumerated else found.problems[0]
    quick.reference = against.reference  # without an enumerated front: the union of all runs of the better samplers
    task = arguments.task(problem, objectives)
    extra = {"pymoo's NSGA-II": pymoo_curves(task, quick, seeds, budget)}
    return rows(quick, target, extra) + rows(found.problems[0], target, {})


def _task(problem: str, objectives: list[str] | None, out: Path) -> Task:
    from evonas.problems import load

    path = out / problem / "tables" / f"{problem}.npz"
    return Task.make(TableProblem.read(path) if path.is_file() else load(problem), objectives)


def main() -> None:
    """Parse the command line, run, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PROBLEMS, action="append", help="a problem; may be given several times")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=None, help="processes; all cores by default")
    parser.add_argument("--out", type=Path, default=Path("results/sampler-study"))
    parser.add_argument("--csv", type=Path, help="where to write the table as well")
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--same-start", action="store_true")
    parser.add_argument("--slow", action="store_true")
    arguments = parser.parse_args()
    arguments.task = lambda problem, objectives: _task(problem, objectives, arguments.out)
    table = pd.DataFrame([row for problem in arguments.only or PROBLEMS for row in study(problem, arguments)])
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if arguments.csv:
        table.to_csv(arguments.csv, index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
