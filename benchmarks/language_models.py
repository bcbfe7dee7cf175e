"""Language models of any size, written as external data without holding their weights in memory.

They are decoders as PyTorch traces them: learned positions, layers with a norm, attention by heads
and an MLP, a last norm and a head of its own. Weights are random.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

HEAD_WIDTH = 64
MLP_FACTOR = 4
POSITIONS = 32
"""The number of tokens of an input: what the graph costs to run is not measured."""
DRAWN_ELEMENTS = 1 << 22
"""The number of random weights that are held in memory at once."""


@dataclass(frozen=True)
class Size:
    """The sizes of a language model."""

    width: int
    layers: int
    words: int

    @property
    def parameters(self) -> int:
        """The number of parameters, roughly: twelve squares of the width a layer, and the words."""
        return (4 + 2 * MLP_FACTOR) * self.layers * self.width**2 + 2 * self.words * self.width


SIZES = {
    "1M": Size(128, 4, 800),
    "2M": Size(192, 4, 600),
    "5M": Size(256, 6, 600),
    "10M": Size(384, 5, 1500),
    "20M": Size(512, 6, 1100),
    "50M": Size(640, 9, 4500),
    "100M": Size(768, 13, 5200),
    "200M": Size(1024, 15, 5500),
    "500M": Size(1536, 17, 6000),
    "1000M": Size(2048, 19, 10700),
    "97M": Size(768, 12, 8192),
    "338M": Size(1024, 24, 18000),
    "1160M": Size(2048, 20, 38000),
}


class _Writer:
    """Collects the nodes of a model, and writes its weights to a file as they come."""

    def __init__(self, data: Path, seed: int):
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._file = data.open("wb")
        self._location = data.name
        self._rng = np.random.default_rng(seed)

    def close(self) -> None:
        self._file.close()

    def add_weight(self, name: str, *shape: int, spread: float = 0.0, mean: float = 0.0) -> str:
        """Write a normal weight; without a spread one that is fit for its number of inputs."""
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        spread = spread or shape[0] ** -0.5
        self._file.write(b"\0" * (-self._file.tell() % 4096))
        start, count = self._file.tell(), int(np.prod(shape))
        for first in range(0, count, DRAWN_ELEMENTS):
            many = min(DRAWN_ELEMENTS, count - first)
            drawn = self._rng.standard_normal(many, np.float32) * np.float32(spread)
            (drawn + np.float32(mean)).tofile(self._file)
        places = (("location", self._location), ("offset", start), ("length", 4 * count))
        for key, value in places:
            tensor.external_data.add(key=key, value=str(value))
        self.weights.append(tensor)
        return name

    def add_constant(self, name: str, values: object, dtype: type = np.int64) -> str:
        self.weights.append(onnx.numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def add(self, operator: str, *operands: str, **attributes: object) -> str:
        made = f"{operator}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, operands, [made], made, **attributes))
        return made

    def multiply(self, x: str, name: str, read: int, made: int) -> str:
        """Add a product with a weight, and a bias."""
        y = self.add("MatMul", x, self.add_weight(f"{name}.weight", read, made))
        return self.add("Add", y, self.add_weight(f"{name}.bias", made, spread=0.1))

    def normalise(self, x: str, name: str, width: int) -> str:
        gain = self.add_weight(f"{name}.gain", width, spread=0.1, mean=1.0)
        shift = self.add_weight(f"{name}.bias", width, spread=0.1)
        return self.add("LayerNormalization", x, gain, shift, axis=-1)


def write_language_model(path: Path, size: Size, seed: int = 0) -> None:
    """Write a model, and its weights to `<file name>.data` beside it."""
    w = _Writer(path.with_name(path.name + ".data"), seed)
    width, heads = size.width, size.width // HEAD_WIDTH
    apart = w.add_constant("apart", [0, 0, heads, HEAD_WIDTH])
    joined = w.add_constant("joined", [0, 0, width])
    scale = w.add_constant("scale", HEAD_WIDTH**-0.5, np.float32)
    x = w.add("Gather", w.add_weight("words", size.words, width, spread=0.3), "tokens")
    x = w.add("Add", x, w.add_weight("places", POSITIONS, width, spread=0.1))
    for layer in range(size.layers):
        name = f"layers.{layer}"
        h = w.normalise(x, f"{name}.norm1", width)
        q, k, v = (
            w.add("Reshape", w.multiply(h, f"{name}.{part}", width, width), apart) for part in "qkv"
        )
        q, v = (w.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (q, v))
        k = w.add("Transpose", k, perm=[0, 2, 3, 1])
        seen = w.add("Softmax", w.add("Mul", w.add("MatMul", q, k), scale), axis=-1)
        y = w.add("Transpose", w.add("MatMul", seen, v), perm=[0, 2, 1, 3])
        y = w.multiply(w.add("Reshape", y, joined), f"{name}.out", width, width)
        x = w.add("Add", x, y)
        h = w.normalise(x, f"{name}.norm2", width)
        h = w.add("Gelu", w.multiply(h, f"{name}.up", width, MLP_FACTOR * width))
        x = w.add("Add", x, w.multiply(h, f"{name}.down", MLP_FACTOR * width, width))
    x = w.normalise(x, "norm", width)
    made = w.add("MatMul", x, w.add_weight("head", width, size.words))
    w.close()
    graph = helper.make_graph(
        w.nodes,
        "language_model",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, POSITIONS])],
        [helper.make_tensor_value_info(made, TensorProto.FLOAT, [1, POSITIONS, size.words])],
        w.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString())
