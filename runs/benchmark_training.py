"""Sixteen channel configurations, trained one by one and together: CPU time on one thread, and whether they agree.

    python runs/benchmark_training.py

`digits`: all 4 x 4 multipliers of its two hidden layers, its own recipe, for 20 epochs and for the 60 that are its own.
`jets`: the 16-32-64-5 network with the same multipliers, on random data of the jets' shape. The ways take turns:

    alone      one by one with torch, as any network is trained
    stacked    together with torch: padded and stacked
    compiled   together, compiled with numba
    single     compiled, but one at a time
    products   the matrix products of all networks alone, each in its own shape

Medians, and how much longer `alone` took in the same turn. Peak memory is that of a process of its own, less one that
trains nothing (Linux only). Loading numba and what it has compiled is a cost of every process, printed apart; compiling
that of the first. Beside how far each way's networks are from those trained alone stands how far these are from
themselves when every first weight is moved by one unit in its last place or not, at random. Five minutes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from evonas.jit import compiled
from evonas.problems.digits import BATCH, EPOCHS, LEARNING_RATE, MULTIPLIERS, digits
from evonas.problems.jsc import RECIPE, jet_network
from evonas.training import Recipe, batches, seeded, together, train, train_together

WAYS = ("alone", "stacked", "compiled", "single", "products")


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
            self.epochs: tuple[int, ...] = (20, EPOCHS)
        else:
            self.inputs, self.targets = jets(8192, 0)
            self.validation = jets(2048, 1)[0]
            self.make = lambda a, b: jet_network(f"BN16 ReLU L16-{a} ReLU L{a}-{b} ReLU L{b}-5 BN5 ReLU")
            self.sizes, self.recipe, self.epochs = (32, 64), RECIPE, (20,)

    def networks(self) -> list[nn.Module]:
        """One for each pair of multipliers, initialised from the same seed."""
        pairs = itertools.product(*([round(size * m) for m in MULTIPLIERS] for size in self.sizes))
        return [seeded(lambda pair=pair: self.make(*pair), 0) for pair in pairs]  # type: ignore[misc]

    def alone(self, networks: Sequence[nn.Module], epochs: int) -> None:
        """One by one."""
        for network in networks:
            train(network, self.inputs, self.targets, epochs=epochs, seed=0, recipe=self.recipe)

    def stacked(self, networks: Sequence[nn.Module], epochs: int) -> None:
        """Together, by torch."""
        self._together(networks, epochs, compiled=False)

    def compiled(self, networks: Sequence[nn.Module], epochs: int) -> None:
        """Together, by compiled code."""
        self._together(networks, epochs, compiled=True)

    def single(self, networks: Sequence[nn.Module], epochs: int) -> None:
        """One by one, by compiled code."""
        for network in networks:
            self._together([network], epochs, compiled=True)

    def products(self, networks: Sequence[nn.Module], epochs: int) -> None:
        """Nothing but matrix products."""
        from numba.typed import List

        lengths = [len(rows) for rows in batches(len(self.inputs), self.recipe.batch, 1, 0)]
        for length in sorted(set(lengths)):
            parts = [List() for _ in range(5)]
            for network in networks:
                layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
                for i, layer in enumerate(layers):
                    read, slope = (np.ones((length, size), np.float32) for size in layer.weight.shape[::-1])
                    weight = np.ones(tuple(layer.weight.shape), np.float32)
                    passed = np.empty_like(read if i else read[:0])  # nobody wants the gradient by the data
                    for part, value in zip(parts, (read, weight, slope, passed, weight.copy()), strict=True):
                        part.append(value)
            _compiled_multiply()(epochs * lengths.count(length), *parts)

    def _together(self, networks: Sequence[nn.Module], epochs: int, *, compiled: bool) -> None:
        widest = self.make(*(round(size * max(MULTIPLIERS)) for size in self.sizes))
        data = (self.inputs, self.targets)
        usual, together.PAYS = together.PAYS, 0 if compiled else 2**60
        train_together(networks, *data, widest=widest, epochs=epochs, seed=0, recipe=self.recipe)
        together.PAYS = usual


@cache
def _compiled_multiply() -> Callable[..., None]:
    return compiled(multiply)  # loads numba


def multiply(times: int, reads: Any, weights: Any, slopes: Any, passed: Any, gradients: Any) -> None:
    """Products forward and backward of linear layers, each a list of matrices."""
    for _ in range(times):
        for i in range(len(reads)):
            np.dot(reads[i], weights[i].T, slopes[i])
            np.dot(slopes[i].T, reads[i], gradients[i])
            if len(passed[i]):
                np.dot(slopes[i], weights[i], passed[i])


def jets(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Five classes in 16 features."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, 16, generator=torch.Generator().manual_seed(9))
    targets = torch.randint(0, 5, (samples,), generator=generator)
    return centres[targets] + torch.randn(samples, 16, generator=generator), targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="other than a case's own")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "WAY"), help="print the peak memory of one way, in MiB")
    given = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    if given.peak:
        case = Case(given.peak[0])
        if given.peak[1] != "nothing":
            getattr(case, given.peak[1])(case.networks(), 2)
        # not `ru_maxrss`, which a process takes over from the one that starts it
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
        return
    case, seconds = Case("digits"), []
    case.stacked(case.networks(), 1)
    for _ in range(2):
        start = time.process_time()
        case.compiled(case.networks(), 1)
        seconds.append(time.process_time() - start)
    print(f"loading numba's code, once a process: {seconds[0] - seconds[1]:.2f} CPU s (more where it compiles)")
    for name in ("digits", "jets"):
        case = Case(name)
        for epochs in (given.epochs,) if given.epochs else case.epochs:
            compare(case, epochs, given.repeats)


def compare(case: Case, epochs: int, repeats: int) -> None:
    """Time all ways in turns, and print."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    trained: dict[str, list[nn.Module]] = {}
    for turn in range(repeats + 1):
        for way, times in seconds.items():
            trained[way] = case.networks()
            start = time.process_time()
            getattr(case, way)(trained[way], epochs if turn else 1)  # first calls are nobody's cost
            if turn:
                times.append(time.process_time() - start)
    base = peak(case.name, "nothing")
    print(f"{case.name}: 16 configurations, {epochs} epochs, {len(case.inputs):,} samples, batch {case.recipe.batch}")
    for way, times in seconds.items():
        ratios = sorted(a / b for a, b in zip(seconds["alone"], times, strict=True))
        print(
            f"  {way:9s} {statistics.median(times):6.2f} CPU s, {peak(case.name, way) - base:4.0f} MiB, "
            f"ratio {statistics.median(ratios):5.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f} in {repeats} turns)"
        )
    for seed in range(3):
        trained[f"alone, first weights moved, seed {seed}"] = near = moved(case.networks(), seed)
        case.alone(near, epochs)
    for way in (name for name in trained if name not in ("alone", "products")):
        agreeing, difference = agreement(trained["alone"], trained[way], case.validation)
        total = 16 * len(case.validation)
        print(f"  {way}: {agreeing:,} of {total:,} predictions as alone, logits differ by {difference:.1e} at most")


def moved(networks: list[nn.Module], seed: int) -> list[nn.Module]:
    """The same with every parameter moved up, down or not by about a unit in its last place, at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in itertools.chain.from_iterable(network.parameters() for network in networks):
            parameter.mul_(1 + 2**-23 * (torch.randint(0, 3, parameter.shape, generator=generator) - 1))
    return networks


def agreement(first: Sequence[nn.Module], second: Sequence[nn.Module], inputs: Tensor) -> tuple[int, float]:
    """How many predictions are the same, and the largest difference of a logit."""
    with torch.no_grad():
        one, two = (torch.stack([network(inputs) for network in networks]) for networks in (first, second))
    same = one.argmax(2) == two.argmax(2)
    return int(same.sum()), float((one - two).abs().max())


def peak(case: str, way: str) -> float:
    """MiB of a process that trains in this way."""
    done = subprocess.run([sys.executable, __file__, "--peak", case, way], capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
