"""A table of genes and objectives as a problem: evaluation is a look-up, and the true front is known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evonas.errors import EvonasError, InvalidArgument
from evonas.objective import Objective, minimised
from evonas.problem.base import Problem, Sensitivities
from evonas.problem.table_file import (
    COST,
    LARGEST,
    SENSITIVITIES,
    SUFFIXES,
    check_suffix,
    decoded,
    missing_cells,
    read_columns,
    read_objectives,
    require_complete,
)
from evonas.space import FloatArray, Gene, IntArray, SearchSpace

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SUFFIXES", "TableProblem", "subspace"]

_CHUNK = 4096  # genomes evaluated at a time while a problem is enumerated


class TableProblem(Problem):
    """A space all of whose genomes have been evaluated.

    Args:
        space: the genomes; must be numbered.
        objectives: all of them, exact and measured.
        values: of every genome in lexicographic order, in users' directions, shape (space.size, n_objectives).
        name: for tables and directories.
        truth: what samplers are scored by, of `values`' shape; `values` when None. It differs where `values` is one
            noisy observation of what is meant.
        sensitivities: what the problem that was tabulated offers.
        default_objectives: names; all when None.
        options: as in `Problem`.

    Raises:
        InvalidArgument: the wrong shape, or a value that is not finite, named with its genome.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        values: FloatArray,
        *,
        name: str,
        truth: FloatArray | None = None,
        sensitivities: Sensitivities | None = None,
        default_objectives: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.space = space
        self.objectives = tuple(objectives)
        if not self.objectives:
            raise InvalidArgument(f"table `{name}` has no objectives; give at least one")
        self.default_objectives = tuple(default_objectives or [objective.name for objective in self.objectives])
        self.options = dict(options or {})
        self.values = self._checked("values", values)
        self.truth = self.values if truth is None else self._checked("truth", truth)
        self._sensitivities = sensitivities
        self._exact = [i for i, objective in enumerate(self.objectives) if objective.exact]
        self._measured = [i for i, objective in enumerate(self.objectives) if not objective.exact]

    def _checked(self, what: str, values: FloatArray) -> FloatArray:
        expected = (self.space.size, len(self.objectives))
        if values.shape != expected:
            raise InvalidArgument(f"`{what}` of table `{self.name}` must have shape {expected}, got {values.shape}")
        broken = np.argwhere(~np.isfinite(values))
        if len(broken):
            row, column = (int(i) for i in broken[0])
            where = self.describe(self.space.unrank(np.array([row]))[0])
            raise InvalidArgument(
                f"table `{self.name}`: {self.objectives[column].name} is {values[row, column]} at {where}; "
                "every value must be a finite number"
            )
        return np.asarray(values, dtype=np.float64)

    def exact_values(self, genomes: IntArray) -> FloatArray:
        return self.values[self.space.rank(genomes)][:, self._exact]

    def evaluate(self, genomes: IntArray) -> list[dict[str, float]]:
        """Look up the measured objectives of genomes (n, n_genes)."""
        names = [self.objectives[i].name for i in self._measured]
        rows = self.values[self.space.rank(genomes)][:, self._measured]
        return [dict(zip(names, row, strict=True)) for row in rows.tolist()]

    def sensitivities(self) -> Sensitivities | None:
        return self._sensitivities

    def columns(self, objectives: Sequence[Objective]) -> list[int]:
        """Positions of `objectives` in `values`."""
        names = [objective.name for objective in self.objectives]
        return [names.index(objective.name) for objective in objectives]

    def true_values(self, genomes: IntArray, objectives: Sequence[Objective]) -> FloatArray:
        """What genomes (n, n_genes) are scored by, to be minimised, shape (n, len(objectives))."""
        return minimised(self.truth[self.space.rank(genomes)][:, self.columns(objectives)], objectives)

    @cached_property
    def _headings(self) -> list[str]:
        parts = [
            ["max" if o.maximise else "min", *(["exact"] if o.exact else []), *([o.unit] if o.unit else [])]
            for o in self.objectives
        ]
        return [f"{o.name} ({', '.join(part)})" for o, part in zip(self.objectives, parts, strict=True)]

    def frame(self) -> pd.DataFrame:
        """The table: a column a gene, holding labels, and a column an objective, headed as `read` expects."""
        import pandas as pd

        genomes = self.space.unrank(np.arange(self.space.size, dtype=np.int64))
        genes = {g.name: np.array(g.labels)[genomes[:, i]] for i, g in enumerate(self.space.genes)}
        return pd.DataFrame(genes | dict(zip(self._headings, self.values.T, strict=True)))

    def write(self, path: Path) -> None:
        """Write the table whole or not at all; npz keeps the sensitivities too.

        Raises:
            InvalidArgument: the suffix is none of `SUFFIXES`, or the file cannot be written.
        """
        suffix = check_suffix(path)
        partial = path.with_name(f".{path.name}.partial{suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if suffix == ".npz":
                known = self._sensitivities
                extra = {} if known is None else {SENSITIVITIES: known.values, COST: np.float64(known.cost)}
                arrays = {name: column.to_numpy() for name, column in self.frame().items()}
                arrays = {str(k): v.astype(str) if v.dtype == object else v for k, v in arrays.items()}
                np.savez_compressed(partial, **arrays, **extra)  # type: ignore[arg-type]
            elif suffix == ".csv":
                self.frame().to_csv(partial, index=False)
            else:
                self.frame().to_parquet(partial, index=False)
            partial.replace(path)
        except OSError as error:
            raise InvalidArgument(f"table {path} cannot be written: {error.strerror or error}") from None
        except ImportError:
            raise InvalidArgument(
                f"table {path}: Parquet needs the package pyarrow; install it, or use .csv or .npz"
            ) from None
        finally:
            partial.unlink(missing_ok=True)

    @property
    def fingerprint(self) -> str:
        """That of any problem, and its values: another table of the same genes is another problem."""
        digest = hashlib.sha256(super().fingerprint.encode())
        digest.update(self.values.tobytes() + self.truth.tobytes())
        return digest.hexdigest()[:16]

    @classmethod
    def read(
        cls,
        path: Path | str,
        objectives: Mapping[str, str | Objective] | None = None,
        *,
        exact: Sequence[str] = (),
        name: str | None = None,
    ) -> TableProblem:
        """A table from a CSV, Parquet or npz file (one 1-D array a column).

        Columns headed `NAME (min)`, `NAME (max, exact)` or `NAME (min, exact, bit)` are objectives, as are those named
        in `objectives`; the others are genes. A gene whose values are all numbers, multipliers (`x0.5`) or formats
        (`fixed8`) is ordered by them; other values are categories, in order of appearance.

        Args:
            path: of the file.
            objectives: column to `"min"` or `"max"` or an `Objective`; the headings decide when None.
            exact: those of `objectives` that are known without an evaluation.
            name: the file's stem when None.

        Raises:
            InvalidArgument: no such file, not a table, a cell missing or not finite, a genome twice or not at all.
            UnknownName: no such column.
        """
        path = Path(path)
        columns, known = read_columns(path)
        name = name or path.stem
        found = read_objectives(path, columns, objectives, exact)
        genes = {key: values for key, values in columns.items() if key not in found}
        if not found:
            raise InvalidArgument(f"table {path} has no objectives; head their columns `error (min)`, `accuracy (max)`")
        if not genes:
            raise InvalidArgument(f"table {path} has no gene columns, only objectives")
        missing = next((key for key, values in columns.items() if missing_cells(values).any()), None)
        if missing is not None:
            row = int(missing_cells(columns[missing]).argmax())
            raise InvalidArgument(
                f"table {path}: column `{missing}` has no finite value in row {row + 1}; fill or remove it"
            )
        space, genomes = decoded(genes)
        require_complete(path, space, genomes)
        values = np.empty((space.size, len(found)))
        values[space.rank(genomes)] = np.stack([column.values for column in found.values()], axis=1)
        return cls(space, [c.objective for c in found.values()], values, name=name, sensitivities=known)

    @classmethod
    def of(
        cls, problem: Problem, *, limit: int | None = None, progress: Callable[[int], None] | None = None
    ) -> TableProblem:
        """Enumerate `problem`: evaluate every genome.

        Args:
            problem: what to enumerate.
            limit: at most so many genomes: choices are left out evenly until the space is that small.
            progress: told the number of genomes done.

        Raises:
            InvalidArgument: too many genomes, or one whose evaluation fails (named, with the text).
        """
        space = problem.space if limit is None else subspace(problem.space, limit)
        if space.size > LARGEST:
            raise InvalidArgument(
                f"problem `{problem.name}` has {problem.space.size:,} genomes, too many for a table; "
                f"give a limit of at most {LARGEST:,}"
            )
        full = space is problem.space
        values = np.empty((space.size, len(problem.objectives)))
        names = [objective.name for objective in problem.measured]
        measured = [i for i, objective in enumerate(problem.objectives) if not objective.exact]
        exact = [i for i, objective in enumerate(problem.objectives) if objective.exact]
        done = 0
        for chunk in space.chunks(_CHUNK):
            genomes = chunk if full else _embedded(space, problem.space, chunk)
            rows = slice(done, done + len(chunk))
            values[rows, exact] = problem.exact_values(genomes)
            scores = _evaluated(problem, genomes)
            values[rows, measured] = [[row[name] for name in names] for row in scores]
            done += len(chunk)
            if progress is not None:
                progress(done)
        return cls(
            space,
            problem.objectives,
            values,
            name=problem.name if full else f"{problem.name}-{space.size}",
            sensitivities=problem.sensitivities() if full else None,
            default_objectives=problem.default_objectives,
            options=problem.options,
        )


def subspace(space: SearchSpace, limit: int) -> SearchSpace:
    """The space with choices left out, evenly over each gene, until it has at most `limit` genomes.

    The gene with the most choices loses one at a time, the last of them first; its ends stay.

    Raises:
        InvalidArgument: `limit` is below 1.
    """
    if limit < 1:
        raise InvalidArgument(f"`limit` must be at least 1, got {limit}")
    counts = space.n_choices.copy()
    while np.prod(counts.astype(float)) > limit:
        counts[len(counts) - 1 - int(counts[::-1].argmax())] -= 1
    if (counts == space.n_choices).all():
        return space
    genes = []
    for gene, count in zip(space.genes, counts, strict=True):
        kept = np.unique(np.linspace(0, len(gene.choices) - 1, count).round().astype(int))
        choices, labels = tuple(gene.choices[i] for i in kept), tuple(gene.labels[i] for i in kept)
        genes.append(Gene(gene.name, choices, labels, gene.group, gene.ordered))
    return SearchSpace(genes)


def _embedded(small: SearchSpace, large: SearchSpace, genomes: IntArray) -> IntArray:
    """Genomes of a subspace as genomes of the whole, shape (n, n_genes)."""
    whole = np.empty_like(genomes)
    for i, (inner, outer) in enumerate(zip(small.genes, large.genes, strict=True)):
        index = np.array([outer.labels.index(label) for label in inner.labels], dtype=np.int64)
        whole[:, i] = index[genomes[:, i]]
    return whole


def _evaluated(problem: Problem, genomes: IntArray) -> Sequence[Mapping[str, float]]:
    """What `evaluate` returns; if it raises, the error names the genome that cannot be evaluated."""
    try:
        return problem.evaluate(genomes)
    except EvonasError:
        raise
    except Exception:
        for genome in genomes:
            try:
                problem.evaluate(genome[None])
            except Exception as error:
                raise InvalidArgument(
                    f"problem `{problem.name}` cannot be tabulated: {problem.describe(genome)} fails with "
                    f"{type(error).__name__}: {error}"
                ) from None
        raise
