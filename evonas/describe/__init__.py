"""Describe a module as the costs see it, with channel counts that follow its chains.

The description is made once, from the traced graph; costs of any channel counts then need no module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from evonas.describe.layers import Describer
from evonas.describe.operations import operations
from evonas.graph import Chains
from evonas.network import Network

__all__ = ["describe"]


def describe(chains: Chains, *, names: Mapping[str, str] | None = None) -> Network:
    """The layers of the model that `chains` was found on, in the order in which they run, for one sample.

    Parameters and MACs of the description are those of the model at any legal channel counts: linear layers and
    convolutions of any kind, batch norms, ReLU, embeddings, attention and other products of two activations; every
    other parameter (layer norms) is counted as what it holds. The first dim of the first example input is taken to be
    the batch.

    Args:
        chains: of `find_chains`.
        names: new names for chains, such as `{"chain0": "hidden"}`.
    """
    new = dict(names or {})
    found = tuple(replace(chain, name=new.get(chain.name, chain.name)) for chain in chains.values())
    describer = Describer(chains, found)
    return Network(describer.layers(), found, operations(describer))
