"""Rules for data movement: the real op runs on the ids, and each id is read where it lands."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from evonas.graph.flow import Flow
from evonas.graph.units import first_along, varying

__all__ = ["MOVEMENT", "MOVEMENT_MODULES", "index", "move", "pad", "run_on_ids"]

_MOVEMENT_NAMES = (
    "view reshape flatten ravel unflatten permute transpose t T mT movedim moveaxis swapaxes swapdims "
    "squeeze unsqueeze expand expand_as view_as reshape_as repeat tile repeat_interleave cat concat "
    "concatenate stack chunk split tensor_split unbind narrow select getitem flip roll contiguous clone "
    "detach pixel_shuffle pixel_unshuffle channel_shuffle unfold broadcast_to diagonal select_index "
    "_index_channels"
)
MOVEMENT = frozenset(_MOVEMENT_NAMES.split())
MOVEMENT_MODULES = (nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle)
_RESHAPES = {"view": "reshape", "view_as": "reshape_as", "unflatten": "unflatten"}


def run_on_ids(target: Any, *args: Any, **kwargs: Any) -> Any:
    """Run the movement op `target` (function, method name or module) on integers instead of values."""
    if isinstance(target, str):
        # A view of expanded ids may not exist where a view of the real values does; a reshape always does.
        owner, *rest = args
        return getattr(owner, _RESHAPES.get(target, target))(*rest, **kwargs)
    if target is F.unfold:
        return F.unfold(args[0].double(), *args[1:], **kwargs).long()
    if target is torch.repeat_interleave or isinstance(target, nn.Module):
        args = tuple(a.contiguous() if isinstance(a, Tensor) else a for a in args)
    return target(*args, **kwargs)


def move(flow: Flow, target: Any, *args: Any, **kwargs: Any) -> Any:
    """The ids that the movement op `target` returns."""
    return _looked(flow, run_on_ids(target, *args, **kwargs))


def _looked(flow: Flow, result: Any) -> Any:
    return tree_map(lambda ids: flow.units.look(ids) if isinstance(ids, Tensor) else ids, result)


def index(flow: Flow, ids: Tensor, items: Any) -> Tensor:
    """`ids[items]`; an index tensor along channels cannot shrink with them, so it freezes them."""
    items = items if isinstance(items, tuple) else (items,)
    dim, fancy = 0, []
    for position, item in enumerate(items):
        if item is Ellipsis:
            dim = ids.ndim - sum(i is not None for i in items[position + 1 :])
        elif item is not None:
            fancy += [dim] if isinstance(item, (Tensor, list)) else []
            if isinstance(item, slice) and item.step not in (None, 1) and dim in varying(flow.units.look(ids)):
                flow.refuse(ids, f"channels are picked in steps of {item.step} at {flow.here}")
            dim += item.ndim if isinstance(item, Tensor) and item.dtype == torch.bool else 1
    if set(fancy) & set(varying(flow.units.look(ids))):
        flow.refuse(ids, f"channels are picked by an index tensor at {flow.here}")
    return flow.units.look(ids[items])


def pad(flow: Flow, ids: Tensor, amounts: Any, mode: str = "constant", *_: Any) -> Tensor:
    """Padding: along channels the new positions get ids of their own, so that the pad shrinks with them."""
    assert flow.node is not None
    ids = flow.units.look(ids)
    for position in range(len(amounts) // 2):
        before, after = int(amounts[2 * position]), int(amounts[2 * position + 1])
        dim = ids.ndim - 1 - position
        if before == after == 0:
            continue
        if dim not in varying(ids):
            shape = list(ids.shape)
            shape[dim] += before + after
            ids = first_along(ids, set(range(ids.ndim)) - {dim}).expand(shape)
            continue
        if mode != "constant":
            flow.refuse(ids, f"channels are padded in mode `{mode}` at {flow.here}")
        ids = _pad_channels(flow, flow.node, ids, dim, before, after)
    return ids


def _pad_channels(flow: Flow, node: fx.Node, ids: Tensor, dim: int, before: int, after: int) -> Tensor:
    start, stop = max(0, -before), ids.shape[dim] - max(0, -after)
    parts = [ids.narrow(dim, start, stop - start)]
    for side, amount in (("before", before), ("after", after)):
        if amount <= 0:
            continue
        key = (node, dim, side)
        if key not in flow.pads:
            flow.pads[key] = flow.units.new(amount)
        shape = list(ids.shape)
        shape[dim] = amount
        fresh = flow.pads[key].reshape([amount if d == dim else 1 for d in range(ids.ndim)]).expand(shape)
        parts = [fresh, *parts] if side == "before" else [*parts, fresh]
    return flow.units.look(torch.cat(parts, dim))
