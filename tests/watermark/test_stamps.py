"""Stamps: nothing changes but the order, and each copy says whose it is."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import lady_onnx as lady
from lady_onnx.errors import LadyError
from lady_onnx.graph.model import Graph
from lady_onnx.watermark.blocks import BLOCK_UNITS, LOST, ORDERS, SYMBOLS, Block
from lady_onnx.watermark.secrets.keys import Key
from lady_onnx.watermark.secrets.payloads import decode_symbols, encode_symbols
from lady_onnx.watermark.stamping import (
    Original,
    count_stamp_capacity,
    open_original,
    write_stamp,
)
from lady_onnx.watermark.tracing import (
    Order,
    bound_chance,
    read_order,
    read_stamp,
    trace_copies,
    trace_order,
)

from ..helpers import disguises
from ..helpers.builders import build
from ..helpers.law import examples
from ..helpers.networks import attention, perceptron, weights, with_weights
from ..helpers.stateful import make_gru

KEY, OTHER = Key(bytes(32)), Key(bytes(31) + b"a")
CUSTOMER = b"customer number1"
"""128 bits."""


@pytest.fixture(scope="module")
def original() -> Original:
    return open_original(perceptron((12, 120, 150, 90), seed=1, out=4), KEY)


def multiset(graph: Graph) -> Counter[float]:
    return Counter(np.concatenate([graph.array(n).ravel() for n in graph.tensors]).tolist())


def test_a_stamp_changes_nothing_but_the_order(original: Original) -> None:
    stamped = write_stamp(original, CUSTOMER)
    assert multiset(stamped.graph) == multiset(original.graph)
    assert lady.verify(original.graph, stamped.graph).equal
    assert lady.check(original.graph, stamped.graph).verdict == "permuted"


def test_a_stamp_is_read(original: Original) -> None:
    stamped = write_stamp(original, CUSTOMER)
    found = read_stamp(original, stamped.graph)
    assert (found.payload, found.lost, found.corrected) == (CUSTOMER, 0, 0)
    assert found.p_value is not None
    assert found.p_value < 1e-20
    assert found.headline().startswith("stamp read: 'customer number1', p = ")


@pytest.mark.parametrize(
    ("kind", "strength"), [("noise", 0.1), ("prune", 0.5), ("quantize", 8), ("rescale", 0.5)]
)
def test_usual_alterations_leave_it(original: Original, kind: str, strength: float) -> None:
    stamped = write_stamp(original, CUSTOMER)
    altered = lady.attack(stamped.graph, kind, strength, seed=1).graph
    assert read_stamp(original, altered).payload == CUSTOMER


def test_half_precision_leaves_it(original: Original) -> None:
    model = write_stamp(original, CUSTOMER).model
    short = {n: a.astype(np.float16).astype(np.float32) for n, a in weights(model).items()}
    assert read_stamp(original, with_weights(model, short)).payload == CUSTOMER


def test_whole_groups_may_be_lost(original: Original) -> None:
    """One of three groups is shuffled anew: its blocks say nothing, and the others all."""
    stamped = write_stamp(original, CUSTOMER)
    group = original.symmetry.groups[0].id
    shuffled = lady.permute(stamped.graph, 1, groups=[group]).graph
    found = read_stamp(original, shuffled)
    assert found.payload == CUSTOMER
    assert found.lost > 15


def test_units_that_are_not_needed_hide_nothing(original: Original) -> None:
    """One idle unit in every group: the order of all others is still there."""
    arrays = weights(write_stamp(original, CUSTOMER).model)
    rng = np.random.default_rng(0)
    for k in range(3):
        first, second = arrays[f"w{k}"], arrays[f"w{k + 1}"]
        more = rng.standard_normal((len(first), 1)).astype(np.float32)
        arrays[f"w{k}"] = np.concatenate([more, first], 1)
        arrays[f"b{k}"] = np.concatenate([np.ones(1, np.float32), arrays[f"b{k}"]])
        none = np.zeros((1, second.shape[1]), np.float32)
        arrays[f"w{k + 1}"] = np.concatenate([none, second])
    found = read_stamp(original, with_weights(original.graph.to_model(""), arrays))
    assert (found.payload, found.lost, found.corrected) == (CUSTOMER, 0, 0)


def test_nobody_else_reads_it(original: Original) -> None:
    stamped = write_stamp(original, CUSTOMER)
    other = open_original(original.graph, OTHER)
    assert read_stamp(other, stamped.graph).payload is None
    fresh = lady.permute(stamped.graph, 1).graph
    for suspect in (original.graph, fresh, perceptron((12, 120, 150, 90), seed=2, out=4)):
        found = read_stamp(original, suspect)
        assert (found.payload, found.p_value) == (None, None)
        assert found.headline().startswith("no stamp: ")
        assert trace_copies(original, suspect, [CUSTOMER, b"other"]).named == ()


def test_a_model_of_others_is_not_read(original: Original) -> None:
    """Its units stand where they are likest, which says nothing of a customer."""
    found = read_stamp(original, perceptron((12, 120, 150, 90), seed=2, out=4))
    assert found.refusal is not None
    assert found.lost == found.blocks


def test_a_group_without_one_of_its_units_says_nothing(original: Original) -> None:
    """Which unit is gone moves the ranks of all others: nothing is said, and nothing wrong."""
    arrays = weights(write_stamp(original, CUSTOMER).model)
    arrays["w1"], arrays["b1"] = arrays["w1"][:, 1:], arrays["b1"][1:]
    arrays["w2"] = arrays["w2"][1:]
    for _ in range(3):
        found = read_stamp(original, with_weights(original.graph.to_model(""), arrays))
        assert (found.payload, found.corrected) == (CUSTOMER, 0)
        assert found.lost >= 25
        # with units that are not needed there are as many again, and more
        arrays["w1"] = np.concatenate([arrays["w1"], np.ones((120, 1), np.float32)], 1)
        arrays["b1"] = np.concatenate([arrays["b1"], np.ones(1, np.float32)])
        arrays["w2"] = np.concatenate([arrays["w2"], np.zeros((1, 90), np.float32)])


def test_units_that_are_not_found_are_lost_rather_than_wrong(original: Original) -> None:
    """Under strong noise they lie outside of their blocks."""
    noisy = lady.attack(write_stamp(original, CUSTOMER).graph, "noise", 2.0, seed=1).graph
    order = read_order(original, noisy)
    assert isinstance(order, Order)
    wrong = (order.symbols != original.encode(CUSTOMER)) & (order.symbols != LOST)
    assert wrong.sum() < (order.symbols == LOST).sum()
    assert (order.symbols == LOST).sum() > 0


def test_another_network_is_told(original: Original) -> None:
    found = trace_copies(original, perceptron((3, 4)), [CUSTOMER])
    assert found.named == ()
    assert "another architecture" in found.headline()


def test_heads_and_what_is_in_them_hold_symbols() -> None:
    """Inner groups lie in heads that move, and are read where they belong."""
    original = open_original(attention(0, [1] * 12, 12), KEY)
    kinds = {g.id: g.kind for g in original.symmetry.groups}
    assert {kinds[b.group] for b in original.blocks} >= {"blocks", "inner"}
    payload = bytes(original.max_payload_bytes)
    assert payload
    stamped = write_stamp(original, payload)
    assert lady.verify(original.graph, stamped.graph).equal
    found = read_stamp(original, stamped.graph)
    assert (found.payload, found.lost, found.corrected) == (payload, 0, 0)


def test_units_that_nothing_tells_apart_are_in_no_block() -> None:
    model = perceptron((12, 120, 150, 90), seed=1, out=4)
    arrays = {n: a.copy() for n, a in weights(model).items()}
    for clone in range(1, 30):
        arrays["w0"][:, clone], arrays["b0"][clone] = arrays["w0"][:, 0], arrays["b0"][0]
    original = open_original(with_weights(model, arrays), KEY)
    first = original.symmetry.groups[0].id
    used = {int(u) for b in original.blocks if b.group == first for u in b.units}
    assert used
    assert used.isdisjoint(range(30))


def test_states_that_are_fed_back_keep_their_order() -> None:
    """A cache is written by one file and read by another one: both must agree."""
    model = make_gru()
    (group,) = lady.find_groups(model).groups
    assert group.size >= BLOCK_UNITS
    assert open_original(model, KEY).blocks == ()


def test_the_capacity_is_what_fits(original: Original) -> None:
    capacity = count_stamp_capacity(original)
    assert capacity.bits == pytest.approx(capacity.symmetry_bits * capacity.code_rate)
    assert capacity.bits == 8 * capacity.payload_bytes
    longest = bytes(range(capacity.payload_bytes))
    assert read_stamp(original, write_stamp(original, longest).graph).payload == longest
    with pytest.raises(LadyError, match="has no room for"):
        write_stamp(original, bytes(capacity.payload_bytes + 1))


def test_a_model_without_room_is_refused_with_the_figure() -> None:
    small = open_original(perceptron((3, 7, 7)), KEY)
    with pytest.raises(LadyError, match=r"\d+ symmetry bits, 2 blocks of six units: a payload of"):
        write_stamp(small, b"x")
    assert count_stamp_capacity(small).payload_bytes == 0
    found = read_stamp(small, small.graph)
    assert found.payload is None


@examples(12)
@given(st.integers(0, 2**32))
def test_stamps_are_read_through_rewrites(seed: int) -> None:
    """Whatever honest tools make of a stamped model, as long as they leave its order."""
    rng = np.random.default_rng(seed)
    original = open_original(perceptron((12, 120, 150, 90), seed=1, out=4), KEY)
    ways = [way for way in disguises.DISGUISES if way is not disguises.permute]
    model, _ = disguises.disguise(write_stamp(original, CUSTOMER).model, rng, ways=ways)
    found = read_stamp(original, model)
    assert (found.payload, found.corrected) == (CUSTOMER, 0)


def test_units_are_named_as_in_the_original_s_own_file() -> None:
    """The normal form has the units of a weight in the order in which a Gather takes them."""
    rng = np.random.default_rng(0)
    count = 180
    shapes = {"w0": (12, count), "w1": (count, count), "w2": (count, 4)}
    arrays = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    arrays["order"] = np.roll(np.arange(count), 7)
    nodes = [
        helper.make_node("Gather", ["w0", "order"], ["turned"], axis=1),
        helper.make_node("MatMul", ["x", "turned"], ["h0"]),
        helper.make_node("Relu", ["h0"], ["r0"]),
        helper.make_node("MatMul", ["r0", "w1"], ["h1"]),
        helper.make_node("Relu", ["h1"], ["r1"]),
        helper.make_node("MatMul", ["r1", "w2"], ["out"]),
    ]
    original = open_original(build(nodes, arrays, {"x": [2, 12]}), KEY)
    folded = disguises.optimise(write_stamp(original, CUSTOMER).model, rng)
    assert "Gather" not in {n.op_type for n in folded.graph.node}
    found = read_stamp(original, folded)
    assert (found.payload, found.lost, found.corrected) == (CUSTOMER, 0, 0)


@examples(40)
@given(st.binary(min_size=1, max_size=16), st.integers(0, 2**32))
def test_a_third_of_the_symbols_may_be_lost(payload: bytes, seed: int) -> None:
    """Of a word of 60 symbols with at most 25 of payload and tag, 34 may be lost, 17 wrong."""
    rng = np.random.default_rng(seed)
    word = encode_symbols(payload, KEY, 60)
    doubts = np.ones(60)
    doubts[rng.permutation(60)[:34]] = np.inf
    lost = np.where(np.isinf(doubts), rng.integers(0, 256, 60), word).astype(np.uint8)
    assert decode_symbols(lost, doubts, KEY) == payload
    wrong = word.copy()
    wrong[rng.permutation(60)[:17]] ^= 0x55
    assert decode_symbols(wrong, np.ones(60), KEY) == payload
    assert decode_symbols(word, np.ones(60), OTHER) is None
    assert decode_symbols(np.zeros(60, np.uint8), np.full(60, np.inf), KEY) is None


def test_a_block_says_every_symbol_and_nothing_else() -> None:
    units = np.array([7, 3, 11, 0, 5, 9])
    block = Block("g", units, np.random.default_rng(0).permutation(len(ORDERS))[:SYMBOLS])
    read = []
    for order in ORDERS:
        permutation = np.arange(12)
        permutation[units] = units[order]
        read.append(block.read(permutation))
    assert Counter(read)[LOST] == len(ORDERS) - SYMBOLS
    assert sorted(s for s in read if s != LOST) == list(range(SYMBOLS))
    for symbol in (0, 100, 255):
        permutation = np.arange(12)
        block.write(permutation, symbol)
        assert block.read(permutation) == symbol
        assert (np.delete(permutation, units) == np.delete(np.arange(12), units)).all()
    away = np.roll(np.arange(12), 1)
    assert block.read(away) == LOST
    assert len(units) == BLOCK_UNITS


@pytest.mark.parametrize("colluders", [2, 3, 5])
def test_who_mixes_copies_is_named(original: Original, colluders: int) -> None:
    """Every block is taken from one of the copies: no payload is left, and still they are told."""
    rng = np.random.default_rng(colluders)
    customers = [f"customer {k}".encode() for k in range(100)]
    guilty = [customers[k] for k in rng.permutation(100)[:colluders]]
    words = np.array([original.encode(c) for c in guilty])
    mixed = words[rng.integers(0, colluders, words.shape[1]), np.arange(words.shape[1])]
    found = trace_order(original, Order(mixed, "permuted"), customers)
    named = [a.customer for a in found.named]
    assert named
    assert set(named) <= set(guilty)
    if colluders <= 3:
        assert set(named) == set(guilty)


def test_mixed_models_are_traced(original: Original) -> None:
    """As above, on the models themselves: one group is that of another copy."""
    first, second = (original.arrange(original.encode(c)) for c in (b"first", b"second"))
    group = original.symmetry.groups[1].id
    mixed = {**first, group: second[group]}
    suspect = lady.permute(original.graph, permutations=mixed).graph
    found = trace_copies(original, suspect, [b"zero", b"first", b"second", b"third"])
    assert [a.customer for a in found.named] == [b"first", b"second"]
    assert "made of copies of 'first', 'second'" in found.headline()


@pytest.mark.parametrize("repeats", [1, 50])
def test_nobody_is_accused_by_chance(original: Original, repeats: int) -> None:
    """Beside the copy of one of 60 no other is named, however often a word is repeated."""
    wide = dataclasses.replace(original, blocks=original.blocks * repeats)
    customers = [f"customer {k}".encode() for k in range(60)]
    for guilty in customers[:4]:
        found = trace_order(wide, Order(wide.encode(guilty), "permuted"), customers)
        assert [a.customer for a in found.named] == [guilty]
    rng = np.random.default_rng(0)
    for _ in range(4):
        random = rng.integers(0, 256, len(wide.blocks))
        symbols = np.where(rng.random(len(wide.blocks)) < 464 / 720, LOST, random)
        found = trace_order(wide, Order(symbols, "permuted"), customers)
        assert (found.named, found.reading.payload) == ((), None)


def test_the_bound_on_chance_holds() -> None:
    """Agreements of random words of the code are no more frequent than it says."""
    count, length = 2000, 60
    words = np.array([encode_symbols(f"c{k}".encode(), KEY, length) for k in range(count)])
    agreeing = (words[0] == words[1:]).sum(1)
    for least in (1, 2, 3):
        share = (agreeing >= least).mean()
        assert share <= bound_chance(least, length, 17) + 3 * (share / count) ** 0.5
    assert bound_chance(60, 60, 17) == bound_chance(17, 60, 17) < 1e-20
    assert bound_chance(0, 0, 17) == 1.0


def test_the_key_hangs_on_the_original() -> None:
    """So the blocks of one model say nothing of those of another."""
    first, second = (open_original(perceptron((12, 60, 60), seed=seed), KEY) for seed in (1, 2))
    assert first.key != second.key
    assert any((a.units != b.units).any() for a, b in zip(first.blocks, second.blocks, strict=True))


def test_everything_is_deterministic(original: Original) -> None:
    first, second = (write_stamp(original, CUSTOMER) for _ in range(2))
    for name in original.graph.tensors:
        assert np.array_equal(first.graph.array(name), second.graph.array(name))
    assert dataclasses.asdict(count_stamp_capacity(original))["repeats"] >= 1
    assert isinstance(first.model, onnx.ModelProto)
    assert isinstance(read_order(original, first.graph), Order)
