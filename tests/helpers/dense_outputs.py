"""Networks that answer for every place of a picture: detectors and segmenters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .architectures import Bottleneck, ResNet, conv_bn


class C2f(nn.Module):
    """A cross-stage block with a chunk.

    A convolution, halves, residual bottlenecks on the last half, all concatenated.
    """

    def __init__(self, i: int, half: int, o: int, n: int):
        super().__init__()
        self.first = conv_bn(i, 2 * half, 1, act=nn.SiLU())
        self.inner = nn.ModuleList(
            nn.Sequential(conv_bn(half, half, act=nn.SiLU()), conv_bn(half, half, act=nn.SiLU()))
            for _ in range(n)
        )
        self.last = conv_bn((2 + n) * half, o, 1, act=nn.SiLU())
        self.head = nn.Conv2d(o, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for m in self.inner:
            parts.append(parts[-1] + m(parts[-1]))
        return self.head(self.last(torch.cat(parts, 1)))


class DeepLabV3(nn.Module):
    """A ResNet-50 with dilation, pyramid pooling over rates, and a classifier of every pixel."""

    def __init__(self, widths: tuple[int, ...], stem: int, width: int, classes: int):
        super().__init__()
        self.backbone = ResNet(Bottleneck, (3, 4, 6, 3), widths, stem, classes)
        o = widths[-1]
        self.rates = nn.ModuleList([conv_bn(o, width, 1)])
        for rate in (2, 3, 4):
            conv = nn.Conv2d(o, width, 3, padding=rate, dilation=rate, bias=False)
            self.rates.append(nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU()))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn(o, width, 1))
        self.project = conv_bn(5 * width, width, 1)
        self.head = nn.Sequential(conv_bn(width, width), nn.Conv2d(width, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.backbone.body(self.backbone.stem(x))
        parts = [m(y) for m in self.rates]
        parts.append(
            nn.functional.interpolate(
                self.pool(y), size=y.shape[2:], mode="bilinear", align_corners=False
            )
        )
        y = self.head(self.project(torch.cat(parts, 1)))
        return nn.functional.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)


class C3(nn.Module):
    """YOLOv5's cross-stage block: two branches, bottlenecks on one, both concatenated."""

    def __init__(self, i: int, o: int, n: int, shortcut: bool = True):
        super().__init__()
        c = o // 2
        self.one, self.two, self.last = (
            conv_bn(a, b, 1, act=nn.SiLU()) for a, b in ((i, c), (i, c), (2 * c, o))
        )
        self.inner = nn.ModuleList(
            nn.Sequential(conv_bn(c, c, 1, act=nn.SiLU()), conv_bn(c, c, act=nn.SiLU()))
            for _ in range(n)
        )
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        for m in self.inner:
            y = y + m(y) if self.shortcut else m(y)
        return self.last(torch.cat([y, self.two(x)], 1))


class YOLOv5n(nn.Module):
    """YOLOv5n: backbone, pyramid, three detectors of 3 anchors.

    Its width is a parameter, 16 in the original.
    """

    def __init__(self, w: int, classes: int):
        super().__init__()

        def conv(i: int, o: int, k: int = 3, s: int = 2) -> nn.Module:
            return conv_bn(i * w, o * w, k, s, act=nn.SiLU())

        stem = nn.Sequential(nn.Conv2d(3, w, 6, 2, 2, bias=False), nn.BatchNorm2d(w), nn.SiLU())
        self.p3 = nn.Sequential(
            stem, conv(1, 2), C3(2 * w, 2 * w, 1), conv(2, 4), C3(4 * w, 4 * w, 2)
        )
        self.p4 = nn.Sequential(conv(4, 8), C3(8 * w, 8 * w, 3))
        self.p5 = nn.Sequential(conv(8, 16), C3(16 * w, 16 * w, 1))
        self.before, self.after = conv(16, 8, 1, 1), conv(32, 16, 1, 1)
        self.lateral5, self.lateral4 = conv(16, 8, 1, 1), conv(8, 4, 1, 1)
        self.top4, self.top3 = C3(16 * w, 8 * w, 1, False), C3(8 * w, 4 * w, 1, False)
        self.down3, self.down4 = conv(4, 4), conv(8, 8)
        self.out4, self.out5 = C3(8 * w, 8 * w, 1, False), C3(16 * w, 16 * w, 1, False)
        self.heads = nn.ModuleList(nn.Conv2d(c * w, 3 * (5 + classes), 1) for c in (4, 8, 16))
        self.anchors = nn.Parameter(torch.rand(3, 1, 3, 1, 1, 2))

    def forward(self, x: Tensor) -> Tensor:
        p3 = self.p3(x)
        p4 = self.p4(p3)
        y = self.before(self.p5(p4))
        pools = [y]
        for _ in range(3):
            pools.append(nn.functional.max_pool2d(pools[-1], 5, 1, 2))
        up = nn.functional.interpolate
        l5 = self.lateral5(self.after(torch.cat(pools, 1)))
        l4 = self.lateral4(self.top4(torch.cat([up(l5, scale_factor=2.0), p4], 1)))
        n3 = self.top3(torch.cat([up(l4, scale_factor=2.0), p3], 1))
        n4 = self.out4(torch.cat([self.down3(n3), l4], 1))
        n5 = self.out5(torch.cat([self.down4(n4), l5], 1))
        found = []
        for k, (head, feature) in enumerate(zip(self.heads, (n3, n4, n5), strict=True)):
            b, _, h, v = feature.shape
            y = head(feature).view(b, 3, -1, h, v).permute(0, 1, 3, 4, 2).sigmoid()
            grid = torch.stack(
                torch.meshgrid(torch.arange(h), torch.arange(v), indexing="ij")[::-1], -1
            )
            place = (y[..., :2] * 2 - 0.5 + grid) * 8 * 2**k
            size = (y[..., 2:4] * 2) ** 2 * self.anchors[k]
            found.append(torch.cat([place, size, y[..., 4:]], -1).view(b, -1, y.shape[-1]))
        return torch.cat(found, 1)


class UNet(nn.Module):
    """Down, up by pixel shuffle and transposed convolution, concatenated skips, group norm."""

    def __init__(self, a: int, b: int, c: int, groups: int, classes: int):
        super().__init__()

        def block(i: int, o: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(groups, o), nn.SiLU())

        self.one, self.two, self.three = block(3, a), block(a, b), block(b, c)
        self.up = nn.ConvTranspose2d(c, b, 2, 2)
        self.mid = block(2 * b, b)
        self.wide = nn.Conv2d(b, 4 * a, 1)
        self.last = nn.Sequential(block(2 * a, a), nn.Conv2d(a, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        pool = nn.functional.max_pool2d
        one = self.one(x)
        two = self.two(pool(one, 2))
        y = self.mid(torch.cat([self.up(self.three(pool(two, 2))), two], 1))
        y = nn.functional.pixel_shuffle(self.wide(y), 2)
        return self.last(torch.cat([y, one], 1))
