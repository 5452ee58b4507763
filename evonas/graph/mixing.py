"""Rules for ops that mix channels: linear and convolution layers, matrix products, attention."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from torch import Tensor

from evonas.graph.flow import Flow, ParamRef, Uniform, Use, layer_of
from evonas.graph.units import first_along, varying

__all__ = ["attention", "contract", "conv", "einsum", "embedding", "linear", "matmul"]


def linear(flow: Flow, ids: Tensor, weight: ParamRef, bias: ParamRef | None = None) -> Tensor:
    """`ids` (..., in) to (..., out). A layer that runs along another dim than the channels keeps its size."""
    ids = flow.units.look(ids)
    inputs, outputs = _sides(flow, weight)
    if bias is not None:
        flow.units.unite(flow.slot(bias.name, 0, bias.shape[0], "keep"), outputs)
    shape = flow.shape()
    moving = varying(ids)
    if moving and ids.ndim - 1 not in moving:
        reason = f"it mixes positions, not channels, at {flow.here}"
        flow.units.freeze(inputs, reason)
        flow.units.freeze(outputs, reason)
        _record(flow, weight, "linear", inputs, outputs, inputs)
        return flow.units.look(first_along(ids, range(ids.ndim - 1)).expand(shape))
    flow.units.unite(ids, inputs)
    _record(flow, weight, "linear", first_along(ids, [-1]).reshape(-1), outputs, inputs)
    return flow.units.look(outputs.expand(shape))


def _sides(flow: Flow, weight: ParamRef) -> tuple[Tensor, Tensor]:
    """Ids of a 2-D weight's in and out channels; `weight.shape` is (out, in) after any swap."""
    stored = weight.shape[::-1] if weight.swapped else weight.shape
    out_dim, in_dim = (1, 0) if weight.swapped else (0, 1)
    return (
        flow.slot(weight.name, in_dim, stored[in_dim], "in"),
        flow.slot(weight.name, out_dim, stored[out_dim], "out"),
    )


def _record(flow: Flow, weight: ParamRef, kind: str, inputs: Tensor, outputs: Tensor, group: Tensor) -> None:
    assert flow.node is not None
    if flow.node.op == "call_module":
        layer = str(flow.node.target)
    else:
        layer = layer_of(weight.name)
    flow.uses.append(Use(layer, kind, weight.name, inputs, outputs, group, flow.node))


def embedding(flow: Flow, weight: ParamRef) -> Tensor:
    """Rows of a table: the vocabulary is fixed, the columns are channels."""
    flow.units.freeze(flow.slot(weight.name, 0, weight.shape[0], "keep"), "it is a vocabulary")
    outputs = flow.slot(weight.name, 1, weight.shape[1], "out")
    _record(flow, weight, "embedding", outputs[:0], outputs, outputs[:0])
    return flow.units.look(outputs.expand(flow.shape()))


def conv(flow: Flow, ids: Tensor, weight: ParamRef, bias: ParamRef | None, groups: int, transposed: bool) -> Tensor:
    """Convolution of `ids` (..., channels, *spatial) with a weight (out, in/groups, *kernel), or
    (in, out/groups, *kernel) when `transposed`."""
    shape = flow.shape()
    channel = len(shape) - len(weight.shape) + 1
    ids = flow.units.look(ids)
    if varying(ids) and channel not in varying(ids):
        reason = f"a convolution slides over channels at {flow.here}"
        flow.refuse(ids, reason)
        inputs = flow.units.fixed(reason).expand(ids.shape[channel])
    else:
        inputs = first_along(flow.units.tie(ids, [channel]), [channel]).reshape(-1)
    in_dim, out_dim = (0, 1) if transposed else (1, 0)
    own_in = flow.slot(weight.name, in_dim, weight.shape[in_dim], "in" if groups == 1 else "keep")
    own_out = flow.slot(weight.name, out_dim, weight.shape[out_dim], "out")
    if groups == 1:
        flow.units.unite(inputs, own_in)
        outputs = own_out
    elif transposed:
        outputs = _group_transposed(flow, inputs, own_in, own_out, groups)
    else:
        _group(flow, weight, inputs, own_in, own_out, groups)
        outputs = own_out
    if bias is not None:
        flow.units.unite(flow.slot(bias.name, 0, bias.shape[0], "keep"), outputs)
    grouped = flow.units.fixed("the width of a group stays").expand(len(inputs) // groups)
    _record(flow, weight, "conv", inputs, outputs, grouped if transposed and groups > 1 else own_in)
    spread = outputs.reshape((-1,) + (1,) * (len(shape) - channel - 1))
    return flow.units.look(spread.expand(shape))


def _by_groups(flow: Flow, name: str, blocks: Tensor, width: int) -> bool:
    """Whether whole groups are the units (True), or one position of every group together (False).

    `blocks`, shape (groups, channels of a group), may be tied one way already; else the finer way is taken.
    """
    if name not in flow.choices:
        blocks = flow.units.roots(blocks)
        groups = blocks.shape[0]
        fixed = bool(flow.units.is_fixed(blocks).any())
        across = bool((blocks == blocks[:1]).all())
        whole = bool((blocks == blocks[:, :1]).all())
        wide = fixed or across or (groups <= width and not whole)
        flow.choices[name] = "width" if wide else "groups"
    return flow.choices[name] == "groups"


def _group(flow: Flow, weight: ParamRef, inputs: Tensor, own_in: Tensor, own_out: Tensor, groups: int) -> None:
    blocks_in, blocks_out = inputs.reshape(groups, -1), own_out.reshape(groups, -1)
    narrow = min(blocks_in.shape[1], blocks_out.shape[1])
    units = flow.units
    if narrow == 1 or _by_groups(flow, weight.name, blocks_in, narrow):
        units.freeze(own_in, "the width of a group stays")
        units.unite(blocks_in, blocks_in[:, :1])
        units.unite(blocks_out, blocks_in[:, :1])
        if len(own_in) > 1 or blocks_out.shape[1] > 1:
            units.note(own_out, "groups")
        return
    flow.roles[weight.name, 1].add("in")
    units.unite(blocks_in, own_in)
    units.unite(blocks_out, blocks_out[:1])
    units.note(own_out, "group width")
    units.note(own_in, "group width")


def _group_transposed(flow: Flow, inputs: Tensor, own_in: Tensor, own_out: Tensor, groups: int) -> Tensor:
    """Grouped transposed convolution, whole groups as units: weight (in, out/groups, *kernel)."""
    blocks = own_in.reshape(groups, -1)
    flow.units.unite(inputs, own_in)
    flow.units.freeze(own_out, "the width of a group stays")
    flow.units.unite(blocks, blocks[:, :1])
    flow.units.note(own_in, "groups")
    return flow.units.roots(blocks[:, :1]).expand(groups, len(own_out)).reshape(-1)


def matmul(flow: Flow, first: Tensor | ParamRef, second: Tensor | ParamRef) -> Tensor:
    """`first @ second`; with a 2-D parameter on the right it is a linear layer."""
    if isinstance(second, ParamRef) and len(second.shape) == 2 and isinstance(first, Tensor):
        return linear(flow, first, second._replace(shape=second.shape[::-1], swapped=not second.swapped))
    one = flow.free(first) if isinstance(first, ParamRef) else first
    other = flow.free(second) if isinstance(second, ParamRef) else second
    if min(one.ndim, other.ndim) < 2:
        flow.refuse(one, f"a vector product at {flow.here}")
        flow.refuse(other, f"a vector product at {flow.here}")
        fixed: Tensor = flow.constant(f"it comes from a vector product at {flow.here}")
        return fixed
    rank = max(one.ndim, other.ndim)
    batch = string.ascii_lowercase[: rank - 2]
    one, other = one[(None,) * (rank - one.ndim)], other[(None,) * (rank - other.ndim)]
    return contract(flow, one, batch + "yz", other, batch + "zw", batch + "yw")


def einsum(flow: Flow, equation: str, *operands: Any) -> Tensor:
    """Einsum of two tensors; anything else freezes what it reads."""
    tensors = [flow.free(o) if isinstance(o, ParamRef) else o for o in operands]
    terms, _, result = equation.replace(" ", "").partition("->")
    labels = terms.split(",")
    plain = len(labels) == 2 and "." not in equation and "->" in equation
    if not plain or any(len(set(term)) < len(term) for term in labels):
        fixed: Tensor = flow.opaque(tensors, f"einsum `{equation}` is not followed at {flow.here}")
        return fixed
    return contract(flow, tensors[0], labels[0], tensors[1], labels[1], result)


def attention(flow: Flow, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention on (..., heads, length, width)."""
    batch = string.ascii_lowercase[: query.ndim - 2]
    shape = (*np.broadcast_shapes(query.shape[:-2], key.shape[:-2]), query.shape[-2], key.shape[-2])
    scores = contract(flow, query, batch + "yz", key, batch + "xz", batch + "yx", shape)
    if mask is not None:
        # The mask only ties what varies; a constant mask is broadcast over the heads.
        mask = flow.units.look(mask[(None,) * (len(shape) - mask.ndim)])
        if varying(mask):
            flow.units.unite(scores, mask)
    return contract(flow, scores, batch + "yx", value, batch + "xw", batch + "yw")


def contract(
    flow: Flow,
    first: Tensor,
    first_labels: str,
    second: Tensor,
    second_labels: str,
    result: str,
    shape: tuple[int, ...] | None = None,
) -> Tensor:
    """A product of two activations, summed over the labels that `result` does not have.

    Units along a shared label that stays (heads) swallow everything inside them; units along a summed
    label are united; channels of both operands side by side (a Gram matrix) are frozen.
    """
    pair = [(flow.units.look(first), first_labels), (flow.units.look(second), second_labels)]
    shared = [c for c in first_labels if c in second_labels]
    for label in sorted(shared, key=lambda c: c not in result):  # those that stay come first
        pair = _tie_label(flow, pair, label, stays=label in result)
    outer = [{labels[d] for d in varying(ids)} & set(result) for ids, labels in pair]
    if outer[0] - set(shared) and outer[1] - set(shared):
        reason = f"the product of two sets of channels at {flow.here}"
        for ids, _ in pair:
            flow.units.freeze(ids, reason)
        pair = [(flow.units.look(ids), labels) for ids, labels in pair]
    ids, labels = pair[0] if len(outer[0]) >= len(outer[1]) else pair[1]
    return _spread(flow, ids, labels, result, shape or tuple(flow.shape()))


def _tie_label(flow: Flow, pair: list[tuple[Tensor, str]], label: str, stays: bool) -> list[tuple[Tensor, str]]:
    dims = [labels.index(label) for _, labels in pair]
    if not any(d in varying(ids) for (ids, _), d in zip(pair, dims, strict=True)):
        return pair
    full = [ids.shape[d] > 1 for (ids, _), d in zip(pair, dims, strict=True)]
    tied = []
    for (ids, labels), dim, used in zip(pair, dims, full, strict=True):
        tied.append((flow.units.tie(ids, [dim]) if used else ids, labels))
    if all(full):
        vectors = [first_along(ids, [d]).reshape(-1) for (ids, _), d in zip(tied, dims, strict=True)]
        flow.units.unite(*vectors)
        if stays:
            flow.units.note(vectors[0], "heads")
        else:
            flow.never.append(Uniform(f"a product sums over them at {flow.here}", vectors[0]))
    return [(flow.units.look(ids), labels) for ids, labels in tied]


def _spread(flow: Flow, ids: Tensor, labels: str, result: str, shape: tuple[int, ...]) -> Tensor:
    kept = first_along(ids, [d for d, label in enumerate(labels) if label in result])
    dropped = [d for d, label in enumerate(labels) if label not in result]
    kept = kept[tuple(0 if d in dropped else slice(None) for d in range(kept.ndim))]
    order = [label for label in labels if label in result]
    kept = kept.permute([order.index(label) for label in result if label in order])
    for position, label in enumerate(result):
        if label not in order:
            kept = kept.unsqueeze(position)
    return flow.units.look(kept.expand(shape))
