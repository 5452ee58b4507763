"""Find which channels of a model are coupled, prove it, and build the model with other channel counts."""

from evonas.graph.batchnorm import recalibrate_batchnorm
from evonas.graph.chains import Chain, Chains, Extent, Frozen, Layer, Member
from evonas.graph.choose import Importance, group_l1, group_l2, legal_channels, round_channels
from evonas.graph.find import find_chains
from evonas.graph.prove import prove
from evonas.graph.resize import resize
from evonas.graph.trace import UntraceableModel

__all__ = [
    "Chain",
    "Chains",
    "Extent",
    "Frozen",
    "Importance",
    "Layer",
    "Member",
    "UntraceableModel",
    "find_chains",
    "group_l1",
    "group_l2",
    "legal_channels",
    "prove",
    "recalibrate_batchnorm",
    "resize",
    "round_channels",
]
