"""Exact costs of plans, vectorised over genomes: they follow from formats and channels alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from evonas.costs import arithmetic
from evonas.costs.energy import energy
from evonas.costs.latency import DEFAULT_DEVICE, Device, device_names, latency, latency_rows, layer_latency, load_device
from evonas.costs.memory import activation_memory
from evonas.costs.sources import DEFAULT_LATENCY, LatencySource, Measured, load_latency, spec_of_device
from evonas.costs.table import Table, load_table
from evonas.errors import InvalidArgument
from evonas.objective import Objective
from evonas.plan import Plans
from evonas.space import FloatArray

__all__ = [
    "DEFAULT_DEVICE",
    "DEFAULT_LATENCY",
    "OBJECTIVES",
    "Device",
    "LatencySource",
    "Measured",
    "Table",
    "cost",
    "device_names",
    "latency",
    "latency_rows",
    "layer_latency",
    "load_device",
    "load_latency",
    "load_table",
    "objectives",
    "spec_of_device",
]

OBJECTIVES: tuple[Objective, ...] = (
    Objective("latency", "µs", exact=True, note="roofline model of the device"),
    Objective("size", "bit", exact=True, note="weights, biases and scales at their widths"),
    Objective("flops", "FLOP", exact=True, note="multiply and add counted apart, batch norm 2 and ReLU 1 an element"),
    Objective("parameters", "parameter", exact=True, note="weights, biases and batch norms"),
    Objective("macs", "MAC", exact=True, note="multiply-accumulates, bias free"),
    Objective("bops", "BOP", exact=True, note="MACs x data width x weight width"),
    Objective("average_bitwidth", "bits per weight", exact=True, note="over weights, biases not counted"),
    Objective("average_bitwidth_all", "bits", exact=True, note="over weights, biases and activations, scales included"),
    Objective("memory_density", "", maximise=True, exact=True, note="32 / average_bitwidth"),
    Objective("activation_memory", "bit", exact=True, note="largest input and output held at once, at their widths"),
    Objective("energy", "nJ", exact=True, note="arithmetic and on-chip traffic in 45 nm (Horowitz, ISSCC 2014)"),
)


def objectives(source: LatencySource) -> tuple[Objective, ...]:
    """All costs, latency being that of `source`: exact but for a measured latency, which brings its quartiles."""
    if isinstance(source, Measured):
        latency_of = Objective("latency", "µs", note=f"median, {source.note}")
        quartiles = [Objective(f"latency_q{k}", "µs", note=f"quartile {k} of the same measurement") for k in (1, 3)]
        if source.runtime == "onnxruntime":
            quartiles.append(Objective("latency_bits", "bit", note="of the arithmetic that was timed: 8 or 32"))
        return (latency_of, *quartiles, *OBJECTIVES[1:])
    note = f"roofline model of {source.name}" if isinstance(source, Device) else source.note
    return (replace(OBJECTIVES[0], note=note), *OBJECTIVES[1:])


_ARITHMETIC: dict[str, Callable[[Plans], FloatArray]] = {
    "size": arithmetic.size,
    "flops": arithmetic.flops,
    "parameters": arithmetic.parameters,
    "macs": arithmetic.macs,
    "bops": arithmetic.bops,
    "average_bitwidth": arithmetic.average_bitwidth,
    "average_bitwidth_all": arithmetic.average_bitwidth_all,
    "memory_density": arithmetic.memory_density,
    "activation_memory": activation_memory,
    "energy": energy,
}


def cost(name: str, plans: Plans, source: LatencySource) -> FloatArray:
    """The exact objective of that name for every genome, in its unit, shape (n,).

    Raises:
        InvalidArgument: a latency that must be measured, or one that the source does not cover.
    """
    if name != "latency":
        return _ARITHMETIC[name](plans)
    if isinstance(source, Measured):
        raise InvalidArgument("latency is measured, so that no plan has it; evaluate the genome instead")
    return 1e6 * (latency(plans, source) if isinstance(source, Device) else source.seconds(plans))
