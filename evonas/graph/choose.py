"""Which units to keep, which to copy: from channel counts to copies of every unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from evonas.chains import Chain, round_channels
from evonas.errors import InvalidArgument
from evonas.graph.chains import Chains
from evonas.graph.structure import Structure
from evonas.graph.units import distinct

__all__ = [
    "Importance",
    "copies_for",
    "group_l1",
    "group_l2",
    "legal_channels",
    "round_channels",
    "unit_scores",
]

Importance = Callable[[Tensor, int], Tensor]


def group_l2(weight: Tensor, dim: int) -> Tensor:
    """The Euclidean norm of every slice of `weight` (any shape) along `dim`; shape (weight.shape[dim],)."""
    others = [d for d in range(weight.ndim) if d != dim]
    return torch.linalg.vector_norm(weight.detach(), dim=others) if others else weight.detach().abs()


def group_l1(weight: Tensor, dim: int) -> Tensor:
    """The sum of magnitudes of each slice of `weight` (any shape) along `dim`; shape (weight.shape[dim],)."""
    others = [d for d in range(weight.ndim) if d != dim]
    return torch.linalg.vector_norm(weight.detach(), 1, dim=others) if others else weight.detach().abs()


def unit_scores(structure: Structure, model: nn.Module, importance: Importance) -> Tensor:
    """Importance of every unit, shape (units,), summed over all the parameters it is tied through.

    Raises:
        InvalidArgument: `importance` returns the wrong shape.
    """
    scores = torch.zeros(structure.units, dtype=torch.float64)
    parameters = dict(model.named_parameters())
    for (name, dim), vector in structure.slots.items():
        if name not in parameters:
            continue
        values = importance(parameters[name], dim)
        if tuple(values.shape) != tuple(vector.shape):
            raise InvalidArgument(
                f"`importance` must return shape {tuple(vector.shape)} for `{name}` along dim {dim}, "
                f"got {tuple(values.shape)}"
            )
        held = vector >= 0
        scores.index_add_(0, vector[held], values[held.to(values.device)].double().cpu())
    return scores


def legal_channels(chain: Chain, multiplier: float, *, round_to: int = 1) -> int:
    """`chain.scaled(multiplier)`: the legal channel count nearest to `multiplier` times the original's."""
    return chain.scaled(multiplier, round_to=round_to)


def copies_for(chains: Chains, channels: Mapping[str, int], scores: Tensor) -> Tensor:
    """How many copies of each unit the resized model holds, int64, shape (units,): 0 is dropped.

    `scores`, shape (units,): units with the most are kept, and copied first.

    Raises:
        UnknownName: a name in `channels` is no chain.
        InvalidArgument: a count is illegal for its chain.
    """
    structure = chains.structure
    copies = torch.ones(structure.units, dtype=torch.int64)
    for name, count in channels.items():
        chain = chains[name]
        _check(chain, count)
        if count != chain.channels:
            mine = (structure.chain_of == int(name.removeprefix("chain"))).nonzero().reshape(-1)
            _fill(copies, structure, mine, count * len(mine) // chain.channels, scores)
    _check_norms(structure, copies)
    return copies


def _check(chain: Chain, count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise InvalidArgument(f"`channels` of `{chain.name}` must be an int, got {count!r}")
    if count % chain.step or count < chain.minimum:
        raise InvalidArgument(
            f"`channels` of `{chain.name}` must be a multiple of {chain.step} and at least {chain.minimum}, "
            f"got {count}; legal_channels(chain, multiplier) rounds to one"
        )
    if count > chain.channels and chain.growth == "none":
        raise InvalidArgument(
            f"`{chain.name}` cannot grow beyond {chain.channels} channels, got {count}: {chain.growth_note}"
        )
    if count > chain.channels and chain.growth == "integer" and count % chain.channels:
        raise InvalidArgument(
            f"`{chain.name}` can only grow by integer factors of {chain.channels}, got {count}: {chain.growth_note}"
        )


def _check_norms(structure: Structure, copies: Tensor) -> None:
    """A norm over several chains is only preserved when all of them grow alike."""
    extended = torch.cat([copies, torch.ones(1, dtype=torch.int64)])
    for place, vector in structure.uniform:
        held = extended[vector]
        if int(held.max()) > 1 and int(held.min()) != int(held.max()):
            raise InvalidArgument(
                f"{place} averages over channels of several chains: they can only grow together, by one integer factor"
            )


def _fill(copies: Tensor, structure: Structure, mine: Tensor, wanted: int, scores: Tensor) -> None:
    parts = structure.part_of[mine]
    for part in distinct(parts):
        here = mine[parts == part]
        share = wanted * len(here) // len(mine)
        labels = structure.block_of[here]
        blocks = [here[labels == label] for label in distinct(labels)]
        for block, count in zip(blocks, _apportion([len(b) for b in blocks], share), strict=True):
            order = block[torch.argsort(scores[block], descending=True, stable=True)]
            copies[block] = count // len(block)
            copies[order[: count % len(block)]] += 1


def _apportion(sizes: list[int], total: int) -> list[int]:
    """`total` shared out in proportion to `sizes`, by largest remainder, at least one each."""
    everything = sum(sizes)
    shares = [max(1, size * total // everything) for size in sizes]
    remainders = sorted(range(len(sizes)), key=lambda i: (-(sizes[i] * total % everything), i))
    for i in remainders * 2:
        if sum(shares) < total:
            shares[i] += 1
    while sum(shares) > total:
        shares[shares.index(max(shares))] -= 1
    return shares
