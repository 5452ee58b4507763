"""Does a supernet rank channel configurations as training each of them does, and what does it save?

    python runs/supernet_study.py

On mnist5k, in float32: trains 30 channel configurations from scratch, spread over the range of sizes, and one supernet;
evaluates 200 configurations as slices of it, the 30 among them. Prints CPU seconds of both, and Kendall's tau between
both rankings on the validation split. About ten minutes on one core.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.stats import kendalltau

from evonas.problem.model import ModelProblem
from evonas.problems.mnist5k import mnist5k
from evonas.quantize import single_thread

MULTIPLIERS = "0.125,0.25,0.5,0.75,1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=30, help="configurations trained from scratch")
    parser.add_argument("--slices", type=int, default=200, help="configurations evaluated as slices")
    parser.add_argument("--epochs", type=int, default=30, help="of training from scratch")
    parser.add_argument("--supernet-epochs", type=int, default=10, help="of training the supernet")
    given = parser.parse_args()
    with single_thread():
        study(given.sample, given.slices, given.epochs, given.supernet_epochs)


def study(sample: int, slices: int, epochs: int, supernet_epochs: int) -> None:
    """Run it and print."""
    common = {"widths": "float", "multipliers": MULTIPLIERS}
    scratch = mnist5k(weights="scratch", epochs=epochs, **common)
    sliced = mnist5k(weights="supernet", epochs=supernet_epochs, **common)
    genomes = spread(scratch, slices)
    chosen = np.linspace(0, slices - 1, sample).round().astype(int)
    scratch.splits(), sliced.splits()  # loading the images is nobody's cost

    training = -time.process_time()
    _ = sliced.supernet
    training += time.process_time()
    evaluating = -time.process_time()
    shared = sliced.evaluate(genomes)
    evaluating += time.process_time()

    alone, seconds = [], []
    print("parameters  from scratch  as a slice  CPU s from scratch")
    for number in chosen:
        start = time.process_time()
        (scores,) = scratch.evaluate(genomes[number : number + 1])
        alone.append(scores)
        seconds.append(time.process_time() - start)
        size, slice_accuracy = parameters(scratch, genomes[number : number + 1])[0], shared[number]["accuracy"]
        print(f"{size:10.0f}  {scores['accuracy']:12.4f}  {slice_accuracy:10.4f}  {seconds[-1]:.1f}", flush=True)
    five = 5 * float(np.mean(seconds))
    print(f"\n{slices} configurations as slices: {training + evaluating:.1f} CPU s", end="")
    print(f" ({training:.1f} training the supernet once, {evaluating:.1f} cutting, recalibrating and evaluating)")
    print(f"5 configurations from scratch: {five:.1f} CPU s (mean of {sample}, {epochs} epochs)")
    for name in ("accuracy", "loss"):
        pairs = np.array([[shared[i][name], row[name]] for i, row in zip(chosen, alone, strict=True)])
        print(f"Kendall tau of the {name}: {interval(pairs)}")


def parameters(problem: ModelProblem, genomes: np.ndarray) -> np.ndarray:
    """Parameters of each genome's network, shape (n,)."""
    column = [objective.name for objective in problem.exact].index("parameters")
    return problem.exact_values(genomes)[:, column]


def spread(problem: ModelProblem, count: int) -> np.ndarray:
    """`count` distinct genomes, ascending in parameters and evenly spread over their logarithm."""
    pool = np.unique(
        np.concatenate([problem.space.corners(), problem.space.sample(4000, np.random.default_rng(0))]), axis=0
    )
    sizes = np.log(parameters(problem, pool))
    wanted = np.linspace(sizes.min(), sizes.max(), count)
    free = np.ones(len(pool), dtype=bool)
    picked = []
    for target in wanted:
        nearest = int(np.where(free, np.abs(sizes - target), np.inf).argmin())
        free[nearest] = False
        picked.append(nearest)
    return pool[sorted(picked, key=lambda i: sizes[i])]


def interval(pairs: np.ndarray) -> str:
    """Kendall's tau-b of two columns, with a 95 % bootstrap interval over the rows."""
    rng = np.random.default_rng(0)
    draws = [kendalltau(*pairs[rng.integers(0, len(pairs), len(pairs))].T).statistic for _ in range(1000)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return f"{kendalltau(*pairs.T).statistic:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
