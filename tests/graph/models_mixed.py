"""More structures of real networks, each checked against a zeroed original."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class TransposedUNet(nn.Module):
    """Up by a transposed convolution, a skip by cat, a group norm on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.low = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.merge = nn.Conv2d(12, 6, 3, padding=1)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return self.out(F.relu(self.merge(torch.cat([self.up(self.low(x)), x], 1))))


class ScaledResNeXt(nn.Module):
    """Grouped convolution, group norm, squeeze-excite and layer scale in one residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.narrow = nn.Conv2d(16, 16, 1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.norm = nn.GroupNorm(4, 16)
        self.wide = nn.Conv2d(16, 16, 1)
        self.squeeze = nn.Conv2d(16, 4, 1)
        self.excite = nn.Conv2d(4, 16, 1)
        self.gamma = nn.Parameter(torch.ones(16))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.wide(F.relu(self.norm(self.grouped(F.relu(self.narrow(x))))))
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return self.head((x + self.gamma[None, :, None, None] * y).mean((2, 3)))


class SubPixel(nn.Module):
    """Pixel shuffle there and back."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 24, 3, padding=1)
        self.c, self.d = nn.Conv2d(6, 5, 3, padding=1), nn.Conv2d(20, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.b(F.relu(self.a(x))), 2)
        return self.d(F.pixel_unshuffle(F.relu(self.c(x)), 2))


class WaveNet(nn.Module):
    """Dilated Conv1d with gates from one chunk, and skips added up from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 8, 3, padding=1)
        self.gates = nn.ModuleList([nn.Conv1d(8, 16, 3, padding=2**k, dilation=2**k) for k in range(2)])
        self.back = nn.ModuleList([nn.Conv1d(8, 8, 1) for _ in range(2)])
        self.skip = nn.ModuleList([nn.Conv1d(8, 10, 1) for _ in range(2)])
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.stem(x), torch.zeros(())
        for gate, back, skip in zip(self.gates, self.back, self.skip, strict=True):
            a, b = gate(x).chunk(2, 1)
            z = torch.tanh(a) * torch.sigmoid(b)
            x, total = x + back(z), total + skip(z)
        return self.head(F.relu(total).mean(-1))


class ScaledGlu(nn.Module):
    """Layer norm, a gated pair of halves, layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(5, 8), nn.LayerNorm(8)
        self.both, self.back = nn.Linear(8, 24), nn.Linear(12, 8)
        self.gamma = nn.Parameter(torch.ones(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        a, b = self.both(self.norm(x)).split(12, -1)
        return self.head((x + self.gamma * self.back(F.silu(a) * b)).mean(1))


class ClassToken(nn.Module):
    """Attention by reshape and einsum, with a class token and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv = nn.Linear(5, 12), nn.Linear(12, 36)
        self.proj, self.head = nn.Linear(12, 12), nn.Linear(12, 3)
        self.token, self.place = nn.Parameter(torch.zeros(1, 1, 12)), nn.Parameter(torch.zeros(1, 8, 12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        batch, length, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, 3, width // 3).permute(2, 0, 3, 1, 4)
        attention = (q * 0.5 @ k.mT).softmax(-1)
        y = torch.einsum("bhnm,bhmd->bnhd", attention, v).flatten(2)
        return self.head((x + self.proj(y))[:, 0])


class ListOfChunks(nn.Module):
    """A list that begins with the chunks of one tensor and grows (the C2f block of YOLO)."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.more = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1) for _ in range(2)])
        self.c, self.d = nn.Conv2d(16, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.a(x).chunk(2, 1))
        for layer in self.more:
            parts.append(F.relu(layer(parts[-1])))
        return self.d(F.relu(self.c(torch.cat(parts, 1))))


class ListOfSplits(nn.Module):
    """Uneven parts in another order, one of them sliced."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(5, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [*torch.split(self.a(x), split_size_or_sections=[5, 3], dim=1)]
        return self.c(F.relu(self.b(parts[0]) + self.b(torch.cat([parts[1], parts[0][:, :2]], 1))))


class TiedTwice(nn.Module):
    """A layer called twice, and a gate whose weight is another layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.mid, self.c, self.d = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4)
        self.d.weight = self.c.weight
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(F.relu(self.mid(F.relu(self.a(x)))))
        return self.head(self.c(x) * torch.sigmoid(self.d(F.relu(x))))


class Modulated(nn.Module):
    """Scales and shifts from the input's mean (FiLM), then both signs through a ReLU (CReLU), then maxout."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.film = nn.Conv2d(3, 6, 1), nn.Linear(3, 12)
        self.b, self.c, self.d = nn.Conv2d(12, 12, 1), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.film(x.mean((2, 3))).chunk(2, -1)
        y = self.a(x) * (1 + scale[..., None, None]) + shift[..., None, None]
        y = self.b(F.relu(torch.cat((y, -y), 1)))
        batch, _, height, width = y.shape
        return self.d(F.relu(self.c(y.view(batch, 6, 2, height, width).max(2)[0])))


class NormsOfGroups(nn.Module):
    """Three group norms that want other groups than the grouped convolution between them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.one = nn.Conv2d(3, 12, 3), nn.GroupNorm(3, 12)
        self.b, self.two, self.three = nn.Conv2d(12, 12, 3, groups=2), nn.GroupNorm(12, 12), nn.GroupNorm(1, 12)
        self.c, self.d = nn.Conv2d(12, 5, 1), nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(F.relu(self.c(self.three(self.two(self.b(F.relu(self.one(self.a(x)))))))))


class Patches(nn.Module):
    """Patches by Tensor.unfold, attention by views in a generator."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(48, 8), nn.LayerNorm(8)
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.proj, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.size(0)
        x = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(batch, 4, -1)
        x = self.embed(x)
        y = self.norm(x)
        q, k, v = (layer(y).view(batch, -1, 2, 4).permute(0, 2, 1, 3) for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).permute(0, 2, 1, 3).contiguous().view(batch, -1, 8)
        return self.head((x + self.proj(y)).mean(1))


# model, inputs, channels of the chains that a person would find
MIXED: dict[str, tuple[type[nn.Module], Tensor, list[int]]] = {
    "transposed_unet": (TransposedUNet, _draw(2, 3, 8, 8), [6, 8, 6, 6]),
    "scaled_resnext": (ScaledResNeXt, _draw(2, 3, 8, 8), [16, 16, 16, 4]),
    "sub_pixel": (SubPixel, _draw(2, 3, 8, 8), [8, 6, 5]),
    "wavenet": (WaveNet, _draw(2, 1, 32), [8, 8, 10, 8]),
    "scaled_glu": (ScaledGlu, _draw(2, 7, 5), [8, 12]),
    "class_token": (ClassToken, _draw(2, 7, 5), [12, 12]),
    "list_of_chunks": (ListOfChunks, _draw(2, 3, 8, 8), [8, 4, 4, 6]),
    "list_of_splits": (ListOfSplits, _draw(2, 3, 8, 8), [4, 1, 6]),
    "tied_twice": (TiedTwice, _draw(3, 12), [8, 4]),
    "modulated": (Modulated, _draw(2, 3, 8, 8), [6, 6, 5]),
    "norms_of_groups": (NormsOfGroups, _draw(2, 3, 8, 8), [12, 12, 5]),
    "patches": (Patches, _draw(2, 3, 8, 8), [8, 8]),
}
