"""Jet tagging: the small networks of the mixed-precision labs on the LHC jets.

Source, licence and splits of the data: see `evonas.problems.jets` (CC BY 4.0; about 530,000 jets to train, 133,000
to validate, 166,000 to test; `samples` takes fewer). Networks, with their parameters: `jsc-tiny` (117), `jsc-toy`
(327), `jsc-s` (5,615) and `jsc-lab` (16-32-64-5, 3,013). All end in a ReLU, as in the labs. A candidate is trained
from scratch.

Float accuracy to expect: networks of the size of `jsc-s` are reported at 0.75 to 0.77 on these five balanced classes
(Duarte et al. 2018, arXiv:1804.06913, and later work on the same features); the closing ReLU and fewer layers cost
some of it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from evonas.costs import DEFAULT_LATENCY
from evonas.errors import InvalidArgument
from evonas.problem.model import ModelProblem
from evonas.problems.jets import CLASSES, FEATURES, jets
from evonas.problems.joint_options import joint_space, numbers
from evonas.training import ClosingReLU, Recipe, seeded

__all__ = ["LAYERS", "jet_network", "jsc_lab", "jsc_s", "jsc_tiny", "jsc_toy", "with_hidden"]

LAYERS = {
    "jsc-tiny": "BN16 ReLU L16-5 ReLU",
    "jsc-toy": "BN16 ReLU L16-8 BN8 ReLU L8-8 BN8 ReLU L8-5 BN5 ReLU",
    "jsc-s": "BN16 ReLU L16-64 BN64 ReLU L64-32 ReLU L32-32 ReLU L32-32 ReLU L32-5 BN5 ReLU",
    "jsc-lab": "BN16 ReLU L16-32 ReLU L32-64 ReLU L64-5 ReLU",
}
WIDTHS = "2,3,4,5,6,7,8,16"
MULTIPLIERS = "0.25,0.5,1,2"
RECIPE = Recipe(learning_rate=3e-3, batch=256)


def jet_network(layers: str) -> nn.Sequential:
    """The network that `layers` spells, such as `BN16 ReLU L16-5`; its modules are bn1, relu1, fc1, ..."""
    kinds: dict[str, tuple[str, Callable[..., nn.Module]]] = {
        "BN": ("bn", nn.BatchNorm1d),
        "L": ("fc", nn.Linear),
        "ReLU": ("relu", nn.ReLU),
    }
    found: OrderedDict[str, nn.Module] = OrderedDict()
    for word in layers.split():
        prefix, made = kinds[word.rstrip("0123456789-")]
        number = 1 + sum(name.startswith(prefix) for name in found)
        found[f"{prefix}{number}"] = made(*(int(size) for size in re.findall(r"\d+", word)))
    if layers.endswith(" ReLU"):
        found[next(reversed(found))] = ClosingReLU()
    return nn.Sequential(found)


def with_hidden(name: str, hidden: str) -> str:
    """The layers of network `name`, its hidden layers with the channels in `hidden`; its own when that is empty.

    Raises:
        InvalidArgument: not one positive whole number for each hidden layer.
    """
    words = LAYERS[name].split()
    count = sum(word.startswith("L") for word in words) - 1
    if not hidden:
        return LAYERS[name]
    sizes = numbers("hidden", hidden)
    if len(sizes) != count or any(size < 1 or size != int(size) for size in sizes):
        raise InvalidArgument(f"`hidden` must be {count} whole numbers of channels for {name}, got `{hidden}`")
    current, following = len(FEATURES), [*(int(size) for size in sizes), len(CLASSES)]
    for i, word in enumerate(words):
        if word.startswith("L"):
            words[i] = f"L{current}-{following[0]}"
            current = following.pop(0)
        elif word.startswith("BN"):
            words[i] = f"BN{current}"
    return " ".join(words)


def _factory(name: str) -> Callable[..., ModelProblem]:
    """The function that makes the problem `name`."""

    def make(
        *,
        data: str = "",
        samples: int = 0,
        hidden: str = "",
        widths: str = WIDTHS,
        multipliers: str = MULTIPLIERS,
        uniform: bool = False,
        round_to: int = 1,
        pairs: str = "",
        epochs: int = 5,
        seeds: int = 1,
        latency: str = DEFAULT_LATENCY,
        run_on: str = "cpu",
    ) -> ModelProblem:
        given = dict(locals())
        layers = with_hidden(name, hidden)
        problem = ModelProblem(
            seeded(lambda: jet_network(layers), 0).eval(),
            splits=lambda: jets(data, samples),
            example_inputs=torch.zeros(2, len(FEATURES)),
            space=joint_space(widths=widths, multipliers=multipliers, uniform=uniform, round_to=round_to, pairs=pairs),
            weights="scratch",
            epochs=epochs,
            seeds=seeds,
            recipe=RECIPE,
            device=run_on,
            latency=latency,
            name=name,
            chain_names={f"chain{i}": f"hidden{i + 1}" for i in range(layers.count(" L") - 1)},
        )
        problem.options = {key: value for key, value in given.items() if key != "name"}
        return problem

    make.__doc__ = f"Jet tagging, {LAYERS[name].replace(' ', ', ')}: formats of its layers, multipliers of its chains."
    return make


jsc_tiny, jsc_toy, jsc_s, jsc_lab = (_factory(name) for name in LAYERS)
