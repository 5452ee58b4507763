"""Run a trained model under a plan, without ever touching the model.

The model's weights are quantized once per (tensor, format) and kept; a forward pass picks the ones its plan
names. So the value of a candidate cannot depend on what ran before it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from evonas.errors import InvalidArgument, unknown_name
from evonas.formats import METHODS as _METHODS
from evonas.formats import Format
from evonas.formats.blocks import Blocked
from evonas.graph.attention import split_attention
from evonas.graph.fold import fold_batchnorms
from evonas.graph.sites import Key
from evonas.graph.trace import as_module, retrace
from evonas.graph.writes import mutates
from evonas.network import Layer, Network
from evonas.plan import LayerPlan, Plan
from evonas.quantize.calls import data_keys, replaced, site_layers, weight_key, weight_of
from evonas.quantize.threads import full_precision, single_thread

__all__ = ["METHODS", "PostTraining", "Quantizer"]

METHODS = (*_METHODS, "auto")


def rounded(fmt: Format, values: Tensor) -> Tensor:
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
        return rounded(self.format, values)

    def extra_repr(self) -> str:
        """The format's spec."""
        return self.format.spec


class PostTraining:
    """Post-training quantization of one trained model.

    Args:
        model: a module that torch.fx can trace, in evaluation mode. It is never modified.
        calibration: inputs, shape (n, ...), from which formats that are not concrete get their scales; what each
            layer sees is taken from the float model, so that no layer's format depends on another's.
        network: what the plans are about; None for plans about modules alone. Batch norms that it has folded are
            folded, and attention whose products have formats is computed product by product.
        method: how formats are calibrated, one of `METHODS`. `auto` calibrates each tensor by all the others, and
            takes the format under which the output of the tensor's layer differs least from the float output, in mean
            square.

    Attributes:
        graph: the traced model, never modified.

    Raises:
        InvalidArgument: the model is in training mode.
        UntraceableModel: torch.fx cannot trace it.
        UnknownName: no such method.
    """

    def __init__(
        self, model: nn.Module, calibration: Tensor, network: Network | None = None, *, method: str = "mse"
    ) -> None:
        if model.training:
            raise InvalidArgument("`model` is in training mode; call `model.eval()` first")
        if method not in METHODS:
            raise unknown_name("calibration method", method, METHODS)
        self.method = method
        graph, constants = retrace(model, (calibration[:2],))
        self.graph = as_module(model, graph, constants, type(model).__name__).eval()
        if network is not None and network.folds:
            self.graph = fold_batchnorms(self.graph, network.folds)
        if network is not None and any(layer.kind == "matmul" and layer.asked for layer in network.layers):
            split_attention(self.graph.graph)
            self.graph.recompile()
        self._interpreter = torch.fx.Interpreter(self.graph)
        self._calibration = calibration
        self._layers = {} if network is None else {layer.name: layer for layer in network.layers}
        self._sites = site_layers(self.graph, () if network is None else network.quantizable, calibration[:2])
        self._nodes: dict[str, torch.fx.Node] = {}  # of each layer, the last that runs it
        for node in self.graph.graph.nodes:
            if (name := self.layer_of(node)) is not None:
                self._nodes[name] = node
        self._seen: dict[torch.fx.Node, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self._formats: dict[tuple[str, Format], Format] = {}
        self._tensors: dict[tuple[str, Format], Tensor] = {}

    def forward(self, plan: Plan, inputs: Tensor) -> Tensor:
        """What the model under `plan` returns for `inputs`, shape (n, ...)."""
        with torch.no_grad(), full_precision():
            output: Tensor = _Runner(self, self.parts(self.concrete(plan))).run(inputs)
        return output

    def layer_of(self, node: torch.fx.Node) -> str | None:
        """The name of the layer that a node of `graph` runs; None where it can be no layer of a plan."""
        if node.op == "call_module":
            return str(node.target)
        return self._sites[node][0].name if node in self._sites else None

    def parts(self, plan: Plan) -> dict[torch.fx.Node, LayerPlan]:
        """The nodes of `graph` that `plan` changes, and what it says about each."""
        chosen = {layer.layer.name: layer for layer in plan.layers}
        return {n: chosen[name] for n in self.graph.graph.nodes if (name := self.layer_of(n)) in chosen}

    def rounded_inputs(
        self, node: torch.fx.Node, part: LayerPlan, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a layer's node with its inputs in the formats of `part`, which are concrete."""
        slots = self._keys(node, part.layer)
        changes = {key: partial(rounded, getattr(part, slot)) for slot, keys in slots.items() for key in keys}
        return replaced(args, kwargs, changes)

    def run_layer(self, node: torch.fx.Node, part: LayerPlan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What a layer's node returns for arguments that are rounded already, all else in the formats of `part`."""
        if node.op == "call_module":
            result = _applied(self.graph.get_submodule(str(node.target)), self.parameters_of(part), args, kwargs)
        elif part.layer.kind == "add":  # never in place: the arguments may be needed again
            result = torch.add(*(self._operand(node, args, kwargs, at) for at in (0, 1)), alpha=kwargs.get("alpha", 1))
        else:
            weight = weight_key(part.layer, self._sites[node][1])
            changes = {} if weight is None else {weight: lambda _: self.parameters_of(part)["weight"]}
            result = self.run_node(node, *replaced(args, kwargs, changes))
        return rounded(part.data_out, result) if part.layer.rounds else result

    def run_node(self, node: torch.fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What a node that is no layer of the plan returns."""
        return getattr(self._interpreter, node.op)(node.target, args, dict(kwargs))

    def module(self, plan: Plan) -> torch.fx.GraphModule:
        """A stand-alone module with `plan` applied; its outputs are bit for bit those of `forward`."""
        result = copy.deepcopy(self.graph)
        parts = self.parts(self.concrete(plan))
        for original, node in zip(list(self.graph.graph.nodes), list(result.graph.nodes), strict=True):
            if original in parts:
                self._apply(result, node, original, parts[original])
        result.delete_all_unused_submodules()
        result.recompile()
        return result

    def _apply(
        self, result: torch.fx.GraphModule, node: torch.fx.Node, original: torch.fx.Node, part: LayerPlan
    ) -> None:
        """Put the formats of `part` around and into `node` of `result`, which is a copy of `original`."""
        name, graph = part.layer.name.replace(".", "_"), result.graph
        changes: dict[Key, Callable[[Any], Any]] = {}
        with graph.inserting_before(node):
            for slot, keys in self._keys(original, part.layer).items():
                result.add_submodule(f"{name}_{slot}", Quantizer(getattr(part, slot)))
                changes |= dict.fromkeys(keys, partial(_called, graph, f"{name}_{slot}"))
            weight = weight_key(part.layer, self._sites[original][1]) if original in self._sites else None
            for parameter, value in self.parameters_of(part).items():
                owner = result.get_submodule(str(node.target)) if weight is None else result
                at = parameter if weight is None else f"{name}_{parameter}"
                setattr(owner, at, nn.Parameter(value.clone()))
                if weight is not None:
                    changes[weight] = partial(_read, graph, at)
            node.args, node.kwargs = replaced(node.args, node.kwargs, changes)
        if part.layer.rounds:
            result.add_submodule(f"{name}_data_out", Quantizer(part.data_out))
            with graph.inserting_after(node):
                output = graph.call_module(f"{name}_data_out", (node,))
            node.replace_all_uses_with(output, delete_user_cb=lambda user: user is not output)

    def concrete(self, plan: Plan) -> Plan:
        """`plan` with every format calibrated on the model's own tensors."""
        return replace(plan, layers=tuple(self.concrete_layer(layer) for layer in plan.layers))

    def parameters_of(self, layer: LayerPlan) -> dict[str, Tensor]:
        """The quantized `weight` and, where there is one, `bias` of a layer whose formats are concrete."""
        formats = layer.formats
        return {
            slot: self._quantized(layer.layer, slot, formats[slot]) for slot in ("weight", "bias") if slot in formats
        }

    def concrete_layer(self, layer: LayerPlan) -> LayerPlan:
        """`layer` with every format calibrated."""
        chosen: dict[str, Any] = {
            slot: self._concrete(layer.layer, slot, fmt) for slot, fmt in layer.formats.items() if not fmt.concrete
        }
        return replace(layer, **chosen)

    def _concrete(self, layer: Layer, slot: str, fmt: Format) -> Format:
        """`fmt` with whatever it leaves to calibration chosen for the tensor in `slot` of `layer`."""
        holder = self._layers.get(layer.tied)
        if slot == "weight" and holder is not None and holder.name in self._nodes:
            layer = holder  # one tensor, one format
        key = (f"{layer.name}.{slot}", fmt)
        if key not in self._formats:
            tensor = self._tensor(layer, slot)
            if self.method == "auto":
                self._formats[key] = self._best(layer, slot, [fmt.calibrate(tensor, method) for method in _METHODS])
            else:
                self._formats[key] = fmt.calibrate(tensor, self.method)
        return self._formats[key]

    def _best(self, layer: Layer, slot: str, tried: Sequence[Format]) -> Format:
        """The format of those `tried` for the tensor in `slot` that changes the output of `layer` least.

        By the mean squared difference from the float output on the calibration inputs; the first of equals.
        """
        candidates = list(dict.fromkeys(tried))
        if len(candidates) == 1:
            return candidates[0]
        node = self._nodes[layer.name]
        args, kwargs = self._arguments(node)
        plain = LayerPlan(layer, 0, 0)
        losses = []
        with torch.no_grad(), single_thread():
            expected = self.run_layer(node, plain, args, kwargs)
            for fmt in candidates:
                chosen: dict[str, Any] = {slot: fmt}
                part = replace(plain, **chosen)
                found = self.run_layer(node, part, *self.rounded_inputs(node, part, args, kwargs))
                loss = float((found - expected).double().square().mean())
                losses.append(loss if math.isfinite(loss) else math.inf)
                self._tensors.pop((f"{layer.name}.{slot}", fmt), None)
        return candidates[losses.index(min(losses))]

    def _quantized(self, layer: Layer, slot: str, fmt: Format) -> Tensor:
        key = (f"{layer.name}.{slot}", fmt)
        if key not in self._tensors:
            self._tensors[key] = fmt.quantize(self._tensor(layer, slot))
        return self._tensors[key]

    def _tensor(self, layer: Layer, slot: str) -> Tensor:
        """The float tensor in `slot` of `layer`: a parameter, or an activation on the calibration inputs."""
        node = self._nodes[layer.name]
        if slot in ("weight", "bias"):
            weight = weight_key(layer, self._sites[node][1]) if node in self._sites else None
            name = f"{layer.name}.{slot}" if weight is None else weight_of(node, weight)
            stored: Tensor = attrgetter(name)(self.graph)  # a parameter, or a buffer that a function multiplies with
            return stored.detach()
        args, kwargs = self._arguments(node)
        if slot == "data_out":
            with torch.no_grad(), full_precision():
                result: Tensor = self.run_layer(node, LayerPlan(layer, 0, 0), args, kwargs)
            return result
        read = [args[key] if isinstance(key, int) else kwargs[str(key)] for key in self._keys(node, layer)[slot]]
        return read[0] if len(read) == 1 else torch.cat(read)

    def _arguments(self, node: torch.fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a layer's node receives in the float model on the calibration inputs."""
        if not self._seen:
            with torch.no_grad(), full_precision():
                _Recorder(self, self._seen).run(self._calibration)
        return self._seen[node]

    def _keys(self, node: torch.fx.Node, layer: Layer) -> dict[str, tuple[Key, ...]]:
        return data_keys(node, layer, self._sites[node][1] if node in self._sites else None)

    def _operand(self, node: torch.fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], at: int) -> Any:
        key = self._sites[node][1].operands[at]
        return args[key] if isinstance(key, int) else kwargs[str(key)]


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _applied(module: nn.Module, tensors: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What `module` returns with other `tensors`; what `forward` does where a functional call would cost more."""
    if not kwargs and type(module) is nn.Linear:
        return nn.functional.linear(args[0], tensors["weight"], tensors.get("bias"))
    if not kwargs and type(module) in _CONVOLUTIONS:
        return module._conv_forward(args[0], tensors["weight"], tensors.get("bias"))  # type: ignore[operator]
    return torch.func.functional_call(module, dict(tensors), args, dict(kwargs))


def _called(graph: torch.fx.Graph, module: str, argument: Any) -> torch.fx.Node:
    return graph.call_module(module, (argument,))


def _read(graph: torch.fx.Graph, parameter: str, _: Any) -> torch.fx.Node:
    return graph.get_attr(parameter)


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


class _Recorder(torch.fx.Interpreter):
    """Keeps what the node of each layer receives."""

    def __init__(self, quantized: PostTraining, seen: dict[torch.fx.Node, Any]) -> None:
        super().__init__(quantized.graph)
        self._quantized = quantized
        self._seen = seen
        self._writes = any(mutates(quantized.graph, node) for node in quantized.graph.graph.nodes)

    def run_node(self, n: torch.fx.Node) -> Any:
        if self._quantized.layer_of(n) is not None:
            received = self.fetch_args_kwargs_from_env(n)
            self._seen[n] = tree_map(_cloned, received) if self._writes else received  # before it is written to
        return super().run_node(n)


class _Runner(torch.fx.Interpreter):
    """Runs the graph with the weights and data formats that a plan names."""

    def __init__(self, quantized: PostTraining, parts: Mapping[torch.fx.Node, LayerPlan]) -> None:
        super().__init__(quantized.graph)
        self._quantized = quantized
        self._parts = parts

    def run_node(self, n: torch.fx.Node) -> Any:
        part = self._parts.get(n)
        if part is None:
            return super().run_node(n)
        args, kwargs = self._quantized.rounded_inputs(n, part, *self.fetch_args_kwargs_from_env(n))
        return self._quantized.run_layer(n, part, args, kwargs)
