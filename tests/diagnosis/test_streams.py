"""Residual streams that any rotation may turn, and what fixes them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import lady_onnx as lady
from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.groups.rows import join_slots, put_rows
from lady_onnx.scaling.walk import find_scalings
from lady_onnx.symmetry.finder import extract_groups

from ..helpers.architectures import export, randomise


class RMSNorm(nn.Module):
    """As transformers writes it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Stream(nn.Module):
    """Residual blocks on a stream that norms read, the gains all one."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        norm = {"layer": lambda: nn.LayerNorm(10), "rms": lambda: RMSNorm(10)}[kind]
        self.stem, self.head = nn.Linear(24, 10), nn.Linear(10, 30)
        self.blocks = nn.ModuleList(
            nn.Sequential(norm(), nn.Linear(10, 17), nn.GELU(), nn.Linear(17, 10)) for _ in range(2)
        )
        self.last = norm()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.last(x))


def rotated(model: onnx.ModelProto, seed: int, keeps_mean: bool) -> Graph:
    """The stream turned at random, or so that its mean stays."""
    graph = load_graph(model).copy()
    analysis = analyse_graph(graph)
    groups = extract_groups(analysis).groups
    known = find_scalings(graph, analysis, groups)
    (stream,) = [g for g in groups if known[g.id].linear and known[g.id].turned]
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((10, 10)))[0]
    if keeps_mean:
        basis = np.linalg.qr(np.concatenate([np.ones((10, 1)), rng.standard_normal((10, 9))], 1))[0]
        inner = np.eye(10)
        inner[1:, 1:] = np.linalg.qr(rng.standard_normal((9, 9)))[0]
        turn = basis @ inner @ basis.T
    for slot in stream.slots:
        arrays = {slot.initializer: np.array(graph.array(slot.initializer))}
        put_rows(arrays, [slot], turn @ join_slots(arrays, [slot]))
        graph.replace(slot.initializer, arrays[slot.initializer])
    return graph


@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("dynamo", [False, True])
def test_a_turned_stream_is_turned_back(kind: str, dynamo: bool) -> None:
    model = export(Stream(kind), torch.randn(3, 24), dynamo=dynamo)
    for seed in range(3):
        suspect = lady.permute(rotated(model, seed, kind == "layer"), seed).graph
        assert lady.verify(model, suspect).equal
        found = lady.check(model, suspect)
        assert found.verdict == "rescaled", found.reason
        assert found.resync is not None
        assert [f.kind for f in found.resync.integrity] == ["mixed"]
        assert lady.verify(model, found.resync.model).equal
    if kind == "layer":
        # the mean of the stream is taken out of it: only turns that keep it change nothing
        suspect = rotated(model, 0, False)
        assert not lady.verify(model, suspect).equal
        assert not lady.check(model, suspect).accepted


BENDING = {
    "relu": torch.relu,
    "gains": lambda x: x * torch.arange(1.0, 11.0),
    "divided": lambda x: x / torch.arange(1.0, 11.0),
    "divisor": lambda x: 1 / (x + torch.arange(10.0)),
    "constant": lambda x: x + 0.5,
    "subtracted": lambda x: x - 0.5,
    "mean": lambda x: x + x.mean(-1, keepdim=True),
    "times its mean": lambda x: x * x.mean(-1, keepdim=True),
    "mean taken of others": lambda x: x.cos() - x.mean(-1, keepdim=True),
    "square": lambda x: x + x * x,
    "squares times": lambda x: (x * x) * 3,
    "largest": lambda x: x / x.amax(-1, keepdim=True),
    "each by itself": lambda x: nn.functional.conv1d(
        x[..., None], torch.arange(1.0, 11.0)[:, None, None], groups=10
    )[..., 0],
    "bias": lambda x: nn.functional.linear(
        x, torch.eye(10) + 0.1 * torch.arange(100.0).reshape(10, 10), torch.full((10,), 0.5)
    ),
}


class Bent(nn.Module):
    def __init__(self, bend: str, kind: str) -> None:
        super().__init__()
        self.bend, self.stream = bend, Stream(kind)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stream.stem(x)
        if self.bend:
            x = BENDING[self.bend](x)
        for block in self.stream.blocks:
            x = x + block(x)
        return self.stream.head(self.stream.last(x))


@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("bend", ["", *BENDING])
def test_what_bends_a_stream(bend: str, kind: str) -> None:
    """No rotation passes what treats units otherwise than alike."""
    graph = load_graph(export(Bent(bend, kind), torch.randn(3, 24), dynamo=False))
    analysis = analyse_graph(graph)
    groups = extract_groups(analysis).groups
    known = find_scalings(graph, analysis, groups)
    assert any(s.turned and s.linear for s in known.values()) == (not bend)


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_gains_that_are_not_one_fix_the_stream(kind: str) -> None:
    model = export(randomise(Stream(kind)), torch.randn(3, 24), dynamo=False)
    analysis = analyse_graph(load_graph(model))
    groups = extract_groups(analysis).groups
    assert not any(
        s.turned and s.linear for s in find_scalings(load_graph(model), analysis, groups).values()
    )


@pytest.mark.parametrize("value", [np.inf, -np.inf, 3e38, 1e25])
@pytest.mark.parametrize("name", ["stem.weight", "head.weight", "blocks.0.1.weight"])
def test_what_is_not_finite_ends_and_is_seen(name: str, value: float) -> None:
    model = export(Stream("rms"), torch.randn(3, 24), dynamo=False)
    for suspect in (load_graph(model).copy(), rotated(model, 0, False)):
        # the exporter may have turned a weight, and named it anew
        weight = (
            name
            if name in suspect.tensors
            else next(n for n in suspect.tensors if suspect.array(n).ndim == 2)
        )
        array = suspect.array(weight).copy()
        array.flat[0] = value
        suspect.replace(weight, array)
        assert not lady.check(model, suspect).accepted
