"""Which weight of one file is which of another, however both are written."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import lady_onnx as lady

from ..helpers.builders import build
from ..helpers.renaming import renamed


def weighed(
    nodes: list[onnx.NodeProto], seed: int, transposed: Sequence[str] = (), rows: str = "batch"
) -> onnx.ModelProto:
    """A network of square dense layers with the weights `a` to `d`, some of them transposed."""
    rng = np.random.default_rng(seed)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [rows, 6])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)],
    )
    for name in "abcd":
        w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((6, 6), 6))
        graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(w.T) if name in transposed else w, name)
        )
        graph.initializer.append(numpy_helper.from_array(b, f"{name}b"))
    sizes = {"start": [0], "one": [1], "two": [2, 3]}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(v, np.int64), n) for n, v in sizes.items()
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def dense(x: str, name: str, out: str, gemm: bool = False) -> list[onnx.NodeProto]:
    if gemm:
        return [helper.make_node("Gemm", [x, name, f"{name}b"], [out], transB=1)]
    return [
        helper.make_node("MatMul", [x, name], [f"{out}0"]),
        helper.make_node("Add", [f"{out}0", f"{name}b"], [out]),
    ]


def comes_back(reference: onnx.ModelProto, suspect: onnx.ModelProto) -> None:
    found = lady.resync(reference, lady.permute(renamed(suspect, 1), 2).graph)
    assert found.moved
    assert found.outputs_preserved
    assert found.restored
    assert not found.alike
    assert lady.check(reference, suspect).accepted


def relu(x: str, out: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [x], [out])


def test_square_weights_that_lie_transposed() -> None:
    def nodes(gemm: bool) -> list[onnx.NodeProto]:
        return [
            *dense("x", "a", "h", gemm),
            relu("h", "i"),
            *dense("i", "b", "j", gemm),
            relu("j", "k"),
            *dense("k", "c", "out"),
        ]

    comes_back(weighed(nodes(False), 0), weighed(nodes(True), 0, "ab"))


def test_like_branches_in_another_order() -> None:
    """Nothing but their values says which of two branches is which."""

    def nodes(first: str, second: str, gemm: bool) -> list[onnx.NodeProto]:
        branches = [
            [*dense("x", n, f"h{n}", gemm), relu(f"h{n}", f"i{n}")] for n in (first, second)
        ]
        return [
            *branches[0],
            *branches[1],
            helper.make_node("Add", ["ia", "ib"], ["j"]),
            *dense("j", "c", "out"),
        ]

    comes_back(weighed(nodes("a", "b", False), 0), weighed(nodes("b", "a", True), 0, "ab"))


def test_a_shape_says_nothing_of_what_follows_what() -> None:
    """One file takes the batch's size from a layer's output, the other from its input."""

    def nodes(size_of: str, gemm: bool) -> list[onnx.NodeProto]:
        return [
            *dense("x", "a", "h", gemm),
            relu("h", "i"),
            helper.make_node("Shape", [size_of], ["s"]),
            helper.make_node("Slice", ["s", "start", "one"], ["n"]),
            helper.make_node("Concat", ["n", "two"], ["t"], axis=0),
            helper.make_node("Reshape", ["x", "t"], ["y"]),
            helper.make_node("Flatten", ["y"], ["z"]),
            *dense("z", "b", "j", gemm),
            helper.make_node("Mul", ["i", "j"], ["k"]),
            *dense("k", "c", "out"),
        ]

    comes_back(weighed(nodes("i", False), 0), weighed(nodes("x", True), 0, "ab"))


def test_elements_moved_by_the_values_of_the_input() -> None:
    """A trigger in the input that picks another row: no two random runs would show it."""
    rng = np.random.default_rng(0)
    weights = {"a": rng.standard_normal((6, 8)), "b": rng.standard_normal((8, 4))}
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    tensors += [
        numpy_helper.from_array(np.array(v, np.int64), n)
        for n, v in (("zero", [0]), ("back", [3, 2, 1, 0]))
    ]
    layers = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"]),
    ]
    trigger = [
        helper.make_node("Slice", ["x", "start", "end", "axis"], ["s"]),
        helper.make_node("Cast", ["s"], ["whole"], to=onnx.TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "one"], ["pick"]),
        helper.make_node("Gather", ["y", "back"], ["other"], axis=1),
        helper.make_node("Concat", ["y", "y", "y", "y", "other"], ["all"], axis=0),
        helper.make_node("Gather", ["all", "pick"], ["out"], axis=0),
    ]
    numbers = {
        "start": [0, 0],
        "end": [1, 1],
        "axis": [0, 1],
        "one": [1],
        "zero": [0],
        "back": [3, 2, 1, 0],
    }
    tensors = tensors[:2] + [
        numpy_helper.from_array(np.array(v, np.int64), n) for n, v in numbers.items()
    ]

    def model(nodes: list[onnx.NodeProto], end: str) -> onnx.ModelProto:
        ends = [
            helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s)
            for n, s in (("x", [1, 6]), (end, [1, 4]))
        ]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    plain, odd = model(layers, "y"), model([*layers, *trigger], "out")
    for suspect in (odd, lady.permute(odd, 1).model):
        found = lady.check(plain, suspect)
        assert not found.accepted, found.reason


def biased(operator: str, bias: str) -> onnx.ModelProto:
    """Three layers whose biases are zeros: left out, given, written once, or an empty operand."""
    rng = np.random.default_rng(0)
    nodes, weights, flow = [], {}, "x"
    for k in range(3):
        shape = (
            (8, 8) if operator == "Gemm" else (8, 8, 3, 3) if operator == "Conv" else (8, 4, 3, 3)
        )
        weights[f"w{k}"] = rng.standard_normal(shape).astype(np.float32) * 0.2
        name = {"none": (), "empty": ("",), "given": (f"b{k}",), "once": ("b0",)}[bias]
        if name and name[0]:
            weights[name[0]] = np.zeros(8, np.float32)
        more: dict[str, Any] = {"pads": [1] * 4} if operator != "Gemm" else {}
        if operator == "ConvTranspose":
            more["group"] = 2
        nodes.append(helper.make_node(operator, [flow, f"w{k}", *name], [f"h{k}"], **more))
        nodes.append(helper.make_node("Relu", [f"h{k}"], [f"r{k}"]))
        flow = f"r{k}"
    nodes[-1].output[0] = "out"
    return build(nodes, weights, {"x": [2, 8] if operator == "Gemm" else [2, 8, 6, 6]})


@pytest.mark.parametrize("operator", ["Gemm", "Conv", "ConvTranspose"])
@pytest.mark.parametrize(
    ("ours", "theirs"), list(itertools.permutations(("none", "empty", "given", "once"), 2))
)
def test_biases_of_zeros_that_are_left_out(operator: str, ours: str, theirs: str) -> None:
    reference, suspect = biased(operator, ours), lady.permute(biased(operator, theirs), 1)
    found = lady.check(reference, suspect.graph)
    assert found.verdict == "permuted", found.reason
    assert found.resync is not None
    assert lady.verify(reference, found.resync.model).equal


def test_a_file_with_one_bias_for_all_keeps_its_form() -> None:
    suspect = lady.permute(biased("Conv", "once"), 1).model
    result = lady.resync(biased("Conv", "given"), suspect).model
    assert [t.name for t in result.graph.initializer] == [t.name for t in suspect.graph.initializer]
    assert list(result.graph.node) == list(suspect.graph.node)


def test_names_of_copies_are_not_taken() -> None:
    suspect = biased("Gemm", "once")
    for tensor in suspect.graph.initializer:
        tensor.name = tensor.name.replace("w1", "b0.2")
    for node in suspect.graph.node:
        node.input[:] = [name.replace("w1", "b0.2") for name in node.input]
    reference = biased("Gemm", "given")
    reference.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(np.full(8, 0.5, np.float32), "b0")
    )
    assert lady.check(reference, lady.permute(suspect, 1).graph).verdict == "altered"


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_attributes_that_have_a_default(operator: str) -> None:
    plain, whole = biased(operator, "given"), biased(operator, "none")
    for node in whole.graph.node:
        if node.op_type == operator:
            given = {
                "kernel_shape": [3, 3],
                "strides": [1, 1],
                "dilations": [1, 1],
                "auto_pad": "NOTSET",
            }
            node.attribute.extend(
                helper.make_attribute(name, value) for name, value in given.items()
            )
    for reference, suspect in ((plain, whole), (whole, plain)):
        assert lady.check(reference, lady.permute(suspect, 1).graph).verdict == "permuted"


def test_the_error_says_where_the_forms_part() -> None:
    reference, suspect = biased("Gemm", "none"), biased("Gemm", "none")
    suspect.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(np.ones((8, 9), np.float32), "w1")
    )
    suspect.graph.initializer[2].CopyFrom(
        numpy_helper.from_array(np.ones((9, 8), np.float32), "w2")
    )
    suspect.graph.node.insert(0, helper.make_node("Identity", ["x"], ["y"]))
    suspect.graph.node[1].input[0] = "y"
    assert (
        "node Linear 'h1', what it computes has no counterpart"
        in lady.check(reference, suspect).reason
    )


def tied(head: str, shared: bool) -> onnx.ModelProto:
    """An embedding that is, or is not, the output head too, which is written in three ways."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((20, 12)).astype(np.float32)
    weights = {
        "e": table,
        "a": rng.standard_normal((12, 16)).astype(np.float32),
        "b": rng.standard_normal((16, 12)) * 0.1,
    }
    name = "e" if shared else "f"
    weights |= {"b": weights["b"].astype(np.float32), name: table}
    nodes = [
        helper.make_node("Gather", ["e", "x"], ["v"]),
        helper.make_node("MatMul", ["v", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"]),
    ]
    if head == "Gemm":
        nodes.append(helper.make_node("Gemm", ["y", name], ["out"], transB=1))
    elif head == "Transpose":
        nodes.append(helper.make_node("Transpose", [name], ["t"], perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["y", "t"], ["out"]))
    else:
        weights["t"] = np.ascontiguousarray(table.T)
        nodes.append(helper.make_node("MatMul", ["y", "t"], ["out"]))
        weights.pop("f", None)
    graph = build(nodes, weights, {"x": [5]})
    graph.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    return graph


HEADS = [
    ("Gemm", True),
    ("Gemm", False),
    ("Transpose", True),
    ("Transpose", False),
    ("MatMul", False),
]


@pytest.mark.parametrize(("ours", "theirs"), list(itertools.permutations(HEADS, 2)))
def test_tables_that_are_written_once(ours: tuple[str, bool], theirs: tuple[str, bool]) -> None:
    reference, suspect = tied(*ours), lady.permute(tied(*theirs), 1)
    found = lady.check(reference, suspect.graph)
    assert found.verdict == "permuted", found.reason
    assert found.resync is not None
    assert lady.verify(reference, found.resync.model).equal
