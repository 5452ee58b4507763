"""Is int8 in onnxruntime what was simulated, and is it smaller and faster?

    python runs/int8_check.py [--problem mnist5k] [--format int8] [--batch 16]

Takes the network with all formats at their highest, exports it in int8 and in float32, and prints the size of both
files, their accuracy on the whole validation split beside the simulated one, and the median time of a call in
interleaved rounds on one thread (the time that the thread runs), that of the same float network in torch among them.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from evonas.deploy import int8_module, onnx_model, session
from evonas.problem.network import NetworkProblem
from evonas.problems import load
from evonas.timing import interleaved, timed_module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", default="mnist5k")
    parser.add_argument("--format", default="int8")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    options = {"epochs": arguments.epochs}
    formats = "formats" if arguments.problem.startswith("digits") else "widths"
    problem = load(arguments.problem, options | {formats: f"{arguments.format},float32"})
    assert isinstance(problem, NetworkProblem)
    genome = np.array(
        [0 if len(g.choices) == 2 and "float32" in g.labels else len(g.choices) - 1 for g in problem.space.genes]
    )
    inputs, targets = problem.validation.inputs, problem.validation.targets
    network, plan = problem.network(genome), problem.plan_space.plan(genome)
    floats = problem.deployable(dict(plan.channels))
    models = {
        "float32": onnx_model(floats, inputs[:2]),
        arguments.format: onnx_model(int8_module(network, plan, inputs[:2]), inputs[:2]),
    }
    sessions = {name: session(model) for name, model in models.items()}
    simulated = problem.logits(genome, inputs)
    found = sessions[arguments.format](inputs)
    same = float((found.argmax(1) == simulated.argmax(1)).float().mean())
    print(
        f"{arguments.problem}, {arguments.format}, {len(inputs)} validation samples, batch {arguments.batch}, 1 thread"
    )
    for name, model in models.items():
        accuracy = float((sessions[name](inputs).argmax(1) == targets).float().mean())
        print(f"{name:>8} in onnxruntime: {len(model):,} bytes, accuracy {accuracy:.4f}")
    accuracy = float((simulated.argmax(1) == targets).float().mean())
    print(f"simulated {arguments.format}: accuracy {accuracy:.4f}; onnxruntime gives the same answer for {same:.2%}")
    print(f"largest difference of a logit {float((found - simulated).abs().max()):.3g}")
    batch = inputs[torch.arange(arguments.batch) % len(inputs)]
    calls = [lambda run=run: run(batch) for run in sessions.values()]  # type: ignore[misc]
    timings = interleaved(
        [timed_module(floats, batch), *calls], rounds=arguments.rounds, rng=np.random.default_rng(0), clock="cpu"
    )
    for name, (q1, median, q3) in zip(
        ("torch float32", *(f"onnxruntime {name}" for name in sessions)), timings, strict=True
    ):
        per = 1e6 / arguments.batch
        print(f"{name:>20}: {median * per:7.2f} µs a sample, quartiles {q1 * per:.2f} to {q3 * per:.2f}")


if __name__ == "__main__":
    main()
