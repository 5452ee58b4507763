"""Rounding and counting in one pass over memory, where torch takes three to seven, and layers whose inputs meet their
weights while they are in cache: kernels that numba compiles.

numba is optional, as are these kernels: torch gives the same bits, and is used on a GPU, where numba is not installed,
and until so much has been rounded that loading numba (a third of a second; some seconds the first time, as what it
compiles is kept on disk) pays. All arithmetic is in float32 and rounds half to even, as torch does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from evonas.jit import compiled

__all__ = ["Kernels", "kernels", "load"]

_PAYS = 2**30  # elements that torch rounds in about the time that numba takes to load


@dataclass(frozen=True)
class Kernels:
    """The compiled functions, on NumPy arrays; see those of the same names below."""

    gather: Callable[..., None]
    encode: Callable[..., int]
    count: Callable[..., None]
    layer: Callable[..., None]


class _Work:
    """How much has been rounded in this process."""

    elements = 0


def kernels(device: torch.device, elements: int) -> Kernels | None:
    """The kernels for a tensor of `elements` on `device`; None where torch is to be used."""
    if device.type != "cpu":
        return None
    if _Work.elements < _PAYS:
        _Work.elements += elements
        return None
    return load()


@cache
def load() -> Kernels | None:
    """Compile the kernels, or read them from disk; None where numba is not installed."""
    try:
        found = Kernels(compiled(_gather), compiled(_encode), compiled(_count), compiled(_layer))
    except ImportError:  # not there, or not for this NumPy
        return None
    _Work.elements = _PAYS
    return found


def _gather(values: Any, source: Any, grids: Any, relu: bool, found: Any) -> None:
    """Values on the integer grids of fixed-point formats.

    Args:
        values: shape (v, n).
        source: which of the values each result is made of, shape (u,).
        grids: scale, lowest and highest integer of each, shape (u, 3).
        relu: whether a ReLU is taken first.
        found: written to, shape (u, n).
    """
    for i in range(len(source)):
        read, write = values[source[i]], found[i]
        scale, low, high = grids[i, 0], grids[i, 1], grids[i, 2]
        if relu:
            low = np.float32(0.0)
        for j in range(len(read)):
            x = read[j] * scale
            x = low if x < low else x  # NaN stays NaN
            x = high if x > high else x
            write[j] = np.rint(x)


def _layer(
    values: Any,
    source: Any,
    grids: Any,
    relu: bool,
    weights: Any,
    parts: Any,
    counts: Any,
    doubted: Any,
    largest: Any,
    found: Any,
) -> None:
    """A linear layer in fixed point: each input is rounded and meets its weights while it is in cache.

    Args:
        values: shape (v, inputs, n).
        source: which of the values each input is made of, shape (u,).
        grids: scale, lowest and highest integer of each, shape (u, 3).
        relu: whether a ReLU is taken first.
        weights: by plan, each output's bias behind its weights, shape (plans, outputs, inputs + 1).
        parts: the plan of each result, those of one input together, shape (r,).
        counts: results of each input, shape (u,).
        doubted: whether the largest magnitude of each input is asked for, shape (u,).
        largest: written to: that of each rounded input, NaN if there is one, zero where not asked for, shape (u,).
        found: written to, shape (r, outputs, n).
    """
    inputs, samples, outputs = values.shape[1], values.shape[2], found.shape[1]
    size = inputs * samples
    rounded = np.ones((inputs + 1) * samples, np.float32)  # the ones behind the inputs meet the biases
    room = np.empty((counts.max() * outputs, inputs + 1), np.float32)
    done = 0
    for i in range(len(source)):
        read, write = values[source[i]].reshape(size), rounded[:size]
        scale, low, high = grids[i, 0], grids[i, 1], grids[i, 2]
        if relu:
            low = np.float32(0.0)
        for j in range(len(read)):
            x = read[j] * scale
            x = low if x < low else x  # NaN stays NaN
            x = high if x > high else x
            write[j] = np.rint(x)
        top, bits = np.int32(0), write.view(np.int32)
        for j in range(len(bits) if doubted[i] else 0):
            magnitude = bits[j] & np.int32(0x7FFFFFFF)  # integers in the order of the floats' magnitudes
            top = magnitude if magnitude > top else top
        largest[i : i + 1].view(np.int32)[0] = top
        for k in range(counts[i]):
            room[k * outputs : (k + 1) * outputs] = weights[parts[done + k]]
        results = found[done : done + counts[i]].reshape(counts[i] * outputs, samples)
        np.dot(room[: counts[i] * outputs], rounded.reshape(inputs + 1, samples), results)
        done += counts[i]


def _encode(values: Any, scale: Any, low: Any, high: Any, found: Any) -> int:
    """Values as integers of a fixed-point format of at most 8 bits, 128 added.

    Args:
        values: shape (n,).
        scale, low, high: of the format, float32.
        found: written to: the codes, shape (n,), uint8.

    Returns:
        How many values are NaN.
    """
    odd = 0
    for j in range(len(values)):
        x = values[j] * scale
        odd += x != x
        x = low if x < low else x
        x = high if x > high else x
        found[j] = np.uint8(np.int32(np.rint(x)) + 128)
    return odd


def _count(logits: Any, runs: Any, right: Any, finite: Any) -> None:
    """Right answers; of equal logits the first counts.

    Args:
        logits: shape (v, classes, n).
        runs: each class that occurs, and the first and the end of its samples, shape (r, 3).
        right: written to: how many answers are right, shape (v,).
        finite: written to: whether all logits are finite, shape (v,).
    """
    classes, samples = logits.shape[1], logits.shape[2]
    before, after = np.empty(samples, np.float32), np.empty(samples, np.float32)
    for i in range(len(logits)):
        largest = np.int32(0)
        bits = logits[i].reshape(classes * samples).view(np.int32)
        for j in range(len(bits)):  # numba iterates over numbers, not over arrays, with vector instructions
            magnitude = bits[j] & np.int32(0x7FFFFFFF)  # integers in the order of the floats' magnitudes
            largest = magnitude if magnitude > largest else largest
        finite[i] = largest < np.int32(0x7F800000)  # infinity, beyond which are the NaNs
        total = 0
        for run in range(len(runs)):
            label, start, stop = runs[run, 0], runs[run, 1], runs[run, 2]
            before[: stop - start] = -np.inf
            after[: stop - start] = -np.inf
            for c in range(label):
                row = logits[i, c][start:stop]
                for j in range(len(row)):
                    before[j] = row[j] if row[j] > before[j] else before[j]
            for c in range(label + 1, classes):
                row = logits[i, c][start:stop]
                for j in range(len(row)):
                    after[j] = row[j] if row[j] > after[j] else after[j]
            row = logits[i, label][start:stop]
            for j in range(len(row)):
                total += (row[j] > before[j]) & (row[j] >= after[j])
        right[i] = total
