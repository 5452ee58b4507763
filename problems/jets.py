"""The LHC jets: 16 high-level features of a jet, five classes (gluon, light quark, W, Z, top).

Source: M. Pierini, J. Duarte, N. Tran, M. Freytsis, "HLS4ML LHC Jet dataset (HLF)", doi:10.5281/zenodo.3602260, on
OpenML as `hls4ml_lhc_jets_hlf` (data set 42468), CC BY 4.0; about 830,000 simulated jets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from evonas.errors import InvalidArgument
from evonas.problem.data import Split

__all__ = ["CLASSES", "FEATURES", "jets"]

FEATURES = (
    "zlogz",
    "c1_b0_mmdt",
    "c1_b1_mmdt",
    "c1_b2_mmdt",
    "c2_b1_mmdt",
    "c2_b2_mmdt",
    "d2_b1_mmdt",
    "d2_b2_mmdt",
    "d2_a1_b1_mmdt",
    "d2_a1_b2_mmdt",
    "m2_b1_mmdt",
    "m2_b2_mmdt",
    "n2_b1_mmdt",
    "n2_b2_mmdt",
    "mass_mmdt",
    "multiplicity",
)
CLASSES = ("g", "q", "t", "w", "z")
OPENML_ID = 42468
_NAMED = 3  # missing columns that a message names
CACHE = Path.home() / ".cache" / "evonas" / "openml"


@cache
def jets(data: str = "", samples: int = 0) -> tuple[Split, Split, Split]:
    """Train, validation and test: 64, 16 and 20 %, stratified and fixed, standardised on train.

    Args:
        data: an ARFF, CSV, Parquet or HDF5 file with the columns of the OpenML set; downloaded, once, when empty.
        samples: jets to keep, in proportion to the classes; all when 0.

    Raises:
        InvalidArgument: the data cannot be had, or is not what it should be.
    """
    frame = _read(Path(data)) if data else _fetch()
    features, labels = _checked(frame, data or "the downloaded data")
    rows = np.arange(len(labels))
    if 0 < samples < len(rows):
        rows = _split(rows, labels, samples)[1]
    rest, last = _split(rows, labels, round(0.2 * len(rows)))
    first, middle = _split(rest, labels, round(0.16 * len(rows)))
    mean, spread = features[first].mean(0), features[first].std(0)
    scaled = ((features - mean) / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    train, validation, test = (
        Split(torch.from_numpy(scaled[part]), torch.from_numpy(labels[part])) for part in (first, middle, last)
    )
    return train, validation, test


def _split(rows: np.ndarray, labels: np.ndarray, held: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import train_test_split

    kept, out = train_test_split(rows, test_size=held, stratify=labels[rows], random_state=0)
    return kept, out


def _fetch() -> pd.DataFrame:
    from sklearn.datasets import fetch_openml

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the retry; the error below says it all
            found = fetch_openml(
                data_id=OPENML_ID, as_frame=True, parser="pandas", data_home=str(CACHE), n_retries=1, delay=0.1
            )
    except Exception as error:
        raise InvalidArgument(
            f"the jet data cannot be downloaded ({type(error).__name__}). Two ways to get it: connect to the internet "
            f"once (OpenML data set {OPENML_ID}, hls4ml_lhc_jets_hlf, is then kept in {CACHE}), or give a file with "
            "its columns, ARFF, CSV, Parquet or HDF5: --set data=FILE"
        ) from None
    frame: pd.DataFrame = found.frame
    return frame


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InvalidArgument(f"data file `{path}` does not exist; give an ARFF, CSV, Parquet or HDF5 file")
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise InvalidArgument(f"data file `{path}` has an unknown suffix; expected one of {', '.join(_READERS)}")
    try:
        return _READERS[suffix](path)
    except ImportError as error:
        needed = "h5py" if _READERS[suffix] is _hdf5 else "pyarrow"
        raise InvalidArgument(
            f"reading {suffix} needs {needed} ({type(error).__name__}); pip install 'evonas[data]', or give CSV"
        ) from None
    except InvalidArgument:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise InvalidArgument(f"data file `{path}` cannot be read: {type(error).__name__}: {first}") from None


def _arff(path: Path) -> pd.DataFrame:
    names = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if words and words[0].lower() == "@attribute":
                names.append(words[1].strip("'\""))
            if words and words[0].lower() == "@data":
                return pd.read_csv(file, names=names, comment="%", skipinitialspace=True, quotechar="'")
    raise InvalidArgument(f"data file `{path}` has no @data line; is it ARFF?")


def _hdf5(path: Path) -> pd.DataFrame:
    """One table with named fields, one data set a column, or a matrix beside a data set of its columns' names."""
    import h5py  # type: ignore[import-not-found,import-untyped,unused-ignore]

    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        for item in found.values():
            if item.dtype.names:
                return pd.DataFrame({name: item[name] for name in item.dtype.names})
            names = [other[()] for other in found.values() if other.ndim == 1 and other.shape == item.shape[1:]]
            labels = next((one for one in names if one.dtype.kind in "SO"), None)
            if item.ndim == 2 and labels is not None:
                return pd.DataFrame(item[()], columns=[_text(label) for label in labels])
        return pd.DataFrame({name.split("/")[-1]: item[()] for name, item in found.items() if item.ndim == 1})


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".arff": _arff,
    ".csv": pd.read_csv,
    ".parquet": pd.read_parquet,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}


def _checked(frame: pd.DataFrame, origin: str) -> tuple[np.ndarray, np.ndarray]:
    """Features, float64 (n, 16), and class indices, int64 (n,)."""
    frame = frame.rename(columns=lambda name: str(name).removeprefix("j_"))
    if "class" not in frame and set(CLASSES) <= set(frame):
        frame = frame.assign(**{"class": frame[list(CLASSES)].idxmax(axis=1)})
    missing = [name for name in (*FEATURES, "class") if name not in frame]
    if missing:
        listed = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
        raise InvalidArgument(
            f"{origin} lacks the column{'s' * (len(missing) > 1)} {listed}; expected the 16 features of "
            "OpenML hls4ml_lhc_jets_hlf and `class`"
        )
    names = [_text(value) for value in frame["class"]]
    strange = sorted(set(names) - set(CLASSES))
    if strange:
        raise InvalidArgument(f"{origin} has the class `{strange[0]}`; expected {', '.join(CLASSES)}")
    labels = np.array([CLASSES.index(name) for name in names], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(CLASSES))
    if counts.min() < 10:
        few = CLASSES[int(counts.argmin())]
        raise InvalidArgument(f"{origin} has {counts.min()} jets of class `{few}`; a split needs at least 10 of each")
    return _finite(frame, origin), labels


def _finite(frame: pd.DataFrame, origin: str) -> np.ndarray:
    columns: list[Any] = []
    for name in FEATURES:
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InvalidArgument(f"{origin} has a value that is not a finite number: column {name}, row {row}")
        columns.append(values)
    return np.stack(columns, axis=1)


def _text(value: Any) -> str:
    """A label as text; `b'g'` is what scipy's ARFF reader makes of one, once written to CSV."""
    text = value.decode() if isinstance(value, bytes) else str(value)
    return text.removeprefix("b'").strip("'\" ")
