"""The finished analysis in dense form: units numbered from 0, -1 for what is fixed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from evonas.graph.flow import Flow
from evonas.graph.shuffles import Shuffle
from evonas.graph.trace import Traced
from evonas.graph.units import distinct, first_along, tally, varying

__all__ = ["Slots", "Structure", "UseRecord", "densify", "partition"]

_COARSEST = 4  # halves and quarters of a chain stay together: one gene, in steps of that many units

Slots = dict[tuple[str, int], Tensor]


@dataclass(frozen=True)
class UseRecord:
    """One call of a channel-mixing layer; unit numbers, shape (channels,)."""

    layer: str
    kind: str
    weight: str
    inputs: Tensor
    outputs: Tensor
    group_inputs: Tensor
    positions: int
    node: fx.Node


@dataclass(frozen=True)
class Structure:
    """Everything `resize` and `prove` need to know about one model.

    Attributes:
        ids: for each node, unit numbers in the shape of its value.
        slots: unit numbers, shape (size,), of (parameter, dim).
        readers: the slots whose entries are summed over: copies of a unit share them.
        pads: unit numbers of channels that a pad adds, by (node, dim, side).
        uniform: places and units of normalisations over several units.
        never: places and units that must not be copied.
        chain_of: shape (units,), the chain of each unit.
        part_of: within a chain, the part that the same layers make and read; parts keep their proportion,
            so that the channels of every layer are affine in the chain's.
        block_of: within a part, the units that take the same way through the model. How many are kept of
            each block follows from the chain's count alone, never from the weights.
    """

    model: nn.Module
    flow: Flow
    traced: Traced
    shuffles: dict[fx.Node, Shuffle]
    ids: dict[fx.Node, Any]
    slots: Slots
    readers: frozenset[tuple[str, int]]
    pads: dict[tuple[fx.Node, int, str], Tensor]
    uses: tuple[UseRecord, ...]
    uniform: tuple[tuple[str, Tensor], ...]
    never: tuple[tuple[str, Tensor], ...]
    chain_of: Tensor
    part_of: Tensor
    block_of: Tensor
    sample: Tensor  # one id of the flow for each unit
    shapes: dict[str, tuple[int, ...]]  # of every parameter and buffer of the original

    @property
    def units(self) -> int:
        """How many free units there are."""
        return len(self.chain_of)


def densify(flow: Flow, shuffles: dict[fx.Node, Shuffle]) -> Structure:
    """The structure of a finished flow."""
    everything = torch.arange(len(flow.units))
    roots = flow.units.roots(everything)
    free = ~flow.units.is_fixed(everything)
    slots = {**flow.slots, **_element_slots(flow)}
    used = torch.cat([flow.units.roots(v) for v in [*slots.values(), *flow.pads.values()]] or [everything])
    sample = distinct(used[free[used]])
    number = torch.full((len(roots),), -1)
    number[sample] = torch.arange(len(sample))
    dense = number[roots]

    def convert(ids: Any) -> Any:
        return tree_map(lambda t: _dense(dense, t) if isinstance(t, Tensor) and t.dtype == torch.int64 else t, ids)

    final = {key: dense[ids] for key, ids in slots.items()}
    pads = {key: dense[ids] for key, ids in flow.pads.items()}
    ids = {node: convert(value) for node, value in flow.ids.items() if _is_activation(flow, node)}
    out = [key for key in final if "out" in flow.roles.get(key, set())]
    chains = partition(len(sample), [final[k] for k in out] + list(pads.values()))
    orphans = chains == 0
    chains = partition(len(sample), [*final.values()], chains, orphans)
    dense_uses = tuple(_use(flow, dense, use) for use in flow.uses)
    sides = [v for use in dense_uses for v in (use.inputs, use.outputs)]
    parts = partition(len(sample), [*final.values(), *sides])
    chains = _split_uneven(chains, parts)
    parts = partition(len(sample), [*final.values(), *sides], chains)
    paths = [t for value in ids.values() for t in _tensors(value)]
    return Structure(
        model=flow.model,
        flow=flow,
        traced=flow.traced,
        shuffles=shuffles,
        ids=ids,
        slots=final,
        readers=frozenset(key for key, roles in flow.roles.items() if "in" in roles),
        pads=pads,
        uses=dense_uses,
        uniform=tuple((u.place, dense[u.ids]) for u in flow.uniform),
        never=tuple((u.place, dense[u.ids]) for u in flow.never) + _conflicts(flow, final),
        chain_of=_by_first(chains, list(final.values())),
        part_of=parts,
        block_of=partition(len(sample), [*pads.values(), *_slices(flow, ids), *paths], parts),
        sample=sample,
        shapes={n: tuple(t.shape) for n, t in [*flow.model.named_parameters(), *flow.model.named_buffers()]},
    )


def _dense(dense: Tensor, ids: Tensor) -> Tensor:
    small = first_along(ids, [d for d in range(ids.ndim) if ids.stride(d) != 0])
    return dense[small].expand(ids.shape)


def _is_activation(flow: Flow, node: fx.Node) -> bool:
    return bool(_tensors(flow.traced.values.get(node))) and not isinstance(flow.ids[node], type(None))


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value for t in _tensors(v)] if isinstance(value, (tuple, list)) else []


def _element_slots(flow: Flow) -> Slots:
    """Parameters that meet activations directly, as vectors along the one dim in which they vary."""
    found: Slots = {}
    for name, ids in flow.elements.items():
        ids = flow.units.look(ids)
        for dim in varying(ids):
            found[name, dim] = first_along(ids, [dim]).reshape(-1)
    return found


def _use(flow: Flow, dense: Tensor, use: Any) -> UseRecord:
    value = flow.traced.values[use.node]
    node = use.node
    kind = type(flow.model.get_submodule(node.target)).__name__ if node.op == "call_module" else use.kind
    return UseRecord(
        layer=use.layer,
        kind=kind,
        weight=use.weight,
        inputs=dense[use.inputs],
        outputs=dense[use.outputs],
        group_inputs=dense[use.group_inputs],
        positions=value.numel() // max(1, len(use.outputs)),
        node=node,
    )


def _conflicts(flow: Flow, slots: Slots) -> tuple[tuple[str, Tensor], ...]:
    """Weights that make channels in one place and sum over them in another: copies cannot satisfy both."""
    return tuple(
        (f"the tied weight `{key[0]}` both makes and reads them", slots[key])
        for key, roles in flow.roles.items()
        if {"in", "out"} <= roles
    )


def _slices(flow: Flow, ids: dict[fx.Node, Any]) -> list[Tensor]:
    """For every slice of channels, the ids before it: where it begins must not depend on what is kept."""
    found = []
    for node in flow.traced.graph.nodes:
        name = getattr(node.target, "__name__", node.target)
        if name not in ("getitem", "narrow", "select") or not node.args or not isinstance(node.args[0], fx.Node):
            continue
        source, result = ids.get(node.args[0]), ids.get(node)
        if not isinstance(source, Tensor) or not isinstance(result, Tensor) or not varying(source):
            continue
        vector = first_along(source, varying(source)).reshape(-1)
        inside = torch.isin(vector, distinct(first_along(result, varying(result))))
        if bool(inside.any()):
            found.append(vector[: int(inside.nonzero()[0])])
    return found


def partition(units: int, vectors: Iterable[Tensor], start: Tensor | None = None, only: Tensor | None = None) -> Tensor:
    """Classes, shape (units,), of units that every vector holds equally often; 0 for units in none.

    `start` refines given classes instead of one, in `only` (bool, shape (units,)) the units to refine.
    """
    classes = np.zeros(units, dtype=np.int64) if start is None else start.numpy().copy()
    fresh = int(classes.max(initial=0)) + 1
    chosen = np.ones(units, dtype=bool) if only is None else only.numpy()
    for vector in vectors:
        cut = first_along(vector, [d for d in range(vector.ndim) if vector.stride(d) != 0]).reshape(-1)
        found, counts = np.unique(cut.numpy(), return_counts=True)
        keep = (found >= 0) & (chosen[found] if units else False)
        found, counts = found[keep], counts[keep]
        if len(found) == 0:
            continue
        pairs = np.stack([classes[found], counts], axis=1)
        _, inverse = np.unique(pairs, axis=0, return_inverse=True)
        classes[found] = fresh + inverse.reshape(-1)
        fresh += int(inverse.max()) + 1
    return torch.from_numpy(classes)


def _split_uneven(chains: Tensor, parts: Tensor) -> Tensor:
    """Chains cut into their parts where the parts have no simple proportion."""
    chains = chains.clone()
    for label in distinct(chains).tolist():
        mine = chains == label
        sizes = tally(parts[mine])[1]
        if sum(sizes) // gcd(*sizes) > _COARSEST:
            chains[mine] = int(chains.max()) + 1 + parts[mine]
    return chains


def _by_first(classes: Tensor, vectors: list[Tensor]) -> Tensor:
    """Renumber classes 0, 1, ... in the order in which the vectors first show them."""
    order: dict[int, int] = {}
    for vector in vectors:
        for label in dict.fromkeys(classes[vector[vector >= 0]].tolist()):
            order.setdefault(label, len(order))
    for label in classes.tolist():
        order.setdefault(label, len(order))
    return torch.tensor([order[label] for label in classes.tolist()], dtype=torch.int64)
