"""Pairs of models that compute different things and were once accepted as one.

None may be, in either order.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

import lady_onnx as lady

from ..helpers import oracle
from ..helpers.disguised_pairs import (
    FLOAT,
    INT,
    WRITTEN,
    Pair,
    accepts,
    copied,
    inputs_of_a_scan_body,
    is_different,
    node,
    w,
    with_identity,
)
from ..helpers.hostile_pairs import structures, values
from ..helpers.layers import F, model

CASES = (inputs_of_a_scan_body, *structures.CASES, *values.CASES)


LEFT_TO_MEMORY = (values.saturation_of_a_cast,)
"""Pairs of which onnxruntime leaves a result as it finds the memory.

A run may not tell them apart.
"""


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("turned", [False, True], ids=["forth", "back"])
@pytest.mark.parametrize("case", CASES)
def test_another_program_is_not_accepted(
    case: Callable[[], Pair], turned: bool, written: str
) -> None:
    pair = case()
    reference, suspect = (
        (pair.suspect, pair.reference) if turned else (pair.reference, pair.suspect)
    )
    assert not accepts(reference, WRITTEN[written](suspect))


@pytest.mark.parametrize("case", CASES)
def test_the_pairs_differ_and_are_themselves(case: Callable[[], Pair]) -> None:
    """Refusing everything is no answer."""
    pair = case()
    assert case in LEFT_TO_MEMORY or is_different(pair)
    assert lady.check(pair.reference, copied(pair.reference)).verdict == "identical"


def test_weights_of_another_rank_are_no_crash() -> None:
    def built(*shape: int) -> ModelProto:
        nodes = [node("MatMul", "x a", "h"), node("Mul", "h m", "i"), node("MatMul", "i b", "out")]
        scale = np.resize(w(6), shape)
        return model(nodes, {"a": w(4, 6), "m": scale, "b": w(6, 3)}, {"x": [2, 4]})

    assert accepts(built(6), built(1, 6))
    for ours, theirs in (((6,), (1, 1, 6)), ((1, 1, 6), (2, 6)), ((2, 6), (1, 1, 6))):
        assert not accepts(built(*ours), built(*theirs))


@pytest.mark.parametrize(
    ("shape", "accepted"), [((4,), True), ((5, 4), False), ((1,), False), ((1, 1, 4), False)]
)
def test_fused_operators_do_not_broadcast(shape: tuple[int, ...], accepted: bool) -> None:
    """A kernel takes one bias for each unit, and nothing else that a sum would take."""
    weights = {"bias": np.resize(w(4), shape), "root": F(2**0.5), "one": F(1), "half": F(0.5)}
    nodes = [
        node("Add", "x bias", "h"),
        node("Div", "h root", "d"),
        node("Erf", "d", "e"),
        node("Add", "e one", "p"),
    ]
    nodes += [node("Mul", "h p", "m"), node("Mul", "m half", "out")]
    fused = model(
        [node("BiasGelu", "x bias", "out", domain="com.microsoft")],
        {"bias": weights["bias"]},
        {"x": [1, 4]},
    )
    fused.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert accepts(model(nodes, weights, {"x": [1, 4]}), fused) == accepted


@pytest.mark.parametrize("version", [11, 17])
def test_a_function_speaks_the_version_of_its_model(version: int) -> None:
    """onnxruntime takes the version of the model.

    A Softmax of version 11 is over all axes from one on, as what it is written out as.
    """
    rows, back = np.array([2, 12]), np.array([2, 3, 4])
    written_out = [
        node("Reshape", "x rows", "h"),
        node("Softmax", "h", "s", axis=1),
        node("Reshape", "s back", "out"),
    ]
    plain = model([node("Softmax", "x", "out", axis=1)], {}, {"x": [2, 3, 4]})
    suspect = model([node("f", "x", "out", domain="own")], {}, {"x": [2, 3, 4]})
    opset = [helper.make_opsetid("", version)]
    suspect.functions.append(
        helper.make_function("own", "f", ["p"], ["r"], [node("Softmax", "p", "r", axis=1)], opset)
    )
    suspect.opset_import.append(helper.make_opsetid("own", 1))
    assert accepts(plain, suspect) == (version == 17)
    assert not accepts(model(written_out, {"rows": rows, "back": back}, {"x": [2, 3, 4]}), suspect)


def test_functions_that_call_each_other_often_are_refused() -> None:
    """A small file may hold a graph of any size."""
    found = model([node("f20", "x", "out", domain="own")], {}, {"x": [1, 4]})
    for k in range(21):
        inner = (
            [node("Relu", "p", "r")]
            if k == 0
            else [node(f"f{k - 1}", a, b, domain="own") for a, b in ("ph", "hr")]
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        found.functions.append(helper.make_function("own", f"f{k}", ["p"], ["r"], inner, opsets))
    found.opset_import.append(helper.make_opsetid("own", 1))
    with pytest.raises(lady.LadyError, match="nodes once its functions"):
        lady.check(found, found)


def test_a_small_file_may_ask_for_a_large_constant() -> None:
    nodes = [
        node("Tile", "c r", "t"),
        node("ReduceMax", "t", "u", keepdims=0),
        node("Cast", "u", "f", to=FLOAT),
    ]
    nodes.append(node("Add", "x f", "out"))
    whole = model(nodes, {"c": np.arange(4096), "r": np.array([100_000])}, {"x": [1, 4]})
    assert lady.check(whole, with_identity(whole)).verdict == "identical"
    assert not lady.find_groups(whole).groups


@pytest.mark.parametrize("is_sparse", [False, True])
def test_an_input_of_a_body_that_is_a_weight_too_is_refused(is_sparse: bool) -> None:
    whole = inputs_of_a_scan_body().reference
    body = next(
        a.g for n in whole.graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH
    )
    values = numpy_helper.from_array(w(2), body.input[0].name)
    if is_sparse:
        places = numpy_helper.from_array(np.arange(2), "")
        body.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2]))
    else:
        body.initializer.append(values)
    with pytest.raises(lady.LadyError, match="two values of body"):
        lady.check(whole, whole)


def test_a_tensor_in_an_attribute_that_is_cut_short_is_no_crash() -> None:
    places = numpy_helper.from_array(np.array([0, 3]), "places")
    sparse = helper.make_sparse_tensor(numpy_helper.from_array(w(2), "values"), places, [4])
    whole = model(
        [node("Constant", "", "c", sparse_value=sparse), node("Add", "x c", "out")],
        {},
        {"x": [1, 4]},
    )
    suspect = copied(whole)
    suspect.graph.node[0].attribute[0].sparse_tensor.indices.raw_data = b""
    assert not accepts(whole, suspect)
    assert accepts(whole, copied(whole))


def test_a_threshold_of_no_elements_is_no_crash() -> None:
    def built(dims: list[int]) -> ModelProto:
        whole = structures.thresholds_of_boxes().reference
        whole.graph.initializer.remove(
            next(t for t in whole.graph.initializer if t.name == "least")
        )
        values, places = (
            helper.make_tensor("least", FLOAT, [0], []),
            helper.make_tensor("", INT, [0], []),
        )
        whole.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, dims))
        return whole

    assert accepts(built([1]), with_identity(built([1])))
    assert not accepts(built([1]), with_identity(built([1, 0])))


@pytest.mark.parametrize("turned", [False, True], ids=["forth", "back"])
@pytest.mark.parametrize("written", ["plainly", "with an Identity"])
def test_names_of_another_wire_type_name_nothing(
    written: str, turned: bool, tmp_path: Path
) -> None:
    """A name that is written as a number of eight bytes is none to protobuf.

    The weight keeps its own.
    """
    names = ["weight_a", "weight_b"]
    arrays = [w(48, 48, seed=k) for k in range(2)]
    nodes = [
        node("MatMul", "x weight_a", "h"),
        node("Relu", "h", "i"),
        node("MatMul", "i weight_b", "out"),
    ]

    def data(swapped: bool) -> bytes:
        found = model(nodes, {}, {"x": ["N", 48]})
        if written == "with an Identity" and swapped:
            found = with_identity(found)
        tensors = [
            numpy_helper.from_array(a, n)
            for a, n in zip(arrays, names[::-1] if swapped else names, strict=True)
        ]
        tag = bytes([8 << 3 | 1])
        graph = found.graph.SerializeToString()
        for tensor, name in zip(tensors, names, strict=True):
            content = tensor.SerializeToString() + (tag + name.encode() if swapped else b"")
            graph += bytes([5 << 3 | 2]) + _length(content) + content
        found.ClearField("graph")
        return found.SerializeToString() + bytes([7 << 3 | 2]) + _length(graph) + graph

    paths = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    for path, swapped in zip(paths, (False, True), strict=True):
        path.write_bytes(data(swapped))
    state = oracle.judge(*(oracle.opened(p) for p in paths), [{"x": w(2, 48)}])[0]
    assert state == oracle.DIFFERENT
    assert not accepts(*(paths[::-1] if turned else paths))
    assert lady.check(paths[0], paths[0]).verdict == "identical"


def _length(content: bytes) -> bytes:
    """How protobuf writes the length of what follows."""
    count, found = len(content), bytearray()
    while count > 127:
        found.append(count & 127 | 128)
        count >>= 7
    return bytes([*found, count])
