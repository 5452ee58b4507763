"""A step of training small networks, compiled: numba must be installed to import this.

One network after the other goes forward and backward, in memory that stays in cache. Products are those of SciPy's
BLAS, each of a network's own shape: nothing is padded.

A network is a list of operations, each a row of integers with these columns:

    CODE      what it does: one of LINEAR, NORM, RELU, CLOSING, SUM
    READ      where the value that it reads starts, in features; the data start at 0
    ALSO      where the second one starts, of a sum
    VALUE     where its own starts
    IN, OUT   features of what it reads, and its own
    WEIGHT    where its weight starts among the numbers; so BIAS, and of a batch norm MEAN and VARIANCE
    BIASES    how many biases there are: OUT or none
    FIRST     whether it is the first, backwards, to pass a gradient to what it reads
    FIRST_ALSO   the same of the second
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401  the BLAS is to be there before its threads are limited

from evonas.jit import compiled, inner
from evonas.training.closing import LEAK

__all__ = [
    "ALSO",
    "CLOSING",
    "CODE",
    "FIRST",
    "FIRST_ALSO",
    "LINEAR",
    "NORM",
    "READ",
    "RELU",
    "ROOMS",
    "SUM",
    "step",
]

CODE, READ, ALSO, VALUE, IN, OUT, WEIGHT, BIAS, BIASES, MEAN, VARIANCE, FIRST, FIRST_ALSO = range(13)
LINEAR, NORM, RELU, CLOSING, SUM = range(5)
ROOMS = 5
_VALUES, _SLOPES, _NORMALISED, _SCALES, _SPARE = range(ROOMS)
_LEAK = np.float32(LEAK)


@compiled
def step(
    program: Any,
    settings: Any,
    ends: Any,
    classes: int,
    numbers: Any,
    gradients: Any,
    room: Any,
    data: Any,
    labels: Any,
    rows: Any,
) -> None:
    """Write the gradients of every network's own mean cross entropy, and update running statistics.

    Args:
        program: shape (networks, operations, 13).
        settings: epsilon and momentum of each batch norm, shape (operations, 2).
        ends: where the logits start, shape (networks,).
        classes: how many logits.
        numbers: the parameters of all networks, then running means and unbiased variances, which are updated.
        gradients: by the parameters, shape (parameters,); written to.
        room: to work in, shape (ROOMS, features of all operations of the largest network times n at least).
        data: shape (samples, features).
        labels: class indices, shape (samples,).
        rows: of the batch, shape (n,).
    """
    n = len(rows)
    batch = _matrix(room[_VALUES], 0, n, data.shape[1])
    for i in range(n):
        for j in range(data.shape[1]):
            batch[i, j] = data[rows[i], j]
    for k in range(len(program)):
        for i in range(len(settings)):
            _forward(program[k, i], settings[i], n, numbers, room)
        logits, slope = _matrix(room[_VALUES], ends[k], n, classes), _matrix(room[_SLOPES], ends[k], n, classes)
        _cross_entropy_back(logits, labels, rows, slope)
        for i in range(len(settings) - 1, -1, -1):
            _backward(program[k, i], n, numbers, gradients, room)


@inner
def _forward(op: Any, settings: Any, n: int, numbers: Any, room: Any) -> None:
    """The value of one operation."""
    values, code, features = room[_VALUES], op[CODE], op[OUT]
    read, value = _matrix(values, op[READ], n, op[IN]), _matrix(values, op[VALUE], n, features)
    if code == LINEAR:
        weight = numbers[op[WEIGHT] : op[WEIGHT] + features * op[IN]].reshape(features, op[IN])
        _linear(read, weight, _part(numbers, op[BIAS], op[BIASES]), value)
    elif code == NORM:
        weight, bias = _part(numbers, op[WEIGHT], features), _part(numbers, op[BIAS], features)
        mean, variance = _part(numbers, op[MEAN], features), _part(numbers, op[VARIANCE], features)
        scale = _part(room[_SCALES], op[VALUE], features)
        normalised = _matrix(room[_NORMALISED], op[VALUE], n, features)
        _norm(read, weight, bias, mean, variance, settings, scale, normalised, value)
    elif code == SUM:
        _add(read, _matrix(values, op[ALSO], n, features), value)
    else:
        _relu(read, value)


@inner
def _backward(op: Any, n: int, numbers: Any, gradients: Any, room: Any) -> None:
    """The gradients by the tensors of one operation, and by what it read."""
    slopes, code, features = room[_SLOPES], op[CODE], op[OUT]
    read, slope = _matrix(room[_VALUES], op[READ], n, op[IN]), _matrix(slopes, op[VALUE], n, features)
    passed = _matrix(slopes, op[READ], n, op[IN]) if op[FIRST] else _matrix(room[_SPARE], 0, n, op[IN])
    if code == LINEAR:
        weight = numbers[op[WEIGHT] : op[WEIGHT] + features * op[IN]].reshape(features, op[IN])
        by_weight = gradients[op[WEIGHT] : op[WEIGHT] + features * op[IN]].reshape(features, op[IN])
        np.dot(slope.T, read, by_weight)
        _total(slope, _part(gradients, op[BIAS], op[BIASES]))
        if op[READ] > 0:  # nobody wants the gradient by the data
            np.dot(slope, weight, passed)
    elif code == NORM:
        weight, by_weight = _part(numbers, op[WEIGHT], features), _part(gradients, op[WEIGHT], features)
        scale = _part(room[_SCALES], op[VALUE], features)
        normalised = _matrix(room[_NORMALISED], op[VALUE], n, features)
        _norm_back(slope, normalised, scale, weight, by_weight, _part(gradients, op[BIAS], features), passed)
    elif code == SUM:
        _copy(slope, passed)
    else:
        leak = _LEAK if code == CLOSING else np.float32(0)
        _relu_back(slope, _matrix(room[_VALUES], op[VALUE], n, features), leak, passed)
    if not op[FIRST]:
        before = _matrix(slopes, op[READ], n, op[IN])
        _add(before, passed, before)
    if code == SUM:
        other = _matrix(slopes, op[ALSO], n, features)
        if op[FIRST_ALSO]:
            _copy(slope, other)
        else:
            _add(other, slope, other)


@inner
def _part(numbers: Any, start: int, count: int) -> Any:
    return numbers[start : start + count]


@inner
def _matrix(room: Any, start: int, n: int, features: int) -> Any:
    """The value of `features` that starts at `start`, shape (n, features)."""
    return room[start * n : (start + features) * n].reshape(n, features)


@inner
def _linear(read: Any, weight: Any, bias: Any, value: Any) -> None:
    np.dot(read, weight.T, value)
    for i in range(len(value)):
        for j in range(len(bias)):
            value[i, j] += bias[j]


@inner
def _total(slope: Any, by_bias: Any) -> None:
    for j in range(len(by_bias)):
        by_bias[j] = 0
    for i in range(len(slope)):
        for j in range(len(by_bias)):
            by_bias[j] += slope[i, j]


@inner
def _norm(
    read: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_variance: Any,
    settings: Any,
    scale: Any,
    normalised: Any,
    value: Any,
) -> None:
    """Algorithm 1 of Ioffe and Szegedy 2015, arXiv:1502.03167."""
    n, features = read.shape
    eps, momentum = settings[0], settings[1]
    mean, variance = np.zeros(features, np.float32), np.zeros(features, np.float32)
    for i in range(n):
        for j in range(features):
            mean[j] += read[i, j]
    for j in range(features):
        mean[j] /= n
    for i in range(n):
        for j in range(features):
            centred = read[i, j] - mean[j]
            variance[j] += centred * centred
    for j in range(features):
        running_mean[j] += momentum * (mean[j] - running_mean[j])
        running_variance[j] += momentum * (variance[j] / np.float32(n - 1) - running_variance[j])
        scale[j] = np.float32(1) / np.sqrt(variance[j] / np.float32(n) + eps)
    for i in range(n):
        for j in range(features):
            normalised[i, j] = (read[i, j] - mean[j]) * scale[j]
            value[i, j] = normalised[i, j] * weight[j] + bias[j]


@inner
def _norm_back(slope: Any, normalised: Any, scale: Any, weight: Any, by_weight: Any, by_bias: Any, passed: Any) -> None:
    """The gradients of section 3 of the paper, summed up."""
    n, features = slope.shape
    for j in range(features):
        by_bias[j] = 0
        by_weight[j] = 0
    for i in range(n):
        for j in range(features):
            by_bias[j] += slope[i, j]
            by_weight[j] += slope[i, j] * normalised[i, j]
    share = np.float32(1 / n)
    for i in range(n):
        for j in range(features):
            towards = (by_bias[j] + normalised[i, j] * by_weight[j]) * share
            passed[i, j] = (slope[i, j] - towards) * (scale[j] * weight[j])


@inner
def _relu(read: Any, value: Any) -> None:
    for i in range(len(value)):
        for j in range(value.shape[1]):
            value[i, j] = np.float32(0) if read[i, j] <= 0 else read[i, j]  # NaN stays NaN


@inner
def _relu_back(slope: Any, value: Any, leak: Any, passed: Any) -> None:
    for i in range(len(value)):
        for j in range(value.shape[1]):
            passed[i, j] = slope[i, j] * leak if value[i, j] <= 0 else slope[i, j]


@inner
def _add(first: Any, second: Any, total: Any) -> None:
    for i in range(len(total)):
        for j in range(total.shape[1]):
            total[i, j] = first[i, j] + second[i, j]


@inner
def _copy(values: Any, copied: Any) -> None:
    for i in range(len(values)):
        for j in range(values.shape[1]):
            copied[i, j] = values[i, j]


@inner
def _cross_entropy_back(logits: Any, labels: Any, rows: Any, slope: Any) -> None:
    """The gradient of the mean cross entropy by the logits."""
    n, classes = logits.shape
    for i in range(n):
        most, total = logits[i, 0], np.float32(0)
        for j in range(classes):
            most = max(most, logits[i, j])
        for j in range(classes):
            slope[i, j] = np.exp(logits[i, j] - most)
            total += slope[i, j]
        for j in range(classes):
            slope[i, j] /= total
        slope[i, labels[rows[i]]] -= np.float32(1)
        for j in range(classes):
            slope[i, j] /= np.float32(n)
