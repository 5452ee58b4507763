"""Latency from a roofline over the plan, for a device described in a small TOML file.

Each layer takes the longer of its arithmetic and its memory traffic, plus a fixed overhead; layers run one
after another (Williams, Waterman, Patterson 2009, doi:10.1145/1498765.1498785).
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from evonas.costs.arithmetic import layer_macs, operand_widths, summed
from evonas.costs.memory import traffic
from evonas.errors import InvalidArgument, unknown_name
from evonas.plan import Plans
from evonas.space import FloatArray

__all__ = ["DEFAULT_DEVICE", "Device", "device_names", "latency", "latency_rows", "layer_latency", "load_device"]

DEFAULT_DEVICE = "pynq-z1"


@dataclass(frozen=True)
class Device:
    """What a roofline needs to know.

    Args:
        name: the name of the file without its suffix.
        title: what the device is.
        mac_per_second: peak multiply-accumulates per second by operand width in bits, ascending.
        memory_bandwidth: bytes per second.
        layer_overhead: seconds a layer costs however small it is.
        round_to: channels that the hardware handles at once; 1 when the file does not say.
        sources: where each number is from.
    """

    name: str
    title: str
    mac_per_second: tuple[tuple[int, float], ...]
    memory_bandwidth: float
    layer_overhead: float
    round_to: int = 1
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)

    def peak(self, widths: np.ndarray) -> FloatArray:
        """MAC/s for operands of `widths` bits (any shape): the peak of the narrowest width that holds them.

        Raises:
            InvalidArgument: an operand wider than anything the device can multiply.
        """
        known = np.array([width for width, _ in self.mac_per_second])
        if widths.size and int(widths.max()) > known[-1]:
            raise InvalidArgument(
                f"device `{self.name}` has no peak for {int(widths.max())}-bit operands (it has "
                f"{', '.join(map(str, known))}); use narrower formats or another device"
            )
        peaks = np.array([peak for _, peak in self.mac_per_second])
        by_width = peaks[np.searchsorted(known, np.arange(known[-1] + 1))]
        found: FloatArray = by_width[widths]
        return found


def device_names() -> list[str]:
    """Names of the devices that ship with evonas."""
    folder = resources.files("evonas.costs.devices")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_device(name: str) -> Device:
    """A shipped device by name, or one from a `.toml` file by path.

    Raises:
        UnknownName: neither a shipped name nor a file.
        InvalidArgument: the file does not parse, or a number is missing or not positive.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise InvalidArgument(
                f"device file `{name}` does not exist; give a TOML file or one of {', '.join(device_names())}"
            )
        return _parse(path.stem, name, path.read_text(encoding="utf-8", errors="replace"))
    if name not in device_names():
        raise unknown_name("device", name, device_names())
    text = (resources.files("evonas.costs.devices") / f"{name}.toml").read_text(encoding="utf-8")
    return _parse(name, name, text)


def _parse(name: str, origin: str, text: str) -> Device:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"device file `{origin}` is not TOML: {error}") from None
    known = {"title", "mac_per_second", "memory_bandwidth", "layer_overhead", "round_to", "sources"}
    for key in content:
        if key not in known:
            raise unknown_name(f"key in device file `{origin}`", key, sorted(known))
    peaks = content.get("mac_per_second")
    if not isinstance(peaks, dict) or not peaks:
        raise InvalidArgument(f"device file `{origin}` needs a table [mac_per_second] of width = MAC/s, it has none")
    for width in peaks:
        if not width.isdecimal() or int(width) < 1:
            raise InvalidArgument(
                f"device file `{origin}`: `mac_per_second.{width}` is not a width in bits; expected 1 or more"
            )
    sources = content.get("sources", {})
    if not isinstance(sources, dict):
        raise InvalidArgument(f"device file `{origin}`: `sources` must be a table of texts, got {sources!r}")
    return Device(
        name,
        str(content.get("title", name)),
        tuple(sorted((int(w), _number(origin, peaks, w, "mac_per_second.")) for w in peaks)),
        _number(origin, content, "memory_bandwidth"),
        _number(origin, content, "layer_overhead", zero=True),
        _whole(origin, content.get("round_to", 1)),
        {str(key): str(value) for key, value in sources.items()},
    )


def _number(origin: str, table: Mapping[str, Any], key: str, prefix: str = "", zero: bool = False) -> float:
    if key not in table:
        raise InvalidArgument(f"device file `{origin}` has no `{prefix}{key}`; expected a number")
    value = table[key]
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < 0 or (value == 0 and not zero):
        raise InvalidArgument(f"device file `{origin}`: `{prefix}{key}` must be a positive number, got {value!r}")
    return float(value)


def _whole(origin: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidArgument(f"device file `{origin}`: `round_to` must be a whole number of at least 1, got {value!r}")
    return value


def layer_latency(plans: Plans, device: Device) -> dict[str, FloatArray]:
    """Seconds of each quantizable layer by term (`compute`, `memory`, `overhead`), each (n, n_quantizable).

    A layer reads its weights, bias and inputs in their formats, and writes its outputs in their own format or
    in the data format of the layer after it, the last one in float32. Element-wise layers and sums are taken as fused.
    Operands of any family run at the peak of integers of their width.
    """
    bits = traffic(plans)
    own = [layer.kind != "add" for layer in plans.network.quantizable]
    return {
        "compute": layer_macs(plans) / device.peak(np.maximum(*operand_widths(plans))),
        "memory": bits / 8.0 / device.memory_bandwidth,
        "overhead": np.full(bits.shape, device.layer_overhead) * np.array(own, dtype=np.float64),
    }


def latency(plans: Plans, device: Device) -> FloatArray:
    """Modelled seconds for one sample, shape (n,)."""
    terms = layer_latency(plans, device)
    return summed(np.maximum(terms["compute"], terms["memory"]) + terms["overhead"])


def latency_rows(plans: Plans, device: Device) -> list[dict[str, Any]]:
    """For each quantizable layer of the first genome: microseconds, what binds, and what could be rounded.

    `bound by` is the largest of compute, memory and overhead. `round_to` is there when a channel count lies between
    two multiples of what the device handles at once: the next multiple takes no longer on it.
    """
    terms = {name: values[0] for name, values in layer_latency(plans, device).items()}
    rows: list[dict[str, Any]] = []
    inputs, outputs = (
        counts[0] for counts in (plans.inputs(plans.network.quantizable), plans.outputs(plans.network.quantizable))
    )
    for i in range(len(inputs)):
        parts = {name: float(values[i]) for name, values in terms.items()}
        roof = max(parts["compute"], parts["memory"])
        bound = "overhead" if parts["overhead"] >= roof else max(("compute", "memory"), key=parts.__getitem__)
        bound = "fused" if plans.network.quantizable[i].kind == "add" else bound
        row = {"latency": (roof + parts["overhead"]) * 1e6, "bound by": bound}
        layer = plans.network.quantizable[i]
        free = {"in": (layer.inputs, inputs[i]), "out": (layer.outputs, outputs[i])}
        rows.append(row | _suggestion(device.round_to, {side: int(n) for side, (of, n) in free.items() if of.terms}))
    return rows


def _suggestion(multiple: int, counts: Mapping[str, int]) -> dict[str, str]:
    """The next multiple for each of `counts`, those that a chain moves; nothing for a device that takes any."""
    texts = [f"{side} {-(-count // multiple) * multiple}" for side, count in counts.items() if count % multiple]
    return {"round_to": ", ".join(texts) or "-"} if multiple > 1 else {}
