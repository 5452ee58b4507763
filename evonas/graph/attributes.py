"""Sizes that a user's module holds as plain integers (`num_heads`) follow, so that its class can stay."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from evonas.errors import InvalidArgument
from evonas.graph.rewrite import Rewrite
from evonas.graph.slicing import Layout
from evonas.graph.trace import UntraceableModel, retrace
from evonas.graph.writes import fresh

__all__ = ["follow_attributes"]


def follow_attributes(sized: nn.Module, layout: Layout, rewrite: Rewrite) -> bool:
    """Set integer attributes of user modules in `sized` so that its own forward works at the new sizes.

    Attributes that equal a hard-coded size are tried, one name and class at a time, and kept when fewer
    sizes are wrong afterwards. Returns True when none is left; otherwise `sized` is as it was.
    """
    left = len(rewrite.changes)
    undo: list[tuple[nn.Module, str, int]] = []
    for moves in _candidates(sized, rewrite).values():
        before = [(module, name, getattr(module, name)) for module, name, _ in moves]
        for module, name, value in moves:
            setattr(module, name, value)
        remaining = _wrong(sized, layout)
        if remaining is not None and remaining < left:
            left = remaining
            undo += before
        else:
            _restore(before)
        if left == 0:
            return True
    _restore(undo)
    return False


def _restore(values: list[tuple[nn.Module, str, int]]) -> None:
    for module, name, value in values:
        setattr(module, name, value)


def _candidates(sized: nn.Module, rewrite: Rewrite) -> dict[tuple[type, str], list[tuple[nn.Module, str, int]]]:
    """(class, attribute) -> settings (module, attribute, new value) that could explain the changes."""
    found: dict[tuple[type, str], list[tuple[nn.Module, str, int]]] = {}
    for node, pairs in rewrite.changes:
        module = _owner(sized, node)
        if module is None:
            continue
        for name, value in vars(module).items():
            for old, new in pairs:
                settings = found.setdefault((type(module), name), []) if _is_size(value, old) else None
                if settings is not None and (module, name, new) not in settings:
                    settings.append((module, name, new))
    return {key: settings for key, settings in found.items() if settings}


def _is_size(value: Any, old: int) -> bool:
    return type(value) is int and value == old and old > 1


def _owner(sized: nn.Module, node: fx.Node) -> nn.Module | None:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values()]
    return sized.get_submodule(paths[-1]) if paths else sized


def _wrong(sized: nn.Module, layout: Layout) -> int | None:
    """How many sizes are wrong in the forward of `sized` itself; None when it no longer is the same graph."""
    structure = layout.structure
    try:
        graph, _ = retrace(sized, structure.traced.inputs, settled=False)  # at sizes that may be wrong
    except UntraceableModel:
        return None
    old, new = list(structure.traced.graph.nodes), list(graph.nodes)
    if [(n.op, str(fresh(n.target))) for n in old] != [(n.op, str(fresh(n.target))) for n in new]:
        return None
    try:
        return len(Rewrite(layout, sized, graph).changes)
    except InvalidArgument:
        return None
