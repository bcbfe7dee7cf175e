"""The operators of onnxruntime's own domain, each with the groups that its plain form has."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady

from ..helpers.fused import (
    BLOCKS,
    CASES,
    GROUPED_QUERIES,
    ROTATIONS,
    C,
    T,
    block_embedding,
    blocks,
    build_model,
    build_network,
    byte_choice,
    embeddings,
    grouped_queries,
    inverse,
    rotation,
    w,
)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{len(c[2])}")
def test_fused_operator(
    case: tuple[str, str, list[object], dict[str, object], int, list[int]],
) -> None:
    *given, expected = case
    model = build_model(*given)
    symmetry = lady.find_groups(model)
    assert sorted(g.size for g in symmetry.groups) == sorted(expected)
    assert lady.verify(model, lady.permute(model, 3).model, samples=2).equal


@pytest.mark.parametrize("mask", ["unidirectional", "lengths", "none"])
def test_places_under_a_mask_keep_their_order(mask: str) -> None:
    """Tokens that are weights may be shuffled together with what reads them.

    Unless a mask tells them apart.
    """
    weights = {
        "tokens": w(1, T, C),
        "a": w(C, 24),
        "bias": w(24),
        "lengths": np.array([T - 1], np.int32),
        "last": w(8, 3),
    }
    attributes = {"unidirectional": 1} if mask == "unidirectional" else {}
    inputs = ["m", "a", "bias", *(["lengths"] if mask == "lengths" else [])]
    nodes = [
        helper.make_node("Mul", ["tokens", "x"], ["m"]),
        helper.make_node(
            "Attention", inputs, ["y"], domain="com.microsoft", num_heads=2, **attributes
        ),
        helper.make_node("ReduceMean", ["y"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "last"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mask",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    places = [
        g
        for g in lady.find_groups(model).groups
        if [(s.initializer, s.axis) for s in g.slots] == [("tokens", 1)]
    ]
    assert len(places) == (mask == "none")
    assert lady.verify(model, lady.permute(model, 3).model).equal


@pytest.mark.parametrize(("packed", "turn"), GROUPED_QUERIES)
def test_grouped_queries(packed: bool, turn: str) -> None:
    model, expected = grouped_queries(packed, turn)
    assert sorted(g.size for g in lady.find_groups(model).groups) == expected
    assert lady.verify(model, lady.permute(model, 3).model).equal


def test_a_cache_that_is_given_and_returned_keeps_its_order() -> None:
    model, _ = grouped_queries(False, "halves")
    node = next(n for n in model.graph.node if n.op_type == "GroupQueryAttention")
    node.input[3:5] = ["past_k", "past_v"]
    for name in ("past_k", "past_v"):
        model.graph.input.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 3, 16])
        )
    for name in ("pk", "pv"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    next(t for t in model.graph.initializer if t.name == "lengths").CopyFrom(
        numpy_helper.from_array(np.array([T + 2], np.int32), "lengths")
    )
    next(t for t in model.graph.initializer if t.name == "total").CopyFrom(
        numpy_helper.from_array(np.array(T + 3, np.int32), "total")
    )
    # the queries of each key head
    assert [g.size for g in lady.find_groups(model).groups] == [2, 2]
    assert lady.verify(model, lady.permute(model, 3).model).equal


@pytest.mark.parametrize(("zeros", "flat"), BLOCKS)
def test_blocks_of_four_bits(zeros: bool, flat: bool) -> None:
    model, expected = blocks(zeros, flat)
    assert sorted(g.size for g in lady.find_groups(model).groups) == expected
    assert lady.verify(model, lady.permute(model, 3).model).equal


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("turned", "pairs"), ROTATIONS)
def test_rotary_embedding(turned: int, pairs: bool, apart: bool) -> None:
    model, expected = rotation(turned, pairs, apart)
    assert sorted(g.size for g in lady.find_groups(model).groups) == expected
    assert lady.verify(model, lady.permute(model, 3).model).equal


def test_what_follows_embeddings_is_known_to_be_of_floats() -> None:
    model, _ = embeddings()
    model.graph.node[-1].output[0] = "m"
    model.graph.node.append(helper.make_node("Transpose", ["m"], ["t"], perm=[0, 2, 1]))
    model.graph.node.append(helper.make_node("Add", ["t", "more"], ["a"]))
    model.graph.node.append(helper.make_node("GlobalAveragePool", ["a"], ["g"]))
    model.graph.node.append(helper.make_node("Flatten", ["g"], ["f"]))
    model.graph.node.append(helper.make_node("MatMul", ["f", "head"], ["out"]))
    model.graph.initializer.append(numpy_helper.from_array(w(3, 1), "more"))
    model.graph.initializer.append(numpy_helper.from_array(w(3, 2), "head"))
    assert [g.size for g in lady.find_groups(model).groups] == [3, C]


def test_embeddings_and_their_norm() -> None:
    model, expected = embeddings()
    assert [g.size for g in lady.find_groups(model).groups] == expected
    assert lady.verify(model, lady.permute(model, 3).model).equal


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_with_channels_last(groups: int) -> None:
    """onnxruntime has them on GPUs alone: outputs are compared after they are spelled out."""
    wide = w(8, 6 // groups, 3, 3)
    nodes = [
        helper.make_node("Transpose", ["x"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node(
            "NhwcConv", ["last", "a"], ["h"], domain="com.microsoft", kernel_shape=[1, 1]
        ),
        helper.make_node(
            "NhwcFusedConv",
            ["h", "b", "bias"],
            ["y"],
            domain="com.microsoft",
            group=groups,
            activation="Relu",
        ),
        helper.make_node("GlobalAveragePool", ["t"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "c"], ["out"]),
    ]
    nodes.insert(3, helper.make_node("Transpose", ["y"], ["t"], perm=[0, 3, 1, 2]))
    weights = {"a": w(6, 1, 1, 3), "b": wide, "bias": w(8), "c": w(8, 2)}

    def model(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
        graph = helper.make_graph(
            nodes,
            "last",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 6])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(v, k) for k, v in weights.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    plain = []
    for node in nodes:
        if node.domain:
            # NhwcConv has weights with their channels last as well, NhwcFusedConv as Conv has them
            is_fused = "Fused" in node.op_type
            moved = list(node.input[: 1 if is_fused else 2])
            front = {n: f"{node.output[0]}_{n}" for n in moved}
            plain += [
                helper.make_node("Transpose", [n], [m], perm=[0, 3, 1, 2]) for n, m in front.items()
            ]
            given = {
                a.name: helper.get_attribute_value(a)
                for a in node.attribute
                if a.name != "activation"
            }
            plain.append(
                helper.make_node(
                    "Conv",
                    [*front.values(), *node.input[len(moved) :]],
                    [f"{node.output[0]}_c"],
                    **given,
                )
            )
            plain.append(
                helper.make_node(
                    "Relu" if is_fused else "Identity",
                    [f"{node.output[0]}_c"],
                    ["r" + node.output[0]],
                )
            )
            plain.append(
                helper.make_node(
                    "Transpose", ["r" + node.output[0]], list(node.output), perm=[0, 2, 3, 1]
                )
            )
        else:
            plain.append(node)
    fused = model(nodes)
    symmetry = lady.find_groups(fused)
    assert sorted(g.size for g in symmetry.groups) == ([6, 8] if groups == 1 else [2, 3, 3, 4, 4])
    shuffled = lady.permute(fused, 4).graph
    other = model(plain)
    for tensor in other.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(shuffled.array(tensor.name), tensor.name))
    assert lady.verify(model(plain), other).equal


def check_groups(model: onnx.ModelProto, expected: list[int]) -> None:
    symmetry = lady.find_groups(model)
    assert sorted(g.size for g in symmetry.groups) == sorted(expected)
    assert not symmetry.unknown_operators
    if not expected:
        return
    shuffled = lady.permute(model, 3)
    assert lady.verify(model, shuffled.model).equal
    assert lady.resync(model, shuffled.model).exact


def test_a_choice_between_bytes() -> None:
    check_groups(*byte_choice())


@pytest.mark.parametrize("has_zeros", [False, True])
@pytest.mark.parametrize("is_packed", [False, True])
def test_an_embedding_in_blocks(is_packed: bool, has_zeros: bool) -> None:
    check_groups(*block_embedding(is_packed, has_zeros))


@pytest.mark.parametrize("operator", ["NhwcConv", "NhwcFusedConv"])
def test_a_convolution_that_does_not_fit_pins(operator: str) -> None:
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1]}
    nodes = [helper.make_node(operator, ["x", "a"], ["out"], domain="com.microsoft", **attributes)]
    model = build_network(nodes, {"a": w(4, 3, 3, 3)}, shape=(1, 5, 5, 3))
    assert not lady.find_groups(model).groups


@pytest.mark.parametrize(("width", "blocks"), [(24, 2), (40, 3), (8, 1)])
def test_an_embedding_whose_last_block_is_cut_has_no_free_blocks(width: int, blocks: int) -> None:
    """Its numbers are summed up, so that nothing behind it says how many they are."""
    names, attributes = ["table", "ids", "scales"], {"block_size": 16, "quantize_axis": 1}
    nodes = [
        helper.make_node(
            "GatherBlockQuantized", names, ["e"], domain="com.microsoft", **attributes
        ),
        helper.make_node("Tanh", ["e"], ["t"]),
        helper.make_node("ReduceSum", ["t", "last"], ["out"], keepdims=0),
    ]
    table = np.random.default_rng(0).integers(0, 16, (9, width)).astype(ml_dtypes.uint4)
    weights = {"table": table, "scales": w(9, blocks), "ids": np.array([1, 4])}
    model = build_network(nodes, {**weights, "last": np.array([-1])}, 21)
    assert not lady.find_groups(model).groups


def test_an_inverse() -> None:
    check_groups(*inverse())
