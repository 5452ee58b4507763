"""Where a graph multiplies or adds without a module for it: two activations, or one with a weight."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from evonas.graph.attention import ATTENTION, attention_mix, attention_scores, split_problem
from evonas.graph.writes import KEPT

__all__ = ["Key", "Site", "argument", "inputs_first", "sites"]

Key = int | str | None  # where a call has an argument: its position or its keyword; None where it has none

_MATMULS = (torch.matmul, torch.bmm, torch.mm, operator.matmul, "matmul", "bmm", "mm", "__matmul__")
_WEIGHTED = (F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_ADDS = (torch.add, operator.add, "add", "__add__")
_ADDS_IN_PLACE = (operator.iadd, "add_", "__iadd__")  # what others read: `settle` has left no other one


class Site(NamedTuple):
    """A product (`matmul`) or sum (`add`) of two activations, or a function with a parameter as its weight or table.

    Args:
        node: that computes it.
        kind: `matmul`, `add`, `functional` or `embedding`.
        name: path of the module that it is in, and `matmul`, `add`, `scores` or `mix`, numbered where there are more.
        operands: where the node takes them; None for one that it computes itself.
        why: it can have no formats; empty when it can.
    """

    node: fx.Node
    kind: str
    name: str
    operands: tuple[Key, Key]
    why: str = ""


def argument(node: fx.Node, key: Key) -> Any:
    """The argument of `node` at `key`; None where it has none there."""
    if isinstance(key, int):
        return node.args[key] if key < len(node.args) else None
    return node.kwargs.get(key) if key is not None else None


def sites(graph: fx.Graph, values: Mapping[fx.Node, Any], taken: Collection[str] = ()) -> list[Site]:
    """The sites of a graph, in the order in which they run.

    Another trace of the same model, resized or not, has the same ones in the same order.

    Args:
        graph: of the model.
        values: what each node returned, of which the type counts.
        taken: names that modules have already.
    """
    found: list[Site] = []
    names = set(taken)
    fed: set[fx.Node] = set()  # what depends on the model's inputs
    for node in graph.nodes:
        reads = node.op == "placeholder" or any(source in fed for source in node.all_input_nodes)
        if reads and _is_tensor(values.get(node)):
            fed.add(node)
        for kind, word, operands in _calls(node):
            activations = [argument(node, key) for key in operands if key is not None]
            if kind in ("functional", "embedding") and not _is_stored(activations.pop()):
                continue
            if not all(_is_activation(a, values) for a in activations):
                continue
            if kind == "add" and not all(a in fed for a in activations):
                continue
            found.append(Site(node, kind, _name(node, word, names), operands, _why(node)))
    return found


def inputs_first(node: fx.Node) -> bool:
    """Whether `node` is a product with a stored matrix, `x @ weight`, which so has its inputs along the first axis."""
    second = argument(node, 1 if len(node.args) > 1 else "mat2" if "mat2" in node.kwargs else "other")
    return node.target in _MATMULS and _is_stored(second)


def _is_stored(node: Any) -> bool:
    """Whether an argument is a parameter or buffer as it is."""
    return isinstance(node, fx.Node) and node.op == "get_attr"


def _calls(node: fx.Node) -> list[tuple[str, str, tuple[Key, Key]]]:
    """Kind, word and operands of the sites that `node` may be."""
    if node.op not in ("call_function", "call_method"):
        return []
    second = 1 if len(node.args) > 1 else "mat2" if "mat2" in node.kwargs else "other"
    first = 0 if node.args else "input"
    if node.target in _WEIGHTED:
        return [("functional", "functional", (first, 1 if len(node.args) > 1 else "weight"))]
    if node.target is F.embedding:
        return [("embedding", "embedding", (None, 1 if len(node.args) > 1 else "weight"))]
    if node.target in _MATMULS:
        kind = "functional" if inputs_first(node) else "matmul"
        return [(kind, kind, (first, second))]
    if node.target in (*_ADDS, *_ADDS_IN_PLACE):
        return [("add", "add", (first, second))]
    if node.target is torch.einsum and len(node.args) == 3:
        return [("matmul", "matmul", (1, 2))]
    if node.target is attention_scores:
        return [("matmul", "scores", (0, 1))]
    if node.target is attention_mix:
        return [("matmul", "mix", (0, 1))]
    if node.target is ATTENTION:
        query, key, value = (at if len(node.args) > at else word for at, word in enumerate(("query", "key", "value")))
        return [("matmul", "scores", (query, key)), ("matmul", "mix", (None, value))]
    return []


def _why(node: fx.Node) -> str:
    """Why what `node` computes can have no formats; empty when it can."""
    if node.target in _ADDS_IN_PLACE:
        return str(node.meta.get(KEPT, "it writes into its first operand"))
    return split_problem(node) if node.target is ATTENTION else ""


def _is_tensor(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_is_tensor(item) for item in value)
    return isinstance(value, Tensor)


def _is_activation(node: Any, values: Mapping[fx.Node, Any]) -> bool:
    if not isinstance(node, fx.Node) or node.op == "get_attr":
        return False
    value = values.get(node)
    return isinstance(value, Tensor) and value.is_floating_point()


def _name(node: fx.Node, word: str, names: set[str]) -> str:
    """A name for a layer at `node`, not in `names`, to which it is added."""
    inside = list(node.meta.get("nn_module_stack", {}))[-1:]
    base = ".".join([*inside, word])
    name, number = base, 0
    while name in names:
        number += 1
        name = f"{base}_{number}"
    names.add(name)
    return name
