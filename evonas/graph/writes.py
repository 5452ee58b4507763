"""Which nodes of a graph write into values that others may read, and how to do without.

`out += identity` changes `out` for whoever holds it by another name or as a view. Where nobody reads it so afterwards,
a fresh value is the same, and is what a graph should have: it can be shared, and its operands can be rounded.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from evonas.graph.lines import where

__all__ = ["KEPT", "fresh", "mutates", "settle", "shareable"]

KEPT = "why it stays in place"  # where `settle` leaves its reason in `Node.meta`

_OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "lshift", "rshift")
_FRESH: Mapping[Any, Any] = {
    **{getattr(operator, f"i{name}"): getattr(operator, name) for name in _OPERATORS},
    **{getattr(operator, f"i{name}"): getattr(operator, f"{name}_") for name in ("and", "or")},
    operator.ixor: operator.xor,
    **{f"{name}_": name for name in ("add", "sub", "mul", "div")},
}


def fresh(target: Any) -> Any:
    """What a node calls, or what makes a new value of the same numbers where that writes into its first argument."""
    return _FRESH.get(target, target)


def mutates(graph: GraphModule, node: Node) -> bool:
    """Whether a node writes into its first argument."""
    if node.op == "call_module":
        return bool(getattr(graph.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if getattr(node.target, "__module__", "") == operator.add.__module__:  # has an `and_` that is not in place
        return node.target in _FRESH or node.target is operator.setitem
    in_place = node.op not in ("get_attr", "placeholder") and name.endswith("_") and not name.endswith("__")
    return in_place or bool(node.kwargs.get("inplace"))


def shareable(graph: GraphModule, inputs: Tensor) -> bool:
    """Whether the values of a graph can be shared: nothing is written to that is read otherwise afterwards.

    Args:
        graph: is run on `inputs`, if it writes at all.
        inputs: a small batch.
    """
    writers = _writers(graph)
    if not writers:
        return True
    readers = _readers(graph, writers, _values(graph, (inputs,)))
    return all(node.args and readers[node] is None for node in writers)


def settle(graph: GraphModule, inputs: Sequence[Any]) -> None:
    """Replace what a graph writes in place by fresh values, in place, where that changes nothing.

    Arithmetic that must stay in place has the reason in its `meta`. What the forward pass has not made itself (inputs,
    parameters, buffers) is copied before it is written to, so that what a graph returns does not depend on what ran
    before it.

    Args:
        graph: is run on `inputs` to see which values share memory.
        inputs: of the forward pass.
    """
    writers = _writers(graph)
    if not writers:
        return
    values = _values(graph, inputs)
    for node in writers:
        _name_alone(graph.graph, node, values)
    readers = _readers(graph, writers, values)
    kept = []
    for node in writers:
        reason = _reason(node, readers[node], values)
        if node.target in _FRESH and not reason:
            node.target = _FRESH[node.target]
            continue
        node.meta[KEPT] = reason
        kept.append(node)
    _copy_foreign(graph.graph, kept, values)
    graph.recompile()


def _writers(graph: GraphModule) -> list[Node]:
    return [node for node in graph.graph.nodes if mutates(graph, node)]


def _values(graph: GraphModule, inputs: Sequence[Any]) -> dict[Node, Any]:
    """What every node returns, all of it held, so that memory is not used twice."""
    run = _Run(graph, garbage_collect_values=False)
    with torch.no_grad():
        run.run(*copy.deepcopy(tuple(inputs)))
    return run.env


class _Run(fx.Interpreter):
    """Runs a graph on copies of the tensors that it reads by name, which it may write to."""

    def __init__(self, graph: GraphModule, *, garbage_collect_values: bool) -> None:
        super().__init__(graph, garbage_collect_values=garbage_collect_values)
        self._copies: dict[int, Tensor] = {}

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        return self._copies.setdefault(id(value), value.clone()) if isinstance(value, Tensor) else value


def _written(node: Node) -> list[Node]:
    first = node.args[0] if node.args else node.kwargs.get("input")
    return [first] if isinstance(first, Node) else node.all_input_nodes


def _name_alone(graph: fx.Graph, node: Node, values: Mapping[Node, Any]) -> None:
    """Let the result of a write be the only name of the tensor that it returns, for all that comes after."""
    if not node.args and "input" in node.kwargs:
        node.args, node.kwargs = (node.kwargs["input"],), {k: v for k, v in node.kwargs.items() if k != "input"}
    if not isinstance(values[node], Tensor):
        return
    nodes = list(graph.nodes)
    later = set(nodes[nodes.index(node) + 1 :])
    for older in nodes[: nodes.index(node)]:
        if values.get(older) is values[node]:
            older.replace_all_uses_with(node, delete_user_cb=later.__contains__)


def _readers(graph: GraphModule, writers: Collection[Node], values: Mapping[Node, Any]) -> dict[Node, Node | None]:
    """For each writer the first later node that reads, from before, memory that it writes to."""
    nodes = list(graph.graph.nodes)
    memory = {one: {leaf.untyped_storage().data_ptr() for leaf in _tensors(values.get(one))} for one in nodes}
    found: dict[Node, Node | None] = {}
    for node in writers:
        place = nodes.index(node)
        written = set[int]().union(*(memory[source] for source in _written(node)))
        older = {one for one in nodes[:place] if memory[one] & written and _overlap(one, node, values)}
        later = (one for one in nodes[place + 1 :] if not older.isdisjoint(one.all_input_nodes))
        found[node] = next(later, None)
    return found


def _overlap(node: Node, writer: Node, values: Mapping[Node, Any]) -> bool:
    """Whether `node` returned memory that `writer` writes to."""
    written = [leaf for source in _written(writer) for leaf in _tensors(values.get(source))]
    return any(_meet(one, other) for one in _tensors(values.get(node)) for other in written)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.layout is torch.strided]


def _meet(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have an element in common; the halves of a chunk share memory, but no element."""
    memory = one.untyped_storage()
    if not one.numel() or not other.numel() or memory.data_ptr() != other.untyped_storage().data_ptr():
        return False
    if one.dtype != other.dtype:
        return True
    marked = torch.zeros(memory.nbytes() // one.element_size(), dtype=torch.bool)
    _elements(marked, one).fill_(True)
    return bool(_elements(marked, other).any())


def _elements(marked: Tensor, of: Tensor) -> Tensor:
    """The part of `marked` that `of` is of its memory, each element once."""
    sizes = [size if step else 1 for size, step in zip(of.shape, of.stride(), strict=True)]
    return marked.as_strided(sizes, of.stride(), of.storage_offset())


def _reason(node: Node, reader: Node | None, values: Mapping[Node, Any]) -> str:
    """Why `node` must stay in place; empty where a fresh value is the same."""
    operands = [values[one] if isinstance(one, Node) else one for one in node.args]
    if operands and isinstance(operands[0], list):
        return "it changes a list"
    if not operands or not isinstance(operands[0], Tensor):
        return ""
    if reader is not None:
        place = "what the model returns" if reader.op == "output" else where(reader)
        return f"it writes into a value that {place} still has under another name"
    kind = operands[0].dtype
    if any(isinstance(one, Tensor) and torch.result_type(operands[0], one) != kind for one in operands[1:]):
        return f"its result would no longer be {str(kind).removeprefix('torch.')}"
    return ""


def _copy_foreign(graph: fx.Graph, kept: Sequence[Node], values: Mapping[Node, Any]) -> None:
    """Copy every input, parameter and buffer that the writers `kept` write to, and let all else use the copy."""
    for node in [node for node in graph.nodes if node.op in ("placeholder", "get_attr")]:
        if isinstance(values.get(node), Tensor) and any(_overlap(node, writer, values) for writer in kept):
            last = [one for one in graph.nodes if one.op == "placeholder"][-1]
            with graph.inserting_after(last if node.op == "placeholder" else node):
                own = graph.call_method("clone", (node,))
            own.meta = dict(node.meta)
            node.replace_all_uses_with(own, delete_user_cb=lambda user, own=own: user is not own)
