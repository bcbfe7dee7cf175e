"""Known architectures have known symmetry: the closed forms, on what both exporters write."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

import lady_onnx as lady

from ..helpers import architectures as arch
from ..helpers import codecs
from ..helpers.closed_forms import CASES, DYNAMO, TRACING, export_case, image
from ..helpers.law import holds


def bits(sizes: Iterable[int]) -> float:
    """log2 of the product of the factorials."""
    return sum(math.lgamma(n + 1) for n in sizes) / math.log(2)


PRUNED = (5, 3, 4, 7, 2, 6, 3)
"""What channel pruning leaves of the hidden layers of a codec."""
FAILS = {("whisper", TRACING): "aten::diff"}
"""Where an exporter itself fails, and the words that say so."""


QUICK = {
    *("resnet18", "mobilenet_v2", "min_convolution", "lstm"),
    *("vit", "bert", "gpt2", "llama", "whisper"),
}
"""One network of each kind: the quick suite exports these alone with torch.export."""


def with_exporters(names: Iterable[str], quick: Container[str]) -> list[Any]:
    """Pairs of name and exporter; by `DYNAMO`, all but the quick ones have the marker `long`."""
    return [
        pytest.param(n, e, marks=pytest.mark.long if e == DYNAMO and n not in quick else ())
        for e in (TRACING, DYNAMO)
        for n in names
    ]


@pytest.mark.parametrize(("name", "exporter"), with_exporters(CASES, QUICK))
def test_closed_form(name: str, exporter: str) -> None:
    if (name, exporter) in FAILS:
        with pytest.raises(Exception, match=FAILS[name, exporter]):
            export_case(name, exporter)
        return
    proto = export_case(name, exporter)
    _, _, sizes, only = CASES[name]()
    symmetry = lady.find_groups(proto)
    expected = [n for n in [*sizes, *only.get(exporter, [])] if n > 1]
    assert sorted(g.size for g in symmetry.groups) == sorted(expected)
    assert symmetry.symmetry_bits == pytest.approx(bits(expected))
    assert not symmetry.unknown_operators
    shuffled = lady.permute(proto, seed=1)
    assert lady.verify(proto, shuffled.model).equal
    assert lady.resync(proto, shuffled.model, verify="none").exact


@pytest.mark.parametrize(("name", "exporter"), with_exporters(["resnet18", "vit", "lstm"], ["vit"]))
def test_ids_survive_another_export(name: str, exporter: str) -> None:
    """Of the same network with other weights, as training leaves it behind."""
    found = []
    for seed in (0, 1):
        proto = export_case(name, exporter, seed)
        found.append([(g.id, g.kind, g.size, g.parents) for g in lady.find_groups(proto).groups])
    assert found[0] == found[1]


@pytest.mark.parametrize("widths", [6, 4, PRUNED])
def test_the_hardware_form_of_a_codec(widths: int | tuple[int, ...], tmp_path: Path) -> None:
    """Teacher, narrower student and channel-pruned student, in eight bits.

    Every group of the float form is kept.
    """
    torch.manual_seed(0)
    proto = arch.export(arch.randomise(codecs.Hyperprior(widths, 10)), *image(), dynamo=False)
    onnx.save(proto, tmp_path / "float.onnx")

    class Samples(CalibrationDataReader):
        left = iter([{proto.graph.input[0].name: image()[0].numpy()} for _ in range(2)])

        def get_next(self) -> dict | None:
            return next(self.left, None)

    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "q.onnx",
        Samples(),
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    model = onnx.load(tmp_path / "q.onnx")
    assert any(n.op_type == "DequantizeLinear" for n in model.graph.node)
    hidden = [widths] * 7 if isinstance(widths, int) else list(widths)
    assert sorted(g.size for g in lady.find_groups(model).groups) == sorted([*hidden, 10])
    shuffled = lady.permute(model, 1)
    assert holds(model, 1)
    assert lady.resync(model, shuffled.model, verify="none").exact


def test_groups_cross_the_files_of_a_codec(tmp_path: Path) -> None:
    """Four files, linked: the latents are one group of ten.

    Apart, both sides of each border are pinned.
    """
    codec = codecs.Hyperprior(6, 10)
    torch.manual_seed(0)
    arch.randomise(codec)
    y, z = torch.randn(1, 10, 4, 4), torch.randn(1, 6, 2, 2)
    parts = {
        "analysis": (codec.analysis, torch.randn(1, 3, 32, 32)),
        "synthesis": (codec.synthesis, y),
        "hyper_analysis": (codec.hyper_analysis, y),
        "hyper_synthesis": (codec.hyper_synthesis, z),
    }
    apart = []
    for name, (module, x) in parts.items():
        proto = arch.export(module, x, dynamo=False)
        for old, new in (
            (proto.graph.input[0].name, f"{name}_in"),
            (proto.graph.output[0].name, f"{name}_out"),
        ):
            proto = _renamed(proto, old, new)
        onnx.save(proto, tmp_path / f"{name}.onnx")
        apart += [g.size for g in lady.find_groups(proto).groups]
    assert sorted(apart) == [6] * 6
    files = [tmp_path / f"{name}.onnx" for name in parts]
    links = [
        ("analysis_out", "synthesis_in"),
        ("analysis_out", "hyper_analysis_in"),
        ("hyper_analysis_out", "hyper_synthesis_in"),
    ]
    whole = lady.link(files, links)
    groups = lady.find_groups(whole).groups
    assert sorted(g.size for g in groups) == [*[6] * 7, 10]
    latents = next(g for g in groups if g.size == 10)
    assert {s.initializer.partition("/")[0] for s in latents.slots} == {
        "analysis",
        "synthesis",
        "hyper_analysis",
    }
    assert lady.verify(whole, lady.permute(whole, 1).model).equal


def _renamed(proto: onnx.ModelProto, old: str, new: str) -> onnx.ModelProto:
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if n == old else n for n in names]
    for value in (*proto.graph.input, *proto.graph.output):
        value.name = new if value.name == old else value.name
    return proto
