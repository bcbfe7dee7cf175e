"""Known architectures, each with the sizes of the groups that it must have by its closed form."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import torch
from torch import Tensor, nn

from . import architectures as arch
from . import codecs, dense_outputs, families
from .export_cache import read_or_make

TRACING, DYNAMO = "tracing", "dynamo"
Sizes = list[int]
Case = tuple[nn.Module, tuple[Tensor, ...], Sizes, dict[str, Sizes]]
"""The module, its inputs, its groups' sizes, and those that only one exporter's graph has."""


def image(size: int = 64) -> tuple[Tensor, ...]:
    return (torch.randn(1, 3, size, size),)


def vgg16() -> Case:
    # one group a hidden layer
    plan = (4, 4, 0, 6, 6, 0, 8, 8, 8, 0, 10, 10, 10, 0, 12, 12, 12)
    return arch.VGG(plan, 5), image(32), [*(n for n in plan if n), 24], {}


def _resnet(
    block: type,
    counts: tuple[int, ...],
    widths: tuple[int, ...],
    stem: int,
    inner: list[int],
    first: bool,
) -> Case:
    # a group a stage, tying every block's output and the shortcut, and the inner layers of each
    # block; the stem is stage one's stream where the first block has no projection
    net = arch.ResNet(block, counts, widths, stem, 5)
    sizes = list(widths) + ([] if first else [stem])
    for n, w in zip(counts, widths, strict=True):
        sizes += [w // d for d in inner] * n
    return net, image(), sizes, {}


def resnet18() -> Case:
    return _resnet(arch.Basic, (2, 2, 2, 2), (8, 12, 16, 20), 8, [1], True)


def resnet50() -> Case:
    return _resnet(arch.Bottleneck, (3, 4, 6, 3), (16, 24, 32, 40), 8, [4, 4], False)


def resnet101() -> Case:
    return _resnet(arch.Bottleneck, (3, 4, 23, 3), (16, 24, 32, 40), 8, [4, 4], False)


def mobilenet_v2() -> Case:
    # the stream of each stage, the expanded channels of each block (with their depthwise
    # convolution), stem and head; a block that expands by one works on the stem's own channels
    sizes, width = [8, 20], 8
    for expand, channels, blocks, _ in arch.MOBILENET_V2:
        sizes.append(channels)
        for _ in range(blocks):
            sizes += [width * expand] if expand > 1 else []
            width = channels
    return arch.MobileNetV2(8, 20, 5), image(32), sizes, {}


def mobilenet_v3() -> Case:
    # as V2; a gate adds its hidden layer and ties to the channels that it scales. A block of stride
    # one and equal width continues the stream, any other begins one; the first block works on the
    # stem's own channels
    sizes, width = [16, 64, 32], 16
    for m, o, gate, _, stride in arch.MOBILENET_V3:
        sizes += [m] if m != width else []
        sizes += [m // 4] if gate else []
        sizes += [o] if stride > 1 or o != width else []
        width = o
    return arch.MobileNetV3(16, 64, 32, 5), image(), sizes, {}


def deeplab_v3() -> Case:
    # ResNet-50's, then the five parts of the pyramid, their projection, and the head's hidden layer
    _, inputs, sizes, _ = resnet50()
    return dense_outputs.DeepLabV3((16, 24, 32, 40), 8, 12, 5), inputs, [*sizes, *[12] * 7], {}


def yolo_v5n() -> Case:
    # a group a convolution, but for residual bottlenecks, which add to the stream of their block
    def c3(o: int, n: int, shortcut: bool = True) -> Sizes:
        c = o // 2
        return [c, c, *([c] * n if shortcut else [c, c] * n), o]

    w = 4
    backbone = [
        w,
        2 * w,
        *c3(2 * w, 1),
        4 * w,
        *c3(4 * w, 2),
        8 * w,
        *c3(8 * w, 3),
        16 * w,
        *c3(16 * w, 1),
        8 * w,
        16 * w,
    ]
    top = [8 * w, *c3(8 * w, 1, False), 4 * w, *c3(4 * w, 1, False)]
    down = [4 * w, *c3(8 * w, 1, False), 8 * w, *c3(16 * w, 1, False)]
    return dense_outputs.YOLOv5n(w, 3), image(), [*backbone, *top, *down], {}


def c2f() -> Case:
    # first half; second half, one residual stream; inner layer of each bottleneck; the output
    return dense_outputs.C2f(3, 6, 10, 2), image(8), [6, 6, 6, 6, 10], {}


def densenet() -> Case:
    # every part of the concatenation keeps its own order
    return arch.Dense(8, 4, 6, 3, 5), image(8), [8, *[4] * 3, *[6] * 3], {}


def shufflenet() -> Case:
    # the stream's three conv groups of four channels; between two grouped convolutions channel
    # (g, g') lies in group g of the first and g' of the second, two channels a pair: nine orders a
    # block. The order of the groups is one for all, since a skip ties the last convolution's groups
    # to the first's
    return arch.ShuffleNet(12, 18, 3, 2, 5), image(), [3, *[4] * 3, *[2] * (9 * 2)], {}


def unet() -> Case:
    # a normalised layer has an order of its three norm groups and one inside each; the pixel
    # shuffle keeps the places inside its blocks, so it has one order of its channels; skips add
    # nothing
    a, b, c, g = 6, 9, 12, 3
    normalised = [x for n in (a, b, c, b, a) for x in (g, *[n // g] * g)]
    return dense_outputs.UNet(a, b, c, g, 4), image(32), [*normalised, b, a], {}


def _recurrent(kind: str, batch: int = 1) -> Case:
    # one group a direction and layer, with its gates, its recurrent matrix and its initial state;
    # and the embedding
    net = arch.Recurrent(kind, 6, 5, 9)
    net.start = torch.nn.ParameterList(torch.nn.Parameter(s.repeat(1, batch, 1)) for s in net.start)
    return net, (torch.randint(0, 9, (batch, 7)),), [6, *[5] * 4], {}


def lstm_of_two() -> Case:
    return _recurrent("LSTM", 2)


def lstm() -> Case:
    return _recurrent("LSTM")


def gru() -> Case:
    return _recurrent("GRU")


def rnn() -> Case:
    return _recurrent("RNN")


def hyperprior() -> Case:
    # every convolution's channels, tied to both axes of the normaliser behind it; the latents are
    # one group of ten, rounded, coded by scales that tie to them, and decoded
    return codecs.Hyperprior(6, 10), image(), [*[6] * 4, 10, *[6] * 3], {}


def video() -> Case:
    # flow: hidden, and its two components; codec of the motion and of the residual: analysis,
    # latents, synthesis; compensation: stream and hidden. Frames, positions and the warped picture
    # keep their order
    n, m = 6, 8
    return codecs.VideoCodec(n, m, 5), image() + image(), [5, 2, n, m, n, n, n, n, m, n], {}


def min_convolution() -> Case:
    # the weight is read twice, for its sign and its size: one slot
    return codecs.MinConvNet(6, 8, 4), image(8), [6, 8], {}


def _heads(heads: int, width: int, layers: int = 1) -> Sizes:
    # the heads, and in every head an order of the query-key dimensions and one of the values'
    return [heads, *[width] * (2 * heads)] * layers


def _encoder(width: int, heads: int, hidden: int, layers: int) -> Sizes:
    # the stream; in each layer the hidden units and the heads
    return [width, *[hidden] * layers, *_heads(heads, width // heads, layers)]


def vit() -> Case:
    return *families.vit(), _encoder(24, 3, 20, 2), {}


def deit() -> Case:
    # the token of distillation is one more row of the stream
    return *families.deit(), _encoder(24, 3, 20, 2), {}


def swin() -> Case:
    # a stream a stage (merging puts four channels side by side); heads move with the columns of
    # their table of relative positions, which windows and shifts leave alone
    return *families.swin(), [*_encoder(12, 2, 18, 2), *_encoder(24, 3, 36, 2)], {}


def swinv2() -> Case:
    # as Swin; heads move with their temperature and the last layer of the network that makes their
    # table, whose 512 hidden units are a group. Its two coordinates are one too, but dynamo folds
    # them into its first layer
    sizes = [*_encoder(12, 2, 18, 2), *_encoder(24, 3, 36, 2), *[512] * 4]
    return *families.swinv2(), sizes, {TRACING: [2] * 4}


def bert() -> Case:
    # an encoder, and the pooler's hidden layer
    return *families.bert(), [*_encoder(24, 3, 20, 2), 24], {}


def gpt2() -> Case:
    return *families.gpt2(), _encoder(24, 3, 20, 2), {}


def _grouped_queries(keys: int, queries: int, width: int, layers: int) -> Sizes:
    # the key heads, in each its query heads and an order of its value dimensions
    return [keys, *[queries] * keys, *[width] * keys] * layers


def llama() -> Case:
    # a rotation pair moves with its entry of the table, one order for all heads and layers: three
    # pairs of six dimensions
    return *families.llama(), [24, 20, 20, 3, *_grouped_queries(2, 2, 6, 2)], {}


def qwen3() -> Case:
    # as Llama; the norms of queries and keys move with the pairs
    return *families.qwen3(), [24, 20, 20, 3, *_grouped_queries(2, 2, 6, 2)], {}


def gpt_neox() -> Case:
    # half of the eight dimensions of a head are rotated, in two pairs that all share; the other
    # four are free in each head
    return *families.gpt_neox(), [24, 20, 20, 2, *[3, *[4] * 3, *[8] * 3] * 2], {}


def bloom() -> Case:
    # the slopes of the positions are one for all layers: one order of the heads, in each the orders
    # of two layers
    return *families.bloom(), [24, 96, 96, 3, *[8] * (3 * 2 * 2)], {}


def falcon() -> Case:
    # one key head for three queries; four rotation pairs for all
    return *families.falcon(), [24, 20, 20, 4, *[3, 8] * 2], {}


def t5() -> Case:
    # one stream, since encoder, decoder and output share the embedding; the table of relative
    # positions of the first layer serves all: one order of the heads in the encoder, one in the
    # decoder, and one in each cross attention
    return *families.t5(), [24, *[20] * 4, *[3] * 4, *[6] * (3 * 2 * 6)], {}


def whisper() -> Case:
    # two streams, the hidden convolution, and in the decoder two attentions a layer
    return *families.whisper(), [24, 24, 24, *[20] * 4, *_heads(3, 8, 6)], {}


def convnext() -> Case:
    # each stage's stream, scaled by its layers, and four times as many hidden units in each block
    return *families.convnext(), [8, 12, 16, 20, 32, 32, 48, 64, 80], {}


def mobilenet_v2_hf() -> Case:
    # as above, with the library's own widths: multiples of eight
    widths = ((1, 8, 1), (6, 8, 2), (6, 16, 3), (6, 24, 4), (6, 32, 3), (6, 56, 3), (6, 112, 1))
    sizes, width = [16, 1280], 16
    for expand, channels, blocks in widths:
        sizes.append(channels)
        for _ in range(blocks):
            sizes += [width * expand] if expand > 1 else []
            width = channels
    return *families.mobilenet_v2(), sizes, {}


def resnet_hf() -> Case:
    return *families.resnet(), [8, 16, 24, 32, 40, *[4] * 4, *[6] * 2, *[8] * 2, *[10] * 2], {}


def regnet() -> Case:
    # a block's inner convolution has groups of six: their order, and in each one of its inputs and
    # one of its outputs; the gate has a quarter of the block's inputs
    sizes, width = [8], 8
    for channels, blocks in ((12, 1), (18, 2), (24, 1), (30, 1)):
        sizes.append(channels)
        for _ in range(blocks):
            groups = channels // 6
            sizes += [groups, *[6] * (2 * groups), round(width / 4)]
            width = channels
    return *families.regnet(), sizes, {}


def segformer() -> Case:
    # a stream a stage; keys and values come from a convolution of the stream with channels of its
    # own where it shortens the sequence; the decoder has a layer a stage and one that joins them
    sizes = [*[14] * 5]
    for width, heads, short in ((8, 1, True), (12, 2, True), (18, 3, True), (24, 4, False)):
        sizes += _encoder(width, heads, 2 * width, 1) + ([width] if short else [])
    return *families.segformer(), sizes, {}


def detr() -> Case:
    # the backbone; the encoder's stream takes sines and cosines of positions, six each of the rows
    # and, from the same table, of the columns (tracing writes the table twice). Sines read every
    # second entry of the table and cosines the others, so each has an order of its own. The
    # queries begin at zero, so the first layer's input to its values is free; and dynamo folds that
    # layer's self-attention, which reads nothing but weights
    backbone = [8, 16, 24, 32, 40, *[4] * 2, *[6] * 2, *[8] * 2, *[10] * 2]
    rest = [20, 20, 24, *_heads(3, 8, 2)]
    only = {TRACING: [6, 6, 6, 6, 24, *_heads(3, 8)], DYNAMO: [6, 6]}
    return *families.detr(), [*backbone, *rest], only


CASES: dict[str, Callable[[], Case]] = {
    f.__name__: f
    for f in (
        *(
            vgg16,
            resnet18,
            resnet50,
            resnet101,
            mobilenet_v2,
            mobilenet_v3,
            deeplab_v3,
            yolo_v5n,
            c2f,
            densenet,
        ),
        *(shufflenet, unet, lstm, lstm_of_two, gru, rnn, hyperprior, video, min_convolution),
        *(vit, deit, swin, swinv2, bert, gpt2, llama, qwen3, gpt_neox, bloom, falcon, t5, whisper),
        *(convnext, mobilenet_v2_hf, resnet_hf, regnet, segformer, detr),
    )
}


def export_case(name: str, exporter: str, seed: int = 0) -> onnx.ModelProto:
    """Exports the network of a case with random weights; once in a run of the tests.

    Args:
        name: A key of `CASES`.
        exporter: `TRACING` or `DYNAMO`.
        seed: Of the weights.
    """

    def make() -> onnx.ModelProto:
        torch.manual_seed(0)
        net, inputs, _, _ = CASES[name]()
        return arch.export(arch.randomise(net, seed), *inputs, dynamo=exporter == DYNAMO)

    return read_or_make(f"case-{name}-{exporter}-{seed}", make)
