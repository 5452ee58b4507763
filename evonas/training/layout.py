"""Which networks can be trained together, and what they have in common."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from evonas.graph.trace import Tracer
from evonas.training.closing import ClosingReLU

__all__ = ["MULTIPLE", "RELU", "SUM", "TENSORS", "Layout", "kind_of", "layout"]

MULTIPLE = 16  # floats in 64 bytes: a cache line, and the widest vector registers
TENSORS = {nn.Linear: ("weight", "bias"), nn.BatchNorm1d: ("weight", "bias", "running_mean", "running_var")}
RELU = (torch.relu, nn.functional.relu, "relu", nn.ReLU)
_FLATTEN = (torch.flatten, "flatten", nn.Flatten)
SUM = (torch.add, operator.add, "add")
_SAME = (nn.Identity,)


@dataclass(frozen=True)
class Layout:
    """What the networks of a stack have in common.

    Args:
        graph: of the widest network.
        sizes: padded shape of each tensor, by name.
        signature: what a network's graph and modules must be to fit.
        chain: the same of a network that is one layer after the other, for which tracing is not needed; see `_chain`.
        features: of the data.
        classes: logits of a network.
    """

    graph: fx.GraphModule
    sizes: Mapping[str, tuple[int, ...]]
    signature: tuple[Any, ...]
    chain: tuple[Any, ...] | None
    features: int
    classes: int

    @property
    def learned(self) -> list[str]:
        """Names of the tensors that are learned, in the order of `Stack.parameters`."""
        names = {name for name, _ in self.graph.named_parameters()}
        return [name for name in self.sizes if name in names]

    @property
    def weights(self) -> int:
        """Elements of the padded matrices of one network."""
        return sum(size[0] * size[1] for size in self.sizes.values() if len(size) == 2)

    def fits(self, network: nn.Module) -> bool:
        """Whether `network` is of this architecture and no wider."""
        if self.chain is None or _chain(network) != self.chain:
            try:
                traced = _traced(network)
            except Exception:  # whatever fx says: the network is then trained by itself
                return False
            if _signature(traced) != self.signature:
                return False
        state = network.state_dict()
        return self.widths(state) is not None and all(
            len(value.shape) == len(self.sizes[name])
            and all(mine <= most for mine, most in zip(value.shape, self.sizes[name], strict=True))
            for name, value in state.items()
            if name in self.sizes
        )

    def widths(self, state: Mapping[str, Tensor]) -> dict[fx.Node, int] | None:
        """The features of every node's value for a network of this state; None where a sum broadcasts."""
        source, *nodes, _ = self.graph.graph.nodes
        found = {source: self.features}
        for node in nodes:
            read = {found[one] for one in node.all_input_nodes}
            if len(read) > 1:
                return None
            linear = kind_of(self.graph, node) is nn.Linear
            found[node] = len(state[f"{node.target}.weight"]) if linear else read.pop()
        return found


def layout(widest: nn.Module, inputs: Tensor) -> Layout | None:
    """The layout of stacks of networks like `widest`, none wider; None where they can only be trained one by one.

    They can be stacked on a CPU when they are linear layers, batch norms over features, ReLUs, sums, and a flattening
    at the start.

    Args:
        widest: a network of the architecture, as wide as any; its weights do not matter.
        inputs: shape (n, ...), what they are trained on.
    """
    if inputs.device.type != "cpu" or inputs.dtype != torch.float32 or len(inputs) < 2:
        return None
    try:
        graph = _traced(widest)
    except Exception:  # whatever fx says: such networks are trained one by one
        return None
    if not _supported(graph, inputs) or not _plain(widest):
        return None
    with torch.no_grad():
        classes = graph.eval()(inputs[:1]).shape[-1]
    sizes = {
        f"{name}.{part}": tuple(-(-size // MULTIPLE) * MULTIPLE for size in getattr(module, part).shape)
        for name, module in graph.named_modules()
        for part in TENSORS.get(type(module), ())
        if getattr(module, part) is not None
    }
    made = Layout(graph, sizes, _signature(graph), _chain(widest), inputs[0].numel(), classes)
    return None if made.widths(widest.state_dict()) is None else made


class _Tracer(Tracer):
    """The usual one, but a closing ReLU, which trains otherwise than it runs, stays a module."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, ClosingReLU) or super().is_leaf_module(m, module_qualified_name)


def _traced(network: nn.Module) -> fx.GraphModule:
    return fx.GraphModule(network, _Tracer().trace(network))


def kind_of(graph: fx.GraphModule, node: fx.Node) -> Any:
    """What a node does: a module's type, a function, or a method's name."""
    return type(graph.get_submodule(str(node.target))) if node.op == "call_module" else node.target


def _supported(graph: fx.GraphModule, inputs: Tensor) -> bool:
    """Whether every node is one that keeps a padded channel at zero, over features alone."""
    if sum(node.op == "placeholder" for node in graph.graph.nodes) != 1:
        return False
    for node in graph.graph.nodes:
        kind = kind_of(graph, node)
        first = [source.op for source in node.all_input_nodes] == ["placeholder"]
        if node.op in ("placeholder", "output"):
            good = node.op == "placeholder" or isinstance(node.args[0], fx.Node)
        elif kind in _FLATTEN:
            good = first and _from_one(graph, node)
        elif kind in SUM:
            good = len(node.args) == 2 and all(isinstance(source, fx.Node) for source in node.args) and not node.kwargs
        elif kind in RELU:
            good = not _in_place(graph, node) or _unseen(graph, node.all_input_nodes[0])
        else:
            good = kind in (*TENSORS, *_SAME, ClosingReLU)
        used = bool(node.users) or node.op == "output"
        if not (good and used) or (first and inputs.dim() > 2 and kind not in _FLATTEN):
            return False
    return _once(graph) and all(_usual(module) for module in graph.modules())


def _once(graph: fx.GraphModule) -> bool:
    """Whether every layer runs once: gradients are written, not added up."""
    layers = [node.target for node in graph.graph.nodes if kind_of(graph, node) in TENSORS]
    return len(set(layers)) == len(layers)


def _in_place(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a ReLU writes to what it reads."""
    if node.op == "call_module":
        return bool(getattr(graph.get_submodule(str(node.target)), "inplace", False))
    return any((*node.args[1:], *node.kwargs.values()))


def _unseen(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether what is written to a node's value is seen by its one reader alone."""
    return len(node.users) == 1 and (node.op == "placeholder" or kind_of(graph, node) in (*TENSORS, *SUM))


def _from_one(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a flattening is of all dimensions but the first."""
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        return isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
    given = (*node.args[1:], *node.kwargs.values())
    return given == (1,)


def _usual(module: nn.Module) -> bool:
    """Whether a batch norm learns a scale and keeps running statistics."""
    if type(module) is not nn.BatchNorm1d:
        return True
    return module.affine and module.track_running_stats and module.momentum is not None


def _plain(network: nn.Module) -> bool:
    """Whether every parameter is in float32, learned, and in one place."""
    named = list(network.named_parameters(remove_duplicate=False))
    return len(named) == len(list(network.parameters())) and all(
        parameter.requires_grad and parameter.dtype == torch.float32 for _, parameter in named
    )


def _chain(network: nn.Module) -> tuple[Any, ...] | None:
    """What makes the signature of a plain `nn.Sequential` of the layers that can be stacked; None for others.

    Tracing sixteen networks takes a tenth of training them for 20 epochs.
    """
    if type(network) is not nn.Sequential:
        return None
    layers = [*network.named_modules(remove_duplicate=False)][1:]  # the first is the network
    once = len({id(layer) for _, layer in layers}) == len(layers)
    if not once or not all(type(layer) in (*TENSORS, nn.ReLU, nn.Identity, ClosingReLU) for _, layer in layers):
        return None
    return (
        *((name, type(layer)) for name, layer in layers),
        *network.state_dict(),
        *((layer.eps, layer.momentum) for _, layer in layers if isinstance(layer, nn.BatchNorm1d)),
    )


def _signature(graph: fx.GraphModule) -> tuple[Any, ...]:
    """Operations, what they read, and which tensors there are: the same for networks that differ in widths alone."""
    nodes = list(graph.graph.nodes)
    places = {node: i for i, node in enumerate(nodes)}
    return (
        *((n.op, str(n.target), kind_of(graph, n), *(places[source] for source in n.all_input_nodes)) for n in nodes),
        *graph.state_dict(),
        *((m.eps, m.momentum) for m in graph.modules() if isinstance(m, nn.BatchNorm1d)),
    )
