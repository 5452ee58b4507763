"""The models of the chain tests, and one of their networks under a random plan of all slots."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from graph.models_odd import ODD
from graph.models_real import REAL
from graph.models_small import SMALL
from graph.reference import randomise
from torch import Tensor, nn

from evonas.describe import describe
from evonas.graph import find_chains, resize
from evonas.network import OPTIONAL, TYPES
from evonas.plan import Plan, PlanSpace
from evonas.problem.joint import JointSpace, plan_space
from evonas.quantize import PostTraining
from evonas.space import IntArray
from evonas.training import seeded

MODELS = {**SMALL, **REAL, **ODD}


@dataclass(frozen=True)
class Ready:
    """A model with formats for every tensor that can have one, resized as a random genome says."""

    network: PostTraining
    space: PlanSpace
    genome: IntArray
    sized: nn.Module
    inputs: Tensor

    @property
    def plan(self) -> Plan:
        return self.space.plan(self.genome)


@cache
def any_plan(name: str, seed: int) -> Ready:
    """A random plan of model `name`; batch norms are folded when `seed` is odd."""
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
    genome = space.space.sample(1, np.random.default_rng(seed))[0]
    plan = space.plan(genome)
    counts = {chain: count for chain, count in plan.channels if count != chains[chain].channels}
    sized = resize(model, counts, chains=chains)
    return Ready(PostTraining(sized, inputs, space.network), space, genome, sized, inputs)
