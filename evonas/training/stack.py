"""Networks of one architecture and different widths as one: every tensor padded with zeros and stacked.

A padded channel starts at zero and stays there: its value is zero, so no gradient reaches the weights that read it;
those weights are zero, so none reaches the channel. That holds for linear layers, batch norms, sums, and activations
that map zero to zero.

Every network is padded to the same sizes, which are those of the widest network of its space, and they are multiples
of 16. So every network's part of every tensor starts at a multiple of 64 bytes, vector instructions never meet a part
of one network and of the next, and the kernels take the same way through it however many networks there are: what
becomes of a network does not depend on the others, to the last bit.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from evonas.graph.trace import Tracer
from evonas.training.closing import ClosingReLU
from evonas.training.operations import BatchNorm, ClosingRelu, Linear, Operation, Pass, Relu, Sum

__all__ = ["Layout", "Stack", "layout"]

_MULTIPLE = 16  # floats in 64 bytes: a cache line, and the widest vector registers
_TENSORS = {nn.Linear: ("weight", "bias"), nn.BatchNorm1d: ("weight", "bias", "running_mean", "running_var")}
_RELU = (torch.relu, nn.functional.relu, "relu", nn.ReLU)
_FLATTEN = (torch.flatten, "flatten", nn.Flatten)
_SUM = (torch.add, operator.add, "add")
_SAME = (nn.Identity,)


@dataclass(frozen=True)
class Layout:
    """What the networks of a stack have in common.

    Args:
        graph: of the widest network.
        sizes: padded shape of each tensor, by name.
        signature: what a network's graph and modules must be to fit.
        chain: the same of a network that is one layer after the other, for which tracing is not needed; see `_chain`.
        classes: logits of a network.
    """

    graph: fx.GraphModule
    sizes: Mapping[str, tuple[int, ...]]
    signature: tuple[Any, ...]
    chain: tuple[Any, ...] | None
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
        return all(
            len(value.shape) == len(self.sizes[name])
            and all(mine <= most for mine, most in zip(value.shape, self.sizes[name], strict=True))
            for name, value in network.state_dict().items()
            if name in self.sizes
        )


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
        f"{name}.{part}": tuple(-(-size // _MULTIPLE) * _MULTIPLE for size in getattr(module, part).shape)
        for name, module in graph.named_modules()
        for part in _TENSORS.get(type(module), ())
        if getattr(module, part) is not None
    }
    return Layout(graph, sizes, _signature(graph), _chain(widest), classes)


class Stack:
    """Networks that are trained as one.

    Args:
        layout: that they all fit.
        networks: whose values it starts from.
        inputs: shape (n, ...), what they are trained on.
        targets: class indices, shape (n,).
    """

    def __init__(self, layout: Layout, networks: Sequence[nn.Module], inputs: Tensor, targets: Tensor) -> None:
        self._layout = layout
        self._count = len(networks)
        self._passes = 0
        states = [network.state_dict() for network in networks]
        self._tensors: dict[str, Tensor] = {}
        for name, size in layout.sizes.items():
            stacked = torch.zeros(self._count, *reversed(size))  # matrices are (in, out), as their product reads them
            for slot, state in enumerate(states):
                _corner(stacked[slot], state[name]).copy_(state[name])
            self._tensors[name] = nn.Parameter(stacked) if name in layout.learned else stacked
        self._inputs = _padded(inputs.flatten(1))
        self._wanted = _padded(nn.functional.one_hot(targets, layout.classes).float())
        self._closed = _padded(torch.zeros(1, layout.classes), -torch.inf)  # added to logits: no class is padding
        nodes = list(layout.graph.graph.nodes)
        self._end = nodes[-1].args[0]
        self._operations = {node: self._operation(node) for node in nodes[1:-1]}
        self._source = nodes[0]

    def parameters(self) -> list[nn.Parameter]:
        """What is learned, each of shape (networks, ...)."""
        return [value for value in self._tensors.values() if isinstance(value, nn.Parameter)]

    def differentiate(self, rows: Tensor) -> None:
        """Set the gradients of every network's own mean cross entropy over these rows of the data."""
        self._passes += 1
        with torch.no_grad():
            logits = self._forward(self._inputs.index_select(0, rows))
            shares = (logits + self._closed).log_softmax(2).exp_()
            error = shares.sub_(self._wanted.index_select(0, rows)).div_(len(rows))  # so 1 - 1e-7 loses nothing
            self._backward(error)

    def write(self, networks: Sequence[nn.Module]) -> None:
        """Copy the values back into `networks`, those that it was made from."""
        with torch.no_grad():
            for slot, network in enumerate(networks):
                for name, value in network.state_dict().items():
                    if name in self._tensors:
                        value.copy_(_corner(self._tensors[name][slot], value))
                    else:  # how many batches a batch norm has seen
                        value.add_(self._passes)

    def _forward(self, inputs: Tensor) -> Tensor:
        values = {self._source: inputs.expand(self._count, *inputs.shape)}
        for node, operation in self._operations.items():
            values[node] = operation.forward(*(values[source] for source in node.all_input_nodes))
        return values[self._end]

    def _backward(self, gradient: Tensor) -> None:
        gradients = {self._end: gradient}
        for node, operation in reversed(self._operations.items()):
            sources = node.all_input_nodes
            passed = operation.backward(gradients.pop(node), needed=sources != [self._source])
            if passed is not None:
                for source in sources:
                    gradients[source] = gradients[source] + passed if source in gradients else passed

    def _operation(self, node: fx.Node) -> Operation:
        kind, name = _kind(self._layout.graph, node), str(node.target)
        if kind is nn.Linear:
            return Linear(self._tensors[f"{name}.weight"], self._tensors.get(f"{name}.bias"))
        if kind is nn.BatchNorm1d:
            module = self._layout.graph.get_submodule(name)
            tensors = [self._tensors[f"{name}.{part}"] for part in _TENSORS[nn.BatchNorm1d]]
            assert isinstance(module, nn.BatchNorm1d)
            assert module.momentum is not None
            return BatchNorm(*tensors, eps=module.eps, momentum=module.momentum)
        if kind is ClosingReLU:
            return ClosingRelu()
        if kind in _RELU:
            return Relu()
        return Sum() if kind in _SUM else Pass()


class _Tracer(Tracer):
    """The usual one, but a closing ReLU, which trains otherwise than it runs, stays a module."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, ClosingReLU) or super().is_leaf_module(m, module_qualified_name)


def _traced(network: nn.Module) -> fx.GraphModule:
    return fx.GraphModule(network, _Tracer().trace(network))


def _padded(values: Tensor, fill: float = 0.0) -> Tensor:
    """`values` (n, features) with `fill` up to a multiple of 16 features."""
    return nn.functional.pad(values, (0, -values.shape[1] % _MULTIPLE), value=fill)


def _corner(padded: Tensor, like: Tensor) -> Tensor:
    """The part of a stacked tensor of one network that holds a tensor of the shape of `like`; matrices turned."""
    turned = padded.T if padded.dim() == 2 else padded
    return turned[tuple(slice(size) for size in like.shape)]


def _kind(graph: fx.GraphModule, node: fx.Node) -> Any:
    """What a node does: a module's type, a function, or a method's name."""
    return type(graph.get_submodule(str(node.target))) if node.op == "call_module" else node.target


def _supported(graph: fx.GraphModule, inputs: Tensor) -> bool:
    """Whether every node is one that keeps a padded channel at zero, over features alone."""
    if sum(node.op == "placeholder" for node in graph.graph.nodes) != 1:
        return False
    for node in graph.graph.nodes:
        kind = _kind(graph, node)
        first = [source.op for source in node.all_input_nodes] == ["placeholder"]
        if node.op in ("placeholder", "output"):
            good = node.op == "placeholder" or isinstance(node.args[0], fx.Node)
        elif kind in _FLATTEN:
            good = first and _from_one(graph, node)
        elif kind in _SUM:
            good = len(node.args) == 2 and all(isinstance(source, fx.Node) for source in node.args) and not node.kwargs
        else:
            good = kind in (*_TENSORS, *_RELU, *_SAME, ClosingReLU)
        if not good or (first and inputs.dim() > 2 and kind not in _FLATTEN):
            return False
    return _once(graph) and all(_usual(module) for module in graph.modules())


def _once(graph: fx.GraphModule) -> bool:
    """Whether every layer runs once: gradients are written, not added up."""
    layers = [node.target for node in graph.graph.nodes if _kind(graph, node) in _TENSORS]
    return len(set(layers)) == len(layers)


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
    if not once or not all(type(layer) in (*_TENSORS, nn.ReLU, nn.Identity, ClosingReLU) for _, layer in layers):
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
        *((n.op, str(n.target), _kind(graph, n), tuple(places[source] for source in n.all_input_nodes)) for n in nodes),
        *graph.state_dict(),
        *((m.eps, m.momentum) for m in graph.modules() if isinstance(m, nn.BatchNorm1d)),
    )
