"""Suspects that are written in another form than the reference."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.pairing.skeleton import pair_skeletons

from ..helpers.layers import F, Weights, X, attention, layers, model, projections


def test_a_branch_that_wakes_up_in_another_form() -> None:
    nodes, weights = layers()
    reference = model(nodes, weights, X)
    branch = [
        helper.make_node("Gemm", ["k", "c", "cb"], ["o"], transB=1),
        helper.make_node("ReduceMax", ["x"], ["m"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["m", "t"], ["d"]),
        helper.make_node("Relu", ["d"], ["r"]),
        helper.make_node("Pad", ["r", "pads"], ["p"]),
        helper.make_node("Add", ["o", "p"], ["out"]),
    ]
    suspect = model(
        [*nodes[:-1], *branch], {**weights, "t": F(20), "pads": np.array([0, 2, 0, 1])}, X
    )
    for seen in (suspect, lady.permute(suspect, 1).model):
        found = lady.check(reference, seen)
        assert found.verdict == "altered"
        assert "has no counterpart in the reference" in found.reason


def test_another_number_in_another_form() -> None:
    """Which word wakes the branch: no two random samples need hold it."""
    rng = np.random.default_rng(0)
    weights = {
        "e": rng.standard_normal((50, 8)).astype(F),
        "b": rng.standard_normal((8, 4)).astype(F),
    }

    def built(word: int, other: bool) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Gather", ["e", "ids"], ["h"]),
            helper.make_node("MatMul", ["h", "b"], ["s"]),
        ]
        nodes += [
            helper.make_node("Equal", ["ids", "word"], ["q"]),
            helper.make_node("Where", ["q", "big", "zero"], ["w"]),
        ]
        nodes += [helper.make_node("Identity", ["w"], ["v"])] if other else []
        nodes += [
            helper.make_node("Unsqueeze", ["v" if other else "w", "last"], ["u"]),
            helper.make_node("Add", ["s", "u"], ["out"]),
        ]
        numbers = {"word": np.array(word), "big": F(100), "zero": F(0), "last": np.array([1])}
        found = model(nodes, {**weights, **numbers}, {"ids": [3]})
        found.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
        return found

    assert lady.check(built(17, False), built(17, True)).accepted
    assert not lady.check(built(17, False), built(18, True)).accepted


@pytest.mark.parametrize(("operator", "more"), [("Relu", []), ("Clip", [0.0, 6.0])])
def test_activations_inside_fused_operators_are_compared(operator: str, more: list[float]) -> None:
    def built(activation: str, parameters: list[float]) -> Graph:
        given = (
            {"activation": activation, "activation_params": parameters}
            if parameters
            else {"activation": activation}
        )
        nodes = [
            helper.make_node("FusedConv", ["x", "a"], ["out"], domain="com.microsoft", **given)
        ]
        found = model(nodes, {"a": np.ones((4, 3, 3, 3), F)}, {"x": [1, 3, 8, 8]})
        found.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return load_graph(found)

    assert set(pair_skeletons(built(operator, more), built(operator, more))[0]) == {"a"}
    with pytest.raises(lady.ArchitectureError, match="has no counterpart"):
        pair_skeletons(built(operator, more), built("Clip", [0.0, 12.0]))


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("inputs", [1, 8])
def test_a_single_input_or_output_in_another_form(outputs: int, inputs: int) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.standard_normal((inputs, 16)),
        "ab": rng.standard_normal(16),
        "c": rng.standard_normal((16, outputs)),
    }
    weights = {n: a.astype(F) for n, a in {**weights, "cb": rng.standard_normal(outputs)}.items()}
    one = [
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("Add", ["p", "ab"], ["h"]),
    ]
    one += [helper.make_node("Relu", ["h"], ["i"]), helper.make_node("MatMul", ["i", "c"], ["q"])]
    one.append(helper.make_node("Add", ["q", "cb"], ["out"]))
    two = [
        helper.make_node("Gemm", ["x", "a", "ab"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["i"]),
    ]
    two.append(helper.make_node("Gemm", ["i", "c", "cb"], ["out"], transB=1))
    turned = {
        **weights,
        "a": np.ascontiguousarray(weights["a"].T),
        "c": np.ascontiguousarray(weights["c"].T),
    }
    forms = model(one, weights, {"x": [3, inputs]}), model(two, turned, {"x": [3, inputs]})
    for reference, suspect in (forms, forms[::-1]):
        assert lady.check(reference, lady.permute(suspect, 1).model).verdict == "permuted"


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("zero", ["w", "r"])
def test_recurrent_layers_with_weights_of_zeros(kind: str, zero: str) -> None:
    rng = np.random.default_rng(0)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    weights = {
        n: rng.standard_normal(s).astype(F)
        for n, s in {"a": (8, 6), "w": (1, gates * 5, 6), "r": (1, gates * 5, 5)}.items()
    }
    weights[zero] = np.zeros_like(weights[zero])
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("Relu", ["h"], ["i"])]
    nodes.append(helper.make_node(kind, ["i", "w", "r"], ["out"], hidden_size=5))
    reference = model(nodes, weights, {"x": [4, 2, 8]})
    multiplied = lady.attack(reference, "rescale", 0.5, seed=1).model
    assert lady.verify(reference, multiplied).equal
    assert lady.check(reference, multiplied).accepted


@pytest.mark.parametrize("change", ["opset", "alpha", "approximate"])
def test_what_two_runs_hardly_show(change: str) -> None:
    """A newer opset, of which onnxruntime fuses more, is no alteration.

    Another number, or kind of Gelu, is one.
    """
    rng = np.random.default_rng(0)
    weights: Weights = {
        "a": rng.standard_normal((8, 16)).astype(F),
        "b": rng.standard_normal((16, 4)).astype(F),
    }
    weights |= {"root": np.array(2**0.5, F), "one": np.array(1, F), "half": np.array(0.5, F)}
    spelled = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Div", ["h", "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["p"]),
        helper.make_node("Mul", ["h", "p"], ["m"]),
        helper.make_node("Mul", ["m", "half"], ["g"]),
    ]

    def net(nodes: list[onnx.NodeProto], opset: int = 20) -> onnx.ModelProto:
        used = {i for n in nodes for i in n.input}
        own = {n: a for n, a in weights.items() if n in used or n == "b"}
        return model(
            [*nodes, helper.make_node("MatMul", ["g", "b"], ["out"])], own, {"x": [2, 8]}, opset
        )

    def leaky(alpha: float, name: str) -> onnx.ModelProto:
        act = helper.make_node("LeakyRelu", ["h"], ["g"], alpha=alpha)
        return net(
            [spelled[0], act]
            if name == "g"
            else [spelled[0], act, helper.make_node("Identity", ["g"], [name])]
        )

    def gelu(kind: str) -> onnx.ModelProto:
        return net([spelled[0], helper.make_node("Gelu", ["h"], ["g"], approximate=kind)])

    reference, suspect, accepted = {
        "opset": (net(spelled, 17), net(spelled, 20), True),
        "alpha": (leaky(0.01, "g"), leaky(0.01005, "spare"), False),
        "approximate": (gelu("none"), gelu("tanh"), False),
    }[change]
    for other in (suspect, lady.permute(suspect, 1).model):
        found = lady.check(reference, other)
        assert found.accepted is accepted, found.reason
    assert lady.check(suspect, suspect).verdict == "identical"


def test_numbers_that_are_equal_in_the_reference_alone() -> None:
    """What two halves of the units are multiplied by says whether they may change places.

    It does so in the suspect too.
    """
    rng = np.random.default_rng(0)
    weights: Weights = {
        "a": rng.standard_normal((8, 16)).astype(F),
        "b": rng.standard_normal((16, 4)).astype(F),
    }
    weights |= {"halves": np.array([8, 8]), "one": np.array([2], F), "two": np.array([2], F)}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Split", ["h", "halves"], ["p", "q"], axis=1),
        helper.make_node("Mul", ["p", "one"], ["r"]),
        helper.make_node("Mul", ["q", "two"], ["s"]),
        helper.make_node("Concat", ["r", "s"], ["y"], axis=1),
        helper.make_node("MatMul", ["y", "b"], ["out"]),
    ]
    reference = model(nodes, weights, {"x": [3, 8]})
    assert [g.size for g in lady.find_groups(reference).groups] == [16]
    suspect = lady.permute(reference, 1).graph
    suspect.replace("two", np.array([3], F))
    found = lady.resync(reference, suspect)
    assert found.outputs_preserved
    assert sorted(g.size for g in found.symmetry.groups) == [8, 8]


@pytest.mark.parametrize("order", ["qkv", "kqv"])
def test_queries_and_keys_are_told_by_where_they_go(order: str) -> None:
    weights = projections()
    weights["wk"] = weights["wk"] * 3
    # by their values alone each would be the other
    changed = {**weights, "wq": weights["wq"] * 3, "wk": weights["wk"] / 3}
    found, apart = pair_skeletons(
        load_graph(attention(weights)), load_graph(attention(changed, order))
    )
    assert not apart
    assert {n: p.name for n, p in found.items()} == {n: n for n in weights}
    assert lady.check(attention(weights), attention(changed, order)).verdict == "rescaled"


@pytest.mark.parametrize("beyond", [-3.4028235e38, -1e9, np.inf])
def test_a_number_in_a_mask_is_no_infinity(beyond: float) -> None:
    """Where all of a row is masked, infinities give no number, and large numbers equal shares."""
    weights = projections()
    changed = {**weights, "mask": np.where(np.isinf(weights["mask"]), F(beyond), weights["mask"])}
    for order in ("kqv", "qkv"):
        assert (
            lady.check(
                attention(weights), lady.permute(attention(changed, order), seed=1).graph
            ).verdict
            == "altered"
        )


@pytest.mark.parametrize("shift", [0, 1e-3, 0.02, 3])
@pytest.mark.parametrize("head", ["small", "big"])
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_a_bias_that_is_one_number_in_another_form(
    shift: float, head: str, back: bool, shared: bool
) -> None:
    """Of two heads, one large beside the other, so that no run shows what happens to that."""
    nodes, weights = layers()
    zeros = {"cb": np.zeros(4, F), "db": np.zeros(4, F)}
    whole = {**weights, **zeros, "d": layers(seed=1)[1]["c"], "much": F(1e4)}

    def heads(small: str, big: str) -> onnx.ModelProto:
        more = [
            helper.make_node("Gemm", ["k", "c", small], ["small"], transB=1),
            helper.make_node("Gemm", ["k", "d", big], ["big"], transB=1),
            helper.make_node("Mul", ["big", "much"], ["bigger"]),
            helper.make_node("Concat", ["bigger", "small"], ["out"], axis=1),
        ]
        return model([*nodes[:-1], *more], {**whole, "sb": np.full(4, shift, F)}, X)

    plain = ("cb", "cb" if shared else "db")
    models = heads(*plain), heads(*(("sb", plain[1]) if head == "small" else (plain[0], "sb")))
    reference, suspect = models[::-1] if back else models
    # where the biases lie in two tensors in both, the files are alike
    assert lady.check(reference, lady.permute(suspect, 1).graph).verdict == (
        "altered" if shift else "permuted"
    )


@pytest.mark.parametrize("bias", [0.1, 0.1001, 0.2])
def test_a_bias_of_one_element_in_another_form(bias: float) -> None:
    nodes, weights = layers()
    weights |= {"c": weights["c"][:1], "cb": np.array([0.1], F)}
    first = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("Gemm", ["y", "a", "ab"], ["h"], transB=1),
    ]
    suspect = model([*first, *nodes[1:]], {**weights, "cb": np.array([bias], F)}, X)
    found = lady.check(model(nodes, weights, X), lady.permute(suspect, 1).graph)
    assert found.verdict == ("permuted" if bias == 0.1 else "altered")


@pytest.mark.parametrize("operator", ["Gather", "Slice", "Pad", "Where"])
@pytest.mark.parametrize("big", [1, 1e4, 1e8])
def test_a_large_output_hides_no_other_in_another_form(operator: str, big: float) -> None:
    """Of scores beside it others are chosen, or in another order."""
    nodes, weights = layers()
    found = []
    for first in (0, 1):
        given: dict[str, Weights] = {
            "Gather": {"which": np.array([[0, 1, 2, 3], [0, 2, 1, 3]][first])},
            "Slice": {
                "from": np.array([first]),
                "to": np.array([first + 2]),
                "axes": np.array([1]),
            },
            "Pad": {"pads": np.array([0, first, 0, 1 - first])},
            "Where": {"which": np.arange(4) > first},
        }
        names = ["which", "small", "nought"] if operator == "Where" else ["small", *given[operator]]
        more = [
            helper.make_node("Gemm", ["k", "c", "cb"], ["small"], transB=1),
            helper.make_node(
                operator, names, ["told"], **({"axis": 1} if operator == "Gather" else {})
            ),
            helper.make_node("Gemm", ["k", "d", "db"], ["wide"], transB=1),
            helper.make_node("Mul", ["wide", "much"], ["wider"]),
            helper.make_node("Concat", ["wider", "told"], ["out"], axis=1),
        ]
        others = {"d": layers(seed=1)[1]["c"], "db": np.ones(4, F), "much": F(big), "nought": F(0)}
        plain = [*nodes[:-1], *more]
        again = [
            helper.make_node("Identity", ["x"], ["y"]),
            helper.make_node("Gemm", ["y", "a", "ab"], ["h"], transB=1),
        ]
        found.append(
            [
                model(n, {**weights, **others, **given[operator]}, X)
                for n in (plain, [*again, *plain[1:]])
            ]
        )
    reference = found[0][0]
    assert lady.check(reference, lady.permute(found[0][1], 1).graph).verdict == "permuted"
    for suspect in found[1]:
        assert not lady.check(reference, lady.permute(suspect, 1).graph).accepted
