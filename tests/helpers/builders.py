"""Small models built by hand, and what is asked of them, for the tests of several modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph

RNG = np.random.default_rng(0)
Case = tuple[onnx.ModelProto, list[int]]
"""A model, and the sizes of its groups, sorted."""
FLOAT = TensorProto.FLOAT


def build(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    inputs: dict[str, list | None],
    opset: int = 17,
) -> onnx.ModelProto:
    """A model of nodes, weights by name, and the shapes of its inputs by name.

    Its output is called `out` and has no shape.
    """
    graph = helper.make_graph(
        nodes,
        "trap",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def w(*shape: int) -> np.ndarray:
    """A weight of a shape, of normal random numbers, float32."""
    return RNG.standard_normal(shape).astype(np.float32)


def sizes(model: onnx.ModelProto, **data: np.ndarray) -> list[int]:
    """The sizes of a model's groups, sorted.

    Asserts that permuting them leaves the outputs as they are; `data` are the inputs to run, by
    name, by default random ones.
    """
    symmetry = lady.find_groups(model)
    if symmetry.groups:
        assert lady.verify(model, lady.permute(model, 1).model, data=data or None).equal
    return sorted(g.size for g in symmetry.groups)


def value(name: str, shape: list | None = None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    """An input or output of a graph."""
    return helper.make_tensor_value_info(name, kind, shape)


def node(op: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    """A node named after its outputs; inputs are separated by commas, outputs by blanks."""
    return helper.make_node(
        op,
        [i.strip() for i in inputs.split(",")],
        outputs.split(),
        name=f"n_{outputs}",
        **attributes,
    )


def exact(model: onnx.ModelProto, tmp_path: Path | None = None) -> None:
    """A shuffled copy comes back bit for bit, also through a file."""
    shuffled = lady.permute(model, 2)
    result = lady.resync(model, shuffled.model, verify="none")
    assert shuffled.graph.tensors.keys() == load_graph(model).tensors.keys()
    assert result.exact
    if tmp_path:
        shuffled.save(tmp_path / "m.onnx")
        assert lady.verify(model, tmp_path / "m.onnx").equal
        assert lady.check(model, tmp_path / "m.onnx").verdict == "permuted"
