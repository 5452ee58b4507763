"""Walk a graph at new sizes and repair what has an old size written into it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from evonas.errors import InvalidArgument
from evonas.graph.flow import ParamRef
from evonas.graph.lines import where
from evonas.graph.movement import MOVEMENT, MOVEMENT_MODULES, run_on_ids
from evonas.graph.propagate import op_name
from evonas.graph.repairs import REPAIRS, SIZED, Fault, Sizes
from evonas.graph.rules import CREATION
from evonas.graph.shuffles import permutation
from evonas.graph.slicing import Layout
from evonas.graph.units import first_along, varying

__all__ = ["Rewrite"]


class Rewrite:
    """A copy of the model's graph in which every size is right for the resized model.

    Only sizes are computed, on meta tensors: a walk costs milliseconds, whatever the model.

    Args:
        layout: where every channel comes from.
        sized: the model with its tensors resized.
        graph: a trace of `sized` with the same nodes as the original's; the original's graph when None.

    Attributes:
        graph: the new graph.
        changes: for each repaired node, the integers that changed, as (old, new).
        buffers: index tensors that the new graph reads, by name.
    """

    def __init__(self, layout: Layout, sized: nn.Module, graph: fx.Graph | None = None) -> None:
        self.layout = layout
        self.sized = sized
        self.structure = layout.structure
        self.changes: list[tuple[fx.Node, list[tuple[int, int]]]] = []
        self.buffers: dict[str, Tensor] = {}
        tensors = [*sized.named_parameters(), *sized.named_buffers()]
        self._shapes = {name: tuple(tensor.shape) for name, tensor in tensors}
        original = layout.structure.traced.graph
        source = original if graph is None else graph
        self.graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        self.graph.output(self.graph.graph_copy(source, copies))
        pairs = zip(original.nodes, source.nodes, strict=True)
        new = {node: copies[twin] for node, twin in pairs if twin in copies}
        back = {twin: node for node, twin in new.items()}
        self.sizes = Sizes(layout, self.structure, layout.structure.traced.values, {}, new, back)
        self._walk()

    def _walk(self) -> None:
        inner = {n for s in self.structure.shuffles.values() for n in s.inner}
        for node in self.structure.traced.graph.nodes:
            if node.op == "output":
                continue
            if node not in inner:
                self.sizes.now[node] = self._visit(node)
            if node in self.structure.shuffles:
                self._shuffle(node)

    def _visit(self, node: fx.Node) -> Any:
        if not _has_tensor(self.sizes.old.get(node)):
            plain = node.op in ("placeholder", "get_attr")
            return self.sizes.old[node] if plain else self._plain(node)
        wanted = self._wanted(node)
        if node in self.structure.shuffles or node.op in ("placeholder", "get_attr"):
            return wanted
        name = op_name(node)
        moves = name in MOVEMENT or name == "pad"
        if node.op == "call_module":
            moves = isinstance(self.sized.get_submodule(str(node.target)), MOVEMENT_MODULES)
        if moves and not self._fits(node, wanted):
            self._repair(node, name, wanted)
        elif not moves and name not in CREATION:
            self._compute(node, name, wanted)
        return wanted

    def _wanted(self, node: fx.Node) -> Any:
        """What the node must return: meta tensors of the resized shapes, and index tensors as they were."""
        ids = self.structure.ids[node]
        if isinstance(ids, ParamRef):
            shape = self._shapes[ids.name]
            return _meta(list(shape[::-1] if ids.swapped else shape))

        def resized(old: Any, units: Any) -> Any:
            if isinstance(old, Tensor):
                shape = self.layout.shape(units)
                return old if list(old.shape) == shape and not old.is_meta else _meta(shape)
            if isinstance(old, (tuple, list)):
                return tuple(resized(o, u) for o, u in zip(old, units, strict=True))
            return old

        return resized(self.sizes.old[node], ids)

    def _plain(self, node: fx.Node) -> Any:
        """A node that computes sizes: run it at the new sizes."""
        name = op_name(node)
        if name == "_assert":
            if not self._arguments(node)[0][0]:
                self.graph.erase_node(self.sizes.new.pop(node))
                self.changes.append((node, []))
            return None
        try:
            return self._run(node, *self._arguments(node))
        except Exception as error:  # sizes that no longer divide, attributes that a meta tensor lacks
            if name in ("getattr", "size", "dim"):
                return self.sizes.old[node]
            raise InvalidArgument(f"cannot resize past {where(node)}: {error}".splitlines()[0]) from error

    def _arguments(self, node: fx.Node) -> tuple[Any, Any]:
        """The values of the new node's arguments at the new sizes."""
        fault = Fault(self.sizes, node, None)
        return fault.now(fault.new.args), fault.now(fault.new.kwargs)

    def _run(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        new = self.sizes.new[node]
        if new.op == "call_module":
            return self.sized.get_submodule(str(new.target))(*args, **kwargs)
        if new.op == "call_method":
            return getattr(args[0], str(new.target))(*args[1:], **kwargs)
        assert callable(new.target)
        return new.target(*args, **kwargs)

    def _fits(self, node: fx.Node, wanted: Any) -> bool:
        try:
            result = self._run(node, *self._arguments(node))
        except Exception:  # a size that does not fit shows itself in many ways
            return False
        return bool(_shape_of(result) == _shape_of(wanted)) and self._aligned(node)

    def _aligned(self, node: fx.Node) -> bool:
        """Whether the op takes every kept channel where the analysis says: run it on their codes."""
        ids = self.structure.ids
        sources = [ids.get(n) for n in node.all_input_nodes]
        tensors = [s for s in sources if isinstance(s, Tensor)]
        if op_name(node) == "pad" or len(tensors) < len(sources) or not any(map(self.layout.changes, tensors)):
            return True  # a pad makes channels of its own; where nothing changes nothing can be lost
        new = self.sizes.new[node]

        def code(argument: fx.Node) -> Any:
            original = self.sizes.back[argument]
            held, now = ids.get(original), self.sizes.now[original]
            return self.layout.codes(held) if isinstance(held, Tensor) and now.is_meta else now

        target = self.sized.get_submodule(str(new.target)) if new.op == "call_module" else new.target
        found = run_on_ids(target, *fx.map_arg(new.args, code), **fx.map_arg(new.kwargs, code))
        wanted = tree_map(self.layout.codes, ids[node])
        return all(torch.equal(f, w) for f, w in zip(tree_leaves(found), tree_leaves(wanted), strict=True))

    def _repair(self, node: fx.Node, name: str, wanted: Any) -> None:
        new = self.sizes.new[node]
        old = _integers(new)
        if name in REPAIRS:
            REPAIRS[name](Fault(self.sizes, node, wanted))
        if not self._fits(node, wanted):
            raise InvalidArgument(
                f"{where(node)} has a hard-coded size that cannot be replaced, or picks channels by position"
            )
        pairs = zip(old, _integers(new), strict=False)
        self.changes.append((node, [(o, n) for o, n in pairs if o != n]))

    def _compute(self, node: fx.Node, name: str, wanted: Any) -> None:
        """Numbers that a computation reads from sizes (a mean's divisor, a scale) stay the original's."""
        new = self.sizes.new[node]
        if name in SIZED:
            if node.op == "call_function" and SIZED[name](Fault(self.sizes, node, wanted)):
                self.changes.append((node, []))
            return
        baked: list[Any] = []

        def bake(argument: fx.Node) -> Any:
            original = self.sizes.back[argument]
            value = self.sizes.old.get(original)
            if isinstance(value, (int, float)) and self.sizes.now.get(original) != value:
                baked.append(value)
                return value
            return argument

        new.args, new.kwargs = fx.map_arg(new.args, bake), fx.map_arg(new.kwargs, bake)
        if baked:
            self.changes.append((node, []))

    def _shuffle(self, node: fx.Node) -> None:
        """Keep the original steps of a shuffle where they still do the right thing, else one index."""
        shuffle = self.structure.shuffles[node]
        source = self.structure.ids[shuffle.source]
        vector = first_along(source, [shuffle.dim]).reshape(-1)
        if shuffle.dim not in varying(source):
            vector = torch.full((source.shape[shuffle.dim],), -1)
        index = self.layout.index_of(vector, shuffle.index)
        shape = torch.Size(self.layout.shape(source))
        found = permutation(shuffle.nodes, self.sized, shape, shuffle.dim, self.sizes.now)
        if found is not None and torch.equal(found, index):
            return
        held = [n for n in node.all_input_nodes if n.op == "get_attr"]
        if len(shuffle.nodes) == 1 and held and len(held[0].users) == 1:
            owner, _, leaf = str(held[0].target).rpartition(".")
            module = self.sized.get_submodule(owner)
            setattr(module, leaf, index.to(getattr(module, leaf).device))  # the model's own index follows
            return
        number = len(self.buffers)
        while hasattr(self.sized, f"_shuffle_{number}"):
            number += 1  # the model is itself the result of a resize
        name = f"_shuffle_{number}"
        self.buffers[name] = index
        new = self.sizes.new[node]
        with self.graph.inserting_before(new):
            buffer = self.graph.get_attr(name)
            arguments = (self.sizes.new[shuffle.source], shuffle.dim, buffer)
            picked = self.graph.call_function(torch.index_select, arguments)
        new.replace_all_uses_with(picked)
        for step in reversed(shuffle.nodes):
            self.graph.erase_node(self.sizes.new[step])
        self.sizes.new[node] = picked
        self.sizes.back[picked] = node
        self.changes.append((node, []))


def _meta(shape: list[int]) -> Tensor:
    return torch.empty(shape, device="meta")


def _has_tensor(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_has_tensor(v) for v in value)
    return isinstance(value, Tensor)


def _shape_of(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_shape_of(v) for v in value]
    return list(value.shape) if isinstance(value, Tensor) else value


def _integers(node: fx.Node) -> list[int]:
    """The integers written into the arguments of `node`, in order; other arguments count as -1."""
    found: list[int] = []

    def collect(item: Any) -> Any:
        found.append(item if isinstance(item, int) else -1)
        return item

    tree_map(collect, (list(node.args), dict(node.kwargs)), is_leaf=lambda x: isinstance(x, fx.Node))
    return found
