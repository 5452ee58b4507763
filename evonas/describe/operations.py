"""The steps of a forward pass: which activations it makes, and what reads them."""

from __future__ import annotations

from torch import Tensor, fx, nn

from evonas.chains import Extent
from evonas.describe.layers import Describer
from evonas.graph.movement import MOVEMENT, MOVEMENT_MODULES
from evonas.graph.propagate import op_name
from evonas.graph.sites import argument
from evonas.network import Operation, Reader

__all__ = ["operations"]

# What passes numbers on as they are, so that they keep the format that they have.
_KEEPS = MOVEMENT | {"relu", "dropout", *(f"{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3))}
_KEEPS_MODULES = (
    *MOVEMENT_MODULES,
    nn.Identity,
    nn.ReLU,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    *(getattr(nn, f"{kind}MaxPool{n}d") for kind in ("", "Adaptive") for n in (1, 2, 3)),
)


def operations(describer: Describer) -> tuple[Operation, ...]:
    """The steps of the model that `describer` has described, one a node of its graph, two an attention."""
    graph = describer.structure.traced.graph
    steps: dict[fx.Node, int] = {}
    count = 0
    for node in graph.nodes:
        count += 1 + (len(describer.sites.get(node, ())) > 1)
        steps[node] = count - 1
    found: list[Operation] = []
    for node in graph.nodes:
        names = describer.named.get(node, ("",))
        if len(describer.sites.get(node, ())) > 1:
            channels, positions = describer.probabilities(node)
            to = Reader(steps[node], names[1], "data_in")
            found.append(Operation(f"{node.name}.scores", channels, positions, (to,), names[0]))
        value = describer.structure.ids.get(node)
        held = isinstance(value, Tensor) and node.op != "get_attr"
        channels, positions = describer.elements(node) if held else (Extent(0), 0)
        readers = tuple(reader for user in node.users for reader in _readers(describer, node, user, steps))
        source = steps[kept] if (kept := _kept(describer, node)) is not None else -1
        found.append(Operation(node.name, channels, positions, readers, names[-1], held, source))
    return tuple(found)


def _readers(describer: Describer, node: fx.Node, user: fx.Node, steps: dict[fx.Node, int]) -> list[Reader]:
    """How `user` reads `node`."""
    names, step = describer.named.get(user, ("",)), steps[user]
    sites = describer.sites.get(user, ())
    found = []
    for i, site in enumerate(sites):
        at = step - (len(sites) - 1 - i)
        for slot, key in zip(("data_in", "data_in2"), site.operands, strict=True):
            if key is not None and argument(user, key) is node:
                found.append(Reader(at, names[i], "data_in" if site.kind == "add" else slot))
    if found:
        return found
    return [Reader(step - max(0, len(sites) - 1), *((names[0], "data_in") if not sites else ()))]


def _kept(describer: Describer, node: fx.Node) -> fx.Node | None:
    """The one activation whose numbers `node` returns, each of them unchanged or zero; None where it computes."""
    if node.op == "call_module":
        keeps = isinstance(describer.model.get_submodule(str(node.target)), _KEEPS_MODULES)
    else:
        keeps = node.op in ("call_function", "call_method") and op_name(node) in _KEEPS
    ids = describer.structure.ids
    sources = [n for n in node.all_input_nodes if n.op != "get_attr" and isinstance(ids.get(n), (Tensor, tuple, list))]
    return sources[0] if keeps and len(sources) == 1 else None
