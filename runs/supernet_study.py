"""Does a supernet rank channel configurations as training each of them does, and what does it save?

    python runs/supernet_study.py

On mnist5k, in float32: trains one supernet and evaluates 200 channel configurations as slices of it, spread evenly over
the logarithm of their parameters; 30 of them are trained from scratch as well, from each of several seeds. Prints the
CPU seconds of both, and Kendall's tau between both rankings on the validation split, beside the tau between the seeds:
no ranking can be expected to agree with a training better than another training does. Saves a picture.

Trainings from scratch take some ten minutes on one core for each seed. They are kept in a file and not repeated, but
for five, which are timed in turn with the supernet and must come out as they were.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import matplotlib
import numpy as np
from scipy.stats import kendalltau

from evonas.problem.model import ModelProblem
from evonas.problems.mnist5k import mnist5k
from evonas.progress import counting
from evonas.quantize import single_thread
from evonas.supernet import evenly
from evonas.training import WeightStore

MULTIPLIERS = "0.125,0.25,0.5,0.75,1"
T = TypeVar("T")
FIGURES = Path(__file__).parent / "figures"
TIMED = 5  # trainings from scratch that the cost is compared with


class Reference:
    """Configurations trained from scratch, each kept as a line of a file once it is done.

    Args:
        problem: trains from scratch.
        path: of the file.
    """

    def __init__(self, problem: ModelProblem, path: Path) -> None:
        self.problem, self.path = problem, path
        lines = path.read_text().splitlines() if path.exists() else []
        self.known: dict[str, dict[str, float]] = {row["key"]: row["scores"] for row in map(json.loads, lines)}

    def train(self, genome: np.ndarray, seed: int) -> dict[str, float]:
        """Accuracy and loss of `genome` (n_genes,), trained now."""
        problem = self.problem._with_seed(seed)
        problem.weights = WeightStore()  # nothing is taken from an earlier training
        (scores,) = problem.evaluate(genome[None])
        return scores

    def scores(self, genome: np.ndarray, seed: int) -> dict[str, float]:
        """Accuracy and loss of `genome` (n_genes,), trained now or before."""
        channels = sorted(self.problem.plan_space.plan(genome).channels)
        key = json.dumps([channels, seed, self.problem.epochs])
        if key not in self.known:
            self.known[key] = self.train(genome, seed)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, "scores": self.known[key]}) + "\n")
        return self.known[key]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=30, help="configurations trained from scratch")
    parser.add_argument("--sample-seed", type=int, default=0, help="which configurations are drawn")
    parser.add_argument("--slices", type=int, default=200, help="configurations evaluated as slices")
    parser.add_argument("--seeds", type=int, default=2, help="trainings from scratch of each configuration")
    parser.add_argument("--epochs", type=int, default=30, help="of training from scratch")
    parser.add_argument("--supernet-epochs", type=int, default=10, help="of training the supernet")
    parser.add_argument("--supernet-seed", type=int, default=0)
    parser.add_argument("--kept", type=Path, default=Path("results/supernet_study.jsonl"), help="trainings so far")
    parser.add_argument("--out", type=Path, default=FIGURES, help="folder of the picture")
    with single_thread():
        study(parser.parse_args())


def study(given: argparse.Namespace) -> None:
    """Run it, print, draw."""
    scratch = mnist5k(weights="scratch", epochs=given.epochs, widths="float", multipliers=MULTIPLIERS)
    sliced = mnist5k(
        weights="supernet", epochs=given.supernet_epochs, widths="float", multipliers=MULTIPLIERS
    )._with_seed(given.supernet_seed)
    genomes = spread(scratch, given.slices, given.sample_seed)
    chosen = np.linspace(0, given.slices - 1, given.sample).round().astype(int)
    reference = Reference(scratch, given.kept)
    with counting("trainings from scratch") as told:
        pairs = list(itertools.product(range(given.seeds), chosen))
        for done, (seed, row) in enumerate(pairs, 1):
            reference.scores(genomes[row], seed)
            told(done, len(pairs))

    timed = chosen[np.linspace(0, len(chosen) - 1, TIMED).round().astype(int)]
    scratch.splits(), sliced.splits()  # loading the images is nobody's cost
    before = [retrained(reference, genomes[row]) for row in timed[::2]]
    training, _ = clocked(lambda: sliced.supernet)
    evaluating, shared = clocked(lambda: sliced.evaluate(genomes))
    after = [retrained(reference, genomes[row]) for row in timed[1::2]]

    sizes = parameters(scratch, genomes)[chosen]
    alone = {
        name: np.array([[reference.scores(genomes[row], seed)[name] for row in chosen] for seed in range(given.seeds)])
        for name in ("accuracy", "loss")
    }
    parts = {name: np.array([shared[row][name] for row in chosen]) for name in ("accuracy", "loss")}
    print("\nparameters  accuracy from scratch, each seed  as a slice")
    for row, size in enumerate(sizes):
        each = "  ".join(f"{value:.4f}" for value in alone["accuracy"][:, row])
        print(f"{size:10.0f}  {each:>32}  {parts['accuracy'][row]:10.4f}")
    print(
        f"\n{given.slices} configurations as slices: {training + evaluating:.1f} CPU s ({training:.1f} training the "
        f"supernet once for {given.supernet_epochs} epochs, {evaluating:.1f} cutting, recalibrating and evaluating)"
    )
    print(f"{TIMED} configurations from scratch: {sum(before + after):.1f} CPU s ({given.epochs} epochs)")
    for name in ("accuracy", "loss"):
        print_taus(name, alone[name], parts[name])
    print(
        f"for comparison, of the parameters with the accuracy: {interval(np.stack([alone['accuracy'].mean(0), sizes]))}"
    )
    path = given.out / "mnist5k_supernet_study.png"
    draw(sizes, alone["accuracy"], parts["accuracy"], path)
    print(path)


def print_taus(name: str, alone: np.ndarray, parts: np.ndarray) -> None:
    """Kendall's tau of scores `alone` (seeds, n) and as slices, `parts` (n,)."""
    seeds = range(len(alone))
    each = [interval(np.stack([alone[seed], parts])) for seed in seeds]
    print(f"Kendall tau of the {name} with training from scratch, seed by seed: {', '.join(each)}")
    if len(alone) > 1:
        print(f"  with the mean over the {len(alone)} seeds: {interval(np.stack([alone.mean(0), parts]))}")
        between = [interval(alone[list(pair)]) for pair in itertools.combinations(seeds, 2)]
        print(f"  between two seeds: {', '.join(between)}")


def retrained(reference: Reference, genome: np.ndarray) -> float:
    """CPU seconds of training `genome` from scratch once more.

    Raises:
        SystemExit: it came out otherwise than what is kept.
    """
    seconds, scores = clocked(lambda: reference.train(genome, 0))
    kept = reference.scores(genome, 0)
    if not all(np.isclose(scores[name], kept[name], rtol=1e-3) for name in ("accuracy", "loss")):
        raise SystemExit(f"{reference.path} holds trainings of other code ({kept}, now {scores}); delete it")
    return seconds


def clocked(run: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds of a call, and what it returned."""
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def parameters(problem: ModelProblem, genomes: np.ndarray) -> np.ndarray:
    """Parameters of each genome's network, shape (n,)."""
    column = [objective.name for objective in problem.exact].index("parameters")
    return problem.exact_values(genomes)[:, column]


def spread(problem: ModelProblem, count: int, seed: int) -> np.ndarray:
    """`count` distinct genomes, ascending in parameters and evenly spread over their logarithm."""
    drawn = problem.space.sample(4000, np.random.default_rng(seed))
    pool = np.unique(np.concatenate([problem.space.corners(), drawn]), axis=0)
    return pool[evenly(np.log(parameters(problem, pool)), count)]


def interval(pair: np.ndarray) -> str:
    """Kendall's tau-b of two rows, with a 95 % bootstrap interval over the columns."""
    rng = np.random.default_rng(0)
    draws = [kendalltau(*pair[:, rng.integers(0, pair.shape[1], pair.shape[1])]).statistic for _ in range(1000)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return f"{kendalltau(*pair).statistic:.3f} [{low:.3f}, {high:.3f}]"


def draw(sizes: np.ndarray, alone: np.ndarray, parts: np.ndarray, path: Path) -> None:
    """Accuracies as a slice against those from scratch; a bar joins the seeds."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 4.2), layout="constrained")
    axes.hlines(parts, alone.min(0), alone.max(0), color="0.7", linewidth=1, zorder=0)
    shown = axes.scatter(alone.mean(0), parts, c=sizes, norm="log", cmap="viridis_r", s=22)
    figure.colorbar(shown, label="parameters")
    tau = kendalltau(alone.mean(0), parts).statistic
    axes.set(xlabel="accuracy from scratch, mean and range of the seeds", ylabel="accuracy as a slice")
    axes.set_title(f"{len(parts)} channel configurations of mnist5k, Kendall tau {tau:.2f}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
