"""Networks around one operator whose operands are projections of the input, and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

LENGTH, WIDTH = 4, 3
"""The places of the input, and its width."""
MICROSOFT, CLASSICAL = "com.microsoft", "ai.onnx.ml"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Heads:
    """What is computed from the input, with its heads in front of its places.

    Attributes:
        shape: [batch, heads, places, dimensions].
    """

    shape: tuple[int, int, int, int]


Operand = np.ndarray | Shape | Heads | None
"""A weight, the shape of what is computed from the input, or nothing."""


@dataclass(frozen=True)
class OneOperator:
    """A node, and the sizes of the groups of the network around it.

    Attributes:
        operator: the operator's name.
        operands: its operands.
        results: the shapes of its results, None for one that is left out.
        sizes: the sizes of the groups.
        attributes: its attributes.
        domain: its domain.
        opset: the version of the default domain.
        runs: whether onnxruntime runs it on a CPU.
        length: the places of the input.
    """

    operator: str
    operands: Sequence[Operand]
    results: Sequence[Shape | None]
    sizes: Sequence[int]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = MICROSOFT
    opset: int = 21
    runs: bool = True
    length: int = LENGTH

    @property
    def label(self) -> str:
        """What tells the case from most others of its operator."""
        words = [
            "-" if o is None else "w" if isinstance(o, np.ndarray) else "x" for o in self.operands
        ]
        return f"{self.operator}-{''.join(words)}-{'-'.join(self.attributes)}"

    @property
    def can_be_spliced(self) -> bool:
        """Whether onnxruntime runs it on a CPU, and it reads what is computed from the input."""
        return self.runs and any(isinstance(o, tuple | Heads) for o in self.operands)

    def build(self) -> tuple[onnx.ModelProto, list[int]]:
        """The network, and the sizes of its groups.

        Every element of each result has weights of its own behind it, so that no order can change
        unnoticed.
        """
        weights: dict[str, np.ndarray] = {}
        nodes: list[NodeProto] = []
        names = [self._make_operand(k, nodes, weights) for k in range(len(self.operands))]
        made = [f"y{k}" if shape else "" for k, shape in enumerate(self.results)]
        nodes.append(
            helper.make_node(self.operator, names, made, domain=self.domain, **self.attributes)
        )
        ends = []
        for k, shape in enumerate(self.results):
            if shape is None:
                continue
            count = int(np.prod(shape))
            weights |= {f"flat{k}": np.array([1, count]), f"last{k}": draw(90 + k, count, 3)}
            nodes.append(helper.make_node("Cast", [f"y{k}"], [f"f{k}"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Reshape", [f"f{k}", f"flat{k}"], [f"row{k}"]))
            nodes.append(helper.make_node("MatMul", [f"row{k}", f"last{k}"], [f"out{k}"]))
            ends.append(f"out{k}")
        nodes.append(helper.make_node("Concat", ends, ["out"], axis=1))
        return build_model(nodes, weights, self.opset, self.length), sorted(self.sizes)

    def _make_operand(self, k: int, nodes: list[NodeProto], weights: dict[str, np.ndarray]) -> str:
        """Make operand `k`, and return its name."""
        operand, name = self.operands[k], f"o{k}"
        if operand is None:
            return ""
        if isinstance(operand, np.ndarray):
            weights[name] = operand
            return name
        if isinstance(operand, Heads):
            b, h, s, d = operand.shape
            shape, made = (b, s, h, d), f"{name}.rows"
            nodes.append(helper.make_node("Transpose", [made], [name], perm=[0, 2, 1, 3]))
        else:
            shape, made = operand, name
        width = int(np.prod(shape)) // self.length
        weights |= {f"a{k}": draw(k, WIDTH, width), f"b{k}": draw(50 + k, width)}
        weights[f"shape{k}"] = np.array(shape)
        nodes[:0] = [
            helper.make_node("MatMul", ["x", f"a{k}"], [f"p{k}"]),
            # Without it no input of zeros could tell units apart.
            helper.make_node("Add", [f"p{k}", f"b{k}"], [f"m{k}"]),
            helper.make_node("Reshape", [f"m{k}", f"shape{k}"], [made]),
        ]
        return name


def draw(seed: int, *shape: int) -> np.ndarray:
    """Draw a weight."""
    return (np.random.default_rng(seed).standard_normal(shape) / 2).astype(np.float32)


def build_model(
    nodes: Sequence[NodeProto], weights: Mapping[str, np.ndarray], opset: int, length: int = LENGTH
) -> onnx.ModelProto:
    """A model of these nodes, from `x` to `out`."""
    graph = helper.make_graph(
        list(nodes),
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, length, WIDTH])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
    )
    versions = {"": opset, MICROSOFT: 1, CLASSICAL: 3}
    used = {"", MICROSOFT, *(node.domain for node in nodes)}
    opsets = [helper.make_opsetid(d, version) for d, version in versions.items() if d in used]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8 if opset < 21 else 10)
