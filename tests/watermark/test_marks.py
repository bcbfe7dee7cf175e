"""Marks in models: written, read after all that may happen to a model, and never invented."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import linear_sum_assignment

import lady_onnx as lady
from lady_onnx.errors import LadyError, MissingFileError
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.groups.rows import take_rows
from lady_onnx.watermark.carriers import hash_model
from lady_onnx.watermark.embedding import (
    Commitment,
    Marked,
    count_capacity,
    embed_gently,
    embed_mark,
    plan_mark,
)
from lady_onnx.watermark.extraction import extract_mark
from lady_onnx.watermark.impact import Probe
from lady_onnx.watermark.records import Mark, read_mark
from lady_onnx.watermark.schemes.interface import SCHEMES
from lady_onnx.watermark.secrets.keys import Key
from lady_onnx.watermark.secrets.payloads import count_coded_bits, encode_payload

from ..helpers import disguises
from ..helpers.law import examples
from ..helpers.networks import loud_and_faint, perceptron, weights, with_weights

KEY, OTHER = Key(bytes(32)), Key(bytes(31) + b"a")
PAYLOAD = b"ACME Inc"
WIDTHS = (40, 160, 400, 120)


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return perceptron(WIDTHS, seed=3, out=10)


@pytest.fixture(scope="module", params=SCHEMES)
def marked(request: pytest.FixtureRequest, model: onnx.ModelProto) -> Marked:
    return embed_mark(model, KEY, PAYLOAD, scheme=request.param)


def test_a_mark_is_read_where_it_lies(marked: Marked) -> None:
    found = extract_mark(marked.graph, KEY, marked.mark)
    assert found.payload == PAYLOAD
    assert found.as_it_stands.wrong == 0
    assert found.as_it_stands.bits == marked.bits == count_coded_bits(len(PAYLOAD))
    assert found.p_value < 1e-20
    assert "ACME Inc" in found.headline()


def test_a_shuffle_hides_it_and_a_reference_brings_it_back(marked: Marked) -> None:
    shuffled = lady.permute(marked.graph, 1).graph
    found = extract_mark(shuffled, KEY, marked.mark)
    assert found.payload is None
    assert found.p_value > 1e-6
    found = extract_mark(shuffled, KEY, marked.mark, reference=marked.graph)
    assert (found.payload, found.verdict, found.tried) == (PAYLOAD, "permuted", 2)
    assert found.p_value == 2 * found.best.p_value
    assert found.put_back is not None
    assert found.put_back.wrong == 0
    assert found.as_it_stands.payload is None


@pytest.mark.parametrize(
    ("kind", "strength"), [("noise", 0.1), ("prune", 0.5), ("quantize", 8), ("rescale", 0.5)]
)
def test_alterations_besides_a_shuffle_cost_what_they_cost_alone(
    marked: Marked, kind: str, strength: float
) -> None:
    alone = lady.attack(marked.graph, kind, strength, seed=2).graph
    shuffled = lady.permute(alone, 3).graph
    found = extract_mark(shuffled, KEY, marked.mark, reference=marked.graph)
    assert found.payload == PAYLOAD
    assert found.put_back is not None
    if kind != "rescale":
        there = extract_mark(alone, KEY, marked.mark)
        assert found.put_back.wrong == there.as_it_stands.wrong


def test_half_precision_leaves_it(marked: Marked) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(marked.model)
    short = {n: a.astype(np.float16).astype(np.float32) for n, a in weights(model).items()}
    suspect = lady.permute(with_weights(model, short), 1).graph
    assert extract_mark(suspect, KEY, marked.mark, reference=marked.graph).payload == PAYLOAD


def test_nobody_else_reads_it(marked: Marked, model: onnx.ModelProto) -> None:
    """Neither another key, nor the unmarked model, nor a model of others of the same shape."""
    other = perceptron(WIDTHS, seed=4, out=10)
    for suspect, key in ((marked.graph, OTHER), (model, KEY), (other, KEY)):
        found = extract_mark(suspect, key, marked.mark, reference=marked.graph)
        assert found.payload is None
        assert found.p_value > 1e-6
        assert found.headline().startswith("no mark")


def test_a_model_of_others_is_not_put_back(marked: Marked) -> None:
    """Its units would be chosen for being like the marked ones, and so bear the mark."""
    found = extract_mark(
        perceptron(WIDTHS, seed=4, out=10), KEY, marked.mark, reference=marked.graph
    )
    assert found.put_back is None
    assert found.refusal is not None
    found = extract_mark(perceptron((3, 4), seed=4), KEY, marked.mark, reference=marked.graph)
    assert (found.put_back, found.payload) == (None, None)
    assert "another architecture" in (found.refusal or "")


def test_half_of_a_model_of_others_does_not_bear_the_mark(marked: Marked) -> None:
    """Layers that were replaced are not read, however like the marked ones their units are."""
    model = onnx.ModelProto()
    model.CopyFrom(marked.model)
    rng = np.random.default_rng(5)
    unmarked = weights(perceptron(WIDTHS, seed=3, out=10))
    replaced = {
        n: rng.permutation(a.ravel()).reshape(a.shape) if k % 2 else a
        for k, (n, a) in enumerate(unmarked.items())
    }
    suspect = lady.permute(with_weights(model, replaced), 1).graph
    found = extract_mark(suspect, KEY, marked.mark, reference=marked.graph)
    assert found.payload is None
    assert found.p_value > 1e-5


def widen(arrays: dict[str, np.ndarray], layer: int) -> dict[str, np.ndarray]:
    """The weights of a perceptron with one more unit in a layer."""
    rng = np.random.default_rng(0)
    first, bias, second = f"w{layer}", f"b{layer}", f"w{layer + 1}"
    wide = {
        first: np.concatenate([arrays[first], rng.standard_normal((len(arrays[first]), 1))], 1),
        bias: np.concatenate([arrays[bias], [0.3]]),
        second: np.concatenate([arrays[second], rng.standard_normal((1, arrays[second].shape[1]))]),
    }
    return {**arrays, **{n: a.astype(np.float32) for n, a in wide.items()}}


@pytest.mark.parametrize(
    "scheme", [pytest.param("tartaglione", marks=pytest.mark.long), "watermas"]
)
def test_the_mark_of_the_reference_does_not_leak_through_the_matching(scheme: str) -> None:
    """Narrow units are matched by what little they have: noise like the mark must not win."""
    model = perceptron((8, 700, 8, 700, 8, 700), seed=3, out=8)
    unmarked = weights(model)
    for seed in range(1):
        key = Key(bytes([seed]) * 32)
        marked = embed_mark(model, key, b"A", scheme=scheme)
        rng = np.random.default_rng(seed)
        noisy = {
            n: (a + 0.5 * a.std() * rng.standard_normal(a.shape)).astype(np.float32)
            for n, a in unmarked.items()
        }
        replaced = {
            n: rng.permutation(a.ravel()).reshape(a.shape) if int(n[1:]) >= 3 else a
            for n, a in unmarked.items()
        }
        for arrays in (noisy, replaced, widen(replaced, 0)):
            suspect = lady.permute(with_weights(model, arrays), seed).graph
            found = extract_mark(suspect, key, marked.mark, reference=marked.graph)
            assert found.payload is None
            assert found.p_value > 1e-4


def claim(graph: Graph, key: Key, payload: bytes) -> tuple[Mark, Graph]:
    """A mark file, and an order of somebody else's model that says what the thief wants."""
    plan = plan_mark(graph, key, payload, "spread")
    names = [n.name for n in plan.mark.layers]
    drawn = plan.write({}).graph
    wanted = {n: drawn.array(n).astype(float) - graph.array(n) for n in names}
    groups = lady.find_groups(graph).groups
    orders = {}
    for group in groups:
        score = sum(
            take_rows(wanted[s.initializer], s) @ take_rows(graph.array(s.initializer), s).T
            for s in group.slots
            if s.initializer in wanted
        )
        orders[group.id] = linear_sum_assignment(-score)[1]
    return plan.mark, lady.permute(graph, permutations=orders).graph


def test_an_identity_that_is_not_the_payload_s_is_refused(model: onnx.ModelProto) -> None:
    """Else whoever makes up a mark file has as many keys to try as there are identities."""
    plan = plan_mark(load_graph(model), KEY, PAYLOAD, "spread")
    mark = replace(plan.mark, identity=bytes(16))
    own = mark.derive_key(KEY)
    mark = replace(mark, sealed=own.derive("record").pad(PAYLOAD))
    forged = replace(plan, mark=mark, key=own, bits=encode_payload(PAYLOAD, own)).write({})
    found = extract_mark(forged.graph, KEY, mark)
    assert (found.as_it_stands.wrong, found.payload) == (0, None)


def test_an_order_that_was_chosen_convinces_nobody(model: onnx.ModelProto) -> None:
    """A thief's reference is a shuffle of the victim's model. Beside that model it says nothing."""
    victim = load_graph(model)
    honest = embed_mark(victim, KEY, PAYLOAD)
    found = extract_mark(honest.graph, KEY, honest.mark, unmarked=victim)
    assert (found.payload, found.is_of_unmarked) == (PAYLOAD, True)
    mark, reference = claim(victim, OTHER, b"thief")
    for unmarked, gives_key in ((victim, True), (reference, False)):
        found = extract_mark(victim, OTHER, mark, reference=reference, unmarked=unmarked)
        assert (found.gives_key, found.is_accepted) == (gives_key, False)
    assert "the mark was NOT written into the unmarked model" in found.details()


def test_two_payloads_of_one_model_have_keys_of_their_own(model: onnx.ModelProto) -> None:
    """So the one says nothing of the other."""
    first, second = (embed_mark(model, KEY, p).mark for p in (b"first", b"other"))
    assert first.identity != second.identity
    assert first.derive_key(KEY) != second.derive_key(KEY)
    hidden = bytes(a ^ b for a, b in zip(first.sealed, second.sealed, strict=True))
    assert hidden != bytes(a ^ b for a, b in zip(b"first", b"other", strict=True))
    again = embed_mark(model, KEY, b"first")
    assert again.mark == first


def test_a_moved_suspect_is_brought_back_to_the_unmarked_model(
    marked: Marked, model: onnx.ModelProto
) -> None:
    """The marked model is not needed for that."""
    noisy = [lady.attack(marked.graph, "noise", x, seed=1).graph for x in (0.1, 0.5)]
    for suspect in (marked.graph, *noisy):
        moved = lady.permute(suspect, 1).graph
        assert extract_mark(moved, KEY, marked.mark).payload is None
        found = extract_mark(moved, KEY, marked.mark, unmarked=model)
        assert (found.payload, found.is_of_unmarked, found.is_accepted) == (PAYLOAD, True, True)
        found = extract_mark(moved, OTHER, marked.mark, unmarked=model)
        assert (found.payload, found.is_of_unmarked, found.is_accepted) == (None, None, False)
    for other in (perceptron((5, 6, 4), seed=1), perceptron(WIDTHS, seed=8, out=10)):
        assert extract_mark(marked.graph, KEY, marked.mark, unmarked=other).is_of_unmarked is False


def test_the_key_hangs_on_the_unmarked_weights(marked: Marked, model: onnx.ModelProto) -> None:
    """Whoever claims a marked model as the unmarked one gets another key, and reads nothing."""
    claimed = embed_mark(marked.graph, KEY, PAYLOAD, scheme=marked.mark.scheme).mark
    assert claimed.model != marked.mark.model
    assert extract_mark(marked.graph, KEY, claimed).payload is None


def test_the_hash_of_a_model_is_that_of_its_file(model: onnx.ModelProto, tmp_path: Path) -> None:
    """Wherever its weights lie; and all of it counts."""
    onnx.save(model, tmp_path / "a.onnx")
    other = onnx.ModelProto()
    other.CopyFrom(model)
    external = {"save_as_external_data": True, "location": "b.data", "size_threshold": 0}
    onnx.save(other, tmp_path / "b.onnx", **external)
    files = (model, tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert len({hash_model(load_graph(m)) for m in files}) == 1
    changed = [onnx.ModelProto() for _ in range(3)]
    for each in changed:
        each.CopyFrom(model)
    changed[0].graph.node[0].attribute.append(helper.make_attribute("alpha", 1.5))
    changed[1].graph.node[0].op_type += "2"
    bias = next(t for t in changed[2].graph.initializer if t.name == "b0")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * 2, "b0"))
    assert len({hash_model(Graph(m)) for m in (model, *changed)}) == 4


def test_a_second_mark_leaves_the_first(model: onnx.ModelProto) -> None:
    first = embed_mark(model, KEY, PAYLOAD)
    second = embed_mark(first.graph, OTHER, b"thief")
    assert extract_mark(second.graph, KEY, first.mark).payload == PAYLOAD
    assert extract_mark(second.graph, OTHER, second.mark).payload == b"thief"


def test_a_commitment_opens(model: onnx.ModelProto, tmp_path: Path) -> None:
    said = Commitment("ACME", "2026-11-30T12:00:00+00:00", "00ff")
    marked = embed_mark(model, KEY, said)
    marked.mark.save(tmp_path / "m.json")
    mark = read_mark(tmp_path / "m.json")
    assert mark == marked.mark
    found = extract_mark(marked.graph, KEY, mark)
    assert found.is_committed
    assert found.payload == said.hash(mark.model)
    assert "the payload is the hash of the commitment: 'ACME'" in found.details()[0]
    forged = replace(mark, commitment=replace(said, owner="Thief"))
    found = extract_mark(marked.graph, KEY, forged)
    assert (found.is_committed, found.is_accepted) == (False, False)
    assert "but the commitment refutes it" in found.headline()
    assert "is NOT the hash" in found.details()[0]


def test_a_mark_file_holds_no_secret(marked: Marked, tmp_path: Path) -> None:
    marked.mark.save(tmp_path / "m.json")
    text = (tmp_path / "m.json").read_text()
    assert read_mark(tmp_path / "m.json") == marked.mark
    for secret in (KEY.secret, marked.mark.derive_key(KEY).secret, PAYLOAD):
        assert secret.hex() not in text
        assert secret.decode("latin1") not in text
    assert marked.mark.open_payload(KEY) == PAYLOAD
    assert marked.mark.open_payload(OTHER) != PAYLOAD


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "lady-onnx-permutation/1"),
        ("scheme", "other"),
        ("identity", "00"),
        ("model", "zz"),
        ("sealed", "?"),
        ("sealed", ""),
        ("strength", -1),
        ("strength", "nan"),
        ("strength", 10**400),
        ("layers", []),
        ("layers", {"name": "w0"}),
        ("layers", [{"name": "w0", "shape": [2], "axis": 0, "emphasis": 1}]),
        ("layers", [{"name": "w0", "shape": [2, 3], "axis": 2, "emphasis": 1}]),
        ("layers", [{"name": "w0", "shape": [2, 10**15], "axis": 0, "emphasis": 1}]),
        ("layers", [{"name": 7, "shape": [2, 3], "axis": 0, "emphasis": 1}]),
        ("layers", [{"name": "w0", "shape": [2**32, 2**32], "axis": 0, "emphasis": 1}]),
        ("layers", [{"name": "\ud800", "shape": [2, 3], "axis": 0, "emphasis": 1}]),
        ("commitment", {"owner": "A\nmark read", "time": "", "nonce": ""}),
        ("commitment", {"owner": "\ud800", "time": "", "nonce": ""}),
        ("layers", [{"name": "w0", "shape": [2, 3], "axis": 0, "emphasis": 1}] * 2),
        ("commitment", {"owner": "ACME"}),
        ("commitment", {"owner": 1, "time": 2, "nonce": 3}),
    ],
)
def test_a_wrong_mark_file_is_told(
    field: str, value: object, model: onnx.ModelProto, tmp_path: Path
) -> None:
    path = tmp_path / "m.json"
    embed_mark(model, KEY, PAYLOAD).mark.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(LadyError, match="is not a mark file") as told:
        read_mark(path)
    assert "\n" not in str(told.value)


def test_layers_that_a_suspect_lacks_cost_nothing(model: onnx.ModelProto, tmp_path: Path) -> None:
    """A mark file may name any number of layers of any size."""
    path = tmp_path / "m.json"
    for scheme in SCHEMES:
        embed_mark(model, KEY, PAYLOAD, scheme=scheme).mark.save(path)
        fields = json.loads(path.read_text())
        fields["layers"] = [{"name": "none", "shape": [2**19, 2**20], "axis": 0, "emphasis": 1}]
        path.write_text(json.dumps(fields))
        assert extract_mark(model, KEY, read_mark(path)).p_value == 1.0
    fields["scheme"] = "uchida"
    fields["layers"] = [
        {"name": n, "shape": [2, 3], "axis": 0, "emphasis": 1} for n in ("w0", "w1")
    ]
    path.write_text(json.dumps(fields))
    with pytest.raises(LadyError, match="scheme 'uchida' in several layers"):
        read_mark(path)


def test_what_cannot_be_read_back_is_not_written(model: onnx.ModelProto) -> None:
    with pytest.raises(LadyError, match="bits are not written; write the mark more strongly"):
        embed_mark(model, KEY, PAYLOAD, strength=1e-300)


def test_a_missing_mark_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file"):
        read_mark(tmp_path / "m.json")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_model_without_room_is_refused(scheme: str) -> None:
    small = perceptron((3, 4), seed=0)
    bits, length = count_capacity(small, scheme)
    assert length == 0
    with pytest.raises(LadyError, match=f"has room for {bits} bits by scheme '{scheme}'"):
        embed_mark(small, KEY, PAYLOAD, scheme=scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_longest_payload_fits(scheme: str, model: onnx.ModelProto) -> None:
    bits, length = count_capacity(model, scheme)
    assert count_coded_bits(length) <= bits
    marked = embed_mark(model, KEY, bytes(length), scheme=scheme)
    assert extract_mark(marked.graph, KEY, marked.mark).payload == bytes(length)


@pytest.mark.parametrize("strength", [0.0, -1.0, float("inf"), float("nan")])
def test_a_strength_is_a_number_above_zero(strength: float, model: onnx.ModelProto) -> None:
    with pytest.raises(LadyError, match="strength is a number above zero"):
        embed_mark(model, KEY, PAYLOAD, strength=strength)


def test_a_mark_is_as_strong_as_the_outputs_allow(model: onnx.ModelProto) -> None:
    free = embed_gently(model, KEY, PAYLOAD)
    assert free.impact is not None
    assert free.mark.strength == embed_mark(model, KEY, PAYLOAD).mark.strength
    held = embed_gently(model, KEY, PAYLOAD, max_change=0.9 * free.impact.change)
    assert held.impact is not None
    assert held.impact.change <= 0.9 * free.impact.change
    assert held.mark.strength < free.mark.strength
    assert extract_mark(held.graph, KEY, held.mark).payload == PAYLOAD
    with pytest.raises(LadyError, match="even the weakest mark changes the outputs by"):
        embed_gently(model, KEY, PAYLOAD, max_change=1e-6)


def test_layers_that_matter_least_bear_most() -> None:
    """The mark is as strong as one that is spread evenly, and changes the outputs less."""
    uneven = loud_and_faint()
    even = embed_mark(uneven, KEY, PAYLOAD)
    gentle = embed_gently(uneven, KEY, PAYLOAD)
    x = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)
    probe = Probe(load_graph(uneven), {"x": x})
    assert probe.measure(gentle.graph).change < 0.5 * probe.measure(even.graph).change
    assert gentle.mark == even.mark
    for marked in (even, gentle):
        found = extract_mark(marked.graph, KEY, marked.mark)
        assert found.payload == PAYLOAD
        assert found.as_it_stands.correlation > 0.9


def test_data_are_run_in_batches_of_the_size_that_a_model_takes() -> None:
    fixed = perceptron(WIDTHS, seed=3, out=10)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    fixed.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3
    x = np.random.default_rng(0).standard_normal((9, WIDTHS[0])).astype(np.float32)
    found = embed_gently(fixed, KEY, PAYLOAD, data={"x": x, "labels": np.zeros(9, np.int64)})
    assert found.impact is not None
    assert found.impact.metrics is not None
    with pytest.raises(LadyError, match="no samples"):
        embed_gently(fixed, KEY, PAYLOAD, data={"x": x[:0]})


def test_a_mark_costs_no_more_of_the_metric_than_allowed(model: onnx.ModelProto) -> None:
    session = lady.verify(model, model)
    assert session.equal
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((2, WIDTHS[0])).astype(np.float32)}
    data["labels"] = np.zeros((2, 10), np.float32)
    found = embed_gently(model, KEY, PAYLOAD, data=data, metric="mse", max_loss=1e9)
    assert found.impact is not None
    assert found.impact.metrics is not None
    assert any(line.startswith("mse: ") for line in found.details())
    assert found.impact.loss == max(0.0, found.impact.metrics[1] - found.impact.metrics[0])
    for bad, why in (({"labels": data["labels"]}, "no array 'x'"), ({"x": data["x"]}, "labels")):
        with pytest.raises(LadyError, match=why):
            embed_gently(model, KEY, PAYLOAD, data=bad, metric="mse")


@examples(15)
@given(st.integers(0, 2**32))
def test_marks_are_read_through_rewrites(seed: int) -> None:
    """Whatever honest tools make of a marked model, and whatever the order of its units."""
    rng = np.random.default_rng(seed)
    marked = embed_mark(perceptron(WIDTHS, seed=3, out=10), KEY, PAYLOAD)
    rewritten, _ = disguises.disguise(marked.model, rng)
    found = extract_mark(rewritten, KEY, marked.mark, reference=marked.graph)
    assert found.payload == PAYLOAD
    assert found.put_back is not None
    assert found.put_back.wrong == 0


def test_a_mark_is_read_through_a_folded_norm() -> None:
    """The weights of a convolution are multiplied by its norm's factors, and divided by them."""
    rng = np.random.default_rng(0)
    arrays = {
        "w0": rng.standard_normal((32, 3, 3, 3)) / 5,
        "w1": rng.standard_normal((64, 32, 3, 3)) / 17,
        "w2": rng.standard_normal((64, 64, 3, 3)) / 24,
        "head": rng.standard_normal((64, 10)) / 8,
    }
    nodes, current = [], "x"
    for k, size in ((0, 32), (1, 64), (2, 64)):
        norm = {
            f"g{k}": 1 + rng.random(size),
            f"b{k}": rng.standard_normal(size),
            f"m{k}": rng.standard_normal(size) / 9,
            f"v{k}": 0.5 + rng.random(size),
        }
        arrays |= norm
        nodes += [
            helper.make_node("Conv", [current, f"w{k}"], [f"c{k}"], pads=[1] * 4),
            helper.make_node("BatchNormalization", [f"c{k}", *norm], [f"n{k}"]),
            helper.make_node("Relu", [f"n{k}"], [f"r{k}"]),
        ]
        current = f"r{k}"
    nodes += [
        helper.make_node("GlobalAveragePool", [current], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "head"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "norms",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    marked = embed_mark(whole, KEY, PAYLOAD)
    folded = disguises.optimise(lady.permute(marked.graph, 1).model, np.random.default_rng(0))
    assert "BatchNormalization" not in {n.op_type for n in folded.graph.node}
    found = extract_mark(folded, KEY, marked.mark, reference=marked.graph)
    assert found.payload == PAYLOAD
    assert found.put_back is not None
    assert (found.put_back.wrong, found.put_back.layers) == (0, len(marked.mark.layers))
