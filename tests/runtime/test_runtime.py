"""Running two models: inputs that tell them apart, and what counts as equal."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.runtime import sampling, simplification
from lady_onnx.runtime.comparing.comparison import _perturb_array
from lady_onnx.runtime.comparing.judging import Judge, Outputs
from lady_onnx.runtime.comparing.telling import Sample
from lady_onnx.runtime.sessions import open_session
from lady_onnx.runtime.simplification import simplify_models

from ..helpers.builders import build, sizes, w
from ..helpers.near_models import (
    BOOL,
    FLOAT,
    INT64,
    PAIRS,
    ZERO,
    Inputs,
    looked_up,
    masked,
    model,
    node,
    scanned,
    weighed,
    weights,
)


@pytest.mark.parametrize("name", PAIRS)
def test_models_that_differ_in_one_place_are_told_apart(name: str) -> None:
    build = PAIRS[name]
    assert not lady.verify(build(False), build(True)).equal
    assert not lady.verify(build(True), build(False)).equal
    assert lady.verify(build(False), build(False)).equal
    assert lady.verify(build(True), build(True)).equal


def test_what_was_run_is_listed_in_plain_types() -> None:
    found = lady.verify(masked("end")(False), masked("end")(True))
    listed = json.loads(json.dumps([dataclasses.asdict(r) for r in found.runs]))
    assert [r["kind"] for r in listed[:4]] == ["random"] * 4
    (told,) = [r for r in listed if r["kind"] == "mask: zeros at the end"]
    assert (told["shapes"], told["equal"]) == ({"x": [1, 7], "attention_mask": [1, 7]}, False)
    assert told["max_rel"] > 0.1
    assert found.samples == len(found.runs)


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_three_times_the_samples_and_five_are_run_at_most(samples: int) -> None:
    inputs: Inputs = {
        "ids": (INT64, ["N", "L"]),
        "attention_mask": (INT64, ["N", "L"]),
        "x": (FLOAT, ["N", "L"]),
    }
    nodes = [
        node("Gather", "table ids", "g"),
        node("Cast", "attention_mask", "m", to=FLOAT),
        node("Mul", "g m", "y"),
        node("Add", "y x", "out"),
    ]
    proto = model(nodes, {"table": weights(9)}, inputs)
    assert len(lady.verify(proto, proto, samples=samples).runs) == 3 * samples + 5


def test_inputs_made_to_tell_are_small_where_axes_are_symbolic() -> None:
    proto = scanned("one")(False)
    shapes = [r.shapes["x"] for r in lady.verify(proto, proto).runs]
    assert shapes[:4] == [(2, 16, 3)] * 4
    assert {s[1] for s in shapes} == {1, 2, 7, 16, 17, 33}
    assert sum(s[0] * s[1] for s in shapes[4:]) < sum(s[0] * s[1] for s in shapes[:4]) * 1.5


def test_every_row_of_a_small_table_is_looked_up() -> None:
    for row in range(0, 200, 7):
        one, other = looked_up(200, "L")(False), looked_up(200, "L")(False)
        table = numpy_helper.to_array(other.graph.initializer[0]).copy()
        table[row] += 1
        other.graph.initializer[0].CopyFrom(numpy_helper.from_array(table, "table"))
        assert not lady.verify(one, other, samples=1).equal, row


def test_sizes_at_which_a_model_does_not_run_are_passed_over() -> None:
    nodes = [node("Reshape", "x shape", "r"), node("MatMul", "r w", "out")]
    constants = {"shape": np.array([2, -1, 16, 3]), "w": weights(3, 3)}
    proto = model(nodes, constants, {"x": (FLOAT, [2, "L", 3])})
    found = lady.verify(proto, proto)
    assert found.equal
    assert {r.shapes["x"][1] % 16 for r in found.runs} == {0}


def test_channels_without_a_number_are_those_of_the_convolution() -> None:
    """optimum names all four axes of a picture; 640 channels would fill the memory."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["c"]),
        helper.make_node("Reshape", ["c", "row"], ["f"]),
        helper.make_node("MatMul", ["f", "last"], ["out"]),
    ]
    kernels = {"a": w(5, 3, 4, 4), "b": w(2, 5, 1, 1), "last": w(1682, 4)}
    parts = {**kernels, "row": np.array([-1, 1682])}
    picture = build(nodes, parts, {"x": ["batch", "channels", "height", "width"]})
    assert sizes(picture) == [2, 5]


def test_inputs_that_would_fill_the_memory_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = build([helper.make_node("Abs", ["x"], ["out"])], {}, {"x": ["batch", "length"]})
    monkeypatch.setattr(sampling, "MAX_ELEMENTS", 20)
    found = lady.verify(proto, proto, samples=1)
    assert found.equal
    assert found.runs[0].shapes["x"] == (1, 16)
    monkeypatch.setattr(sampling, "MAX_ELEMENTS", 5)
    with pytest.raises(lady.LadyError, match="over 5 elements"):
        lady.verify(proto, proto)


def test_inputs_that_one_model_alone_takes_are_a_difference() -> None:
    """The second number of each row, or its only one; the other model fails there."""

    def build(other: bool) -> onnx.ModelProto:
        nodes = [
            node("Shape", "x", "s"),
            node("Gather", "s one", "l"),
            node("Sub", "l one", "last"),
            node("Min", "last one", "least"),
            node("Gather", f"x {'one' if other else 'least'}", "out", axis=1),
        ]
        return model(nodes, {"one": np.array(1)}, {"x": (FLOAT, ["N", "L"])})

    assert lady.verify(build(True), build(True)).equal
    for first in (False, True):
        found = lady.verify(build(first), build(not first))
        assert [r.shapes["x"][1] for r in found.runs if not r.equal] == [1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_infinities_and_nan_in_the_same_places_of_made_inputs_are_equal(value: float) -> None:
    def build(fill: float) -> onnx.ModelProto:
        nodes = [node("Greater", "x t", "is"), node("Where", "is fill x", "out")]
        return model(nodes, {"t": np.float32(20), "fill": np.float32(fill)}, {"x": (FLOAT, [4, 8])})

    assert lady.verify(build(value), build(value)).equal
    for other in (-np.inf, 0.0, 1e30):
        assert not lady.verify(build(value), build(other)).equal
        assert not lady.verify(build(other), build(value)).equal


def test_random_inputs_have_to_give_finite_outputs() -> None:
    proto = model([node("Log", "x", "out")], {}, {"x": (FLOAT, [4, 8])})
    assert not lady.verify(proto, proto).equal


def test_a_sample_with_large_outputs_hides_no_difference_on_one_with_small_outputs() -> None:
    """Where all numbers are negative, the models differ by one; large ones give millions."""

    def build(other: bool) -> onnx.ModelProto:
        nodes = [
            node("ReduceMax", "x", "most", keepdims=1),
            node("Less", "most zero", "all"),
            node("Mul", "x x", "square"),
            node("Where", "all k square", "out"),
        ]
        constants = {"zero": ZERO, "k": np.float32(2 if other else 1)}
        return model(nodes, constants, {"x": (FLOAT, [4, 8])})

    assert not lady.verify(build(False), build(True)).equal


class ChanceRunner:
    """Two models of one output, which answer by chance on what is odd, or always alike."""

    outputs = ("y",)

    def __init__(self, are_chance: tuple[bool, bool], runs_second: bool):
        self.are_chance, self.runs_second = are_chance, runs_second
        self.count = 0

    def answer(self, inputs: Inputs, which: int) -> Outputs:
        self.count += 1
        by_chance = 0.1 * self.count if self.are_chance[which] else 0.0
        return [np.array([1.0, (0.5 * which + by_chance) * ("odd" in inputs)])]

    def run_first(self, inputs: Inputs) -> Outputs:
        return self.answer(inputs, 0)

    def run_second(self, inputs: Inputs) -> Outputs | None:
        return self.answer(inputs, 1) if self.runs_second or "odd" not in inputs else None

    def run_both(self, inputs: Inputs) -> tuple[Outputs, Outputs]:
        return self.run_first(inputs), self.run_second(inputs)

    def repeat_both(self, inputs: Inputs) -> tuple[list[Outputs], list[Outputs | None]]:
        return [self.run_first(inputs)] * 3, [self.run_second(inputs)] * 3

    def run_perturbed(self, inputs: Inputs, step: float) -> list[Outputs]:
        return [self.answer({}, 0)]


@pytest.mark.parametrize("runs_second", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_inputs_on_which_no_model_repeats_itself_say_nothing(
    first: bool, second: bool, runs_second: bool
) -> None:
    """A model alone that answers by chance is another model, and so is one that does not run."""
    judge = Judge(ChanceRunner((first, second), runs_second), 1e-4, 1e-6, False)
    judge.add_ordinary("random", {"x": np.zeros(1)})
    judge.add_made(Sample("odd", {"odd": np.zeros(1)}))
    outputs, runs = judge.judge_outputs()
    is_chance = first and second and runs_second
    assert outputs[0].equal == is_chance
    assert [run.kind for run in runs] == ["random"] + ["odd"] * (not is_chance)
    assert judge.left_out == ["odd"] * is_chance


def test_rounding_that_large_numbers_make_large_is_no_difference() -> None:
    """A sine of sums in another order: what a rounding of the inputs does as well."""
    left = weights(64, 32)
    order = np.random.default_rng(1).permutation(32)

    def build(order: np.ndarray) -> onnx.ModelProto:
        nodes = [node("MatMul", "x a", "h"), node("MatMul", "h b", "s"), node("Sin", "s", "out")]
        constants = {"a": left[:, order], "b": weights(32, 8, seed=2)[order]}
        return model(nodes, constants, {"x": (FLOAT, [4, 64])})

    found = lady.verify(build(np.arange(32)), build(order))
    assert found.equal
    assert found.max_rel <= 1e-4
    changed = build(order)
    array = numpy_helper.to_array(changed.graph.initializer[1]) * np.float32(1.01)
    changed.graph.initializer[1].CopyFrom(numpy_helper.from_array(array, "b"))
    assert not lady.verify(build(np.arange(32)), changed).equal


@pytest.mark.parametrize("is_resized", [False, True])
def test_rounding_inside_that_no_input_moves_is_no_difference(is_resized: bool) -> None:
    """Large numbers saturate to one. What is cut off then lies at one up to the weights.

    The scales of a resized output are no weights: the operator refuses scales below one.
    """
    gains = np.full(64, 1 / 64, np.float32) + weights(64) / 100
    gains[-1] += np.float32(0.5 - gains.astype(np.float64).sum())

    def build(order: np.ndarray, step: float = 5) -> onnx.ModelProto:
        nodes = [
            node("Abs", "x", "a"),
            node("MatMul", "a one", "b"),
            node("Min", "b ten", "c"),
            node("MatMul", "c gains", "d"),
            node("Div", "d step", "e"),
            node("Floor", "e", "r"),
            node("Mul", "b tiny", "f"),
            node("Add", "r f", "sum" if is_resized else "out"),
        ]
        if is_resized:
            nodes += [
                node("Reshape", "sum shape", "wide"),
                node("Upsample", "wide scales", "out"),
            ]
        constants = {
            "one": np.ones((4, 64), np.float32),
            "ten": np.float32(10),
            "step": np.float32(step),
            "tiny": np.float32(1e-6),
            "gains": gains[order, None],
            "shape": np.array([1, 1, -1, 1]),
            "scales": np.float32([1, 1, 2, 1]),
        }
        return model(nodes, constants, {"x": (FLOAT, [6, 4])}, opset=9)

    orders = [np.random.default_rng(k).permutation(64) for k in range(12)]
    assert all(
        all(r.equal for r in lady.verify(build(orders[0]), build(o)).runs if "floats" in r.kind)
        for o in orders
    )
    assert not lady.verify(build(orders[0]), build(orders[0], 2)).equal


def test_text_is_drawn_and_the_models_own_words_with_it() -> None:
    def build(other: bool) -> onnx.ModelProto:
        values = [1.0, 2.0, 3.0 + other]
        encoder = node(
            "LabelEncoder",
            "word",
            "out",
            domain="ai.onnx.ml",
            keys_strings=["cat", "dog", "emu"],
            values_floats=values,
            default_float=0.0,
        )
        return model([encoder], {}, {"word": (TensorProto.STRING, [24])})

    assert lady.verify(build(False), build(False)).equal
    assert not lady.verify(build(False), build(True)).equal


def test_sequences_as_inputs_are_refused() -> None:
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, None)
    proto = model([node("ConcatFromSequence", "s", "out", axis=0)], {}, {})
    proto.graph.input.append(sequence)
    with pytest.raises(
        lady.LadyError,
        match="input 's' has no shape, so no random values fit; give some with --data",
    ):
        lady.verify(proto, proto)


def test_a_number_that_chooses_an_arm() -> None:
    """Of a sample rate, two values are known; neither is zero or one."""

    def build(other: bool) -> onnx.ModelProto:
        nodes = [
            node("Equal", "rate known", "is"),
            node("Where", "is k one", "f"),
            node("Mul", "x f", "out"),
        ]
        constants = {"known": np.array(16000), "k": np.float32(2 + other), "one": np.float32(1)}
        return model(nodes, constants, {"x": (FLOAT, [4]), "rate": (INT64, [])})

    assert lady.verify(build(False), build(False)).equal
    assert not lady.verify(build(False), build(True)).equal


@pytest.mark.parametrize("arms", [(True, True), (True, False), (False, True), (False, False)])
def test_booleans_are_tried_together(arms: tuple[bool, bool]) -> None:
    def build(other: bool) -> onnx.ModelProto:
        nodes = [
            node("Equal", "p want_p", "is_p"),
            node("Equal", "q want_q", "is_q"),
            node("And", "is_p is_q", "is"),
            node("Where", "is k one", "f"),
            node("Mul", "x f", "out"),
        ]
        constants = {
            "want_p": np.array(arms[0]),
            "want_q": np.array(arms[1]),
            "k": np.float32(2 + other),
            "one": np.float32(1),
        }
        return model(nodes, constants, {"x": (FLOAT, [4]), "p": (BOOL, []), "q": (BOOL, [])})

    assert not lady.verify(build(False), build(True), samples=2).equal


def test_a_table_in_the_body_of_a_loop_and_in_a_function() -> None:
    def build(other: bool, function: bool) -> onnx.ModelProto:
        table = weights(300, 4)
        table[150] += other
        if function:
            look = [
                node("Constant", "", "t", value=numpy_helper.from_array(table)),
                node("Gather", "t i", "o"),
            ]
            opsets = [helper.make_opsetid("", 17)]
            proto = model(
                [node("Look", "ids", "out", domain="own")], {}, {"ids": (INT64, [1, 300])}
            )
            proto.functions.append(helper.make_function("own", "Look", ["i"], ["o"], look, opsets))
            proto.opset_import.append(helper.make_opsetid("own", 1))
            return proto
        values = [
            ("round", INT64, []),
            ("go", BOOL, []),
            ("sum", FLOAT, None),
            ("went", BOOL, []),
            ("more", FLOAT, None),
        ]
        formal = {
            name: helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in values
        }
        body = helper.make_graph(
            [
                node("Identity", "go", "went"),
                node("Gather", "t ids", "g"),
                node("Add", "sum g", "more"),
            ],
            "body",
            [formal["round"], formal["go"], formal["sum"]],
            [formal["went"], formal["more"]],
            [numpy_helper.from_array(table, "t")],
        )
        nodes = [node("Loop", "two true start", "out", body=body)]
        constants = {
            "two": np.array(2),
            "true": np.array(True),
            "start": np.zeros((1, 300, 4), np.float32),
        }
        return model(nodes, constants, {"ids": (INT64, [1, 300])})

    for function in (False, True):
        assert lady.verify(build(False, function), build(False, function)).equal
        assert not lady.verify(build(False, function), build(True, function)).equal


def test_what_the_optimiser_does_not_take_has_no_simpler_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own process may end where it has an error: this one goes on."""
    good = load_graph(weighed(False))
    assert [len(pair) for pair in simplify_models(good, load_graph(weighed(True)))] == [
        2,
        2,
    ]
    bad = weighed(False)
    bad.graph.node[0].op_type = "Unknown"
    assert not simplify_models(good, load_graph(bad))
    monkeypatch.setattr(simplification, "OPTIMISER_SCRIPT", "import os; os.abort()")
    assert not simplify_models(good, good)


def test_kernels_do_not_round_operands_on_their_way() -> None:
    """A hint of the operator lets them round to eight bits, which is a hundredth."""
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 256, (8, 2, 16)).astype(np.uint8)
    scales = rng.random((8, 2), np.float32)
    sizes = {"K": 64, "N": 8, "bits": 4, "block_size": 32, "accuracy_level": 4}
    graph = helper.make_graph(
        [helper.make_node("MatMulNBits", list("xbs"), ["y"], domain="com.microsoft", **sizes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 8])],
        [numpy_helper.from_array(weight, "b"), numpy_helper.from_array(scales, "s")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    x = rng.standard_normal((3, 64), np.float32)
    numbers = np.stack([weight & 15, weight >> 4], -1).reshape(8, 2, 32).astype(np.float32) - 8
    expected = x @ (numbers * scales[..., None]).reshape(8, 64).T
    (found,) = open_session(load_graph(model)).run(None, {"x": x})
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_moved_weights_stay_numbers(dtype: type) -> None:
    """Copies with moved weights tell rounding: no number of theirs may become infinite."""
    array = np.full((3, 100), np.finfo(dtype).max, dtype)
    array[1] = 1
    moved = _perturb_array(np.random.default_rng(0), array, 0.01)
    assert moved.dtype == dtype
    assert np.isfinite(moved).all()
    assert 0.005 < np.std(moved[1].astype(float)) < 0.02
