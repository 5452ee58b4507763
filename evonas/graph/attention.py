"""Scaled dot-product attention as its two products, between which its probabilities can be rounded."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx, nn

__all__ = ["ATTENTION", "attention_mix", "attention_scores", "split_attention", "split_problem"]

ATTENTION = nn.functional.scaled_dot_product_attention
_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


def attention_scores(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    grouped: bool = False,
) -> Tensor:
    """How much each query attends to each key, shape (..., queries, keys).

    The first half of `torch.nn.functional.scaled_dot_product_attention`, as its documentation defines it.

    Args:
        query: shape (..., queries, width).
        key: shape (..., keys, width).
        mask: True where a query may attend to a key, or what is added to the product; shape (..., queries, keys).
        causal: whether a query attends only to the keys up to its own place.
        scale: of the product; 1 / sqrt(width) when None.
        grouped: whether several heads of queries share each head of keys.
    """
    key = _repeated(key, query) if grouped else key
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if causal:
        kept = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        scores = scores.masked_fill(~kept, -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1)


def attention_mix(probabilities: Tensor, value: Tensor, grouped: bool = False) -> Tensor:
    """The values, shape (..., keys, width), mixed by `probabilities`, (..., queries, keys); `grouped` as above."""
    return probabilities @ (_repeated(value, probabilities) if grouped else value)


def _repeated(shared: Tensor, like: Tensor) -> Tensor:
    """Keys or values with each head as often as heads of `like` share it."""
    return shared.repeat_interleave(like.shape[-3] // shared.shape[-3], -3)


def split_problem(node: fx.Node) -> str:
    """Why an attention of a graph cannot be written as its two products; empty when it can."""
    given = _given(node)
    return "it drops at random in evaluation too (`dropout_p`)" if given.get("dropout_p", 0.0) != 0.0 else ""


def split_attention(graph: fx.Graph) -> None:
    """Replace every scaled dot-product attention of `graph` that can be split by its two products, in place."""
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is not ATTENTION or split_problem(node):
            continue
        given = _given(node)
        grouped = given.get("enable_gqa", False)
        options = (given.get("attn_mask"), given.get("is_causal", False), given.get("scale"), grouped)
        with graph.inserting_before(node):
            scores = graph.call_function(attention_scores, (given["query"], given["key"], *options))
            mixed = graph.call_function(attention_mix, (scores, given["value"], grouped))
        for half in (scores, mixed):
            half.meta["is_wrapped"] = True  # another trace, such as that of loading a saved module, leaves it whole
        node.replace_all_uses_with(mixed)
        graph.erase_node(node)


def _given(node: fx.Node) -> dict[str, Any]:
    return dict(zip(_NAMES, node.args, strict=False)) | dict(node.kwargs)
