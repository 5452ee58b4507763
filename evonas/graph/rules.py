"""Which rule follows which op: functions and methods by name, modules by class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from evonas.graph.elementwise import along, meet, reduce, spatial
from evonas.graph.flow import Flow, ParamRef
from evonas.graph.mixing import attention, conv, einsum, embedding, linear, matmul
from evonas.graph.norms import channel_norm, group_norm, layer_norm, normalize, prelu

__all__ = ["CREATION", "ELEMENTWISE", "FUNCTIONS", "SPATIAL", "WEIGHTED", "follow_module"]

Rule = Callable[..., Any]

_ELEMENTWISE_NAMES = (
    "add sub rsub subtract mul multiply div divide true_divide truediv floordiv floor_divide mod "
    "remainder fmod pow iadd isub imul itruediv neg abs absolute exp expm1 log log1p log2 log10 sqrt "
    "rsqrt square sin cos tan tanh sigmoid sign floor ceil round trunc frac clamp clip clamp_min "
    "clamp_max reciprocal erf relu relu6 gelu silu mish elu selu celu leaky_relu hardtanh hardswish "
    "hardsigmoid hardshrink softshrink softplus softsign logsigmoid tanhshrink threshold dropout "
    "dropout1d dropout2d dropout3d alpha_dropout feature_dropout where maximum minimum max_elementwise "
    "fmax fmin lerp addcmul addcdiv atan2 atan asin acos sinh cosh logical_and logical_or logical_not "
    "eq ne lt le gt ge isnan isinf masked_fill nan_to_num to float double half bfloat16 type type_as "
    "cuda cpu zeros_like ones_like empty_like rand_like randn_like full_like and_ or_ xor invert not_ "
    "pos positive requires_grad_ detach_ hardtanh_ copysign hypot sinc stochastic_depth drop_path logit "
    "rrelu bernoulli"
)
ELEMENTWISE = frozenset(_ELEMENTWISE_NAMES.split())
SPATIAL = {  # function name -> how many trailing dims are spatial; 0: all after (batch, channels)
    **{f"{kind}_pool{n}d": n for kind in ("max", "avg", "adaptive_avg", "adaptive_max", "lp") for n in (1, 2, 3)},
    "interpolate": 0,
    "upsample": 0,
    "upsample_nearest": 0,
    "upsample_bilinear": 0,
}
_REDUCTION_NAMES = "mean sum amax amin max min std var prod norm logsumexp argmax argmin all any median nanmean"
_ALONG_NAMES = "softmax log_softmax cumsum cumprod sort argsort softmin topk gumbel_softmax logcumsumexp"
_CREATION_NAMES = "zeros ones empty full arange linspace rand randn tensor eye new_zeros new_ones new_full"
CREATION = frozenset(_CREATION_NAMES.split())


def _reduction(flow: Flow, ids: Tensor, *args: Any, **kwargs: Any) -> Any:
    if args and isinstance(args[0], Tensor):  # max(x, y) is element-wise
        return meet(flow, [ids, args[0]])
    assert flow.node is not None
    name = getattr(flow.node.target, "__name__", flow.node.target)
    offset = 1 if name == "norm" else 0
    dims = kwargs.get("dim", kwargs.get("axis", args[offset] if len(args) > offset else None))
    keep = kwargs.get("keepdim", args[offset + 1] if len(args) > offset + 1 else False)
    if isinstance(dims, bool):  # std(x, unbiased)
        dims = None
    result = reduce(flow, ids, dims, bool(keep))
    value = flow.traced.values[flow.node]
    return result if isinstance(value, Tensor) else tuple(result for _ in value)


def _along(flow: Flow, ids: Tensor, *args: Any, **kwargs: Any) -> Any:
    assert flow.node is not None
    name = str(getattr(flow.node.target, "__name__", flow.node.target))
    if name in ("topk", "gumbel_softmax", "sort", "argsort"):
        return flow.opaque(ids, f"`{name}` is not followed at {flow.here}")
    dim = kwargs.get("dim", args[0] if args else None)
    return along(flow, ids, dim, name)


def _linear(flow: Flow, ids: Tensor, weight: ParamRef, bias: ParamRef | None = None) -> Tensor:
    return linear(flow, ids, weight, bias)


def _matmul(flow: Flow, first: Tensor | ParamRef, *args: Any, **kw: Any) -> Tensor:
    (second,) = (*args, *(kw[name] for name in ("other", "mat2") if name in kw))
    return matmul(flow, first, second)


def _conv(flow: Flow, ids: Tensor, weight: ParamRef, bias: ParamRef | None = None, *args: Any, **kw: Any) -> Tensor:
    groups = kw.get("groups", args[3] if len(args) > 3 else 1)
    return conv(flow, ids, weight, bias, groups, transposed=False)


def _conv_transpose(
    flow: Flow, ids: Tensor, weight: ParamRef, bias: ParamRef | None = None, *args: Any, **kw: Any
) -> Tensor:
    groups = kw.get("groups", args[3] if len(args) > 3 else 1)
    return conv(flow, ids, weight, bias, groups, transposed=True)


def _batch_norm(
    flow: Flow, ids: Tensor, mean: Any, var: Any, weight: Any = None, bias: Any = None, *_: Any, **__: Any
) -> Tensor:
    return channel_norm(flow, ids, [p for p in (mean, var, weight, bias) if isinstance(p, ParamRef)])


def _instance_norm(flow: Flow, ids: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    given = [*args, *kwargs.values()]
    return channel_norm(flow, ids, [p for p in given if isinstance(p, ParamRef)])


def _layer_norm(
    flow: Flow, ids: Tensor, shape: Any, weight: Any = None, bias: Any = None, *_: Any, **__: Any
) -> Tensor:
    normalized = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    return layer_norm(flow, ids, normalized, [p for p in (weight, bias) if isinstance(p, ParamRef)])


def _group_norm(
    flow: Flow, ids: Tensor, groups: int, weight: Any = None, bias: Any = None, *_: Any, **__: Any
) -> Tensor:
    return group_norm(flow, ids, groups, [p for p in (weight, bias) if isinstance(p, ParamRef)])


def _normalize(flow: Flow, ids: Tensor, _: float = 2.0, dim: int = 1, *__: Any, **___: Any) -> Tensor:
    return normalize(flow, ids, dim)


def _prelu(flow: Flow, ids: Tensor, weight: ParamRef) -> Tensor:
    return prelu(flow, ids, weight)


def _embedding(flow: Flow, _: Tensor, weight: ParamRef, *__: Any, **___: Any) -> Tensor:
    return embedding(flow, weight)


def _glu(flow: Flow, ids: Tensor, dim: int = -1) -> Tensor:
    first, second = ids.chunk(2, dim)
    return meet(flow, [first, second])


def _attention(flow: Flow, query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *_: Any, **kw: Any) -> Any:
    if kw.get("enable_gqa") or query.ndim < 3:
        return flow.opaque((query, key, value), f"grouped-query attention is not followed at {flow.here}")
    return attention(flow, query, key, value, attn_mask if isinstance(attn_mask, Tensor) else None)


def _baddbmm(flow: Flow, ids: Tensor, first: Any, second: Any, **_: Any) -> Tensor:
    return meet(flow, [ids, matmul(flow, first, second)])


# Rules that take parameters as they are; every other rule sees a parameter's elements.
WEIGHTED: dict[str, Rule] = {
    "linear": _linear,
    **{f"conv{n}d": _conv for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _conv_transpose for n in (1, 2, 3)},
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "rms_norm": _layer_norm,
    "prelu": _prelu,
    "embedding": _embedding,
    **dict.fromkeys(("matmul", "bmm", "mm"), _matmul),
    "einsum": einsum,
}
FUNCTIONS: dict[str, Rule] = {
    **dict.fromkeys(_REDUCTION_NAMES.split(), _reduction),
    **dict.fromkeys(_ALONG_NAMES.split(), _along),
    "normalize": _normalize,
    "glu": _glu,
    "scaled_dot_product_attention": _attention,
    "baddbmm": _baddbmm,
}

_PASS = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU,
    nn.RReLU, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardshrink, nn.Softshrink, nn.Softplus,
    nn.Softsign, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Sigmoid, nn.Threshold, nn.Dropout, nn.Dropout1d,
    nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
_POOLS = tuple(
    getattr(nn, f"{kind}Pool{n}d") for kind in ("Max", "Avg", "AdaptiveAvg", "AdaptiveMax") for n in (1, 2, 3)
)
_PADS = tuple(
    getattr(nn, f"{kind}Pad{n}d") for kind in ("Zero", "Reflection", "Replication", "Constant") for n in (1, 2, 3)
)
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def follow_module(flow: Flow, module: nn.Module, params: dict[str, ParamRef], ids: Any, *rest: Any) -> Any:
    """The rule of a leaf `module`, whose parameters and buffers are `params`, on its input `ids`.

    Returns NotImplemented for a class that no rule knows.
    """
    if rest or not isinstance(ids, Tensor):
        return NotImplemented
    weight, bias = params.get("weight"), params.get("bias")
    if isinstance(module, _PASS):
        return flow.units.look(ids)
    if isinstance(module, nn.Linear) and weight:
        return linear(flow, ids, weight, bias)
    if isinstance(module, _CONVS + _TRANSPOSED) and weight:
        return conv(flow, ids, weight, bias, module.groups, isinstance(module, _TRANSPOSED))
    if isinstance(module, nn.Embedding) and weight:
        return embedding(flow, weight)
    return _follow_simple(flow, module, params, ids)


def _follow_simple(flow: Flow, module: nn.Module, params: dict[str, ParamRef], ids: Tensor) -> Any:
    if isinstance(module, _BATCH_NORMS + _INSTANCE_NORMS):
        return channel_norm(flow, ids, [p for n, p in params.items() if n != "num_batches_tracked"])
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return layer_norm(flow, ids, tuple(module.normalized_shape), list(params.values()))
    if isinstance(module, nn.GroupNorm):
        return group_norm(flow, ids, module.num_groups, list(params.values()))
    if isinstance(module, nn.PReLU):
        return prelu(flow, ids, params["weight"])
    if isinstance(module, _POOLS + _PADS):
        return spatial(flow, ids, int(type(module).__name__[-2]))
    if isinstance(module, nn.Upsample):
        return spatial(flow, ids, ids.ndim - 2)
    if isinstance(module, (nn.Softmax, nn.LogSoftmax, nn.Softmin)):
        return along(flow, ids, module.dim, type(module).__name__)
    if isinstance(module, nn.GLU):
        return _glu(flow, ids, module.dim)
    return NotImplemented
