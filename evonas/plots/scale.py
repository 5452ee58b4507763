"""The axis of one objective: its unit, whether it is logarithmic, its ends, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    ScalarFormatter,
)

from evonas.objective import Objective
from evonas.plots.style import TEXT, char, clean
from evonas.space import FloatArray

__all__ = ["Scale", "finite", "plain", "valued"]

_LOG_DECADES = 1.5  # wider spans are drawn on logarithmic axes
_LARGEST = 1e100  # larger magnitudes are taken as not finite: they overflow on the way to the screen
_SHOWN = {
    "bit": (("MiB", 8.0 * 1024**2), ("KiB", 8.0 * 1024), ("B", 8.0)),
    "µs": (("s", 1e6), ("ms", 1e3), ("µs", 1.0)),
}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def finite(values: FloatArray) -> FloatArray:
    """`values` (any shape) with NaN for what cannot be drawn."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values) < _LARGEST, values, np.nan)


@dataclass(frozen=True)
class Scale:
    """How an objective is drawn.

    Args:
        objective: in users' directions.
        factor: values are divided by it.
        unit: of the divided values.
        log: whether the axis is logarithmic.
        low: the lower end of the axis, in `unit`.
        high: the upper end of the axis, in `unit`.
    """

    objective: Objective
    factor: float
    unit: str
    log: bool
    low: float
    high: float

    @classmethod
    def of(cls, objective: Objective, values: FloatArray, limits: Sequence[float] = ()) -> Scale:
        """The scale that shows all finite `values` (n,), and those of `limits` that are not far from them."""
        known = finite(np.asarray(values, dtype=np.float64).ravel())
        known = known[~np.isnan(known)]
        if not len(known):
            known = np.array([limit for limit in limits if abs(limit) < _LARGEST] or objective.bounds or (0.0, 1.0))
        low, high = float(known.min()), float(known.max())
        log = objective.bounds is None and low > 0 and math.log10(high) - math.log10(low) > _LOG_DECADES
        factor, unit = _unit(objective, math.sqrt(low) * math.sqrt(high) if log else float(np.abs(known).max()), log)
        low, high = low / factor, high / factor
        start, stop = (math.log10(low), math.log10(high)) if log else (low, high)
        span = stop - start
        for limit in (limit / factor for limit in limits):
            if log and limit <= 0:
                continue
            at = math.log10(limit) if log else limit
            if low == high or start - span <= at <= stop + span:
                start, stop = min(start, at), max(stop, at)
        pad = 0.06 * (stop - start) or 0.05 * abs(stop) or 0.5
        start, stop = start - pad, stop + pad
        return cls(objective, factor, unit, log, 10**start if log else start, 10**stop if log else stop)

    @property
    def name(self) -> str:
        """The objective with its unit: `size (KiB)`."""
        return f"{clean(self.objective.name, 28)} ({self.unit})" if self.unit else clean(self.objective.name, 32)

    def label(self, inches: float) -> str:
        """The label of an axis `inches` long, on at most two lines, with an arrow to the better end."""
        arrow = "better →" if self.objective.maximise else "← better"
        width = max(12, int(inches / char(TEXT)))
        if len(self.name) + len(arrow) + 2 <= width:
            return f"{self.name}  {arrow}"
        width = max(12, int((inches - 0.5) / char(TEXT)))  # two lines reach further: keep off the corners
        if len(self.name) <= width:
            return f"{self.name}\n{arrow}"
        unit = f"({clean(self.unit, width - 12)})  " if self.unit and width > 14 else ""
        return f"{clean(self.objective.name, width)}\n{unit}{arrow}"

    def shown(self, values: FloatArray) -> FloatArray:
        """`values` (any shape) in the unit of the axis."""
        return finite(np.asarray(values, dtype=np.float64)) / self.factor

    def holds(self, value: float) -> bool:
        """Whether `value`, in the objective's unit, lies on the axis."""
        return self.low <= value / self.factor <= self.high

    def on_x(self, axes: Axes, bins: int = 5) -> None:
        """Make this the horizontal axis."""
        axes.set_xscale("log" if self.log else "linear")
        axes.set_xlim(self.low, self.high)
        self._ticks(axes.xaxis, bins)

    def on_y(self, axes: Axes, bins: int = 5) -> None:
        """Make this the vertical axis."""
        axes.set_yscale("log" if self.log else "linear")
        axes.set_ylim(self.low, self.high)
        self._ticks(axes.yaxis, bins)

    def _ticks(self, axis: Axis, bins: int) -> None:
        if not self.log:
            axis.set_major_locator(MaxNLocator(bins))
            formatter = ScalarFormatter(useOffset=False)
            formatter.set_scientific(False)
            axis.set_major_formatter(formatter)
            return
        wide = math.log10(self.high / self.low) > 3 or bins < 4
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0), numticks=bins + 1))
        axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def plain(value: float) -> str:
    """A number on an axis without mathematics: `0.3`, `20`, `10⁶`."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return power if mantissa == "1.0" else f"{mantissa.removesuffix('.0')}·{power}"


def valued(objective: Objective, value: float) -> str:
    """`value` with its unit, as `Objective.format` has it and the unit of a count added: `2.27 kFLOP`."""
    text = objective.format(value)
    if text == "-" or objective.unit in ("", "fraction", *_SHOWN):
        return text
    return f"{text}{'' if text[-1].isalpha() and objective.unit.isupper() else ' '}{objective.unit}"


def _unit(objective: Objective, typical: float, log: bool) -> tuple[float, str]:
    """What values are divided by, and the unit of the quotient, so that `typical` has few digits."""
    if objective.unit in _SHOWN:
        return next(((f, unit) for unit, f in _SHOWN[objective.unit] if typical >= f), (1.0, objective.unit))
    if objective.unit == "fraction" or typical == 0 or 1e-3 <= typical < (1e3 if objective.unit.isupper() else 1e4):
        return 1.0, objective.unit
    if log and not objective.unit.isupper():
        return 1.0, objective.unit
    exponent = 3 * math.floor(math.log10(typical) / 3)
    prefix = {3: "k", 6: "M", 9: "G"}.get(exponent)
    if prefix and objective.unit.isupper():
        return 10.0**exponent, f"{prefix}{objective.unit}"
    return 10.0**exponent, f"10{str(exponent).translate(_SUPERSCRIPT)} {objective.unit}".strip()
