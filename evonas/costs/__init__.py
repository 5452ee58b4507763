"""Exact costs of plans, vectorised over genomes: they follow from formats and channels alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from evonas.costs import arithmetic
from evonas.costs.energy import energy
from evonas.costs.latency import DEFAULT_DEVICE, Device, device_names, latency, layer_latency, load_device
from evonas.costs.memory import activation_memory
from evonas.objective import Objective
from evonas.plan import Plans
from evonas.space import FloatArray

__all__ = [
    "DEFAULT_DEVICE",
    "OBJECTIVES",
    "Device",
    "cost",
    "device_names",
    "latency",
    "layer_latency",
    "load_device",
    "objectives",
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


def objectives(device: Device) -> tuple[Objective, ...]:
    """All exact costs, latency being that of `device`."""
    latency_of = replace(OBJECTIVES[0], note=f"roofline model of {device.name}")
    return (latency_of, *OBJECTIVES[1:])


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


def cost(name: str, plans: Plans, device: Device) -> FloatArray:
    """The objective of that name for every genome, in its unit, shape (n,)."""
    if name == "latency":
        return latency(plans, device) * 1e6
    return _ARITHMETIC[name](plans)
