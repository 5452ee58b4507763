"""Describe a finished analysis in the user's terms: chains, frozen sides, affine extents."""

from __future__ import annotations

from fractions import Fraction
from math import gcd, lcm

from torch import Tensor, fx

from evonas.graph.chains import Chain, Chains, Extent, Frozen, Layer, Member
from evonas.graph.flow import Flow, layer_of
from evonas.graph.shuffles import Shuffle
from evonas.graph.structure import Structure, UseRecord, densify

__all__ = ["assemble"]


def assemble(flow: Flow, shuffles: dict[fx.Node, Shuffle]) -> Chains:
    """The chains of a finished flow; call it again after freezing more units."""
    structure = densify(flow, shuffles)
    count = int(structure.chain_of.max()) + 1 if structure.units else 0
    chains = [_chain(structure, number) for number in range(count)]
    layers = _layers(structure, chains)
    return Chains({c.name: c for c in chains}, _frozen(structure), layers, structure)


def _chain(structure: Structure, number: int) -> Chain:
    mine = structure.chain_of == number
    units = int(mine.sum())
    width, ratio = _width(structure, mine), _ratio(structure, mine)
    step = width * ratio
    sides = _sides(structure, mine)
    growth, note = _growth(structure, mine)
    first = int(structure.sample[mine.nonzero()[0, 0]])
    notes = structure.flow.units.notes(first)
    grain = next((word for word in ("heads", "groups", "group width") if word in notes and width > 1), "channels")
    return Chain(
        name=f"chain{number}",
        members=tuple(Member(layer, side) for layer, side in sides.items()),
        channels=units * width,
        step=step,
        minimum=step * _least(structure, mine, ratio),
        granularity=grain,
        growth=growth,
        growth_note=note,
        followers=tuple(layer for layer, side in sides.items() if side in ("in", "both")),
    )


def _per_unit(vector: Tensor, mine: Tensor) -> int:
    """How many positions of `vector` each unit of the chain fills; 0 when it is not there."""
    held = vector[vector >= 0]
    held = held[mine[held]]
    return len(held) // max(1, len(held.unique()))


def _ratio(structure: Structure, mine: Tensor) -> int:
    """How many units at least a step has, so that the parts of the chain keep their proportion."""
    sizes = structure.part_of[mine].unique(return_counts=True)[1].tolist()
    return int(sum(sizes) // gcd(*sizes))


def _least(structure: Structure, mine: Tensor, ratio: int) -> int:
    """The fewest steps that leave a unit in every block."""
    steps = int(mine.sum()) // ratio
    least = 1
    for part in structure.part_of[mine].unique():
        here = structure.part_of == part
        share = int((here & mine).sum()) // steps
        blocks = len(structure.block_of[here & mine].unique())
        least = max(least, -(-blocks // share))
    return least


def _width(structure: Structure, mine: Tensor) -> int:
    """How many channels a unit is, where it is smallest."""
    vectors = [v for use in structure.uses for v in (use.inputs, use.outputs)]
    counts = [c for v in vectors if (c := _per_unit(v, mine))]
    counts = counts or [c for v in structure.slots.values() if (c := _per_unit(v, mine))]
    return min(counts, default=1)


def _sides(structure: Structure, mine: Tensor) -> dict[str, str]:
    sides: dict[str, str] = {}
    mixing = {use.layer for use in structure.uses}
    for use in structure.uses:
        for side, vector in (("in", use.inputs), ("out", use.outputs)):
            if _per_unit(vector, mine):
                sides[use.layer] = side if sides.get(use.layer, side) == side else "both"
    for (name, _), vector in structure.slots.items():
        layer = layer_of(name)
        if layer not in mixing and _per_unit(vector, mine):
            sides[layer] = "both"
    return sides


def _growth(structure: Structure, mine: Tensor) -> tuple[str, str]:
    for place, vector in structure.never:
        if _per_unit(vector, mine):
            return "none", place
    for place, vector in structure.uniform:
        if _per_unit(vector, mine):
            if bool((vector < 0).any()):
                return "none", f"{place} also covers channels that are frozen"
            return "integer", place
    return "any", ""


def _extent(structure: Structure, chains: list[Chain], vector: Tensor) -> Extent:
    held = vector[vector >= 0]
    numbers, counts = structure.chain_of[held].unique(return_counts=True)
    terms = {
        chains[number].name: Fraction(count, chains[number].channels)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    }
    divisor = lcm(1, *(f.denominator for f in terms.values()))
    constant = len(vector) - len(held)
    return Extent(constant * divisor, tuple((name, int(f * divisor)) for name, f in terms.items()), divisor)


def _layers(structure: Structure, chains: list[Chain]) -> tuple[Layer, ...]:
    by_layer: dict[str, list[UseRecord]] = {}
    for use in structure.uses:
        by_layer.setdefault(use.layer, []).append(use)
    layers = []
    for name, uses in by_layer.items():
        use = uses[0]
        layers.append(
            Layer(
                name,
                use.kind,
                _extent(structure, chains, use.inputs),
                _extent(structure, chains, use.outputs),
                _extent(structure, chains, use.group_inputs),
                tuple(u.positions for u in uses),
            )
        )
    return (*layers, *_norms(structure, chains, set(by_layer)))


def _norms(structure: Structure, chains: list[Chain], known: set[str]) -> list[Layer]:
    """Layers that keep their channels: norms, slopes, parameters that meet activations."""
    layers: dict[str, Layer] = {}
    for (name, _), vector in structure.slots.items():
        layer = layer_of(name)
        if layer in known or layer in layers or (layer != name and not name.endswith("weight")):
            continue
        extent = _extent(structure, chains, vector)
        kind = "Parameter" if layer == name else type(structure.model.get_submodule(layer)).__name__
        calls = tuple(
            structure.traced.values[n].numel() // max(1, len(vector))
            for n in structure.traced.graph.nodes
            if n.op == "call_module" and n.target == layer
        )
        layers[layer] = Layer(layer, kind, extent, extent, Extent(1), calls)
    return list(layers.values())


def _frozen(structure: Structure) -> tuple[Frozen, ...]:
    found: dict[tuple[str, str], Frozen] = {}
    units = structure.flow.units
    for flow_use, use in zip(structure.flow.uses, structure.uses, strict=True):
        for side, dense, raw in (("in", use.inputs, flow_use.inputs), ("out", use.outputs, flow_use.outputs)):
            if len(dense) and bool((dense < 0).all()):
                reason = units.reason(int(raw[0])) or "it is fixed"
                found.setdefault((use.layer, side), Frozen(use.layer, side, len(dense), reason))
    for node in structure.traced.graph.nodes:
        if node.op == "call_module" and node in structure.flow.refused:
            found[str(node.target), "both"] = Frozen(str(node.target), "both", 0, structure.flow.refused[node])
    return tuple(found.values())


