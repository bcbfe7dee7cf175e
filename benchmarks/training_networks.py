"""Small networks that are drawn at random, to be trained by `trainings`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 10


@dataclass
class Built:
    """A network while it is drawn.

    Attributes:
        nodes, weights: of the ONNX graph, whose input is `x` and whose output is `out`.
        layers: names of weights that are learned together.
        gates: biases in front of ReLUs, which kill units.
        statistics: batch means and variances.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    layers: list[list[str]] = field(default_factory=list)
    gates: list[str] = field(default_factory=list)
    statistics: list[str] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def layer(self, rng: np.random.Generator, **shapes: tuple[int, ...]) -> None:
        """Weights that are learned together, of deviation one over the root of their inputs.

        Vectors are small.
        """
        self.layers.append(list(shapes))
        for name, shape in shapes.items():
            fan = max(int(np.prod(shape[1:])), 1) if len(shape) > 1 else 100
            self.weights[name] = (rng.standard_normal(shape) * (2 / fan) ** 0.5).astype(np.float32)

    def dense(
        self, rng: np.random.Generator, flow: str, name: str, inputs: int, outputs: int
    ) -> str:
        """A dense layer as one Gemm."""
        self.layer(rng, **{name: (outputs, inputs), f"{name}_bias": (outputs,)})
        return self.add("Gemm", [flow, name, f"{name}_bias"], f"{name}_out", transB=1)

    def projected(
        self, rng: np.random.Generator, flow: str, name: str, inputs: int, outputs: int
    ) -> str:
        """A dense layer as exporters write it for sequences: a MatMul and an Add."""
        self.layer(rng, **{name: (inputs, outputs), f"{name}_bias": (outputs,)})
        return self.add(
            "Add", [self.add("MatMul", [flow, name], f"{name}_sum"), f"{name}_bias"], f"{name}_out"
        )

    def relu(self, flow: str, gate: str) -> str:
        self.gates.append(gate)
        return self.add("Relu", [flow], f"{flow}_relu")

    def model(self, shape: Sequence[int | str], integers: bool = False) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "training",
            [
                helper.make_tensor_value_info(
                    "x", TensorProto.INT64 if integers else TensorProto.FLOAT, shape
                )
            ],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", CLASSES])],
            [numpy_helper.from_array(a, n) for n, a in self.weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def build_dense(rng: np.random.Generator, inputs: int) -> tuple[Built, onnx.ModelProto]:
    built, flow, width = Built(), "x", inputs
    for number in range(int(rng.integers(1, 4))):
        wider = int(rng.choice([8, 16, 32, 64, 96]))
        flow = built.relu(built.dense(rng, flow, f"d{number}", width, wider), f"d{number}_bias")
        width = wider
    built.dense(rng, flow, "last", width, CLASSES)
    built.nodes[-1].output[0] = "out"
    return built, built.model(["N", inputs])


def build_convolutions(rng: np.random.Generator) -> tuple[Built, onnx.ModelProto]:
    built, flow, width = Built(), "x", 1
    for number in range(2):
        wider = int(rng.choice([8, 16, 24, 32]))
        name = f"c{number}"
        built.layer(rng, **{name: (wider, width, 3, 3), f"{name}_bias": (wider,)})
        flow = built.add(
            "Conv",
            [flow, name, f"{name}_bias"],
            f"{name}_out",
            pads=[1] * 4,
            strides=[1 + number] * 2,
        )
        gate = f"{name}_bias"
        if number or rng.random() < 0.7:
            own = [f"{name}_{part}" for part in ("gain", "shift", "mean", "variance")]
            built.layers[-1] += own[:2]
            built.statistics += own[2:]
            built.weights |= {
                n: (0.1 * rng.standard_normal(wider)).astype(np.float32) for n in own[1:3]
            }
            built.weights |= {
                n: rng.uniform(0.5, 1.5, wider).astype(np.float32) for n in (own[0], own[3])
            }
            flow, gate = built.add("BatchNormalization", [flow, *own], f"{name}_norm"), own[1]
        flow, width = built.relu(flow, gate), wider
    pooled = rng.random() < 0.5
    if pooled:
        flow = built.add("GlobalAveragePool", [flow], "pooled")
    flow = built.add("Flatten", [flow], "flat")
    built.dense(rng, flow, "last", width * (1 if pooled else 16), CLASSES)
    built.nodes[-1].output[0] = "out"
    return built, built.model(["N", 1, 8, 8])


def build_words(rng: np.random.Generator, words: int, length: int) -> tuple[Built, onnx.ModelProto]:
    built, width, hidden = Built(), int(rng.choice([16, 24, 32])), int(rng.choice([16, 32, 48]))
    built.layer(rng, words=(words, width))
    built.add(
        "ReduceMean", [built.add("Gather", ["words", "x"], "read")], "mean", axes=[1], keepdims=0
    )
    flow = built.relu(built.dense(rng, "mean", "d0", width, hidden), "d0_bias")
    built.dense(rng, flow, "last", hidden, CLASSES)
    built.nodes[-1].output[0] = "out"
    return built, built.model(["N", length], integers=True)


def build_block(rng: np.random.Generator) -> tuple[Built, onnx.ModelProto]:
    """Eight positions of eight numbers; attention and two dense layers, each with its norm."""
    built, heads, size, hidden = Built(), int(rng.choice([2, 4])), 8, int(rng.choice([16, 32, 64]))
    width = heads * size
    stream = built.projected(rng, "x", "into", 8, width)
    built.weights |= {"heads": np.array([0, 8, heads, size]), "back": np.array([0, 8, width])}
    for number, name in enumerate("qkv"):
        flow = built.projected(rng, stream, name, width, width)
        flow = built.add("Reshape", [flow, "heads"], f"{name}_heads")
        built.add(
            "Transpose",
            [flow],
            f"{name}_turned",
            perm=[0, 2, 3, 1] if number == 1 else [0, 2, 1, 3],
        )
    built.weights["root"] = np.array(size**-0.5, np.float32)
    scores = built.add(
        "Mul", [built.add("MatMul", ["q_turned", "k_turned"], "products"), "root"], "scores"
    )
    built.add("MatMul", [built.add("Softmax", [scores], "shares", axis=-1), "v_turned"], "mixed")
    flow = built.add(
        "Reshape",
        [built.add("Transpose", ["mixed"], "mixed_back", perm=[0, 2, 1, 3]), "back"],
        "joined",
    )
    stream = built.add("Add", [stream, built.projected(rng, flow, "o", width, width)], "stream")
    stream = _normed(built, stream, "n0", width)
    flow = built.relu(built.projected(rng, stream, "up", width, hidden), "up_bias")
    stream = built.add(
        "Add", [stream, built.projected(rng, flow, "down", hidden, width)], "stream2"
    )
    flow = built.add(
        "ReduceMean", [_normed(built, stream, "n1", width)], "mean", axes=[1], keepdims=0
    )
    built.dense(rng, flow, "last", width, CLASSES)
    built.nodes[-1].output[0] = "out"
    return built, built.model(["N", 8, 8])


def _normed(built: Built, flow: str, name: str, width: int) -> str:
    built.layers.append([f"{name}_gain", f"{name}_shift"])
    built.weights |= {
        f"{name}_gain": np.ones(width, np.float32),
        f"{name}_shift": np.zeros(width, np.float32),
    }
    return built.add(
        "LayerNormalization", [flow, f"{name}_gain", f"{name}_shift"], f"{name}_out", axis=-1
    )
