"""Units: channels that live and die together, held as a union-find over integer ids."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

__all__ = ["Units", "distinct", "first_along", "tally", "varying"]


def varying(ids: Tensor) -> tuple[int, ...]:
    """The dims along which `ids` (any shape, as `Units.look` returns it) holds more than one unit."""
    return tuple(d for d in range(ids.ndim) if ids.shape[d] > 1 and ids.stride(d) != 0)


def distinct(values: Tensor) -> Tensor:
    """The different values of an integer tensor (any shape), sorted; one dim."""
    return torch.from_numpy(np.unique(values.numpy()))


def tally(values: Tensor) -> tuple[list[int], list[int]]:
    """The different values of an integer tensor, sorted, and how often each occurs."""
    found, counts = np.unique(values.numpy(), return_counts=True)
    return found.tolist(), counts.tolist()


def first_along(ids: Tensor, keep: Iterable[int] = ()) -> Tensor:
    """`ids` cut to its first position along every dim except those in `keep`; the rank stays."""
    kept = {d % ids.ndim for d in keep}
    return ids[tuple(slice(None) if d in kept else slice(0, 1) for d in range(ids.ndim))]


class Units:
    """A union-find over ids. A unit that is fixed can be neither dropped nor copied, and says why.

    Ids travel in int64 tensors of an activation's shape. Most of their dims are stride-0 expands, so that
    a feature map costs no more than its channels.
    """

    def __init__(self) -> None:
        self._parent = np.zeros(0, dtype=np.int64)
        self._fixed = np.zeros(0, dtype=bool)
        self._reasons: dict[int, str] = {}
        self._by_reason: dict[str, int] = {}
        self._notes: dict[int, set[str]] = {}
        self._flat = True
        self.version = 0

    def __len__(self) -> int:
        return len(self._parent)

    def new(self, *shape: int) -> Tensor:
        """Fresh free ids, int64, of `shape`."""
        start = len(self._parent)
        count = int(np.prod(shape, dtype=np.int64))
        self._parent = np.concatenate([self._parent, np.arange(start, start + count)])
        self._fixed = np.concatenate([self._fixed, np.zeros(count, dtype=bool)])
        return torch.arange(start, start + count).reshape(shape)

    def fixed(self, reason: str) -> Tensor:
        """The id, shape (), that stands for everything fixed for `reason`."""
        if reason not in self._by_reason:
            number = int(self.new(1))
            self._by_reason[reason] = number
            self._fixed[number] = True
            self._reasons[number] = reason
        return torch.tensor(self._by_reason[reason])

    def roots(self, ids: Tensor) -> Tensor:
        """The representative of each id; same shape."""
        if not self._flat:
            while True:
                above = self._parent[self._parent]
                if np.array_equal(above, self._parent):
                    break
                self._parent = above
            self._flat = True
        return torch.from_numpy(self._parent)[ids]

    def is_fixed(self, ids: Tensor) -> Tensor:
        """Which ids belong to a fixed unit: bool, same shape."""
        return torch.from_numpy(self._fixed)[self.roots(ids)]

    def reason(self, number: int) -> str | None:
        """Why the unit of id `number` is fixed; None when it is free."""
        return self._reasons.get(self._find(number))

    def notes(self, number: int) -> set[str]:
        """The words (`heads`, `groups`) that rules attached to the unit of id `number`."""
        return self._notes.get(self._find(number), set())

    def note(self, ids: Tensor, word: str) -> None:
        """Attach `word` to every unit in `ids`."""
        for number in distinct(self.roots(self.look(ids))).tolist():
            self._notes.setdefault(number, set()).add(word)

    def look(self, ids: Tensor) -> Tensor:
        """`ids` with representatives in place, and stride 0 along every dim in which no unit changes.

        All fixed units count as the same: a dim that is fixed throughout does not vary.
        """
        shape = ids.shape
        small = ids[tuple(slice(0, 1) if ids.stride(d) == 0 else slice(None) for d in range(ids.ndim))]
        small = self.roots(small)
        key = torch.where(torch.from_numpy(self._fixed)[small], -1, small)
        for d in range(small.ndim):
            if small.shape[d] > 1 and bool((key == key.narrow(d, 0, 1)).all()):
                small, key = small.narrow(d, 0, 1), key.narrow(d, 0, 1)
        return small.expand(shape)

    def unite(self, first: Tensor, second: Tensor) -> None:
        """Make units that meet position by position the same; the shapes must broadcast."""
        shape = np.broadcast_shapes(first.shape, second.shape)
        first, second = first.expand(shape), second.expand(shape)
        moving = [first.stride(d) != 0 or second.stride(d) != 0 for d in range(first.ndim)]
        cut = tuple(slice(None) if moves else slice(0, 1) for moves in moving)
        left, right = self.roots(first[cut]).reshape(-1), self.roots(second[cut]).reshape(-1)
        differ = left != right
        for one, other in set(zip(left[differ].tolist(), right[differ].tolist(), strict=True)):
            self._join(one, other)

    def tie(self, ids: Tensor, keep: Iterable[int] = ()) -> Tensor:
        """Unite over every dim of `ids` that is not in `keep`; returns the ids as they now look."""
        self.unite(ids, first_along(ids, keep))
        return self.look(ids)

    def freeze(self, ids: Tensor, reason: str) -> None:
        """Fix every unit in `ids`; units fixed before keep their first reason."""
        looked = self.look(ids)
        for number in distinct(self.roots(first_along(looked, varying(looked)))).tolist():
            if not self._fixed[number]:
                self._fixed[number] = True
                self._reasons[number] = reason
                self.version += 1

    def _find(self, number: int) -> int:
        while self._parent[number] != number:
            number = int(self._parent[number])
        return number

    def _join(self, one: int, other: int) -> None:
        one, other = self._find(one), self._find(other)
        if one == other:
            return
        low, high = min(one, other), max(one, other)
        self._parent[high] = low
        self._flat = False
        self.version += 1
        if self._fixed[high] and not self._fixed[low]:
            self._fixed[low] = True
            self._reasons[low] = self._reasons[high]
        if high in self._notes:
            self._notes.setdefault(low, set()).update(self._notes.pop(high))
