"""What a network is made of, as genes and costs see it: layers, the tensors of each that may have a format, and the
activations between them.

| type | what | tensors with a format |
|---|---|---|
| `linear`, `conv` | modules with a weight | `data_in`, `weight`, `bias` |
| `matmul` | a product of two activations | `data_in`, `data_in2`, its operands |
| `add` | a sum of two activations of one shape | `data_in`, both of its operands |
| `embedding` | a look-up in a table | `weight` |
| `functional` | `x @ weight`, or a linear layer or convolution whose weight is an argument | `data_in`, `weight` |

Layers of the first kind always have formats, those of the others only when they are asked for, and so has `data_out`,
what a layer returns. Hardware can add two numbers only when their binary points agree, so that the operands of a sum
share one format. A concatenation has none: it moves data, which takes the format of the layer that reads it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

from evonas.chains import Chain, Extent
from evonas.errors import InvalidArgument

__all__ = ["DATA", "OPTIONAL", "SLOTS", "TYPES", "Held", "Layer", "Network", "Operation", "Reader"]

SLOTS = ("data_in", "data_in2", "weight", "bias", "data_out")  # the tensors of a layer that may have a format
DATA = ("data_in", "data_in2", "data_out")  # those that are activations
TYPES = ("linear", "conv")  # layers that always have formats
OPTIONAL = ("matmul", "add", "embedding", "functional")  # layers that have formats when they are asked for
_SLOTS = {
    **dict.fromkeys(TYPES, ("data_in", "weight", "bias")),
    "matmul": ("data_in", "data_in2"),
    "add": ("data_in",),
    "embedding": ("weight",),
}


@dataclass(frozen=True)
class Layer:
    """One layer as the costs see it, for one sample.

    Args:
        name: path of the module in the network, or that of a function's module and its own; unique.
        kind: `linear` or `conv`; `matmul`, `add` or `embedding`; `batchnorm`; `relu`; `folded`, a batch
            norm that is part of another layer; or `parameter`, a tensor of `outputs * fan_in * taps` elements that no
            other layer counts.
        inputs: channels in.
        outputs: channels out.
        fan_in: channels that each output reads; `inputs`, unless the layer is grouped. Of a product of activations
            what it sums over, of a sum its channels, of an embedding its vocabulary.
        taps: kernel positions (9 for 3 x 3).
        positions: output positions per channel (1 for a linear layer on vectors).
        input_positions: input positions per channel.
        uses: how often each weight is multiplied; `positions`, unless the convolution is transposed.
        repeats: times that positions and uses count when they follow chains (a layer along tokens runs once a channel).
        bias: whether there is one; of a batch norm, whether it has a scale and a shift.
        tied: name of the earlier layer whose weight this one shares, so that it is stored only once; empty when it
            has its own.
        module: False when a function takes the weight as its argument: such a layer has formats when asked for.
        transposed: True where the weight has its inputs along the first axis: transposed convolutions, `x @ weight`.
        second: channels of the second operand of a product of activations.
        second_positions: its positions per channel.
        axes: of both operands, the axis that `fan_in` lies along, counted from the end or the front; None where there
            is not one.
        norm: the batch norm that can be folded into this layer; empty when there is none.
        folded: whether it is.
        places: of a layer that is no module, which of the sites of its graph it is; empty where it can have no formats.
        why: it can have no formats, in words; empty when it can, or when there is nothing to say.
        asked: whether a layer that is not of `TYPES` has formats.
        rounds: whether its output has a format.
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
    tied: str = ""
    module: bool = True
    transposed: bool = False
    second: Extent | None = None
    second_positions: int = 1
    axes: tuple[int | None, int | None] = (None, None)
    norm: str = ""
    folded: bool = False
    places: tuple[int, ...] = ()
    why: str = ""
    asked: bool = False
    rounds: bool = False

    @property
    def type(self) -> str:
        """The kind, or `functional` where a function takes the weight as its argument."""
        return self.kind if self.module or self.kind not in TYPES else "functional"

    @property
    def optional(self) -> bool:
        """True for layers that can have formats, but only when they are asked for."""
        return self.type in OPTIONAL and (bool(self.places) or (self.kind == "embedding" and self.module))

    @property
    def slots(self) -> tuple[str, ...]:
        """The tensors that have a format."""
        own = _SLOTS.get(self.kind, ()) if self.type in TYPES or self.type == "functional" or self.asked else ()
        return (*own, "data_out") if self.rounds else own

    @property
    def quantizable(self) -> bool:
        """True for layers of which a tensor has a format."""
        return bool(self.slots)

    @property
    def stores(self) -> bool:
        """True for layers that have a weight."""
        return self.kind in (*TYPES, "embedding")

    @property
    def multiplies(self) -> bool:
        """True for layers that multiply what they read, with a weight or with each other."""
        return self.kind in (*TYPES, "matmul")

    def has(self, slot: str) -> bool:
        """Whether there is a tensor in `slot`, with a format, which no other layer holds."""
        return slot in self.slots and not (slot == "bias" and not self.bias) and not (slot == "weight" and self.tied)


@dataclass(frozen=True)
class Reader:
    """Who reads an activation.

    Args:
        step: position of the operation in `Network.operations`.
        layer: the layer that it runs; empty when it runs none.
        slot: the layer's tensor that the activation is.
    """

    step: int
    layer: str = ""
    slot: str = ""


@dataclass(frozen=True)
class Operation:
    """One step of a forward pass, and the activation that it makes.

    Args:
        name: unique in the network.
        channels: how many the activation has, for one sample.
        positions: elements of each.
        readers: the steps that read it.
        layer: the layer that runs here; empty when none does.
        held: whether the activation takes memory: sizes and parameters do not.
        source: the step whose numbers this one passes on, so that they keep their format; -1 when it makes new ones.
    """

    name: str
    channels: Extent
    positions: int
    readers: tuple[Reader, ...] = ()
    layer: str = ""
    held: bool = True
    source: int = -1


@dataclass(frozen=True)
class Held:
    """An activation of one sample while it is held in memory.

    Args:
        name: unique in the network.
        channels: how many it has.
        positions: elements of each.
        readers: columns of `Network.quantizable` and slots, those of the layers that it flows into.
        writer: column of the layer whose output format it has; -1 when none says so, and its readers decide.
    """

    name: str
    channels: Extent
    positions: int
    readers: tuple[tuple[int, str], ...] = ()
    writer: int = -1


@dataclass(frozen=True)
class Network:
    """Layers in the order in which they run, and the chains that their channel counts follow.

    Args:
        layers: as they run.
        chains: the channel counts that can change.
        operations: the steps of a forward pass; empty for a plain sequence of layers.
    """

    layers: tuple[Layer, ...]
    chains: tuple[Chain, ...] = ()
    operations: tuple[Operation, ...] = ()

    @cached_property
    def quantizable(self) -> tuple[Layer, ...]:
        """The layers that have formats."""
        return tuple(layer for layer in self.layers if layer.quantizable)

    @cached_property
    def able(self) -> tuple[Layer, ...]:
        """Those whose formats can be chosen: a function with a weight counts at 32 bits where that is not so."""
        return tuple(layer for layer in self.quantizable if layer.type in TYPES or layer.asked)

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """The tensors that have a format in any layer."""
        found = {slot for layer in self.quantizable for slot in layer.slots} | set(_SLOTS["linear"])
        return tuple(slot for slot in SLOTS if slot in found)

    @cached_property
    def unasked(self) -> dict[str, list[str]]:
        """Type -> the layers of it that could have formats, and were not asked for."""
        waiting = [layer for layer in self.layers if layer.optional and not layer.asked]
        return {
            kind: [one.name for one in waiting if one.type == kind]
            for kind in OPTIONAL
            if kind in {layer.type for layer in waiting}
        }

    @cached_property
    def barred(self) -> dict[str, str]:
        """Layer that could have formats by its type, and stays in float32 -> why."""
        return {layer.name: layer.why for layer in self.layers if layer.why}

    @cached_property
    def folds(self) -> dict[str, str]:
        """Layer -> the batch norm that is folded into it."""
        return {layer.name: layer.norm for layer in self.layers if layer.norm and layer.folded}

    def folded(self) -> Network:
        """The same with batch norms folded into the layers before them, which get a bias for it.

        Raises:
            InvalidArgument: no batch norm can be folded.
        """
        if not any(layer.norm for layer in self.layers):
            raise InvalidArgument(
                "no batch norm can be folded: none follows a convolution, or a linear layer on vectors, as the only "
                "reader of its output; leave `fold` out"
            )
        steps = {step.layer: at for at, step in enumerate(self.operations)}
        home = {layer.norm: layer.name for layer in self.layers if layer.norm}
        layers = tuple(
            replace(layer, folded=True, bias=True)
            if layer.norm
            else replace(layer, kind="folded")
            if layer.name in home
            else layer
            for layer in self.layers
        )
        operations = tuple(  # the layer's output is then that of the batch norm
            replace(step, source=steps[home[step.layer]]) if step.layer in home else step for step in self.operations
        )
        return replace(self, layers=layers, operations=operations)

    def asking(self, types: Collection[str] = (), outputs: Collection[str] = ()) -> Network:
        """The same with formats for all layers of the optional `types`, and for what the layers `outputs` return.

        Layers that can have no formats are left as they are.
        """
        layers = [replace(one, asked=one.asked or (one.optional and one.type in types)) for one in self.layers]
        rounding = {one.name for one in layers if one.name in outputs and (one.asked or one.type in TYPES)}
        return replace(self, layers=tuple(replace(one, rounds=one.rounds or one.name in rounding) for one in layers))

    @cached_property
    def shared(self) -> dict[str, str]:
        """Tensor (`conv2.data_in`) -> the first one that is the same activation, for those of layers with formats.

        Views, ReLU and max pooling pass numbers on as they are, so that a tensor stays the same through them, and the
        operands of a sum are the same, since they have one format. A chain of residual blocks is so one activation.
        """
        own = {layer.name: layer for layer in self.quantizable}
        roots: list[int] = []
        found: dict[str, int] = {}  # tensor -> step
        joined: dict[int, int] = {}

        def root(step: int) -> int:
            while joined.get(step, step) != step:
                step = joined[step]
            return step

        for at, step in enumerate(self.operations):
            roots.append(roots[step.source] if step.source >= 0 else at)
            if step.layer in own and own[step.layer].rounds:
                found[f"{step.layer}.data_out"] = roots[at]
            for reader in step.readers:
                if reader.layer in own and reader.slot in own[reader.layer].slots:
                    target = f"{reader.layer}.{reader.slot}"
                    joined[root(roots[at])] = root(found.setdefault(target, roots[at]))
        first: dict[int, str] = {}
        order = [f"{layer.name}.{slot}" for layer in self.quantizable for slot in layer.slots]
        return {target: first.setdefault(root(found[target]), target) for target in order if target in found}

    @cached_property
    def alive(self) -> tuple[tuple[Held, ...], ...]:
        """The activations held while each layer with formats runs, one tuple a call; sums work in place."""
        columns = {layer.name: column for column, layer in enumerate(self.quantizable)}
        last = [max((reader.step for reader in step.readers), default=-1) for step in self.operations]
        held = self._held(columns)
        return tuple(
            tuple(held[at] for at in held if at <= now <= last[at])
            for now, step in enumerate(self.operations)
            if step.layer in columns and self.quantizable[columns[step.layer]].kind != "add"
        )

    def _held(self, columns: dict[str, int]) -> dict[int, Held]:
        """Step -> the activation that it makes, with the formats that it is held in."""
        readers: list[set[tuple[int, str]]] = [set() for _ in self.operations]
        writers: list[int] = []
        for at in reversed(range(len(self.operations))):  # what it flows into, through all that has no format
            for reader in self.operations[at].readers:
                column = columns.get(reader.layer, -1)
                formatted = column >= 0 and reader.slot in self.quantizable[column].slots
                readers[at] |= {(column, reader.slot)} if formatted else readers[reader.step]
        for step in self.operations:
            column = columns.get(step.layer, -1)
            rounded = column >= 0 and self.quantizable[column].rounds
            writers.append(column if rounded else writers[step.source] if step.source >= 0 else -1)
        return {
            at: Held(step.name, step.channels, step.positions, tuple(sorted(readers[at])), writers[at])
            for at, step in enumerate(self.operations)
            if step.held
        }
