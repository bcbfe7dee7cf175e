"""Traps that the analysis must not fall into."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lady_onnx as lady
from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.graph.loading import load_graph

from ..helpers.builders import build, sizes, w
from ..helpers.handmade import shapes


def test_zero_biases_shared_by_layers_tie_nothing() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "a", "zero"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "b", "zero"], ["k"]),
        helper.make_node("Relu", ["k"], ["s"]),
        helper.make_node("Gemm", ["s", "c"], ["out"]),
    ]
    weights = {"a": w(3, 5), "b": w(5, 5), "c": w(5, 2), "zero": np.zeros(5, np.float32)}
    assert sizes(build(nodes, weights, {"x": [1, 3]})) == [5, 5]
    weights["zero"] = w(5)
    assert sizes(build(nodes, weights, {"x": [1, 3]})) == [5]


def test_a_weight_that_is_read_for_its_values_is_not_compared_along_its_axes() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Reshape", ["h", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["out"]),
    ]
    weights = {"a": w(3, 6), "shape": np.array([2, 3]), "b": w(3, 2)}
    asked = set()

    def constant(name: str, axis: int) -> bool:
        asked.add((name, axis))
        return False

    analyse_graph(load_graph(build(nodes, weights, {"x": [1, 3]})), constant)
    assert asked == {(n, a) for n in "ab" for a in (0, 1)}


def test_one_weight_used_twice_is_a_constraint() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["k"]),
        helper.make_node("Relu", ["k"], ["s"]),
        helper.make_node("MatMul", ["s", "b"], ["l"]),
        helper.make_node("MatMul", ["l", "c"], ["out"]),
    ]
    assert sizes(build(nodes, {"a": w(3, 5), "b": w(5, 5), "c": w(5, 2)}, {"x": [1, 3]})) == [5]


def test_weights_reach_their_operator_through_others() -> None:
    nodes = [
        helper.make_node("Transpose", ["a"], ["at"], perm=[1, 0]),
        helper.make_node("Cast", ["at"], ["ac"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "ac"], ["h"]),
        helper.make_node("Sign", ["b"], ["bs"]),
        helper.make_node("Abs", ["b"], ["ba"]),
        helper.make_node("Mul", ["bs", "ba"], ["bb"]),
        helper.make_node("Reshape", ["bb", "shape"], ["br"]),
        helper.make_node("MatMul", ["h", "br"], ["out"]),
    ]
    assert sizes(
        build(nodes, {"a": w(5, 3), "b": w(10), "shape": np.array([5, 2])}, {"x": [1, 3]})
    ) == [5]


def test_operators_that_keep_shapes_but_not_order() -> None:
    for op, extra in (("CumSum", ["axis"]), ("Trilu", [])):
        nodes = [
            helper.make_node("MatMul", ["x", "a"], ["h"]),
            helper.make_node(op, ["h", *extra], ["k"]),
            helper.make_node("MatMul", ["k", "b"], ["out"]),
        ]
        assert (
            sizes(build(nodes, {"a": w(3, 5), "b": w(5, 2), "axis": np.array(1)}, {"x": [4, 3]}))
            == []
        )


def test_the_same_channels_concatenated_twice_are_no_copies() -> None:
    """Found on YOLOv8n: a pyramid that pools the same channels at several sizes."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"]),
        helper.make_node("MaxPool", ["h"], ["p"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Concat", ["h", "p"], ["c"], axis=1),
        helper.make_node("Conv", ["c", "b"], ["out"]),
    ]
    assert sizes(build(nodes, {"a": w(5, 3, 1, 1), "b": w(2, 10, 1, 1)}, {"x": [1, 3, 4, 4]})) == [
        5
    ]


@pytest.mark.parametrize(
    ("sources", "expected"), [([(0, 2, 3, 1)], [2]), ([(0, 2, 3, 1), (0, 1, 3, 2)], [])]
)
def test_differences_of_crossed_units(sources: list[tuple[int, ...]], expected: list[int]) -> None:
    """Units of one layer are subtracted; in one pair the first has the higher number."""
    nodes, weights = [helper.make_node("MatMul", ["x", "a"], ["h"])], {"a": w(3, 4)}
    for k, (i, j, m, n) in enumerate(sources):
        weights |= {f"p{k}": np.array([i, j]), f"q{k}": np.array([m, n]), f"b{k}": w(2, 2)}
        nodes += [
            helper.make_node("Gather", ["h", f"p{k}"], [f"t{k}"], axis=1),
            helper.make_node("Gather", ["h", f"q{k}"], [f"u{k}"], axis=1),
            helper.make_node("Sub", [f"t{k}", f"u{k}"], [f"d{k}"]),
            helper.make_node("Relu", [f"d{k}"], [f"r{k}"]),
            helper.make_node("MatMul", [f"r{k}", f"b{k}"], [f"o{k}"]),
        ]
    nodes.append(helper.make_node("Sum", [f"o{k}" for k in range(len(sources))], ["out"]))
    assert sizes(build(nodes, weights, {"x": [4, 3]})) == expected


def test_stages_of_shuffled_channels() -> None:
    """Found on ShuffleNet: units of two stages look alike, and so do their parents.

    The parents are not the same, so the units of the two stages are two groups.
    """
    nodes, weights = [helper.make_node("Conv", ["x", "stem"], ["s"])], {"stem": w(8, 3, 1, 1)}
    source, wide = "s", 8
    for k, (out, halved) in enumerate([(16, True), (16, False), (32, True), (32, False)]):
        mid = out // 4
        made = out - wide if halved else out
        weights |= {
            f"a{k}": w(mid, wide // 2, 1, 1),
            f"d{k}": w(mid, 1, 3, 3),
            f"e{k}": w(made, mid // 2, 1, 1),
        }
        weights |= {f"u{k}": np.array([1, 2, mid // 2, 4, 4]), f"v{k}": np.array([1, mid, 4, 4])}
        nodes += [
            helper.make_node("Conv", [source, f"a{k}"], [f"h{k}"], group=2),
            helper.make_node("Reshape", [f"h{k}", f"u{k}"], [f"p{k}"]),
            helper.make_node("Transpose", [f"p{k}"], [f"q{k}"], perm=[0, 2, 1, 3, 4]),
            helper.make_node("Reshape", [f"q{k}", f"v{k}"], [f"t{k}"]),
            helper.make_node("Conv", [f"t{k}", f"d{k}"], [f"i{k}"], group=mid, pads=[1] * 4),
            helper.make_node("Conv", [f"i{k}", f"e{k}"], [f"j{k}"], group=2),
            helper.make_node(
                "Concat" if halved else "Add",
                [source, f"j{k}"],
                [f"c{k}"],
                **({"axis": 1} if halved else {}),
            ),
            helper.make_node("Relu", [f"c{k}"], [f"z{k}"]),
        ]
        source, wide = f"z{k}", out
    nodes.append(helper.make_node("Conv", [source, "head"], ["out"]))
    model = build(nodes, {**weights, "head": w(2, wide, 1, 1)}, {"x": [1, 3, 4, 4]})
    assert len(sizes(model)) == 12


def test_positions_that_pixels_share_stay_where_they_are() -> None:
    """Found by random graphs.

    A convolution after DepthToSpace sees channels at fixed places of a block.
    """
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"]),
        helper.make_node("DepthToSpace", ["h"], ["d"], blocksize=2, mode="CRD"),
        helper.make_node("Conv", ["d", "b"], ["k"]),
        helper.make_node("Relu", ["k"], ["r"]),
        helper.make_node("Conv", ["r", "c"], ["out"]),
    ]
    assert sizes(
        build(
            nodes,
            {"a": w(12, 3, 1, 1), "b": w(5, 3, 1, 1), "c": w(2, 5, 3, 3)},
            {"x": [1, 3, 4, 4]},
        )
    ) == [3, 5]


def test_reversed_runs_of_a_flattened_channel() -> None:
    """One channel has its positions in another order than its neighbours.

    It cannot change places with them.
    """
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"]),
        helper.make_node("Slice", ["h", "zero", "one", "one"], ["first"]),
        helper.make_node("Slice", ["h", "one", "five", "one"], ["rest"]),
        helper.make_node("Slice", ["first", "last", "past", "three", "back"], ["turned"]),
        helper.make_node("Concat", ["turned", "rest"], ["c"], axis=1),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("MatMul", ["f", "b"], ["out"]),
    ]
    ends = {"zero": 0, "one": 1, "five": 5, "last": -1, "past": -99, "three": 3, "back": -1}
    weights = {"a": w(5, 3, 1, 1), "b": w(5 * 12, 2), **{n: np.array([v]) for n, v in ends.items()}}
    assert sizes(build(nodes, weights, {"x": [1, 3, 3, 4]})) in ([4], [5])


def test_places_of_one_tensor_say_nothing_about_another() -> None:
    """A weight that meets itself reversed ties its own rows.

    It does not tie the places of two halves elsewhere.
    """
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Sigmoid", ["h"], ["hs"]),
        helper.make_node("Concat", ["h", "hs"], ["hc"], axis=1),
        helper.make_node("MatMul", ["hc", "v"], ["o1"]),
        helper.make_node("Slice", ["v", "three", "end", "zero", "minus"], ["vr"]),
        helper.make_node("Add", ["v", "vr"], ["vv"]),
        helper.make_node("MatMul", ["z", "vv"], ["o2"]),
        helper.make_node("MatMul", ["x", "b"], ["k"]),
        helper.make_node("Sigmoid", ["k"], ["ks"]),
        helper.make_node("Concat", ["k", "ks"], ["kc"], axis=1),
        helper.make_node("MatMul", ["kc", "u"], ["o3"]),
        helper.make_node("Sum", ["o1", "o2", "o3"], ["out"]),
    ]
    ends = {"three": 3, "end": -99, "zero": 0, "minus": -1}
    weights = {
        "a": w(3, 2),
        "v": w(4, 5),
        "b": w(3, 2),
        "u": w(4, 5),
        **{n: np.array([i]) for n, i in ends.items()},
    }
    assert sizes(build(nodes, weights, {"x": [1, 3], "z": [1, 4]})) == [2]


def test_stacked_tensors_keep_their_places() -> None:
    """Found on DETR: sines and cosines are stacked, flattened and added to channels.

    Two channels make a pair.
    """
    nodes = [
        helper.make_node("Mul", ["x", "frequency"], ["angle"]),
        helper.make_node("Sin", ["angle"], ["sin"]),
        helper.make_node("Cos", ["angle"], ["cos"]),
        helper.make_node("Unsqueeze", ["sin", "two"], ["sin1"]),
        helper.make_node("Unsqueeze", ["cos", "two"], ["cos1"]),
        helper.make_node("Concat", ["sin1", "cos1"], ["pair"], axis=2),
        helper.make_node("Reshape", ["pair", "flat"], ["half"]),
        helper.make_node("Mul", ["x", "other"], ["rest"]),
        helper.make_node("Concat", ["half", "rest"], ["position"], axis=1),
        helper.make_node("MatMul", ["z", "a"], ["h"]),
        helper.make_node("Add", ["h", "position"], ["s"]),
        helper.make_node("MatMul", ["s", "b"], ["out"]),
    ]
    weights = {
        "frequency": w(5),
        "other": w(7),
        "a": w(3, 17),
        "b": w(17, 2),
        "two": np.array([2]),
        "flat": np.array([4, 10]),
    }
    assert sizes(build(nodes, weights, {"x": [4, 1], "z": [4, 3]})) == [5, 7]


def test_zeros_of_either_sign_are_not_constant() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Reciprocal", ["z"], ["i"]),
        helper.make_node("Tanh", ["i"], ["t"]),
        helper.make_node("Mul", ["h", "t"], ["m"]),
        helper.make_node("MatMul", ["m", "b"], ["out"]),
    ]
    weights = {"a": w(3, 4), "b": w(4, 2), "z": np.array([0.0, -0.0, 0.0, -0.0], np.float32)}
    assert sizes(build(nodes, weights, {"x": [2, 3]})) == [4]


def einsum(text: str, *names: str) -> onnx.NodeProto:
    return helper.make_node("Einsum", list(names[:-1]), [names[-1]], equation=text)


def test_heads_written_as_einsum() -> None:
    """Weights of three axes: every head has orders of its own."""
    nodes = [
        *(einsum("bsd,dhk->bshk", "x", f"w{c}", c) for c in "qkv"),
        einsum("bshk,bthk->bhst", "q", "k", "scores"),
        helper.make_node("Softmax", ["scores"], ["p"], axis=-1),
        einsum("bhst,bthk->bshk", "p", "v", "o"),
        einsum("bshk,hkd->bsd", "o", "wo", "out"),
    ]
    weights = {f"w{c}": w(5, 3, 6) for c in "qkv"} | {"wo": w(3, 6, 5)}
    assert sizes(build(nodes, weights, {"x": [2, 4, 5]})) == [3, *[6] * 6]


def test_experts_written_as_einsum() -> None:
    nodes = [
        einsum("bd,edh->beh", "x", "a", "h"),
        helper.make_node("Relu", ["h"], ["r"]),
        einsum("beh,ehd->bed", "r", "b", "y"),
        einsum("bd,de->be", "x", "gate", "l"),
        helper.make_node("Softmax", ["l"], ["p"], axis=-1),
        einsum("be,bed->bd", "p", "y", "out"),
    ]
    weights = {"a": w(3, 5, 7), "b": w(3, 7, 5), "gate": w(5, 3)}
    assert sizes(build(nodes, weights, {"x": [2, 5]})) == [3, 7, 7, 7]
    # what the experts have in common ties their orders to one
    nodes[1] = helper.make_node("Mul", ["h", "scale"], ["r"])
    assert sizes(build(nodes, {**weights, "scale": w(7)}, {"x": [2, 5]})) == [3, 7]


def test_dead_code_and_index_constants_form_no_group() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("MatMul", ["x", "dead"], ["nowhere"]),
        helper.make_node("Gather", ["h", "order"], ["g"], axis=1),
        helper.make_node("MatMul", ["g", "b"], ["out"]),
    ]
    weights = {"a": w(3, 5), "dead": w(3, 7), "order": np.array([4, 2, 0, 1, 3]), "b": w(5, 2)}
    symmetry = lady.find_groups(build(nodes, weights, {"x": [1, 3]}))
    assert [{s.initializer for s in g.slots} for g in symmetry.groups] == [{"a", "b"}]


def test_shapes_in_the_graph() -> None:
    model, expected = shapes()
    assert sizes(model) == expected


def test_grouped_queries_and_a_shared_norm() -> None:
    """Keys are repeated over heads: heads lie inside key heads.

    Every key head has inner orders of its own.
    """
    heads, keys, d, t, c = 4, 2, 3, 5, 6
    nodes = []

    def node(op: str, inputs: list[str], output: str, **attributes: object) -> None:
        nodes.append(helper.make_node(op, inputs, [output], **attributes))

    weights: dict[str, np.ndarray] = {"wo": w(heads * d, 2)}
    for name, n in (("q", heads), ("k", keys), ("v", keys)):
        weights[f"w{name}"], weights[f"s{name}"] = w(c, n * d), np.array([t, n, d])
        node("MatMul", ["x", f"w{name}"], f"{name}0")
        node("Reshape", [f"{name}0", f"s{name}"], f"{name}1")
        node("Transpose", [f"{name}1"], f"{name}2", perm=[1, 0, 2])
        if n == keys:
            weights |= {
                "one": np.array([1]),
                "wide": np.array([keys, heads // keys, t, d]),
                "flat": np.array([heads, t, d]),
            }
            node("Unsqueeze", [f"{name}2", "one"], f"{name}3")
            node("Expand", [f"{name}3", "wide"], f"{name}4")
            node("Reshape", [f"{name}4", "flat"], f"{name}5")
    node("Transpose", ["k5"], "kt", perm=[0, 2, 1])
    node("MatMul", ["q2", "kt"], "scores")
    node("Softmax", ["scores"], "p", axis=-1)
    node("MatMul", ["p", "v5"], "o")
    node("Transpose", ["o"], "ot", perm=[1, 0, 2])
    weights["joined"] = np.array([t, heads * d])
    node("Reshape", ["ot", "joined"], "oj")
    node("MatMul", ["oj", "wo"], "out")
    # two key heads; in each two query heads, an order of the query-key dimensions and one of the
    # value dimensions
    assert sizes(build(nodes, weights, {"x": [t, c]})) == sorted([2, 2, 2, 3, 3, 3, 3])
