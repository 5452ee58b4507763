"""Choosing scales, fraction widths and biases from data.

Everything works on rows, shape (channels, n): one row a tensor, or one row for each channel that has a
scale of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from evonas.errors import InvalidArgument, unknown_name
from evonas.formats.arithmetic import working
from evonas.formats.base import Format

__all__ = [
    "METHODS",
    "RATIOS",
    "best_ratio",
    "extremes",
    "finite_row",
    "largest",
    "losses",
    "pick",
    "searches",
]

METHODS = ("max", "percentile", "mse", "kl")
RATIOS = tuple(k / 64 for k in range(64, 0, -1))  # shares of the full range that a search for a scale tries
_BINS, _FEWEST_BINS = 2048, 64  # 2048 as in the calibration of TensorRT (Migacz, GTC 2017)
_LEAST_KEPT = 0.9
_LEAST_SHARE = 1e-7  # stands for no share at all, whose logarithm would be infinite

F = TypeVar("F", bound=Format)
Quantizer = Callable[[Tensor], Tensor]


def searches(method: str, percentile: float) -> bool:
    """True when `method` compares candidates, False when it reads the range off the data.

    Raises:
        UnknownName: no such method.
        InvalidArgument: `percentile` is not above 0 and at most 100.
    """
    if method not in METHODS:
        raise unknown_name("calibration method", method, METHODS)
    if not 0 < percentile <= 100:
        raise InvalidArgument(f"`percentile` must be above 0 and at most 100, got {percentile}")
    return method in ("mse", "kl")


def finite_row(values: Tensor) -> Tensor:
    """The finite elements of `values` (any shape), shape (1, n)."""
    flat = working(values).flatten()
    return flat[torch.isfinite(flat)].unsqueeze(0)


def extremes(rows: Tensor, method: str, percentile: float) -> tuple[Tensor, Tensor]:
    """The range to cover of each row, low <= 0 <= high, shape (channels, 1) each; empty rows give zeros.

    All of the row, but for `percentile`: the row up to that percentile of its magnitudes.
    """
    if rows.shape[1] == 0:
        nothing = rows.new_zeros(rows.shape[0], 1)
        return nothing, nothing
    low, high = rows.amin(1, keepdim=True).clamp(max=0.0), rows.amax(1, keepdim=True).clamp(min=0.0)
    if method == "percentile":
        rank = max(1, -int(-percentile * rows.shape[1] // 100))
        limit = rows.abs().kthvalue(rank, dim=1, keepdim=True).values
        low, high = torch.maximum(low, -limit), torch.minimum(high, limit)
    return low, high


def largest(row: Tensor, method: str, percentile: float) -> float:
    """The largest magnitude to cover of a single row, shape (1, n); 0 when the row is empty."""
    low, high = extremes(row, method, percentile)
    return max(-float(low), float(high))


def losses(rows: Tensor, method: str) -> Callable[[Quantizer], tuple[Tensor, Tensor]]:
    """A function of a quantizer: its loss on each row, and the share of the row it keeps, (channels,) each.

    The squared error is relative to the largest magnitude, so that huge values do not overflow; it judges
    clipping itself, so all of the row counts as kept.
    """
    if method == "kl":
        centers, shares = _histogram(rows)
        return lambda quantize: _divergence(shares, centers, quantize(centers))
    unit = rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    everything = rows.new_ones(rows.shape[0])
    return lambda quantize: (((quantize(rows) - rows) / unit).square().mean(1), everything)


def pick(candidates: Iterable[F], row: Tensor, method: str) -> F:
    """The candidate with the least loss on `row`, shape (1, n); the first of equals."""
    tried = list(candidates)
    loss = losses(row, method)
    return tried[int(_least([loss(candidate.quantize) for candidate in tried]))]


def best_ratio(rows: Tensor, method: str, quantize: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Which of `RATIOS` gives `quantize(rows, ratio)` the least loss on each row, shape (channels, 1)."""
    loss = losses(rows, method)
    best = _least([loss(partial(_swapped, quantize, ratio)) for ratio in RATIOS])
    return torch.tensor(RATIOS, dtype=rows.dtype, device=rows.device)[best].unsqueeze(1)


def _swapped(quantize: Callable[[Tensor, float], Tensor], ratio: float, rows: Tensor) -> Tensor:
    return quantize(rows, ratio)


def _least(found: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Index of the best candidate for each row, shape (channels,)."""
    loss, kept = torch.stack([pair[0] for pair in found]), torch.stack([pair[1] for pair in found])
    # A range of two bins has no divergence at all, so one that clips most of what it could keep is out.
    return torch.where(kept < _LEAST_KEPT * kept.amax(0), torch.inf, loss).argmin(0)


def _histogram(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and shares of equal bins over each row's range, shape (channels, bins) each.

    Zeros are left out: formats hold them exactly, and after a ReLU they would drown the rest.
    """
    # A bin for every few values: with fewer, most bins hold none or one and every shape looks the same.
    bins = min(_BINS, max(_FEWEST_BINS, rows.shape[1] // 8))
    low = rows.amin(1, keepdim=True)
    size = ((rows.amax(1, keepdim=True) - low) / bins).clamp(min=torch.finfo(rows.dtype).tiny)
    index = ((rows - low) / size).long().clamp(0, bins - 1)
    counts = rows.new_zeros(rows.shape[0], bins).scatter_add_(1, index, (rows != 0).to(rows.dtype))
    centers = low + size * (torch.arange(bins, dtype=rows.dtype, device=rows.device) + 0.5)
    return centers, counts / counts.sum(1, keepdim=True).clamp(min=1.0)


def _divergence(shares: Tensor, centers: Tensor, quantized: Tensor) -> tuple[Tensor, Tensor]:
    """KL(P || Q) of each row of a histogram and the share not clipped, shape (channels,) each.

    After Migacz (GTC 2017). P is the histogram with the mass of clipped bins moved into the outermost bins
    in range. Q is without that mass, and spreads each quantization cell's evenly over its occupied bins.
    Quantizers are monotone, so the bins of a cell are neighbours and equal values mark them.
    """
    below, above = centers < quantized[:, :1], centers > quantized[:, -1:]
    kept = torch.where(below | above, 0.0, shares)
    at = torch.arange(shares.shape[1], device=shares.device).expand_as(shares)
    first, last = below.sum(1, keepdim=True), shares.shape[1] - 1 - above.sum(1, keepdim=True)
    home = torch.minimum(torch.maximum(at, first), last).clamp(min=0)
    expected = torch.zeros_like(shares).scatter_add_(1, home, shares)
    cell = torch.nn.functional.pad((quantized[:, 1:] != quantized[:, :-1]).long().cumsum(1), (1, 0))
    occupied = (expected > 0).to(shares.dtype)
    mass = torch.zeros_like(shares).scatter_add_(1, cell, kept)
    bins = torch.zeros_like(shares).scatter_add_(1, cell, occupied)
    spread = (mass / bins.clamp(min=1.0)).gather(1, cell) / kept.sum(1, keepdim=True)
    terms = expected * (expected / spread.clamp(min=_LEAST_SHARE)).log()
    divergence = torch.where(occupied > 0, terms, 0.0).sum(1)
    # Nothing kept leaves nothing to compare (0/0); a row of zeros is the same for all.
    return divergence.nan_to_num(torch.inf), kept.sum(1)
