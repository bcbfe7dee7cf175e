"""Known architectures have known symmetry: the closed forms, on what both of PyTorch's exporters write."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache

import onnx
import pytest
import torch
from torch import nn

import lady_onnx as lady

from . import architectures as arch


def bits(sizes: Iterable[int]) -> float:
    """log2 of the product of the factorials."""
    return sum(math.lgamma(n + 1) for n in sizes) / math.log(2)


def vgg() -> tuple[nn.Module, tuple, list[int]]:
    # one group a hidden layer
    return arch.VGG((8, 12, 16), 5), (torch.randn(1, 3, 16, 16),), [8, 12, 16, 24]


def _resnet(block: type, counts: tuple[int, ...], widths: tuple[int, ...], stem: int, inner: list[int], first: bool):
    # a group a stage, tying every block's output and the shortcut, and the inner layers of each block;
    # the stem is stage one's stream where the first block has no projection
    net = arch.ResNet(block, counts, widths, stem, 5)
    sizes = list(widths) + ([] if first else [stem])
    for n, w in zip(counts, widths, strict=True):
        sizes += [w // d for d in inner] * n
    return net, (torch.randn(1, 3, 64, 64),), sizes


def resnet18() -> tuple[nn.Module, tuple, list[int]]:
    return _resnet(arch.Basic, (2, 2, 2, 2), (8, 12, 16, 20), 8, [1], True)


def resnet50() -> tuple[nn.Module, tuple, list[int]]:
    return _resnet(arch.Bottleneck, (3, 4, 6, 3), (16, 24, 32, 40), 8, [4, 4], False)


def mobilenet() -> tuple[nn.Module, tuple, list[int]]:
    # the stream of each stage, the expanded channels of each block (with their depthwise convolution), stem and head;
    # a block that expands by one works on the stem's own channels
    sizes, width = [8, 20], 8
    for expand, channels, blocks, _ in arch.MOBILENET_V2:
        sizes.append(channels)
        for _ in range(blocks):
            sizes += [width * expand] if expand > 1 else []
            width = channels
    return arch.MobileNetV2(8, 20, 5), (torch.randn(1, 3, 32, 32),), sizes


def c2f() -> tuple[nn.Module, tuple, list[int]]:
    # the first half; the second half, one residual stream; the inner layer of each bottleneck; the output
    return arch.C2f(3, 6, 10, 2), (torch.randn(1, 3, 8, 8),), [6, 6, 6, 6, 10]


def densenet() -> tuple[nn.Module, tuple, list[int]]:
    # every part of the concatenation keeps its own order
    return arch.Dense(8, 4, 6, 3, 5), (torch.randn(1, 3, 8, 8),), [8, *[4] * 3, *[6] * 3]


def _transformer(width: int, heads: int, hidden: int, layers: int) -> list[int]:
    # the stream; in each layer the hidden units, the heads, and in every head an order of the
    # query-key dimensions and one of the value dimensions
    return [width, *[hidden, heads, *[width // heads] * (2 * heads)] * layers]


def vit() -> tuple[nn.Module, tuple, list[int]]:
    net, inputs = arch.vit(24, 3, 20, 2, 5)
    return net, inputs, _transformer(24, 3, 20, 2)


def gpt2() -> tuple[nn.Module, tuple, list[int]]:
    net, inputs = arch.gpt2(24, 3, 20, 2, 30)
    return net, inputs, _transformer(24, 3, 20, 2)


CASES: dict[str, Callable[[], tuple[nn.Module, tuple, list[int]]]] = {
    f.__name__: f for f in (vgg, resnet18, resnet50, mobilenet, c2f, densenet, vit, gpt2)
}


@cache
def model(name: str, dynamo: bool) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    torch.manual_seed(0)
    net, inputs, sizes = CASES[name]()
    return arch.export(arch.randomise(net), *inputs, dynamo=dynamo), tuple(sizes)


@pytest.mark.parametrize("dynamo", [False, True], ids=["tracing", "dynamo"])
@pytest.mark.parametrize("name", CASES)
def test_closed_form(name: str, dynamo: bool) -> None:
    proto, sizes = model(name, dynamo)
    symmetry = lady.find_groups(proto)
    assert sorted(g.size for g in symmetry.groups) == sorted(sizes)
    assert symmetry.symmetry_bits == pytest.approx(bits(sizes))
    assert not symmetry.unknown_operators


@pytest.mark.parametrize("dynamo", [False, True], ids=["tracing", "dynamo"])
@pytest.mark.parametrize("name", CASES)
def test_law_and_exact_resync(name: str, dynamo: bool) -> None:
    proto, _ = model(name, dynamo)
    shuffled = lady.permute(proto, seed=1)
    assert lady.verify(proto, shuffled.model).equal
    result = lady.resync(proto, shuffled.model)
    assert result.max_weight_difference == 0
    assert result.outputs_preserved
