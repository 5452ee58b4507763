"""Batch norms that follow a layer directly, folded into its weight and bias."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import fx, nn
from torch.nn.utils import fusion, parametrize

__all__ = ["fold_batchnorms", "foldable"]

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def foldable(model: nn.Module, graph: fx.Graph, values: Mapping[fx.Node, Any]) -> dict[str, str]:
    """Layer -> the batch norm that can be folded into it.

    Both are modules that run once; the layer is a convolution or a linear layer on vectors, has a weight of its own,
    and nothing but the batch norm reads its output; the batch norm has running statistics.

    Args:
        model: in evaluation mode.
        graph: a trace of it.
        values: what each node returned.
    """
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    shared: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        shared[id(parameter)] = shared.get(id(parameter), 0) + 1
    found = {}
    for node in graph.nodes:
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or list(source.users) != [node]:
            continue
        name, layer = str(source.target), model.get_submodule(str(source.target))
        norm = model.get_submodule(str(node.target))
        once = calls.count(name) == calls.count(str(node.target)) == 1
        plain = type(norm) in _NORMS and norm.running_mean is not None and _takes(layer, values[source].ndim)
        if once and plain and shared[id(layer.weight)] == 1:
            found[name] = str(node.target)
    return found


def _takes(layer: Any, rank: int) -> bool:
    """Whether a batch norm over the output of `layer`, of `rank` dims, can go into its weight."""
    if parametrize.is_parametrized(layer):
        return False
    if type(layer) is nn.Linear:
        return rank == 2
    grouped = type(layer) in _TRANSPOSED and layer.groups > 1  # torch's fusion scales the wrong axis there
    return type(layer) in (*_CONVS, *_TRANSPOSED) and rank == layer.weight.ndim and not grouped


def fold_batchnorms(model: fx.GraphModule, pairs: Mapping[str, str]) -> fx.GraphModule:
    """A copy of a traced `model` in evaluation mode, with batch norms in the layers before them.

    Its outputs are those of `model` within float error.

    Args:
        model: is not modified.
        pairs: layer -> batch norm, as `foldable` finds them.
    """
    folded = copy.deepcopy(model)
    layers = {norm: layer for layer, norm in pairs.items()}
    for node in list(folded.graph.nodes):
        if node.op == "call_module" and node.target in layers:
            name = layers[str(node.target)]
            folded.set_submodule(name, _fused(folded.get_submodule(name), folded.get_submodule(str(node.target))))
            node.replace_all_uses_with(node.args[0])
            folded.graph.erase_node(node)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded


def _fused(layer: Any, norm: Any) -> nn.Module:
    fused: nn.Module = copy.deepcopy(layer)
    fused.weight, fused.bias = fusion.fuse_conv_bn_weights(  # a linear layer is a convolution without a kernel
        layer.weight,
        layer.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
        transpose=getattr(layer, "transposed", False),
    )
    return fused
