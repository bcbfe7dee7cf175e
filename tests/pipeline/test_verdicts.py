"""Suspects that compute something else and must not be accepted, and copies that must.

They are traps that were once fallen into.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lady_onnx as lady

from ..helpers.layers import F, Weights, X, layers, model, widened


def test_another_meaning_of_the_same_nodes() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Softmax", ["h"], ["i"]),
    ]
    nodes.append(helper.make_node("MatMul", ["i", "b"], ["out"]))
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.standard_normal((8, 16)).astype(F),
        "b": rng.standard_normal((16, 3)).astype(F),
    }
    # up to opset 12 a softmax runs over all axes behind the first
    old, new = (model(nodes, weights, {"x": [2, 5, 8]}, opset) for opset in (12, 13))
    assert not lady.verify(new, old).equal
    found = lady.check(new, old)
    assert found.verdict == "altered"
    assert "version 12 of its domain, in the reference of 13" in found.reason


def test_functions_go_by_their_names() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("One", ["h"], ["i"], domain="own"),
    ]
    nodes += [
        helper.make_node("MatMul", ["i", "b"], ["j"]),
        helper.make_node("Two", ["j"], ["out"], domain="own"),
    ]
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.standard_normal((8, 16)).astype(F),
        "b": rng.standard_normal((16, 3)).astype(F),
    }

    def built(*functions: tuple[str, str]) -> onnx.ModelProto:
        found = model(nodes, weights, X)
        found.opset_import.append(helper.make_opsetid("own", 1))
        for name, operator in functions:
            body = [helper.make_node(operator, ["u"], ["v"])]
            found.functions.append(
                helper.make_function("own", name, ["u"], ["v"], body, [helper.make_opsetid("", 17)])
            )
        return found

    reference = built(("One", "Relu"), ("Two", "Sigmoid"))
    assert lady.check(reference, built(("Two", "Sigmoid"), ("One", "Relu"))).verdict == "identical"
    assert not lady.check(reference, built(("Two", "Relu"), ("One", "Sigmoid"))).accepted


def test_inputs_are_the_interface() -> None:
    """Their names and their order count: a caller may go by either."""

    rng = np.random.default_rng(0)
    weights = {
        n: rng.standard_normal(s).astype(F)
        for n, s in {"a": (8, 16), "b": (8, 16), "c": (16, 3)}.items()
    }

    def built(first: str, second: str, order: tuple[str, str]) -> onnx.ModelProto:
        nodes = [
            helper.make_node("MatMul", [first, "a"], ["p"]),
            helper.make_node("MatMul", [second, "b"], ["q"]),
        ]
        nodes += [
            helper.make_node("Add", ["p", "q"], ["h"]),
            helper.make_node("Relu", ["h"], ["i"]),
        ]
        nodes.append(helper.make_node("MatMul", ["i", "c"], ["out"]))
        return model(nodes, weights, {n: ["N", 8] for n in order})

    reference = built("left", "right", ("left", "right"))
    assert lady.verify(reference, built("left", "right", ("right", "left"))).equal
    assert lady.check(reference, built("left", "right", ("left", "right"))).verdict == "identical"
    for other in (
        ("left", "right", ("right", "left")),
        ("right", "left", ("right", "left")),
        ("one", "two", ("one", "two")),
    ):
        assert not lady.check(reference, built(*other)).accepted
    found = lady.check(reference, built("left", "right", ("right", "left")))
    assert found.verdict == "altered"
    assert "input '" in found.reason


@pytest.mark.parametrize("activation", ["Relu", "Softmax"])
def test_a_dummy_is_idle_where_units_meet_in_sums_alone(activation: str) -> None:
    rng = np.random.default_rng(1)
    nodes, weights = layers(activation)
    suspect = model(
        nodes, widened(weights, 5 * rng.standard_normal(8).astype(F), 1, np.zeros(12)), X
    )
    found = lady.check(model(nodes, weights, X), suspect)
    assert found.verdict == ("rescaled" if activation == "Relu" else "tampered")


def test_small_outgoing_weights_of_a_large_unit_are_not_nothing() -> None:
    rng = np.random.default_rng(1)
    nodes, weights = layers()
    suspect = model(
        nodes,
        widened(weights, 1e7 * rng.standard_normal(8).astype(F), 0, 1e-6 * rng.standard_normal(12)),
        X,
    )
    assert lady.check(model(nodes, weights, X), suspect).verdict == "tampered"


def test_a_removed_unit_hides_no_tampering() -> None:
    nodes, weights = layers()
    less = {
        **weights,
        "a": weights["a"][:-1],
        "ab": weights["ab"][:-1],
        "b": weights["b"][:, :-1].copy(),
    }
    assert lady.check(model(nodes, weights, X), model(nodes, less, X)).verdict == "altered"
    less["c"] = weights["c"].copy()
    less["c"][1, 3] += 5
    assert lady.check(model(nodes, weights, X), model(nodes, less, X)).verdict == "tampered"


def test_stripping_where_a_shape_says_the_width() -> None:
    rng = np.random.default_rng(0)

    def built(units: int) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Conv", ["x", "a"], ["h"]),
            helper.make_node("Relu", ["h"], ["i"]),
        ]
        nodes += [
            helper.make_node("Reshape", ["i", "shape"], ["f"]),
            helper.make_node("MatMul", ["f", "b"], ["out"]),
        ]
        weights = {"a": a[:units], "b": b[: units * 36], "shape": np.array([0, units * 36])}
        return model(nodes, weights, {"x": [1, 3, 8, 8]})

    a, b = rng.standard_normal((7, 3, 3, 3)).astype(F), rng.standard_normal((7 * 36, 4)).astype(F)
    b[6 * 36 :] = 0
    assert lady.check(built(6), built(7)).verdict == "rescaled"
    found = lady.resync(built(6), lady.permute(built(7), 1).graph, strip=True)
    assert found.stripped
    assert found.verified_by == "run"
    assert lady.verify(built(6), found.model).equal


def test_what_few_samples_do_not_show_is_not_inert() -> None:
    """A label changes only where two scores are near each other."""
    nodes, weights = layers()
    last = helper.make_node("ArgMax", ["scores"], ["out"], axis=1, keepdims=0)
    nodes[-1].output[0] = "scores"
    for seed in range(3):
        for name in ("ab", "bb", "cb"):
            changed = weights[name].copy()
            changed[seed] += 2.5
            reference = model([*nodes, last], weights, X, kind=TensorProto.INT64)
            suspect = model([*nodes, last], {**weights, name: changed}, X, kind=TensorProto.INT64)
            assert lady.check(reference, suspect).verdict == "tampered"


def test_a_bias_that_ends_in_one_number_is_not_inert() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "a", "ab"], ["h"]),
        helper.make_node("Gemm", ["h", "b", "bb"], ["out"]),
    ]
    weights = {
        "a": np.arange(20, dtype=F).reshape(5, 4),
        "ab": np.ones(4, F),
        "b": np.ones((4, 1), F),
        "bb": np.ones(1, F),
    }
    changed = {**weights, "ab": np.array([3, 1, 1, 1], F)}
    found = lady.check(model(nodes, weights, {"x": [2, 5]}), model(nodes, changed, {"x": [2, 5]}))
    assert found.verdict == "tampered"


@pytest.mark.parametrize("factor", [2.0, 1e5, 2e37])
def test_factors_that_may_overflow_are_not_accepted(
    factor: float, capfd: pytest.CaptureFixture[str]
) -> None:
    nodes, weights = layers()
    changed = {n: a.copy() for n, a in weights.items()}
    changed["a"][3] *= F(factor)
    changed["ab"][3] *= F(factor)
    changed["b"][:, 3] /= F(factor)
    found = lady.check(model(nodes, weights, X), model(nodes, changed, X))
    assert found.accepted == (factor == 2)
    assert "Warning" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("many", "said"), [(1, "1 unit was multiplied"), (2, "2 units were multiplied")]
)
def test_reasons_count_units(many: int, said: str) -> None:
    nodes, weights = layers()
    changed = {n: a.copy() for n, a in weights.items()}
    changed["a"][:many] *= 2
    changed["ab"][:many] *= 2
    changed["b"][:, :many] /= 2
    found = lady.check(model(nodes, weights, X), model(nodes, changed, X))
    assert found.reason.startswith(f"{said} in a way that leaves the function as it was, ")


def test_text_counts() -> None:
    nodes, weights = layers()
    nodes[-1].output[0] = "scores"
    more = [
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["labels", "best"], ["out"]),
    ]

    def built(arrays: Weights, labels: list[bytes]) -> onnx.ModelProto:
        found = model([*nodes, *more], arrays, X, kind=TensorProto.STRING)
        found.graph.initializer.append(
            helper.make_tensor("labels", TensorProto.STRING, [4], labels)
        )
        return found

    reference = built(weights, [b"good", b"bad", b"odd", b"even"])
    changed = {
        **weights,
        "a": weights["a"].copy(),
        "ab": weights["ab"].copy(),
        "b": weights["b"].copy(),
    }
    changed["a"][3] *= 2
    changed["ab"][3] *= 2
    changed["b"][:, 3] /= 2
    assert (
        lady.check(reference, built(changed, [b"good", b"bad", b"odd", b"even"])).verdict
        == "rescaled"
    )
    assert not lady.check(reference, built(changed, [b"bad", b"good", b"odd", b"even"])).accepted


def test_defaults_of_a_function_are_part_of_it() -> None:
    rng = np.random.default_rng(0)
    weights: Weights = {
        "a": rng.standard_normal((8, 16)).astype(F),
        "b": rng.standard_normal((16, 4)).astype(F),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("leaky", ["h"], ["g"], domain="own"),
        helper.make_node("MatMul", ["g", "b"], ["out"]),
    ]

    def net(alpha: float) -> onnx.ModelProto:
        inner = helper.make_node("LeakyRelu", ["p"], ["q"])
        inner.attribute.add(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
        function = helper.make_function(
            "own",
            "leaky",
            ["p"],
            ["q"],
            [inner],
            [helper.make_opsetid("", 17)],
            [],
            [helper.make_attribute("alpha", alpha)],
        )
        whole = model(nodes, weights, {"x": [2, 8]})
        whole.opset_import.append(helper.make_opsetid("own", 1))
        whole.functions.append(function)
        whole.ir_version = 9
        return whole

    assert lady.check(net(0.01), net(0.01)).verdict == "identical"
    assert not lady.check(net(0.01), net(0.9)).accepted
