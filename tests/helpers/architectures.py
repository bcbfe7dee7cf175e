"""Small random networks as PyTorch modules, and both of PyTorch's ONNX exporters."""

from __future__ import annotations

import io
import warnings
from typing import Any

import onnx
import torch
from torch import Tensor, nn


def export(module: nn.Module, *inputs: Tensor, dynamo: bool, **names: list[str]) -> onnx.ModelProto:
    """The ONNX model of `module` by the tracing exporter, or by the one over torch.export."""
    module = module.eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(module, inputs, dynamo=True, verbose=False, **names)
            assert program is not None
            return program.model_proto
        buffer = io.BytesIO()
        torch.onnx.export(module, inputs, buffer, dynamo=False, opset_version=17, **names)
        return onnx.load_from_string(buffer.getvalue())


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Gives each parameter and running statistic random values, none constant along an axis."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            spread = 1.0 if tensor.ndim < 2 else (tensor.numel() / tensor.shape[0]) ** -0.5
            tensor.copy_(
                torch.randn(tensor.shape, generator=generator)
                * spread
                * (0.3 if tensor.ndim < 2 else 1.0)
            )
            if tensor.ndim < 2:
                tensor.add_(0.8)
        for name, buffer in module.named_buffers():
            if "running_mean" in name:
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
            if "running_var" in name:
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return module


def conv_bn(
    i: int, o: int, k: int = 3, s: int = 1, g: int = 1, act: nn.Module | None = None
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), act or nn.ReLU()
    )


class VGG(nn.Sequential):
    """Convolutions with BatchNorm and a dense head; a width of 0 is a pooling."""

    def __init__(self, plan: tuple[int, ...], classes: int):
        layers: list[nn.Module] = []
        i = 3
        for o in plan:
            if o:
                layers += [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU()]
                i = o
            else:
                layers.append(nn.MaxPool2d(2))
        super().__init__(
            *layers, nn.Flatten(), nn.Linear(i * 4, 24), nn.ReLU(), nn.Linear(24, classes)
        )


class Basic(nn.Module):
    def __init__(self, i: int, o: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(i, o, 3, stride), nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        )
        same = i == o and stride == 1
        self.short = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.short(x))


class Bottleneck(nn.Module):
    def __init__(self, i: int, o: int, stride: int):
        super().__init__()
        m = o // 4
        self.body = nn.Sequential(
            conv_bn(i, m, 1),
            conv_bn(m, m, 3, stride),
            nn.Conv2d(m, o, 1, bias=False),
            nn.BatchNorm2d(o),
        )
        same = i == o and stride == 1
        self.short = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.short(x))


class ResNet(nn.Module):
    def __init__(
        self, block: Any, counts: tuple[int, ...], widths: tuple[int, ...], stem: int, classes: int
    ):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, stem, 7, 2), nn.MaxPool2d(3, 2, 1))
        layers: list[nn.Module] = []
        i = stem
        for stage, (n, o) in enumerate(zip(counts, widths, strict=True)):
            for k in range(n):
                layers.append(block(i, o, 2 if k == 0 and stage else 1))
                i = o
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(i, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Inverted(nn.Module):
    def __init__(self, i: int, o: int, stride: int, expand: int):
        super().__init__()
        m = i * expand
        first = [] if expand == 1 else [conv_bn(i, m, 1, act=nn.ReLU6())]
        depth = conv_bn(m, m, 3, stride, m, nn.ReLU6())
        self.body = nn.Sequential(*first, depth, nn.Conv2d(m, o, 1, bias=False), nn.BatchNorm2d(o))
        self.skip = stride == 1 and i == o

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.skip else self.body(x)


MOBILENET_V2 = ((1, 4, 1, 1), (6, 6, 2, 2), (6, 8, 3, 2), (6, 10, 2, 1))
"""Expansion, channels, blocks, stride of each stage."""


class MobileNetV2(nn.Sequential):
    def __init__(
        self,
        stem: int,
        last: int,
        classes: int,
        plan: tuple[tuple[int, int, int, int], ...] = MOBILENET_V2,
    ):
        layers: list[nn.Module] = [conv_bn(3, stem, 3, 2, act=nn.ReLU6())]
        i = stem
        for t, c, n, s in plan:
            for k in range(n):
                layers.append(Inverted(i, c, s if k == 0 else 1, t))
                i = c
        head = [
            conv_bn(i, last, 1, act=nn.ReLU6()),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(last, classes),
        ]
        super().__init__(*layers, *head)


class Dense(nn.Module):
    """A DenseNet block: every layer sees the concatenation of all before it."""

    def __init__(self, stem: int, growth: int, bottleneck: int, n: int, classes: int):
        super().__init__()
        self.stem = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        widths = [stem + k * growth for k in range(n)]
        self.layers = nn.ModuleList(
            nn.Sequential(
                *(nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, bottleneck, 1, bias=False)),
                *(
                    nn.BatchNorm2d(bottleneck),
                    nn.ReLU(),
                    nn.Conv2d(bottleneck, growth, 3, padding=1, bias=False),
                ),
            )
            for w in widths
        )
        total = stem + n * growth
        self.norm = nn.BatchNorm2d(total)
        self.head = nn.Linear(total, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.head(torch.relu(self.norm(torch.cat(features, 1))).mean((2, 3)))


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, c: int, m: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(c, m, 1),
            nn.ReLU(),
            nn.Conv2d(m, c, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.body(x)


MOBILENET_V3 = (
    *(
        (16, 16, True, False, 2),
        (72, 24, False, False, 2),
        (88, 24, False, False, 1),
        (96, 40, True, True, 2),
    ),
    *(
        (240, 40, True, True, 1),
        (240, 40, True, True, 1),
        (120, 48, True, True, 1),
        (144, 48, True, True, 1),
    ),
    *((288, 96, True, True, 2), (576, 96, True, True, 1), (576, 96, True, True, 1)),
)
"""MobileNetV3-small's blocks: expanded channels, channels, gate, hard swish or ReLU, stride."""


class MobileNetV3(nn.Module):
    def __init__(self, stem: int, last: int, hidden: int, classes: int):
        super().__init__()
        self.stem = conv_bn(3, stem, 3, 2, act=nn.Hardswish())
        self.blocks = nn.ModuleList()
        i = stem
        for m, o, gate, swish, stride in MOBILENET_V3:
            act = nn.Hardswish if swish else nn.ReLU
            layers = [conv_bn(i, m, 1, act=act())] if m != i else []
            layers.append(conv_bn(m, m, 3, stride, m, act()))
            layers += [Gate(m, m // 4)] if gate else []
            self.blocks.append(
                nn.Sequential(*layers, nn.Conv2d(m, o, 1, bias=False), nn.BatchNorm2d(o))
            )
            i = o
        self.last = conv_bn(i, last, 1, act=nn.Hardswish())
        self.head = nn.Sequential(
            nn.Linear(last, hidden), nn.Hardswish(), nn.Linear(hidden, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for (_, o, _, _, stride), block in zip(MOBILENET_V3, self.blocks, strict=True):
            x = x + block(x) if stride == 1 and x.shape[1] == o else block(x)
        return self.head(self.last(x).mean((2, 3)))


class ShuffleNet(nn.Module):
    """Grouped convolutions with a channel shuffle between them, in residual blocks."""

    def __init__(self, stem: int, m: int, groups: int, blocks: int, classes: int):
        super().__init__()
        self.stem = conv_bn(3, stem, 3, 2)
        self.groups = groups
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                [
                    conv_bn(stem, m, 1, 1, groups),
                    conv_bn(m, m, 3, 1, m, nn.Identity()),
                    conv_bn(m, stem, 1, 1, groups),
                ]
            )
            for _ in range(blocks)
        )
        self.head = nn.Linear(stem, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for first, depth, last in self.blocks:
            y = first(x)
            b, c, h, w = y.shape
            y = y.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)
            x = torch.relu(x + last(depth(y)))
        return self.head(x.mean((2, 3)))


class Recurrent(nn.Module):
    """Two layers of LSTM, GRU or RNN, in both directions, with initial states."""

    def __init__(self, kind: str, i: int, h: int, words: int):
        super().__init__()
        self.embed = nn.Embedding(words, i)
        self.body = getattr(nn, kind)(i, h, num_layers=2, bidirectional=True, batch_first=True)
        states = 2 if kind == "LSTM" else 1
        self.start = nn.ParameterList(nn.Parameter(torch.randn(4, 1, h)) for _ in range(states))
        self.head = nn.Linear(2 * h, words)

    def forward(self, x: Tensor) -> Tensor:
        start = tuple(self.start) if len(self.start) > 1 else self.start[0]
        return self.head(self.body(self.embed(x), start)[0])
