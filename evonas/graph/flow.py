"""What the rules share: the units, the ids of parameters, and how to speak of the node at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from evonas.graph.lines import where
from evonas.graph.trace import Traced
from evonas.graph.units import Units, varying

__all__ = ["Flow", "ParamRef", "Uniform", "Use", "layer_of"]

_LEAVES = frozenset(("weight", "bias", "running_mean", "running_var"))


def layer_of(parameter: str) -> str:
    """The layer that a parameter belongs to: the module of a `weight` or `bias`, else the parameter."""
    owner, _, leaf = parameter.rpartition(".")
    return owner if owner and leaf in _LEAVES else parameter


class ParamRef(NamedTuple):
    """A parameter or buffer on its way into a rule: its canonical name, its shape as used, and whether its
    two dims were swapped on the way (`weight.t()`)."""

    name: str
    shape: tuple[int, ...]
    swapped: bool = False


@dataclass(frozen=True)
class Use:
    """One call of a layer that mixes channels: `inputs` and `outputs` are ids of shape (channels,)."""

    layer: str
    kind: str
    weight: str
    inputs: Tensor
    outputs: Tensor
    group_inputs: Tensor  # ids of the channels that one group reads; `inputs` itself without groups
    node: fx.Node


@dataclass(frozen=True)
class Uniform:
    """Units that a normalisation averages over: growing is exact only when all grow by one factor."""

    place: str
    ids: Tensor


@dataclass
class Flow:
    """One analysis in progress.

    Ids of a parameter live under (name, dim) when a layer uses it as a weight, and element by element
    when it is added to or multiplied with activations. `strict` is False until nothing more unites: only
    then does a rule that cannot follow varying channels freeze them.
    """

    model: nn.Module
    traced: Traced
    units: Units = field(default_factory=Units)
    slots: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    elements: dict[str, Tensor] = field(default_factory=dict)
    roles: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    pads: dict[tuple[fx.Node, int, str], Tensor] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    ids: dict[fx.Node, Any] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    uniform: list[Uniform] = field(default_factory=list)
    never: list[Uniform] = field(default_factory=list)
    refused: dict[fx.Node, str] = field(default_factory=dict)
    strict: bool = False
    node: fx.Node | None = None

    @property
    def here(self) -> str:
        """The node at hand in the user's words."""
        assert self.node is not None
        return where(self.node)

    def slot(self, name: str, dim: int, size: int, role: str) -> Tensor:
        """The ids, shape (size,), of dim `dim` of parameter `name`, which plays `role` (in, out, keep)."""
        key = (name, dim)
        if key not in self.slots:
            self.slots[key] = self.units.new(size)
            if size == 1 and role == "out":
                self.units.freeze(self.slots[key], "it has a single channel")
        if name in self.elements:
            self.units.freeze(self.elements[name], f"`{name}` is used both as a weight and in arithmetic")
            self.units.freeze(self.slots[key], f"`{name}` is used both as a weight and in arithmetic")
        self.roles.setdefault(key, set()).add(role)
        return self.slots[key]

    def free(self, reference: ParamRef) -> Tensor:
        """One id for each element of a parameter that meets activations directly."""
        name = reference.name
        if name not in self.elements:
            self.elements[name] = self.units.new(*(reference.shape[::-1] if reference.swapped else reference.shape))
        for (owner, _), ids in self.slots.items():
            if owner == name:
                self.units.freeze(ids, f"`{name}` is used both as a weight and in arithmetic")
                self.units.freeze(self.elements[name], f"`{name}` is used both as a weight and in arithmetic")
        ids = self.elements[name]
        return self.units.look(ids.t() if reference.swapped else ids)

    def shape(self) -> torch.Size:
        """The shape of the tensor that the node at hand returns."""
        assert self.node is not None
        result: torch.Size = self.traced.values[self.node].shape
        return result

    def constant(self, reason: str) -> Any:
        """Fixed ids in the shape of whatever the node at hand returns."""
        assert self.node is not None
        number = self.units.fixed(reason)
        value = self.traced.values[self.node]
        return tree_map(lambda v: number.expand(v.shape) if isinstance(v, Tensor) else v, value)

    def refuse(self, ids: Tensor, reason: str) -> None:
        """Freeze `ids` where they vary, once nothing else can still tie them."""
        looked = self.units.look(ids)
        if self.strict and varying(looked):
            self.units.freeze(looked, reason)

    def finish(self, arguments: Any) -> None:
        """Freeze what the model returns."""
        for item in _tensors(arguments):
            self.units.freeze(item if isinstance(item, Tensor) else self.free(item), "it is an output of the model")

    def opaque(self, arguments: Any, reason: str) -> Any:
        """Freeze all ids in `arguments`; the result is fixed too."""
        for item in _tensors(arguments):
            self.units.freeze(item if isinstance(item, Tensor) else self.free(item), reason)
        return self.constant(reason)


def _tensors(arguments: Any) -> list[Any]:
    found: list[Any] = []
    if isinstance(arguments, (Tensor, ParamRef)):
        found.append(arguments)
    elif isinstance(arguments, (tuple, list)):
        for item in arguments:
            found += _tensors(item)
    elif isinstance(arguments, dict):
        for item in arguments.values():
            found += _tensors(item)
    return found
