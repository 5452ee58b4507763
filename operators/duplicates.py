"""Duplicate elimination against everything ever seen, not only the current population."""

from __future__ import annotations

from typing import Any

import numpy as np
from pymoo.core.duplicate import DuplicateElimination

from evonas.space import SearchSpace

__all__ = ["GenomeDuplicates"]


class GenomeDuplicates(DuplicateElimination):
    """Drops genomes that were let through before, in this population or in any earlier one.

    Args:
        space: what the genomes are of.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self.seen: set[bytes] = set()

    def do(self, pop: Any, *args: Any, **kwargs: Any) -> Any:
        """pymoo's entry: `pop` without what was seen; what is let through counts as seen from now on."""
        result = super().do(pop, *args, **kwargs)
        fresh = result[0] if isinstance(result, tuple) else result
        self.seen.update(self._keys(fresh))
        return result

    def _do(self, pop: Any, other: Any, is_duplicate: Any) -> Any:
        earlier = set() if other is None else set(self._keys(other))
        for i, key in enumerate(self._keys(pop)):
            if key in self.seen or key in earlier:
                is_duplicate[i] = True
            elif other is None:
                earlier.add(key)
        return is_duplicate

    def _keys(self, pop: Any) -> list[bytes]:
        return self.space.keys(np.asarray(pop.get("X"), dtype=np.int64).reshape(len(pop), len(self.space)))
