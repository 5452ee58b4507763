"""Time and memory of every exact cost of a million genomes of a 20-layer network.

    python runs/benchmark_costs.py [--genomes 1000000] [--layers 20]

The network is a stack of 3 x 3 convolutions; each layer has a gene for the format of its input and of its weight, out
of fixed point, scaled integers, minifloats and block formats, and every chain has a gene for its channels. Prints the
seconds of each cost, the seconds of all together, how many of them the process really ran (a busy machine makes it
wait), and its peak memory.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from evonas import costs
from evonas.chains import Chain, Extent
from evonas.formats import parse_list
from evonas.plan import Layer, Network, PlanSpace
from evonas.problem.network import CHUNK
from evonas.space import Gene

FORMATS = "fixed4,fixed8,fixed16,int4c,int8,fp8e4m3,mxfp4e2m1,float32"


def stack(layers: int) -> PlanSpace:
    """`layers` convolutions, 32 to 128 channels wide."""
    chains = tuple(Chain(f"chain{i}", 32 * (1 + i // 5)) for i in range(layers - 1))
    widths = [Extent(16), *(Extent.of(chain) for chain in chains), Extent(10)]
    shape = {"taps": 9, "positions": 64, "input_positions": 64}
    found = [Layer(f"conv{i}", "conv", widths[i], widths[i + 1], **shape) for i in range(layers)]
    formats = parse_list(FORMATS)
    genes = [Gene(f"{layer.name}.{slot}", formats) for layer in found for slot in ("data_in", "weight")]
    genes += [Gene(chain.name, (0.5, 1.0, 1.5, 2.0)) for chain in chains]
    return PlanSpace(Network(tuple(found), chains), genes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genomes", type=int, default=1_000_000)
    parser.add_argument("--layers", type=int, default=20)
    arguments = parser.parse_args()
    space, rng, device = stack(arguments.layers), np.random.default_rng(0), costs.load_device("pynq-z1")
    names = [objective.name for objective in costs.OBJECTIVES]
    seconds, total, busy = dict.fromkeys(["decode", *names], 0.0), 0.0, 0.0
    for start in range(0, arguments.genomes, CHUNK):
        genomes = space.space.sample(min(CHUNK, arguments.genomes - start), rng)
        begun, working = time.perf_counter(), time.process_time()
        plans = space.plans(genomes)
        seconds["decode"] += time.perf_counter() - begun
        for name in names:
            before = time.perf_counter()
            costs.cost(name, plans, device)
            seconds[name] += time.perf_counter() - before
        total += time.perf_counter() - begun
        busy += time.process_time() - working
    for name, spent in seconds.items():
        print(f"{name:>22}  {spent:6.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(names)} costs of {arguments.genomes:,} genomes of {arguments.layers} layers, {len(space.space)} genes: "
        f"{total:.1f} s, of which {busy:.1f} s on a processor, peak memory {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
