"""Where the time of `evonas search digits --budget 400` goes.

    python runs/benchmark_search.py [--budget 400] [--repeats 3]

Each repeat is a fresh process that runs the whole command; inside it every part is timed on its own. Prints the
median over the repeats with the smallest and the largest, and the cost of sampler and store per evaluation. The
import of evonas is compared with that of torch in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTS = ("import", "training", "evaluation", "sampler", "store", "figures", "rest", "whole")


def instrumented(budget: int) -> dict[str, float]:
    """Run the search in this process and return seconds by part."""
    start = time.perf_counter()
    spent: dict[str, float] = defaultdict(float)
    running: list[str] = []

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            begin, inner = time.perf_counter(), sum(spent.values())
            running.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                running.pop()
                # what nested parts took is theirs
                spent[part] += time.perf_counter() - begin - (sum(spent.values()) - inner)

        return wrapper

    import evonas.problems.digits
    from evonas import loop, plots, store
    from evonas.problem.network import NetworkProblem
    from evonas.samplers import base, nsga2

    spent["import"] = time.perf_counter() - start
    evonas.problems.digits.train_kept = timed("training", evonas.problems.digits.train_kept)
    NetworkProblem.evaluate = timed("evaluation", NetworkProblem.evaluate)
    store.Store.append = timed("store", store.Store.append)
    base.Sampler.ask = timed("sampler", base.Sampler.ask)
    nsga2.Nsga2Sampler.tell = timed("sampler", nsga2.Nsga2Sampler.tell)
    plots.figures = timed("figures", plots.figures)
    with tempfile.TemporaryDirectory() as folder:
        loop.search("digits", budget=budget, out=Path(folder) / "run", progress="none")
    spent["whole"] = time.perf_counter() - start
    spent["rest"] = spent["whole"] - sum(spent[part] for part in PARTS[:-2])
    return dict(spent)


def command(*arguments: str) -> float:
    """Seconds that a fresh process takes."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(instrumented(arguments.budget)))
        return

    rows = []
    for _ in range(arguments.repeats):
        done = subprocess.run(
            [sys.executable, __file__, "--child", "--budget", str(arguments.budget)],
            check=True,
            capture_output=True,
            text=True,
        )
        rows.append(json.loads(done.stdout))
    print(f"evonas search digits --budget {arguments.budget}, seconds over {arguments.repeats} runs")
    for part in PARTS:
        values = [row.get(part, 0.0) for row in rows]
        print(f"{part:>12}  median {statistics.median(values):6.2f}  ({min(values):.2f} to {max(values):.2f})")
    overhead = [1e3 * (row["sampler"] + row["store"]) / arguments.budget for row in rows]
    print(f"sampler and store: {statistics.median(overhead):.2f} ms an evaluation")

    imports = {"import torch": [], "import evonas": [], "import evonas; evonas.search": []}
    for _ in range(arguments.repeats):
        for statement, seconds in imports.items():
            seconds.append(command("-c", statement))
    for statement, seconds in imports.items():
        print(f"{statement}: median {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
