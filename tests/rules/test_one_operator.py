"""Operators one by one: the groups that the network around each must have, and the law."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import lady_onnx as lady

from ..helpers import expert_cases, head_cases
from ..helpers.builders import build, sizes
from ..helpers.one_operator import CLASSICAL, OneOperator, draw
from ..helpers.splices import ALONE


@pytest.mark.parametrize("case", ALONE, ids=lambda case: case.label)
def test_all_orders_that_are_free_are_found(case: OneOperator) -> None:
    model, sizes = case.build()
    symmetry = lady.find_groups(model)
    assert sorted(group.size for group in symmetry.groups) == sizes
    assert not symmetry.unknown_operators
    if case.runs and sizes:
        assert lady.verify(model, lady.permute(model, 3).model, samples=2).equal


def replace_node(model: onnx.ModelProto, operator: str, nodes: list[onnx.NodeProto]) -> None:
    """Put nodes in the place of the one of an operator."""
    place = next(k for k, n in enumerate(model.graph.node) if n.op_type == operator)
    kept = list(model.graph.node)
    kept[place : place + 1] = nodes
    del model.graph.node[:]
    model.graph.node.extend(kept)


def spell_out_norms(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """GroupQueryAttention without the norms that no CPU has, and these in front of it."""
    made, plain = [], onnx.NodeProto()
    plain.CopyFrom(node)
    for place, gain in ((0, 14), (1, 15)):
        name = node.input[place]
        split, joined = ("heads", "rows") if place == 0 else ("heads", "keys")
        made += [
            helper.make_node("Reshape", [name, split], [f"{name}.split"]),
            helper.make_node(
                "SimplifiedLayerNormalization",
                [f"{name}.split", node.input[gain]],
                [f"{name}.normed"],
                epsilon=1e-6,
            ),
            helper.make_node("Reshape", [f"{name}.normed", joined], [f"{name}.joined"]),
        ]
        plain.input[place] = f"{name}.joined"
    del plain.input[14:]
    return [*made, plain]


def spell_out_packed(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """MultiHeadAttention of packed operands, which no CPU unpacks, of ones that are apart."""
    made, parts = [], []
    for name in filter(None, node.input[:2]):
        count = 3 if len(node.input) == 1 or not node.input[1] else 2
        if name == node.input[0] and count == 2:
            parts.append(name)
            continue
        names = [f"{name}.{k}" for k in range(count)]
        made.append(helper.make_node("Split", [name], names, axis=3, num_outputs=count))
        for part in names:
            made.append(helper.make_node("Reshape", [part, "joined"], [f"{part}.joined"]))
            parts.append(f"{part}.joined")
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    plain.input[: len(parts)] = parts
    rest = list(node.input[3:])
    del plain.input[:]
    plain.input.extend([*parts, *rest])
    return [*made, plain]


REFERENCES = {
    "GroupQueryAttention": (
        spell_out_norms,
        {
            "heads": [1, head_cases.S, -1, head_cases.DIM],
            "rows": list(head_cases.QUERY),
            "keys": list(head_cases.KEY),
        },
    ),
    "MultiHeadAttention": (spell_out_packed, {"joined": list(head_cases.ROWS)}),
}
"""By operator what a CPU runs in place of a node that it does not run, and shapes for that."""


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in head_cases.CASES
        if not case.runs and case.sizes and case.operator in REFERENCES and len(case.results) < 4
    ],
    ids=lambda case: case.label,
)
def test_the_law_holds_for_what_an_operator_stands_for(case: OneOperator) -> None:
    """Norms inside attention, and packed operands, are of CUDA alone."""
    model, _ = case.build()
    spell_out, shapes = REFERENCES[case.operator]
    pair = [model, lady.permute(model, 3).model]
    for one in pair:
        node = next(n for n in one.graph.node if n.op_type == case.operator)
        replace_node(one, case.operator, spell_out(node))
        for name, shape in shapes.items():
            one.graph.initializer.append(numpy_helper.from_array(np.array(shape), name))
    assert lady.verify(*pair, samples=2).equal


@pytest.mark.parametrize("operator", ["Scaler", "Imputer"])
def test_nothing_behind_features_is_pinned_by_a_number_for_each(operator: str) -> None:
    """Pipelines of scikit-learn begin with it; onnx itself infers no shape behind it."""
    names = ("offset", "scale") if operator == "Scaler" else ("imputed_value_floats",)
    nodes = [
        helper.make_node("MatMul", ["x", "before"], ["h"]),
        helper.make_node(operator, ["h"], ["s"], domain=CLASSICAL, **{n: [0.5] * 6 for n in names}),
        helper.make_node("MatMul", ["s", "behind"], ["g"]),
        helper.make_node("Relu", ["g"], ["r"]),
        helper.make_node("MatMul", ["r", "last"], ["out"]),
    ]
    weights = {"before": draw(1, 3, 6), "behind": draw(2, 6, 5), "last": draw(3, 5, 2)}
    model = build(nodes, weights, {"x": [2, 3]})
    model.opset_import.append(helper.make_opsetid(CLASSICAL, 3))
    assert sizes(model) == [5]


@pytest.mark.parametrize("shape", [["batch", 2, "past", 16], None])
def test_nothing_behind_attention_is_pinned_by_a_cache_of_unknown_length(
    shape: list[int | str] | None,
) -> None:
    """Of a cache without a shape, what is seen keeps its order; what is behind it does not."""
    case = next(c for c in head_cases.CASES if c.label.startswith("GroupQueryAttention-xxxww"))
    model, _ = case.build()
    node = next(n for n in model.graph.node if n.op_type == case.operator)
    for place in (3, 4):
        weight = next(t for t in model.graph.initializer if t.name == node.input[place])
        model.graph.initializer.remove(weight)
        given = helper.make_tensor_value_info(weight.name, onnx.TensorProto.FLOAT, shape)
        model.graph.input.append(given)
    end = next(n for n in model.graph.node if n.op_type == "Concat")
    del end.input[1:]
    end.op_type = "Identity"
    del end.attribute[:]
    end.output[0] = "mixed"
    model.graph.node.append(helper.make_node("MatMul", ["mixed", "head"], ["out"]))
    model.graph.initializer.append(numpy_helper.from_array(np.eye(3, 2, dtype=np.float32), "head"))
    groups = lady.find_groups(model).groups
    hidden = [g for g in groups if {s.initializer for s in g.slots} == {"last0", "head"}]
    assert [g.size for g in hidden] == [3]


@pytest.mark.parametrize("operator", ["Relu", "Tanh", "Round", "Softmax"])
@pytest.mark.parametrize("case", ["MoE-xxwwww-k", "QMoE-xxwwwwww-k-expert_weight_bits"])
def test_experts_whose_scores_may_be_equal_keep_their_order(case: str, operator: str) -> None:
    """Of equal scores the first one counts. Small shares of a softmax are all zero."""
    model, sizes = next(c for c in expert_cases.CASES if c.label.startswith(case)).build()
    graph = model.graph
    scores = next(n for n in graph.node if n.op_type == "Reshape" and n.output[0] == "o1")
    scores.output[0] = "scores"
    place = list(graph.node).index(scores) + 1
    graph.node.insert(place, helper.make_node(operator, ["scores"], ["o1"]))
    assert sizes[0] == expert_cases.E
    assert sorted(g.size for g in lady.find_groups(model).groups) == sizes[1:]
    for seed in range(3):
        assert lady.verify(model, lady.permute(model, seed).model, samples=8).equal


@pytest.mark.parametrize("how", ["equal", "zero", "masked", "moved"])
def test_scores_that_are_weighted_sums(how: str) -> None:
    """Experts whose weights in the router are equal have equal scores for all inputs."""
    case = next(c for c in expert_cases.CASES if c.label.startswith("MoE-xxwwww-k"))
    model, sizes = case.build()
    graph = model.graph
    router = next(t for t in graph.initializer if t.name == "a1")
    bias = next(t for t in graph.initializer if t.name == "b1")
    place = next(k for k, n in enumerate(graph.node) if n.output[0] == "o1")
    if how in ("equal", "zero"):
        array = numpy_helper.to_array(router).copy()
        array[:, :2] = array[:, :1]
        array[:] = 0 if how == "zero" else array
        router.CopyFrom(numpy_helper.from_array(array, "a1"))
        bias.CopyFrom(numpy_helper.from_array(np.zeros(expert_cases.E, np.float32), "b1"))
    elif how == "masked":
        graph.node[place].output[0] = "scores"
        mask = np.float32([[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]])
        graph.initializer.append(numpy_helper.from_array(mask, "mask"))
        product = helper.make_node("Einsum", ["scores", "mask"], ["o1"], equation="ij,ij->ij")
        graph.node.insert(place + 1, product)
    else:
        graph.node[place].output[0] = "scores"
        node = helper.make_node("Identity", ["scores"], ["o1"])
        graph.node.insert(place + 1, node)
    wanted = sizes if how == "moved" else sizes[1:]
    assert sorted(g.size for g in lady.find_groups(model).groups) == wanted
    for seed in range(3):
        assert lady.verify(model, lady.permute(model, seed).model, samples=8).equal
