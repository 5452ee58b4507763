"""What racing saves, and what it costs: NSGA-II with and without it, from the same seeds.

    python runs/racing_study.py [--seeds 10] [--budget 200] [--jets 60000]

On `digits-ptq` (719 validation samples) and on the jets' 16-32-64-5 network with 60,000 made-up jets in the schema of
the real ones (9,600 to validate); objectives are accuracy, size and BOPs. Prints the share of sample evaluations that
racing saved, the hypervolume of both fronts, how many stopped candidates a full validation would have put on the front
of the run all the same, and CPU seconds on one thread. The searches part ways, because NSGA-II is told the accuracy on
the samples seen where it was told that on all: fronts are compared by hypervolume, not point by point. Half a minute.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import evonas
from evonas.engine.fused import load as load_kernels
from evonas.evaluate import Evaluation
from evonas.problem.network import NetworkProblem
from evonas.problems import load
from evonas.problems.jets import CLASSES, FEATURES
from evonas.quantize import single_thread
from evonas.result import Result

OBJECTIVES = ["accuracy", "size", "bops"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--jets", type=int, default=60_000)
    given = parser.parse_args()
    load_kernels()  # the engine would by itself, in the middle of one of the searches
    with single_thread(), tempfile.TemporaryDirectory() as folder:
        study(load("digits-ptq"), given.seeds, given.budget)
        path = Path(folder) / "jets.csv"
        made_up(given.jets).to_csv(path, index=False)
        study(load("jsc-lab", {"data": str(path), "multipliers": "1", "epochs": 2}), given.seeds, given.budget)


def made_up(jets: int) -> pd.DataFrame:
    """Jets of five overlapping classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(jets) % len(CLASSES)
    values = 0.7 * rng.normal(size=(len(CLASSES), len(FEATURES)))[labels] + rng.normal(size=(jets, len(FEATURES)))
    frame = pd.DataFrame(values, columns=list(FEATURES))
    frame["class"] = [CLASSES[label] for label in labels]
    return frame


def study(problem: object, seeds: int, budget: int) -> None:
    """Search with every seed both ways, and print."""
    assert isinstance(problem, NetworkProblem)
    problem.prepare(problem.space.corners())  # training is the same for both, and so is what is calibrated
    options = {"budget": budget, "objectives": OBJECTIVES, "figures": False, "progress": "none"}
    for racing in (False, True):
        evonas.search(problem, seed=seeds, racing=racing, **options)  # what is done once in a process is done now
    rows = []
    for seed in range(seeds):
        row: dict[str, float] = {}
        for racing in (False, True):
            start = time.process_time()
            result = evonas.search(problem, seed=seed, racing=racing, **options)
            way = "raced" if racing else "plain"
            row |= {f"{way} seconds": time.process_time() - start, f"{way} volume": result.archive.hypervolume()}
        rows.append(row | raced(result, problem))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    mean = {name: statistics.fmean(values) for name, values in columns.items()}
    apart = [row["raced volume"] - row["plain volume"] for row in rows]
    error = statistics.stdev(apart) / len(apart) ** 0.5
    stopped, wrong = sum(columns["stopped"]), sum(columns["wrong"])
    print(f"{problem.name}: {seeds} seeds, {budget} evaluations, {len(problem.validation):,} validation samples")
    print(f"  stopped {mean['stopped']:.1f} candidates; saved {mean['saved']:.1%} of the sample evaluations")
    print(f"  stopped, but on the front by a full validation: {wrong:.0f} of {stopped:.0f}")
    print(f"  hypervolume {mean['plain volume']:.4f} without racing, {mean['raced volume']:.4f} with it")
    print(f"  difference {statistics.fmean(apart):+.4f}, standard error {error:.4f}")
    print(f"  {mean['plain seconds']:.2f} CPU s without, {mean['raced seconds']:.2f} with racing", flush=True)


def raced(result: Result, problem: NetworkProblem) -> dict[str, float]:
    """How many were stopped, what that saved, and how many of them were stopped wrongly."""
    evaluations, total = result.archive.evaluations, len(problem.validation)
    stopped = [e for e in evaluations if e.status == "stopped"]
    used = sum(e.values.get("samples", total) for e in evaluations)
    genomes = np.array([e.genome for e in stopped]).reshape(len(stopped), -1)
    scores = problem.evaluate(genomes) if stopped else []
    wrong = sum(
        not behind(result, evaluation, score["accuracy"]) for evaluation, score in zip(stopped, scores, strict=True)
    )
    return {"stopped": len(stopped), "saved": 1 - used / total / len(evaluations), "wrong": wrong}


def behind(result: Result, evaluation: Evaluation, accuracy: float) -> bool:
    """Whether the front dominates `evaluation` with this accuracy."""
    values = result.task.minimised([Evaluation(0, evaluation.genome, {**evaluation.values, "accuracy": accuracy})])
    front = result.task.minimised(result.archive.front)
    return bool(((front <= values).all(axis=1) & (front < values).any(axis=1)).any())


if __name__ == "__main__":
    main()
