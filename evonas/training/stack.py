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

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, fx, nn

from evonas.training.closing import ClosingReLU
from evonas.training.layout import MULTIPLE, RELU, SUM, TENSORS, Layout, kind_of
from evonas.training.operations import BatchNorm, ClosingRelu, Linear, Operation, Pass, Relu, Sum

__all__ = ["Stack"]


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

    def threads(self) -> AbstractContextManager[object]:
        """Nothing: those of torch are the caller's."""
        return nullcontext()

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
        kind, name = kind_of(self._layout.graph, node), str(node.target)
        if kind is nn.Linear:
            return Linear(self._tensors[f"{name}.weight"], self._tensors.get(f"{name}.bias"))
        if kind is nn.BatchNorm1d:
            module = self._layout.graph.get_submodule(name)
            tensors = [self._tensors[f"{name}.{part}"] for part in TENSORS[nn.BatchNorm1d]]
            assert isinstance(module, nn.BatchNorm1d)
            assert module.momentum is not None
            return BatchNorm(*tensors, eps=module.eps, momentum=module.momentum)
        if kind is ClosingReLU:
            return ClosingRelu()
        if kind in RELU:
            return Relu()
        return Sum() if kind in SUM else Pass()


def _padded(values: Tensor, fill: float = 0.0) -> Tensor:
    """`values` (n, features) with `fill` up to a multiple of 16 features."""
    return nn.functional.pad(values, (0, -values.shape[1] % MULTIPLE), value=fill)


def _corner(padded: Tensor, like: Tensor) -> Tensor:
    """The part of a stacked tensor of one network that holds a tensor of the shape of `like`; matrices turned."""
    turned = padded.T if padded.dim() == 2 else padded
    return turned[tuple(slice(size) for size in like.shape)]
