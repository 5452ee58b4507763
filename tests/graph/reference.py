"""Zeroed references, made without any knowledge of chains.

With random weights every number of a model is unique, so a resized parameter tells by its values alone
which rows and columns of the original it kept. The reference is the original with the columns that are
gone set to zero in whoever reads them, and with norms that average the channels that are left.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

# Parameters that read channels in an unusual dim, or whose rows enter a product and must be zeroed as well.
ALSO_ZERO: dict[str, dict[str, tuple[int, ...]]] = {
    "functional": {"w3": (0,)},
    "tied_autoencoder": {"weight": (0,), "bias": (0,)},
    "normalised": {"a.weight": (0,), "a.bias": (0,)},
    "single_head": {"q.weight": (0,), "q.bias": (0,)},
}


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """`model` in float64 and evaluation mode with random parameters and statistics, in place."""
    generator = torch.Generator().manual_seed(seed)
    model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 1
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(noise / fan**0.5 if parameter.ndim > 1 else 0.5 + 0.4 * noise)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
            elif name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
    return model


def kept(original: Tensor, small: Tensor) -> list[Tensor]:
    """For every dim, which positions of `original` are in `small`; asserts that it is a sub-tensor."""
    values = original.detach().reshape(-1).numpy()
    order = np.argsort(values)
    found = order[np.searchsorted(values, small.detach().reshape(-1).numpy(), sorter=order).clip(0, len(values) - 1)]
    places = np.unravel_index(found, tuple(original.shape))
    indices = [torch.from_numpy(np.unique(place)) for place in places]
    rebuilt = original.detach()
    for dim, index in enumerate(indices):
        rebuilt = rebuilt.index_select(dim, index)
    assert torch.equal(rebuilt, small.detach()), "not a sub-tensor with its order kept"
    return indices


class MaskedLayerNorm(nn.Module):
    """Layer norm of the original width over the channels in `alive` only."""

    def __init__(self, norm: nn.LayerNorm, alive: Tensor) -> None:
        super().__init__()
        self.norm, self.alive = norm, alive

    def forward(self, x: Tensor) -> Tensor:
        inside = x[..., self.alive]
        mean, var = inside.mean(-1, keepdim=True), inside.var(-1, unbiased=False, keepdim=True)
        return (x - mean) / (var + self.norm.eps).sqrt() * self.norm.weight + self.norm.bias


class MaskedRmsNorm(nn.Module):
    """RMS norm of the original width over the channels in `alive` only."""

    def __init__(self, norm: nn.RMSNorm, alive: Tensor) -> None:
        super().__init__()
        self.norm, self.alive = norm, alive

    def forward(self, x: Tensor) -> Tensor:
        eps = torch.finfo(x.dtype).eps if self.norm.eps is None else self.norm.eps
        return x / (x[..., self.alive].square().mean(-1, keepdim=True) + eps).sqrt() * self.norm.weight


class MaskedGroupNorm(nn.Module):
    """Group norm of the original groups over the channels in `alive` only."""

    def __init__(self, norm: nn.GroupNorm, alive: Tensor) -> None:
        super().__init__()
        self.norm, self.alive = norm, set(alive.tolist())

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[1] // self.norm.num_groups
        parts = []
        for group in range(self.norm.num_groups):
            channels = range(group * width, (group + 1) * width)
            part = x[:, list(channels)]
            inside = x[:, [c for c in channels if c in self.alive] or list(channels)]
            dims = tuple(range(1, x.ndim))
            mean, var = inside.mean(dims, keepdim=True), inside.var(dims, unbiased=False, keepdim=True)
            parts.append((part - mean) / (var + self.norm.eps).sqrt())
        spread = (1, -1) + (1,) * (x.ndim - 2)
        return torch.cat(parts, 1) * self.norm.weight.view(spread) + self.norm.bias.view(spread)


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    owner, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(owner), leaf, module)


def _hide(weight: Tensor, dim: int, index: Tensor) -> None:
    gone = [i for i in range(weight.shape[dim]) if i not in set(index.tolist())]
    with torch.no_grad():
        weight.index_fill_(dim, torch.tensor(gone, dtype=torch.int64), 0.0)


def zeroed(name: str, model: nn.Module, small: nn.Module) -> nn.Module:
    """The original `model` with everything hidden that `small` no longer has."""
    reference = copy.deepcopy(model)
    left = dict(small.named_parameters(remove_duplicate=False))
    indices = {n: kept(p, left[n]) for n, p in model.named_parameters(remove_duplicate=False) if n in left}
    for path, module in model.named_modules():
        twin = reference.get_submodule(path)
        if isinstance(module, nn.Linear) or (isinstance(module, nn.modules.conv._ConvNd) and not module.transposed):
            if f"{path}.weight" in indices:
                _hide(twin.weight, 1, indices[f"{path}.weight"][1])
        elif isinstance(module, nn.modules.conv._ConvNd) and module.groups == 1:
            _hide(twin.weight, 0, indices[f"{path}.weight"][0])
        elif isinstance(module, nn.LayerNorm):
            if type(module) is nn.LayerNorm:
                _replace(reference, path, MaskedLayerNorm(twin, indices[f"{path}.weight"][0]))
            else:  # a subclass that normalises dim 1 of an image
                _replace(reference, path, _Norm2d(MaskedLayerNorm(twin, indices[f"{path}.weight"][0])))
        elif isinstance(module, nn.RMSNorm):
            _replace(reference, path, MaskedRmsNorm(twin, indices[f"{path}.weight"][0]))
        elif isinstance(module, nn.GroupNorm):
            _replace(reference, path, MaskedGroupNorm(twin, indices[f"{path}.weight"][0]))
    parameters = dict(reference.named_parameters())
    for parameter, dims in ALSO_ZERO.get(name, {}).items():
        for dim in dims:
            _hide(parameters[parameter], dim, indices[parameter][dim])
    return reference


class _Norm2d(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


def as_double(inputs: Tensor) -> Tensor:
    return inputs.double() if inputs.is_floating_point() else inputs


def assert_close(found: Tensor, wanted: Tensor) -> None:
    """Equal within float64 error, and not trivially so."""
    found, wanted = found.detach(), wanted.detach()
    assert found.shape == wanted.shape
    assert float(wanted.std()) > 1e-6
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10 * float(wanted.abs().max()))
