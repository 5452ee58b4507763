"""The columns of a table's file: what is a gene, what an objective, and whether every genome is there once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evonas.errors import InvalidArgument, unknown_name
from evonas.objective import Objective
from evonas.problem.base import Sensitivities
from evonas.space import BoolArray, FloatArray, Gene, IntArray, SearchSpace

__all__ = [
    "COST",
    "LARGEST",
    "SENSITIVITIES",
    "SUFFIXES",
    "Column",
    "check_suffix",
    "decoded",
    "missing_cells",
    "read_columns",
    "read_objectives",
    "require_complete",
]

SUFFIXES = (".csv", ".parquet", ".npz")
LARGEST = 20_000_000  # rows; past that a table does not fit
_HEADING = re.compile(r"(?P<name>.+?) \((?P<direction>min|max)(?P<exact>, exact)?(?:, (?P<unit>[^()]+))?\)")
SENSITIVITIES, COST = "_sensitivities", "_sensitivity_cost"  # keys in an npz file that are no columns


@dataclass(frozen=True)
class Column:
    """An objective's values, one a row of the table."""

    objective: Objective
    values: FloatArray


def check_suffix(path: Path) -> str:
    """The suffix of `path`, which must be one of `SUFFIXES`."""
    if path.suffix not in SUFFIXES:
        raise InvalidArgument(f"table {path} must end in {', '.join(SUFFIXES)}")
    return path.suffix


def read_columns(path: Path) -> tuple[dict[str, np.ndarray], Sensitivities | None]:
    """Column name to its cells, and the sensitivities that an npz file may hold."""
    import pandas as pd

    suffix = check_suffix(path)
    if not path.is_file():
        raise InvalidArgument(f"table {path} does not exist")
    try:
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
            known = None
            if SENSITIVITIES in arrays:
                known = Sensitivities(arrays.pop(SENSITIVITIES), float(arrays.pop(COST)))
            frame = pd.DataFrame(arrays)
        else:
            known = None
            frame = (
                pd.read_csv(path, keep_default_na=False, na_values=[""]) if suffix == ".csv" else pd.read_parquet(path)
            )
    except ImportError:
        raise InvalidArgument(
            f"table {path}: Parquet needs the package pyarrow; install it, or use .csv or .npz"
        ) from None
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InvalidArgument(f"table {path} cannot be read as {suffix[1:]}: {reason}") from None
    if frame.empty:
        raise InvalidArgument(f"table {path} is empty")
    return {str(key): column.to_numpy() for key, column in frame.items()}, known


def missing_cells(cells: np.ndarray) -> BoolArray:
    """Which cells are empty or not finite, shape (n,)."""
    import pandas as pd

    if cells.dtype.kind == "f":
        broken: BoolArray = ~np.isfinite(cells)
        return broken
    return np.asarray(pd.isna(cells))


def read_objectives(
    path: Path, columns: Mapping[str, np.ndarray], given: Mapping[str, str | Objective] | None, exact: Sequence[str]
) -> dict[str, Column]:
    """Column name to the objective that it holds."""
    found = {}
    for key in given or {}:
        if key not in columns:
            raise unknown_name(f"column of {path}", key, columns)
    for key, cells in columns.items():
        objective = _headed(key) if given is None else _named(key, given.get(key), exact)
        if objective is None:
            continue
        try:
            found[key] = Column(objective, cells.astype(np.float64))
        except (TypeError, ValueError):
            raise InvalidArgument(f"table {path}: objective `{key}` holds cells that are not numbers") from None
    return found


def _headed(key: str) -> Objective | None:
    match = _HEADING.fullmatch(key)
    if match is None:
        return None
    return Objective(match["name"], match["unit"] or "", match["direction"] == "max", exact=match["exact"] is not None)


def _named(key: str, given: str | Objective | None, exact: Sequence[str]) -> Objective | None:
    if given is None or isinstance(given, Objective):
        return given
    if given not in ("min", "max"):
        raise InvalidArgument(f"direction of objective `{key}` must be 'min' or 'max', got {given!r}")
    return Objective(key, maximise=given == "max", exact=key in exact)


def decoded(genes: Mapping[str, np.ndarray]) -> tuple[SearchSpace, IntArray]:
    """The space that gene columns span, and the genome of every row, shape (n, n_genes)."""
    import pandas as pd

    found, indices = [], []
    for name, cells in genes.items():
        codes, uniques = pd.factorize(cells)
        values, ordered = _read_choices([_plain(value) for value in uniques])
        order = (
            np.argsort([_order_key(value) for value in values], kind="stable") if ordered else np.arange(len(values))
        )
        place = np.empty(len(values), dtype=np.int64)
        place[order] = np.arange(len(values))
        labels = tuple(str(_plain(uniques[i])) for i in order)
        group = name.rpartition(".")[0]
        found.append(Gene(name, tuple(values[i] for i in order), labels, group, ordered))
        indices.append(place[codes])
    return SearchSpace(found), np.stack(indices, axis=1)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _read_choices(cells: list[Any]) -> tuple[list[Any], bool]:
    """Cells as numbers or formats, and whether they have an order; as they are when they have none."""
    from evonas.formats import parse

    if all(isinstance(cell, int | float) for cell in cells):
        return cells, True
    try:
        return [float(str(cell).removeprefix("x")) for cell in cells], True
    except ValueError:
        pass
    try:
        return [parse(str(cell)) for cell in cells], True
    except InvalidArgument:
        return cells, False


def _order_key(value: Any) -> float:
    return float(getattr(value, "width", value))


def require_complete(path: Path, space: SearchSpace, genomes: IntArray) -> None:
    """Every genome exactly once."""
    if not space.indexable or space.size > LARGEST:
        raise InvalidArgument(
            f"table {path}: its genes span {space.size:.3g} genomes, of which it holds {len(genomes):,}"
        )
    ranks = space.rank(genomes)
    counts = np.bincount(ranks, minlength=space.size)
    for bad, text in ((counts > 1, "is there more than once"), (counts == 0, "is missing")):
        if bad.any():
            genome = space.unrank(np.array([int(bad.argmax())]))[0]
            shown = " ".join(f"{name}={label}" for name, label in space.labels(genome).items())
            raise InvalidArgument(
                f"table {path}: the genome {shown} {text} ({int(bad.sum()):,} such of {space.size:,}); "
                "a table holds every combination of its genes' values once"
            )
