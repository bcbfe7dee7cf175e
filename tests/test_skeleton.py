"""Files of one network that are written differently: exporters, opsets, folded BatchNorm, half precision, names."""

from __future__ import annotations

import io
import itertools
import warnings
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn

import lady_onnx as lady
from lady_onnx.cli import main

from .architectures import Basic, MobileNetV2, ResNet, export, randomise


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
        self.net = ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).logits


NETS = {
    "resnet18": lambda: ResNet(Basic, (2, 2, 2, 2), (8, 12, 16, 20), 8, 5),
    "mobilenet_v2": lambda: MobileNetV2(6, 14, 5),
    "vit": ViT,
}
FORMS = ("tracing", "dynamo", "opset 14, unfolded", "half", "all half")


def unfolded(net: nn.Module, x: Tensor) -> onnx.ModelProto:
    """By the tracing exporter, of an older opset, BatchNorm apart and normalisations spelled out."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        mode = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(net.eval(), (x,), buffer, dynamo=False, opset_version=14, training=mode, do_constant_folding=False)
    return onnx.load_from_string(buffer.getvalue())


@cache
def forms(name: str) -> dict[str, onnx.ModelProto]:
    net, x = randomise(NETS[name]()), torch.randn(2, 3, 32, 32)
    found = {"tracing": export(net, x, dynamo=False), "dynamo": export(net, x, dynamo=True), FORMS[2]: unfolded(net, x)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found["half"] = convert_float_to_float16(found["tracing"], keep_io_types=True)
        found["all half"] = convert_float_to_float16(found["dynamo"], keep_io_types=False)
    return found


def renamed(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same with every name but those of inputs and outputs drawn at random."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    rng = np.random.default_rng(seed)
    names = {v.name: v.name for v in (*model.graph.input, *model.graph.output)} | {"": ""}

    def name(old: str) -> str:
        return names.setdefault(old, f"n{rng.integers(1 << 40)}")

    for tensor in model.graph.initializer:
        tensor.name = name(tensor.name)
    for node in model.graph.node:
        node.name = name(node.name)
        node.input[:], node.output[:] = map(name, node.input), map(name, node.output)
    del model.graph.value_info[:]
    return model


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("ours", "theirs"), list(itertools.permutations(FORMS, 2)))
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


def test_a_shuffled_copy_in_another_form_is_one_for_check() -> None:
    reference, suspect = forms("resnet18")["tracing"], lady.permute(forms("resnet18")["dynamo"], 3)
    assert lady.check(reference, suspect.graph).accepted
    other = onnx.ModelProto.FromString(suspect.model.SerializeToString())
    (node,) = [n for n in other.graph.node if n.op_type == "MaxPool"]
    node.op_type = "AveragePool"
    del node.attribute[:]
    node.attribute.extend([helper.make_attribute("kernel_shape", [3, 3]), helper.make_attribute("strides", [2, 2])])
    node.attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    found = lady.check(reference, other)
    assert found.verdict == "unrelated"
    assert "computes something else" in found.reason


def test_exit_2_says_where_they_part(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.randn(2, 3, 32, 32)
    for file, widths in (("a", (8, 12, 16, 20)), ("b", (8, 12, 18, 20))):
        net = randomise(ResNet(Basic, (1, 1, 1, 1), widths, 8, 5))
        onnx.save(export(net, x, dynamo=file == "b"), tmp_path / f"{file}.onnx")
    assert main(["resync", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "b.onnx: another architecture than" in error
    assert "with weights of shape [18, 12" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]
