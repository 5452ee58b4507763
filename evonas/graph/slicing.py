"""New parameters from old ones: which positions, in which order, divided among how many copies."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from evonas.graph.structure import Structure
from evonas.graph.units import first_along, varying

__all__ = ["Layout", "set_tensors"]


class Layout:
    """Where every channel of a resized model comes from.

    Args:
        structure: of the original model.
        copies: int64, shape (units,): how often each unit is kept.
        generator: draws how copies share the weights that read them. Unequal shares keep the function and
            let training tell the copies apart (Chen et al. 2016, arXiv:1511.05641, section 3.2).
    """

    def __init__(self, structure: Structure, copies: Tensor, generator: torch.Generator) -> None:
        self.structure = structure
        # One more entry, for -1: what is fixed is kept once.
        self.copies = torch.cat([copies, torch.ones(1, dtype=torch.int64)])
        most = max(1, int(self.copies.max()))
        shares = 0.75 + 0.5 * torch.rand(len(self.copies), most, generator=generator, dtype=torch.float64)
        shares[torch.arange(most)[None, :] >= self.copies[:, None]] = 0.0
        self.shares = shares / shares.sum(1, keepdim=True).clamp_min(1e-12)

    def positions(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """For unit numbers `vector`, shape (size,): the old position and the copy number of every new one.

        A run of positions of one unit (the width of a head, the pixels of a flattened channel) is copied
        as a whole, so that its inner order survives.
        """
        counts = self.copies[vector]
        if not bool((counts > 1).any()):
            kept = counts.nonzero().reshape(-1)
            return kept, torch.zeros_like(kept)
        old: list[int] = []
        number: list[int] = []
        units, times = vector.tolist(), counts.tolist()
        start = 0
        while start < len(units):
            stop = start + 1
            while stop < len(units) and units[stop] == units[start] and units[start] >= 0:
                stop += 1
            for repeat in range(times[start]):
                old += range(start, stop)
                number += [repeat] * (stop - start)
            start = stop
        return torch.tensor(old, dtype=torch.int64), torch.tensor(number, dtype=torch.int64)

    def count(self, vector: Tensor) -> int:
        """How many positions the unit numbers in `vector` take in the resized model."""
        return int(self.copies[vector].sum())

    def shape(self, ids: Tensor) -> list[int]:
        """The resized shape of a tensor whose unit numbers are `ids`."""
        shape = list(ids.shape)
        for dim in varying(ids):
            shape[dim] = self.count(first_along(ids, [dim]).reshape(-1))
        return shape

    def changes(self, ids: Tensor) -> bool:
        """Whether a tensor of `ids` has other channels than in the original."""
        return any(bool((self.copies[first_along(ids, [d])] != 1).any()) for d in varying(ids))

    def codes(self, ids: Tensor) -> Tensor:
        """A number for every position of the resized tensor of `ids`: which unit, which copy; -1 is fixed."""
        shape = self.shape(ids)
        if not varying(ids):
            return torch.full((1,) * ids.ndim, -1).expand(shape)
        (dim,) = varying(ids)
        vector = first_along(ids, [dim]).reshape(-1)
        old, number = self.positions(vector)
        code = torch.where(vector[old] >= 0, vector[old] * len(self.shares[0]) + number, -1)
        return code.reshape([-1 if d == dim else 1 for d in range(ids.ndim)]).expand(shape)

    def groups(self, vector: Tensor, groups: int) -> int:
        """The resized number of groups of channels `vector`, shape (channels,)."""
        blocks = vector.reshape(groups, -1)
        whole = bool((blocks == blocks[:, :1]).all())
        return self.count(blocks[:, 0]) if whole else groups

    def index_of(self, source: Tensor, index: Tensor) -> Tensor:
        """The permutation `index` of channels `source`, shape (channels,), after resizing."""
        old, number = self.positions(source)
        place = {pair: i for i, pair in enumerate(zip(old.tolist(), number.tolist(), strict=True))}
        new, copy_number = self.positions(source[index])
        pairs = zip(index[new].tolist(), copy_number.tolist(), strict=True)
        return torch.tensor([place[pair] for pair in pairs], dtype=torch.int64)

    def apply(self, name: str, tensor: Tensor) -> Tensor:
        """Parameter or buffer `name` as the resized model holds it."""
        result = tensor.detach()
        for dim in range(tensor.ndim):
            vector = self.structure.slots.get((name, dim))
            if vector is None or bool((self.copies[vector] == 1).all()):
                continue
            old, number = self.positions(vector)
            result = result.index_select(dim, old.to(tensor.device))
            if (name, dim) in self.structure.readers and bool((self.copies[vector] > 1).any()):
                share = self.shares[vector[old], number].to(tensor)
                result = result.mul_(share.reshape([-1 if d == dim else 1 for d in range(tensor.ndim)]))
        return result.clone() if result.data_ptr() == tensor.data_ptr() else result


def set_tensors(model: nn.Module, layout: Layout) -> nn.Module:
    """A deep copy of `model` with every parameter and buffer resized; tied ones stay tied.

    Attributes of torch's own layers follow; code in forward that has sizes of its own does not.
    """
    memo: dict[int, Any] = {}
    resized = {name for name, _ in layout.structure.slots}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name in resized:
            value = layout.apply(name, tensor)
            trained = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(value, tensor.requires_grad) if trained else value
    # deepcopy finds these in its memo and never copies the tensors that are replaced.
    sized = copy.deepcopy(model, memo)
    calls = {str(n.target): n for n in layout.structure.traced.graph.nodes if n.op == "call_module"}
    originals = dict(model.named_modules())
    for path, module in sized.named_modules():
        _refresh(module, originals[path], layout, path, calls.get(path))
    return sized


def _refresh(module: nn.Module, original: nn.Module, layout: Layout, path: str, node: fx.Node | None) -> None:
    """Bring the attributes of a layer in line with its tensors; `node` is its call, if it is a leaf."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = module.weight.shape[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.shape[0]
    elif isinstance(module, nn.modules.conv._ConvNd):
        _refresh_conv(module, original, layout, path)
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and module.weight is not None:
        module.normalized_shape = tuple(module.weight.shape)
    elif isinstance(module, nn.modules.batchnorm._NormBase) and module.weight is not None:
        module.num_features = module.weight.shape[0]
    elif node is not None:
        _refresh_by_node(module, original, layout, layout.structure.ids.get(node))


def _refresh_conv(module: nn.Module, original: nn.Module, layout: Layout, path: str) -> None:
    name = layout.structure.traced.names.get(f"{path}.weight")
    use = next((u for u in layout.structure.uses if u.weight == name), None)
    if use is not None:
        assert isinstance(module, nn.modules.conv._ConvNd)
        assert isinstance(original, nn.modules.conv._ConvNd)
        module.in_channels = layout.count(use.inputs)
        module.groups = layout.groups(use.inputs, original.groups)
        module.out_channels = layout.count(use.outputs)


def _refresh_by_node(module: nn.Module, original: nn.Module, layout: Layout, ids: Any) -> None:
    """Attributes that no parameter of the module tells."""
    if not isinstance(ids, Tensor):
        return
    shape = layout.shape(ids)
    if isinstance(module, nn.GroupNorm):
        assert isinstance(original, nn.GroupNorm)
        module.num_channels = shape[1]
        module.num_groups = layout.groups(first_along(ids, [1]).reshape(-1), original.num_groups)
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        module.normalized_shape = tuple(shape[-len(module.normalized_shape) :])
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        module.num_features = shape[1]
    elif isinstance(module, nn.Unflatten):
        sizes: Any = module.unflattened_size
        first = int(module.dim) % (ids.ndim - len(sizes) + 1)
        wanted = shape[first : first + len(sizes)]
        module.unflattened_size = tuple(o if o == -1 else n for o, n in zip(sizes, wanted, strict=True))
