"""The reference of a proof: the original model with dropped channels hidden from whoever would read them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from evonas.graph.propagate import op_name
from evonas.graph.structure import Structure
from evonas.graph.trace import as_module
from evonas.graph.units import first_along

__all__ = ["MaskedModel"]

_READERS_NAMES = (
    "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul bmm mm "
    "einsum baddbmm scaled_dot_product_attention normalize"
)
_READERS = frozenset(_READERS_NAMES.split())
_READING_MODULES = (nn.Linear, nn.modules.conv._ConvNd)
_NORMS = frozenset(("layer_norm", "rms_norm", "group_norm"))


class MaskedModel(fx.Interpreter):
    """Runs the original graph; ops that mix channels see zeros where `alive` is False.

    Masking readers rather than producers needs no special case for the shift of a norm, a bias or a gate,
    which would turn a zero into something else. Norms over several channels average those alive.

    Args:
        model: the original, any dtype.
        structure: of the original.
        alive: bool, shape (units,).
    """

    def __init__(self, model: nn.Module, structure: Structure, alive: Tensor) -> None:
        super().__init__(as_module(model, structure.traced.graph, structure.traced.constants))
        assert isinstance(self.module, fx.GraphModule)
        pairs = zip(self.module.graph.nodes, structure.traced.graph.nodes, strict=True)
        self.ids = {copy: structure.ids.get(node) for copy, node in pairs}
        self.alive = torch.cat([alive, torch.ones(1, dtype=torch.bool)])

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, with what it reads masked if it mixes channels."""
        if n.op == "call_module":
            module = self.fetch_attr(str(n.target))
            if isinstance(module, _READING_MODULES):
                args, kwargs = self._masked_inputs(n)
                return module(*args, **kwargs)
            if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
                return self._layer_norm(n, len(module.normalized_shape), module)
            if isinstance(module, nn.GroupNorm):
                return self._group_norm(n, module.num_groups, module.weight, module.bias, module.eps)
        elif n.op in ("call_function", "call_method"):
            return self._call(n)
        return super().run_node(n)

    def _call(self, n: fx.Node) -> Any:
        name = op_name(n)
        if name in _READERS:
            args, kwargs = self._masked_inputs(n)
            if n.op == "call_method":
                return getattr(args[0], str(n.target))(*args[1:], **kwargs)
            assert callable(n.target)
            return n.target(*args, **kwargs)
        if name in _NORMS:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            named = dict(zip(_SIGNATURES[name], args, strict=False)) | kwargs
            if name == "group_norm":
                return self._group_norm(
                    n, named["num_groups"], named.get("weight"), named.get("bias"), named.get("eps", 1e-5)
                )
            norm = _FunctionalNorm(name, named)
            return self._layer_norm(n, len(named["normalized_shape"]), norm)
        return super().run_node(n)

    def _masked_inputs(self, n: fx.Node) -> tuple[Any, Any]:
        """The node's arguments with dropped channels zero; parameters stay as they are."""

        def mask(argument: fx.Node) -> Any:
            value = self.env[argument]
            ids = self.ids[argument]
            if not isinstance(value, Tensor) or not isinstance(ids, Tensor) or not value.is_floating_point():
                return value
            return torch.where(self._alive(ids), value, torch.zeros((), dtype=value.dtype))

        return fx.map_arg(n.args, mask), fx.map_arg(n.kwargs, mask)

    def _alive(self, ids: Tensor) -> Tensor:
        small = first_along(ids, [d for d in range(ids.ndim) if ids.stride(d) != 0])
        return self.alive[small].expand(ids.shape)

    def _input(self, n: fx.Node) -> tuple[Tensor, Tensor]:
        source: Any = n.args[0] if n.args else n.kwargs["input"]
        ids: Any = self.ids[source]
        return self.env[source], self._alive(ids)

    def _layer_norm(self, n: fx.Node, rank: int, norm: Any) -> Tensor:
        values, alive = self._input(n)
        dims = list(range(values.ndim - rank, values.ndim))
        eps = norm.eps if norm.eps is not None else torch.finfo(values.dtype).eps
        center = not (isinstance(norm, nn.RMSNorm) or getattr(norm, "name", "") == "rms_norm")
        result = _standardised(values, alive, dims, eps, center)
        result = result if norm.weight is None else result * norm.weight
        bias = getattr(norm, "bias", None)
        return result if bias is None else result + bias

    def _group_norm(self, n: fx.Node, groups: int, weight: Any, bias: Any, eps: float) -> Tensor:
        values, alive = self._input(n)
        shape = values.shape
        split = (shape[0], groups, -1)
        result = _standardised(values.reshape(split), alive.reshape(split), [2], eps, True).reshape(shape)
        spread = (1, -1) + (1,) * (len(shape) - 2)
        result = result if weight is None else result * weight.reshape(spread)
        return result if bias is None else result + bias.reshape(spread)


class _FunctionalNorm:
    """The parameters of F.layer_norm or F.rms_norm under the names that the modules use."""

    def __init__(self, name: str, named: dict[str, Any]) -> None:
        self.name = name
        self.weight, self.bias = named.get("weight"), named.get("bias")
        self.eps = named.get("eps", None if name == "rms_norm" else 1e-5)


_SIGNATURES = {
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
}


def _standardised(values: Tensor, alive: Tensor, dims: list[int], eps: float, center: bool) -> Tensor:
    kept = torch.where(alive, values, torch.zeros((), dtype=values.dtype))
    count = alive.sum(dims, keepdim=True).clamp_min(1)
    mean = kept.sum(dims, keepdim=True) / count if center else torch.zeros((), dtype=values.dtype)
    apart = torch.where(alive, values - mean, torch.zeros((), dtype=values.dtype))
    variance = apart.square().sum(dims, keepdim=True) / count
    return apart / (variance + eps).sqrt()
