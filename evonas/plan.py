"""From genome to plan: the concrete formats and channel counts of every layer.

A `Network` says what the layers are and which channel counts follow which chain. A `PlanSpace` adds the
genes. `plans` decodes many genomes at once into arrays, from which costs are computed without building any
module; `plan` decodes one into something to run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from evonas.chains import Extent
from evonas.errors import InvalidArgument, unknown_name
from evonas.formats import Float32, Format
from evonas.network import SLOTS, TYPES, Held, Layer, Network
from evonas.placement import placed, require_fit
from evonas.space import Gene, IntArray, SearchSpace

__all__ = ["SLOTS", "Choice", "Held", "Layer", "LayerPlan", "Network", "Plan", "PlanSpace", "Plans"]

T = TypeVar("T")

_FLOAT = Float32()


@dataclass(frozen=True)
class LayerPlan:
    """What one quantizable layer becomes: the format of each of its tensors, float32 where it has no such tensor."""

    layer: Layer
    inputs: int
    outputs: int
    data_in: Format = _FLOAT
    weight: Format = _FLOAT
    bias: Format = _FLOAT
    data_in2: Format = _FLOAT
    data_out: Format = _FLOAT

    @property
    def formats(self) -> dict[str, Format]:
        """Slot to format, for the tensors that the layer has."""
        slots = [slot for slot in self.layer.slots if slot != "bias" or self.layer.bias]
        return {slot: getattr(self, slot) for slot in slots}

    @property
    def reads(self) -> tuple[Format, ...]:
        """The formats of the activations that the layer reads."""
        return tuple(getattr(self, slot) for slot in self.layer.slots if slot in ("data_in", "data_in2"))

    @property
    def short(self) -> str:
        """`fc1 w4 a8`: formats of weight and data, and of the output (`o8`) where it has one."""
        letters = {"weight": "w", "data_in": "a", "data_in2": "a", "data_out": "o"}
        found = [
            f"{letter}{_short(getattr(self, slot))}" for slot, letter in letters.items() if slot in self.layer.slots
        ]
        return " ".join([self.layer.name, *found])


@dataclass(frozen=True)
class Plan:
    """The phenotype of one genome: channels of every chain, formats of every quantizable layer."""

    layers: tuple[LayerPlan, ...]
    channels: tuple[tuple[str, int], ...]
    multipliers: tuple[tuple[str, str], ...] = ()

    @property
    def short(self) -> str:
        """One line for a table: `fc1 w4 a8 · fc2 w3 a4 | x0.5 x1`."""
        formats = " · ".join(layer.short for layer in self.layers)
        scales = " ".join(label for _, label in self.multipliers)
        return f"{formats} | {scales}" if scales else formats


@dataclass(frozen=True)
class Choice:
    """The format of one tensor in many genomes.

    Args:
        formats: those there are.
        picks: index of each genome's, shape (n,); None when all have the first.
    """

    formats: tuple[Format, ...]
    picks: IntArray | None = None

    def numbers(self, number: Callable[[Format], int], n: int) -> IntArray:
        """`number` of each genome's format, shape (n,)."""
        if self.picks is None:
            return np.full(n, number(self.formats[0]), dtype=np.int64)
        return np.array([number(fmt) for fmt in self.formats], dtype=np.int64)[self.picks]


@dataclass(frozen=True)
class Plans:
    """Many genomes decoded into arrays; rows are genomes, columns the network's quantizable or all layers.

    Args:
        network: whose layers the columns are.
        channels: chain name to counts, each shape (n,).
        formats: per slot, the choice of format in each quantizable layer.
        n: number of genomes.
    """

    network: Network
    channels: Mapping[str, IntArray]
    formats: Mapping[str, tuple[Choice, ...]]
    n: int

    @cached_property
    def widths(self) -> dict[str, IntArray]:
        """Per slot that there is, bits of an element in each quantizable layer, shape (n, n_quantizable).

        32 where a layer has no such slot.
        """
        return {slot: self.numbers(slot, lambda fmt: fmt.width) for slot in self.network.slots}

    @cached_property
    def _memo(self) -> dict[Hashable, Any]:
        return {}

    def once(self, key: Hashable, make: Callable[[Plans], T]) -> T:
        """`make(self)`, computed once: intermediate results that several costs share."""
        if key not in self._memo:
            self._memo[key] = make(self)
        found: T = self._memo[key]
        return found

    def numbers(self, slot: str, number: Callable[[Format], int]) -> IntArray:
        """`number` of the format of `slot` in each quantizable layer, shape (n, n_quantizable)."""
        return self.stacked([choice.numbers(number, self.n) for choice in self.formats[slot]])

    def stacked(self, columns: Sequence[IntArray | int]) -> IntArray:
        """Columns (n,), or one number for all, as an array (n, len(columns)); each in one piece, as they are made."""
        found = np.empty((len(columns), self.n), dtype=np.int64)
        for row, column in zip(found, columns, strict=True):
            row[:] = column
        found.flags.writeable = False  # several costs read the same one
        return found.T

    def count(self, extent: Extent) -> IntArray:
        """Channels of `extent` for every genome, shape (n,)."""
        return self.once(extent, lambda plans: plans._count(extent))

    def _count(self, extent: Extent) -> IntArray:
        return np.broadcast_to(np.asarray(extent.count(self.channels), dtype=np.int64), (self.n,))

    def outputs(self, layers: Sequence[Layer]) -> IntArray:
        """Channels out, shape (n, len(layers))."""
        return self._columns([layer.outputs for layer in layers])

    def inputs(self, layers: Sequence[Layer]) -> IntArray:
        """Channels in, shape (n, len(layers))."""
        return self._columns([layer.inputs for layer in layers])

    def weights(self, layers: Sequence[Layer]) -> IntArray:
        """Elements of each weight tensor, shape (n, len(layers)); a product of activations counts one as its weight."""
        fan_in = self._columns([layer.fan_in or layer.inputs for layer in layers])
        taps = np.array([layer.taps for layer in layers], dtype=np.int64)
        return self.outputs(layers) * fan_in * taps

    def repeats(self, layers: Sequence[Layer]) -> IntArray:
        """How often each layer runs over its positions, shape (n, len(layers))."""
        return self._columns([layer.repeats or Extent(1) for layer in layers])

    def stored(self, layers: Sequence[Layer]) -> IntArray:
        """Elements of each weight tensor that are stored, shape (n, len(layers)); 0 where another layer holds it."""
        holds = [layer.stores and not layer.tied for layer in layers]
        return self.weights(layers) * np.array(holds, dtype=np.int64)

    def _columns(self, extents: Sequence[Extent]) -> IntArray:
        return self.once(("columns", *extents), lambda plans: plans.stacked([plans.count(e) for e in extents]))


class PlanSpace:
    """Genes bound to the slots and chains of a network.

    A gene named after a chain holds multipliers; one named `<layer>.<slot>` holds formats. `targets` lets one
    gene drive several. What no gene drives keeps its default: the chain's own count, the format in
    `defaults`, or float32. Counts of chains are rounded to a multiple of `round_to`.

    Raises:
        UnknownName: a target that the network does not have, or targets of a gene that is not there.
        InvalidArgument: two genes drive the same target, or choices of the wrong kind.
    """

    def __init__(
        self,
        network: Network,
        genes: Sequence[Gene],
        *,
        targets: Mapping[str, Sequence[str]] | None = None,
        defaults: Mapping[str, Format] | None = None,
        round_to: int = 1,
    ) -> None:
        self.network = network
        self.round_to = round_to
        self.space = SearchSpace(genes)
        self._chains = {chain.name: chain for chain in network.chains}
        layers = [layer for layer in network.quantizable if layer.type in TYPES or layer.asked]
        # A weight that an earlier layer holds has that one's format.
        own = [(layer, slot) for layer in layers for slot in layer.slots if slot != "weight" or not layer.tied]
        self._slots = {f"{layer.name}.{slot}": (layer, slot) for layer, slot in own}
        self._holder = {f"{layer.name}.weight": f"{layer.tied}.weight" for layer in layers if layer.tied}
        self._defaults = dict(defaults or {})
        self._driver: dict[str, int] = {}
        for name in targets or {}:
            self.space.position(name)
        for position, gene in enumerate(self.space.genes):
            for target in (targets or {}).get(gene.name, (gene.name,)):
                self._bind(gene, position, target)
        for target in self._defaults:
            if target not in self._slots:
                raise unknown_name("slot", target, self._slots)
        self._formats = {target: self._placed(target) for target in self._slots}

    def over(self, network: Network) -> PlanSpace:
        """The same genes over a network of the same layers and chains, such as one with folded batch norms."""
        targets: dict[str, list[str]] = {gene.name: [] for gene in self.space.genes}
        for target, position in self._driver.items():
            targets[self.space.genes[position].name].append(target)
        return PlanSpace(network, self.space.genes, targets=targets, defaults=self._defaults, round_to=self.round_to)

    def _placed(self, target: str) -> tuple[Format, ...]:
        """The formats that `target` may have, as they lie in that tensor; an error where one does not fit."""
        layer, slot = self._slots[target]
        if target in self._driver:
            given: Sequence[Format] = self.space.genes[self._driver[target]].choices
        else:
            given = (self._defaults.get(target, Float32()),)
        if slot == "bias" and not layer.bias:
            return tuple(given)
        formats = tuple(placed(fmt, layer, slot) for fmt in given)
        for fmt in formats:
            require_fit(fmt, layer, slot, *self.extreme_channels)
        return formats

    @property
    def channel_genes(self) -> dict[Gene, tuple[str, ...]]:
        """The genes that hold multipliers, and the chains that each drives."""
        found: dict[Gene, tuple[str, ...]] = {}
        for target, position in self._driver.items():
            if target in self._chains:
                gene = self.space.genes[position]
                found[gene] = (*found.get(gene, ()), target)
        return found

    @cached_property
    def extreme_channels(self) -> tuple[dict[str, int], dict[str, int]]:
        """The lowest and the highest count of every chain."""
        counts = {name: self.counts(name) for name in self._chains}
        return {name: int(c.min()) for name, c in counts.items()}, {name: int(c.max()) for name, c in counts.items()}

    def counts(self, chain: str) -> IntArray:
        """Channel counts of one chain: one for each choice of its gene, or its own alone."""
        found = self._chains[chain]
        if chain not in self._driver:
            return np.array([found.channels], dtype=np.int64)
        choices = self.space.genes[self._driver[chain]].choices
        return np.array([found.scaled(float(choice), round_to=self.round_to) for choice in choices], dtype=np.int64)

    def _bind(self, gene: Gene, position: int, target: str) -> None:
        if target not in self._slots and target not in self._chains:
            raise unknown_name("target of a gene", target, [*self._slots, *self._chains])
        if target in self._driver:
            first = self.space.genes[self._driver[target]].name
            raise InvalidArgument(f"genes `{first}` and `{gene.name}` both drive `{target}`; one gene each")
        wanted = Format if target in self._slots else (int, float)
        for choice in gene.choices:
            if not isinstance(choice, wanted) or isinstance(choice, bool):
                kind = "formats" if target in self._slots else "multipliers"
                raise InvalidArgument(f"gene `{gene.name}` drives `{target}` and must hold {kind}, got {choice!r}")
        self._driver[target] = position

    def genes_of(self, layer: str) -> tuple[int, ...]:
        """Positions of the genes that drive a format of `layer`, ascending."""
        owners = {self._holder.get(f"{layer}.weight", f"{layer}.weight")}
        mine = (target for target in self._driver if target.rpartition(".")[0] == layer or target in owners)
        return tuple(sorted({self._driver[target] for target in mine}))

    def format_of(self, slot: str, genome: IntArray) -> Format:
        """The format of `<layer>.<slot>` under one genome (n_genes,)."""
        slot = self._holder.get(slot, slot)
        formats = self._formats.get(slot, (Float32(),))
        return formats[int(genome[self._driver[slot]])] if slot in self._driver else formats[0]

    def plan(self, genome: IntArray) -> Plan:
        """Decode one genome, shape (n_genes,)."""
        channels = {name: int(counts[0]) for name, counts in self.channels(genome[None]).items()}
        layers = tuple(self.layer_plan(layer, genome, channels) for layer in self.network.quantizable)
        genes = self.space.genes
        multipliers = tuple(
            (name, genes[position].labels[int(genome[position])])
            for name, position in self._driver.items()
            if name in self._chains
        )
        return Plan(layers, tuple(channels.items()), multipliers)

    def layer_plan(self, layer: Layer, genome: IntArray, channels: Mapping[str, int]) -> LayerPlan:
        """What `layer` is in the plan of a genome (n_genes,), whose chains have `channels`."""
        return LayerPlan(
            layer,
            int(layer.inputs.count(channels)),
            int(layer.outputs.count(channels)),
            **{slot: self.format_of(f"{layer.name}.{slot}", genome) for slot in layer.slots},
        )

    def channels(self, genomes: IntArray) -> dict[str, IntArray]:
        """Channel count of every chain, each shape (n,), for genomes (n, n_genes)."""
        found = {}
        for name in self._chains:
            counts = self.counts(name)
            found[name] = counts[
                genomes[:, self._driver[name]] if name in self._driver else np.zeros(len(genomes), int)
            ]
        return found

    def plans(self, genomes: IntArray) -> Plans:
        """Decode many genomes, shape (n, n_genes), into arrays."""
        genomes = np.asfortranarray(genomes)  # genes are read one by one
        formats = {
            slot: tuple(self._choice(f"{layer.name}.{slot}", genomes) for layer in self.network.quantizable)
            for slot in self.network.slots
        }
        return Plans(self.network, self.channels(genomes), formats, len(genomes))

    def _choice(self, slot: str, genomes: IntArray) -> Choice:
        slot = self._holder.get(slot, slot)
        formats = self._formats.get(slot, (Float32(),))
        return Choice(formats, genomes[:, self._driver[slot]]) if slot in self._driver else Choice(formats)


def _short(fmt: Format) -> str:
    """The spec without its family name when it is fixed point, and without calibrated scales."""
    return fmt.spec.partition("@")[0].removeprefix("fixed")
