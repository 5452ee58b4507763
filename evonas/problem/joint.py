"""The joint space of a network: formats of its layers and multipliers of its chains."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evonas.chains import Chain, Extent
from evonas.errors import InvalidArgument, unknown_name
from evonas.formats import Fixed, Format, parse
from evonas.network import OPTIONAL, SLOTS, TYPES, Layer, Network
from evonas.plan import PlanSpace
from evonas.problem.genes import tensors_of
from evonas.space import Gene

__all__ = ["JointSpace", "agreed", "joint_space", "parse_pairs", "plan_space"]

Pair = tuple[float, float]
UNIFORM = "multiplier"  # the one gene of all chains


@dataclass(frozen=True)
class JointSpace:
    """What is searched of a network.

    Args:
        widths: formats of every layer's inputs and weights, the cheapest first: widths in bits (fixed point), specs
            such as `mxint8`, or formats. Empty leaves the layers in float32.
        multipliers: of every chain, ascending. Empty keeps the channels.
        round_to: channel counts are multiples of it, as hardware likes them.
        uniform: one multiplier for all chains instead of one for each.
        layers: names or patterns (`conv*`) of the layers that get formats; all when None.
        chains: names or patterns of the chains that get a multiplier; all when None.
        pairs: multipliers by hand, for every layer with weights the one of its inputs and the one of its outputs; the
            chains are then fixed.
        biases: format of the biases of layers with formats.
        types: kinds of layers that get formats: `linear` and `conv`, and if asked for `matmul` (products of two
            activations), `add` (sums of two), `embedding`, `functional` (a function with a weight).
        tensors: of each layer that get a gene: `data_in`, `weight`, `bias`, `data_out`.
    """

    widths: Sequence[int | str | Format] = (2, 3, 4, 5, 6, 7, 8, 16)
    multipliers: Sequence[float] = (0.25, 0.5, 1.0)
    round_to: int = 1
    uniform: bool = False
    layers: Sequence[str] | None = None
    chains: Sequence[str] | None = None
    pairs: Sequence[Pair] | None = None
    biases: int | str | Format = 16
    types: Sequence[str] = TYPES
    tensors: Sequence[str] = ("data_in", "weight")


def joint_space(space: JointSpace | Mapping[str, Any] | None) -> JointSpace:
    """A joint space from a mapping of some of its fields.

    Raises:
        UnknownName: no such field.
    """
    if isinstance(space, JointSpace):
        return space
    try:
        return JointSpace(**(space or {}))
    except TypeError:
        unknown = next(key for key in space or {} if key not in JointSpace.__dataclass_fields__)
        raise unknown_name("option of `space`", str(unknown), JointSpace.__dataclass_fields__) from None


def plan_space(network: Network, space: JointSpace) -> PlanSpace:
    """The genes of `space` over `network`: two formats a layer, then a multiplier a chain (or one for all).

    Raises:
        UnknownName: a pattern that fits no layer or chain, or a type or tensor that does not exist.
        InvalidArgument: a multiplier or width that cannot be, multipliers by hand that do not agree, or nothing that
            could be searched.
    """
    multipliers, targets = _multiplier_genes(network, space)
    network, layers = _asked(network, space)
    formats = tuple(_format(width) for width in space.widths)
    genes = [
        Gene(f"{layer.name}.{slot}", formats, group=layer.name)
        for layer in (layers if formats else [])
        for slot in tensors_of(layer, space.tensors)
    ]
    if not genes and not multipliers:
        raise InvalidArgument("nothing to search: layers have no `widths` and chains no `multipliers`; give one")
    driven = {gene.name for gene in genes}
    biases = [f"{layer.name}.bias" for layer in (layers if formats else []) if "bias" in layer.slots]
    defaults = {name: _format(space.biases) for name in biases if name not in driven}
    return PlanSpace(network, [*genes, *multipliers], targets=targets, defaults=defaults, round_to=space.round_to)


def _asked(network: Network, space: JointSpace) -> tuple[Network, list[Layer]]:
    """The network with the slots that `space` asks for, and the layers whose tensors get genes."""
    for kind, given, valid in (("type", space.types, (*TYPES, *OPTIONAL)), ("tensor", space.tensors, SLOTS)):
        for word in [given] if isinstance(given, str) else given:
            if word not in valid:
                raise unknown_name(kind, str(word), valid)
    network = network.asking(space.types)
    chosen = _chosen("layer", space.layers, [layer.name for layer in network.able])
    # A layer whose weight another one holds has no genes of its own.
    layers = [layer for layer in network.able if layer.name in chosen and layer.type in space.types and not layer.tied]
    if "data_out" in space.tensors:
        network = network.asking(outputs=[layer.name for layer in layers])
        named = {layer.name for layer in layers}
        layers = [layer for layer in network.quantizable if layer.name in named]
    return network, layers


def _multiplier_genes(network: Network, space: JointSpace) -> tuple[list[Gene], dict[str, list[str]]]:
    if isinstance(space.round_to, bool) or not isinstance(space.round_to, int) or space.round_to < 1:
        raise InvalidArgument(f"`round_to` must be a whole number of at least 1, got {space.round_to!r}")
    if space.pairs is not None:
        by_hand = agreed(network, space.pairs)
        return [Gene(name, (value,), (f"x{value:g}",)) for name, value in by_hand.items()], {}
    multipliers = tuple(_multiplier(value) for value in space.multipliers)
    names = _chosen("chain", space.chains, [chain.name for chain in network.chains])
    if not multipliers or multipliers == (1.0,) or not names:
        return [], {}
    labels = tuple(f"x{value:g}" for value in multipliers)
    if space.uniform:
        return [Gene(UNIFORM, multipliers, labels)], {UNIFORM: names}
    chains = [chain for chain in network.chains if chain.name in names]
    return [gene for chain in chains if len((gene := _distinct(chain, multipliers, space.round_to)).choices) > 1], {}


def _distinct(chain: Chain, multipliers: Sequence[float], round_to: int) -> Gene:
    """The gene of one chain, without multipliers that round to a count that another, nearer one has."""
    nearest: dict[int, float] = {}
    for value in multipliers:
        count = chain.scaled(value, round_to=round_to)
        exact = count / chain.channels
        if count not in nearest or abs(value - exact) < abs(nearest[count] - exact):
            nearest[count] = value
    kept = sorted(nearest.values())
    return Gene(chain.name, tuple(kept), tuple(f"x{value:g}" for value in kept))


def agreed(network: Network, pairs: Sequence[Pair]) -> dict[str, float]:
    """Chain name -> multiplier, from the multipliers of the inputs and outputs of every layer, in order.

    Raises:
        InvalidArgument: not a pair for each layer, a multiplier that cannot be, one of a side that no chain moves, or
            two layers that disagree about the channels they share: the message names both, and both numbers.
    """
    layers = [layer for layer in network.layers if layer.kind in TYPES]
    if len(pairs) != len(layers):
        names = ", ".join(layer.name for layer in layers)
        raise InvalidArgument(f"`pairs` has {len(pairs)} entries for {len(layers)} layers ({names}); give one each")
    found: dict[str, tuple[float, str]] = {}
    for layer, pair in zip(layers, pairs, strict=True):
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise InvalidArgument(f"multipliers of `{layer.name}` must be a pair (inputs, outputs), got {pair!r}")
        for side, extent, value in zip(("inputs", "outputs"), (layer.inputs, layer.outputs), pair, strict=True):
            _agree(found, layer, side, extent, _multiplier(value))
    return {chain.name: found[chain.name][0] for chain in network.chains if chain.name in found}


def _agree(found: dict[str, tuple[float, str]], layer: Layer, side: str, extent: Extent, value: float) -> None:
    here = f"`{layer.name}` multiplies its {side} by {value:g}"
    if not extent.terms and value != 1:
        raise InvalidArgument(f"{here}, but no chain moves them; give 1")
    for name, _ in extent.terms:
        before, place = found.setdefault(name, (value, here))
        if before != value:
            raise InvalidArgument(f"{place} and {here}, but they are the same channels ({name}); give both one number")


def parse_pairs(text: str) -> list[Pair]:
    """Pairs as a person writes them: `[(1, 2), (2, 1)]`. Bare numbers in between must be 1, and are left out.

    Raises:
        InvalidArgument: it does not parse, or a bare number is not 1.
    """
    import ast

    try:
        entries = ast.literal_eval(text)
        if not isinstance(entries, list | tuple):
            raise ValueError
    except (ValueError, SyntaxError):
        raise InvalidArgument(f"`{text}` does not parse; expected pairs such as [(1, 2), (2, 1)]") from None
    for entry in entries:
        if isinstance(entry, int | float) and entry != 1:
            raise InvalidArgument(f"`{text}`: a layer without weights keeps its channels, got {entry}; give 1")
    return [entry for entry in entries if not isinstance(entry, int | float)]


def _multiplier(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise InvalidArgument(f"a multiplier must be positive and finite, got {value!r}")
    return float(value)


def _format(given: int | str | Format) -> Format:
    if isinstance(given, Format):
        return given
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise InvalidArgument(f"a width must be a number of bits, a format, or its spec, got {given!r}")
    return Fixed(given) if isinstance(given, int) else parse(given)


def _chosen(kind: str, patterns: Iterable[str] | None, names: Sequence[str]) -> list[str]:
    if patterns is None:
        return list(names)
    kept: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        fitting = fnmatch.filter(names, pattern)
        if not fitting:
            raise unknown_name(kind, pattern, names)
        kept.update(fitting)
    return [name for name in names if name in kept]
