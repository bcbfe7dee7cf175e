"""The largest part that two graphs share: which weights it holds, and where it ends."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from onnx import helper

from lady_onnx.graph.loading import load_graph
from lady_onnx.pairing.common_part import find_common_part

from ..helpers.backbones import backbone, disturbed, draw_weight
from ..helpers.builders import build

BLOCKS = [f"{letter}{k}" for k in range(4) for letter in "abc"]
TRUNK = {"stem", "stem_b", *BLOCKS}


def pairs(reference: onnx.ModelProto, suspect: onnx.ModelProto) -> dict[str, str]:
    """The suspect's weight for every weight of the reference in the part that both share."""
    found = find_common_part(load_graph(reference), load_graph(suspect))
    return {} if found is None else {n: place.name for n, place in found.link.places.items()}


def parting(reference: onnx.ModelProto, suspect: onnx.ModelProto) -> str:
    found = find_common_part(load_graph(reference), load_graph(suspect))
    assert found is not None
    return found.link.apart[0]


def test_another_head_ends_the_part_at_its_node() -> None:
    found = pairs(backbone(), backbone(outputs=7))
    assert found == {name: name for name in TRUNK}
    assert parting(backbone(), backbone(outputs=7)) == (
        "node MatMul 'head_m', weight 'head' has shape [24, 7], the reference's [24, 5]"
    )


@pytest.mark.parametrize("outputs", [5, 7])
@pytest.mark.parametrize("before", ["", "Abs"])
def test_another_stem_ends_the_part_at_its_node(before: str, outputs: int) -> None:
    found = pairs(backbone(), backbone(inputs=6, outputs=outputs, before=before))
    head = {"head", "head_b"} if outputs == 5 else set()
    assert found == {name: name for name in {*BLOCKS, "stem_b", *head}}


def test_sums_may_be_written_in_another_order() -> None:
    suspect = backbone(inputs=6, outputs=7)
    for node in suspect.graph.node:
        if node.op_type == "Add":
            node.input[:] = list(node.input)[::-1]
    assert pairs(backbone(), suspect) == {name: name for name in {*BLOCKS, "stem_b"}}


def test_a_network_without_a_head_is_all_common() -> None:
    found = pairs(backbone(), backbone(outputs=None))
    assert found == {name: name for name in TRUNK}
    where = parting(backbone(), backbone(outputs=None))
    assert where == "the reference's node MatMul 'head_m', which it lacks"


def test_an_attribute_inside_ends_the_part_at_its_node() -> None:
    """What lies before and behind it is common, and the weights beside it are."""
    found = pairs(backbone(), backbone(outputs=7, slope=0.2))
    assert found == {name: name for name in TRUNK}
    assert parting(backbone(), backbone(outputs=7, slope=0.2)).startswith("node LeakyRelu 'r1'")


@pytest.mark.parametrize("level", [0.0, 0.2])
@pytest.mark.parametrize("inputs", [8, 6])
def test_fewer_layers_are_the_first_ones(inputs: int, level: float) -> None:
    """With another stem and another head only the values say which layers were kept."""
    suspect = disturbed(backbone(layers=2, inputs=inputs, outputs=7), level)
    kept = {name for name in TRUNK if not name.endswith(("2", "3"))}
    assert pairs(backbone(), suspect) == {
        name: name for name in kept - ({"stem"} if inputs == 6 else set())
    }


def test_of_two_copies_the_trained_one_counts() -> None:
    """One of two networks side by side has the reference's weights, the other shapes alone."""
    one = onnx.compose.add_prefix(backbone(9, outputs=7), "p/", rename_inputs=False)
    two = onnx.compose.add_prefix(disturbed(backbone(outputs=7), 0.1), "q/", rename_inputs=False)
    for side in (one, two):
        for node in side.graph.node:
            node.input[:] = ["x" if n.endswith("/x") else n for n in node.input]
    one.graph.node.extend([*two.graph.node, helper.make_node("Add", ["p/out", "q/out"], ["out"])])
    one.graph.initializer.extend(two.graph.initializer)
    one.graph.output[0].name = "out"
    assert pairs(backbone(), one) == {name: f"q/{name}" for name in TRUNK}


def test_a_node_with_a_graph_inside_ends_the_part() -> None:
    suspect = backbone(outputs=7)
    suspect.graph.node[-1].output[0] = "before"
    bodies = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["before"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)],
        )
        for name, operator in (("then", "Relu"), ("else", "Abs"))
    }
    suspect.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["is_any"], to=onnx.TensorProto.BOOL),
            helper.make_node("If", ["is_any"], ["out"], **bodies),
        ]
    )
    assert pairs(backbone(), suspect) == {name: name for name in TRUNK}


def test_one_weight_that_stands_for_two_counts_once() -> None:
    """A file may share a weight that the other writes twice."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("MatMul", ["i", "b"], ["j"]),
        helper.make_node("Relu", ["j"], ["k"]),
        helper.make_node("MatMul", ["k", "c"], ["out"]),
    ]
    shapes = {"a": (6, 6), "b": (6, 6), "c": (6, 3)}
    apart = build(nodes, {n: draw_weight(0, n, s) for n, s in shapes.items()}, {"x": [2, 6]})
    tied = onnx.ModelProto.FromString(apart.SerializeToString())
    tied.graph.node[2].input[1] = "a"
    tied.graph.initializer.pop()
    tied.graph.node[-1].input[1] = "d"
    tied.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((6, 4), np.float32), "d"))
    assert pairs(apart, tied) == {"a": "a"}
    assert pairs(tied, apart) == {"a": "a"}


def chain(layers: int, inputs: int, outputs: int) -> onnx.ModelProto:
    """A chain of equal layers."""
    shapes = {"first": (inputs, 4), "last": (4, outputs)}
    shapes |= {f"w{k}": (4, 4) for k in range(layers)}
    nodes = [helper.make_node("MatMul", ["x", "first"], ["h0"])]
    for k in range(layers):
        nodes += [
            helper.make_node("MatMul", [f"h{k}", f"w{k}"], [f"m{k}"]),
            helper.make_node("Relu", [f"m{k}"], [f"h{k + 1}"]),
        ]
    nodes.append(helper.make_node("MatMul", [f"h{layers}", "last"], ["out"]))
    weights = {n: draw_weight(0, n, shape) for n, shape in shapes.items()}
    return build(nodes, weights, {"x": [2, inputs]})


@pytest.mark.parametrize(
    ("layers", "inputs"), [(2000, 3), pytest.param(2000, 2, marks=pytest.mark.long), (150, 2)]
)
def test_long_chains_of_equal_layers(layers: int, inputs: int) -> None:
    start = time.perf_counter()
    found = pairs(chain(layers, 3, 5), chain(layers // 2, inputs, 6))
    kept = {f"w{k}" for k in range(layers // 2)} | ({"first"} if inputs == 3 else set())
    assert found == {name: name for name in kept}
    assert time.perf_counter() - start < 60


def test_many_nodes_that_are_alike_for_a_single_step() -> None:
    """What nothing tells apart at first may differ in its operands right behind that."""
    weights = {f"w{k}": draw_weight(0, f"w{k}", (4, 4)) for k in range(20)}
    weights |= {f"b{k}": draw_weight(0, f"b{k}", (4,)) for k in range(20)}
    models = []
    for operator, letters in (("MatMul", "w"), ("Gemm", "wb")):
        nodes, last = [], "x"
        for k in range(20):
            operands = [last, *(f"{letter}{k}" for letter in letters)]
            nodes.append(helper.make_node(operator, operands, [f"m{k}"]))
            last = f"r{k}" if k < 19 else "out"
            nodes.append(helper.make_node("Relu", [f"m{k}"], [last]))
        used = {n: a for n, a in weights.items() if n[0] in letters}
        models.append(build(nodes, used, {"x": [2, 4]}))
    assert pairs(models[0], models[0]) == {f"w{k}": f"w{k}" for k in range(20)}
    # their normal forms may agree, as a bias is a part of both there
    assert all(name.split(".")[0][1:] == twin[1:] for name, twin in pairs(*models).items())
