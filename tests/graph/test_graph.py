"""Loading and saving: weights wherever they lie, and everything else as it came."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.graph import wire
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import METADATA_KEY

from ..helpers.builders import build, w
from ..helpers.networks import perceptron


def _constants(kind: str) -> onnx.ModelProto:
    """Put the weights of `net` in Constant nodes, biases as lists of floats if `kind` says so."""
    model = perceptron()
    for tensor in reversed(model.graph.initializer):
        if kind == "floats" and len(tensor.dims) == 1:
            node = helper.make_node(
                "Constant", [], [tensor.name], value_floats=numpy_helper.to_array(tensor).tolist()
            )
        else:
            node = helper.make_node("Constant", [], [tensor.name], value=tensor)
        model.graph.node.insert(0, node)
    del model.graph.initializer[:]
    return model


@pytest.mark.parametrize(
    "kind", ["initializers", "constants", "floats", "external", "typed", "half"]
)
def test_weights_wherever_they_lie(kind: str, tmp_path: Path) -> None:
    path, suspect, back = (tmp_path / f"{n}.onnx" for n in ("reference", "suspect", "back"))
    model = perceptron((4, 60, 50))
    if kind in ("constants", "floats"):
        model = _constants(kind)
    if kind == "typed":
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(
                helper.make_tensor(
                    tensor.name, TensorProto.FLOAT, tensor.dims, values.ravel().tolist()
                )
            )
    if kind == "half":
        for tensor in model.graph.initializer:
            tensor.CopyFrom(
                numpy_helper.from_array(
                    numpy_helper.to_array(tensor).astype(np.float16), tensor.name
                )
            )
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    if kind == "external":
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    else:
        onnx.save(model, path)
    lady.permute(path, 1).save(suspect)
    if kind == "external":
        assert suspect.stat().st_size < 3000
        assert (tmp_path / "suspect.onnx.data").exists()
    onnx.checker.check_model(str(suspect))
    result = lady.resync(path, suspect)
    result.save(back)
    ours, theirs, again = load_graph(path), load_graph(suspect), load_graph(back)
    assert not np.array_equal(ours.array("w0"), theirs.array("w0"))
    for name in ours.tensors:
        assert ours.array(name).tobytes() == again.array(name).tobytes()
    assert result.outputs_preserved
    assert lady.check(path, back).verdict == "identical"
    if kind == "external":
        with pytest.raises(lady.LadyError, match="is the input's external data"):
            lady.permute(suspect, 2).save(suspect)


def test_only_weights_and_one_note_change(tmp_path: Path) -> None:
    model = perceptron()
    model.producer_name = "somebody"
    model.metadata_props.add(key="licence", value="theirs")
    model.graph.doc_string = "words"
    model.graph.initializer[0].doc_string = "more words"
    before = model.SerializeToString()
    changed = lady.permute(model, 1).model
    assert model.SerializeToString() == before
    notes = {p.key: p.value for p in changed.metadata_props}
    assert notes == {"licence": "theirs", METADATA_KEY: "permuted"}
    for m in (model, changed):
        del m.metadata_props[:]
        for t in m.graph.initializer:
            t.ClearField("raw_data")
    assert changed == model


def test_a_model_without_weights_that_move_is_returned_as_it_was(tmp_path: Path) -> None:
    path, out = tmp_path / "a.onnx", tmp_path / "b.onnx"
    onnx.save(perceptron(), path)
    lady.resync(path, path).save(out)
    assert lady.check(path, out).verdict == "identical"


def test_external_data_shorter_than_promised(tmp_path: Path) -> None:
    onnx.save(
        perceptron((4, 60, 50)),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="d",
        size_threshold=0,
    )
    (tmp_path / "d").write_bytes((tmp_path / "d").read_bytes()[:-4])
    with pytest.raises(lady.LadyError, match="'d' is shorter than the model says"):
        lady.find_groups(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("key", "value"),
    [("length", "64"), ("length", "99999"), ("offset", " 0 "), ("offset", "+0"), ("offset", "0_0")],
)
def test_external_data_are_where_every_reader_finds_them(
    key: str, value: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(
        perceptron((4, 60, 50)), path, save_as_external_data=True, location="d", size_threshold=0
    )
    lady.find_groups(path)
    model = onnx.load(path, load_external_data=False)
    entries = model.graph.initializer[0].external_data
    entry = next(e for e in entries if e.key == key)
    usual, entry.value = entry.value, value
    onnx.save(model, path)
    with pytest.raises(lady.LadyError, match="export the model again"):
        lady.find_groups(path)
    entry.value = usual
    entries.add(key=key, value=usual)
    onnx.save(model, path)
    with pytest.raises(lady.LadyError, match="two entries have one name"):
        lady.find_groups(path)


def test_constant_along() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.standard_normal((1, 300, 1)), 3, 0).repeat(2, 2).astype(np.float32)
    model = perceptron()
    model.graph.initializer.append(numpy_helper.from_array(values, "v"))
    graph = load_graph(model)
    assert [graph.constant_along("v", a) for a in range(3)] == [True, False, True]


def test_dynamic_axes_and_token_inputs() -> None:
    """Integer inputs index tables, so random tokens stay inside the smallest."""
    rng = np.random.default_rng(0)
    table, w = (rng.standard_normal(s).astype(np.float32) for s in ((11, 6), (6, 3)))
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["e"]),
            helper.make_node("MatMul", ["e", "w"], ["y"]),
        ],
        "tokens",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    symmetry = lady.find_groups(model)
    assert [(g.size, {(s.initializer, s.axis) for s in g.slots}) for g in symmetry.groups] == [
        (6, {("table", 1), ("w", 0)})
    ]
    assert lady.verify(model, lady.permute(model, 1).model).equal


def test_large_weights_of_a_file_are_read_from_its_bytes(tmp_path: Path) -> None:
    """Of every element type and at any offset; the whole model comes back as it was."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 2, (97, 61)).astype(t)
        for t in (np.float32, np.float64, np.float16, np.int8, np.int64, np.bool_)
    ]
    tensors = [numpy_helper.from_array(a, "w" * k + "eight") for k, a in enumerate(arrays, 1)]
    tensors.append(
        numpy_helper.from_array(rng.integers(-8, 8, (99, 99)).astype(ml_dtypes.int4), "few")
    )
    tensors.append(
        numpy_helper.from_array(rng.standard_normal((60, 60)).astype(ml_dtypes.bfloat16), "brain")
    )
    tensors.append(
        helper.make_tensor("listed", TensorProto.FLOAT, [60, 60], rng.standard_normal(3600))
    )
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "g", value[:1], value[1:], tensors), ir_version=10
    )
    onnx.save(model, tmp_path / "m.onnx")
    rest, places = wire.split_large_weights((tmp_path / "m.onnx").read_bytes())
    assert places.keys() >= {t.name for t in tensors if t.name != "listed"}
    assert len(rest) < 20000
    # put in again, they are where protobuf writes them
    whole = (tmp_path / "m.onnx").read_bytes()
    large = {n: np.frombuffer(whole[start:end], np.uint8) for n, (start, end) in places.items()}
    assert b"".join(wire.join_large_weights(rest, large)) == whole
    graph = load_graph(tmp_path / "m.onnx")
    for tensor in tensors:
        assert graph.array(tensor.name).tobytes() == numpy_helper.to_array(tensor).tobytes()
        assert graph.array(tensor.name).flags.aligned
    # what is copied, as it lies out of alignment, is copied once
    for name in places:
        assert np.shares_memory(graph.array(name), graph.array(name))
    whole = graph.to_model("")
    del whole.metadata_props[:]
    assert whole == model
    graph.save(tmp_path / "n.onnx", "")
    assert {t.name: t for t in onnx.load(tmp_path / "n.onnx").graph.initializer} == {
        t.name: t for t in tensors
    }


@given(st.binary(max_size=200), st.integers(0, 10**6), st.integers(0, 255))
def test_bytes_that_are_no_model_are_left_to_the_parser(
    noise: bytes, place: int, byte: int
) -> None:
    tensors = [numpy_helper.from_array(np.ones((40, 40), np.float32), "w")]
    whole = helper.make_model(helper.make_graph([], "g", [], [], tensors)).SerializeToString()
    broken = bytearray(whole)
    broken[place % 60] = byte
    endless = b"\x3a" + b"\xff" * 100
    # a number of more than 64 bits stands before a model
    assert wire.split_large_weights(b"\x08" + b"\xff" * 10 + b"\x01" + whole)[1] == {}
    for data in (noise, bytes(broken), whole[: place % len(whole)], endless):
        rest, places = wire.split_large_weights(data)
        assert all(0 <= start <= end <= len(data) for start, end in places.values())
        if not places:
            assert rest == data


@pytest.mark.long
def test_more_than_two_gigabytes(tmp_path: Path) -> None:
    """Weights in external data: no step needs the model in one piece."""
    n = 24576
    rng = np.random.default_rng(0)
    weights = []
    for name, shape in (("a", (16, n)), ("b", (n, n)), ("c", (n, 16))):
        with (tmp_path / f"{name}.bin").open("wb") as file:
            for _ in range(shape[0]):
                file.write(rng.standard_normal(shape[1], np.float32).tobytes())
        weights.append(
            TensorProto(
                name=name,
                data_type=TensorProto.FLOAT,
                dims=shape,
                data_location=TensorProto.EXTERNAL,
            )
        )
        weights[-1].external_data.add(key="location", value=f"{name}.bin")
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["i"]),
        helper.make_node("MatMul", ["i", "c"], ["out"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "large", inputs, outputs, weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "m.onnx",
    )
    assert [g.size for g in lady.find_groups(tmp_path / "m.onnx").groups] == [n, n]
    lady.permute(tmp_path / "m.onnx", 1).save(tmp_path / "p.onnx")
    result = lady.resync(tmp_path / "m.onnx", tmp_path / "p.onnx", verify="none")
    assert result.exact
    result.save(tmp_path / "r.onnx")
    del result
    assert lady.check(tmp_path / "m.onnx", tmp_path / "r.onnx").verdict == "identical"


@pytest.mark.parametrize("other", [17, 18])
@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_a_domain_may_be_imported_twice_in_one_version(domain: str, other: int) -> None:
    """Some tools write it; two versions would be two readings of one file."""
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("Relu", ["h"], ["r"])]
    nodes.append(helper.make_node("MatMul", ["r", "b"], ["out"]))
    model = build(nodes, {"a": w(3, 6), "b": w(6, 2)}, {"x": [2, 3]})
    model.opset_import.append(helper.make_opsetid(domain, other))
    if other == 17:
        assert lady.check(model, lady.permute(model, 1).model).verdict == "permuted"
    else:
        with pytest.raises(lady.LadyError, match=r"imports domain 'ai\.onnx' twice"):
            lady.find_groups(model)


def test_constants_may_have_one_name() -> None:
    """spox calls all of them `anon`; onnxruntime refuses any other two nodes of one name."""
    model = _constants("constants")
    for constant in model.graph.node:
        if constant.op_type == "Constant":
            constant.name = "anon"
    shuffled = lady.permute(model, 1).model
    assert lady.verify(model, shuffled).equal
    assert lady.check(model, shuffled).verdict == "permuted"


def test_places_of_a_sparse_weight_are_in_order(tmp_path: Path) -> None:
    """Runtimes differ in what they make of places that stand twice."""
    values = numpy_helper.from_array(np.ones(2, np.float32), "w")
    indices = numpy_helper.from_array(np.array([1, 1]), "places")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [], [])
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [4]))
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [4]))
    graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    with pytest.raises(lady.LadyError, match="not in ascending order"):
        lady.find_groups(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


@pytest.mark.parametrize("part", ["values", "indices"])
def test_a_sparse_weight_in_external_data_is_refused(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    indices = numpy_helper.from_array(np.array([1, 3]), "places")
    sparse = helper.make_sparse_tensor(values, indices, [4])
    model = build([helper.make_node("Add", ["x", "w"], ["out"])], {}, {"x": [4]})
    tensor = getattr(sparse, part)
    # in the folder of the process, where nobody meant it to be
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "w.bin").write_bytes(tensor.raw_data)
    monkeypatch.chdir(tmp_path / "here")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    model.graph.sparse_initializer.append(sparse)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(lady.LadyError, match=r"sparse weight .*external data"):
        load_graph(tmp_path / "a.onnx")


def test_tensors_of_attributes_lie_in_the_file(tmp_path: Path) -> None:
    # two folders may hold other numbers under one name
    value = numpy_helper.from_array(np.array([2.0], np.float32), "v")
    value.ClearField("raw_data")
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="v.bin")
    (tmp_path / "v.bin").write_bytes(np.float32(2).tobytes())
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"], name="n", value=value),
        helper.make_node("Add", ["x", "c"], ["out"]),
    ]
    onnx.save(build(nodes, {"s": np.array([4])}, {"x": [4]}), tmp_path / "a.onnx")
    with pytest.raises(lady.LadyError, match=r"attribute 'value' of node .* external data"):
        load_graph(tmp_path / "a.onnx")


def test_zeros_of_a_sparse_weight_keep_their_signs(tmp_path: Path) -> None:
    values = numpy_helper.from_array(np.array([1.0, -0.0, 2.0], np.float32), "s")
    places = numpy_helper.from_array(np.array([0, 3, 5]), "s.places")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "s"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        sparse_initializer=[helper.make_sparse_tensor(values, places, [2, 3])],
    )
    model = helper.make_model(graph, ir_version=10)
    first = load_graph(model)
    moved = first.array("s")[::-1].copy()
    twin = first.copy()
    twin.replace("s", moved)
    twin.save(tmp_path / "m.onnx", "")
    assert load_graph(tmp_path / "m.onnx").array("s").tobytes() == moved.tobytes()


def test_text_and_numbers_of_two_bits_are_written_as_they_are(tmp_path: Path) -> None:
    text = helper.make_tensor("text", TensorProto.STRING, [2], [b"one", b"two"])
    short = helper.make_tensor("short", TensorProto.UINT2, [6000], [k % 4 for k in range(6000)])
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["text"], ["y"])],
            "g",
            [],
            [helper.make_tensor_value_info("y", TensorProto.STRING, [2])],
            [text, short],
        ),
        ir_version=13,
    )
    graph = load_graph(model).copy()
    for name in ("text", "short"):
        graph.replace(name, graph.array(name)[::-1].copy())
    graph.save(tmp_path / "m.onnx", "")
    again = load_graph(tmp_path / "m.onnx")
    assert again.array("text").tolist() == ["two", "one"]
    assert again.array("short").astype(int).tolist() == [k % 4 for k in range(6000)][::-1]
    stored = {t.name: t for t in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert len(stored["short"].raw_data) == 1500


@pytest.mark.parametrize(
    ("data_type", "number", "wrong"),
    [
        (TensorProto.FLOAT16, 0xFFFF, 0x10000),
        (TensorProto.FLOAT16, 0, -1),
        (TensorProto.BFLOAT16, 0xBF80, 0x13F80),
        (TensorProto.UINT8, 255, -1),
        (TensorProto.INT8, -128, 128),
        (TensorProto.INT16, 1 << 14, 0x10001),
        (TensorProto.UINT4, 0xFF, 0x100),
        (TensorProto.BOOL, 1, 2),
        (TensorProto.BOOL, 1, 256),
        (TensorProto.BOOL, 0, -256),
        (TensorProto.INT32, -(1 << 31), None),
    ],
)
def test_numbers_fit_into_the_bits_of_their_type(
    data_type: int, number: int, wrong: int | None
) -> None:
    # onnxruntime refuses some that need more bits, and cuts others
    model = perceptron()
    extra = TensorProto(name="extra", data_type=data_type, dims=[2], int32_data=[1, number])
    if data_type == TensorProto.UINT4:
        del extra.int32_data[:1]
    model.graph.initializer.append(extra)
    array = numpy_helper.to_array(extra)
    np.testing.assert_array_equal(load_graph(model).array("extra"), array)
    if wrong is not None:
        model.graph.initializer[-1].int32_data[-1] = wrong
        with pytest.raises(lady.LadyError, match="int32_data needs more bits than"):
            load_graph(model).array("extra")


@pytest.mark.parametrize(
    ("operator", "attributes", "since"),
    [
        ("ArgMax", {"select_last_index": 1}, 12),
        ("Shape", {"start": 1}, 15),
        ("ScatterElements", {"reduction": "max"}, 16),
    ],
)
def test_attributes_are_those_of_the_version(
    operator: str, attributes: dict[str, object], since: int
) -> None:
    # a runtime that takes no notice of one would compute something else
    def make(opset: int) -> onnx.ModelProto:
        operands = ["x", "i", "x"] if operator == "ScatterElements" else ["x"]
        node = helper.make_node(operator, operands, ["out"], name="n", **attributes)
        return build([node], {}, {"x": [4, 5], "i": [4, 5]}, opset)

    load_graph(make(since))
    with pytest.raises(lady.LadyError, match=r"node .*n.* has attribute .*does not have"):
        load_graph(make(since - 1))
    internal = make(since)
    internal.graph.node[0].attribute.add(name="__note", type=1, f=1)
    load_graph(internal)


def test_text_that_ends_with_a_zero_byte_is_refused() -> None:
    model = perceptron()
    tensor = TensorProto(name="text", data_type=TensorProto.STRING, dims=[2])
    tensor.string_data.extend([b"a", b"c"])
    model.graph.initializer.append(tensor)
    load_graph(model).array("text")
    model.graph.initializer[-1].string_data[1] = b"c\0"
    with pytest.raises(lady.LadyError, match="a text ends with a zero byte"):
        load_graph(model).array("text")


@pytest.mark.parametrize(
    ("operator", "operands", "results", "said"),
    [
        ("Max", ["x", ""], ["out"], "leaves out operand 1"),
        ("Concat", ["x", ""], ["out"], "leaves out operand 1"),
        ("Add", ["x", ""], ["out"], "leaves out operand 1"),
        ("Relu", ["x", ""], ["out"], "has 2 operands"),
        ("Relu", ["x"], ["out", ""], "has 2 results"),
        ("MatMul", ["x"], ["out"], "has 1 operands"),
        ("Identity", [], ["out"], "has 0 operands"),
        ("Constant", [], [], "has 0 results"),
        ("Clip", ["x", "", ""], ["out"], None),
    ],
)
def test_operands_are_those_of_the_operator(
    operator: str, operands: list[str], results: list[str], said: str | None
) -> None:
    # onnxruntime ends with a signal at the maximum of an operand that is left out
    attributes = {"Concat": {"axis": 0}, "Constant": {"value_float": 1.0}}.get(operator, {})
    node = helper.make_node(operator, operands, results, name="n", **attributes)
    model = build([node], {}, {"x": [4, 5]}, 17)
    if said is None:
        load_graph(model)
    else:
        with pytest.raises(lady.LadyError, match=f"node .*n.* {said}.* in opset 17"):
            load_graph(model)


@pytest.mark.parametrize("domain", ["", "ai.onnx.ml", "com.microsoft"])
def test_versions_that_nobody_knows_are_refused(domain: str) -> None:
    model = build([helper.make_node("Relu", ["x"], ["out"])], {}, {"x": [4, 5]}, 17)
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
        load_graph(model)
    model.opset_import[-1].version = 99
    with pytest.raises(lady.LadyError, match=r"opset 99.* is newer than any that is known"):
        load_graph(model)
