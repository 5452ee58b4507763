"""Chains, channels that can only change together, and extents, the counts that follow them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from evonas.errors import InvalidArgument

__all__ = ["Chain", "Extent", "Member", "round_channels"]


class Member(NamedTuple):
    """A layer in a chain, by the side on which the chain's channels lie: `in`, `out` or `both`."""

    layer: str
    side: str


@dataclass(frozen=True)
class Chain:
    """Channels of several layers that can only change together: one gene.

    Args:
        name: unique in the network, such as `chain0`; also the name of its gene.
        channels: how many channels the original has.
        members: the layers and which side of each.
        step: legal counts are its multiples (the channels of a head or of a group).
        minimum: the least legal count.
        granularity: what one step is: `channels`, `heads`, `groups` or `group width`.
        growth: `any` count above the original is exact, only `integer` multiples are, or `none`.
        growth_note: why growth is limited; empty when it is not.
        followers: the layers that read the chain's channels.
    """

    name: str
    channels: int
    members: tuple[Member, ...] = ()
    step: int = 1
    minimum: int = 1
    granularity: str = "channels"
    growth: str = "any"
    growth_note: str = ""
    followers: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        """How many steps the original has (its heads, groups, or channels)."""
        return self.channels // self.step

    def __str__(self) -> str:
        sides = ", ".join(f"{m.layer} ({m.side})" for m in self.members)
        grain = "" if self.step == 1 else f" in {self.granularity} of {self.step}"
        return f"{self.name}: {self.channels} channels{grain}: {sides}"

    def scaled(self, multiplier: float, *, round_to: int = 1) -> int:
        """The legal channel count nearest to `multiplier` times the original's, halves up.

        Multiplier 1 is always the original count, whatever `round_to`. Below 1 the count never exceeds the
        original; above 1 it keeps to what can be grown exactly: integer multiples under a layer norm, the
        original count where nothing can grow.

        Raises:
            InvalidArgument: `multiplier` is not a positive finite number, or `round_to` is below 1.
        """
        if not (math.isfinite(multiplier) and multiplier > 0):
            raise InvalidArgument(f"multiplier of `{self.name}` must be positive and finite, got {multiplier}")
        if multiplier == 1:
            return self.channels
        if multiplier > 1 and self.growth != "any":
            return self.channels * max(1, math.floor(multiplier + 0.5)) if self.growth == "integer" else self.channels
        wanted = self.channels * multiplier
        rounded = round_channels(wanted, step=self.step, round_to=round_to, minimum=self.minimum)
        return min(rounded, self.channels) if multiplier < 1 else max(rounded, self.channels)


@dataclass(frozen=True)
class Extent:
    """A channel count as an affine form: `(constant + sum(factor * channels of the chain)) / divisor`.

    A flatten after a convolution multiplies (factor 49 for 7 x 7), a concatenation adds terms, a split divides.
    The division is exact for legal channel counts.
    """

    constant: int = 0
    terms: tuple[tuple[str, int], ...] = ()
    divisor: int = 1

    @classmethod
    def of(cls, channels: int | Chain) -> Extent:
        """A fixed count, or the count of one chain."""
        return cls(channels) if isinstance(channels, int) else cls(0, ((channels.name, 1),))

    def count(self, channels: Mapping[str, Any]) -> Any:
        """The count, given each chain's: ints, or int arrays of one shape (many genomes at once)."""
        total: Any = self.constant
        for name, factor in self.terms:
            total = total + (channels[name] if factor == 1 else factor * channels[name])
        return total if self.divisor == 1 else total // self.divisor  # of arrays, a division takes longest by far


def round_channels(value: float, *, step: int = 1, round_to: int = 1, minimum: int = 1) -> int:
    """`value` to the nearest common multiple of `step` and `round_to`, never below `minimum` or one multiple.

    Raises:
        InvalidArgument: a number is not positive.
    """
    for name, number in (("step", step), ("round_to", round_to), ("minimum", minimum)):
        if number < 1:
            raise InvalidArgument(f"`{name}` must be at least 1, got {number}")
    if not (math.isfinite(value) and value > 0):
        raise InvalidArgument(f"`value` must be a positive number of channels, got {value}")
    quantum = math.lcm(step, round_to)
    least = -(-minimum // quantum)
    return max(1, least, math.floor(value / quantum + 0.5)) * quantum
