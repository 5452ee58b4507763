"""Compare the ways to calibrate formats: accuracy and loss of the same random genomes under each of them.

    python runs/calibration_check.py [--problem digits-ptq] [--genomes 300] [--set fold=true]

Every genome is evaluated on the validation split under every method, so that the differences are paired. Their mean
has a 95 % interval of 1.96 standard errors.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from evonas.problem.network import NetworkProblem
from evonas.problems import load, parse_options
from evonas.quantize import METHODS

BASE = "mse"  # the default, which the others are compared with


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", default="digits-ptq")
    parser.add_argument("--genomes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the problem")
    arguments = parser.parse_args()
    problem = load(arguments.problem, parse_options(arguments.problem, arguments.set))
    assert isinstance(problem, NetworkProblem), f"{arguments.problem} is no network"
    genomes = problem.space.sample(arguments.genomes, np.random.default_rng(arguments.seed))
    problem.evaluate(genomes[:1])  # trains the network
    scores, seconds = {}, {}
    for method in METHODS:
        begun = time.perf_counter()
        found = problem.with_quantization(calibration=method).evaluate(genomes)
        seconds[method] = time.perf_counter() - begun
        scores[method] = np.array([[row["accuracy"], row["loss"]] for row in found])
    print(f"{arguments.problem}: {len(genomes)} random genomes, means on the validation split")
    for method in METHODS:
        gain = scores[method][:, 0] - scores[BASE][:, 0]
        error = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
        accuracy, loss = scores[method].mean(axis=0)
        print(
            f"{method:>12}  accuracy {accuracy:.4f}  loss {loss:6.3f}  accuracy minus that of {BASE} "
            f"{gain.mean():+.4f} [{gain.mean() - error:+.4f}, {gain.mean() + error:+.4f}]  {seconds[method]:5.1f} s"
        )


if __name__ == "__main__":
    main()
