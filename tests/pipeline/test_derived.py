"""Suspects that share a part with the reference: a trained backbone with a new head, and the like.

What is said of them is `derived` at best, and never a yes.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lady_onnx as lady
from lady_onnx.cli.main import main
from lady_onnx.graph.loading import load_graph
from lady_onnx.pipeline.verdicts import ACCEPTED, VERDICTS, judge_suspect

from ..helpers.architectures import Basic, ResNet, export, randomise
from ..helpers.backbones import backbone, disturbed


def put_back(
    reference: onnx.ModelProto, suspect: onnx.ModelProto, changed: tuple[str, ...] = ()
) -> lady.Resync:
    """Permute a suspect and put it back; all weights but those of some layers are as before."""
    found = lady.resync(reference, lady.permute(suspect, 3).graph)
    before = load_graph(suspect)
    for name in before.tensors:
        same = np.array_equal(found.graph.array(name), before.array(name))
        assert same != name.startswith(changed or ("?",)), name
    assert found.outputs_preserved
    assert found.verdict == "derived"
    return found


@pytest.mark.parametrize("level", [0.0, 0.5])
@pytest.mark.parametrize(
    ("changes", "parts_at"),
    [
        ({"outputs": 7}, "node MatMul 'head_m'"),
        ({"inputs": 6, "outputs": 7}, "node MatMul 'stem_m'"),
        ({"layers": 2, "outputs": 7}, "node MatMul 'head_m'"),
    ],
)
def test_copies_of_a_part_are_put_back(changes: dict, parts_at: str, level: float) -> None:
    found = put_back(backbone(), disturbed(backbone(**changes), level))
    common = found.common
    assert common is not None
    assert common.equal == (level == 0)
    assert common.suspect_units == 1
    assert common.units == (56 / 88 if "layers" in changes else 1)
    assert common.parts_at.startswith(parts_at)


def test_layers_of_the_suspect_alone_stay() -> None:
    found = put_back(backbone(layers=2), backbone(outputs=7), ("a2", "b2", "c2", "a3", "b3", "c3"))
    assert found.common is not None
    assert found.common.suspect_units == 56 / 88


def test_an_order_that_the_suspect_pins_stays() -> None:
    """A network without a head gives out its stream, whose order is the model's answer."""
    headless = backbone(outputs=None)
    shuffled = lady.permute(backbone(), 5).graph.to_model("")
    cut = onnx.ModelProto.FromString(headless.SerializeToString())
    arrays = {t.name: t for t in shuffled.graph.initializer}
    del cut.graph.initializer[:]
    cut.graph.initializer.extend(arrays[n] for n in load_graph(headless).tensors)
    found = lady.resync(backbone(), cut)
    assert found.verdict == "derived"
    assert found.outputs_preserved
    assert found.common is not None
    assert found.common.equal
    assert found.common.units == 1


def narrowed(model: onnx.ModelProto, layer: int, kept: list[int]) -> onnx.ModelProto:
    """A copy of which one layer has fewer hidden units."""
    result = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in result.graph.initializer:
        if tensor.name in (f"a{layer}", f"b{layer}", f"c{layer}"):
            axis = int(tensor.name[0] == "a")
            array = numpy_helper.to_array(tensor).take(kept, axis)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return result


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_a_layer_of_fewer_units(level: float) -> None:
    kept = [0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 14]
    suspect = disturbed(narrowed(backbone(outputs=7), 1, kept), level)
    found = put_back(backbone(), suspect)
    assert found.common is not None
    assert found.common.equal == (level == 0)
    assert found.common.suspect_units == 1
    assert found.common.units == 84 / 88


@pytest.mark.parametrize(
    "suspect",
    [
        backbone(9, outputs=7),
        backbone(9, layers=2),
        backbone(9, inputs=6, outputs=7),
        narrowed(backbone(9, outputs=7), 1, list(range(12))),
    ],
)
def test_other_weights_in_a_like_network_are_no_part(suspect: onnx.ModelProto) -> None:
    found = lady.check(backbone(), lady.permute(suspect, 1).graph)
    assert found.verdict == "unrelated"
    assert "copies are found of 0 units, and of" in found.reason
    assert found.to_dict()["common"] is None


def test_one_layer_alone_is_no_part() -> None:
    suspect = backbone(outputs=7, new=[f"{letter}{k}" for k in range(4) for letter in "abc"])
    found = lady.check(backbone(), suspect)
    assert found.verdict == "unrelated"
    assert "6.2 % of the weights" in found.reason


def test_layers_that_were_trained_anew_are_no_copies() -> None:
    new = ("a3", "b3", "c3")
    found = put_back(backbone(), backbone(outputs=7, new=new), new)
    assert found.common is not None
    assert found.common.units == 72 / 88


def test_derived_is_never_accepted() -> None:
    """Whatever else is found of a part: the whole is another model."""
    assert "derived" not in ACCEPTED
    assert VERDICTS.index("rescaled") < VERDICTS.index("derived") < VERDICTS.index("altered")
    found = lady.resync(backbone(), backbone(outputs=7))
    flags = ("exact", "restored", "alike", "bits")
    for values in itertools.product([False, True], repeat=len(flags)):
        for apart in ((), found.apart):
            given = dict(zip(flags, values, strict=True))
            verdict = judge_suspect(dataclasses.replace(found, apart=apart, **given))
            assert verdict.verdict == "derived"
            assert not verdict.accepted
            assert verdict.equality is None


def test_the_permutation_that_was_applied_is_the_suspects(tmp_path: Path) -> None:
    suspect = lady.permute(backbone(outputs=7), 1).graph
    found = lady.resync(backbone(), suspect)
    found.save_permutation(tmp_path / "p.json")
    again = lady.permute(suspect, permutations=tmp_path / "p.json").graph
    assert all(np.array_equal(again.array(n), found.graph.array(n)) for n in again.tensors)


def test_commands_say_derived(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(tmp_path / name) for name in ("a.onnx", "b.onnx", "c.onnx")]
    onnx.save(backbone(), paths[0])
    onnx.save(lady.permute(disturbed(backbone(outputs=7), 0.1), 1).model, paths[1])
    assert main(["check", *paths[:2], "--json"]) == 1
    fields = json.loads(capsys.readouterr().out)
    assert fields["verdict"] == "derived"
    assert not fields["accepted"]
    assert fields["equality"] is None
    assert fields["common"] == {
        "weights": pytest.approx(3352 / 3477),
        "units": 1.0,
        "suspect_weights": pytest.approx(3352 / 3527),
        "suspect_units": 1.0,
        "equal": False,
        "parts_at": "node MatMul 'head_m', weight 'head' has shape [24, 7], "
        "the reference's [24, 5]",
    }
    assert main(["check", *paths[:2], "--accept", "derived"]) == 0
    assert main(["resync", *paths[:2], "-o", paths[2]]) == 0
    assert "derived: " in capsys.readouterr().out
    assert lady.verify(paths[1], paths[2]).equal


@pytest.mark.parametrize(
    "forms",
    [
        (False, False),
        pytest.param((True, True), marks=pytest.mark.long),
        pytest.param((False, True), marks=pytest.mark.long),
        pytest.param((True, False), marks=pytest.mark.long),
    ],
)
def test_an_exported_network_with_other_classes(forms: tuple[bool, bool]) -> None:
    """The tracing exporter and the one over torch.export, and one file of each."""
    import torch

    x = torch.randn(2, 3, 32, 32)
    nets = [randomise(ResNet(Basic, (1, 1), (8, 12), 8, classes)) for classes in (5, 7)]
    reference = export(nets[0], x, dynamo=forms[0])
    suspect = disturbed(export(nets[1], x, dynamo=forms[1]), 0.05)
    found = put_back(reference, suspect)
    assert found.common is not None
    assert found.common.units == found.common.suspect_units == 1
