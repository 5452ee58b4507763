"""Describe a finished analysis in the user's terms: chains, frozen sides, affine extents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

from torch import Tensor, fx

from evonas.graph.chains import Chain, Chains, Extent, Frozen, Layer, Member
from evonas.graph.flow import Flow, layer_of
from evonas.graph.shuffles import Shuffle
from evonas.graph.structure import Structure, UseRecord, densify
from evonas.graph.units import distinct, tally

__all__ = ["assemble", "extent_of"]


Census = dict[int, int]  # chain number -> positions that each of its units fills in one vector


@dataclass(frozen=True)
class _Counted:
    """A structure with a census of each of its vectors."""

    structure: Structure
    uses: list[tuple[str, Census, Census]]
    slots: list[tuple[str, Census]]
    never: list[tuple[str, Census]]
    uniform: list[tuple[str, Census, bool]]

    @classmethod
    def of(cls, structure: Structure) -> _Counted:
        """Count every vector of `structure` once."""

        def count(vector: Tensor) -> Census:
            units, positions = tally(vector[vector >= 0])
            return dict(zip(structure.chain_of[units].tolist(), positions, strict=True))

        return cls(
            structure,
            [(use.layer, count(use.inputs), count(use.outputs)) for use in structure.uses],
            [(layer_of(name), count(vector)) for (name, _), vector in structure.slots.items()],
            [(place, count(vector)) for place, vector in structure.never],
            [(place, count(vector), bool((vector < 0).any())) for place, vector in structure.uniform],
        )


def assemble(flow: Flow, shuffles: dict[fx.Node, Shuffle]) -> Chains:
    """The chains of a finished flow; call it again after freezing more units."""
    structure = densify(flow, shuffles)
    count = int(structure.chain_of.max()) + 1 if structure.units else 0
    counted = _Counted.of(structure)
    chains = [_chain(counted, number) for number in range(count)]
    layers = _layers(structure, chains)
    return Chains({c.name: c for c in chains}, _frozen(structure), layers, structure)


def _chain(counted: _Counted, number: int) -> Chain:
    structure = counted.structure
    mine = structure.chain_of == number
    width, ratio = _width(counted, number), _ratio(structure, mine)
    sides = _sides(counted, number)
    growth, note = _growth(counted, number)
    first = int(structure.sample[mine.nonzero()[0, 0]])
    notes = structure.flow.units.notes(first)
    grain = next((word for word in ("heads", "groups", "group width") if word in notes and width > 1), "channels")
    return Chain(
        name=f"chain{number}",
        members=tuple(Member(layer, side) for layer, side in sides.items()),
        channels=int(mine.sum()) * width,
        step=width * ratio,
        minimum=width * ratio * _least(structure, mine, ratio),
        granularity=grain,
        growth=growth,
        growth_note=note,
        followers=tuple(layer for layer, side in sides.items() if side in ("in", "both")),
    )


def _ratio(structure: Structure, mine: Tensor) -> int:
    """How many units at least a step has, so that the parts of the chain keep their proportion."""
    sizes = tally(structure.part_of[mine])[1]
    return sum(sizes) // gcd(*sizes)


def _least(structure: Structure, mine: Tensor, ratio: int) -> int:
    """The fewest steps that leave a unit in every block."""
    steps = int(mine.sum()) // ratio
    least = 1
    for part in distinct(structure.part_of[mine]):
        here = structure.part_of == part
        share = int((here & mine).sum()) // steps
        blocks = len(distinct(structure.block_of[here & mine]))
        least = max(least, -(-blocks // share))
    return least


def _width(counted: _Counted, number: int) -> int:
    """How many channels a unit is, where it is smallest."""
    sides = [census for _, inputs, outputs in counted.uses for census in (inputs, outputs)]
    counts = [census[number] for census in sides if number in census]
    counts = counts or [census[number] for _, census in counted.slots if number in census]
    return min(counts, default=1)


def _sides(counted: _Counted, number: int) -> dict[str, str]:
    sides: dict[str, str] = {}
    mixing = {layer for layer, _, _ in counted.uses}
    for layer, inputs, outputs in counted.uses:
        for side, census in (("in", inputs), ("out", outputs)):
            if number in census:
                sides[layer] = side if sides.get(layer, side) == side else "both"
    for layer, census in counted.slots:
        if layer not in mixing and number in census:
            sides[layer] = "both"
    return sides


def _growth(counted: _Counted, number: int) -> tuple[str, str]:
    for place, census in counted.never:
        if number in census:
            return "none", place
    found = ("any", "")
    for place, census, frozen in counted.uniform:
        if number in census and frozen:
            return "none", f"{place} also covers channels that are frozen"
        if number in census:
            found = ("integer", place)
    return found


def extent_of(structure: Structure, chains: Sequence[Chain], vector: Tensor) -> Extent:
    """How long `vector` (unit numbers, -1 for what is fixed) is at any channel counts."""
    held = vector[vector >= 0]
    numbers, counts = tally(structure.chain_of[held])
    terms = {
        chains[number].name: Fraction(count, chains[number].channels)
        for number, count in zip(numbers, counts, strict=True)
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
                extent_of(structure, chains, use.inputs),
                extent_of(structure, chains, use.outputs),
                extent_of(structure, chains, use.group_inputs),
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
        extent = extent_of(structure, chains, vector)
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
