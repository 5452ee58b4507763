"""Compare samplers on problems whose fronts are known, and print how many evaluations each needs.

    python runs/sampler_study.py                       # the table: four problems, every sampler, 20 seeds
    python runs/sampler_study.py --only digits-ptq     # one problem
    python runs/sampler_study.py --gp                  # the rows of Optuna's Gaussian process: about half a second a
                                                       # suggestion, so it gets 45 or 60 evaluations, 20 seeds at
                                                       # most, and nothing on 40 genes
    python runs/sampler_study.py --same-start          # every sampler begins with the same 8 genomes
    python runs/sampler_study.py --ablations           # what each part of sa-nsga2 is worth
    python runs/sampler_study.py --seconds             # of a suggestion when 500 evaluations are known

Runs on all cores and continues where it was interrupted. NAS-Bench-201 and HPOLib come with
`pip install 'evonas[bench]'`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evonas.evaluate import Task
from evonas.problem import TableProblem
from evonas.problems import load
from evonas.space import FloatArray, IntArray
from evonas.study import ProblemResult, compare
from evonas.study.scoring import evaluations_to, hypervolume_curve, padded, reference
from evonas.study.statistics import bootstrap_interval, compare_pairs, verdict


@dataclass(frozen=True)
class Setup:
    """One problem of the table.

    Args:
        objectives: None: its own.
        target: share of hypervolume that is aimed at; None: what the best quick sampler has at the end of its budget.
        quick: evaluations of the samplers that suggest at once.
        slow: evaluations of those that think.
        ablations: evaluations when parts of sa-nsga2 are left out.
        sensitive: whether the problem offers sensitivities.
        gp: evaluations of Optuna's Gaussian process.
    """

    objectives: list[str] | None
    target: float | None
    quick: int
    slow: int
    ablations: int
    sensitive: bool
    gp: int


PROBLEMS = {
    "digits-ptq": Setup(["accuracy", "size", "bops"], 0.95, 400, 200, 40, True, 45),
    "nasbench201-cifar10": Setup(None, 0.90, 200, 80, 40, False, 60),
    "hpolib-slice": Setup(None, 0.90, 200, 60, 60, False, 45),
    "synthetic-40": Setup(None, None, 1000, 100, 40, True, 0),
}
GP_SEEDS = 20  # of Optuna's Gaussian process, at most
BLIND_BUDGET = 100  # evaluations of sa-nsga2 without the sensitivities that a problem has, at most
ABLATED = ("digits-ptq", "nasbench201-cifar10")
SHOWN = (20, 50, 100, 200, 400, 1000)

Samplers = dict[str, tuple[str, dict[str, Any]]]
QUICK: Samplers = {name: (name, {}) for name in ("random", "nsga2", "optuna:NSGAIISampler")}
BLIND = {"sensitivities": False}
ABLATIONS: dict[str, dict[str, Any]] = {
    "sa-nsga2": BLIND,
    "no exactness": {**BLIND, "exactness": False},
    "trees": {**BLIND, "model": "trees"},
    "predicted mean": {**BLIND, "acquisition": "mean"},
    "random start": {**BLIND, "design": "random"},
    "no exploration": {**BLIND, "explore": 0},
    "batches of 4": {**BLIND, "batch": 4},
}


def others(setup: Setup) -> Samplers:
    """The samplers of others that think before they suggest, and the greedy path."""
    found: Samplers = {"tpe": ("tpe", {})}
    return {**found, "greedy": ("greedy", {})} if setup.sensitive else found


def ablations(setup: Setup) -> Samplers:
    """sa-nsga2 and what is left of it without each of its parts."""
    found: Samplers = {f"{label}": ("sa-nsga2", {"settings": options}) for label, options in ABLATIONS.items()}
    return {"with sensitivities": ("sa-nsga2", {}), **found} if setup.sensitive else found


def pymoo_curves(task: Task, result: ProblemResult, seeds: int, budget: int, population: int) -> FloatArray:
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
        algorithm = NSGA2(pop_size=population, eliminate_duplicates=True, **operators)
        algorithm.setup(memory, termination=("n_gen", 10 * budget), seed=seed)
        while len(memory.seen) < budget and algorithm.has_next():
            algorithm.next()
        values = np.array(list(memory.seen.values()))[:budget]
        curves.append(padded(hypervolume_curve(values, result.reference), budget))
    return np.array(curves)


def median_interval(times: FloatArray) -> tuple[float, float]:
    """The 95 % bootstrap interval of the median of times (n,), of which some may be infinite."""
    large = 1e9
    low, high = (end if end < large / 100 else float("inf") for end in bootstrap_interval(np.minimum(times, large)))
    return low, high


def rows(label: str, target: float, curves: Mapping[str, FloatArray], seconds: Mapping[str, float]) -> pd.DataFrame:
    """One row a sampler: evaluations to the target with misses counted, and hypervolume on the way."""
    found = []
    for sampler, shares in curves.items():
        times = np.array([evaluations_to(curve, target) for curve in shares])
        row: dict[str, object] = {"problem": label, "sampler": sampler, "seeds": len(shares)}
        row["target"] = target
        row["evaluations"] = float(np.median(times))  # infinite: half of the runs or more missed
        row["low"], row["high"] = median_interval(times)
        row["misses"] = int(np.isinf(times).sum())
        for count in SHOWN:
            row[f"at {count}"] = float(np.median(shares[:, count - 1])) if count <= shares.shape[1] else np.nan
        row["s/suggestion"] = seconds.get(sampler, np.nan)
        found.append(row)
    return pd.DataFrame(found)


def print_verdicts(problem: str, curves: Mapping[str, FloatArray], count: int) -> None:
    """A sentence for each pair of the samplers that had `count` evaluations, on the seeds that all of them have."""
    reached = {name: c[:, count - 1] for name, c in curves.items() if c.shape[1] >= count}
    seeds = min((len(values) for values in reached.values()), default=0)
    for pair in compare_pairs({name: values[:seeds] for name, values in reached.items()}):
        print(verdict(pair, f"hypervolume on {problem} after {count} evaluations"), flush=True)


def joined(results: list[ProblemResult]) -> list[ProblemResult]:
    """The same results against one front: the enumerated one, or the union of the runs of all of them."""
    if results[0].reference.origin != "enumerated":
        values = [run.values for result in results for runs in result.runs.values() for run in runs]
        union = reference(np.concatenate(values), "union of all runs")
        return [ProblemResult(r.label, r.objectives, union, r.budget, r.runs) for r in results]
    return results


def study(problem: str, arguments: argparse.Namespace) -> pd.DataFrame:
    """All samplers on one problem; the quick ones get more evaluations, measured against the same front."""
    setup = PROBLEMS[problem]
    start = 8 if arguments.same_start else 0
    kind = "-ablations" if arguments.ablations else "-same-start" if start else ""
    out = arguments.out / f"{problem}{kind}"
    run = partial(
        compare, problem, seeds=arguments.seeds, start=start, out=out, objectives=setup.objectives,
        workers=arguments.workers,
    )  # fmt: skip
    if arguments.ablations:
        studies = [run(ablations(setup), budget=setup.ablations)]
    else:
        ours = arguments.ours or setup.slow
        studies = [
            run(QUICK, budget=setup.quick),
            run(others(setup), budget=setup.slow),
            run(["sa-nsga2"], budget=ours),
        ]
        if setup.sensitive:
            blind: Samplers = {"sa-nsga2, no sensitivities": ("sa-nsga2", {"settings": BLIND})}
            studies.append(run(blind, budget=min(ours, BLIND_BUDGET)))
        if arguments.gp and setup.gp:
            studies.append(run(["optuna:GPSampler"], budget=setup.gp, seeds=min(arguments.seeds, GP_SEEDS)))
    results = joined([found.problems[0] for found in studies])
    curves = {name: result.curves(name) for result in results for name in result.runs}
    if not arguments.ablations and not start:
        table = out / "tables" / f"{problem}.npz"
        task = Task.make(TableProblem.read(table) if table.is_file() else load(problem), setup.objectives)
        for population in (40, 100):
            name = f"pymoo's NSGA-II, population {population}"
            curves[name] = pymoo_curves(task, results[0], arguments.seeds, setup.quick, population)
    for count in sorted({min(c.shape[1] for c in curves.values()), setup.quick // 2, setup.quick}):
        print_verdicts(problem, curves, count)
    ends = [float(np.median(c[:, -1])) for c in curves.values() if c.shape[1] >= setup.quick]
    target = setup.target or max(ends, default=0.9)
    summary = pd.concat([result.summary() for result in results]).set_index("sampler")
    return rows(problem, target, curves, summary["s/suggestion"].to_dict())


def seconds(problem: str, arguments: argparse.Namespace) -> pd.DataFrame:
    """Seconds of a suggestion of sa-nsga2, in the median from 500 known evaluations on."""
    objectives, out = PROBLEMS[problem].objectives, arguments.out / f"{problem}-seconds"
    found = compare(problem, ["sa-nsga2"], seeds=1, budget=550, objectives=objectives, out=out, workers=1)
    return found.summary()[["problem", "sampler", "s/suggestion", "s/suggestion from 500"]]


def main() -> None:
    """Parse the command line, run, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PROBLEMS, action="append", help="a problem; may be given several times")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--ours", type=int, help="evaluations of sa-nsga2, if fewer than the table has will do")
    parser.add_argument("--workers", type=int, default=None, help="processes; all cores by default")
    parser.add_argument("--out", type=Path, default=Path("results/sampler-study"))
    parser.add_argument("--csv", type=Path, help="where to write the table as well")
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--same-start", action="store_true")
    parser.add_argument("--gp", action="store_true")
    parser.add_argument("--seconds", action="store_true")
    arguments = parser.parse_args()
    chosen = arguments.only or (ABLATED if arguments.ablations else PROBLEMS)
    table = pd.concat([(seconds if arguments.seconds else study)(problem, arguments) for problem in chosen])
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if arguments.csv:
        table.to_csv(arguments.csv, index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
