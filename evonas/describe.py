"""Describe a module as the costs see it, with channel counts that follow its chains.

The description is made once, from the traced graph; costs of any channel counts then need no module.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from evonas.chains import Chain, Extent
from evonas.graph import Chains
from evonas.graph.assemble import extent_of
from evonas.graph.structure import UseRecord
from evonas.graph.units import first_along, varying
from evonas.plan import Held, Layer, Network

__all__ = ["describe"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_RELU_MODULES = (nn.ReLU, nn.ReLU6)
_F = nn.functional
_RELU_FUNCTIONS = (torch.relu, torch.relu_, _F.relu, _F.relu_, _F.relu6, "relu", "relu_")
_MATMULS = (torch.matmul, torch.bmm, operator.matmul, "matmul", "bmm", "__matmul__")


def describe(chains: Chains, *, names: Mapping[str, str] | None = None) -> Network:
    """The layers of the model that `chains` was found on, in the order in which they run, for one sample.

    Parameters and MACs of the description are those of the model at any legal channel counts: linear layers and
    convolutions of any kind, batch norms, ReLU, attention and other products of two activations; every other
    parameter (layer norms, embeddings) is counted as what it holds. The first dim of the first example input is
    taken to be the batch.

    Args:
        chains: of `find_chains`.
        names: new names for chains, such as `{"chain0": "hidden"}`.
    """
    new = dict(names or {})
    found = tuple(replace(chain, name=new.get(chain.name, chain.name)) for chain in chains.values())
    describer = _Describer(chains, found)
    layers = describer.layers()
    return Network(layers, found, describer.alive([layer.name for layer in layers if layer.quantizable]))


class _Describer:
    """Walks the graph once and collects layers."""

    def __init__(self, chains: Chains, named: tuple[Chain, ...]) -> None:
        self.structure = chains.structure
        self.model = self.structure.model
        self.named = named
        first = self.structure.traced.inputs[0]
        self.batch = first.shape[0] if isinstance(first, Tensor) and first.ndim else 1
        self.canonical = self.structure.traced.names
        self.counted: set[str] = set()  # parameters that a layer has counted already
        self.found: dict[str, Layer] = {}

    def layers(self) -> tuple[Layer, ...]:
        uses = {use.node: use for use in self.structure.uses}
        for node in self.structure.traced.graph.nodes:
            if node in uses:
                self._product(node, uses[node])
            elif node.op == "call_module" and isinstance(self.model.get_submodule(node.target), _NORMS):
                self._norm(node)
            elif self._is_relu(node):
                outputs, positions = self._elements(node)
                self.found[f"relu:{node.name}"] = Layer(
                    node.name, "relu", outputs, outputs, positions=positions, input_positions=positions
                )
            else:
                self._activations(node)
        for name, parameter in self.model.named_parameters():
            if name not in self.counted:
                self._parameter(name, parameter)
        return tuple(self.found.values())

    def alive(self, quantizable: list[str]) -> tuple[tuple[Held, ...], ...]:
        """The activations that are held while each call of a quantizable layer runs."""
        steps = {use.node: use.layer for use in self.structure.uses if use.layer in quantizable}
        nodes = list(self.structure.traced.graph.nodes)
        when = {node: place for place, node in enumerate(nodes)}
        readers: dict[fx.Node, frozenset[int]] = {}
        for node in reversed(nodes):  # what a tensor flows into, through everything that is no quantizable layer
            found = [{quantizable.index(steps[u])} if u in steps else readers[u] for u in node.users]
            readers[node] = frozenset().union(*found)
        tensors = [node for node in nodes if isinstance(self.structure.ids.get(node), Tensor) and node.op != "get_attr"]
        held = {node: Held(node.name, *self._elements(node), tuple(sorted(readers[node]))) for node in tensors}
        return tuple(
            tuple(
                held[node]
                for node in tensors
                if when[node] <= when[step] <= max((when[user] for user in node.users), default=-1)
            )
            for step in steps
        )

    def _product(self, node: fx.Node, use: UseRecord) -> None:
        """A call of a layer with a weight; further calls of the same layer add positions."""
        if use.kind.lower().startswith("embedding"):
            return  # a look-up multiplies nothing; its table is counted as a parameter
        source = self._value(node.args[0] if node.args else node.kwargs["input"])
        ids = self.structure.ids[node]
        channel = ids.ndim - 1 if len(self.structure.shapes[use.weight]) == 2 else 1
        along = [d for d in varying(ids) if d != channel % ids.ndim]  # channels that a layer along tokens visits
        repeats = self._extent(first_along(ids, along).reshape(-1)) if along else None
        visited = int(torch.Size([ids.shape[d] for d in along]).numel())
        positions = self._share(use.positions // visited)
        read = self._share(source.numel() // max(1, len(use.inputs)) // visited)
        shape = self.structure.shapes[use.weight]
        module = self.model.get_submodule(str(node.target)) if node.op == "call_module" else None
        transposed = isinstance(module, nn.modules.conv._ConvTransposeNd) or "transpose" in str(node.target)
        times = read if transposed else positions
        known = self.found.get(use.layer)
        if known is not None and known.quantizable:
            assert known.uses is not None
            self.found[use.layer] = replace(
                known,
                positions=known.positions + positions,
                input_positions=known.input_positions + read,
                uses=known.uses + times,
            )
            return
        tied = not self._count(use.weight)
        bias = f"{use.layer}.bias"
        self.found[use.layer] = Layer(
            use.layer,
            "linear" if len(shape) == 2 else "conv",
            self._extent(use.inputs),
            self._extent(use.outputs),
            fan_in=self._extent(use.group_inputs),
            taps=int(torch.Size(shape[2:]).numel()),
            positions=positions,
            input_positions=read,
            uses=times,
            repeats=repeats,
            bias=module is not None and bias in self.canonical and self._count(bias),
            tied=tied,
            module=module is not None,
            transposed=transposed,
        )

    def _norm(self, node: fx.Node) -> None:
        name, ids = str(node.target), self.structure.ids[node]
        outputs = self._extent(first_along(ids, [1]).reshape(-1))
        positions = self._share(ids.numel() // ids.shape[1])
        weight = f"{name}.weight"
        affine = weight in self.canonical and self._count(weight)
        if affine:
            self._count(f"{name}.bias")
        key = name if name not in self.found else f"{name}:{node.name}"
        self.found[key] = Layer(
            key, "batchnorm", outputs, outputs, positions=positions, input_positions=positions, bias=affine
        )

    def _activations(self, node: fx.Node) -> None:
        """Products of two activations: `a @ b`, `einsum`, and both of scaled dot-product attention."""
        if node.target is _F.scaled_dot_product_attention:
            query, key, value = node.args[:3]
            self._matmul(f"{node.name}.scores", query, Extent(int(self._value(key).shape[-2])))
            steps = Extent(int(self._value(value).shape[-2]))
            self._matmul(f"{node.name}.mix", node, steps)
        elif node.target in _MATMULS:
            self._matmul(node.name, node.args[0], self._columns(node.args[1], [-1]))
        elif node.target is torch.einsum and len(node.args) == 3 and "." not in str(node.args[0]):
            left, right = str(node.args[0]).replace(" ", "").split("->")[0].split(",")
            free = [i for i, letter in enumerate(right) if letter not in left]
            self._matmul(node.name, node.args[1], self._columns(node.args[2], free))

    def _columns(self, node: Any, dims: list[int]) -> Extent:
        """How many positions the dims of an activation span together."""
        ids = self.structure.ids.get(node)
        if not isinstance(ids, Tensor):
            return Extent(0)
        moving = [d for d in (dim % ids.ndim for dim in dims) if d in varying(ids)]
        fixed = int(torch.Size([ids.shape[d] for d in dims if d % ids.ndim not in moving]).numel())
        extent = self._extent(first_along(ids, moving).reshape(-1)) if moving else Extent(1)
        return Extent(extent.constant * fixed, tuple((n, f * fixed) for n, f in extent.terms), extent.divisor)

    def _matmul(self, name: str, left: Any, columns: Extent) -> None:
        """A product that multiplies every element of the activation `left` with `columns` others."""
        if isinstance(self.structure.ids.get(left), Tensor):
            elements, positions = self._elements(left)
            self.found[f"matmul:{name}"] = Layer(name, "matmul", columns, elements, fan_in=columns, positions=positions)

    def _parameter(self, name: str, parameter: Tensor) -> None:
        """A tensor outside the layers above: of its dims, at most two follow chains."""
        dims = [dim for (owner, dim) in self.structure.slots if owner == name]
        moving = [d for d in dims if bool((self.structure.slots[name, d] >= 0).any())][:2]
        extents = [self._extent(self.structure.slots[name, d]) for d in moving] + [Extent(1), Extent(1)]
        taps = int(torch.Size([size for d, size in enumerate(parameter.shape) if d not in moving]).numel())
        self.found[f"parameter:{name}"] = Layer(name, "parameter", extents[1], extents[0], fan_in=extents[1], taps=taps)

    def _count(self, name: str) -> bool:
        """Mark a parameter as counted; False when it, or one tied to it, was already."""
        canonical = self.canonical.get(name, name)
        fresh = canonical not in self.counted
        self.counted.add(canonical)
        return fresh

    def _value(self, node: Any) -> Tensor:
        value: Tensor = self.structure.traced.values[node]
        return value

    def _share(self, total: int) -> int:
        """`total` positions of a batch, for one sample."""
        return -(-total // self.batch)

    def _extent(self, vector: Tensor) -> Extent:
        return extent_of(self.structure, self.named, vector)

    def _elements(self, node: fx.Node) -> tuple[Extent, int]:
        """The elements of an activation for one sample: an extent, and how many positions of it there are."""
        ids = self.structure.ids[node]
        vector = first_along(ids, varying(ids)).reshape(-1)
        return self._extent(vector), self._share(ids.numel() // max(1, len(vector)))

    def _is_relu(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.model.get_submodule(str(node.target)), _RELU_MODULES)
        return node.op in ("call_function", "call_method") and node.target in _RELU_FUNCTIONS
