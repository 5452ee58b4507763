"""The layers of a traced model, with channel counts that follow its chains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from evonas.chains import Chain, Extent
from evonas.graph import Chains
from evonas.graph.assemble import extent_of
from evonas.graph.attention import ATTENTION
from evonas.graph.fold import foldable
from evonas.graph.lines import where
from evonas.graph.movement import MOVEMENT
from evonas.graph.propagate import op_name
from evonas.graph.sites import Site, argument, inputs_first, sites
from evonas.graph.structure import UseRecord
from evonas.graph.units import first_along, varying
from evonas.network import TYPES, Layer

__all__ = ["Describer"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_RELU_MODULES = (nn.ReLU, nn.ReLU6)
_F = nn.functional
_PRODUCTS = ("matmul", "bmm", "mm", "mv", "einsum", "addmm", "baddbmm", "addbmm", "addmv", "tensordot", "bilinear")
_RELU_FUNCTIONS = (torch.relu, torch.relu_, _F.relu, _F.relu_, _F.relu6, "relu", "relu_")


class Describer:
    """Walks the graph once and collects layers.

    Attributes:
        structure: of the chains.
        model: that is described.
        sites: the products and sums of two activations at each node.
        named: the names of the layers that run at each node; empty for a site that is none.
    """

    def __init__(self, chains: Chains, renamed: tuple[Chain, ...]) -> None:
        self.structure = chains.structure
        self.model = self.structure.model
        self._chains = renamed
        traced = self.structure.traced
        first = traced.inputs[0]
        self.batch = first.shape[0] if isinstance(first, Tensor) and first.ndim else 1
        self.canonical = traced.names
        self.counted: dict[str, str] = {}  # parameter -> the layer that has counted it
        self.found: dict[str, Layer] = {}
        self.named: dict[fx.Node, tuple[str, ...]] = {}
        self.sites: dict[fx.Node, list[Site]] = {}
        self._places: dict[Site, int] = {}
        self._functional: dict[fx.Node, int] = {}
        uses = {use.node for use in self.structure.uses}
        modules = [name for name, _ in self.model.named_modules()]
        for place, site in enumerate(sites(traced.graph, traced.values, modules)):
            self._places[site] = place
            if site.kind in ("functional", "embedding"):
                self._functional[site.node] = place
            elif site.node not in uses:  # a product with a weight is a layer of its own
                self.sites.setdefault(site.node, []).append(site)
        self._folds = foldable(self.model, traced.graph, traced.values)

    def layers(self) -> tuple[Layer, ...]:
        """The layers as they run."""
        uses = {use.node: use for use in self.structure.uses}
        for node in self.structure.traced.graph.nodes:
            if node in uses:
                self._use(node, uses[node])
            elif node.op == "call_module" and isinstance(self.model.get_submodule(node.target), _NORMS):
                self._norm(node)
            elif self._is_relu(node):
                outputs, positions = self.elements(node)
                self.found[f"relu:{node.name}"] = Layer(
                    node.name, "relu", outputs, outputs, positions=positions, input_positions=positions
                )
            else:
                self._sites(node)
        self._tables()
        for name, parameter in self.model.named_parameters():
            if name not in self.counted:
                self._parameter(name, parameter)
        return tuple(self.found.values())

    def _use(self, node: fx.Node, use: UseRecord) -> None:
        """A call of a layer with a weight."""
        self.named[node] = (use.layer,)
        if use.kind.lower().startswith("embedding"):
            self._embedding(node, use)
        else:
            self._product(node, use)

    def _product(self, node: fx.Node, use: UseRecord) -> None:
        """A linear layer or convolution; further calls of the same layer add positions."""
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
        transposed = transposed or inputs_first(node)
        able = self._stored(node) if module is None else {}
        known = self.found.get(use.layer)
        if known is not None and known.uses is not None:
            self.found[use.layer] = replace(
                known,
                positions=known.positions + positions,
                input_positions=known.input_positions + read,
                uses=known.uses + times,
                **self._together(known, able, node, known.transposed == transposed),
            )
            return
        if known is not None:
            able = self._together(known, able, node, alike=False)
        tied = self._count(use.weight, use.layer)
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
            bias=module is not None and bias in self.canonical and not self._count(bias, use.layer),
            tied=tied,
            module=module is not None,
            transposed=transposed,
            norm=self._folds.get(use.layer, ""),
            **able,
        )

    def _stored(self, node: fx.Node) -> dict[str, Any]:
        """What a layer says of the formats of a function with a weight, or why it can have none."""
        if node in self._functional:
            return {"places": (self._functional[node],)}
        return {"why": f"its weight is computed from a parameter at {where(node)}"}

    def _together(self, known: Layer, able: dict[str, Any], node: fx.Node, alike: bool) -> dict[str, Any]:
        """The same for a layer that runs already, and once more at `node`, in the same way or not."""
        why = known.why or able.get("why", "")
        if known.module != (node.op == "call_module") or not alike:
            once_more = "in its use as a weight" if known.type in TYPES else "its weight is used in another way"
            why = why or f"{once_more} at {where(node)}"
        return {"places": () if why else known.places + able.get("places", ()), "why": why}

    def _norm(self, node: fx.Node) -> None:
        name, ids = str(node.target), self.structure.ids[node]
        outputs = self._extent(first_along(ids, [1]).reshape(-1))
        positions = self._share(ids.numel() // ids.shape[1])
        weight = f"{name}.weight"
        key = name if name not in self.found else f"{name}:{node.name}"
        affine = key == name and weight in self.canonical and not self._count(weight, name)
        if affine:
            self._count(f"{name}.bias", name)
        self.named[node] = (key,)
        self.found[key] = Layer(
            key, "batchnorm", outputs, outputs, positions=positions, input_positions=positions, bias=affine
        )

    def _embedding(self, node: fx.Node, use: UseRecord) -> None:
        """A look-up; what the table's columns are follows a chain, its rows do not."""
        outputs, positions = self.elements(node)
        able = self._stored(node) if node.op != "call_module" else {}
        known = self.found.get(use.layer)
        if known is not None:
            same = known.kind == "embedding"
            together = self._together(known, able, node, same)
            self.found[use.layer] = replace(known, positions=known.positions + positions * same, **together)
            return
        rows, columns = self.structure.shapes[use.weight]
        own = self._extent(use.outputs)
        self.found[use.layer] = Layer(
            use.layer,
            "embedding",
            Extent(1),
            own,
            fan_in=Extent(rows),
            positions=outputs.count({c.name: c.channels for c in self._chains}) * positions // columns,
            bias=False,
            module=node.op == "call_module",
            **able,
        )

    def _tables(self) -> None:
        """Say of every table whether a layer with a product holds it already, wherever that one runs."""
        for use in self.structure.uses:
            layer = self.found.get(use.layer)
            if layer is not None and layer.kind == "embedding":
                self.found[use.layer] = replace(layer, tied=self._count(use.weight, use.layer))

    def _sites(self, node: fx.Node) -> None:
        """Products and sums of two activations."""
        names = []
        for site in self.sites.get(node, ()):
            layer = self._sum(site) if site.kind == "add" else self._matmul(site)
            if layer is not None:
                self.found[f"{site.kind}:{site.name}"] = layer
            names.append("" if layer is None else site.name)
        if names:
            self.named[node] = tuple(names)

    def _sum(self, site: Site) -> Layer | None:
        """A sum of two activations of one shape; one that is broadcast is no residual, but a bias or a mask."""
        first, second = (argument(site.node, key) for key in site.operands)
        if self._value(first).shape != self._value(second).shape or not self._known(first, second, site.node):
            return None
        axis = self._channel_axis(site.node)
        channels, positions = self.elements(site.node)
        return Layer(
            site.name,
            "add",
            channels,
            channels,
            fan_in=self._span(site.node, [axis]),
            positions=positions,
            input_positions=positions,
            bias=False,
            axes=(axis, axis),
            **self._able(site),
        )

    def _able(self, site: Site) -> dict[str, Any]:
        """What a layer says of the formats that it can have, or why it can have none."""
        return {"why": site.why} if site.why else {"places": (self._places[site],)}

    def _channel_axis(self, node: fx.Node) -> int:
        """The axis along which an activation has its channels: where they vary, or where the layer before has them."""
        ids = self.structure.ids[node]
        if varying(ids):
            return varying(ids)[0]
        uses = {use.node: use for use in self.structure.uses}
        while node not in uses and node.all_input_nodes and op_name(node) not in MOVEMENT:
            node = node.all_input_nodes[0]
        convolved = node in uses and len(self.structure.shapes[uses[node].weight]) > 2
        rank: int = ids.ndim
        return 1 if convolved or rank > 3 else rank - 1

    def _matmul(self, site: Site) -> Layer | None:
        """A product of two activations: `a @ b`, `einsum`, and both of scaled dot-product attention."""
        node = site.node
        first, second = (argument(node, key) for key in site.operands)
        if node.target is ATTENTION:
            query, key, value = (argument(node, k) for s in self.sites[node] for k in s.operands if k is not None)
            if not self._known(query, key, value, node):
                return None
            if first is None:
                return self._layer(site, self.probabilities(node), value, self._span(value, [-2]), (-1, -2))
            return self._layer(site, self.elements(query), key, self._span(query, [-1]), (-1, -1))
        if not self._known(first, second, node):
            return None
        if node.target is not torch.einsum:
            return self._layer(site, self.elements(first), second, self._span(first, [-1]), (-1, -2))
        terms, arrow, result = str(node.args[0]).replace(" ", "").partition("->")
        if "." in terms or not arrow:
            return None
        left, right = terms.split(",")
        summed = [letter for letter in left if letter not in result]
        one = len(summed) == 1 and summed[0] in right
        axes = tuple(term.index(summed[0]) - len(term) if one else None for term in (left, right))
        span = self._span(first, [left.index(letter) for letter in summed])
        return self._layer(site, self.elements(first), second, span, (axes[0], axes[1]))

    def _layer(
        self,
        site: Site,
        first: tuple[Extent, int],
        second: Any,
        summed: Extent,
        axes: tuple[int | None, int | None],
    ) -> Layer:
        """A product that sums over `summed` activations, with `first` elements in its first operand."""
        attends = site.node.target is ATTENTION and site.operands[0] is not None
        outputs, positions = self.probabilities(site.node) if attends else self.elements(site.node)
        other, other_positions = self.elements(second)
        return Layer(
            site.name,
            "matmul",
            first[0],
            outputs,
            fan_in=summed,
            positions=positions,
            input_positions=first[1],
            bias=False,
            second=other,
            second_positions=other_positions,
            axes=axes,
            **self._able(site),
        )

    def probabilities(self, node: fx.Node) -> tuple[Extent, int]:
        """The elements of what lies between the two products of an attention."""
        query, key = (argument(node, k) for k in self.sites[node][0].operands)
        ids = self.structure.ids[query]
        if not isinstance(ids, Tensor):
            return Extent(0), 0
        heads = [d for d in varying(ids) if d != ids.ndim - 1]
        rest = ids[..., 0].numel() // int(torch.Size([ids.shape[d] for d in heads]).numel())
        return self._span(query, heads), self._share(rest) * int(self._value(key).shape[-2])

    def _known(self, *nodes: Any) -> bool:
        return all(isinstance(self.structure.ids.get(node), Tensor) for node in nodes)

    def _span(self, node: Any, dims: list[int]) -> Extent:
        """How many positions the dims of an activation span together."""
        ids = self.structure.ids[node]
        moving = [d for d in (dim % ids.ndim for dim in dims) if d in varying(ids)]
        fixed = int(torch.Size([ids.shape[d] for d in dims if d % ids.ndim not in moving]).numel())
        extent = self._extent(first_along(ids, moving).reshape(-1)) if moving else Extent(1)
        return Extent(extent.constant * fixed, tuple((n, f * fixed) for n, f in extent.terms), extent.divisor)

    def _parameter(self, name: str, parameter: Tensor) -> None:
        """A tensor outside the layers above: of its dims, at most two follow chains."""
        dims = [dim for (owner, dim) in self.structure.slots if owner == name]
        moving = [d for d in dims if bool((self.structure.slots[name, d] >= 0).any())][:2]
        extents = [self._extent(self.structure.slots[name, d]) for d in moving] + [Extent(1), Extent(1)]
        taps = int(torch.Size([size for d, size in enumerate(parameter.shape) if d not in moving]).numel())
        self.found[f"parameter:{name}"] = Layer(
            name, "parameter", extents[1], extents[0], fan_in=extents[1], taps=taps, why=self._multiplied(name)
        )

    def _multiplied(self, name: str) -> str:
        """Why a parameter that a function multiplies with can have no format; empty where none does."""
        nodes = self.structure.traced.graph.nodes
        holders = [n for n in nodes if n.op == "get_attr" and self.canonical.get(str(n.target)) == name]
        while holders:
            for user in (found := [user for node in holders for user in node.users]):
                if op_name(user) in _PRODUCTS:
                    return f"what multiplies with it at {where(user)} is not followed: it is not in flops, macs or bops"
            holders = [user for user in found if op_name(user) in MOVEMENT]
        return ""

    def _count(self, name: str, layer: str) -> str:
        """Mark a parameter as counted by `layer`; the other layer that it, or one tied to it, belongs to already."""
        canonical = self.canonical.get(name, name)
        holder = self.counted.setdefault(canonical, layer)
        return "" if holder == layer else holder

    def _value(self, node: Any) -> Tensor:
        value: Tensor = self.structure.traced.values[node]
        return value

    def _share(self, total: int) -> int:
        """`total` positions of a batch, for one sample."""
        return -(-total // self.batch)

    def _extent(self, vector: Tensor) -> Extent:
        return extent_of(self.structure, self._chains, vector)

    def elements(self, node: fx.Node) -> tuple[Extent, int]:
        """The elements of an activation for one sample: an extent, and how many positions of it there are."""
        ids = self.structure.ids[node]
        vector = first_along(ids, varying(ids)).reshape(-1)
        return self._extent(vector), self._share(ids.numel() // max(1, len(vector)))

    def _is_relu(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.model.get_submodule(str(node.target)), _RELU_MODULES)
        return node.op in ("call_function", "call_method") and node.target in _RELU_FUNCTIONS
