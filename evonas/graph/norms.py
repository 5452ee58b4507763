"""Rules for normalisation layers."""

from __future__ import annotations

from torch import Tensor

from evonas.graph.flow import Flow, ParamRef, Uniform
from evonas.graph.units import first_along, varying

__all__ = ["channel_norm", "group_norm", "layer_norm", "normalize", "prelu"]


def channel_norm(flow: Flow, ids: Tensor, params: list[ParamRef]) -> Tensor:
    """Batch and instance norm of (batch, channels, ...): each channel by itself, `params` (channels,)."""
    ids = flow.units.look(ids)
    moving = varying(ids)
    slots = [flow.slot(p.name, 0, p.shape[0], "keep") for p in params]
    if moving and 1 not in moving:
        for slot in slots:
            flow.units.freeze(slot, f"it normalises positions, not channels, at {flow.here}")
        return ids
    ids = flow.units.tie(ids, [1])
    for slot in slots:
        flow.units.unite(first_along(ids, [1]).reshape(-1), slot)
    return flow.units.look(ids)


def layer_norm(flow: Flow, ids: Tensor, normalized: tuple[int, ...], params: list[ParamRef]) -> Tensor:
    """Layer and RMS norm over the last dims of `ids`; `params` have the shape `normalized`."""
    ids = flow.units.look(ids)
    lead = ids.ndim - len(normalized)
    inside = set(range(lead, ids.ndim))
    if varying(ids) and not inside & set(varying(ids)):
        for parameter in params:
            reason = f"it normalises positions, not channels, at {flow.here}"
            flow.units.freeze(flow.free(parameter), reason)
        return ids
    ids = flow.units.tie(ids, inside)
    for parameter in params:
        flow.units.unite(first_along(ids, inside).reshape(normalized), flow.free(parameter))
    ids = flow.units.look(ids)
    flow.uniform.append(Uniform(f"a layer norm at {flow.here}", first_along(ids, inside).reshape(-1)))
    return ids


def group_norm(flow: Flow, ids: Tensor, groups: int, params: list[ParamRef]) -> Tensor:
    """Group norm of (batch, channels, ...): whole groups are units where there are many, else one channel
    of every group together."""
    ids = channel_norm(flow, ids, params)
    vector = first_along(ids, [1]).reshape(-1)
    blocks = vector.reshape(groups, -1)
    whole = bool((blocks == blocks[:, :1]).all())  # a grouped convolution before this may have decided
    across = bool((blocks == blocks[:1]).all())
    if groups > 1 and 1 in varying(ids) and not across:
        if whole or groups > blocks.shape[1]:
            flow.units.unite(blocks, blocks[:, :1])
            flow.units.note(vector, "groups")
            return flow.units.look(ids)
        flow.units.unite(blocks, blocks[:1])
        flow.units.note(vector, "group width")
    blocks = flow.units.roots(blocks)
    for block in blocks:
        flow.uniform.append(Uniform(f"a group norm at {flow.here}", block))
        if bool((block == blocks[0]).all()):
            break
    return flow.units.look(ids)


def normalize(flow: Flow, ids: Tensor, dim: int) -> Tensor:
    """Division by the norm along `dim`: dropping channels is fine, copies would change the norm."""
    ids = flow.units.look(ids)
    if dim % ids.ndim in varying(ids):
        ids = flow.units.tie(ids, [dim])
        flow.never.append(Uniform(f"a vector norm over them at {flow.here}", first_along(ids, [dim]).reshape(-1)))
    return ids


def prelu(flow: Flow, ids: Tensor, weight: ParamRef) -> Tensor:
    """PReLU with one slope, or one a channel (dim 1)."""
    if weight.shape[0] == 1:
        flow.units.freeze(flow.slot(weight.name, 0, 1, "keep"), "one slope serves all channels")
        return flow.units.look(ids)
    return channel_norm(flow, ids, [weight])
