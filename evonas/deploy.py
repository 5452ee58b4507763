"""The deployable form of a network: an ONNX model that onnxruntime runs, in int8 where the plan is int8 throughout.

A plan is int8 throughout when every layer is a linear or convolution module, or a sum, that reads integers of 8 bits
with one scale (`int8`, `uint8`, `int8a`, `fixed8`), and every weight is of at most 8 bits without a zero point, with
one scale or one for each output. Weights are stored as int8 with their scales. Inputs are quantized by a QuantizeLinear
and a DequantizeLinear node (QDQ), which onnxruntime fuses with the layer after them where it can; their integers are
shifted into uint8, which changes no value and is fast on x86. Batch norms are folded into the scales of the weights,
whose integers stay as they are. Biases become 32-bit integers in steps of the sums that they join, as int8 arithmetic
has them: that, and the order of float sums, is all that differs from the simulation.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from evonas.errors import InvalidArgument
from evonas.formats import Fixed, Format, Integer
from evonas.graph.fold import fold_batchnorms, foldable
from evonas.plan import Plan
from evonas.quantize import PostTraining, Quantizer

__all__ = ["int8_module", "int8_throughout", "onnx_call", "onnx_model", "require_onnxruntime", "session"]

_BITS = 8
_OPSET = 17


@dataclass(frozen=True)
class _Grid:
    """Integers of at most 8 bits times scales: what a QuantizeLinear node needs to know."""

    scales: tuple[float, ...]
    zero: int
    lowest: int
    highest: int

    @classmethod
    def of(cls, fmt: Format) -> _Grid | None:
        """The grid of a concrete format; None when it is none, or does not fit into 8 bits."""
        if isinstance(fmt, Fixed) and fmt.frac is not None and fmt.total <= _BITS:
            return cls((2.0**-fmt.frac,), 0, fmt.lowest, fmt.highest)
        if isinstance(fmt, Integer) and fmt.total <= _BITS:
            scales, zeros = fmt.scale, fmt.zero
            if isinstance(scales, tuple) and isinstance(zeros, tuple) and (len(scales) == 1 or not any(zeros)):
                return cls(scales, zeros[0], fmt.lowest, fmt.highest)
        return None

    @property
    def whole(self) -> bool:
        """True when it is all of int8 or of uint8, with one scale: what an activation can have."""
        return len(self.scales) == 1 and (self.lowest, self.highest) in ((-128, 127), (0, 255))

    @property
    def weights(self) -> bool:
        """True when a weight can have it: it fits into int8, without a zero point."""
        return self.zero == 0 and self.lowest >= -128 and self.highest <= 127


def int8_throughout(plan: Plan) -> bool:
    """Whether every layer of `plan`, whose formats are concrete, can run on integers of 8 bits."""
    return bool(plan.layers) and all(_int8(layer.layer.type, layer.formats) for layer in plan.layers)


def _int8(kind: str, formats: dict[str, Format]) -> bool:
    grids = {slot: _Grid.of(fmt) for slot, fmt in formats.items() if slot != "bias"}
    weight, data = grids.pop("weight", None), list(grids.values())
    if kind not in ("linear", "conv", "add") or (kind != "add" and (weight is None or not weight.weights)):
        return False
    axis = getattr(formats.get("weight"), "axis", 0) if weight is not None and len(weight.scales) > 1 else 0
    return axis == 0 and all(grid is not None and grid.whole for grid in data)


class _Rounded(nn.Module):
    """Rounds to a grid by the operation that is exported as QuantizeLinear and DequantizeLinear."""

    def __init__(self, scales: Tensor, zero: int = 0, lowest: int = -128, highest: int = 127) -> None:
        super().__init__()
        self.zero, self.lowest, self.highest = zero, lowest, highest
        self.one = float(scales) if scales.numel() == 1 else None
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(scales.numel(), dtype=torch.int32))

    def forward(self, values: Tensor) -> Tensor:
        """`values` (any shape) on the grid; several scales lie along the first axis."""
        if self.one is not None:
            return torch.fake_quantize_per_tensor_affine(values, self.one, self.zero, self.lowest, self.highest)
        scales, zeros = self.scales, self.zeros
        return torch.fake_quantize_per_channel_affine(values, scales, zeros, 0, self.lowest, self.highest)  # type: ignore[arg-type]


def int8_module(network: PostTraining, plan: Plan, sample: Tensor) -> fx.GraphModule:
    """The network under `plan` as a module whose every rounding can be exported; outputs are nearly those of `forward`.

    They differ by the float error of folding batch norms, and by what it moves across a rounding boundary.

    Args:
        network: trained.
        plan: int8 throughout.
        sample: an input, shape (n, ...).

    Raises:
        InvalidArgument: a plan that is not int8 throughout.
    """
    plan = network.concrete(plan)
    if not int8_throughout(plan):
        raise InvalidArgument("the plan is not int8 throughout; give it formats such as int8 or fixed8 in every layer")
    module, sample = network.module(plan).cpu(), sample.cpu()  # where it is exported, and where onnxruntime runs
    scales = {
        layer.layer.name: torch.tensor(grid.scales)
        for layer in plan.layers
        if layer.layer.stores and (grid := _Grid.of(layer.weight)) is not None
    }
    module = _without_norms(module, scales, sample)
    for name, part in list(module.named_modules()):
        if isinstance(part, Quantizer):
            grid = _Grid.of(part.format)
            assert grid is not None  # the plan is int8 throughout
            module.set_submodule(name, _Rounded(torch.tensor(grid.scales), grid.zero - grid.lowest, 0, 255))
    for name, scale in scales.items():
        parametrize.register_parametrization(module.get_submodule(name), "weight", _Rounded(scale))
    return module.eval()


def _without_norms(module: fx.GraphModule, scales: dict[str, Tensor], sample: Tensor) -> fx.GraphModule:
    """`module` with batch norms in the layers before them where their integers can stay; `scales` become theirs."""
    pairs = {}
    for layer, norm in foldable(module, module.graph, _values(module, sample)).items():
        found, owner = (cast(Any, module.get_submodule(name)) for name in (norm, layer))
        weight = owner.weight.detach()
        gain = torch.rsqrt(found.running_var + found.eps) * (1.0 if found.weight is None else found.weight.detach())
        axis = (-1, *(1,) * (weight.ndim - 1))
        codes = (weight / scales[layer].view(axis)).round().flatten(1) * gain.sign().view(-1, 1)
        if getattr(owner, "transposed", False) or float(codes.max()) > 127:
            continue  # 128, the opposite of -128, is not in int8
        pairs[layer] = norm
        scales[layer] = torch.where(gain == 0, torch.ones_like(gain), gain.abs()) * scales[layer]
    return fold_batchnorms(module, pairs)


def _values(module: fx.GraphModule, sample: Tensor) -> dict[fx.Node, Any]:
    found: dict[fx.Node, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            found[n] = super().run_node(n)
            return found[n]

    with torch.no_grad():
        Recorder(module).run(sample)
    return found


def require_onnxruntime() -> None:
    """Raise `InvalidArgument` unless onnx and onnxruntime are installed."""
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
        raise InvalidArgument("onnxruntime is not installed; pip install 'evonas[deploy]'")


def onnx_model(module: nn.Module, sample: Tensor) -> bytes:
    """`module` as an ONNX model for any number of samples, with weights that are rounded stored as integers.

    Args:
        module: in evaluation mode; one input and one output.
        sample: an input, shape (n, ...).

    Raises:
        InvalidArgument: onnx or onnxruntime is not installed.
    """
    require_onnxruntime()
    import onnx

    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter that needs no tracing of its own is deprecated, and 20 x faster
        torch.onnx.export(
            copy.deepcopy(module).cpu(),
            (sample.cpu(),),
            buffer,  # type: ignore[arg-type]  # the exporter used here takes it
            dynamo=False,
            opset_version=_OPSET,
            input_names=["inputs"],
            output_names=["outputs"],
            dynamic_axes={"inputs": {0: "n"}, "outputs": {0: "n"}},
        )
    model = onnx.load_model_from_string(buffer.getvalue())
    _store_integers(model.graph)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def onnx_call(module: nn.Module, inputs: Tensor) -> Callable[[], object]:
    """A call that runs `module`, exported, on `inputs` (n, ...) by onnxruntime on one thread."""
    run = session(onnx_model(module, inputs[:2]))
    return lambda: run(inputs)


def _store_integers(graph: Any) -> None:
    """Store what is rounded as integers: weights in int8, biases of layers on integers as int32 sums.

    And round what a layer returns before a ReLU instead of after it, which gives the same integers (0 is one of them),
    so that onnxruntime sees a layer from integers to integers.
    """
    from onnx import helper, numpy_helper

    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    known |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
    known |= {n.output[0]: known[n.input[0]] for n in graph.node if n.op_type == "Identity" and n.input[0] in known}
    maker = {output: node for node in graph.node for output in node.output}
    nodes = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in known:
            codes = _codes(node, *(known[name] for name in node.input))
            graph.initializer.append(numpy_helper.from_array(codes, node.output[0]))
            continue
        if node.op_type in ("Conv", "Gemm") and all(_is(maker, name, "DequantizeLinear") for name in node.input[:2]):
            data, weight = (known[maker[name].input[1]] for name in node.input[:2])
            nodes += _integer_bias(graph, node, known, data * weight.reshape(-1))
        source = maker.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
        zero = known[node.input[2]] if source is not None else None
        if (
            source is not None
            and source.op_type == "Relu"
            and zero is not None
            and _is(maker, source.input[0], "Conv", "Gemm")
        ):
            name = f"{node.output[0]}_below"
            graph.initializer.append(numpy_helper.from_array(zero, f"{name}_least"))
            nodes += [
                helper.make_node("QuantizeLinear", [source.input[0], *node.input[1:]], [name]),
                helper.make_node("Clip", [name, f"{name}_least"], [node.output[0]]),
            ]
            continue
        nodes.append(node)
    _replace(graph, nodes)


def _is(maker: dict[str, Any], name: str, *kinds: str) -> bool:
    return name in maker and maker[name].op_type in kinds


def _codes(node: Any, values: Any, scale: Any, zero: Any) -> Any:
    """What a QuantizeLinear node gives."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    shape = [-1 if i == axis and scale.size > 1 else 1 for i in range(values.ndim)]
    limits = np.iinfo(zero.dtype)
    codes = np.rint(values / scale.reshape(shape)) + zero.reshape(shape)
    return np.clip(codes, limits.min, limits.max).astype(zero.dtype)


def _integer_bias(graph: Any, node: Any, known: dict[str, Any], step: Any) -> list[Any]:
    """Store the bias of `node` in steps of its sums, which a new node makes float again; nothing where it has none."""
    from onnx import helper, numpy_helper

    if len(node.input) < 3 or node.input[2] not in known:
        return []
    values, name = known[node.input[2]], f"{node.output[0]}_bias"
    steps = np.broadcast_to(step, values.shape).astype(np.float32)
    codes = np.rint(values.astype(np.float64) / steps)
    if np.abs(codes).max(initial=0) >= 2**31:
        return []
    for suffix, array in (("codes", codes.astype(np.int32)), ("steps", steps)):
        graph.initializer.append(numpy_helper.from_array(array, f"{name}_{suffix}"))
    node.input[2] = name
    return [helper.make_node("DequantizeLinear", [f"{name}_codes", f"{name}_steps"], [name], axis=0)]


def _replace(graph: Any, nodes: list[Any]) -> None:
    """Give `graph` these nodes, without those that nothing reads and initializers that nothing reads."""
    wanted, kept = {output.name for output in graph.output}, []
    for node in reversed(nodes):
        if any(output in wanted for output in node.output):
            kept.append(node)
            wanted |= set(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for tensor in list(graph.initializer):
        if tensor.name not in wanted:
            graph.initializer.remove(tensor)


def session(model: bytes, *, threads: int = 1) -> Callable[[Tensor], Tensor]:
    """What runs an ONNX model in onnxruntime on the processor.

    Raises:
        InvalidArgument: onnxruntime is not installed.
    """
    require_onnxruntime()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    running = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(inputs: Tensor) -> Tensor:
        return torch.from_numpy(running.run(None, {"inputs": inputs.numpy()})[0])

    return run
