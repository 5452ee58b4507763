"""Which nodes of a graph write into values that others may read."""

from __future__ import annotations

import operator

from torch.fx import GraphModule, Node

__all__ = ["mutates", "shareable"]

_WRITERS = (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem)


def mutates(graph: GraphModule, node: Node) -> bool:
    """Whether a node writes into its first argument."""
    if node.op == "call_module":
        return bool(getattr(graph.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = node.op != "get_attr" and name.endswith("_") and not name.endswith("__")
    return in_place or bool(node.kwargs.get("inplace")) or node.target in _WRITERS


def shareable(graph: GraphModule) -> bool:
    """Whether the values of a graph can be shared: nothing is written to that anything else reads.

    A node may write into the fresh result of a module that nobody else reads (`nn.ReLU(inplace=True)` after a layer).
    """
    for node in graph.graph.nodes:
        if mutates(graph, node):
            target = node.args[0] if node.args else None
            if not (isinstance(target, Node) and target.op == "call_module" and len(target.users) == 1):
                return False
    return True
