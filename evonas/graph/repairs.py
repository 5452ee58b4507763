"""How each op that has sizes in its arguments is repaired when they are no longer right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from evonas.graph.slicing import Layout
from evonas.graph.structure import Structure
from evonas.graph.units import first_along, varying

__all__ = ["REPAIRS", "SIZED", "Fault", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """The state of a rewrite: original nodes to their old values, new values and new nodes, and back."""

    layout: Layout
    structure: Structure
    old: dict[fx.Node, Any]
    now: dict[fx.Node, Any]
    new: dict[fx.Node, fx.Node]
    back: dict[fx.Node, fx.Node]


@dataclass(frozen=True)
class Fault:
    """A node whose sizes are wrong; `wanted` is what it must return, as meta tensors."""

    sizes: Sizes
    node: fx.Node
    wanted: Any

    @property
    def new(self) -> fx.Node:
        """The node to repair."""
        return self.sizes.new[self.node]

    @property
    def source(self) -> fx.Node:
        """The original node that the op reads first."""
        source: Any = self.node.args[0] if self.node.args else self.node.kwargs["input"]
        assert isinstance(source, fx.Node)
        return source

    def old(self, argument: Any) -> Any:
        """The original value of an argument of the original node."""
        return fx.map_arg(argument, lambda n: self.sizes.old[n])

    def now(self, argument: Any) -> Any:
        """The value at the new sizes of an argument of the new node."""
        return fx.map_arg(argument, lambda n: self.sizes.now[self.sizes.back[n]])

    def renewed(self, argument: Any) -> Any:
        """An argument of the original node in terms of new nodes."""
        return fx.map_arg(argument, lambda n: self.sizes.new[n])


def _sizes(fault: Fault) -> None:
    """view, reshape, expand: replace the sizes that are neither -1 nor right."""
    new, right = fault.new, list(fault.wanted.shape)
    rest: Any = new.args[1:] or (new.kwargs.get("shape", new.kwargs.get("size")),)
    packed = len(rest) == 1 and not isinstance(fault.now(rest[0]), int)
    given = rest[0] if packed else rest
    if isinstance(given, fx.Node) or len(given) != len(right):
        sizes: list[Any] = right
    else:
        values = [fault.now(size) for size in given]
        sizes = [g if v in (r, -1) else r for g, v, r in zip(given, values, right, strict=True)]
    new.args = (new.args[0], tuple(sizes)) if packed else (new.args[0], *sizes)
    new.kwargs = {}


def _as_reshape(fault: Fault) -> None:
    """unflatten, squeeze: say the same with a reshape; the batch, which comes first, stays open."""
    new = fault.new
    new.op, new.target = "call_function", torch.reshape
    new.args, new.kwargs = (new.args[0], (-1, *fault.wanted.shape[1:])), {}


def _split(fault: Fault) -> None:
    """split, chunk: write down the sizes of the parts."""
    new, wanted = fault.new, fault.wanted
    source = fault.sizes.now[fault.source]
    dims = [d for d in range(source.ndim) if any(w.shape[d] != source.shape[d] for w in wanted)]
    dim = dims[0] if dims else 0
    new.op, new.target = "call_function", torch.split
    new.args, new.kwargs = (new.args[0], [w.shape[dim] for w in wanted], dim), {}


def _getitem(fault: Fault) -> None:
    """A slice of channels: begin and end move to where the same units lie now."""
    source = fault.sizes.structure.ids[fault.source]
    given = fault.node.args[1]
    items: list[Any] = list(given) if isinstance(given, tuple) else [given]
    moved: list[Any] = []
    dim = 0
    for position, item in enumerate(items):
        if item is Ellipsis:
            dim = source.ndim - sum(i is not None for i in items[position + 1 :])
        if item is None or item is Ellipsis:
            moved.append(item)
            continue
        moved.append(_moved(fault, source, dim, item))
        dim += 1
    fault.new.args = (fault.new.args[0], tuple(moved))


def _moved(fault: Fault, source: Tensor, dim: int, item: Any) -> Any:
    if dim not in varying(source):
        return fault.renewed(item)
    vector = first_along(source, [dim]).reshape(-1)
    count = fault.sizes.layout.count
    if isinstance(item, int):
        return count(vector[: item % len(vector)])
    if isinstance(item, slice) and item.step in (None, 1):
        start, stop, _ = slice(fault.old(item.start), fault.old(item.stop)).indices(len(vector))
        return slice(count(vector[:start]), count(vector[:stop]))
    return fault.renewed(item)


def _narrow(fault: Fault) -> None:
    source = fault.sizes.structure.ids[fault.source]
    dim, start, length = fault.old(fault.node.args[1:4])
    if dim % source.ndim in varying(source):
        vector = first_along(source, [dim]).reshape(-1)
        count = fault.sizes.layout.count
        part = count(vector[start : start + length])
        fault.new.args = (fault.new.args[0], dim, count(vector[:start]), part)


def _pad(fault: Fault) -> None:
    """A pad of channels shrinks with the channels it is added to."""
    amounts = list(fault.old(fault.node.args[1]))
    for (owner, dim, side), vector in fault.sizes.structure.pads.items():
        if owner is fault.node:
            place = 2 * (fault.wanted.ndim - 1 - dim) + (side == "after")
            amounts[place] = fault.sizes.layout.count(vector)
    fault.new.args = (fault.new.args[0], amounts, *fault.new.args[2:])


def _norm_shape(fault: Fault) -> bool:
    """The shape that a functional layer norm is told; True when it had to change."""
    given = tuple(fault.now(fault.new.args[1]))
    right = tuple(fault.wanted.shape)[-len(given) :]
    if given == right:
        return False
    fault.new.args = (fault.new.args[0], right, *fault.new.args[2:])
    return True


def _norm_groups(fault: Fault) -> bool:
    """The groups that a functional group norm is told."""
    vector = first_along(fault.sizes.structure.ids[fault.node], [1]).reshape(-1)
    groups = fault.sizes.layout.groups(vector, fault.old(fault.node.args[1]))
    if groups == fault.now(fault.new.args[1]):
        return False
    fault.new.args = (fault.new.args[0], groups, *fault.new.args[2:])
    return True


def _conv_groups(fault: Fault) -> bool:
    """The groups that a functional convolution is told."""
    node, new = fault.node, fault.new
    place = 6
    old = fault.old(node.args[place] if len(node.args) > place else node.kwargs.get("groups", 1))
    now = fault.now(new.args[place] if len(new.args) > place else new.kwargs.get("groups", 1))
    use = next((u for u in fault.sizes.structure.uses if u.node is node), None)
    groups = fault.sizes.layout.groups(use.inputs, old) if use is not None and old > 1 else old
    if groups == now:
        return False
    if len(new.args) > place:
        new.args = (*new.args[:place], groups, *new.args[place + 1 :])
    else:
        new.kwargs = {**new.kwargs, "groups": groups}
    return True


def _scale(fault: Fault) -> bool:
    """Attention's default scale depends on the width of a head: keep the original's."""
    query: Any = fault.node.args[0] if fault.node.args else fault.node.kwargs["query"]
    width = fault.sizes.old[query].shape[-1]
    if fault.node.kwargs.get("scale") is not None or fault.sizes.now[query].shape[-1] == width:
        return False
    fault.new.kwargs = {**fault.new.kwargs, "scale": width**-0.5}
    return True


# Data movement: repaired when the result has the wrong shape.
REPAIRS: dict[str, Callable[[Fault], None]] = {
    "view": _sizes,
    "reshape": _sizes,
    "expand": _sizes,
    "broadcast_to": _sizes,
    "unflatten": _as_reshape,
    "squeeze": _as_reshape,
    "split": _split,
    "chunk": _split,
    "tensor_split": _split,
    "getitem": _getitem,
    "narrow": _narrow,
    "pad": _pad,
}
# Computations that are told a size: each says whether it had to change.
SIZED: dict[str, Callable[[Fault], bool]] = {
    "layer_norm": _norm_shape,
    "rms_norm": _norm_shape,
    "group_norm": _norm_groups,
    "scaled_dot_product_attention": _scale,
    **{f"conv{n}d": _conv_groups for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _conv_groups for n in (1, 2, 3)},
}
