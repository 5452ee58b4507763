"""Every multiplier row of the published lab results beside what evonas computes.

    python runs/lab_tables.py                  # parameters and FLOPs of 31 rows
    python runs/lab_tables.py --data jets.csv  # and accuracies of trained networks, with intervals

The labs count FLOPs of a batch of 8: multiply and add apart, bias free, two an element of a batch norm, one a ReLU.
Their accuracies are of untrained networks on 56 jets, with a standard error of about 0.07; those printed here are of
networks trained from scratch, on the whole validation split, with 95 % Wilson intervals.

Source of lab_tables.csv: published results of the mixed-precision lab exercises.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from evonas.errors import EvonasError
from evonas.problem.joint import agreed, parse_pairs
from evonas.problem.model import ModelProblem
from evonas.problems.jsc import jsc_lab
from evonas.progress import counting
from evonas.report import print_table
from evonas.space import IntArray

ROWS = Path(__file__).parent / "lab_tables.csv"
BATCH = 8
MULTIPLIERS = "1,2,4,8,16,64"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="", help="file with the jets: ARFF, CSV, Parquet or HDF5")
    parser.add_argument("--download", action="store_true", help="train on the jets of OpenML, downloaded once")
    parser.add_argument("--samples", type=int, default=0, help="jets to keep; all when 0")
    parser.add_argument("--epochs", type=int, default=5, help="of training")
    parser.add_argument("--most", type=int, default=100_000, help="parameters of the largest network that is trained")
    given = parser.parse_args()
    problem = jsc_lab(
        data=given.data, samples=given.samples, epochs=given.epochs, widths="float", multipliers=MULTIPLIERS
    )
    rows, equal = [], 0
    published_rows = list(read())
    with counting("rows") as told:
        for done, published in enumerate(published_rows, 1):
            row, same = compare(problem, published, given.most if given.data or given.download else 0)
            rows.append(row)
            equal += same
            told(done, len(published_rows))
    header = ["table", "configuration", "parameters", "here", "FLOPs", "here", "equal", "accuracy", "trained [95 %]"]
    print_table(header, rows, sys.stdout)
    if given.data or given.download:
        print(f"- is a network of more than {given.most:,} parameters, which --most trains as well")
    print(f"{equal} of {len(rows)} rows are equal as strings")


def compare(problem: ModelProblem, published: dict[str, str], most: int) -> tuple[list[str], bool]:
    """The line of one published row, and whether its numbers are ours; networks of up to `most` parameters train."""
    genome = problem.space.encode(multipliers(problem, published))
    values = dict(zip((o.name for o in problem.exact), problem.exact_values(genome[None])[0].tolist(), strict=True))
    mine = [short(values["parameters"]), short(BATCH * values["flops"])]
    same = mine == [published["parameters"], published["flops"]]
    line = [
        published["table"],
        published["configuration"],
        published["parameters"],
        mine[0],
        published["flops"],
        mine[1],
        "yes" if same else "NO",
        f"{float(published['accuracy']):.3f}",
        accuracy(problem, genome) if values["parameters"] <= most else "-",
    ]
    return line, same


def read() -> Iterator[dict[str, str]]:
    """The published multiplier rows."""
    with ROWS.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def multipliers(problem: ModelProblem, row: dict[str, str]) -> dict[str, float]:
    """Chain -> multiplier of a published row: one number for all, or pairs of every layer's inputs and outputs."""
    text = row["configuration"]
    if row["table"] == "uniform_multiplier":
        return {chain.name: float(text) for chain in problem.chains}
    return agreed(problem.plan_space.network, parse_pairs(text))


def short(number: float) -> str:
    """As the labs print numbers: `47.27 K`, `2.21 M`."""
    return f"{round(number / 1e6, 2)} M" if number >= 1e6 else f"{round(number / 1e3, 2)} K"


def accuracy(problem: ModelProblem, genome: IntArray) -> str:
    """Accuracy of the trained network on the whole validation split, with its interval."""
    split = problem.validation
    share = problem.share(problem.logits(genome, split.inputs).argmax(1) == split.targets)
    return f"{share.value:.4f} [{share.low:.4f}, {share.high:.4f}]"


if __name__ == "__main__":
    try:
        main()
    except EvonasError as error:
        sys.exit(str(error))
