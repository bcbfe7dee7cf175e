"""One network in the forms in which exporters and converters write it."""

from __future__ import annotations

import io
import warnings
from functools import cache

import onnx
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn

from .architectures import Basic, MobileNetV2, ResNet, export, randomise
from .export_cache import read_or_make


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        sizes = {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 40,
        }
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
    """By the tracing exporter, of an older opset, BatchNorm apart and norms spelled out."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        mode = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(
            net.eval(),
            (x,),
            buffer,
            dynamo=False,
            opset_version=14,
            training=mode,
            do_constant_folding=False,
        )
    return onnx.load_from_string(buffer.getvalue())


@cache
def forms(name: str) -> dict[str, onnx.ModelProto]:
    """Makes one network in all `FORMS`; each is made once in a run of the tests."""
    plain = {
        "tracing": lambda: export(*_network(name), dynamo=False),
        "dynamo": lambda: export(*_network(name), dynamo=True),
        FORMS[2]: lambda: unfolded(*_network(name)),
    }
    found = {
        form: read_or_make(f"form-{name}-{number}", make)
        for number, (form, make) in enumerate(plain.items())
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found["half"] = convert_float_to_float16(found["tracing"], keep_io_types=True)
        found["all half"] = convert_float_to_float16(found["dynamo"], keep_io_types=False)
    return found


def _network(name: str) -> tuple[nn.Module, Tensor]:
    return randomise(NETS[name]()), torch.randn(2, 3, 32, 32)
