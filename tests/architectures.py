"""Small random networks as PyTorch modules, and both of PyTorch's ONNX exporters."""

from __future__ import annotations

import io
import warnings
from typing import Any

import onnx
import torch
from torch import Tensor, nn


def export(module: nn.Module, *inputs: Tensor, dynamo: bool) -> onnx.ModelProto:
    """The ONNX model of `module` by the tracing exporter, or by the one over torch.export."""
    module = module.eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(module, inputs, dynamo=True, verbose=False)
            assert program is not None
            return program.model_proto
        buffer = io.BytesIO()
        torch.onnx.export(module, inputs, buffer, dynamo=False, opset_version=17)
        return onnx.load_from_string(buffer.getvalue())


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every parameter and every running statistic its own random values, none constant along an axis."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            spread = 1.0 if tensor.ndim < 2 else (tensor.numel() / tensor.shape[0]) ** -0.5
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread * (0.3 if tensor.ndim < 2 else 1.0))
            if tensor.ndim < 2:
                tensor.add_(0.8)
        for name, buffer in module.named_buffers():
            if "running_mean" in name:
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
            if "running_var" in name:
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return module


def conv_bn(i: int, o: int, k: int = 3, s: int = 1, g: int = 1, act: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), act or nn.ReLU())


class VGG(nn.Sequential):
    def __init__(self, widths: tuple[int, ...], classes: int):
        layers: list[nn.Module] = []
        for i, o in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)]
        super().__init__(*layers, nn.Flatten(), nn.Linear(widths[-1] * 4, 24), nn.ReLU(), nn.Linear(24, classes))


class Basic(nn.Module):
    def __init__(self, i: int, o: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(conv_bn(i, o, 3, stride), nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o))
        same = i == o and stride == 1
        self.short = nn.Identity() if same else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.short(x))


class Bottleneck(nn.Module):
    def __init__(self, i: int, o: int, stride: int):
        super().__init__()
        m = o // 4
        self.body = nn.Sequential(conv_bn(i, m, 1), conv_bn(m, m, 3, stride), nn.Conv2d(m, o, 1, bias=False), nn.BatchNorm2d(o))
        same = i == o and stride == 1
        self.short = nn.Identity() if same else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.short(x))


class ResNet(nn.Module):
    def __init__(self, block: Any, counts: tuple[int, ...], widths: tuple[int, ...], stem: int, classes: int):
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
    def __init__(self, stem: int, last: int, classes: int):
        layers: list[nn.Module] = [conv_bn(3, stem, 3, 2, act=nn.ReLU6())]
        i = stem
        for t, c, n, s in MOBILENET_V2:
            for k in range(n):
                layers.append(Inverted(i, c, s if k == 0 else 1, t))
                i = c
        head = [conv_bn(i, last, 1, act=nn.ReLU6()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes)]
        super().__init__(*layers, *head)


class C2f(nn.Module):
    """A cross-stage block with a chunk: convolution, halves, residual bottlenecks on the last half, all concatenated."""

    def __init__(self, i: int, half: int, o: int, n: int):
        super().__init__()
        self.first = conv_bn(i, 2 * half, 1, act=nn.SiLU())
        self.inner = nn.ModuleList(
            nn.Sequential(conv_bn(half, half, act=nn.SiLU()), conv_bn(half, half, act=nn.SiLU())) for _ in range(n)
        )
        self.last = conv_bn((2 + n) * half, o, 1, act=nn.SiLU())
        self.head = nn.Conv2d(o, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for m in self.inner:
            parts.append(parts[-1] + m(parts[-1]))
        return self.head(self.last(torch.cat(parts, 1)))


class Dense(nn.Module):
    """A DenseNet block: every layer sees the concatenation of all before it."""

    def __init__(self, stem: int, growth: int, bottleneck: int, n: int, classes: int):
        super().__init__()
        self.stem = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        widths = [stem + k * growth for k in range(n)]
        self.layers = nn.ModuleList(
            nn.Sequential(
                *(nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, bottleneck, 1, bias=False)),
                *(nn.BatchNorm2d(bottleneck), nn.ReLU(), nn.Conv2d(bottleneck, growth, 3, padding=1, bias=False)),
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


class Wrapped(nn.Module):
    """A transformers model as a function of plain tensors that returns one."""

    def __init__(self, model: nn.Module, output: str, *names: str):
        super().__init__()
        self.model, self.output, self.names = model, output, names

    def forward(self, *inputs: Tensor) -> Tensor:
        return getattr(self.model(**dict(zip(self.names, inputs, strict=True))), self.output)


def vit(width: int, heads: int, hidden: int, layers: int, classes: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        image_size=32,
        patch_size=8,
        num_labels=classes,
        attn_implementation="eager",
    )
    return Wrapped(ViTForImageClassification(config), "logits", "pixel_values"), (torch.randn(1, 3, 32, 32),)


def gpt2(width: int, heads: int, hidden: int, layers: int, words: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=width,
        n_head=heads,
        n_inner=hidden,
        n_layer=layers,
        vocab_size=words,
        n_positions=16,
        use_cache=False,
        attn_implementation="eager",
    )
    inputs = (torch.randint(0, words, (1, 7)), torch.ones(1, 7, dtype=torch.long))
    return Wrapped(GPT2LMHeadModel(config), "logits", "input_ids", "attention_mask"), inputs
