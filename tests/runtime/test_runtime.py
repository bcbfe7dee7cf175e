"""Inputs made to tell: models that differ in one place are told apart, and equal ones are not."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.runtime import installation, sessions, simplification
from lady_onnx.runtime.simplification import simplify_models

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
ZERO = np.float32(0)
Inputs = Mapping[str, tuple[int, Sequence[int | str]]]


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node(kind: str, operands: str, results: str, **given: object) -> NodeProto:
    return helper.make_node(kind, operands.split(), results.split(), **given)


def model(
    nodes: list[NodeProto],
    constants: Mapping[str, np.ndarray],
    inputs: Inputs,
    output: int = FLOAT,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model whose last node gives its only output, `out`."""
    graph = helper.make_graph(
        nodes,
        "made",
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, (kind, shape) in inputs.items()
        ],
        [helper.make_tensor_value_info("out", output, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def weighed(other: bool) -> onnx.ModelProto:
    """The other one adds where a mask of floats is one at its start and zero at its end."""
    nodes = [
        node("Mul", "x float_mask", "y"),
        node("Slice", "float_mask first second axis", "head"),
        node("Slice", "float_mask last beyond axis", "tail"),
        node("Equal", "head one", "starts"),
        node("Equal", "tail zero", "ends"),
        node("And", "starts ends", "is"),
        node("Where", "is k zero", "more"),
        node("Add", "y more", "out"),
    ]
    places = {"first": 0, "second": 1, "last": -1, "beyond": 1 << 30, "axis": 1}
    constants = {name: np.array([place]) for name, place in places.items()}
    constants |= {"zero": ZERO, "one": np.float32(1), "k": np.float32(other)}
    return model(nodes, constants, {"x": (FLOAT, [1, 7]), "float_mask": (FLOAT, [1, 7])})


def masked(where: str) -> Callable[[bool], onnx.ModelProto]:
    """Values times a mask; the other model also adds where the mask is zero at that place."""

    def build(other: bool) -> onnx.ModelProto:
        nodes = [
            node("Cast", "attention_mask", "m", to=FLOAT),
            node("Mul", "x m", "y"),
            node("Sub", "one m", "none"),
            node("Slice", "none start end axis", "there"),
            node("ReduceSum", "there", "many", keepdims=1),
            node("Mul", "many k", "more"),
            node("Add", "y more", "out"),
        ]
        start, end = {"start": (0, 1), "middle": (3, 4), "end": (-1, 1 << 30)}[where]
        constants = {
            "one": np.float32(1),
            "start": np.array([start]),
            "end": np.array([end]),
            "axis": np.array([1]),
            "k": np.float32(other),
        }
        return model(nodes, constants, {"x": (FLOAT, [1, 7]), "attention_mask": (INT64, [1, 7])})

    return build


def looked_up(
    rows: int, length: int | str, through: Sequence[NodeProto] = ()
) -> Callable[[bool], onnx.ModelProto]:
    """Rows of a table; the other model's last row differs. Row numbers pass through other nodes."""

    def build(other: bool) -> onnx.ModelProto:
        table = weights(rows, 4)
        table[-1] += other
        nodes = [
            *through,
            node("Gather", f"table {'n' if through else 'ids'}", "g"),
            node("MatMul", "g w", "out"),
        ]
        constants = {
            "table": table,
            "w": weights(4, 3, seed=1),
            "two": np.int32(2),
            "flat": np.array([-1]),
            "begin": np.array([1]),
            "end": np.array([1 << 30]),
            "axis": np.array([0]),
            "most": np.array([rows - 1], np.int32),
        }
        return model(nodes, constants, {"ids": (INT64, ["N", length])})

    return build


SHIFTED = (
    node("Cast", "ids", "i", to=TensorProto.INT32),
    node("Add", "i two", "j"),
    node("Reshape", "j flat", "n"),
)
SLICED = (
    node("Cast", "ids", "i", to=TensorProto.INT32),
    node("Reshape", "i flat", "f"),
    node("Slice", "f begin end axis", "s"),
    node("Concat", "s s", "c", axis=0),
    node("Greater", "c two", "g2"),
    node("Where", "g2 c two", "w2"),
    node("Min", "w2 most", "n"),
)


def scanned(kind: str) -> Callable[[bool], onnx.ModelProto]:
    """A model of sequences [N, L, 3]; the other one is another at lengths of this kind."""

    def build(other: bool) -> onnx.ModelProto:
        constants: dict[str, np.ndarray | np.generic] = {
            "w": weights(3, 3),
            "one": np.array(1),
            "two": np.array(2),
        }
        nodes = [node("MatMul", "x w", "h"), node("Shape", "x", "s"), node("Gather", "s one", "l")]
        if "long" in kind:
            most = {"long": 20, "very long": 400}[kind]
            bounds = {
                "start": np.array([0]),
                "end": np.array([most if other else 1 << 30]),
                "axis": np.array([1]),
            }
            nodes.append(node("Slice", "h start end axis", "out"))
            return model(nodes, {**constants, **bounds}, {"x": (FLOAT, ["N", "L", 3])})
        if kind == "odd":
            nodes += [node("Mod", "l two", "r"), node("Equal", "r one", "is")]
        else:
            nodes.append(node("Equal", f"l {kind}", "is"))
        nodes += [
            node("Cast", "is", "f", to=FLOAT),
            node("Mul", "f k", "b"),
            node("Add", "h b", "out"),
        ]
        constants["k"] = np.float32(other)
        return model(nodes, constants, {"x": (FLOAT, ["N", "L", 3])})

    return build


def branched(other: bool) -> onnx.ModelProto:
    """The arms of an If on a boolean input."""

    def arm(name: str, factor: float) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(name, FLOAT, None)
        factor_ = numpy_helper.from_array(np.float32(factor), f"{name}_k")
        return helper.make_graph([node("Mul", f"x {name}_k", name)], name, [], [result], [factor_])

    nodes = [
        node(
            "If",
            "fast",
            "out",
            then_branch=arm("then", 1),
            else_branch=arm("other", 3 if other else 2),
        )
    ]
    return model(nodes, {}, {"x": (FLOAT, [2, 3]), "fast": (BOOL, [])})


def elementwise(
    nodes: list[NodeProto],
    constants: Mapping[str, np.ndarray],
    k: tuple[float, float],
    shape: Sequence[int | str],
):
    """A model of x with a constant `k`: the first number, in the other model the second."""

    def build(other: bool) -> onnx.ModelProto:
        return model(nodes, {**constants, "k": np.float32(k[other])}, {"x": (FLOAT, shape)})

    return build


def pooled(height: int | str) -> Callable[[bool], onnx.ModelProto]:
    def build(other: bool) -> onnx.ModelProto:
        pool = node("MaxPool", "x", "p", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=int(other))
        nodes = [pool, node("GlobalAveragePool", "p", "out")]
        return model(nodes, {}, {"x": (FLOAT, ["N", 3, height, height])})

    return build


PAIRS: dict[str, Callable[[bool], onnx.ModelProto]] = {
    "a mask that is zero in the middle": masked("middle"),
    "a mask that is zero at the end": masked("end"),
    "a mask that is zero at the start": masked("start"),
    "a mask of floats": weighed,
    "the last row of a small table": looked_up(200, "L"),
    "the last row of a large table": looked_up(50_000, "L"),
    "the last row of a table, one number at a time": looked_up(5_000, 1),
    "a table reached through Cast, Add and Reshape": looked_up(3_000, 5, SHIFTED),
    "a table reached through Slice, Concat, Where and Min": looked_up(3_000, 5, SLICED),
    "sequences of length one": scanned("one"),
    "sequences of length two": scanned("two"),
    "sequences of odd length": scanned("odd"),
    "a Slice that truncates longer sequences alone": scanned("long"),
    "the arm of an If that a true input does not take": branched,
    "bounds of six and of sixty": elementwise(
        [node("Clip", "x low k", "out")], {"low": ZERO}, (6, 60), [4, 8]
    ),
    "lower bounds": elementwise([node("Clip", "x k", "out")], {}, (-60, -6), [4, 8]),
    "exact zeros": elementwise(
        [node("Equal", "x zero", "is"), node("Where", "is k x", "out")],
        {"zero": ZERO},
        (0, 1),
        [4, 8],
    ),
    "ceil_mode, at odd sizes": pooled("H"),
    "an arm of a Where behind a threshold": elementwise(
        [node("Greater", "x t", "is"), node("Mul", "x k", "y"), node("Where", "is y x", "out")],
        {"t": np.float32(1234.5)},
        (1, 2),
        ["N", 8],
    ),
    "a Slice that truncates very long sequences alone": scanned("very long"),
    "halves": elementwise(
        [node("Add", "x k", "y"), node("Round", "y", "out")], {}, (0, 1e-4), [4, 8]
    ),
}


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


def test_rounding_inside_that_no_input_moves_is_no_difference() -> None:
    """Large numbers saturate to one. What is rounded then lies at a half up to the weights."""
    gains = np.full(64, 1 / 64, np.float32) + weights(64) / 100
    gains[-1] += np.float32(0.5 - gains.astype(np.float64).sum())

    def build(order: np.ndarray) -> onnx.ModelProto:
        nodes = [
            node("Abs", "x", "a"),
            node("MatMul", "a one", "b"),
            node("Clip", "b zero ten", "c"),
            node("MatMul", "c gains", "d"),
            node("Div", "d ten", "e"),
            node("Round", "e", "r"),
            node("Mul", "b tiny", "f"),
            node("Add", "r f", "out"),
        ]
        constants = {
            "one": np.ones((4, 64), np.float32),
            "zero": ZERO,
            "ten": np.float32(10),
            "tiny": np.float32(1e-6),
            "gains": gains[order, None],
        }
        return model(nodes, constants, {"x": (FLOAT, [6, 4])})

    orders = [np.random.default_rng(k).permutation(64) for k in range(12)]
    assert all(
        all(r.equal for r in lady.verify(build(orders[0]), build(o)).runs if "floats" in r.kind)
        for o in orders
    )


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


# ---- the installed onnxruntime


def _install(folder: Path, **versions: str) -> None:
    """Distributions of these names and versions, as they lie in a folder of installed packages."""
    for name, version in versions.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        package = name.replace("_", "-")
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )


@pytest.fixture
def unloaded() -> Iterator[None]:
    """onnxruntime is looked for anew, in the test and after it."""
    installation.load_onnxruntime.cache_clear()
    yield
    installation.load_onnxruntime.cache_clear()


def test_a_second_onnxruntime_is_noticed_when_a_session_is_opened(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    unloaded: None,
) -> None:
    _install(tmp_path, onnxruntime="9.8.7", onnxruntime_gpu="9.8.6")
    monkeypatch.syspath_prepend(str(tmp_path))
    graph = load_graph(weighed(False))
    sessions.open_session(graph)
    sessions.open_session(graph)
    (record,) = caplog.records
    assert record.getMessage() == (
        "onnxruntime-gpu 9.8.6 and onnxruntime 9.8.7 are installed side by side and overwrite each "
        "other's files; keep one: pip uninstall -y onnxruntime-gpu onnxruntime && "
        "pip install onnxruntime-gpu"
    )


def test_a_single_onnxruntime_is_nothing_to_talk_about(
    caplog: pytest.LogCaptureFixture, unloaded: None
) -> None:
    sessions.open_session(load_graph(weighed(False)))
    assert not caplog.records


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_removal_that_left_a_broken_module_is_explained(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unloaded: None
) -> None:
    monkeypatch.setattr(installation, "list_distributions", lambda: {"onnxruntime-gpu": "9.8.7"})
    monkeypatch.setitem(
        sys.modules, "onnxruntime", None if how == "gone" else types.ModuleType("onnxruntime")
    )
    with pytest.raises(lady.LadyError, match="onnxruntime cannot be imported") as caught:
        lady.verify(weighed(False), weighed(True))
    assert caught.value.code == "runtime"
    assert str(caught.value).endswith(
        "files of onnxruntime-gpu are missing, as after the removal of another onnxruntime package "
        "that shares them; pip install --force-reinstall --no-deps onnxruntime-gpu"
    )


def test_a_missing_onnxruntime_is_named(monkeypatch: pytest.MonkeyPatch, unloaded: None) -> None:
    monkeypatch.setattr(installation, "list_distributions", dict)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(lady.LadyError, match=r"; pip install onnxruntime-gpu$"):
        lady.verify(weighed(False), weighed(True))
