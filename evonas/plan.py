"""From genome to plan: the concrete formats and channel counts of every layer.

A `Network` says what the layers are and which channel counts follow which chain. A `PlanSpace` adds the
genes. `plans` decodes many genomes at once into arrays, from which costs are computed without building any
module; `plan` decodes one into something to run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evonas.chains import Chain, Extent
from evonas.errors import InvalidArgument, unknown_name
from evonas.formats import Float32, Format
from evonas.space import Gene, IntArray, SearchSpace

__all__ = ["SLOTS", "Layer", "LayerPlan", "Network", "Plan", "PlanSpace", "Plans"]

SLOTS = ("data_in", "weight", "bias")  # the tensors of a layer that have a format


@dataclass(frozen=True)
class Layer:
    """One layer as the costs see it, for one sample.

    Args:
        name: path of the module in the network; unique.
        kind: `linear` or `conv`; `matmul`, a product of two activations; `batchnorm`; `relu`; or `parameter`, a
            tensor of `outputs * fan_in * taps` elements that no other layer counts.
        inputs: channels in.
        outputs: channels out.
        fan_in: channels that each output reads; `inputs`, unless the layer is grouped.
        taps: kernel positions (9 for 3 x 3).
        positions: output positions per channel (1 for a linear layer on vectors).
        input_positions: input positions per channel.
        uses: how often each weight is multiplied; `positions`, unless the convolution is transposed.
        repeats: times that positions and uses count when they follow chains (a layer along tokens runs once a channel).
        bias: whether there is one; of a batch norm, whether it has a scale and a shift.
        tied: True when the weight is that of an earlier layer, so that it is stored only once.
        module: False when a function takes the weight as its argument: such a layer stays in float32.
    """

    name: str
    kind: str
    inputs: Extent
    outputs: Extent
    fan_in: Extent | None = None
    taps: int = 1
    positions: int = 1
    input_positions: int = 1
    uses: int | None = None
    repeats: Extent | None = None
    bias: bool = True
    tied: bool = False
    module: bool = True

    @property
    def quantizable(self) -> bool:
        """True for layers with weights and a matrix product, which have a format for data, weight and bias."""
        return self.kind in ("linear", "conv")


@dataclass(frozen=True)
class Network:
    """Layers in the order in which they run, and the chains that their channel counts follow."""

    layers: tuple[Layer, ...]
    chains: tuple[Chain, ...] = ()

    @cached_property
    def quantizable(self) -> tuple[Layer, ...]:
        """The layers that have formats."""
        return tuple(layer for layer in self.layers if layer.quantizable)


@dataclass(frozen=True)
class LayerPlan:
    """What one quantizable layer becomes."""

    layer: Layer
    inputs: int
    outputs: int
    data_in: Format
    weight: Format
    bias: Format

    @property
    def formats(self) -> dict[str, Format]:
        """Slot to format, for the tensors that the layer has."""
        found = {"data_in": self.data_in, "weight": self.weight}
        return found | {"bias": self.bias} if self.layer.bias else found

    @property
    def short(self) -> str:
        """`fc1 w4 a8`: weight and data format without their family name when it is fixed point."""
        return f"{self.layer.name} w{_short(self.weight)} a{_short(self.data_in)}"


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
class Plans:
    """Many genomes decoded into arrays; rows are genomes, columns the network's quantizable or all layers.

    Args:
        network: whose layers the columns are.
        channels: chain name to counts, each shape (n,).
        widths: per slot, bits of an element in each quantizable layer, shape (n, n_quantizable).
        n: number of genomes.
    """

    network: Network
    channels: Mapping[str, IntArray]
    widths: Mapping[str, IntArray]
    n: int

    def count(self, extent: Extent) -> IntArray:
        """Channels of `extent` for every genome, shape (n,)."""
        return np.broadcast_to(np.asarray(extent.count(self.channels), dtype=np.int64), (self.n,))

    def outputs(self, layers: Sequence[Layer]) -> IntArray:
        """Channels out, shape (n, len(layers))."""
        return self._columns([layer.outputs for layer in layers])

    def inputs(self, layers: Sequence[Layer]) -> IntArray:
        """Channels in, shape (n, len(layers))."""
        return self._columns([layer.inputs for layer in layers])

    def weights(self, layers: Sequence[Layer]) -> IntArray:
        """Elements of each weight tensor, shape (n, len(layers))."""
        fan_in = self._columns([layer.fan_in or layer.inputs for layer in layers])
        taps = np.array([layer.taps for layer in layers], dtype=np.int64)
        return self.outputs(layers) * fan_in * taps

    def repeats(self, layers: Sequence[Layer]) -> IntArray:
        """How often each layer runs over its positions, shape (n, len(layers))."""
        return self._columns([layer.repeats or Extent(1) for layer in layers])

    def stored(self, layers: Sequence[Layer]) -> IntArray:
        """Elements of each weight tensor that are stored, 0 where an earlier layer holds it, shape (n, len(layers))."""
        return self.weights(layers) * np.array([not layer.tied for layer in layers], dtype=np.int64)

    def _columns(self, extents: Sequence[Extent]) -> IntArray:
        if not extents:
            return np.zeros((self.n, 0), dtype=np.int64)
        return np.stack([self.count(extent) for extent in extents], axis=1)


class PlanSpace:
    """Genes bound to the slots and chains of a network.

    A gene named after a chain holds multipliers; one named `<layer>.<slot>` holds formats. `targets` lets one
    gene drive several. What no gene drives keeps its default: the chain's own count, the format in
    `defaults`, or float32. Counts of chains are rounded to a multiple of `round_to`.

    Raises:
        UnknownName: a target that the network does not have.
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
        self._slots = {f"{layer.name}.{slot}": None for layer in network.quantizable if layer.module for slot in SLOTS}
        self._defaults = dict(defaults or {})
        self._driver: dict[str, int] = {}
        for position, gene in enumerate(self.space.genes):
            for target in (targets or {}).get(gene.name, (gene.name,)):
                self._bind(gene, position, target)
        for target in self._defaults:
            if target not in self._slots:
                raise unknown_name("slot", target, self._slots)

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

    def format_of(self, slot: str, genome: IntArray) -> Format:
        """The format of `<layer>.<slot>` under one genome (n_genes,)."""
        if slot in self._driver:
            position = self._driver[slot]
            chosen: Format = self.space.genes[position].choices[int(genome[position])]
            return chosen
        return self._defaults.get(slot, Float32())

    def plan(self, genome: IntArray) -> Plan:
        """Decode one genome, shape (n_genes,)."""
        channels = {name: int(counts[0]) for name, counts in self.channels(genome[None]).items()}
        layers = tuple(
            LayerPlan(
                layer,
                int(layer.inputs.count(channels)),
                int(layer.outputs.count(channels)),
                *(self.format_of(f"{layer.name}.{slot}", genome) for slot in SLOTS),
            )
            for layer in self.network.quantizable
        )
        genes = self.space.genes
        multipliers = tuple(
            (name, genes[position].labels[int(genome[position])])
            for name, position in self._driver.items()
            if name in self._chains
        )
        return Plan(layers, tuple(channels.items()), multipliers)

    def channels(self, genomes: IntArray) -> dict[str, IntArray]:
        """Channel count of every chain, each shape (n,), for genomes (n, n_genes)."""
        found = {}
        for name, chain in self._chains.items():
            if name in self._driver:
                position = self._driver[name]
                counts = [chain.scaled(float(choice), round_to=self.round_to) for choice in self.space.genes[position].choices]
                found[name] = np.array(counts, dtype=np.int64)[genomes[:, position]]
            else:
                found[name] = np.full(len(genomes), chain.channels, dtype=np.int64)
        return found

    def plans(self, genomes: IntArray) -> Plans:
        """Decode many genomes, shape (n, n_genes), into arrays."""
        layers = self.network.quantizable
        widths = {
            slot: np.stack([self._width(f"{layer.name}.{slot}", genomes) for layer in layers], axis=1)
            if layers
            else np.zeros((len(genomes), 0), dtype=np.int64)
            for slot in SLOTS
        }
        return Plans(self.network, self.channels(genomes), widths, len(genomes))

    def _width(self, slot: str, genomes: IntArray) -> IntArray:
        if slot not in self._driver:
            return np.full(len(genomes), self._defaults.get(slot, Float32()).width, dtype=np.int64)
        position = self._driver[slot]
        table = np.array([choice.width for choice in self.space.genes[position].choices], dtype=np.int64)
        return table[genomes[:, position]]


def _short(fmt: Format) -> str:
    return fmt.spec.removeprefix("fixed")
