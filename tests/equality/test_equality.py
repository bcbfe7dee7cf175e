"""Total equality of programs: each field of each message is compared, or ignored with a reason."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.equality.comparison import are_written_alike, pair_graphs
from lady_onnx.equality.versions import find_oldest_meaning
from lady_onnx.graph import wire
from lady_onnx.graph.loading import load_graph
from lady_onnx.semantics.fields import COMPARED, IGNORED, UNREACHED

from ..helpers.builders import build


def every_field() -> Iterator[str]:
    """All fields of all messages that a model may hold, as `Message.field`."""
    waiting, seen = [onnx.ModelProto.DESCRIPTOR], set()
    while waiting:
        message = waiting.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        for field in message.fields:
            yield f"{message.full_name.removeprefix('onnx.')}.{field.name}"
            if field.message_type is not None:
                waiting.append(field.message_type)


def unlisted(ignored: set[str]) -> list[str]:
    """Fields that are neither compared nor ignored."""
    names = (n for n in every_field() if n.rpartition(".")[0] not in UNREACHED)
    return [n for n in names if n not in ignored and n not in COMPARED]


def test_every_field_is_compared_or_ignored_with_a_reason() -> None:
    assert not unlisted(set(IGNORED))
    assert not IGNORED.keys() & COMPARED.keys()
    assert not (IGNORED.keys() | COMPARED.keys()) - set(every_field())
    assert all(IGNORED.values())


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_a_field_that_is_taken_out_of_the_list_is_missed(name: str) -> None:
    assert unlisted(set(IGNORED) - {name}) == [name]


def layers() -> onnx.ModelProto:
    """Two layers with a leaky activation between them."""
    rng = np.random.default_rng(0)
    weights = {"a": rng.standard_normal((8, 6)), "b": rng.standard_normal((4, 8))}
    nodes = [
        helper.make_node("Gemm", ["x", "a"], ["h"], name="first", transB=1),
        helper.make_node("LeakyRelu", ["h"], ["i"], name="act", alpha=0.25),
        helper.make_node("Gemm", ["i", "b"], ["out"], name="second", transB=1),
    ]
    tensors = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", k])
        for n, k in (("x", 6), ("out", 4))
    ]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_what_no_output_reads_counts_for_nothing() -> None:
    other = layers()
    other.graph.node.append(helper.make_node("Sin", ["h"], ["unread"]))
    other.graph.node.reverse()
    assert lady.check(layers(), other).verdict == "identical"


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        ("graph", "name", "another"),
        ("graph", "doc_string", "text"),
        ("model", "producer_name", "someone"),
        ("model", "model_version", 7),
        ("node", "name", "another"),
        ("node", "doc_string", "text"),
    ],
)
def test_names_and_texts_are_no_difference(message: str, field: str, value: object) -> None:
    other = layers()
    setattr(
        {"graph": other.graph, "model": other, "node": other.graph.node[1]}[message], field, value
    )
    found = lady.check(layers(), other)
    assert found.verdict == "identical"
    assert found.equality == "bits"


@pytest.mark.parametrize(
    "what", ["alpha", "sign", "name", "shape", "type", "opset", "ir", "text", "order"]
)
def test_files_in_the_same_words_differ_in_numbers_alone(what: str) -> None:
    one, two = layers(), layers()
    for model in (one, two):
        model.graph.node[1].attribute[0].f = 0.0
    two.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(
            numpy_helper.to_array(two.graph.initializer[0]) + 1, two.graph.initializer[0].name
        )
    )
    assert are_written_alike(load_graph(one), load_graph(two))
    assert lady.check(one, two).verdict != "identical"
    if what == "alpha":
        two.graph.node[1].attribute[0].f = 0.5
    elif what == "sign":
        # equal as numbers, and as messages
        two.graph.node[1].attribute[0].f = -0.0
    elif what == "name":
        two.graph.node[0].name = "other"
    elif what == "shape":
        two.graph.input[0].type.tensor_type.shape.dim[0].dim_value += 1
    elif what == "type":
        weight = numpy_helper.to_array(two.graph.initializer[1]).astype(np.float64)
        two.graph.initializer[1].CopyFrom(
            numpy_helper.from_array(weight, two.graph.initializer[1].name)
        )
    elif what == "opset":
        two.opset_import[0].version += 1
    elif what == "ir":
        two.ir_version -= 1
    elif what == "text":
        two.graph.doc_string = "a text"
    else:
        two.graph.output.add().CopyFrom(two.graph.output[0])
        two.graph.output[1].name = two.graph.node[0].output[0]
    assert not are_written_alike(load_graph(one), load_graph(two))


def test_a_difference_names_its_place() -> None:
    other = layers()
    other.graph.node[1].attribute[0].f = 0.5
    (difference,) = pair_graphs(load_graph(layers()), load_graph(other)).differences
    assert str(difference) == "at node LeakyRelu 'act', attribute 'alpha' is another"
    found = lady.check(layers(), lady.permute(other, 1).graph)
    assert found.verdict == "altered"
    assert "LeakyRelu 'act', attribute 'alpha' is another" in found.reason


def test_defaults_that_are_written_out_are_no_difference() -> None:
    other = layers()
    other.graph.node[0].attribute.append(helper.make_attribute("beta", 1.0))
    assert lady.check(layers(), other).verdict == "identical"
    assert lady.resync(layers(), other).alike


@pytest.mark.parametrize("what", ["name", "type", "shape", "order"])
def test_the_interface_is_part_of_a_model(what: str) -> None:
    reference, other = layers(), layers()
    if what == "name":
        other.graph.input[0].name = other.graph.node[0].input[0] = "y"
    elif what == "type":
        reference.graph.output[0].type.tensor_type.elem_type = TensorProto.UNDEFINED
    elif what == "shape":
        other.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    else:
        for model in (reference, other):
            value = helper.make_tensor_value_info("i", TensorProto.FLOAT, ["N", 8])
            model.graph.output.insert(int(model is other), value)
    found = lady.check(reference, other)
    assert found.verdict == "altered"
    assert "put '" in found.reason


def test_versions_of_one_meaning() -> None:
    assert find_oldest_meaning("Relu", "", 6) == find_oldest_meaning("Relu", "", 17)
    assert find_oldest_meaning("Add", "", 7) == find_oldest_meaning("Add", "", 21)
    assert find_oldest_meaning("Add", "", 6) != find_oldest_meaning("Add", "", 7)
    assert find_oldest_meaning("Softmax", "", 12) != find_oldest_meaning("Softmax", "", 13)
    assert find_oldest_meaning("RoiAlign", "", 10) != find_oldest_meaning("RoiAlign", "", 16)
    assert find_oldest_meaning("Unheard", "own", 3) == 3


@pytest.mark.parametrize("versions", [(12, 13), (13, 12)])
def test_an_operator_that_means_something_else_in_another_version(
    versions: tuple[int, int],
) -> None:
    """Softmax with an axis summed up over all later axes, too, until version 13."""
    weights = {"w": np.float32(np.random.default_rng(0).standard_normal((4, 5)))}
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"], axis=1),
        helper.make_node("MatMul", ["s", "w"], ["out"]),
    ]
    models = [build(nodes, weights, {"x": [2, 3, 4]}, opset=v) for v in versions]
    found = lady.check(*models)
    assert found.verdict == "altered"
    assert "they differ" in found.reason
    assert not lady.verify(*models).equal


# ---- one truth about a file


def written(size: int) -> bytes:
    model = layers()
    model.graph.initializer.append(
        numpy_helper.from_array(np.arange(size, dtype=np.float32), "large")
    )
    model.graph.node[2].input.append("large")
    return model.SerializeToString()


LARGE = written(1500)


def as_onnx(data: bytes) -> dict[str, bytes] | None:
    """The initializers' values as onnx reads them; None where it reads nothing."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
        return {t.name: numpy_helper.to_array(t).tobytes() for t in model.graph.initializer}
    except Exception:  # noqa: BLE001  (whatever onnx raises on bytes that are no model)
        return None


def as_ours(data: bytes) -> dict[str, bytes] | None:
    """The same, as the light reader leaves them."""
    rest, places = wire.split_large_weights(data)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(rest)
        found = {}
        for tensor in model.graph.initializer:
            if tensor.name in places:
                start, end = places[tensor.name]
                tensor.raw_data = data[start:end]
            found[tensor.name] = numpy_helper.to_array(tensor).tobytes()
    except Exception:  # noqa: BLE001
        return None
    return found


def test_large_weights_are_left_out() -> None:
    rest, places = wire.split_large_weights(LARGE)
    assert set(places) == {"large"}
    assert len(rest) < len(LARGE) - 5000
    assert as_ours(LARGE) == as_onnx(LARGE)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=3),
    st.booleans(),
)
def test_changed_bytes_are_read_as_onnx_reads_them(
    changes: list[tuple[int, int]], at_end: bool
) -> None:
    data = bytearray(LARGE)
    for place, value in changes:
        data[len(data) - 1 - place if at_end else place] = value
    assert as_ours(bytes(data)) == as_onnx(bytes(data))


def field(number: int, content: bytes) -> bytes:
    """A field that holds bytes."""
    head = bytearray([number << 3 | 2])
    size = len(content)
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([*head, size]) + content


@pytest.mark.parametrize("kind", ["twice", "fixed", "beside", "graphs", "named twice"])
def test_tensors_that_are_not_written_plainly(kind: str) -> None:
    values = np.arange(1500, dtype=np.float32)
    raw, other = values.tobytes(), (-values).tobytes()
    plain = b"\x08\xdc\x0b\x10\x01" + field(8, b"w")
    tensor = {
        "twice": plain + field(9, raw) + field(9, other),
        # a number where a name stands: it is no name
        "fixed": plain + field(9, raw) + bytes([8 << 3 | 5]) + b"abcd",
        "beside": plain + field(9, raw) + field(4, other),
        "graphs": plain + field(9, raw),
        "named twice": plain + field(8, b"v") + field(9, raw),
    }[kind]
    data = field(7, field(5, tensor)) + (
        field(7, field(5, plain + field(9, other))) if kind == "graphs" else b""
    )
    assert as_ours(data) == as_onnx(data)


TWICE = (
    *(
        "domain",
        "function",
        "formal",
        "body",
        "input",
        "value",
        "attribute",
        "kind",
        "operator",
        "node",
        "inside",
        "version",
    ),
    *("format", "no body"),
)


@pytest.mark.parametrize("what", TWICE)
def test_what_may_be_read_in_two_ways_is_refused(what: str) -> None:
    model = layers()
    body = [helper.make_node("Relu", ["u"], ["v"])]
    if what == "domain":
        model.opset_import.append(helper.make_opsetid("", 12))
    elif what == "function":
        for _ in range(2):
            model.functions.append(
                helper.make_function("own", "f", ["u"], ["v"], body, [helper.make_opsetid("", 17)])
            )
    elif what == "formal":
        model.functions.append(
            helper.make_function("own", "f", ["u", "u"], ["v"], body, [helper.make_opsetid("", 17)])
        )
    elif what == "body":
        branch = helper.make_graph([*body, *body], "b", [], [onnx.ValueInfoProto(name="v")])
        model.graph.node.append(
            helper.make_node("If", ["i"], ["w"], then_branch=branch, else_branch=branch)
        )
    elif what == "operator":
        model.functions.append(
            helper.make_function("", "LeakyRelu", ["u"], ["v"], body, [helper.make_opsetid("", 17)])
        )
    elif what == "node":
        model.graph.node[1].name = model.graph.node[0].name
    elif what == "inside":
        model.functions.append(
            helper.make_function("own", "f", ["u"], ["v"], body, [helper.make_opsetid("", 17)])
        )
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float32), "own.f/u"))
    elif what == "version":
        model.opset_import[0].version = 99
    elif what == "format":
        model.ir_version = 99
    elif what == "no body":
        model.graph.node.append(helper.make_node("If", ["i"], ["w"]))
    elif what == "input":
        model.graph.input.append(model.graph.input[0])
    elif what == "value":
        model.graph.node.append(helper.make_node("Sin", ["x"], ["i"]))
    elif what == "attribute":
        model.graph.node[1].attribute.append(helper.make_attribute("alpha", 0.5))
    else:
        model.graph.node[1].attribute[0].type = onnx.AttributeProto.INT
    with pytest.raises(lady.LadyError):
        lady.check(model, layers())
