"""Does a latency table predict what a network takes on this machine?

    python runs/latency_check.py [--problem mnist5k] [--configurations 60] [--counts space] [--out runs/figures]

Profiles the layers of a problem's network, predicts the latency of random channel configurations from the table, then
measures these networks themselves in interleaved rounds, float32 on one thread. Prints Kendall's tau between predicted
and measured medians, and saves the figure with the quartiles of each measurement. Beside it, tau between the medians of
the odd and of the even rounds: where they do not agree with each other, no prediction can agree with them. The same
for lower quartiles, from which the spells of a busy machine are absent. Weights are hardly trained: they do not matter
to the time. Configurations are drawn from the problem's space; `--counts every` draws from all counts between its
smallest and its largest, most of which the table has to interpolate.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from scipy.stats import kendalltau

from evonas.costs import load_table
from evonas.plan import PlanSpace
from evonas.problem.network import NetworkProblem
from evonas.problems import PROBLEMS, load
from evonas.profile import profile
from evonas.progress import counting
from evonas.space import Gene
from evonas.timing import rounds_of, timed_module

OPTIONS = {"digits": {"epochs": 0}, "mnist5k": {"epochs": 1}}
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


def lowered(table: dict[str, Any]) -> dict[str, Any]:
    """The content of a table file with lower quartiles for medians: other work on the machine hardly moves them."""
    for layer in table["layers"]:
        for point in layer["points"]:
            point["median"] = point["q1"]
    return table


def configurations(space: PlanSpace, n: int) -> np.ndarray:
    """`n` random genomes of `space`, no two of one channel configuration; all there are if they are fewer."""
    drawn = space.space.sample(50 * n, np.random.default_rng(0))
    counts = np.array([*space.channels(drawn).values()])
    first = np.sort(np.unique(counts, axis=1, return_index=True)[1])
    return drawn[first[:n]]


def measure(
    problem: NetworkProblem, genomes: np.ndarray, space: PlanSpace, batch: int, rounds: int, clock: str
) -> np.ndarray:
    """The networks of `genomes` themselves, in microseconds a sample, shape (rounds, n)."""
    samples = problem.validation.inputs[torch.arange(batch) % len(problem.validation)]
    networks = [problem.trained(dict(space.plan(genome).channels)) for genome in genomes]
    calls = [timed_module(network, samples) for network in networks]
    with counting("measuring") as told:
        rng = np.random.default_rng(1)
        return 1e6 / batch * rounds_of(calls, rounds=rounds, rng=rng, clock=clock, told=told)


def draw(predicted: np.ndarray, quartiles: np.ndarray, title: str, path: Path) -> None:
    """Predicted (n,) against measured, with quartiles (3, n)."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    low, measured, high = quartiles
    figure, axes = plt.subplots(figsize=(5, 4.4), layout="constrained")
    axes.errorbar(
        predicted, measured, (measured - low, high - measured), fmt="o", markersize=4, linewidth=1, color="#33658a"
    )
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
    parser.add_argument("--rounds", type=int, default=30, help="of the profile")
    parser.add_argument("--checks", type=int, default=150, help="rounds of the measurement of whole networks")
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: only what the thread itself runs"
    )
    parser.add_argument("--counts", choices=("space", "every"), default="space")
    parser.add_argument("--out", type=Path, default=FIGURES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    problem = load(arguments.problem, OPTIONS.get(arguments.problem, {}))
    assert isinstance(problem, NetworkProblem)
    with tempfile.TemporaryDirectory() as folder, counting("profiling") as told:
        path = Path(folder) / "table.json"
        count = profile(
            problem,
            path,
            batch=arguments.batch,
            rounds=arguments.rounds,
            points=arguments.points,
            clock=arguments.clock,
            told=told,
        )
        table = load_table(str(path))
        path.write_text(json.dumps(lowered(json.loads(path.read_text()))))
        quick = load_table(str(path))
    print(f"{count} points of {len(table.grids)} layer shapes profiled on {table.machine}")

    space = problem.plan_space if arguments.counts == "space" else every_count(problem)
    genomes = configurations(space, arguments.configurations)
    predicted = table.seconds(space.plans(genomes)) * 1e6
    rounds = measure(problem, genomes, space, arguments.batch, arguments.checks, arguments.clock)
    quartiles = np.quantile(rounds, (0.25, 0.5, 0.75), axis=0)
    measured = quartiles[1]
    odd, even = (np.quantile(rounds[start::2], (0.25, 0.5), axis=0) for start in (0, 1))
    tau, again = (float(kendalltau(*pair).statistic) for pair in ((predicted, measured), (odd[1], even[1])))
    low, low_again = (
        float(kendalltau(*pair).statistic)
        for pair in ((quick.seconds(space.plans(genomes)), quartiles[0]), (odd[0], even[0]))
    )
    error = float(np.median(np.abs(predicted / measured - 1)))
    spread = float(np.median((quartiles[2] - quartiles[0]) / measured))
    what = f"{len(genomes)} random channel configurations, counts: {arguments.counts}"
    print(f"{arguments.problem}, {what}; {arguments.clock} time")
    print(f"batch {arguments.batch}, 1 thread, {arguments.rounds} rounds of layers, {arguments.checks} of networks")
    print(f"measured {measured.min():.2f} to {measured.max():.2f} µs a sample; its quartiles are {spread:.1%} apart")
    print(f"Kendall tau {tau:.3f}; the median error of the prediction is {error:.1%}")
    print(f"odd against even rounds of the measurement itself: Kendall tau {again:.3f}")
    print(f"lower quartiles instead of medians: {low:.3f}, and {low_again:.3f} for odd against even rounds")
    target = arguments.out / f"{arguments.problem}_latency_check.png"
    draw(predicted, quartiles, f"Kendall tau {tau:.3f}", target)
    print(target)


if __name__ == "__main__":
    main()
