"""Search a problem from Python: copy this file and change what you need.

    python runs/search.py            # 200 evaluations of digits, in memory
    python runs/search.py results/mine

Prints the front, the best network under 2 KiB, and what it scores as a plain module.
"""

from __future__ import annotations

import sys

import evonas
from evonas.problems import load


def main() -> None:
    problem = load("digits")
    result = evonas.search(
        problem,
        sampler="nsga2",
        budget=200,
        seed=0,
        at_least={"accuracy": 0.8},
        out=sys.argv[1] if len(sys.argv) > 1 else None,
    )
    print(result.front[["accuracy", "latency", "size", "flops", "test_accuracy"]].to_string())

    best = result.best(size_max="2KiB")
    index = result.front.index[result.front["number"] == best["number"]][0]
    network = result.model(index)
    inputs, targets = problem.validation.inputs, problem.validation.targets
    accuracy = float((network(inputs).argmax(1) == targets).float().mean())
    print(f"\nbest under 2 KiB: point {index}, {problem.describe(result.pick(index).genome)}")
    print(f"accuracy recorded {best['accuracy']:.4f}, of the module {accuracy:.4f}")


if __name__ == "__main__":
    main()
