"""Learned compression networks and a network without multiplications, as plain PyTorch modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GDN(nn.Module):
    """Generalised divisive normalisation (Ballé et al. 2016).

    Its parameters are kept positive by a bound, as codecs do.
    """

    def __init__(self, c: int, inverse: bool = False):
        super().__init__()
        self.beta = nn.Parameter(torch.rand(c) + 1)
        self.gamma = nn.Parameter(torch.rand(c, c))
        self.inverse, self.pedestal, self.bound = inverse, 2.0**-36, 2.0**-18

    def positive(self, x: Tensor) -> Tensor:
        return torch.maximum(x, torch.tensor(self.bound)) ** 2 - self.pedestal

    def forward(self, x: Tensor) -> Tensor:
        c = self.gamma.shape[0]
        norm = F.conv2d(
            x * x, self.positive(self.gamma).reshape(c, c, 1, 1), self.positive(self.beta)
        )
        return x * (torch.sqrt(norm) if self.inverse else torch.rsqrt(norm))


def down(i: int, o: int, k: int = 5) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, 2, k // 2)


def up(i: int, o: int, k: int = 5) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(i, o, k, 2, k // 2, 1)


class Hyperprior(nn.Module):
    """The scale hyperprior codec (Ballé et al. 2018), its parts apart.

    Analysis, synthesis, and both for the scales. `n` are the widths of its hidden layers, one for
    all or, as channel pruning leaves them, one each.
    """

    def __init__(self, n: int | tuple[int, int, int, int, int, int, int], m: int):
        super().__init__()
        a, b, c, d, e, f, g = (n,) * 7 if isinstance(n, int) else n
        self.analysis = nn.Sequential(down(3, a), GDN(a), down(a, b), GDN(b), down(b, m))
        self.synthesis = nn.Sequential(up(m, c), GDN(c, True), up(c, d), GDN(d, True), up(d, 3))
        self.hyper_analysis = nn.Sequential(nn.Conv2d(m, e, 3, 1, 1), nn.ReLU(), down(e, f))
        self.hyper_synthesis = nn.Sequential(
            up(f, g), nn.ReLU(), nn.Conv2d(g, m, 3, 1, 1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.analysis(x)
        scales = self.hyper_synthesis(torch.round(self.hyper_analysis(torch.abs(y))))
        likelihood = torch.exp(-torch.abs(torch.round(y)) / (scales + 0.1))
        return self.synthesis(torch.round(y)), likelihood.sum((1, 2, 3))


class VideoCodec(nn.Module):
    """A DVC-like codec (Lu et al. 2019): flow, its codec, warping, compensation, residual codec."""

    def __init__(self, n: int, m: int, flow: int):
        super().__init__()
        self.flow = nn.Sequential(
            nn.Conv2d(6, flow, 7, 1, 3), nn.ReLU(), nn.Conv2d(flow, 2, 7, 1, 3)
        )
        self.motion = nn.Sequential(down(2, n, 3), GDN(n), down(n, m, 3))
        self.motion_back = nn.Sequential(up(m, n, 3), GDN(n, True), up(n, 2, 3))
        self.first = nn.Conv2d(6, n, 3, 1, 1)
        self.block = nn.Sequential(
            nn.ReLU(), nn.Conv2d(n, n, 3, 1, 1), nn.ReLU(), nn.Conv2d(n, n, 3, 1, 1)
        )
        self.last = nn.Conv2d(n, 3, 3, 1, 1)
        self.residual = nn.Sequential(down(3, n), GDN(n), down(n, m))
        self.residual_back = nn.Sequential(up(m, n), GDN(n, True), up(n, 3))

    def forward(self, now: Tensor, before: Tensor) -> Tensor:
        b, _, h, w = now.shape
        flow = self.motion_back(torch.round(self.motion(self.flow(torch.cat([now, before], 1)))))
        y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        grid = torch.stack([x, y], -1).expand(b, h, w, 2) + flow.permute(0, 2, 3, 1)
        warped = F.grid_sample(before, grid, align_corners=True)
        y = self.first(torch.cat([warped, before], 1))
        predicted = warped + self.last(y + self.block(y))
        return predicted + self.residual_back(torch.round(self.residual(now - predicted)))


class MinConv(nn.Module):
    """A layer that compares and does not multiply.

    It sums the sign and the smaller magnitude of weight and input.
    """

    def __init__(self, i: int, o: int, k: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(o, i * k * k))
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = F.pad(x, [self.k // 2] * 4)
        patches = torch.cat(
            [x[:, :, dy : dy + h, dx : dx + w] for dy in range(self.k) for dx in range(self.k)], 1
        )
        patches = (
            patches.reshape(b, self.k**2, c, h * w)
            .transpose(1, 2)
            .reshape(b, 1, c * self.k**2, h * w)
        )
        weight = self.weight.reshape(1, *self.weight.shape, 1)
        signs = torch.sign(patches) * torch.sign(weight)
        return (
            (signs * torch.minimum(torch.abs(patches), torch.abs(weight)))
            .sum(2)
            .reshape(b, -1, h, w)
        )


class MinConvNet(nn.Module):
    def __init__(self, a: int, b: int, classes: int):
        super().__init__()
        self.body = nn.Sequential(MinConv(3, a, 3), nn.ReLU(), MinConv(a, b, 3), nn.ReLU())
        self.head = MinConv(b, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)).mean((2, 3))
