"""Sixteen channel configurations, trained one by one and together: CPU time on one thread, and whether they agree.

    python runs/benchmark_training.py

`digits`: all 4 x 4 multipliers of its two hidden layers, its own recipe. `jets`: the 16-32-64-5 network with the same
multipliers, on random data of the jets' shape. Both ways take turns; medians, and the ratio of each pair of turns. Peak
memory is that of a process of its own, less one that trains nothing (Linux only). About two minutes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from evonas.problems.digits import BATCH, LEARNING_RATE, MULTIPLIERS, digits
from evonas.problems.jsc import RECIPE, jet_network
from evonas.training import Recipe, seeded, train, train_together

Way = Callable[[Sequence[nn.Module], int], None]


class Case:
    """Networks, and the data that they are trained on."""

    def __init__(self, name: str) -> None:
        self.name = name
        if name == "digits":
            problem = digits()
            self.data, self.validation = problem.train_split, problem.validation.inputs
            self.inputs, self.targets = self.data.inputs, self.data.targets
            self.make: Callable[[int, int], nn.Module] = lambda a, b: jet_network(f"L64-{a} ReLU L{a}-{b} ReLU L{b}-10")
            self.sizes, self.recipe = (48, 32), Recipe(learning_rate=LEARNING_RATE, batch=BATCH)
        else:
            self.inputs, self.targets = jets(8192, 0)
            self.validation = jets(2048, 1)[0]
            self.make = lambda a, b: jet_network(f"BN16 ReLU L16-{a} ReLU L{a}-{b} ReLU L{b}-5 BN5 ReLU")
            self.sizes, self.recipe = (32, 64), RECIPE

    def networks(self) -> list[nn.Module]:
        """One for each pair of multipliers, initialised from the same seed."""
        pairs = itertools.product(*([round(size * m) for m in MULTIPLIERS] for size in self.sizes))
        return [seeded(lambda pair=pair: self.make(*pair), 0) for pair in pairs]  # type: ignore[misc]

    def alone(self, networks: Sequence[nn.Module], epochs: int) -> None:
        """One by one."""
        for network in networks:
            train(network, self.inputs, self.targets, epochs=epochs, seed=0, recipe=self.recipe)

    def together(self, networks: Sequence[nn.Module], epochs: int) -> None:
        """In one stack."""
        widest = self.make(*(round(size * max(MULTIPLIERS)) for size in self.sizes))
        data = (self.inputs, self.targets)
        train_together(networks, *data, widest=widest, epochs=epochs, seed=0, recipe=self.recipe)


def jets(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Five classes in 16 features."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, 16, generator=torch.Generator().manual_seed(9))
    targets = torch.randint(0, 5, (samples,), generator=generator)
    return centres[targets] + torch.randn(samples, 16, generator=generator), targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "WAY"), help="print the peak memory of one way, in MiB")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        case = Case(given.peak[0])
        if given.peak[1] != "nothing":
            getattr(case, given.peak[1])(case.networks(), 2)
        # not `ru_maxrss`, which a process takes over from the one that starts it
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
        return
    for name in ("digits", "jets"):
        compare(Case(name), given.epochs, given.repeats)


def compare(case: Case, epochs: int, repeats: int) -> None:
    """Time both ways in turns, and print."""
    case.alone(case.networks(), 1), case.together(case.networks(), 1)  # imports and first calls are nobody's cost
    seconds: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(repeats):
        trained = {}
        for way, times in seconds.items():
            trained[way] = case.networks()
            start = time.process_time()
            getattr(case, way)(trained[way], epochs)
            times.append(time.process_time() - start)
    ratios = sorted(a / b for a, b in zip(*seconds.values(), strict=True))
    base = peak(case.name, "nothing")
    print(f"{case.name}: 16 configurations, {epochs} epochs, {len(case.inputs):,} samples, batch {case.recipe.batch}")
    for way, times in seconds.items():
        print(f"  {way:9s} {statistics.median(times):6.2f} CPU s, {peak(case.name, way) - base:4.0f} MiB")
    print(f"  ratio     {statistics.median(ratios):6.1f}  ({ratios[0]:.1f} to {ratios[-1]:.1f} in {repeats} turns)")
    agreeing, difference = agreement(trained["alone"], trained["together"], case.validation)
    total = 16 * len(case.validation)
    print(f"  same predictions: {agreeing:.6f} of {total:,}; logits differ by {difference:.1e} at most")


def agreement(first: Sequence[nn.Module], second: Sequence[nn.Module], inputs: Tensor) -> tuple[float, float]:
    """Share of predictions that are the same, and the largest difference of a logit."""
    with torch.no_grad():
        one, two = (torch.stack([network(inputs) for network in networks]) for networks in (first, second))
    same = one.argmax(2) == two.argmax(2)
    return float(same.double().mean()), float((one - two).abs().max())


def peak(case: str, way: str) -> float:
    """MiB of a process that trains in this way."""
    done = subprocess.run([sys.executable, __file__, "--peak", case, way], capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
