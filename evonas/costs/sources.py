"""Where latency comes from: a roofline of a device, a table of measured layers, or a measurement of each candidate.

| spec | source |
|---|---|
| `roofline:NAME`, `roofline:FILE.toml`, or NAME alone | a model of the device |
| `table:FILE` | measured layers, interpolated and summed |
| `measured`, `measured:BATCH` | the candidate itself on this machine, by torch |
| `measured:onnxruntime`, `measured:onnxruntime:BATCH` | the same by onnxruntime |
"""

from __future__ import annotations

from dataclasses import dataclass

from evonas.costs.latency import DEFAULT_DEVICE, Device, load_device
from evonas.costs.table import Table, load_table
from evonas.errors import InvalidArgument, unknown_name

__all__ = ["DEFAULT_LATENCY", "RUNTIMES", "LatencySource", "Measured", "load_latency", "spec_of_device"]

_SOURCES = ("roofline", "table", "measured")
_MOST = 65_536
RUNTIMES = ("torch", "onnxruntime")


@dataclass(frozen=True)
class Measured:
    """Each candidate is timed on this machine, on one thread.

    Args:
        batch: samples a call.
        runtime: `torch`, which runs float32 at the chosen channels; or `onnxruntime`, which runs int8 where the plan is
            int8 throughout, and float32 otherwise.
    """

    batch: int = 1
    runtime: str = RUNTIMES[0]

    @property
    def note(self) -> str:
        """Half a sentence about what the numbers are."""
        form = "float32" if self.runtime == "torch" else "int8 where the plan is int8 throughout, else float32,"
        return (
            f"per sample, measured by {self.runtime} in {form} at the chosen channels, batch {self.batch}, one thread"
        )


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
        return _measured(rest) if colon else Measured()
    if not rest:
        wanted = "a device, such as roofline:pynq-z1" if source == "roofline" else "a file, such as table:cpu.json"
        raise InvalidArgument(
            f"latency `{spec}` names no {'device' if source == 'roofline' else 'file'}; expected {wanted}"
        )
    return load_device(rest) if source == "roofline" else load_table(rest)


def spec_of_device(device: str) -> str:
    """The latency spec of a device's roofline."""
    return f"roofline:{device}"


def _measured(text: str) -> Measured:
    """`32`, `onnxruntime` or `onnxruntime:32`."""
    runtime, colon, batch = text.partition(":")
    if runtime not in RUNTIMES:
        runtime, colon, batch = RUNTIMES[0], ":", text
    if not colon:
        return Measured(runtime=runtime)
    if not (batch.isascii() and batch.isdecimal() and 1 <= int(batch[:9]) <= _MOST):
        raise InvalidArgument(
            f"`{batch}` is not a batch of measured latency; expected 1 to {_MOST}, as in measured:32, or a runtime "
            f"before it ({', '.join(RUNTIMES)}), as in measured:onnxruntime:32"
        )
    return Measured(int(batch), runtime)
