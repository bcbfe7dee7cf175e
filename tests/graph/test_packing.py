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
from lady_onnx.vocabulary.packing import Packing

from ..helpers.law import examples

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


@examples(100)
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
    assert load_graph(model).shape("b") == (COLUMNS, 2, BLOCK // 2)
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
    assert list_sizes(shuffled) == NUMBERS
    assert lady.check(model, shuffled).verdict == "permuted"


def change(model: onnx.ModelProto, how: str) -> onnx.ModelProto:
    """Write the weight of four bits in another way that gives the same bytes."""
    weight = next(t for t in model.graph.initializer if t.name == "b")
    node = next(n for n in model.graph.node if n.op_type == "MatMulNBits")
    node.input[1] = "b.same"
    array = numpy_helper.to_array(weight)
    if how == "reshaped":
        weight.CopyFrom(numpy_helper.from_array(array.reshape(-1), "b"))
        shape = numpy_helper.from_array(np.array(array.shape), "shape")
        model.graph.initializer.append(shape)
        model.graph.node.insert(0, helper.make_node("Reshape", ["b", "shape"], ["b.same"]))
    else:
        weight.CopyFrom(numpy_helper.from_array(array.astype(np.int32), "b"))
        cast = helper.make_node("Cast", ["b"], ["b.same"], to=TensorProto.UINT8)
        model.graph.node.insert(0, cast)
    return model


@pytest.mark.parametrize("how", ["reshaped", "cast"])
def test_other_ways_to_write_the_bytes_are_the_same_numbers(how: str) -> None:
    model = build()
    shuffled = change(lady.permute(model, seed=3).model, how)
    assert lady.check(model, shuffled).verdict == "permuted"
    assert lady.check(change(build(), how), lady.permute(model, seed=4).model).verdict == "permuted"


def test_a_function_that_is_called_like_an_operator_is_none() -> None:
    """It may move bytes."""
    model = build("alias")
    node = next(n for n in model.graph.node if n.op_type == "Identity")
    node.domain = "mine"
    body = [
        helper.make_node("Constant", [], ["one"], value_int=1),
        helper.make_node("Constant", [], ["two"], value_int=2),
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.INT32),
        helper.make_node("Cast", ["two"], ["factor"], to=TensorProto.INT32),
        helper.make_node("Div", ["wide", "factor"], ["half"]),
        helper.make_node("Cast", ["half"], ["y"], to=TensorProto.UINT8),
    ]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("mine", "Identity", ["x"], ["y"], body, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    assert load_graph(model).shape("b") == (COLUMNS, 2, 8)
    assert lady.verify(model, lady.permute(model, seed=1).model).equal


@pytest.mark.parametrize("bits", ["4", [4], 3, None])
def test_what_does_not_say_how_numbers_lie_leaves_bytes(bits: object) -> None:
    model = build()
    node = next(n for n in model.graph.node if n.op_type == "MatMulNBits")
    kept = [a for a in node.attribute if a.name != "bits"]
    del node.attribute[:]
    node.attribute.extend(kept)
    if bits is not None:
        node.attribute.append(helper.make_attribute("bits", bits))
    is_default = bits is None
    assert load_graph(model).shape("b") == (COLUMNS, 2, BLOCK if is_default else 8)


def test_an_axis_without_elements_is_no_matter() -> None:
    empty = np.zeros((0, 3, 8), np.uint8)
    packing = Packing(4)
    assert unpack_numbers(empty, packing).shape == (0, 3, 16)
    assert pack_numbers(unpack_numbers(empty, packing), packing).shape == empty.shape


@pytest.mark.parametrize("inner", [17, 24, 32, 48])
@pytest.mark.parametrize("scales", ["equal", "rows", "any"])
@pytest.mark.parametrize("summed", ["", "b", "s", "z"])
def test_zero_points_and_cut_blocks_keep_the_law(inner: int, scales: str, summed: str) -> None:
    """Whatever scales say: a zero point belongs to its block, and a cut block is like no other."""
    rng = np.random.default_rng(inner)
    blocks = -(-inner // BLOCK)
    shape = (COLUMNS, blocks)
    drawn = {"equal": np.ones(shape), "rows": np.ones(shape) * (1 + rng.random((1, blocks)))}
    weights = {
        "a": rng.standard_normal((5, inner)),
        "s": drawn.get(scales, 0.1 + rng.random(shape)),
        "last": rng.standard_normal((COLUMNS, 3)),
    }
    arrays = {n: w.astype(np.float32) for n, w in weights.items()}
    arrays["b"] = rng.integers(0, 256, (COLUMNS, blocks, 8)).astype(np.uint8)
    arrays["z"] = rng.integers(0, 256, (COLUMNS, (blocks + 1) // 2)).astype(np.uint8)
    sizes = {"K": inner, "N": COLUMNS, "bits": 4, "block_size": BLOCK}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("MatMulNBits", list("hbsz"), ["y"], domain="com.microsoft", **sizes),
        helper.make_node("MatMul", ["y", "last"], ["o" if summed else "out"]),
    ]
    if summed:
        # a reader that takes all elements alike
        nodes += [
            helper.make_node("Cast", [summed], ["f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["f"], ["t"], keepdims=0),
            helper.make_node("Add", ["o", "t"], ["out"]),
        ]
    graph = helper.make_graph(
        nodes,
        "blocks",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    for seed in range(3):
        assert lady.verify(model, lady.permute(model, seed).model).equal
