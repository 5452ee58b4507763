"""The width grid of the first mixed-precision lab: 4 formats of data times 4 of weights, every point evaluated.

    python runs/lab_widths.py                            # jsc-tiny, data from OpenML
    python runs/lab_widths.py --set data=jets.csv
    python runs/lab_widths.py --problem digits-ptq

The formats are fixed point, (16, 8), (8, 6), (8, 4) and (4, 2) bits (all, and after the point), one for the data and
one for the weights of every layer; biases are (8, 4). Accuracies are those of the whole validation split,
with 95 % Wilson intervals.
"""

from __future__ import annotations

import argparse
import sys

import evonas
from evonas.problem.genes import Rule
from evonas.problem.network import NetworkProblem
from evonas.problems import load, parse_options
from evonas.report import print_table

FORMATS = ("fixed4.2", "fixed8.4", "fixed8.6", "fixed16.8")
RULES = (
    Rule(("fixed8.4",), tensors=("bias",)),
    Rule(FORMATS, tensors=("data_in",), share="all", name="data"),
    Rule(FORMATS, tensors=("weight",), share="all", name="weight"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", default="jsc-tiny")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="An option of the problem.")
    arguments = parser.parse_args()
    problem = load(arguments.problem, parse_options(arguments.problem, arguments.set))
    assert isinstance(problem, NetworkProblem)
    grid = problem.with_rules(RULES, channels=False)
    result = evonas.search(grid, sampler="grid", budget=16, objectives=["accuracy", "average_bitwidth"])
    targets, rows = grid.validation.targets, []
    for evaluation in result.archive.evaluations:
        genome = grid.space.check([evaluation.genome])[0]
        share = grid.share(grid.logits(genome, grid.validation.inputs).argmax(1) == targets)
        labels = grid.space.labels(genome)
        accuracy = f"{share.value:.4f} [{share.low:.4f}, {share.high:.4f}]"
        values = evaluation.values
        rows.append(
            [
                labels["data"],
                labels["weight"],
                accuracy,
                f"{values['average_bitwidth']:g}",
                f"{values['memory_density']:g}",
            ]
        )
    print(f"{grid.name}, {len(targets)} validation samples")
    print_table(["data", "weight", "accuracy [95 %]", "average_bitwidth", "memory_density"], rows, sys.stdout)


if __name__ == "__main__":
    main()
