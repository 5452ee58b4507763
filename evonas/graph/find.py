"""Find the chains of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from evonas.graph.assemble import assemble
from evonas.graph.chains import Chains
from evonas.graph.propagate import propagate
from evonas.graph.prove import prove
from evonas.graph.shuffles import find_shuffles
from evonas.graph.trace import trace

__all__ = ["find_chains"]


def find_chains(
    model: nn.Module, example_inputs: Tensor | Sequence[Any], *, proof: bool = True, seed: int = 0
) -> Chains:
    """Which channels of `model` are coupled, and what cannot change and why.

    The model is traced with torch.fx and every channel is followed through the real data movement. Each
    chain is then proved on a randomised copy (`prove`); one that fails is frozen with a reason. `model` is
    not modified.

    Args:
        model: in evaluation mode.
        example_inputs: a tensor, or a tuple of forward's arguments; a small batch is enough.
        proof: False skips the proof.
        seed: of the random weights of the proof.

    Raises:
        InvalidArgument: the model is in training mode or does not accept the inputs.
        UntraceableModel: torch.fx cannot trace the model; the message names the line.
    """
    traced = trace(model, example_inputs)
    shuffles = find_shuffles(model, traced)
    chains = assemble(propagate(model, traced, shuffles), shuffles)
    return prove(chains, seed=seed) if proof else chains
