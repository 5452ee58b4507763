"""Rules for ops that keep positions: element-wise arithmetic, pooling, reductions, softmax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from evonas.graph.flow import Flow
from evonas.graph.units import first_along, varying

__all__ = ["along", "meet", "reduce", "spatial"]


def meet(flow: Flow, operands: Iterable[Tensor]) -> Tensor:
    """Element-wise ops: units that meet become one. The ids of the result."""
    shape = flow.shape()
    result: Tensor | None = None
    for ids in operands:
        ids = flow.units.look(ids[(None,) * (len(shape) - ids.ndim)])
        result = ids if result is None else _meet_two(flow, result, ids)
    assert result is not None
    return flow.units.look(result.expand(shape))


def _meet_two(flow: Flow, first: Tensor, second: Tensor) -> Tensor:
    one, other = set(varying(first)), set(varying(second))
    # Dims in which one side varies and the other is a single broadcast position: there the varying side wins.
    one_wins = {d for d in one if second.shape[d] == 1}
    other_wins = {d for d in other if first.shape[d] == 1}
    shape = np.broadcast_shapes(first.shape, second.shape)
    if one_wins and other_wins:
        reason = f"channels of two tensors meet in an outer product at {flow.here}"
        flow.units.freeze(first, reason)
        flow.units.freeze(second, reason)
        return flow.units.fixed(reason).expand(shape)
    if other_wins:
        first, second, one, other = second, first, other, one
    if not ((one_wins or other_wins) and not other):
        flow.units.unite(first.expand(shape), second.expand(shape))
    else:
        _single(flow, second)
    return flow.units.look(first.expand(shape))


def _single(flow: Flow, ids: Tensor) -> None:
    """A lone free unit that is broadcast over channels can never be dropped."""
    flow.units.freeze(ids, f"its single channel is broadcast over others at {flow.here}")


def spatial(flow: Flow, ids: Tensor, rank: int) -> Tensor:
    """Pools and resampling over the last `rank` dims: channels keep their units."""
    shape = flow.shape()
    channel = len(shape) - rank - 1
    ids = flow.units.look(ids)
    if any(d > channel for d in varying(ids)):
        if channel in varying(ids):
            ids = flow.units.tie(ids, [channel])
        else:
            return _refused(flow, ids, f"neighbouring channels are mixed at {flow.here}", shape)
    kept = first_along(ids, range(channel + 1))
    return flow.units.look(kept.expand(shape))


def _refused(flow: Flow, ids: Tensor, reason: str, shape: tuple[int, ...]) -> Tensor:
    """The result of an op that cannot follow channels: it has none of its own."""
    flow.refuse(ids, reason)
    return flow.units.fixed(reason).expand(shape)


def reduce(flow: Flow, ids: Tensor, dims: Any, keepdim: bool) -> Tensor:
    """Means, sums, extrema over `dims` (None: all). Over all dims that vary, the channels are frozen."""
    ids = flow.units.look(ids)
    listed = range(ids.ndim) if dims is None else [dims] if isinstance(dims, int) else list(dims)
    gone = {d % ids.ndim for d in listed}
    lost = gone & set(varying(ids))
    if lost:
        kept = set(varying(ids)) - gone
        if kept:
            ids = flow.units.tie(ids, kept)
        else:
            ids = _refused(flow, ids, f"channels are reduced to one value at {flow.here}", ids.shape)
    ids = first_along(ids, set(range(ids.ndim)) - gone)
    return ids if keepdim else ids[tuple(0 if d in gone else slice(None) for d in range(ids.ndim))]


def along(flow: Flow, ids: Tensor, dim: int | None, what: str) -> Tensor:
    """Ops in which positions along `dim` see each other (softmax, cumsum, sort)."""
    ids = flow.units.look(ids)
    if dim is None or dim % max(ids.ndim, 1) in varying(ids):
        kept = set(varying(ids)) - ({dim % ids.ndim} if dim is not None else set(range(ids.ndim)))
        if kept:
            return flow.units.tie(ids, kept)
        flow.refuse(ids, f"{what} runs over channels at {flow.here}")
    return ids
