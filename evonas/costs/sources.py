"""Where latency comes from: a roofline of a device, a table of measured layers, or a measurement of each candidate.

| spec | source |
|---|---|
| `roofline:NAME`, `roofline:FILE.toml`, or NAME alone | a model of the device |
| `table:FILE` | measured layers, interpolated and summed |
| `measured`, `measured:BATCH` | the candidate itself on this machine |
"""

from __future__ import annotations

from dataclasses import dataclass

from evonas.costs.latency import DEFAULT_DEVICE, Device, load_device
from evonas.costs.table import Table, load_table
from evonas.errors import InvalidArgument, unknown_name

__all__ = ["DEFAULT_LATENCY", "LatencySource", "Measured", "load_latency", "spec_of_device"]

_SOURCES = ("roofline", "table", "measured")
_MOST = 65_536


@dataclass(frozen=True)
class Measured:
    """Each candidate is timed on this machine, `batch` samples a call, on one thread."""

    batch: int = 1

    @property
    def note(self) -> str:
        """Half a sentence about what the numbers are."""
        return f"per sample, measured in float32 at the chosen channels, batch {self.batch}, one thread"


LatencySource = Device | Table | Measured

DEFAULT_LATENCY = f"roofline:{DEFAULT_DEVICE}"


def load_latency(spec: str) -> LatencySource:
    """The source that `spec` names.

    Raises:
        UnknownName: no such source or device.
        InvalidArgument: a file that cannot be used, or a batch that is no number.
    """
    source, colon, rest = spec.partition(":")
    if not colon and source != "measured":
        return load_device(spec)
    if source not in _SOURCES:
        raise unknown_name("source of latency", source, _SOURCES)
    if source == "measured":
        return Measured(_batch(rest) if colon else 1)
    if not rest:
        wanted = "a device, such as roofline:pynq-z1" if source == "roofline" else "a file, such as table:cpu.json"
        raise InvalidArgument(
            f"latency `{spec}` names no {'device' if source == 'roofline' else 'file'}; expected {wanted}"
        )
    return load_device(rest) if source == "roofline" else load_table(rest)


def spec_of_device(device: str) -> str:
    """The latency spec of a device's roofline."""
    return f"roofline:{device}"


def _batch(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= _MOST):
        raise InvalidArgument(f"`{text}` is not a batch of measured latency; expected 1 to {_MOST}, as in measured:32")
    return int(text)
