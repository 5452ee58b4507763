"""Small models, one for each structure that ties channels together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mlp(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 8),
            nn.Dropout(0.1), nn.PReLU(8), nn.Linear(8, 5),
        )  # fmt: skip


class ResidualAdd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a = nn.Conv2d(8, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.b = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.b(F.relu(self.bn(self.a(x)))))
        return self.head(x.mean((2, 3)))


class PaddedShortcut(nn.Module):
    """A residual whose shortcut is strided and padded with zero channels on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4), "constant", 0.0)
        x = F.relu(short + self.b(F.relu(self.bn(self.a(x)))))
        return self.head(x.mean((2, 3)))


class Cat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Conv2d(3, 6, 3, padding=1)
        self.c = nn.Conv2d(13, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([self.a(x).relu(), x, self.b(x).relu()], 1)).sum((2, 3))


class CatThenAdd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Conv2d(3, 6, 3, padding=1)
        self.c = nn.Conv2d(3, 10, 1)
        self.d = nn.Conv2d(10, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(torch.relu(torch.cat([self.a(x), self.b(x)], 1) + self.c(x)))


class ChunkCat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(4, 6, 3, padding=1)
        self.c = nn.Conv2d(10, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.a(x).chunk(2, dim=1)
        return self.c(torch.cat([two, F.relu(self.b(one))], 1))


class UnevenSplit(nn.Module):
    """Sizes of a split are written down and have no simple proportion."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 9, 1)
        self.b = nn.Conv2d(2, 4, 1)
        self.c = nn.Conv2d(11, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, two = torch.split(self.a(x), [2, 7], dim=1)
        return self.c(torch.cat([self.b(one), two], 1))


class SliceChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 1)
        self.b = nn.Conv2d(8, 4, 1)
        self.c = nn.Conv2d(4, 4, 1)
        self.d = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.d(self.b(x[:, :8]) + self.c(x[:, 8:]))


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.dw = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.bn = nn.BatchNorm2d(8)
        self.b = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu6(self.bn(self.dw(self.a(x)))))


class DepthwiseMultiplier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 1)
        self.dw = nn.Conv2d(6, 18, 3, padding=1, groups=6)
        self.b = nn.Conv2d(18, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.dw(self.a(x))))


class GroupedConv(nn.Module):
    """Few wide groups, then many narrow ones."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 1)
        self.g = nn.Conv2d(12, 18, 3, padding=1, groups=3)
        self.b = nn.Conv2d(18, 16, 1)
        self.h = nn.Conv2d(16, 16, 3, padding=1, groups=8)
        self.c = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.h(self.b(F.relu(self.g(self.a(x)))))))


class Flatten2d(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(54, 10),
            nn.Tanh(),
            nn.Linear(10, 3),
        )


class Flatten1d(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv1d(2, 6, 3, padding=1),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(60, 8),
            nn.Linear(8, 3),
        )


class HardCodedView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3)
        self.b = nn.Linear(8 * 36, 10)
        self.c = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.relu(self.a(x)).view(-1, 288))))


class LinearViewConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 6 * 16)
        self.bn = nn.BatchNorm2d(6)
        self.up = nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1)
        self.out = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.bn(self.fc(z).view(-1, 6, 4, 4)).relu()
        return torch.tanh(self.out(self.up(x).relu()))


class Unflattened(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(5, 64), nn.Unflatten(1, (4, 4, 4)), nn.ReLU(), nn.Conv2d(4, 3, 3))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Linear(8, 4)
        self.up = nn.Linear(4, 8)
        self.b = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.a(x))
        n, c, _, _ = x.shape
        gate = self.up(F.relu(self.down(self.pool(x).view(n, c))))
        return self.b(x * torch.sigmoid(gate).view(n, c, 1, 1))


def shuffled(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class ShuffleDense(nn.Module):
    """A shuffle between dense convolutions: every channel may go by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(shuffled(self.a(x).relu(), 2))


class ShuffleGrouped(nn.Module):
    """A shuffle between grouped convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 1)
        self.a = nn.Conv2d(12, 12, 1, groups=2)
        self.dw = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.b = nn.Conv2d(12, 12, 1, groups=2)
        self.head = nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.dw(shuffled(self.a(self.stem(x)).relu(), 2))))


class ShuffleModule(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 12, 1), nn.ChannelShuffle(3), nn.BatchNorm2d(12), nn.Conv2d(12, 4, 1))


class PixelShuffleNet(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1),
            nn.PixelUnshuffle(2), nn.Conv2d(24, 3, 1),
        )  # fmt: skip


class PixelShuffleOut(nn.Sequential):
    """Super resolution: the shuffle makes the output, nothing before it can change."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2))


class GroupNormNet(nn.Sequential):
    """Few wide groups, many narrow ones, one group."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 12, 1), nn.GroupNorm(2, 12), nn.ReLU(), nn.Conv2d(12, 16, 1), nn.GroupNorm(8, 16),
            nn.GELU(), nn.Conv2d(16, 6, 1), nn.GroupNorm(1, 6), nn.Conv2d(6, 3, 1),
        )  # fmt: skip


class FusedAttention(nn.Module):
    """Heads in a fused projection, sizes taken from the input."""

    def __init__(self, dim: int = 12, heads: int = 3, width: int = 4) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.scale = heads, width, width**-0.5
        self.qkv = nn.Linear(dim, 3 * heads * width)
        self.proj = nn.Linear(heads * width, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = ((q @ k.transpose(-2, -1)) * self.scale).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, self.num_heads * self.head_dim))


class AttentionNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 12)
        self.attn = FusedAttention()
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head((x + self.attn(x)).mean(1))


class SeparateAttention(nn.Module):
    """Separate projections, `scaled_dot_product_attention`, sizes divided from the input's."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 12)
        self.heads = 2
        self.q, self.k, self.v = nn.Linear(12, 8), nn.Linear(12, 8), nn.Linear(12, 8)
        self.out = nn.Linear(8, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.head(x + self.out(y.transpose(1, 2).flatten(2)))


class SingleHead(nn.Module):
    """One head: the width of queries and keys is a chain of its own, that of the values another."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(5, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        return self.out(F.scaled_dot_product_attention(q, k, v))


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 1)
        self.b = nn.Conv2d(6, 6, 3, padding=1)
        self.c = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.relu(self.b(F.relu(self.a(x)))))))


class OneChannel(nn.Module):
    """A spatial attention map of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.map = nn.Conv2d(8, 1, 3, padding=1)
        self.b = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        return self.b(x * torch.sigmoid(self.map(x)))


class TiedEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.mid = nn.Linear(8, 12)
        self.back = nn.Linear(12, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.head(x + self.back(F.gelu(self.mid(x))))


class TiedAutoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 9))
        self.bias = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.weight, self.bias).relu(), self.weight.t())


class MeanSpatial(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 7, 3)
        self.b = nn.Linear(7, 5)
        self.c = nn.Linear(14, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(torch.cat([x.mean(dim=[2, 3]), x.amax((-1, -2))], dim=1)) + self.b(x.mean((2, 3)))[:, :3]


class MultiheadModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        y, _ = self.attn(x, x, x)
        return self.down(F.relu(self.up(x + y)))


class LayerNormNet(nn.Module):
    """Pre-norm block with a position table and a layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.position = nn.Parameter(torch.randn(1, 7, 8))
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)
        self.gamma = nn.Parameter(torch.randn(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.position
        x = x + self.gamma * self.down(F.gelu(self.up(self.norm(x))))
        return self.head(x[:, 0])


class Mixer(nn.Module):
    """Layers along tokens and along channels."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.tokens = nn.Linear(7, 7)
        self.up = nn.Linear(8, 12)
        self.down = nn.Linear(12, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.tokens(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.down(F.gelu(self.up(x)))
        return self.head(x.mean(1))


class Gated(nn.Module):
    """A gated linear unit and an outer product that must stay."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 16)
        self.b = nn.Linear(8, 6)
        self.c = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.tanh(self.b(F.glu(self.a(x), dim=-1))))


class RecurrentNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.rnn = nn.LSTM(8, 6, batch_first=True)
        self.up = nn.Linear(6, 10)
        self.down = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.embed(x))
        return self.down(self.up(y[:, -1]).relu())


class ChannelSoftmax(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 1)
        self.b = nn.Conv2d(6, 8, 1)
        self.c = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x)).softmax(1))


class FunctionalConv(nn.Module):
    """Weights held by the module itself."""

    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(8, 3, 3, 3) * 0.2)
        self.w2 = nn.Parameter(torch.randn(8, 1, 3, 3) * 0.2)
        self.scale = nn.Parameter(torch.randn(1, 8, 1, 1))
        self.b2 = nn.Parameter(torch.randn(8))
        self.w3 = nn.Parameter(torch.randn(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.w1, padding=1) * self.scale
        x = F.conv2d(x, self.w2, self.b2, padding=1, groups=8)
        return F.dropout(x, 0.5, self.training).mean((2, 3)) @ self.w3


def image(size: int = 8) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def tokens(length: int = 7, width: int = 5) -> Tensor:
    return torch.randn(2, length, width, generator=torch.Generator().manual_seed(0))


def flat(width: int) -> Tensor:
    return torch.randn(2, width, generator=torch.Generator().manual_seed(0))


SMALL: dict[str, tuple[type[nn.Module], Tensor]] = {
    "mlp": (Mlp, flat(6)),
    "residual_add": (ResidualAdd, image()),
    "padded_shortcut": (PaddedShortcut, image()),
    "cat": (Cat, image()),
    "cat_then_add": (CatThenAdd, image()),
    "chunk_cat": (ChunkCat, image()),
    "uneven_split": (UnevenSplit, image()),
    "slice_channels": (SliceChannels, image()),
    "depthwise": (Depthwise, image()),
    "depthwise_multiplier": (DepthwiseMultiplier, image()),
    "grouped_conv": (GroupedConv, image()),
    "flatten_2d": (Flatten2d, image()),
    "flatten_1d": (Flatten1d, torch.randn(2, 2, 10, generator=torch.Generator().manual_seed(0))),
    "hard_coded_view": (HardCodedView, image()),
    "linear_view_conv": (LinearViewConv, flat(5)),
    "unflatten": (Unflattened, flat(5)),
    "squeeze_excite": (SqueezeExcite, image()),
    "shuffle_dense": (ShuffleDense, image()),
    "shuffle_grouped": (ShuffleGrouped, image()),
    "shuffle_module": (ShuffleModule, image()),
    "pixel_shuffle": (PixelShuffleNet, image()),
    "pixel_shuffle_out": (PixelShuffleOut, image()),
    "group_norm": (GroupNormNet, image()),
    "attention": (AttentionNet, tokens()),
    "separate_attention": (SeparateAttention, tokens()),
    "single_head": (SingleHead, tokens()),
    "called_twice": (CalledTwice, image()),
    "one_channel": (OneChannel, image()),
    "tied_embedding": (TiedEmbedding, torch.arange(12).reshape(2, 6) % 11),
    "tied_autoencoder": (TiedAutoencoder, flat(9)),
    "mean_spatial": (MeanSpatial, image()),
    "multihead_module": (MultiheadModule, tokens()),
    "layer_norm": (LayerNormNet, tokens()),
    "mixer": (Mixer, tokens()),
    "gated": (Gated, flat(5)),
    "recurrent": (RecurrentNet, tokens()),
    "channel_softmax": (ChannelSoftmax, image()),
    "functional": (FunctionalConv, image()),
}


class OuterProduct(nn.Module):
    """Two sets of channels meet side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(5, 6)
        self.c = nn.Linear(24, 8)
        self.d = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        outer = self.a(x)[:, :, None] * self.b(x)[:, None, :]
        return self.d(torch.relu(self.c(outer.flatten(1))))


class IndexPicks(nn.Module):
    """Channels picked by an index tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("pick", torch.tensor([6, 1, 3, 0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(self.a(x)[:, self.pick])))


class WeightNorm(nn.Module):
    """A layer whose weight is computed before use."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.utils.parametrizations.weight_norm(nn.Linear(5, 8))
        self.b, self.c = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


class UnknownOp(nn.Module):
    """An op without a rule in the middle of a network."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(7, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(torch.relu(self.b(torch.cdist(x, x))))


class WindowBias(nn.Module):
    """Heads with a learned bias that an index table spreads over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 2
        self.embed, self.qkv, self.proj = nn.Linear(5, 8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.table = nn.Parameter(torch.randn(13, 2))
        steps = torch.arange(7)
        self.register_buffer("index", steps[:, None] - steps[None, :] + 6)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, 4).permute(2, 0, 3, 1, 4).unbind(0)
        scores = torch.einsum("bhid,bhjd->bhij", q, k) * 0.5
        bias = self.table[self.index.view(-1)].view(7, 7, -1).permute(2, 0, 1)
        y = torch.matmul((scores + bias.unsqueeze(0)).softmax(-1), v)
        return self.head(x + self.proj(y.transpose(1, 2).reshape(b, n, self.heads * 4)))


class NormalisedCosine(nn.Module):
    """Features divided by their norm before a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.normalize(self.a(x), dim=-1))


class RmsNormGated(nn.Module):
    """RMS norm and a gated feed-forward, as in language models."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(5, 8), nn.RMSNorm(8)
        self.gate, self.up, self.down = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        y = self.norm(x)
        return self.head(x + self.down(F.silu(self.gate(y)) * self.up(y)))


class Asserted(nn.Module):
    """A size written into an assertion, and one in arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        assert x.shape[1] == 8
        return self.b(x) / x.shape[1]


class Permuted(nn.Module):
    """Channels permuted by an index that the model holds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(4, 3)
        self.register_buffer("order", torch.tensor([3, 1, 5, 0, 2, 4]))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(self.a(x)[:, self.order])))


SMALL.update(
    {
        "outer_product": (OuterProduct, flat(5)),
        "index_picks": (IndexPicks, flat(5)),
        "weight_norm": (WeightNorm, flat(5)),
        "unknown_op": (UnknownOp, tokens()),
        "window_bias": (WindowBias, tokens()),
        "normalised": (NormalisedCosine, flat(5)),
        "rms_norm": (RmsNormGated, tokens()),
        "asserted": (Asserted, image()),
        "permuted": (Permuted, flat(5)),
    }
)
