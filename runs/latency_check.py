"""Does a latency table predict what a network takes on this machine?

    python runs/latency_check.py [--problem mnist5k] [--configurations 60] [--batch 16] [--out runs/figures]

Profiles the layers of a problem's network, predicts the latency of random channel configurations from the table, then
measures these networks themselves in interleaved rounds, float32 on one thread. Prints Kendall's tau between predicted
and measured medians, and saves the figure with the quartiles of each measurement. Weights are hardly trained: they do
not matter to the time. Counts of channels are drawn evenly from the smallest to the largest of the problem's space.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
import torch
from scipy.stats import kendalltau

from evonas.costs import load_table
from evonas.plan import PlanSpace
from evonas.problem.network import NetworkProblem
from evonas.problems import PROBLEMS, load
from evonas.profile import profile
from evonas.space import Gene
from evonas.timing import Timing, interleaved, timed_module

OPTIONS = {"digits": {"epochs": 0}, "mnist5k": {"epochs": 1, "multipliers": "0.25,1"}}
FIGURES = Path(__file__).parent / "figures"


def every_count(problem: NetworkProblem) -> PlanSpace:
    """The network of `problem` with a gene of all legal channel counts for each chain, and no formats."""
    network, (lowest, highest) = problem.plan_space.network, problem.plan_space.extreme_channels
    genes = []
    for chain in network.chains:
        counts = range(lowest[chain.name], highest[chain.name] + 1)
        legal = [count / chain.channels for count in counts if chain.scaled(count / chain.channels) == count]
        genes.append(Gene(chain.name, tuple(legal)))
    return PlanSpace(network, genes)


def measure(problem: NetworkProblem, genomes: np.ndarray, space: PlanSpace, batch: int, rounds: int) -> list[Timing]:
    """The networks of `genomes` themselves, in seconds a call."""
    samples = problem.validation.inputs[torch.arange(batch) % len(problem.validation)]
    networks = [problem.trained(dict(space.plan(genome).channels)) for genome in genomes]
    calls = [timed_module(network, samples) for network in networks]
    return interleaved(calls, rounds=rounds, rng=np.random.default_rng(1))


def draw(predicted: np.ndarray, timings: list[Timing], title: str, path: Path) -> None:
    """Predicted against measured, with quartiles."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    measured = np.array([timing.median for timing in timings]) * 1e6
    below = measured - np.array([timing.q1 for timing in timings]) * 1e6
    above = np.array([timing.q3 for timing in timings]) * 1e6 - measured
    figure, axes = plt.subplots(figsize=(5, 4.4), layout="constrained")
    axes.errorbar(predicted, measured, (below, above), fmt="o", markersize=4, linewidth=1, color="#33658a")
    ends = [min(predicted.min(), measured.min()), max(predicted.max(), measured.max())]
    axes.plot(ends, ends, color="0.6", linewidth=1, zorder=0)
    axes.set(xlabel="predicted from the table (µs a sample)", ylabel="measured (µs a sample)", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", default="mnist5k" if "mnist5k" in PROBLEMS else "digits")
    parser.add_argument("--configurations", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--points", type=int, default=6)
    parser.add_argument("--out", type=Path, default=FIGURES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    problem = load(arguments.problem, OPTIONS.get(arguments.problem, {}))
    assert isinstance(problem, NetworkProblem)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.json"
        count = profile(problem, path, batch=arguments.batch, rounds=arguments.rounds, points=arguments.points)
        table = load_table(str(path))
    print(f"{count} points of {len(table.grids)} layer shapes profiled on {table.machine}")

    space = every_count(problem)
    genomes = space.space.sample(arguments.configurations, np.random.default_rng(0))
    predicted = table.seconds(space.plans(genomes)) * 1e6
    timings = measure(problem, genomes, space, arguments.batch, arguments.rounds)
    timings = [Timing(*(seconds / arguments.batch for seconds in timing)) for timing in timings]
    measured = np.array([timing.median for timing in timings]) * 1e6
    tau = kendalltau(predicted, measured).statistic
    error = float(np.median(np.abs(predicted / measured - 1)))
    spread = float(np.median([(timing.q3 - timing.q1) / timing.median for timing in timings]))
    what = f"{arguments.problem}, {arguments.configurations} random channel configurations"
    print(f"{what}, batch {arguments.batch}, 1 thread, {arguments.rounds} rounds")
    print(f"measured {measured.min():.2f} to {measured.max():.2f} µs a sample; its quartiles are {spread:.1%} apart")
    print(f"Kendall tau {tau:.3f}; the median error of the prediction is {error:.1%}")
    target = arguments.out / f"{arguments.problem}_latency_check.png"
    draw(predicted, timings, f"Kendall tau {tau:.3f}", target)
    print(target)


if __name__ == "__main__":
    main()
