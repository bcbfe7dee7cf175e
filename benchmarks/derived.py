"""Trained backbones with new heads, stems and depths: verdict, units in place, seconds.

    python benchmarks/derived.py [--seeds 2] [--only NAME ...]

Every row is a reference that was trained for a few steps, and a suspect that has a part of it. The
suspect was trained on with all its weights, exported, and permuted at random. `in place` is the
share of the units of the common part that lie where they did before the permutation; `outputs` says
whether the result computes what the suspect does, by onnxruntime. The last rows share nothing but
shapes, an embedding, or the first layers: they are refused as `unrelated`. Data are random numbers.

Needs the extra `test`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from benchmarks.derived_networks import (
    RATE,
    STEPS,
    Bert,
    Encoder,
    EncoderDecoder,
    Segmenter,
    Vit,
    draw_images,
    draw_words,
    load_shared,
    make_resnet,
    train,
)
from lady_onnx.graph.loading import load_graph
from lady_onnx.groups.rows import take_rows
from tests.helpers.architectures import export

Made = tuple[nn.Module, nn.Module, Tensor, Tensor]
"""A reference, a suspect, and inputs of each."""


def copy_images(seed: int, make: Callable[[int], nn.Module], channels: int = 3) -> Made:
    """A network of five classes, and one that shares what it can with it."""
    return _copy_network(
        seed, make(5), lambda: make(7), draw_images(seed), draw_images(seed + 1, channels)
    )


def copy_words(seed: int, make: Callable[[], nn.Module]) -> Made:
    return _copy_network(seed, Bert(5), make, draw_words(seed), draw_words(seed + 1))


def _copy_network(
    seed: int, reference: nn.Module, make: Callable[[], nn.Module], ours: Tensor, theirs: Tensor
) -> Made:
    train(reference, ours, STEPS, RATE, seed)
    suspect = make()
    load_shared(suspect, reference)
    return reference, train(suspect, theirs, STEPS, RATE / 3, seed), ours, theirs


def build_on(seed: int, trunk: nn.Module, build: Callable[[nn.Module], nn.Module]) -> Made:
    """A trained network, and one that is built on a copy of it."""
    x = draw_words(seed) if isinstance(trunk, Bert) else draw_images(seed)
    train(trunk, x, STEPS, RATE, seed)
    suspect = train(build(copy.deepcopy(trunk)), x, STEPS, RATE / 3, seed)
    return trunk, suspect, x, x


def draw_apart(seed: int, make: Callable[[int], nn.Module]) -> Made:
    """Two networks of one family, of other seeds and numbers of classes."""
    x = draw_words(seed) if isinstance(make(5), Bert) else draw_images(seed)
    one, two = (train(make(classes), x, STEPS, RATE, seed + 10 * classes) for classes in (5, 7))
    return one, two, x, x


def share_embedding(seed: int) -> Made:
    """Two language models that have nothing in common but an embedding."""
    one, two, x, _ = draw_apart(seed, Bert)
    with torch.no_grad():
        ours, theirs = (net.net.bert.embeddings.word_embeddings for net in (one, two))
        theirs.weight.copy_(ours.weight)
    return one, two, x, x


def share_stem(seed: int) -> Made:
    """Two image networks that have nothing in common but the first layer."""
    one, two, x, _ = draw_apart(seed, lambda classes: make_resnet(classes, 16))
    two.stem.load_state_dict(one.stem.state_dict())
    return one, two, x, x


POSITIVE: dict[str, tuple[Callable[[int], Made], int]] = {
    "ResNet-18, other classes": (lambda s: copy_images(s, make_resnet), 0),
    "ViT, other classes": (lambda s: copy_images(s, Vit), 0),
    "BERT, other classes": (lambda s: copy_words(s, lambda: Bert(7)), 0),
    "ResNet-18, segmentation": (
        lambda s: build_on(s, make_resnet(5), lambda t: Segmenter(t, 4)),
        48 + 40,
    ),
    "ViT, other channels and classes": (
        lambda s: copy_images(s, lambda c: Vit(c, channels=3 if c == 5 else 1), 1),
        0,
    ),
    "BERT, other words and classes": (lambda s: copy_words(s, lambda: Bert(7, words=400)), 0),
    "BERT, half the layers": (lambda s: copy_words(s, lambda: Bert(7, layers=2)), 0),
    "ViT, half the layers": (
        lambda s: copy_images(s, lambda c: Vit(c, layers=4 if c == 5 else 2)),
        0,
    ),
    "BERT in an encoder-decoder": (
        # every decoder layer has 96 hidden units, and twice 4 heads with 16 dimensions for keys and
        # for values; its stream has the encoder's order, as one weight projects both for attention
        lambda s: build_on(s, Bert(5), lambda t: EncoderDecoder(Encoder(t))),
        2 * (96 + 2 * (4 + 64 + 64)),
    ),
}
"""By name how a pair is made, and how many units of the suspect are new."""
NEGATIVE: dict[str, Callable[[int], Made]] = {
    "ResNet-18, other seeds": lambda s: draw_apart(s, lambda c: make_resnet(c, 16)),
    "ViT, other seeds": lambda s: draw_apart(s, Vit),
    "BERT, other seeds": lambda s: draw_apart(s, Bert),
    "BERT, the embedding alone": share_embedding,
    "ResNet-18, the stem alone": share_stem,
}


def count_in_place(plain: onnx.ModelProto, result: lady.Resync) -> int:
    """The units of matched groups, more than half of whose elements are where they were before."""
    before, after = load_graph(plain), result.graph
    groups = [g for g in lady.find_groups(before).groups if g.id in result.permutations]
    total = 0
    for group in groups:
        rows = [
            [take_rows(graph.array(s.initializer), s) for s in group.slots]
            for graph in (before, after)
        ]
        same = [np.equal(a, b).mean(1) for a, b in zip(*rows, strict=True)]
        total += int((np.median(same, 0) > 0.5).sum())
    return total


def print_row(name: str, made: Made, new: int, forms: tuple[bool, bool], seed: int) -> None:
    """Permute a suspect, put it back, and print what became of it."""
    reference, suspect, ours, theirs = made
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        one, two = (
            export(reference, ours, dynamo=forms[0]),
            export(suspect, theirs, dynamo=forms[1]),
        )
    shuffled = lady.permute(two, seed + 1)
    start = time.perf_counter()
    found = lady.check(one, shuffled.graph)
    seconds = time.perf_counter() - start
    text = "dynamo" if all(forms) else "tracing" if not any(forms) else "both"
    row = f"{name:32} {text:8} {seed:4} {found.verdict:10}"
    if found.resync is None or found.resync.common is None:
        print(f"{row} {'':>9} {'':>8} {'':>8} {'':>7} {seconds:7.1f}", flush=True)
        return
    result = lady.resync(one, shuffled.graph)
    common = found.resync.common
    total = sum(g.size for g in lady.find_groups(two).groups) - new
    # a result in normal form has weights of other names
    is_written = result.graph.tensors.keys() == load_graph(two).tensors.keys()
    share = f"{100 * count_in_place(two, result) / total:8.2f}%" if is_written else f"{'-':>9}"
    print(
        f"{row} {share} {100 * common.weights:7.1f}% {100 * common.suspect_weights:7.1f}% "
        f"{result.outputs_preserved!s:>7} {seconds:7.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2, help="how many seeds (2)")
    parser.add_argument("--only", nargs="*", default=[], help="rows whose names begin like this")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    print(
        f"{'pair':32} {'exporter':8} {'seed':>4} {'verdict':10} {'in place':>9} {'of ref.':>8} "
        f"{'of susp.':>8} {'outputs':>7} {'seconds':>7}"
    )
    rows = [(name, make, new, True) for name, (make, new) in POSITIVE.items()]
    rows += [(name, make, 0, False) for name, make in NEGATIVE.items()]
    for name, make, new, is_copy in rows:
        if args.only and not any(name.startswith(text) for text in args.only):
            continue
        # the tracing exporter has no operator for the attention of a decoder
        is_traced = "decoder" not in name
        forms = [(False, False)] * is_traced + [(True, True)] * is_copy
        forms += [(False, True)] * (is_copy and is_traced)
        for seed in range(args.seeds):
            torch.manual_seed(seed)
            made = make(seed)
            for pair in forms:
                print_row(name, made, new, pair, seed)


if __name__ == "__main__":
    main()
