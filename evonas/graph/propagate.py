"""Push ids through a traced model until nothing more unites."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_map

from evonas.graph.elementwise import meet, spatial
from evonas.graph.flow import Flow, ParamRef
from evonas.graph.movement import MOVEMENT, MOVEMENT_MODULES, index, move, pad
from evonas.graph.rules import CREATION, ELEMENTWISE, FUNCTIONS, SPATIAL, WEIGHTED, follow_module
from evonas.graph.shuffles import Shuffle
from evonas.graph.trace import Traced
from evonas.graph.units import distinct, first_along, varying

__all__ = ["op_name", "propagate"]

_REASON_OPAQUE = {
    nn.MultiheadAttention: "nn.MultiheadAttention keeps its sizes: write it as Linear, reshape and "
    "scaled_dot_product_attention to have it searched",
    nn.RNNBase: "recurrent layers keep their sizes",
}


def propagate(model: nn.Module, traced: Traced, shuffles: dict[fx.Node, Shuffle]) -> Flow:
    """Ids of every activation and parameter of `model`, united where channels are coupled.

    Raises nothing of its own: an op without a rule freezes the channels it touches, with a reason.
    """
    flow = Flow(model, traced)
    while True:
        before = flow.units.version
        _one_pass(flow, shuffles)
        if flow.units.version != before:
            continue
        if not flow.strict:
            flow.strict = True
        elif not _settle(flow):
            return flow


def _one_pass(flow: Flow, shuffles: dict[fx.Node, Shuffle]) -> None:
    flow.uses, flow.uniform, flow.never = [], [], []
    inside = {node for shuffle in shuffles.values() for node in shuffle.inner}
    for node in flow.traced.graph.nodes:
        flow.node = node
        if node in shuffles:
            shuffle = shuffles[node]
            source = flow.ids[shuffle.source]
            flow.ids[node] = flow.units.look(source.index_select(shuffle.dim, shuffle.index))
        elif node not in inside and node.op != "output" and not _is_tensors(flow.traced.values.get(node)):
            flow.ids[node] = flow.traced.values[node]  # sizes and other plain values stand for themselves
        elif node not in inside:
            flow.ids[node] = _visit(flow, node)


def _is_tensors(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_is_tensors(v) for v in value)
    return isinstance(value, Tensor)


def _visit(flow: Flow, node: fx.Node) -> Any:
    if node.op == "placeholder":
        return flow.constant(f"it is coupled to the input `{node.target}` of the model")
    if node.op == "get_attr":
        return _attribute(flow, node)
    args = fx.map_arg(node.args, lambda n: flow.ids[n])
    kwargs = fx.map_arg(node.kwargs, lambda n: flow.ids[n])
    if node.op == "output":
        flow.finish(args[0])
        return None
    try:
        return (_module if node.op == "call_module" else _function)(flow, node, args, kwargs)
    except Exception as error:  # a use that no rule expects: freezing is always right, guessing never is
        reason = f"{op_name(node)} is not followed at {flow.here}: {type(error).__name__}: {error}".splitlines()[0]
        if node.op == "call_module":
            flow.refused[node] = reason
            _freeze_inside(flow, node, reason)
        return flow.opaque((args, kwargs), reason)


def _attribute(flow: Flow, node: fx.Node) -> Any:
    name = flow.traced.names.get(str(node.target))
    value = flow.traced.values[node]
    if name is None or not isinstance(value, Tensor) or not value.is_floating_point():
        return flow.constant(f"it is coupled to the constant `{node.target}`")
    return ParamRef(name, tuple(value.shape))


def op_name(node: fx.Node) -> str:
    """The name of the function or method that `node` calls, without the underscore of in-place variants."""
    name = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", node.target))
    return name[:-1] if name.endswith("_") and not name.endswith("__") and name not in ELEMENTWISE else name


def _function(flow: Flow, node: fx.Node, args: Any, kwargs: Any) -> Any:
    name = op_name(node)
    reference = args[0] if args else None
    swaps = name in ("t", "T", "mT", "transpose", "permute", "swapaxes", "numpy_T")
    if isinstance(reference, ParamRef) and len(reference.shape) == 2 and swaps and name != "permute":
        return reference._replace(shape=reference.shape[::-1], swapped=not reference.swapped)
    if name == "getattr" and isinstance(reference, ParamRef) and args[1] in ("T", "mT"):
        return reference._replace(shape=reference.shape[::-1], swapped=not reference.swapped)
    if name in WEIGHTED and _weights_fit(name, args, kwargs):
        return WEIGHTED[name](flow, *args, **_named(kwargs))
    args, kwargs = _elements(flow, args), _elements(flow, kwargs)
    result = _plain(flow, node, name, args, kwargs)
    if result is NotImplemented:
        return flow.opaque((args, kwargs), f"`{name}` is not known to evonas.graph at {flow.here}")
    return result


def _weights_fit(name: str, args: Any, kwargs: Any) -> bool:
    """Whether the op gets its weight as a parameter; a computed weight has no rule."""
    if name in ("matmul", "bmm", "mm", "einsum"):
        return True
    if name in ("batch_norm", "instance_norm", "layer_norm", "group_norm", "rms_norm"):
        given = [*args[1:], *kwargs.values()]
        return not any(isinstance(g, Tensor) for g in given)
    weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
    return isinstance(weight, ParamRef)


def _named(kwargs: dict[str, Any]) -> dict[str, Any]:
    renames = {
        "running_mean": "mean",
        "running_var": "var",
        "normalized_shape": "shape",
        "num_groups": "groups",
    }
    return {renames.get(k, k): v for k, v in kwargs.items() if k not in ("input", "eps")}


def _elements(flow: Flow, arguments: Any) -> Any:
    if isinstance(arguments, ParamRef):
        return flow.free(arguments)
    if isinstance(arguments, (tuple, list)):
        items = [_elements(flow, a) for a in arguments]
        return tuple(items) if isinstance(arguments, tuple) else items
    if isinstance(arguments, dict):
        return {k: _elements(flow, v) for k, v in arguments.items()}
    return arguments


def _plain(flow: Flow, node: fx.Node, name: str, args: Any, kwargs: Any) -> Any:
    if name == "getattr":
        return move(flow, torch.transpose, args[0], -1, -2) if args[1] in ("T", "mT") else NotImplemented
    if name in ("getitem", "index_select", "gather", "take_along_dim", "masked_select"):
        return _indexed(flow, node, name, args)
    if name == "pad":
        return pad(flow, *args, **{k: v for k, v in kwargs.items() if k != "value"})
    if name in MOVEMENT:
        return move(flow, node.target, *args, **kwargs)
    if name in ELEMENTWISE:
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        return meet(flow, tensors) if tensors else NotImplemented
    if name in SPATIAL:
        value = flow.traced.values[node]
        return spatial(flow, args[0], SPATIAL[name] or value.ndim - 2) if isinstance(value, Tensor) else NotImplemented
    if name in FUNCTIONS:
        return FUNCTIONS[name](flow, *args, **kwargs)
    if name in CREATION:
        return flow.constant(f"it is coupled to the constant made at {flow.here}")
    return NotImplemented


def _indexed(flow: Flow, node: fx.Node, name: str, args: Any) -> Any:
    source = args[0]
    if not isinstance(source, Tensor):
        return source[args[1]]
    real: Any = fx.map_arg(node.args[1:], lambda n: flow.traced.values[n])
    if name == "getitem":
        return index(flow, source, real[0])
    if name == "index_select":
        return index(flow, source, (slice(None),) * (real[0] % source.ndim) + (real[1],))
    return NotImplemented


def _module(flow: Flow, node: fx.Node, args: Any, kwargs: Any) -> Any:
    module = flow.model.get_submodule(str(node.target))
    args, kwargs = _elements(flow, args), _elements(flow, kwargs)
    tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    if parametrize.is_parametrized(module) or getattr(module, "_forward_pre_hooks", None):
        reason = f"the weights of `{node.target}` are computed before use (parametrized or hooked)"
        flow.refused[node] = reason
        _freeze_inside(flow, node, reason)
        return flow.opaque((args, kwargs), reason)
    if isinstance(module, MOVEMENT_MODULES) and len(args) == 1:
        return move(flow, module, *args)
    params = {
        name: ParamRef(flow.traced.names[f"{node.target}.{name}"], tuple(tensor.shape))
        for name, tensor in tensors.items()
    }
    result = NotImplemented if kwargs else follow_module(flow, module, params, *args)
    if result is not NotImplemented:
        return result
    kind = type(module).__name__
    known = next((text for cls, text in _REASON_OPAQUE.items() if isinstance(module, cls)), None)
    reason = known or f"`{node.target}` is a {kind}, which evonas.graph does not resize"
    flow.refused[node] = reason
    _freeze_inside(flow, node, reason)
    return flow.opaque((args, kwargs), reason)


def _freeze_inside(flow: Flow, node: fx.Node, reason: str) -> None:
    """Parameters of an opaque module that other layers share stay as they are."""
    prefix = f"{node.target}."
    for name, canonical in flow.traced.names.items():
        if name.startswith(prefix):
            for (owner, _), ids in flow.slots.items():
                if owner == canonical:
                    flow.units.freeze(ids, reason)
            if canonical in flow.elements:
                flow.units.freeze(flow.elements[canonical], reason)


def _settle(flow: Flow) -> bool:
    """Bring every activation down to one dim that varies; True when something changed.

    What varies along several dims is a rectangle (heads and width): its slabs along the dim with the most
    units become the units. A unit that fills an activation alone can never go.
    """
    before = flow.units.version
    items = [ids for ids in flow.ids.values() if isinstance(ids, (Tensor, tuple, list))]
    items += [*flow.elements.values(), *flow.slots.values()]
    for ids in items:
        tree_map(lambda t: _settle_one(flow, t) if isinstance(t, Tensor) else t, ids)
        if flow.units.version != before:
            return True
    return False


def _settle_one(flow: Flow, ids: Tensor) -> None:
    if ids.dtype != torch.int64 or ids.numel() == 0:
        return
    ids = flow.units.look(ids)
    dims = varying(ids)
    if len(dims) > 1:
        counts = {d: len(distinct(first_along(ids, [d]))) for d in dims}
        flow.units.tie(ids, [max(dims, key=lambda d: counts[d])])
    elif not dims:
        tied = flow.units.notes(int(first_along(ids).reshape(-1)[0]))
        reason = "the grouped layers around it tie" if tied & {"groups", "group width"} else "the layers around it tie"
        flow.units.freeze(ids, f"{reason} all its channels into one, nothing would be left without it")
