"""How each op that has sizes in its arguments is repaired when they are no longer right.

A repair gets the rewrite in progress, the original node and the shapes that are wanted, and edits the new
node's arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, fx

from evonas.graph.slicing import Layout
from evonas.graph.structure import Structure
from evonas.graph.units import first_along, varying

__all__ = ["REPAIRS", "SIZED", "Rewriting"]


class Rewriting(Protocol):
    """What a repair may read: `new` and `back` pair original and new nodes, `values` holds the original
    sizes and `env` the resized ones, both by original node."""

    layout: Layout
    structure: Structure
    values: dict[fx.Node, Any]
    env: dict[fx.Node, Any]
    new: dict[fx.Node, fx.Node]
    back: dict[fx.Node, fx.Node]


def _sizes(rewrite: Rewriting, node: fx.Node, wanted: Any) -> None:
    """view, reshape, expand: replace the sizes that are neither -1 nor right."""
    new = rewrite.new[node]
    rest = new.args[1:] or (new.kwargs.get("shape", new.kwargs.get("size")),)
    packed = len(rest) == 1 and isinstance(rest[0], (tuple, list, fx.Node)) and not _is_number(rewrite, rest[0])
    given: Any = rest[0] if packed else rest
    shape = list(wanted.shape)
    if isinstance(given, fx.Node) or len(given) != len(shape):
        sizes: list[Any] = shape
    else:
        sizes = []
        for size, right in zip(given, shape, strict=True):
            value = rewrite.env[rewrite.back[size]] if isinstance(size, fx.Node) else size
            sizes.append(size if value in (right, -1) else right)
    new.args = (new.args[0], tuple(sizes)) if packed or not new.args[1:] else (new.args[0], *sizes)
    new.kwargs = {}


def _is_number(rewrite: Rewriting, item: Any) -> bool:
    return isinstance(item, fx.Node) and isinstance(rewrite.env.get(rewrite.back[item]), int)


def _as_reshape(rewrite: Rewriting, node: fx.Node, wanted: Any) -> None:
    """Say the same with a reshape: the batch stays open where it comes first."""
    new = rewrite.new[node]
    shape = list(wanted.shape)
    new.op, new.target = "call_function", torch.reshape
    new.args, new.kwargs = (new.args[0], (-1, *shape[1:])), {}


def _split(rewrite: Rewriting, node: fx.Node, wanted: Any) -> None:
    new = rewrite.new[node]
    source = rewrite.env[node.args[0]]  # type: ignore[index]
    dims = [d for d in range(source.ndim) if len({w.shape[d] for w in wanted}) > 1 or _cut(source, wanted, d)]
    dim = dims[0] if dims else 0
    new.op, new.target = "call_function", torch.split
    new.args, new.kwargs = (new.args[0], [w.shape[dim] for w in wanted], dim), {}


def _cut(source: Tensor, wanted: Any, dim: int) -> bool:
    return bool(wanted[0].shape[dim] != source.shape[dim])


def _getitem(rewrite: Rewriting, node: fx.Node, wanted: Any) -> None:
    """A slice of channels: begin and end move to where the same units lie now."""
    new = rewrite.new[node]
    source = rewrite.structure.ids[node.args[0]]  # type: ignore[index]
    items = list(node.args[1]) if isinstance(node.args[1], tuple) else [node.args[1]]
    fixed: list[Any] = []
    dim = 0
    for position, item in enumerate(items):
        if item is Ellipsis:
            dim = source.ndim - sum(i is not None for i in items[position + 1 :])
            fixed.append(item)
            continue
        if item is None:
            fixed.append(item)
            continue
        fixed.append(_moved(rewrite, source, dim, item))
        dim += 1
    new.args = (new.args[0], tuple(fixed))
    new.args = fx.map_arg(new.args, lambda n: rewrite.new.get(n, n))


def _moved(rewrite: Rewriting, source: Tensor, dim: int, item: Any) -> Any:
    if dim not in varying(source):
        return item
    vector = first_along(source, [dim]).reshape(-1)
    size = len(vector)
    if isinstance(item, int):
        return rewrite.layout.count(vector[: item % size])
    if isinstance(item, slice) and item.step in (None, 1):
        values = fx.map_arg((item.start, item.stop), lambda n: rewrite.values[n])
        start, stop, _ = slice(*values).indices(size)
        return slice(rewrite.layout.count(vector[:start]), rewrite.layout.count(vector[:stop]))
    return item


def _narrow(rewrite: Rewriting, node: fx.Node, wanted: Any) -> None:
    new = rewrite.new[node]
    source = rewrite.structure.ids[node.args[0]]  # type: ignore[index]
    dim, start, length = fx.map_arg(node.args[1:4], lambda n: rewrite.values[n])
    if dim % source.ndim in varying(source):
        vector = first_along(source, [dim]).reshape(-1)
        begin = rewrite.layout.count(vector[:start])
        new.args = (new.args[0], dim, begin, rewrite.layout.count(vector[start : start + length]))


def _pad(rewrite: Rewriting, node: fx.Node, wanted: Any) -> None:
    new = rewrite.new[node]
    amounts = [*fx.map_arg(node.args[1], lambda n: rewrite.values[n])]
    for (owner, dim, side), vector in rewrite.structure.pads.items():
        if owner is node:
            place = 2 * (wanted.ndim - 1 - dim) + (side == "after")
            amounts[place] = rewrite.layout.count(vector)
    new.args = (new.args[0], amounts, *new.args[2:])


def _norm_shape(rewrite: Rewriting, node: fx.Node, wanted: Any) -> bool:
    shape: Any = node.args[1]
    new = rewrite.new[node]
    given = fx.map_arg(new.args[1], lambda n: rewrite.env[rewrite.back[n]])
    rank = len(shape) if isinstance(shape, (tuple, list)) else len(rewrite.values[shape])
    right = tuple(wanted.shape)[-rank:]
    if tuple(given) == right:
        return False
    new.args = (new.args[0], right, *new.args[2:])
    return True


def _norm_groups(rewrite: Rewriting, node: fx.Node, wanted: Any) -> bool:
    vector = first_along(rewrite.structure.ids[node], [1]).reshape(-1)
    old = rewrite.values[node.args[1]] if isinstance(node.args[1], fx.Node) else node.args[1]
    groups = rewrite.layout.groups(vector, old)
    new = rewrite.new[node]
    now = rewrite.env[node.args[1]] if isinstance(node.args[1], fx.Node) else old
    if groups == now:
        return False
    new.args = (new.args[0], groups, *new.args[2:])
    return True


def _conv_groups(rewrite: Rewriting, node: fx.Node, wanted: Any) -> bool:
    given: Any = node.kwargs.get("groups", node.args[6] if len(node.args) > 6 else 1)
    old = rewrite.values[given] if isinstance(given, fx.Node) else given
    now = rewrite.env[given] if isinstance(given, fx.Node) else given
    use = next((u for u in rewrite.structure.uses if u.node is node), None)
    if use is None or old == 1:
        return False
    groups = rewrite.layout.groups(use.inputs, old)
    if groups == now:
        return False
    new = rewrite.new[node]
    if len(new.args) > 6:
        new.args = (*new.args[:6], groups, *new.args[7:])
    else:
        new.kwargs = {**new.kwargs, "groups": groups}
    return True


def _scale(rewrite: Rewriting, node: fx.Node, wanted: Any) -> bool:
    """Attention's default scale depends on the width of a head: keep the original's."""
    query: Any = node.args[0] if node.args else node.kwargs["query"]
    width = rewrite.values[query].shape[-1]
    if node.kwargs.get("scale") is not None or rewrite.env[query].shape[-1] == width:
        return False
    new = rewrite.new[node]
    new.kwargs = {**new.kwargs, "scale": width**-0.5}
    return True


_Repair = Callable[[Rewriting, fx.Node, Any], None]
REPAIRS: dict[str, _Repair] = {
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
SIZED: dict[str, Callable[[Rewriting, fx.Node, Any], bool]] = {
    "layer_norm": _norm_shape,
    "rms_norm": _norm_shape,
    "group_norm": _norm_groups,
    "conv1d": _conv_groups,
    "conv2d": _conv_groups,
    "conv3d": _conv_groups,
    "conv_transpose1d": _conv_groups,
    "conv_transpose2d": _conv_groups,
    "conv_transpose3d": _conv_groups,
    "scaled_dot_product_attention": _scale,
}
