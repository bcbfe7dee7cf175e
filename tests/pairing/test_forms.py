"""One network from different exporters, opsets, folds, precisions and names."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import onnx
import pytest
import torch
from onnx import helper
from torch import nn

import lady_onnx as lady
from lady_onnx.cli.main import main

from ..helpers.architectures import Basic, ResNet, export, randomise
from ..helpers.exports import FORMS, NETS, ViT, forms
from ..helpers.renaming import named_alike, renamed


def pair_forms() -> list[Any]:
    """Networks in any two forms, those of `is_long` with the marker `long`."""
    cases = ((*pair, name) for pair in itertools.permutations(FORMS, 2) for name in NETS)
    return [pytest.param(*c, marks=pytest.mark.long if is_long(*c) else ()) for c in cases]


def is_long(ours: str, theirs: str, name: str) -> bool:
    """Is a pair of forms tried in the long suite alone?

    The convolutional networks are alike: quickly, each has the pairs of one direction, and one of
    them half precision.
    """
    is_forwards = FORMS.index(ours) < FORMS.index(theirs)
    if name == "mobilenet_v2":
        return not is_forwards or "half" in ours + theirs
    return name == "resnet18" and is_forwards


@pytest.mark.parametrize(("ours", "theirs", "name"), pair_forms())
def test_units_are_put_back_across_forms(name: str, ours: str, theirs: str) -> None:
    reference = forms(name)[ours]
    suspect = lady.permute(renamed(forms(name)[theirs], 1), 2)
    found = lady.resync(reference, suspect.graph)
    assert found.outputs_preserved
    assert found.moved >= 0.8 * sum(g.size for g in found.symmetry.groups)
    half = "half" in ours + theirs
    # to the rounding of the shorter of both types
    assert found.max_weight_difference <= (2e-3 if half else 1e-5)
    assert lady.verify(reference, found.model, tolerance=1e-2 if half else 1e-4).equal
    # half precision rounds where it writes, so that no bit of its own is lost
    assert found.psi_estimate > 99


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_the_suspect_keeps_its_form_where_no_weight_was_folded(name: str) -> None:
    suspect = lady.permute(renamed(forms(name)["dynamo"], 1), 2).model
    result = lady.resync(forms(name)["tracing"], suspect).model
    assert [t.name for t in result.graph.initializer] == [t.name for t in suspect.graph.initializer]
    assert list(result.graph.node) == list(suspect.graph.node)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("ours", "theirs"), list(itertools.permutations(FORMS[:3], 2)))
def test_forms_of_one_network_are_one_program(name: str, ours: str, theirs: str) -> None:
    reference = forms(name)[ours]
    suspect = lady.permute(named_alike(renamed(forms(name)[theirs], 1), reference), 2)
    found = lady.check(reference, suspect.graph)
    assert found.verdict == "permuted", found.reason
    assert found.equality == "rounding"


def test_half_precision_is_an_alteration() -> None:
    """Its numbers are others, and overflow where the reference's do not."""
    reference = forms("resnet18")["tracing"]
    found = lady.check(reference, lady.permute(forms("resnet18")["half"], 2).graph)
    assert found.verdict == "altered"
    assert found.recognised > 0.9


def test_a_shuffled_copy_in_another_form_is_one_for_check() -> None:
    reference = forms("resnet18")["tracing"]
    suspect = lady.permute(named_alike(forms("resnet18")["dynamo"], reference), 3)
    assert lady.check(reference, suspect.graph).accepted
    other = onnx.ModelProto.FromString(suspect.model.SerializeToString())
    (node,) = [n for n in other.graph.node if n.op_type == "MaxPool"]
    node.op_type = "AveragePool"
    del node.attribute[:]
    node.attribute.extend(
        [helper.make_attribute("kernel_shape", [3, 3]), helper.make_attribute("strides", [2, 2])]
    )
    node.attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    found = lady.check(reference, other)
    assert found.verdict == "altered"
    assert "AveragePool" in found.reason


def test_exit_2_says_where_they_part(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.randn(2, 3, 32, 32)
    for file, widths in (("a", (8, 12, 16, 20)), ("b", (8, 12, 18, 20))):
        # of one seed they would share their first layers
        net = randomise(ResNet(Basic, (1, 1, 1, 1), widths, 8, 5), ord(file))
        onnx.save(export(net, x, dynamo=file == "b"), tmp_path / f"{file}.onnx")
    assert main(["resync", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "b.onnx: another architecture than" in error
    assert "has no counterpart in the reference" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


@pytest.mark.parametrize("dynamo", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_network_that_lost_a_head_in_one_layer(dynamo: bool) -> None:
    """Constants that say how long axes are may be one in a file and two in the other."""
    net, x = randomise(ViT()), torch.randn(2, 3, 32, 32)
    less = copy.deepcopy(net)
    attention = less.net.vit.layers[1].attention
    kept = [k for k in range(24) if not 8 <= k < 16]
    with torch.no_grad():
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
            linear.weight, linear.bias = (
                nn.Parameter(p[kept]) for p in (linear.weight, linear.bias)
            )
        attention.o_proj.weight = nn.Parameter(attention.o_proj.weight[:, kept])
    attention.num_attention_heads = 2
    model, suspect = (export(n, x, dynamo=dynamo) for n in (net, less))
    shuffled = lady.permute(suspect, 1)
    found = lady.resync(model, shuffled.graph)
    assert found.outputs_preserved
    (lost,) = found.integrity
    assert lost.kind == "removed"
    assert lost.group in {g.id for g in lady.find_groups(model).groups if g.kind == "blocks"}
    assert lost.unit == 1
    assert lady.check(model, shuffled.graph).reason == "1 unit was removed"


@pytest.mark.parametrize(
    ("name", "dynamo"),
    [
        # the slowest exports
        pytest.param(n, d, marks=pytest.mark.long if d else ())
        for d in (False, True)
        for n in NETS
    ],
)
def test_copies_that_were_trained_from_fresh_weights(name: str, dynamo: bool) -> None:
    """Many fresh weights are equal, or zero biases: exporters write them once, or not at all."""
    torch.manual_seed(0)
    net, x = NETS[name](), torch.randn(2, 3, 32, 32)
    fresh = export(net, x, dynamo=dynamo)
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.01 * torch.rand_like(tensor))
    trained = export(net, x, dynamo=dynamo)
    assert len(trained.graph.initializer) > len(fresh.graph.initializer)
    for reference, suspect in ((fresh, trained), (trained, fresh)):
        shuffled = lady.permute(suspect, 1)
        found = lady.check(reference, shuffled.graph)
        assert found.verdict == "altered", found.reason
        assert found.resync is not None
        assert lady.verify(suspect, found.resync.model, tolerance=1e-4).equal
        assert found.resync.max_weight_difference < 0.05
