"""Odd corners: nothing here may crash, and what is found must hold."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ODD: dict[str, tuple[type[nn.Module], Tensor]] = {}
img = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
tok = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))


def reg(inputs: Tensor) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Put a model with its inputs into the table."""

    def add(cls: type[nn.Module]) -> type[nn.Module]:
        ODD[cls.__name__] = (cls, inputs)
        return cls

    return add


@reg(img)
class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1))
        self.p = nn.Conv2d(3, 2, 1)
        self.h = nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.a(x), self.b(x), self.p(F.avg_pool2d(x, 3, 1, 1))], 1)
        return self.h(F.adaptive_max_pool2d(y, 1).squeeze())


@reg(img)
class SK(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(3, 8, 5, padding=2)
        self.f = nn.Linear(8, 4)
        self.g = nn.Linear(4, 16)
        self.h = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        u = torch.stack([a, b], 1)
        z = self.f(u.sum(1).mean((-1, -2)))
        w = self.g(z).view(-1, 2, 8).softmax(1)[..., None, None]
        return self.h((u * w).sum(1))


@reg(img)
class Ghost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 1)
        self.c = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.h = nn.Conv2d(12, 4, 1)
        self.o = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        y = torch.cat([a, self.c(a)], 1)
        return self.o(self.h(y[:, :12, :, :]))


@reg(img)
class Cbam(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.m = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1))
        self.sp = nn.Conv2d(2, 1, 3, padding=1)
        self.o = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        g = torch.sigmoid(self.m(F.adaptive_avg_pool2d(x, 1)) + self.m(F.adaptive_max_pool2d(x, 1)))
        x = x * g
        sp = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return self.o(x * torch.sigmoid(self.sp(sp)))


@reg(tok)
class LinAttn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Linear(5, 8)
        self.qkv = nn.Linear(8, 24, bias=False)
        self.p = nn.Linear(8, 8)
        self.o = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.e(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k, v = [t.reshape(b, n, 2, 4).transpose(1, 2) for t in (q, k, v)]
        k = k.softmax(-2)
        q = F.elu(q) + 1
        ctx = k.transpose(-2, -1) @ v
        y = (q @ ctx).transpose(1, 2).reshape(b, n, -1)
        return self.o(x + self.p(y))


@reg(tok)
class EncLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Linear(5, 8)
        self.t = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.o = nn.Linear(8, 6)
        self.z = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.z(self.o(self.t(self.e(x))))


@reg(img)
class WeightStd(nn.Module):
    class C(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            w = self.weight
            m = w.mean((1, 2, 3), keepdim=True)
            v = w.std((1, 2, 3), keepdim=True)
            return F.conv2d(x, (w - m) / (v + 1e-5), self.bias, self.stride, self.padding)

    def __init__(self) -> None:
        super().__init__()
        self.a = WeightStd.C(3, 8, 3, padding=1)
        self.b = WeightStd.C(8, 6, 3)
        self.c = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.relu(self.a(x)))))


@reg(torch.randn(1, 2, 6, 6, 6))
class C3d(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv3d(2, 6, 3),
            nn.InstanceNorm3d(6),
            nn.ReLU(),
            nn.ConvTranspose3d(6, 4, 2, groups=2),
            nn.InstanceNorm3d(4, affine=True),
            nn.Conv3d(4, 2, 1),
        )


@reg(img)
class Lrn(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3), nn.LocalResponseNorm(3), nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1))


@reg(img)
class Repeats(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Conv2d(8, 6, 1)
        self.c = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).repeat_interleave(2, dim=1)
        x = self.b(x)
        return self.c(x.repeat(1, 2, 1, 1))


@reg(img)
class Sizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Linear(4 * 64, 8)
        self.c = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(F.relu(self.b(x.view(x.size(0), -1)))) * (x.shape[1] ** -0.5)


@reg(img)
class Std(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Linear(8, 8)
        self.c = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).flatten(2)
        return self.c(self.b(torch.cat([x.mean(-1), x.std(-1)], 1)).relu())


@reg(tok)
class GQA(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(5, 16)
        self.k = nn.Linear(5, 8)
        self.v = nn.Linear(5, 8)
        self.o = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q = self.q(x).view(b, n, 4, 4).transpose(1, 2)
        k = self.k(x).view(b, n, 2, 4).transpose(1, 2).repeat_interleave(2, 1)
        v = self.v(x).view(b, n, 2, 4).transpose(1, 2).repeat_interleave(2, 1)
        return self.o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, n, 16))


@reg(torch.randn(2, 4, 8, 8))
class Swin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Conv2d(4, 8, 1)
        self.n = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.p = nn.Linear(8, 8)
        self.red = nn.Linear(32, 12, bias=False)
        self.n2 = nn.LayerNorm(32)
        self.h = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.e(x).permute(0, 2, 3, 1)
        B, H, W, C = x.shape
        sh = x
        x = torch.roll(self.n(x), (-2, -2), (1, 2))
        w = x.view(B, H // 4, 4, W // 4, 4, C).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, C)
        q, k, v = self.qkv(w).reshape(-1, 16, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        a = (q * 0.5) @ k.transpose(-2, -1)
        y = (a.softmax(-1) @ v).transpose(1, 2).reshape(-1, 16, 8)
        y = self.p(y)
        y = y.view(B, H // 4, W // 4, 4, 4, -1).permute(0, 1, 3, 2, 4, 5).reshape(B, H, W, -1)
        x = sh + torch.roll(y, (2, 2), (1, 2))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.h(self.red(self.n2(x)).mean((1, 2)))


@reg(img)
class Bilin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Conv2d(3, 6, 1)
        self.f = nn.Linear(24, 8)
        self.g = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).flatten(2)
        b = self.b(x).flatten(2)
        return self.g(self.f(torch.bmm(a, b.transpose(1, 2)).flatten(1)).relu())


@reg(img)
class Coord(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 1)
        self.b = nn.Conv2d(8, 6, 1)
        self.c = nn.Conv2d(6, 2, 1)
        self.register_buffer("grid", torch.randn(1, 2, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        g = self.grid.expand(x.shape[0], -1, -1, -1)
        return self.c(self.b(torch.cat([x, g], 1)).relu())


@reg(img)
class InplaceAdd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 1)
        self.b = nn.Conv2d(6, 6, 1)
        self.c = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = F.relu(x, inplace=True)
        x += self.b(y)
        return self.c(x.mul_(2.0).clamp(min=0).pow(2))


@reg(img)
class Unfold(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Linear(36, 5)
        self.c = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(F.unfold(self.a(x), 3).transpose(1, 2)).relu())


@reg(img)
class HardExpand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.g = nn.Linear(4, 4)
        self.c = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        g = self.g(x.mean((2, 3))).reshape(2, 4, 1, 1).expand(2, 4, 8, 8)
        return self.c(x * g)


@reg(tok)
class Memory(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Linear(5, 8)
        self.keys = nn.Parameter(torch.randn(10, 8))
        self.vals = nn.Parameter(torch.randn(10, 6))
        self.o = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.e(x)
        return self.o((x @ self.keys.t()).softmax(-1) @ self.vals)


@reg(img)
class ChanMeanSub(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.c = nn.Conv2d(4, 5, 1)
        self.d = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x - x.mean(1, keepdim=True)
        return self.d(self.c(x))


@reg(img)
class GlobalNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.n = nn.LayerNorm([4, 8, 8])
        self.g = nn.Parameter(torch.randn(1, 1, 1, 4))
        self.d = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.n(self.a(x))
        x = x.permute(0, 2, 3, 1)
        gx = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        nx = gx / (gx.mean(dim=-1, keepdim=True) + 1e-6)
        x = self.g * (x * nx) + x
        return self.d(x.permute(0, 3, 1, 2))


@reg(img)
class MeanAllGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.c = nn.Conv2d(4, 5, 1)
        self.d = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x * x.mean()
        return self.d(self.c(x))


@reg(img)
class Crop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 1)
        self.b = nn.Conv2d(6, 4, 1)
        self.d = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = F.pad(self.b(x[:, :, 1:-1, 1:-1]), (1, 1, 1, 1), mode="reflect")
        return self.d(y + torch.narrow(x, 1, 1, 4))


@reg(img)
class Interleave(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(4, 6, 1)
        self.c = nn.Conv2d(4, 6, 1)
        self.d = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.d(self.b(x[:, 0::2]) + self.c(x[:, 1::2]))


@reg(img)
class GConvTranspose(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.u = nn.ConvTranspose2d(8, 8, 2, 2, groups=8)
        self.v = nn.ConvTranspose2d(8, 12, 2, 2, groups=4)
        self.d = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.v(self.u(self.a(x)).relu()))


@reg(img)
class ComplexFFT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Conv2d(4, 5, 1)
        self.d = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.d(self.b(torch.fft.rfft2(x).abs()))


@reg(img)
class Checker(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.a = nn.Conv2d(3, 4, 1)
        self.d = nn.Conv2d(4, 2, 1)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(self.bn(x))
        z = torch.where(y > 0, y, torch.zeros_like(y))
        return self.d(torch.maximum(z, y * 0.1))
