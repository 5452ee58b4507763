"""Search any Python function over named choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from evonas.errors import EvaluationError, InvalidArgument
from evonas.objective import Objective
from evonas.problem.base import Problem
from evonas.space import FloatArray, Gene, IntArray, SearchSpace

__all__ = ["FunctionProblem"]

Direction = Literal["min", "max"]


class FunctionProblem(Problem):
    """Multi-objective search over the choices of a function's arguments.

    Args:
        function: called as `function(**choices)`; returns a mapping from every measured objective's name to a
            number. It may raise: that choice is then recorded as failed.
        choices: argument name to its ordered choices, the cheapest first where there is an order.
        objectives: name to `"min"` or `"max"`, or to an `Objective`.
        exact: optional, called as `exact(**choices)`, for objectives that are known without an evaluation;
            returns a mapping with the names in `exact_objectives`.
        exact_objectives: as `objectives`, for `exact`.
        name: for the run directory.

    Raises:
        InvalidArgument: no choices, no objectives, or a direction other than min and max.
    """

    def __init__(
        self,
        function: Callable[..., Mapping[str, float]],
        choices: Mapping[str, Sequence[Any]],
        objectives: Mapping[str, Direction | Objective] | Sequence[Objective],
        *,
        exact: Callable[..., Mapping[str, float]] | None = None,
        exact_objectives: Mapping[str, Direction | Objective] | None = None,
        name: str | None = None,
    ) -> None:
        if not callable(function):
            raise InvalidArgument(f"`function` must be callable, got {type(function).__name__}")
        if not isinstance(choices, Mapping):
            raise InvalidArgument(f"`choices` must map argument names to lists, got {type(choices).__name__}")
        if not isinstance(objectives, Mapping) and not all(isinstance(entry, Objective) for entry in objectives):
            raise InvalidArgument("`objectives` must map names to 'min' or 'max', such as {'error': 'min'}")
        self.name = name or getattr(function, "__name__", "function").strip("<>")
        self.options = {}
        self.space = SearchSpace([_gene(key, values) for key, values in choices.items()])
        if (exact is None) != (not exact_objectives):
            raise InvalidArgument("`exact` and `exact_objectives` belong together; give both or neither")
        given = (
            objectives if isinstance(objectives, Mapping) else {objective.name: objective for objective in objectives}
        )
        measured = [_objective(key, value, exact=False) for key, value in given.items()]
        known = [_objective(key, value, exact=True) for key, value in (exact_objectives or {}).items()]
        self.objectives = tuple(measured + known)
        if not measured:
            raise InvalidArgument("`objectives` is empty; name at least one, such as {'error': 'min'}")
        names = [objective.name for objective in self.objectives]
        if len(set(names)) != len(names):
            raise InvalidArgument(f"objectives must have distinct names, got {', '.join(names)}")
        self.default_objectives = tuple(names)
        self._function = function
        self._exact = exact

    def evaluate(self, genomes: IntArray) -> list[Mapping[str, float]]:
        """Call the function once per genome, shape (n, n_genes)."""
        return [self._function(**self.space.decode(genome)) for genome in genomes]

    def exact_values(self, genomes: IntArray) -> FloatArray:
        """Call `exact` once per genome, shape (n, n_genes)."""
        if self._exact is None:
            return np.zeros((len(genomes), 0))
        rows = [_checked(self._known(genome), self.exact, self.name) for genome in genomes]
        return np.array([[row[objective.name] for objective in self.exact] for row in rows]).reshape(
            len(genomes), len(self.exact)
        )

    def _known(self, genome: IntArray) -> Any:
        """What `exact` returns for one genome (n_genes,)."""
        assert self._exact is not None
        choices = self.space.decode(genome)
        try:
            return self._exact(**choices)
        except Exception as error:
            raise EvaluationError(
                f"problem `{self.name}`: `exact` raised {type(error).__name__} for {choices}; it must know every genome"
            ) from error


def _gene(name: str, values: Any) -> Gene:
    if isinstance(values, np.ndarray) and values.ndim == 1:
        values = values.tolist()
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise InvalidArgument(f"choices of `{name}` must be a list or tuple, got {type(values).__name__}")
    return Gene(name, tuple(values))


def _objective(name: str, direction: Direction | Objective, *, exact: bool) -> Objective:
    if isinstance(direction, Objective):
        if direction.name != name or direction.exact != exact:
            wanted = f"`name={name!r}` and `exact={exact}`"
            raise InvalidArgument(f"objective `{name}` must have {wanted}, got {direction}")
        return direction
    if direction not in ("min", "max"):
        raise InvalidArgument(f"direction of objective `{name}` must be 'min' or 'max', got {direction!r}")
    return Objective(name, maximise=direction == "max", exact=exact)


def _checked(scores: Any, expected: Sequence[Objective], problem: str) -> dict[str, float]:
    """`scores` as a dictionary of floats with exactly the expected names."""
    names = [objective.name for objective in expected]
    if not isinstance(scores, Mapping):
        raise EvaluationError(
            f"problem `{problem}` returned {type(scores).__name__}, "
            f"expected a mapping with the names {', '.join(names)}"
        )
    if set(scores) != set(names):
        raise EvaluationError(
            f"problem `{problem}` returned the scores {', '.join(map(str, scores)) or 'none'}, "
            f"expected exactly {', '.join(names)}"
        )
    return {name: float(scores[name]) for name in names}
