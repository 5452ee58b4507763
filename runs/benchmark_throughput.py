"""What evaluating a generation together saves, side by side with ways to do it one candidate at a time.

    python runs/benchmark_throughput.py [--only jsc,mnist5k,digits-ptq] [--repeats 3] [--growth]

(a) builds a module per candidate, runs it in batches of 512 and counts with torchmetrics; (b) is a functional loop
over the whole set, (c) the same in chunks that stay in cache, (d) is the engine, (e) the bare matrix products and
convolutions of (d), of the same shapes on random numbers, all by torch. All run on one thread, in turn;
what is printed is CPU time a candidate, the median of the repeats, and the peak memory beyond what was in use before.
What (d) takes for a whole grid is printed without and with loss. `--growth` draws how (c) and (d) grow with layers,
population and samples.

`jsc` is the 16-32-64-5 network with the widths of the labs and 16,384 samples, drawn from five Gaussian clusters unless
`--data` names a file of jets. (a), (b) and (c) take at most `--at-most` candidates, spread evenly.

`--device cuda` runs `jsc` on a GPU instead: a random generation of 1,024, 1 GiB for the values of (d), wall time and
the memory that torch took there.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.classification import MulticlassAccuracy

import evonas
from evonas.describe import describe
from evonas.engine import Engine, Labelled, scores
from evonas.engine.fused import load as load_kernels
from evonas.errors import EvonasError
from evonas.formats import Fixed
from evonas.graph import find_chains
from evonas.plan import PlanSpace
from evonas.problem.network import NetworkProblem
from evonas.problems import load
from evonas.problems.jsc import LAYERS, jet_network
from evonas.quantize import PostTraining, full_precision
from evonas.space import Gene
from evonas.training import seeded

JSC_FORMATS = ["fixed4.2", "fixed8.4", "fixed8.6", "fixed16.8"]
FORMATS = tuple(Fixed(width) for width in (3, 4, 6, 8))  # of the networks that grow
GENERATION = 64
ON_DEVICE = 1024, 2**30  # genomes of a generation, and bytes of values, on another device than the CPU
FIGURE = Path(__file__).parent / "figures" / "throughput_growth.png"
CPU = torch.device("cpu")
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "qconv2d_pointwise")


@dataclass
class Case:
    """A problem of one network, and genomes of it.

    Args:
        problem: the problem.
        chunk: samples that stay in cache, for (c).
        generations: name to genomes (n, n_genes).
    """

    problem: NetworkProblem
    chunk: int
    generations: dict[str, np.ndarray]


def clusters(samples: int, features: int = 16, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Standardised samples of Gaussian clusters that overlap, and their classes."""
    rng = np.random.default_rng(0)
    targets = rng.integers(classes, size=samples)
    inputs = rng.normal(size=(classes, features))[targets] * 0.5 + rng.normal(size=(samples, features))
    return torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(targets)


def jsc(data: str, device: str = "cpu") -> NetworkProblem:
    """The network of the labs with their four formats for data and weight of each layer: 4,096 genomes."""
    if data:
        return load("jsc-lab", {"data": data, "samples": 49_152, "widths": ",".join(JSC_FORMATS), "multipliers": "1"})
    inputs, targets = clusters(3 * 16_384)
    parts = [slice(i, i + 16_384) for i in range(0, len(inputs), 16_384)]
    return evonas.ModelProblem(
        seeded(lambda: jet_network(LAYERS["jsc-lab"]), 0).eval(),
        train=(inputs[parts[0]], targets[parts[0]]),
        validation=(inputs[parts[1]], targets[parts[1]]),
        test=(inputs[parts[2]], targets[parts[2]]),
        space={"widths": JSC_FORMATS, "multipliers": [1]},
        weights="scratch",
        epochs=2,
        name="jsc",
        device=device,
    )


def evolved(problem: NetworkProblem) -> np.ndarray:
    """The last 64 genomes that NSGA-II evaluated in a real search of 640."""
    found = evonas.search(problem, budget=10 * GENERATION, progress="none", objectives=["accuracy", "size", "bops"])
    return np.array([evaluation.genome for evaluation in found.archive.evaluations[-GENERATION:]])


def case(name: str, data: str) -> Case:
    """The problem `name` with its generations."""
    if name == "jsc":
        problem: NetworkProblem = jsc(data)
    else:
        problem = load(name, {"multipliers": "1", "weights": "scratch", "epochs": 2} if name == "mnist5k" else {})
    generations = {
        "random 64": problem.space.sample(GENERATION, np.random.default_rng(0)),
        "evolved 64": evolved(problem),
    }
    if problem.space.size <= 50_000:
        generations["grid"] = np.concatenate(list(problem.space.chunks()))
    return Case(problem, 32 if name == "mnist5k" else 2048, generations)


def case_on(device: str) -> Case:
    """`jsc` on another device than the CPU."""
    problem = jsc("", device)
    generation, problem.memory = ON_DEVICE
    return Case(problem, 2048, {f"random {generation}": problem.space.sample(generation, np.random.default_rng(0))})


def rebuilt(problem: NetworkProblem, genomes: np.ndarray) -> list[float]:
    """(a) Accuracies with a module per candidate, batches of 512 and torchmetrics."""
    found = []
    for genome in genomes:
        module = problem.model(genome)
        metric = MulticlassAccuracy(problem.classes, average="micro").to(problem.validation.inputs.device)
        with torch.no_grad():
            data = zip(problem.validation.inputs.split(512), problem.validation.targets.split(512), strict=True)
            for inputs, targets in data:
                metric.update(module(inputs), targets)
        found.append(float(metric.compute()))
    return found


def looped(problem: NetworkProblem, genomes: np.ndarray, chunk: int) -> list[float]:
    """(b), (c) Accuracies of a functional loop over candidates, `chunk` samples at a time."""
    found, network, data = [], problem.network(genomes[0]), problem.validation
    for genome in genomes:
        plan, right = problem.plan_space.plan(genome), 0
        for inputs, targets in zip(data.inputs.split(chunk), data.targets.split(chunk), strict=True):
            right += int((network.forward(plan, inputs).argmax(1) == targets).sum())
        found.append(right / len(data))
    return found


def together(problem: NetworkProblem, genomes: np.ndarray, labelled: Labelled, *, loss: bool = False) -> list[float]:
    """(d) Accuracies by the engine, which computes losses as well if told to."""
    engine = Engine(problem.network(genomes[0]), problem.plan_space, memory=problem.memory)
    found: list[float] = scores(engine, genomes, labelled, loss=loss).accuracy.tolist()
    return found


class Products(TorchDispatchMode):
    """Notes the shapes of every matrix product and convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[object, ...], int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            key = (name, *(tuple(a.shape) if isinstance(a, Tensor) else str(a) for a in args))
            self.calls = getattr(self, "calls", {})
            self.calls[key] = (func.overloadpacket, args)
            self.seen[key] = self.seen.get(key, 0) + 1
        return func(*args, **(kwargs or {}))

    def replay(self) -> Callable[[], None]:
        """A call that repeats them on random numbers, into memory that is there."""
        calls = []
        for key, times in self.seen.items():
            packet, args = self.calls[key]
            drawn = [_random(a) for a in args]
            out = {} if "conv" in str(key[0]) else {"out": packet(*drawn)}
            calls.append((packet, drawn, out, times))

        def run() -> None:
            for packet, drawn, out, times in calls:
                for _ in range(times):
                    packet(*drawn, **out)

        return run


def _random(argument: object) -> object:
    """Random numbers in place of a tensor of floats; anything else as it is."""
    if isinstance(argument, Tensor) and argument.is_floating_point():
        return torch.randn(argument.shape, device=argument.device)
    return argument


def peak_of(call: Callable[[], object], device: torch.device) -> float:
    """MiB that `call` needs at its peak beyond what was in use; NaN where the system does not say."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    status = Path("/proc/self/status")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = _field(status, "VmRSS")
        call()
        return (_field(status, "VmHWM") - before) / 1024
    return float("nan")


def _field(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))


def seconds_of(call: Callable[[], object], device: torch.device = CPU) -> float:
    """CPU seconds of `call`; on another device seconds until that is done."""
    if device == CPU:
        start = time.process_time()
        call()
        return time.process_time() - start
    torch.accelerator.synchronize(device)
    start = time.perf_counter()
    call()
    torch.accelerator.synchronize(device)
    return time.perf_counter() - start


def compare(found: Case, repeats: int, at_most: int) -> Iterator[str]:
    """One line of a table for each generation."""
    problem, data = found.problem, found.problem.validation
    labelled = Labelled(data.inputs, data.targets)
    for name, genomes in found.generations.items():
        few = genomes[np.linspace(0, len(genomes) - 1, min(len(genomes), at_most)).astype(int)]
        together(problem, genomes[:1], labelled)  # a network that is not trained yet has products of its own
        torch.set_num_threads(2)  # so that linear layers go through torch, where their products are seen
        with torch.no_grad(), Products() as products:
            reference = together(problem, genomes, labelled)
        torch.set_num_threads(1)
        assert len(reference) == len(genomes)
        calls: dict[str, tuple[Callable[[], object], int]] = {
            "a": (lambda few=few: rebuilt(problem, few), len(few)),
            "b": (lambda few=few: looped(problem, few, len(data)), len(few)),
            "c": (lambda few=few: looped(problem, few, found.chunk), len(few)),
            "d": (lambda genomes=genomes: together(problem, genomes, labelled), len(genomes)),
            "e": (products.replay(), len(genomes)),
        }
        with torch.no_grad():
            peaks = {letter: peak_of(call, data.inputs.device) for letter, (call, _) in calls.items()}
            times = {letter: [] for letter in calls}
            for _ in range(repeats):
                for letter, (call, count) in calls.items():
                    times[letter].append(1e3 * seconds_of(call, data.inputs.device) / count)
        medians = {letter: statistics.median(values) for letter, values in times.items()}
        cells = [f"{medians[letter]:8.3f} ms {peaks[letter]:5.0f} MiB" for letter in calls]
        ratios = [medians[letter] / medians["d"] for letter in "abc"]
        yield (
            f"{problem.name:>10} {name:>10} {len(genomes):>6}  {'  '.join(cells)}  "
            f"{'  '.join(f'{ratio:5.1f}x' for ratio in ratios)}  {medians['d'] / medians['e']:5.2f}"
        )


def whole_grid(found: Case, repeats: int) -> str:
    """Seconds that (d) takes for all genomes, without and with loss."""
    problem, genomes = found.problem, found.generations["grid"]
    labelled = Labelled(problem.validation.inputs, problem.validation.targets)
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(repeats):
        for loss, seconds in times.items():
            seconds.append(seconds_of(lambda loss=loss: together(problem, genomes, labelled, loss=loss)))
    plain, with_loss = (statistics.median(seconds) for seconds in times.values())
    return f"{problem.name:>10} grid of {len(genomes):,}: accuracy in {plain:.2f} CPU s, with loss in {with_loss:.2f}"


def network_of(layers: int) -> tuple[PostTraining, PlanSpace]:
    """An MLP of `layers` layers, 16 to 32 channels wide, with genes for data and weight of each."""
    widths = [16, *[32] * (layers - 1), 5]
    model = seeded(lambda: nn.Sequential(*chain_of(widths)), 0).eval()
    network = describe(find_chains(model, torch.zeros(2, 16)))
    genes = [Gene(f"{at.name}.{slot}", FORMATS) for at in network.quantizable for slot in ("data_in", "weight")]
    biases = {f"{at.name}.bias": Fixed(16) for at in network.quantizable}
    return PostTraining(model, clusters(256)[0], network), PlanSpace(network, genes, defaults=biases)


def chain_of(widths: list[int]) -> Iterator[nn.Module]:
    """Linear layers of these channels with ReLUs between them."""
    for before, after in pairwise(widths):
        yield nn.Linear(before, after)
        if after != widths[-1]:
            yield nn.ReLU()


def grown(layers: int, population: int, samples: int, repeats: int) -> tuple[float, float]:
    """CPU seconds of (c), measured on 8 candidates at most, and of (d); medians."""
    network, space = network_of(layers)
    genomes = space.space.sample(population, np.random.default_rng(0))
    inputs, targets = clusters(samples)
    few = genomes[:8]

    def loop() -> None:
        for genome in few:
            for part in inputs.split(2048):
                network.forward(space.plan(genome), part).argmax(1)

    labelled = Labelled(inputs, targets)
    engine = Engine(network, space)
    scores(engine, few, labelled, loss=False)  # formats are calibrated and weights quantized before
    loop()
    found = [
        (seconds_of(loop), seconds_of(lambda: scores(engine, genomes, labelled, loss=False))) for _ in range(repeats)
    ]
    one_by_one, at_once = (statistics.median(seconds) for seconds in zip(*found, strict=True))
    return one_by_one * len(genomes) / len(few), at_once


def growth(repeats: int) -> None:
    """Print and draw how (c) and (d) grow."""
    import matplotlib.pyplot as plt

    axes_of = {
        "layers": [(n, 64, 1_000) for n in (3, 6, 12, 25, 50, 100)],
        "population": [(4, n, 1_000) for n in (16, 64, 256, 1_024, 4_096)],
        "samples": [(4, 64, n) for n in (1_000, 3_000, 10_000, 30_000, 100_000)],
    }
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True, layout="constrained")
    for column, (panel, (name, points)) in enumerate(zip(panels, axes_of.items(), strict=True)):
        at = [point[column] for point in points]
        found = []
        for point in points:
            found.append(grown(*point, repeats))
            print(
                f"{name:>10} {point[column]:>7}: loop {found[-1][0]:8.3f} s, engine {found[-1][1]:8.3f} s", flush=True
            )
        for label, style, values in zip(
            ("one by one, in chunks", "together"), ("o--", "o-"), zip(*found, strict=True), strict=True
        ):
            panel.plot(at, values, style, label=label)
        panel.set(xscale="log", yscale="log", xlabel=name)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("CPU seconds a generation")
    panels[0].legend(frameon=False)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=150)
    print(f"drawn: {FIGURE}")


def tables(arguments: argparse.Namespace) -> None:
    """Print a line for each problem and generation."""
    heads = [f"{letter:>8}{'':>13}" for letter in "abcde"]
    print(f"{'':>10} {'':>10} {'':>6}  {'  '.join(heads)}  {'a/d':>6}  {'b/d':>6}  {'c/d':>6}  {'d/e':>5}")
    if arguments.device == "cpu":
        cases = (case(name, arguments.data) for name in arguments.only.split(","))
    else:
        cases = (case_on(arguments.device) for _ in range(1))
    for found in cases:
        for line in compare(found, arguments.repeats, arguments.at_most):
            print(line, flush=True)
        if "grid" in found.generations:
            print(whole_grid(found, arguments.repeats), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="jsc,mnist5k,digits-ptq")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--at-most", type=int, default=64)
    parser.add_argument("--data", default="", help="a file of jets")
    parser.add_argument("--device", default="cpu", help="such as cuda: `jsc` there")
    parser.add_argument("--plain", action="store_true", help="without numba")
    parser.add_argument("--growth", action="store_true", help="draw how the cost grows, and nothing else")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    loaded = not arguments.plain and load_kernels() is not None  # the engine would by itself, after a while
    print(f"numba: {f'loaded in {time.process_time() - start:.1f} CPU s' if loaded else 'not used'}", flush=True)
    with full_precision():  # set once, as a search does, and not by every call
        growth(arguments.repeats) if arguments.growth else tables(arguments)


if __name__ == "__main__":
    try:
        main()
    except EvonasError as error:
        sys.exit(f"benchmark_throughput: {error}")
