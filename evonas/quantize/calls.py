"""Where the nodes of a graph have the tensors of the layers that they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from evonas.errors import InvalidArgument
from evonas.graph.sites import Key, Site, argument, sites
from evonas.network import Layer

__all__ = ["data_keys", "replaced", "site_layers", "weight_key", "weight_of"]


def site_layers(graph: fx.GraphModule, layers: Iterable[Layer], sample: Any) -> dict[fx.Node, tuple[Layer, Site]]:
    """The nodes of `graph` that run one of `layers` without a module for it, and where they have its tensors.

    Args:
        graph: of the model that the layers were described on, resized or not.
        layers: those that have formats are looked for.
        sample: an input of the model.

    Raises:
        InvalidArgument: a layer that the graph does not have.
    """
    wanted = {place: layer for layer in layers for place in layer.places if layer.asked}
    if not wanted:
        return {}
    with torch.no_grad():
        recorder = _Values(graph)
        recorder.run(sample)
    there = sites(graph.graph, recorder.values)
    found = {}
    for place, layer in wanted.items():
        if place >= len(there) or there[place].kind != layer.type or there[place].why:
            raise InvalidArgument(
                f"the model has no `{layer.name}` ({layer.type}) where the network that is searched has it"
            )
        found[there[place].node] = (layer, there[place])
    return found


class _Values(fx.Interpreter):
    """Keeps a summary of what every node returns: empty tensors of the same type and shape."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.values[n] = value.to("meta") if isinstance(value, Tensor) else value
        return value


def data_keys(node: fx.Node, layer: Layer, site: Site | None) -> dict[str, tuple[Key, ...]]:
    """Slot -> the arguments of `node` that are that tensor of `layer`, for what it reads."""
    if "data_in" not in layer.slots:
        return {}
    if site is None:
        return {"data_in": (0 if node.args else next(iter(node.kwargs)),)}
    first, second = site.operands
    if layer.kind == "add":
        return {"data_in": (first, second)}
    return {"data_in": (first,), "data_in2": (second,)} if layer.kind == "matmul" else {"data_in": (first,)}


def weight_key(layer: Layer, site: Site | None) -> Key:
    """The argument that is the weight of a function; None where a module has it."""
    return site.operands[1] if site is not None and layer.type in ("functional", "embedding") else None


def weight_of(node: fx.Node, key: Key) -> str:
    """The name of the parameter that `node` takes as its weight."""
    return str(argument(node, key).target)


def replaced(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], changes: Mapping[Any, Callable[[Any], Any]]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """`args` and `kwargs` with each argument at a `Key` of `changes` put through its function."""
    new = {key: change(args[key] if isinstance(key, int) else kwargs[str(key)]) for key, change in changes.items()}
    return tuple(new.get(i, arg) for i, arg in enumerate(args)), {k: new.get(k, value) for k, value in kwargs.items()}
