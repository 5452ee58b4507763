"""The models of the chain tests, and one of their networks under a random plan of all slots."""

from __future__ import annotations

import numpy as np
from graph.models_odd import ODD
from graph.models_real import REAL
from graph.models_small import SMALL
from graph.reference import randomise
from torch import Tensor, nn

from evonas.describe import describe
from evonas.graph import find_chains, resize
from evonas.network import OPTIONAL, TYPES
from evonas.plan import Plan
from evonas.problem.joint import JointSpace, plan_space
from evonas.quantize import PostTraining
from evonas.training import seeded

MODELS = {**SMALL, **REAL, **ODD}


def any_plan(name: str, seed: int) -> tuple[PostTraining, Plan, nn.Module, Tensor]:
    """A random plan of model `name` with formats for every tensor that can have one, its network, and an input."""
    build, inputs = MODELS[name]
    model = seeded(lambda: randomise(build()), 0).float().eval()
    chains = find_chains(model, inputs)
    network = describe(chains)
    if any(layer.norm for layer in network.layers) and seed % 2:
        network = network.folded()
    types = {layer.type for layer in network.layers if layer.optional or layer.type in TYPES}
    asked = [kind for kind in (*TYPES, *OPTIONAL) if kind in types]
    tensors = ("data_in", "weight", "bias", "data_out")
    widths = ("fixed4", "int8", "uint4", "fp8e4m3", "log4", 8)
    space = plan_space(network, JointSpace(widths, (0.5, 1), types=asked, tensors=tensors))
    plan = space.plan(space.space.sample(1, np.random.default_rng(seed))[0])
    counts = {chain: count for chain, count in plan.channels if count != chains[chain].channels}
    sized = resize(model, counts, chains=chains)
    return PostTraining(sized, inputs, space.network), plan, sized, inputs
