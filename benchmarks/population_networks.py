"""The networks of the population, and what is made of them.

Eight architectures learn Fashion-MNIST from many seeds: strangers that are as alike as strangers
get. Of every network come a copy with each kind of alteration, at one of three strengths, and pairs
of alterations; each is then multiplied where its units may be, and shuffled.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

import lady_onnx as lady
from benchmarks.marks import halve
from benchmarks.train import FASHION, fashion
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from tests.helpers.architectures import export

SIZE, CLASSES = 14, 10
SAMPLES, BATCH, STEPS, RATE = 6000, 64, 280, 2e-3
"""Of a training: so many steps, with Adam."""
FACTORS = 0.3
"""How strong the factors are that every derived copy gets besides."""


def conv(i: int, o: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(i, o, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(o))


class Residual(nn.Module):
    """Adds what a body makes of its input to the input."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Dense(nn.Module):
    """Puts what a body makes of its input beside the input."""

    def __init__(self, i: int, o: int):
        super().__init__()
        self.body = nn.Sequential(conv(i, o), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


class Attention(nn.Module):
    """Attention of several heads between the places of a sequence."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = (
            t.view(n, length, self.heads, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, -1)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5, -1)
        return self.out((weights @ v).transpose(1, 2).reshape(n, length, width))


class Places(nn.Module):
    """Makes rows, or patches, of an image a sequence, with a vector learned for each place."""

    def __init__(self, patch: int, width: int):
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, patch)
        self.places = nn.Parameter(0.1 * torch.randn((SIZE // patch) ** 2, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.patches(x).flatten(2).transpose(1, 2) + self.places


class AcrossPlaces(nn.Module):
    """Applies a body across the places of a sequence."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.transpose(1, 2)).transpose(1, 2)


class Mean(nn.Module):
    """Means over axes."""

    def __init__(self, *axes: int):
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.axes)


class Rows(nn.Module):
    """Reads the rows of an image one after the other, and keeps the last state."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.GRU(SIZE, width, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x[:, 0])[0][:, -1]


def make_layers(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


def make_perceptron() -> list[nn.Module]:
    return [
        nn.Flatten(),
        *(nn.Linear(SIZE**2, 128), nn.ReLU()),
        *(nn.Linear(128, 96), nn.ReLU()),
        *(nn.Linear(96, 64), nn.ReLU()),
    ]


def make_vgg() -> list[nn.Module]:
    layers = [conv(1, 24), nn.ReLU(), conv(24, 48), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [conv(48, 64), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return [*layers, nn.Linear(64 * 9, 64), nn.ReLU()]


def make_resnet() -> list[nn.Module]:
    blocks = [
        layer
        for _ in range(3)
        for layer in (Residual(nn.Sequential(conv(48, 48), nn.ReLU(), conv(48, 48))), nn.ReLU())
    ]
    return [conv(1, 48), nn.ReLU(), nn.MaxPool2d(2), *blocks, Mean(2, 3)]


def make_densenet() -> list[nn.Module]:
    blocks = [Dense(32 + 16 * k, 16) for k in range(4)]
    last = [conv(96, 64, 1), nn.ReLU(), Mean(2, 3)]
    return [conv(1, 32), nn.ReLU(), nn.MaxPool2d(2), *blocks, *last]


def make_mobilenet() -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for i, o in ((24, 48), (48, 64), (64, 64)):
        blocks += [conv(i, 2 * i, 1), nn.Hardswish(), conv(2 * i, 2 * i, 3, 2 * i), nn.Hardswish()]
        blocks += [conv(2 * i, o, 1)]
    return [conv(1, 24), nn.Hardswish(), nn.MaxPool2d(2), *blocks, nn.Hardswish(), Mean(2, 3)]


def make_transformer() -> list[nn.Module]:
    blocks = [
        layer
        for _ in range(2)
        for layer in (
            Residual(nn.Sequential(nn.LayerNorm(64), Attention(64, 4))),
            Residual(nn.Sequential(nn.LayerNorm(64), make_layers(64, 128))),
        )
    ]
    return [Places(2, 64), *blocks, nn.LayerNorm(64), Mean(1)]


def make_mixer() -> list[nn.Module]:
    blocks = [
        layer
        for _ in range(2)
        for layer in (
            Residual(nn.Sequential(nn.LayerNorm(64), AcrossPlaces(make_layers(49, 64)))),
            Residual(nn.Sequential(nn.LayerNorm(64), make_layers(64, 128))),
        )
    ]
    return [Places(2, 64), *blocks, nn.LayerNorm(64), Mean(1)]


def make_gru() -> list[nn.Module]:
    return [Rows(64)]


MAKERS: dict[str, tuple[Callable[[], list[nn.Module]], int]] = {
    "perceptron": (make_perceptron, 64),
    "vgg": (make_vgg, 64),
    "resnet": (make_resnet, 48),
    "densenet": (make_densenet, 64),
    "mobilenet": (make_mobilenet, 64),
    "transformer": (make_transformer, 64),
    "mixer": (make_mixer, 64),
    "gru": (make_gru, 64),
}
"""The body of each architecture, and its width before the head."""


@dataclass(frozen=True)
class Learner:
    """A network that learns, and goes on where it stopped."""

    network: nn.Sequential
    optimiser: torch.optim.Optimizer
    batches: Iterator[tuple[Tensor, Tensor]]

    def learn(self, steps: int) -> None:
        self.network.train()
        for _ in range(steps):
            images, labels = next(self.batches)
            self.optimiser.zero_grad()
            nn.functional.cross_entropy(self.network(images), labels).backward()
            self.optimiser.step()
        self.network.eval()

    def export(self, dynamo: bool = False) -> onnx.ModelProto:
        return export(copy.deepcopy(self.network), torch.zeros(2, 1, SIZE, SIZE), dynamo=dynamo)


def read_data(part: str = "train") -> tuple[Tensor, Tensor]:
    images, labels = fashion(FASHION, SIZE, part)
    return images[:SAMPLES], labels[:SAMPLES]


def draw_batches(data: tuple[Tensor, Tensor], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    images, labels = data
    generator = torch.Generator().manual_seed(seed)
    while True:
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            yield images[chosen], labels[chosen]


def train_network(architecture: str, seed: int, data: tuple[Tensor, Tensor]) -> Learner:
    torch.manual_seed(seed)
    make, width = MAKERS[architecture]
    network = nn.Sequential(*make(), nn.Linear(width, CLASSES))
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    learner = Learner(network, optimiser, draw_batches(data, seed))
    learner.learn(STEPS)
    return learner


def change_head(learner: Learner, classes: int, data: tuple[Tensor, Tensor]) -> onnx.ModelProto:
    """Trains a new head for some of the classes, with the body, for a tenth of the training."""
    network = copy.deepcopy(learner.network)
    old = network[-1]
    assert isinstance(old, nn.Linear)
    network[-1] = nn.Linear(old.in_features, classes)
    images, labels = data
    kept = labels < classes
    optimiser = torch.optim.Adam(network.parameters(), RATE / 10)
    other = Learner(network, optimiser, draw_batches((images[kept], labels[kept]), classes))
    other.learn(STEPS // 10)
    return other.export()


def rename_ends(model: onnx.ModelProto, like: onnx.ModelProto) -> onnx.ModelProto:
    """Gives a model's inputs and outputs the names of another's: they belong to the interface."""
    for own, theirs in (
        (model.graph.input, like.graph.input),
        (model.graph.output, like.graph.output),
    ):
        for value, other in zip(own, theirs, strict=True):
            for node in model.graph.node:
                for names in (node.input, node.output):
                    names[:] = [other.name if n == value.name else n for n in names]
            value.name = other.name
    return model


def optimise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Writes a model as onnxruntime's optimiser has it, for any processor."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "model.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


ATTACKS: dict[str, tuple[float, ...]] = {
    "noise": (0.1, 0.3, 1),
    "prune": (0.5, 0.75, 0.9),
    "quantize": (8, 6, 4),
    "rescale": (0.1, 0.3, 1),
}
"""Alterations of weights alone, each at three strengths."""
TUNED = (10, 25, 50)
"""Percent of the training's steps that a copy is trained further."""
HEADS = (5, 7, 9)
"""Classes of other heads."""


def derive(
    learner: Learner, model: onnx.ModelProto, seed: int, data: tuple[Tensor, Tensor]
) -> Iterator[tuple[str, str, Graph]]:
    """Makes copies of a network.

    Yields:
        Of each copy the relation to expect, `exact` or `altered` or `derived`, what was done, and
        the copy, rescaled and shuffled.
    """
    rng = np.random.default_rng(seed)

    def finish(what: Graph | onnx.ModelProto, factors: bool = True) -> Graph:
        graph = load_graph(what)
        if factors:
            graph = lady.attack(graph, "rescale", FACTORS, seed=seed).graph
        return lady.permute(graph, seed).graph

    yield "exact", "permuted", finish(model, factors=False)
    strength = ATTACKS["rescale"][seed % 3]
    yield (
        "exact",
        f"rescale {strength:g}",
        finish(lady.attack(model, "rescale", strength, seed=seed).graph, factors=False),
    )
    form = ("optimised", "other exporter", "half precision")[seed % 3]
    if form == "half precision":
        yield "altered", form, finish(halve(load_graph(model)), factors=False)
    else:
        exported = rename_ends(learner.export(dynamo=True), model)
        other = optimise(model) if form == "optimised" else exported
        yield "exact", form, finish(other, factors=False)
    for kind in ("noise", "prune", "quantize"):
        strength = ATTACKS[kind][seed % 3]
        yield "altered", f"{kind} {strength:g}", finish(attack(model, kind, strength, seed))
    for _ in range(2):
        first, second = rng.choice(["noise", "prune", "quantize"], 2, replace=False)
        strengths = [float(rng.choice(ATTACKS[k])) for k in (first, second)]
        both = attack(attack(model, first, strengths[0], seed), second, strengths[1], seed + 1)
        name = f"{first} {strengths[0]:g} and {second} {strengths[1]:g}"
        yield "altered", name, finish(both)
    classes = HEADS[seed % 3]
    yield "derived", f"head {classes}", finish(change_head(learner, classes, data))
    share = TUNED[seed % 3]
    learner.learn(STEPS * share // 100)
    tuned = learner.export()
    yield "altered", f"finetune {share}", finish(tuned)
    kind = ("noise", "prune", "quantize")[seed // 3 % 3]
    strength = float(rng.choice(ATTACKS[kind]))
    name = f"finetune {share} and {kind} {strength:g}"
    yield "altered", name, finish(attack(tuned, kind, strength, seed))


def attack(model: Graph | onnx.ModelProto, kind: str, strength: float, seed: int) -> Graph:
    return lady.attack(model, kind, strength, seed=seed).graph
