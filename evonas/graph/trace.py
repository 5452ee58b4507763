"""Trace a model with torch.fx and record the shapes that its nodes really have."""

from __future__ import annotations

import copy
import inspect
import linecache
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from evonas.errors import EvonasError, InvalidArgument
from evonas.graph.lines import where
from evonas.graph.writes import settle

__all__ = [
    "Traced",
    "Tracer",
    "UntraceableModel",
    "as_inputs",
    "as_module",
    "eval_forward",
    "retrace",
    "trace",
]

_TORCH = os.path.dirname(torch.__file__)
_HERE = os.path.dirname(__file__)


class UntraceableModel(EvonasError, TypeError):
    """A model that torch.fx cannot trace: the message names the user's line and what to do about it."""


@dataclass(frozen=True)
class Traced:
    """A traced model.

    Attributes:
        graph: the fx graph of the forward pass in evaluation mode.
        values: what each node returned on the example inputs: floating tensors as meta tensors of the same
            shape, everything else as it was.
        inputs: the example inputs.
        constants: tensors that the forward pass makes itself, by the name that the graph has for them.
        names: every parameter and buffer name -> the first name of the same tensor (weight tying).
    """

    graph: fx.Graph
    values: dict[fx.Node, Any]
    inputs: tuple[Any, ...]
    names: dict[str, str]
    constants: dict[str, Tensor]


class Tracer(fx.Tracer):
    """The fx tracer, but `+=` stays in place, an `assert` does not stop it, and every node remembers the user's line.

    torch's own `record_stack_traces` imports its compilers, which takes longer than everything else here.
    """

    def __init__(self, buffers: bool = True) -> None:
        super().__init__()
        self.proxy_buffer_attributes = buffers

    def to_bool(self, obj: fx.Proxy) -> bool:
        """An `assert` becomes a node of its own; fx refuses every other use as a truth value."""
        frame = _user_frame()
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() if frame else ""
        if line.startswith("assert "):
            self.create_proxy("call_function", torch._assert, (obj, line), {})
            return True
        return super().to_bool(obj)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """What forward is handed for `node`."""
        count = _parts(node)
        return _Value(node, self) if count is None else _Parts(node, self, count)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """A node that knows the innermost line that is not torch's."""
        node = super().create_node(*args, **kwargs)
        frame = _user_frame()
        if frame is not None and frame.f_code.co_name != "<module>":
            path, line = frame.f_code.co_filename, frame.f_lineno
            code = linecache.getline(path, line).strip()
            node.stack_trace = f'File "{path}", line {line}, in {frame.f_code.co_name}\n    {code}'
        return node


class _Value(fx.Proxy):
    """What a node returns. For fx itself `x += y` is `x = x + y`, which whoever else holds `x` does not see."""


def _in_place(name: str) -> Callable[[fx.Proxy, Any], Any]:
    def method(self: fx.Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", getattr(operator, name), (self, other), {})

    return method


for _name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor"):
    setattr(_Value, f"__{_name}__", _in_place(_name))


class _Parts(_Value):
    """The parts of a chunk or split, which fx itself does not let a list hold: `list(x.chunk(2, 1))`."""

    def __init__(self, node: fx.Node, tracer: fx.Tracer, count: int) -> None:
        super().__init__(node, tracer)
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[fx.Proxy]:
        return iter([self.__getitem__(i) for i in range(self._count)])


def _parts(node: fx.Node) -> int | None:
    """How many tensors a chunk or split returns, where its arguments say so."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    sizes = node.args[1] if len(node.args) > 1 else node.kwargs.get("chunks", node.kwargs.get("split_size_or_sections"))
    if name in ("chunk", "unsafe_chunk") and isinstance(sizes, int):
        return sizes
    return len(sizes) if name in ("split", "split_with_sizes") and isinstance(sizes, (tuple, list)) else None


def _user_frame() -> FrameType | None:
    """The innermost frame outside torch and this package."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith((_TORCH, _HERE)):
        frame = frame.f_back
    return frame


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps a summary of every value."""

    def __init__(self, model: nn.Module, graph: fx.Graph, constants: dict[str, Tensor]) -> None:
        super().__init__(as_module(model, graph, constants))
        # The interpreter works on the copy of the graph that GraphModule made; pair the nodes by position.
        assert isinstance(self.module, fx.GraphModule)
        self.originals = dict(zip(self.module.graph.nodes, graph.nodes, strict=True))
        self.values: dict[fx.Node, Any] = {}
        self.extra_traceback = False  # fx would add lines to our messages

    def run_node(self, n: fx.Node) -> Any:
        try:
            value = super().run_node(n)
        except Exception as error:  # forward itself ran, so the graph is not what it does
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UntraceableModel(
                f"torch.fx loses what {where(self.originals[n])} does ({text}); write it in another way"
            ) from error
        self.values[self.originals[n]] = tree_map(_summary, value)
        return value


def _summary(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("meta") if value.is_floating_point() else value.detach().cpu().clone()
    return value


def as_inputs(example_inputs: Tensor | Sequence[Any]) -> tuple[Any, ...]:
    """The positional arguments of forward as a tuple; a lone tensor is the only argument.

    Raises:
        InvalidArgument: it is neither a tensor nor a tuple or list.
    """
    if isinstance(example_inputs, Tensor):
        return (example_inputs,)
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs)
    raise InvalidArgument(
        f"`example_inputs` must be a tensor or a tuple of forward's arguments, got {type(example_inputs).__name__}"
    )


def trace(model: nn.Module, example_inputs: Tensor | Sequence[Any]) -> Traced:
    """The graph of `model` with the value of every node on `example_inputs`.

    Raises:
        InvalidArgument: the model is not a module, is in training mode, has lazy parameters that were never
            run, or does not accept the inputs.
        UntraceableModel: torch.fx cannot trace it.
    """
    inputs = copy.deepcopy(as_inputs(example_inputs))  # forward may change its arguments in place
    if not isinstance(model, nn.Module):
        raise InvalidArgument(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    if model.training:
        raise InvalidArgument("`model` is in training mode: call model.eval() first (train() again afterwards)")
    lazy = [n for n, p in model.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)]
    if lazy:
        raise InvalidArgument(f"`model` has a lazy parameter `{lazy[0]}`: run the model once before this")
    eval_forward(model, copy.deepcopy(inputs))
    graph, constants = retrace(model, inputs)
    recorder = _Recorder(model, graph, constants)
    with torch.no_grad():
        recorder.run(*copy.deepcopy(inputs))
    return Traced(graph, recorder.values, inputs, _canonical_names(model), constants)


def retrace(model: nn.Module, inputs: tuple[Any, ...], *, settled: bool = True) -> tuple[fx.Graph, dict[str, Tensor]]:
    """The fx graph of `model` and the constants it reads; arguments of forward beyond `inputs` keep their
    defaults.

    Args:
        model: in evaluation mode.
        inputs: arguments of forward.
        settled: whether what need not be written in place gives a new value (`settle`), for which the graph is run.

    Raises:
        UntraceableModel: with the line of the user's code that stopped the trace.
    """
    known = set(vars(model))
    try:
        graph = _trace(model, inputs)
    finally:
        # fx hangs tensors that forward makes onto the model; the model is not ours to change.
        constants = {name: vars(model).pop(name) for name in list(vars(model)) if name not in known}
    for node in graph.nodes:
        node.type = None  # an annotation may be a string, which a GraphModule cannot pickle
    _drop_defaults(graph, len(inputs))
    if settled:
        module = as_module(model, graph, constants)
        try:
            settle(module, inputs)
        except Exception:  # that it does not run can be said with the user's line
            _Recorder(model, graph, constants).run(*copy.deepcopy(inputs))
            raise
        graph = module.graph
    return graph, constants


def _trace(model: nn.Module, inputs: tuple[Any, ...]) -> fx.Graph:
    try:
        return Tracer(buffers=True).trace(model, _defaults(model, inputs))
    except Exception as first:  # whatever the user's forward raises when it is handed proxies
        try:  # a buffer may be read as a plain value
            return Tracer(buffers=False).trace(model, _defaults(model, inputs))
        except Exception:  # the same line, most likely
            raise UntraceableModel(_explain(model, first)) from first


def as_module(
    model: nn.Module, graph: fx.Graph, constants: dict[str, Tensor], name: str = "GraphModule"
) -> fx.GraphModule:
    """A GraphModule of `graph` with the layers and parameters of `model`, and `constants` as buffers."""
    device = next((tensor.device for tensor in model.parameters()), None)
    constants = {name: tensor.to(device) for name, tensor in constants.items()} if device else constants
    root: dict[str, Any] = {}
    for node in graph.nodes:
        target = str(node.target)
        if node.op == "call_module":
            root[target] = model.get_submodule(target)
        elif node.op == "get_attr":
            found: Any = model
            for part in target.split("."):
                found = constants[part] if part in constants else getattr(found, part)
            root[target] = found
    return fx.GraphModule(root, graph, name)


def eval_forward(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """`model(*inputs)` without gradients.

    Raises:
        InvalidArgument: the model does not accept the inputs.
    """
    try:
        with torch.no_grad():
            return model(*inputs)
    except Exception as error:  # any failure here is a wrong input from the caller's point of view
        shapes = ", ".join(str(tuple(x.shape)) if isinstance(x, Tensor) else repr(x) for x in inputs)
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InvalidArgument(
            f"`{type(model).__name__}` does not accept `example_inputs` of shape {shapes}: {lines[0]}"
        ) from error


def _drop_defaults(graph: fx.Graph, given: int) -> None:
    """Remove the arguments that were traced at their defaults, and fx's assertions about them."""
    extra = [node for node in graph.nodes if node.op == "placeholder"][given:]
    for node in extra:
        for user in list(node.users):
            for check in list(user.users):
                graph.erase_node(check)
            graph.erase_node(user)
        graph.erase_node(node)


def _defaults(model: nn.Module, inputs: tuple[Any, ...]) -> dict[str, Any] | None:
    parameters = list(inspect.signature(model.forward).parameters.values())
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    omitted = {p.name: p.default for p in named[len(inputs) :] if p.default is not inspect.Parameter.empty}
    return omitted or None


def _canonical_names(model: nn.Module) -> dict[str, str]:
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    for name, tensor in tensors:
        names[name] = first.setdefault(id(tensor), name)
    return names


def _explain(model: nn.Module, error: Exception) -> str:
    """One line: which line of the user's code stopped the trace, why, and what to do."""
    place = "an unknown line"
    frame = error.__traceback__
    while frame is not None:
        path = frame.tb_frame.f_code.co_filename
        if not path.startswith((_TORCH, _HERE)):
            code = linecache.getline(path, frame.tb_lineno).strip()
            quoted = f" `{code}`" if code else f" in {frame.tb_frame.f_code.co_name}"
            place = f"line {frame.tb_lineno} of {path}{quoted}"
        frame = frame.tb_next
    text = (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]
    if "iterated" in text:
        advice = "unpack into names (a, b = x.split(4, 1)), or loop over what attributes say"
    elif "control flow" in text or "bool" in text:
        advice = "branch or loop on attributes, or use torch.where, so that the path does not depend on data"
    else:
        advice = "write it with torch operations on tensors, or put it into a function marked with torch.fx.wrap"
    return f"torch.fx cannot trace `{type(model).__name__}`: {place} stopped it ({text}); {advice}"
