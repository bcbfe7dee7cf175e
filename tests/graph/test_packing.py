"""Weights of bytes that hold several numbers each are shown with their numbers one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.weights import pack_numbers, unpack_numbers
from lady_onnx.rules.vocabulary.packing import Packing

INNER, COLUMNS, BLOCK = 32, 6, 16
NUMBERS, BYTES = [6, 16, 16], [6, 8, 8]
"""Groups inside the blocks, with numbers one by one and with two in a byte."""


def build(readers: str = "one") -> onnx.ModelProto:
    """A product with a weight of four bits, which others may read as well."""
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.standard_normal((5, INNER)).astype(np.float32),
        "b": rng.integers(0, 256, (COLUMNS, 2, 8)).astype(np.uint8),
        "scales": (0.1 + rng.random((COLUMNS, 2))).astype(np.float32),
        "last": rng.standard_normal((COLUMNS, 3)).astype(np.float32),
        "zero": np.array(0, np.uint8),
    }

    def multiply(weight: str, made: str, bits: int = 4) -> onnx.NodeProto:
        sizes = {
            "K": INNER * 4 // bits,
            "N": COLUMNS,
            "bits": bits,
            "block_size": BLOCK * 4 // bits,
        }
        taken = ["h", weight, "scales"]
        return helper.make_node("MatMulNBits", taken, [made], domain="com.microsoft", **sizes)

    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"])]
    if readers == "alias":
        nodes.append(helper.make_node("Identity", ["b"], ["b.same"]))
    nodes += [
        multiply("b.same" if readers == "alias" else "b", "y"),
        helper.make_node("MatMul", ["y", "last"], ["out"]),
    ]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5])]
    if readers == "bytes":
        nodes.append(helper.make_node("Shape", ["b"], ["size"]))
        outputs.append(helper.make_tensor_value_info("size", TensorProto.INT64, [3]))
    if readers == "output":
        outputs.append(helper.make_tensor_value_info("b", TensorProto.UINT8, [COLUMNS, 2, 8]))
    if readers == "input":
        inputs.append(helper.make_tensor_value_info("b", TensorProto.UINT8, [COLUMNS, 2, 8]))
    graph = helper.make_graph(
        nodes,
        "packed",
        inputs,
        outputs,
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def list_sizes(model: onnx.ModelProto) -> list[int]:
    return sorted(g.size for g in lady.find_groups(model).groups if g.size > 2)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3)),
    st.sampled_from((1, 2, 4)),
    st.booleans(),
)
def test_packing_is_the_inverse_of_unpacking(array: np.ndarray, bits: int, high: bool) -> None:
    packing = Packing(bits, high)
    numbers = unpack_numbers(array, packing)
    assert numbers.shape == (*array.shape[:-1], array.shape[-1] * 8 // bits)
    assert numbers.max() < 1 << bits
    assert np.array_equal(pack_numbers(numbers, packing), array)


@pytest.mark.parametrize("readers", ["one", "alias", "input"])
def test_numbers_are_units_where_every_reader_says_so(readers: str) -> None:
    model = build(readers)
    assert list_sizes(model) == NUMBERS
    shuffled = lady.permute(model, seed=1)
    assert lady.verify(model, shuffled.model).equal
    result = lady.resync(model, shuffled.model)
    assert result.verdict == "permuted"
    assert result.max_weight_difference == 0


@pytest.mark.parametrize("readers", ["bytes", "output"])
def test_bytes_are_units_where_something_reads_bytes(readers: str) -> None:
    """What reads a whole weight of bytes says nothing of numbers in them."""
    model = build(readers)
    sizes = list_sizes(model)
    assert sizes == (BYTES if readers == "bytes" else [])
    if sizes:
        assert lady.verify(model, lady.permute(model, seed=1).model).equal


@pytest.mark.parametrize("is_external", [False, True])
def test_files_have_the_bytes_of_their_operators(tmp_path: Path, is_external: bool) -> None:
    file, moved, back = (tmp_path / name for name in ("a.onnx", "b.onnx", "c.onnx"))
    onnx.save(build(), file, save_as_external_data=is_external, size_threshold=0)
    lady.permute(file, seed=2).save(moved)
    lady.resync(file, moved).save(back)
    graph = load_graph(back)
    assert graph.shape("b") == graph.array("b").shape == (COLUMNS, 2, BLOCK)
    stored = next(t for t in onnx.load(back).graph.initializer if t.name == "b")
    first = next(t for t in build().graph.initializer if t.name == "b")
    assert numpy_helper.to_array(stored).tobytes() == numpy_helper.to_array(first).tobytes()
    assert lady.verify(file, moved).equal


def test_a_copy_of_other_numbers_is_told_by_its_numbers() -> None:
    """Half a byte that was changed is one weight, not two."""
    model, other = build(), build()
    weight = next(t for t in other.graph.initializer if t.name == "b")
    array = numpy_helper.to_array(weight).copy()
    array[3, 1, 2] ^= 0x40
    weight.CopyFrom(numpy_helper.from_array(array, "b"))
    result = lady.resync(model, lady.permute(other, seed=5).model)
    assert result.verdict not in ("identical", "permuted")
    assert result.max_weight_difference == 4


def test_a_node_that_nothing_needs_does_not_count() -> None:
    model = build()
    shuffled = lady.permute(model, seed=3).model
    shuffled.graph.node.append(helper.make_node("Shape", ["b"], ["unused"]))
    assert lady.check(model, shuffled).verdict == "permuted"
