"""Networks of one architecture that are trained by compiled code, each in its own shape: needs numba."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evonas.errors import InvalidArgument
from evonas.quantize import single_thread_of_blas
from evonas.training import kernels
from evonas.training.closing import ClosingReLU
from evonas.training.layout import MULTIPLE, RELU, SUM, TENSORS, Layout, kind_of

__all__ = ["Packed"]

_CODES: dict[Any, int] = {nn.Linear: kernels.LINEAR, nn.BatchNorm1d: kernels.NORM, ClosingReLU: kernels.CLOSING}
_CODES |= dict.fromkeys(RELU, kernels.RELU) | dict.fromkeys(SUM, kernels.SUM)


class Packed:
    """The same as `Stack`, but that one vector holds the parameters of all networks.

    Those of a network follow each other in the order of `Layout.learned`, from a multiple of 16 on: so the vector
    instructions of an optimiser never meet two networks, and what becomes of one does not depend on the others.

    Args:
        layout: that they all fit.
        networks: whose values it starts from.
        inputs: shape (n, ...), what they are trained on, on the CPU.
        targets: class indices, shape (n,).
        batch: samples of a step at most.

    Raises:
        InvalidArgument: a class index out of range.
    """

    def __init__(
        self, layout: Layout, networks: Sequence[nn.Module], inputs: Tensor, targets: Tensor, *, batch: int
    ) -> None:
        if int(targets.min()) < 0 or int(targets.max()) >= layout.classes:
            raise InvalidArgument(f"`targets` must be class indices below {layout.classes}, the number of logits")
        states = [network.state_dict() for network in networks]
        self._places, learned, size = _places(layout, states)
        numbers = torch.zeros(size)
        for state, places in zip(states, self._places, strict=True):
            for name, place in places.items():
                numbers[place] = state[name].flatten()
        self._numbers, self._parameters, self._passes = numbers, nn.Parameter(numbers[:learned]), 0
        self._parameters.grad = torch.zeros(learned)
        self._data, self._labels = (part.detach().contiguous().numpy() for part in (inputs.flatten(1), targets))
        programs = [_program(layout, *one) for one in zip(states, self._places, strict=True)]
        self._program = np.array([rows for rows, _, _ in programs], dtype=np.int64)
        self._ends = np.array([end for _, end, _ in programs])
        self._classes, self._settings = layout.classes, _settings(layout)
        features = max(most for _, _, most in programs)
        self._room = np.empty((kernels.ROOMS, features * min(batch, len(inputs))), np.float32)

    def parameters(self) -> list[nn.Parameter]:
        """What is learned: one vector."""
        return [self._parameters]

    def threads(self) -> AbstractContextManager[object]:
        """One thread of BLAS inside the block: sums in one fixed order."""
        return single_thread_of_blas()

    def differentiate(self, rows: Tensor) -> None:
        """Set the gradients of every network's own mean cross entropy over these rows of the data."""
        self._passes += 1
        assert self._parameters.grad is not None
        kernels.step(
            self._program,
            self._settings,
            self._ends,
            self._classes,
            self._numbers.numpy(),
            self._parameters.grad.numpy(),
            self._room,
            self._data,
            self._labels,
            rows.numpy(),
        )

    def write(self, networks: Sequence[nn.Module]) -> None:
        """Copy the values back into `networks`, those that it was made from."""
        with torch.no_grad():
            for network, places in zip(networks, self._places, strict=True):
                for name, value in network.state_dict().items():
                    if name in places:
                        value.copy_(self._numbers[places[name]].view_as(value))
                    else:  # how many batches a batch norm has seen
                        value.add_(self._passes)


def _places(layout: Layout, states: Sequence[Mapping[str, Tensor]]) -> tuple[list[dict[str, slice]], int, int]:
    """Where each network's tensors lie in one vector, where what is learned ends, and where all do."""
    places: list[dict[str, slice]] = [{} for _ in states]
    learned = layout.learned
    size, ends = 0, []
    for names in (learned, [name for name in layout.sizes if name not in learned]):
        for state, mine in zip(states, places, strict=True):
            for name in names:
                mine[name] = slice(size, size + state[name].numel())
                size = mine[name].stop
            size += -size % MULTIPLE
        ends.append(size)
    return places, ends[0], ends[1]


def _program(
    layout: Layout, state: Mapping[str, Tensor], places: Mapping[str, slice]
) -> tuple[list[list[int]], int, int]:
    """The operations of one network, see `kernels`; where its logits start; and the features of all values.

    Args:
        layout: that it fits.
        state: its tensors.
        places: where they lie.
    """
    widths = layout.widths(state)
    assert widths is not None
    first, *nodes, last = layout.graph.graph.nodes
    starts = {first: 0}
    free, rows = layout.features, []
    for node in nodes:
        code, reads = _CODES.get(kind_of(layout.graph, node)), node.all_input_nodes
        if code is None:  # changes nothing
            starts[node] = starts[reads[0]]
            continue
        parts = [places.get(f"{node.target}.{part}", slice(0, 0)) for part in TENSORS[nn.BatchNorm1d]]
        weight, bias, mean, variance = (part.start for part in parts)
        biases = parts[1].stop - bias
        read, also, width = starts[reads[0]], starts[reads[-1]], widths[node]
        rows.append([code, read, also, free, widths[reads[0]], width, weight, bias, biases, mean, variance, 1, 1])
        starts[node] = free
        free += width
    end = starts[last.args[0]]
    _mark(rows, end)
    return rows, end, free


def _mark(rows: list[list[int]], end: int) -> None:
    """Say of the operations which are not the first, backwards, to pass a gradient to what they read."""
    met = {end}
    for row in reversed(rows):
        for read, first in ((kernels.READ, kernels.FIRST), (kernels.ALSO, kernels.FIRST_ALSO)):
            if first == kernels.FIRST or row[kernels.CODE] == kernels.SUM:
                row[first] = row[read] not in met
                met.add(row[read])


def _settings(layout: Layout) -> Any:
    """Epsilon and momentum of each operation, zeros where it has none; shape (operations, 2)."""
    found = []
    for node in list(layout.graph.graph.nodes)[1:-1]:
        kind = kind_of(layout.graph, node)
        if kind in _CODES:
            norm = layout.graph.get_submodule(str(node.target)) if kind is nn.BatchNorm1d else None
            found.append((norm.eps, norm.momentum) if isinstance(norm, nn.BatchNorm1d) else (0.0, 0.0))
    return np.array(found, np.float32).reshape(-1, 2)
