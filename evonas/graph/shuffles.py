"""Find view-transpose-view sequences that only permute channels, to treat each as one index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from evonas.graph.trace import Traced

__all__ = ["Shuffle", "find_shuffles", "permutation"]

_STEPS_NAMES = "view reshape flatten unflatten permute transpose swapaxes contiguous movedim"
_STEPS = frozenset(_STEPS_NAMES.split())
_LONGEST = 6


@dataclass(frozen=True)
class Shuffle:
    """`nodes[-1]` is `source` with dim `dim` permuted by `index`, shape (channels,); `inner` lies between."""

    source: fx.Node
    nodes: tuple[fx.Node, ...]
    dim: int
    index: Tensor

    @property
    def inner(self) -> tuple[fx.Node, ...]:
        """The nodes between source and result."""
        return self.nodes[:-1]


def find_shuffles(model: nn.Module, traced: Traced) -> dict[fx.Node, Shuffle]:
    """The channel shuffles of a traced model, by their last node."""
    found: dict[fx.Node, Shuffle] = {}
    taken: set[fx.Node] = set()
    for node in traced.graph.nodes:
        if node in taken or not _is_tensor(traced, node):
            continue
        pick = _as_pick(traced, node)
        if pick is not None:
            found[node] = pick
            continue
        path = _path(traced, model, node)
        while len(path) > 1 or (path and _is_shuffle_op(model, path[0])):
            shuffle = _as_shuffle(traced, model, node, path)
            if shuffle is not None:
                found[path[-1]] = shuffle
                taken |= set(path)
                break
            path = path[:-1]
    return found


def _is_tensor(traced: Traced, node: fx.Node) -> bool:
    return isinstance(traced.values.get(node), Tensor)


def _is_shuffle_op(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), nn.ChannelShuffle)
    return getattr(node.target, "__name__", node.target) in ("channel_shuffle", "native_channel_shuffle")


def _as_pick(traced: Traced, node: fx.Node) -> Shuffle | None:
    """A permutation by an index tensor that the model holds: `index_select` or `x[:, index]`."""
    name = getattr(node.target, "__name__", node.target)
    if name not in ("index_select", "getitem") or len(node.args) < 2 or node.op == "call_module":
        return None
    source: Any = node.args[0]
    if not isinstance(source, fx.Node) or source.op == "get_attr" or not _is_tensor(traced, source):
        return None
    if name == "index_select":
        dim, index = (*node.args[1:], None)[:2]
    else:
        items: Any = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
        dim, index = len(items) - 1, items[-1]
        if any(item != slice(None, None, None) for item in items[:-1]):
            return None
    if not isinstance(index, fx.Node) or index.op != "get_attr" or not isinstance(dim, int):
        return None
    order, shape = traced.values[index], traced.values[source].shape
    dim %= len(shape)
    if not torch.equal(torch.sort(order.reshape(-1)).values, torch.arange(shape[dim])):
        return None
    return Shuffle(source, (node,), dim, order.reshape(-1))


def _path(traced: Traced, model: nn.Module, source: fx.Node) -> list[fx.Node]:
    """The longest run of data movement after `source` whose steps nobody else reads."""
    path: list[fx.Node] = []
    node = source
    while len(path) < _LONGEST:
        users = [u for u in node.users if _is_tensor(traced, u) or u.op == "output"]
        # A source may branch (a residual); a step in between may not. Sizes may be read anywhere.
        steps = [u for u in users if _is_step(model, u) and u.args and u.args[0] is node]
        if not steps or (path and len(users) > 1):
            break
        node = steps[0]
        path.append(node)
        if _is_shuffle_op(model, node):
            break
    return path


def _is_step(model: nn.Module, node: fx.Node) -> bool:
    if _is_shuffle_op(model, node):
        return True
    name = getattr(node.target, "__name__", node.target)
    return node.op in ("call_function", "call_method") and name in _STEPS


def _as_shuffle(traced: Traced, model: nn.Module, source: fx.Node, path: list[fx.Node]) -> Shuffle | None:
    shape = traced.values[source].shape
    if traced.values[path[-1]].shape != shape:
        return None
    moved: list[tuple[int, Tensor]] = []
    for dim, size in enumerate(shape):
        if size == 1:
            continue
        index = permutation(path, model, shape, dim, traced.values)
        if index is None:
            return None
        if not torch.equal(index, torch.arange(size)):
            moved.append((dim, index))
    return Shuffle(source, tuple(path), *moved[0]) if len(moved) == 1 else None


def permutation(
    path: list[fx.Node] | tuple[fx.Node, ...],
    model: nn.Module,
    shape: torch.Size,
    dim: int,
    values: dict[fx.Node, Any],
) -> Tensor | None:
    """Where the steps of `path` take the positions along `dim` of a tensor of `shape`.

    `values` holds the sizes that the steps read. Returns the index, shape (shape[dim],), or None when the
    steps do more than permute that dim, or fail.
    """
    size = shape[dim]
    positions = torch.arange(size).reshape([size if d == dim else 1 for d in range(len(shape))])
    result = positions.expand(shape).contiguous()
    for node in path:
        inputs: dict[Any, Any] = {**values, node.args[0]: result}
        args, kwargs = fx.map_arg(node.args, inputs.__getitem__), fx.map_arg(node.kwargs, inputs.__getitem__)
        try:
            result = _call(model, node, args, kwargs)
        except (RuntimeError, TypeError, IndexError):
            return None
    if result.shape != shape:
        return None
    index = result.movedim(dim, 0).reshape(size, -1)[:, 0]
    spread = index.reshape([size if d == dim else 1 for d in range(len(shape))])
    return index.clone() if bool((result == spread).all()) else None


def _call(model: nn.Module, node: fx.Node, args: Any, kwargs: Any) -> Any:
    if node.op == "call_module":
        # channel_shuffle has no kernel for integers of every backend; positions are exact in double.
        return model.get_submodule(str(node.target))(args[0].double()).long()
    if node.op == "call_method":
        name = "reshape" if node.target == "view" else str(node.target)
        return getattr(args[0], name)(*args[1:], **kwargs)
    assert callable(node.target)
    if _is_shuffle_op(model, node):
        return node.target(args[0].double(), *args[1:], **kwargs).long()
    return node.target(*args, **kwargs)
