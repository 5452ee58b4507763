"""What an analysis returns: chains, what is frozen and why, and every layer's channels as affine forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from evonas.errors import unknown_name
from evonas.graph.structure import Structure

__all__ = ["Chain", "Chains", "Extent", "Frozen", "Layer", "Member"]


@dataclass(frozen=True)
class Extent:
    """A channel count as an affine form: `(constant + sum(factor * channels[chain])) / divisor`.

    The division is always exact for legal channel counts.
    """

    constant: int
    terms: tuple[tuple[str, int], ...] = ()
    divisor: int = 1

    def at(self, channels: Mapping[str, Any]) -> Any:
        """The count for `channels` of each chain: ints, or int arrays of one shape (many genomes at once)."""
        total: Any = self.constant
        for chain, factor in self.terms:
            total = total + factor * channels[chain]
        return total // self.divisor


@dataclass(frozen=True)
class Member:
    """A layer in a chain, by the side on which the chain's channels lie: `in`, `out` or `both`."""

    layer: str
    side: str


@dataclass(frozen=True)
class Chain:
    """Channels of several layers that can only change together: one gene.

    Attributes:
        name: `chain0`, `chain1`, ... in the order in which the model makes them.
        members: the layers and which side of each.
        channels: how many channels the original has; the number that `resize` takes.
        step: legal counts are its multiples (the channels of a head or of a group).
        minimum: the least legal count.
        granularity: what one step is: `channels`, `heads`, `groups` or `group width`.
        growth: `any` count above the original is exact, only `integer` multiples are, or `none`.
        growth_note: why growth is limited; empty when it is not.
        followers: the layers that read the chain's channels.
    """

    name: str
    members: tuple[Member, ...]
    channels: int
    step: int
    minimum: int
    granularity: str
    growth: str
    growth_note: str
    followers: tuple[str, ...]

    @property
    def units(self) -> int:
        """How many steps the original has (its heads, groups, or channels)."""
        return self.channels // self.step

    def __str__(self) -> str:
        sides = ", ".join(f"{m.layer} ({m.side})" for m in self.members)
        grain = "" if self.step == 1 else f" in {self.granularity} of {self.step}"
        return f"{self.name}: {self.channels} channels{grain}: {sides}"


@dataclass(frozen=True)
class Frozen:
    """A side of a layer that keeps its channels, or a whole layer (`both`, 0 channels), and why."""

    layer: str
    side: str
    channels: int
    reason: str

    def __str__(self) -> str:
        size = f" ({self.side}, {self.channels} channels)" if self.channels else ""
        return f"{self.layer}{size}: {self.reason}"


@dataclass(frozen=True)
class Layer:
    """The channels of one parametric layer in terms of the chains, for cost formulas.

    Attributes:
        name: its path in the model; a bare parameter goes by its own name.
        kind: the class of the module, or the name of the function.
        inputs: channels that it reads (features of a Linear).
        outputs: channels that it makes.
        group_inputs: channels that one group reads: `inputs / groups`. A weight has
            `group_inputs * outputs * kernel` elements.
        calls: for each call on the example inputs, how many positions of `outputs` channels it makes, the
            batch included.
    """

    name: str
    kind: str
    inputs: Extent
    outputs: Extent
    group_inputs: Extent
    calls: tuple[int, ...]


@dataclass(frozen=True)
class Chains(Mapping[str, Chain]):
    """Every chain of a model by name, and everything that is frozen.

    Attributes:
        frozen: sides of layers that cannot change, with reasons.
        layers: the channels of every parametric layer as affine forms over the chains.
        structure: for `resize` and `prove`; not meant to be read by anyone else.
    """

    chains: Mapping[str, Chain]
    frozen: tuple[Frozen, ...]
    layers: tuple[Layer, ...]
    structure: Structure = field(repr=False, compare=False)

    def __getitem__(self, name: str) -> Chain:
        if name not in self.chains:
            raise unknown_name("chain", name, self.chains)
        return self.chains[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.chains)

    def __len__(self) -> int:
        return len(self.chains)

    def __contains__(self, name: object) -> bool:
        return name in self.chains

    @property
    def channels(self) -> dict[str, int]:
        """The original channel count of every chain."""
        return {name: chain.channels for name, chain in self.chains.items()}

    def __str__(self) -> str:
        lines = [str(chain) for chain in self.chains.values()]
        return "\n".join(lines + [f"frozen: {f}" for f in self.frozen])
