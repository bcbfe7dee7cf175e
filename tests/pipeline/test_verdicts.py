"""Suspects that compute something else and must not be accepted, and copies that must.

They are traps that were once fallen into.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.pairing.skeleton import pair_skeletons

from ..helpers import oracle
from ..helpers.layers import F, Weights, X, attention, layers, model, projections, widened


def outputs(whole: onnx.ModelProto, sample: Weights) -> np.ndarray:
    session = oracle.opened(whole.SerializeToString())
    assert session is not None
    return session.run(None, sample)[0]


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


def halves(weights: Weights) -> tuple[Weights, Callable[[Weights], onnx.ModelProto]]:
    """The layers' weights in half precision, and a model that holds such and widens them."""
    nodes, _ = layers()
    casts = [helper.make_node("Cast", [f"{n}.short"], [n], to=TensorProto.FLOAT) for n in weights]

    def built(arrays: Weights) -> onnx.ModelProto:
        return model([*casts, *nodes], {f"{n}.short": a for n, a in arrays.items()}, X)

    return {n: a.astype(np.float16) for n, a in weights.items()}, built


def multiplied(weights: Weights, rng: np.random.Generator, many: int, both: bool) -> Weights:
    """The weights with some units of the first layer, or both, multiplied; products are rounded."""
    found = {n: a.copy() for n, a in weights.items()}
    for incoming, bias, out in (("a", "ab", "b"), ("b", "bb", "c"))[: 1 + both]:
        for unit in rng.permutation(len(found[bias]))[:many]:
            factor = found[bias].dtype.type(np.exp(0.5 * rng.standard_normal()))
            found[incoming][unit] *= factor
            found[bias][unit] *= factor
            found[out][:, unit] /= factor
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("many", "both"), [(1, False), (3, False), (8, True)])
def test_units_that_were_multiplied_in_half_precision(seed: int, many: int, both: bool) -> None:
    short, built = halves(layers(seed=seed)[1])
    suspect = built(multiplied(short, np.random.default_rng(seed), many, both))
    found = lady.check(built(short), lady.permute(suspect, seed).graph)
    assert found.verdict == "rescaled", found.reason


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_who_spends_all_room_on_one_class_gets_nowhere(kind: type, hidden: bool, seed: int) -> None:
    """Weights move by a few steps of their type to where the score of the first class grows.

    They are all weights, or those of products.
    """
    rng = np.random.default_rng(seed)
    nodes, weights = layers(seed=seed)
    short, built = (
        halves(weights) if kind == np.float16 else (weights, lambda arrays: model(nodes, arrays, X))
    )
    plain = multiplied(short, rng, 16 if hidden else 4, False)
    x = {"x": rng.standard_normal((1, 8)).astype(F)}
    h = np.maximum(plain["a"] @ x["x"][0] + plain["ab"], 0)
    k = np.maximum(plain["b"] @ h + plain["bb"], 0)
    towards_b = plain["c"][0] * (k > 0)
    towards_a = (towards_b @ plain["b"]) * (h > 0)
    ways = {
        "a": np.outer(towards_a, x["x"][0]),
        "ab": towards_a,
        "b": np.outer(towards_b, h),
        "bb": towards_b,
    }
    ways |= {"c": np.outer(np.eye(4)[0], k), "cb": np.eye(4)[0]}
    if hidden:
        # what was multiplied was rounded, and what was not was not
        ways |= {n: np.zeros_like(ways[n]) for n in ("bb", "c", "cb")}
    score = outputs(built(short), x)[0, 0]
    # what the cast itself did to the scores; of single precision that is its last digits
    cast = max(
        float(np.abs(outputs(built(short), x) - outputs(model(nodes, weights, X), x)).max()), 2e-6
    )
    judged = []
    for steps in range(7):
        moved = {n: a.copy() for n, a in plain.items()}
        for _ in range(steps):
            moved = {
                n: np.where(
                    ways[n] == 0, a, np.nextafter(a, np.copysign(kind(np.inf), ways[n]), dtype=kind)
                )
                for n, a in moved.items()
            }
        accepted = lady.check(built(short), built(moved)).accepted
        judged.append(accepted)
        assert not accepted or abs(float(outputs(built(moved), x)[0, 0] - score)) <= cast
    assert judged[0]
    assert not judged[-1]


def test_steps_of_short_floats_are_no_rounding() -> None:
    rng = np.random.default_rng(0)
    short, built = halves(layers()[1])
    doubled = multiplied(short, rng, 1, False)
    assert lady.check(built(short), built(doubled)).verdict == "rescaled"
    moved = {
        n: (a + 0.0065 * np.abs(a).max() * rng.choice([-1, 1], a.shape)).astype(np.float16)
        for n, a in doubled.items()
    }
    assert not lady.check(built(short), built(moved)).accepted


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


@pytest.mark.parametrize("size", [1e-13, 1e-20, 1e-30])
@pytest.mark.parametrize("seed", range(3))
def test_dead_units_are_told_from_each_other(size: float, seed: int) -> None:
    """Weight decay leaves nothing of a unit that never answers.

    What is left is moved and multiplied like all others.
    """
    nodes, weights = layers(seed=seed)
    rng = np.random.default_rng(seed)
    dead = rng.permutation(16)[:5]
    weights["a"][dead] *= F(size)
    weights["ab"][dead] *= F(1e-8)
    weights["b"][:, dead] *= F(1e-8)
    weights["b"][3:6] *= F(size)
    reference = model(nodes, weights, X)
    suspect = lady.permute(lady.attack(reference, "rescale", 0.5, seed=seed).model, seed).model
    found = lady.resync(reference, suspect)
    assert found.verdict == "rescaled"
    truth = lady.resync(reference, lady.permute(reference, seed).model)
    for group, order in truth.permutations.items():
        assert np.array_equal(found.permutations[group], order)


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


@pytest.mark.parametrize("factor", [50, 900])
def test_one_large_factor_hides_no_small_changes_of_other_units(factor: float) -> None:
    nodes, weights = layers()
    changed = {n: a.copy() for n, a in weights.items()}
    changed["a"][3] *= F(factor)
    changed["ab"][3] *= F(factor)
    changed["b"][:, 3] /= F(factor)
    reference = model(nodes, weights, X)
    assert (
        lady.check(reference, lady.permute(model(nodes, changed, X), 1).graph).verdict == "rescaled"
    )
    other = {n: a.copy() for n, a in changed.items()}
    other["a"][3, 0] *= F(1 + factor * np.finfo(F).eps * 4)
    assert not lady.check(reference, lady.permute(model(nodes, other, X), 1).graph).accepted
    changed["a"][5] += F(7 * np.finfo(F).eps * np.abs(changed["a"]).max())
    assert not lady.check(reference, lady.permute(model(nodes, changed, X), 1).graph).accepted


@pytest.mark.parametrize("change", ["pruned", "cast", "clipped"])
def test_an_alteration_that_is_explained_is_none_of_the_factors(change: str) -> None:
    """Of a multiplied copy the reference is altered first, and the copy is no copy of that."""
    nodes, weights = layers()
    changed = {n: a.copy() for n, a in weights.items()}
    # behind the altered bias: its own factor is one
    factors = np.exp2(np.arange(16) % 3 - 1).astype(F)
    changed["a"] *= factors[:, None]
    changed["ab"] *= factors
    changed["b"] /= factors
    bias = changed["ab"]
    if change == "pruned":
        bias[np.abs(bias).argmin()] = 0
    elif change == "cast":
        changed["ab"] = bias.astype(np.float16).astype(F)
    else:
        changed["ab"] = np.minimum(bias, np.sort(bias)[-3])
    reference, suspect = model(nodes, weights, X), model(nodes, changed, X)
    for other in (suspect, lady.permute(suspect, 1).model):
        assert not lady.check(reference, other).accepted


def test_a_pruned_bias_beside_units_that_were_multiplied_behind_it() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "a", "ab"], ["h"], transB=1),
        helper.make_node("LayerNormalization", ["h", "g", "gb"], ["n"]),
        helper.make_node("Abs", ["n"], ["i"]),
        helper.make_node("MatMul", ["i", "b"], ["out"]),
    ]
    shapes = {"a": (5, 8), "ab": (5,), "g": (5,), "gb": (5,), "b": (5, 3)}
    weights = {n: rng.standard_normal(s).astype(F) for n, s in shapes.items()}
    factors = np.array([-1.5, -2.3, 1.7, 0.4, -0.7], F)
    changed = {
        **weights,
        "ab": weights["ab"].copy(),
        "g": weights["g"] * factors,
        "gb": weights["gb"] * factors,
    }
    changed["b"] = weights["b"] / np.abs(factors)[:, None]
    reference = model(nodes, weights, X)
    assert lady.check(reference, model(nodes, changed, X)).verdict == "rescaled"
    # the smallest one: that is what pruning leaves
    changed["ab"][np.abs(changed["ab"]).argmin()] = 0
    assert not lady.check(reference, model(nodes, changed, X)).accepted


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_dead_units_make_no_copy_unrelated(share: float) -> None:
    nodes, weights = layers()
    for name, axis, dead in (
        ("a", 0, 16),
        ("ab", 0, 16),
        ("b", 1, 16),
        ("b", 0, 12),
        ("bb", 0, 12),
        ("c", 1, 12),
    ):
        np.moveaxis(weights[name], axis, 0)[: int(dead * share)] = 0
    reference = model(nodes, weights, X)
    suspect = lady.permute(lady.attack(reference, "noise", 0.2, seed=3).graph, 1).graph
    assert lady.check(reference, suspect).verdict == "altered"


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
