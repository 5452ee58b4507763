"""Run a trained model under a plan, without ever touching the model.

The model's weights are quantized once per (tensor, format) and kept; a forward pass picks the ones its plan
names. So the value of a candidate cannot depend on what ran before it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from evonas.errors import InvalidArgument
from evonas.formats import Format
from evonas.formats.blocks import Blocked
from evonas.plan import LayerPlan, Plan

__all__ = ["Memo", "PostTraining", "Quantizer", "single_thread"]


@dataclass(frozen=True)
class _Kept:
    """A node's last value, and what it was made from: the layer's plan and the versions of its inputs."""

    made_from: tuple[Any, ...]
    version: int
    value: Any


Memo = dict[torch.fx.Node, _Kept]


@contextmanager
def single_thread() -> Iterator[None]:
    """One torch thread inside the block: faster for small networks, and sums in one fixed order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rounded(fmt: Format, values: Tensor) -> Tensor:
    """`values` (n, ...) in a concrete format; what is smaller than a block is a block that ends early."""
    if not isinstance(fmt, Blocked) or not 0 < values.numel() < fmt.block_axis[0]:
        return fmt.quantize(values)
    times = -(-fmt.block_axis[0] // values.numel())  # blocks lie inside one sample, so more samples change nothing
    return fmt.quantize(values.repeat(times, *(1,) * (values.dim() - 1)))[: len(values)]


class Quantizer(nn.Module):
    """A module that rounds its input to a concrete format."""

    def __init__(self, fmt: Format) -> None:
        super().__init__()
        fmt.require_concrete()
        self.format = fmt

    def forward(self, values: Tensor) -> Tensor:
        """`values` (any shape) on the format's grid."""
        return _rounded(self.format, values)

    def extra_repr(self) -> str:
        """The format's spec."""
        return self.format.spec


class PostTraining:
    """Post-training quantization of one trained model.

    Args:
        model: a module that torch.fx can trace, in evaluation mode. It is never modified.
        calibration: inputs, shape (n, ...), from which formats that are not concrete get their scales; what each
            layer sees is taken from the float model, so that no layer's format depends on another's.

    Raises:
        InvalidArgument: the model is in training mode.
    """

    def __init__(self, model: nn.Module, calibration: Tensor) -> None:
        if model.training:
            raise InvalidArgument("`model` is in training mode; call `model.eval()` first")
        self.graph = torch.fx.symbolic_trace(model)
        self._interpreter = torch.fx.Interpreter(self.graph)
        self._calibration = calibration
        self._seen: dict[str, Tensor] = {}
        self._formats: dict[tuple[str, Format], Format] = {}
        self._tensors: dict[tuple[str, Format], Tensor] = {}

    def forward(self, plan: Plan, inputs: Tensor, memo: Memo | None = None) -> Tensor:
        """What the model under `plan` returns for `inputs`, shape (n, ...).

        Args:
            plan: formats and channels of every layer.
            inputs: shape (n, ...).
            memo: an empty dictionary, handed to consecutive calls with these same `inputs`: what a plan shares with
                the one before it, from the input on, is then not computed again. The result is the same bit for bit.
        """
        parts = self.parts(self.concrete(plan))
        with torch.no_grad():
            output: Tensor = _Runner(self, parts, memo).run(inputs)
        return output

    def layer_of(self, node: torch.fx.Node) -> str | None:
        """The name of the layer that a node of `graph` runs; None where it can be no layer of a plan."""
        return str(node.target) if node.op == "call_module" else None

    def parts(self, plan: Plan) -> dict[torch.fx.Node, LayerPlan]:
        """The nodes of `graph` that `plan` changes, and what it says about each."""
        chosen = {layer.layer.name: layer for layer in plan.layers}
        return {n: chosen[name] for n in self.graph.graph.nodes if (name := self.layer_of(n)) in chosen}

    def rounded_inputs(
        self, node: torch.fx.Node, part: LayerPlan, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a layer's node with its inputs in the formats of `part`, which are concrete."""
        del node
        return (_rounded(part.data_in, args[0]), *args[1:]), dict(kwargs)

    def run_layer(self, node: torch.fx.Node, part: LayerPlan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What a layer's node returns for arguments that are rounded already, all else in the formats of `part`."""
        module = self.graph.get_submodule(str(node.target))
        return torch.func.functional_call(module, self.parameters_of(part), args, dict(kwargs))

    def run_node(self, node: torch.fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What a node that is no layer of the plan returns."""
        return getattr(self._interpreter, node.op)(node.target, args, dict(kwargs))

    def module(self, plan: Plan) -> torch.fx.GraphModule:
        """A stand-alone module with `plan` applied; its outputs are bit for bit those of `forward`."""
        result = copy.deepcopy(self.graph)
        parts = self.parts(self.concrete(plan))
        for original, node in zip(list(self.graph.graph.nodes), list(result.graph.nodes), strict=True):
            if original not in parts:
                continue
            name, layer = str(node.target), parts[original]
            rounding = f"{name.replace('.', '_')}_data_in"
            result.add_submodule(rounding, Quantizer(layer.data_in))
            with result.graph.inserting_before(node):
                node.args = (result.graph.call_module(rounding, (node.args[0],)), *node.args[1:])
            module = result.get_submodule(name)
            for parameter, value in self.parameters_of(layer).items():
                setattr(module, parameter, nn.Parameter(value.clone()))
        result.recompile()
        return result

    def concrete(self, plan: Plan) -> Plan:
        """`plan` with every format calibrated on the model's own tensors."""
        return replace(plan, layers=tuple(self.concrete_layer(layer) for layer in plan.layers))

    def parameters_of(self, layer: LayerPlan) -> dict[str, Tensor]:
        """The quantized `weight` and, where there is one, `bias` of a layer whose formats are concrete."""
        name, formats = layer.layer.name, layer.formats
        return {slot: self._quantized(f"{name}.{slot}", fmt) for slot, fmt in formats.items() if slot != "data_in"}

    def concrete_layer(self, layer: LayerPlan) -> LayerPlan:
        """`layer` with every format calibrated."""
        name = layer.layer.name
        data_in = self._concrete(f"{name}.data_in", layer.data_in)
        weight = self._concrete(f"{name}.weight", layer.weight)
        bias = self._concrete(f"{name}.bias", layer.bias) if layer.layer.bias else layer.bias
        return replace(layer, data_in=data_in, weight=weight, bias=bias)

    def _concrete(self, slot: str, fmt: Format) -> Format:
        """`fmt` with whatever it leaves to calibration chosen from the tensor in `slot` (`fc1.weight`)."""
        key = (slot, fmt)
        if key not in self._formats:
            self._formats[key] = fmt if fmt.concrete else fmt.calibrate(self._tensor(slot))
        return self._formats[key]

    def _quantized(self, slot: str, fmt: Format) -> Tensor:
        key = (slot, fmt)
        if key not in self._tensors:
            self._tensors[key] = fmt.quantize(self._tensor(slot))
        return self._tensors[key]

    def _tensor(self, slot: str) -> Tensor:
        layer, _, kind = slot.rpartition(".")
        if kind != "data_in":
            return self.graph.get_parameter(slot).detach()
        if not self._seen:
            with torch.no_grad():
                _Recorder(self.graph, self._seen).run(self._calibration)
        return self._seen[layer]


class _Recorder(torch.fx.Interpreter):
    """Keeps what each leaf module receives."""

    def __init__(self, graph: torch.fx.GraphModule, seen: dict[str, Tensor]) -> None:
        super().__init__(graph)
        self._seen = seen

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._seen[str(target)] = args[0]
        return super().call_module(target, args, kwargs)


class _Runner(torch.fx.Interpreter):
    """Runs the graph with the weights and data formats that a plan names."""

    def __init__(
        self, quantized: PostTraining, parts: Mapping[torch.fx.Node, LayerPlan], memo: Memo | None = None
    ) -> None:
        super().__init__(quantized.graph)
        self._quantized = quantized
        self._parts = parts
        self._memo = memo

    def run_node(self, n: torch.fx.Node) -> Any:
        if self._memo is None:
            return self._value(n)
        made_from = (self._parts.get(n), *(self._memo[source].version for source in n.all_input_nodes))
        kept = self._memo.get(n)
        if kept is None or kept.made_from != made_from:
            value = self._value(n)  # a new version makes every node that reads this one new as well
            kept = self._memo[n] = _Kept(made_from, 0 if kept is None else kept.version + 1, value)
        return kept.value

    def _value(self, node: torch.fx.Node) -> Any:
        part = self._parts.get(node)
        if part is None:
            return super().run_node(node)
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        args, kwargs = self._quantized.rounded_inputs(node, part, args, kwargs)
        return self._quantized.run_layer(node, part, args, kwargs)
