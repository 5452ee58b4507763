"""What an analysis returns: chains, what is frozen and why, and every layer's channels as affine forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from evonas.chains import Chain, Extent, Member
from evonas.errors import unknown_name
from evonas.graph.structure import Structure

__all__ = ["Chain", "Chains", "Extent", "Frozen", "Layer", "Member"]


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
