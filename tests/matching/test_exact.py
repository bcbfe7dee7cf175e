"""Exact copies: their order is found from a few elements, and proven by all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.errors import LadyError
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import map_weights
from lady_onnx.groups.model import Group, Slot
from lady_onnx.groups.permutations import permute_arrays
from lady_onnx.matching.alignment import AlignmentState
from lady_onnx.matching.exact.comparison import BLOCK_BYTES, compare_ordered
from lady_onnx.matching.exact.keys import join_keys, spread_places
from lady_onnx.matching.exact.search import find_order, find_partial_order
from lady_onnx.matching.exact.votes import count_votes
from lady_onnx.matching.matcher import Matcher

from ..helpers import genai, splices
from ..helpers.builders import build, node, w
from ..helpers.law import examples
from ..helpers.slotted import Arrays, draw, lay_flat, shuffle

SIGNS = {"a": (200, 300), "b": (40, 200)}


def find_in(model: onnx.ModelProto, suspect: onnx.ModelProto) -> bool:
    """Whether the order of a copy is found, and makes its weights the reference's."""
    symmetry = lady.find_groups(model)
    ours, theirs = (map_weights(load_graph(m)) for m in (model, suspect))
    found = find_order(symmetry.groups, ours, theirs)
    if found is None:
        return False
    moved = permute_arrays(theirs, symmetry.groups, found)
    return all(moved.get(n, theirs[n]).tobytes() == ours[n].tobytes() for n in ours)


@examples(60)
@given(splices.spliced(), st.integers(0, 1000))
def test_the_order_of_any_copy_is_found(
    grown: tuple[onnx.ModelProto, list[int], set[int]], seed: int
) -> None:
    model = grown[0]
    assert find_in(model, lady.permute(model, seed).model)


@pytest.mark.parametrize("name", ["llama-fp32", "qwen3-fp16", "gpt-oss-fp16", "llama-int4"])
def test_the_order_of_a_language_model_is_found(name: str) -> None:
    """Heads inside heads, pairs across heads, and experts with units inside of them."""
    model = genai.make_model(name)
    assert find_in(model, lady.permute(model, seed=4).model)


@pytest.mark.parametrize("name", ["llama-fp32", "qwen3-fp16", "gpt-oss-fp16", "llama-int4"])
@pytest.mark.parametrize("is_whole", [True, False], ids=["weight", "row"])
def test_one_altered_weight_hides_no_other(name: str, is_whole: bool) -> None:
    model = genai.make_model(name)
    groups = lady.find_groups(model).groups
    ours, theirs = (
        dict(map_weights(load_graph(m))) for m in (model, lady.permute(model, seed=4).model)
    )
    touched = sorted({s.initializer for g in groups for s in g.slots})
    rng = np.random.default_rng(0)
    for altered in touched:
        array = np.array(theirs[altered])
        part = array if is_whole else array[-1:]
        part[:] = rng.permutation(part.ravel()).reshape(part.shape)
        suspect = {**theirs, altered: array}
        moved = permute_arrays(suspect, groups, find_partial_order(groups, ours, suspect))
        for other in set(touched) - {altered}:
            assert moved.get(other, suspect[other]).tobytes() == ours[other].tobytes()


def test_two_units_that_were_swapped_in_one_weight_are_not_believed() -> None:
    """The weight is an exact copy for one order, and all the others are for another one."""
    model = genai.make_model("llama-fp32")
    groups = lady.find_groups(model).groups
    ours, theirs = (
        dict(map_weights(load_graph(m))) for m in (model, lady.permute(model, seed=4).model)
    )
    for slot in max(groups, key=lambda g: len(g.slots)).slots:
        axes = np.moveaxis(np.array(theirs[slot.initializer]), slot.axis, 0)
        axes[slot.index[[0, 1]]] = axes[slot.index[[1, 0]]]
        swapped = {**theirs, slot.initializer: np.moveaxis(axes, 0, slot.axis)}
        if axes.ndim > 1:
            right, found = (Matcher(groups, ours, t).run() for t in (theirs, swapped))
            for x, y in zip(right, found, strict=True):
                assert (x.permutation == y.permutation).all()


@pytest.mark.parametrize("seed", [32, 250, 854, 1642, *range(40)])
def test_weights_that_contradict_each_other(seed: int) -> None:
    """Votes come to an end, however weights disagree, and leave a permutation of every group."""
    rng = np.random.default_rng(seed)
    groups, shapes = lay_flat(int(rng.integers(4, 12)), int(rng.integers(3, 30)))
    ours = draw(rng, shapes)
    theirs = shuffle(rng, groups, ours)
    for name in rng.permutation(sorted(theirs))[: rng.integers(1, 4)]:
        for axis in range(theirs[name].ndim):
            lines = np.moveaxis(theirs[name], axis, 0)
            if rng.random() < 0.6:
                i, j = rng.permutation(len(lines))[:2]
                lines[[i, j]] = lines[[j, i]] if rng.random() < 0.7 else 0
    state = AlignmentState(groups, ours, theirs)
    state.place_equal_units()
    for group in groups:
        found = state.permutations.get(group.id, np.arange(group.size))
        assert sorted(found) == list(range(group.size))
    moved = permute_arrays(theirs, groups, state.permutations)
    assert all((moved.get(n, theirs[n]) == a).all() for n, a in state.current.items())


def make_group(**axes: int) -> Group:
    """Twenty units along an axis of some weights."""
    index = np.arange(20)[:, None]
    return Group("g", "channels", 20, (), tuple(Slot(n, a, index) for n, a in axes.items()))


def test_weights_vote_unit_by_unit() -> None:
    """A weight that was altered as a whole has no vote. Of two that disagree none is sure."""
    rng = np.random.default_rng(0)
    ours = {n: rng.standard_normal((20, 5)) for n in "abcd"}
    swapped = ours["a"][[1, 0, *range(2, 20)]]
    one = {**ours, "a": swapped, "d": rng.standard_normal((20, 5))}
    for names, sure, outvoted in (
        ("abcd", True, set()),
        ("abd", False, set()),
        ("bcd", True, set()),
        ("d", False, set()),
    ):
        votes = count_votes([make_group(**dict.fromkeys(names, 0))], ours, one)
        assert (bool(votes.sure), set(votes.outvoted)) == (sure, outvoted)
    # the order in which the swapped weight fits, and the others do not
    other = {n: a[[1, 0, *range(2, 20)]] for n, a in ours.items()} | {"a": ours["a"]}
    votes = count_votes([make_group(a=0, b=0, c=0)], ours, other)
    assert (votes.sure, votes.outvoted) == (frozenset(), {"a"})


def test_what_a_part_of_the_rows_tells() -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(20)
    ours = {"a": rng.standard_normal((20, 60)), "b": rng.standard_normal((20, 40))}

    def find(ours: Arrays, theirs: Arrays, *names: str) -> dict[str, np.ndarray]:
        return find_partial_order([make_group(**dict.fromkeys(names, 0))], ours, theirs)

    theirs = {n: a[order] for n, a in ours.items()}
    right = np.argsort(order)
    assert (find(ours, theirs, "a", "b")["g"] == right).all()
    # single numbers are equal by chance: some of them say nothing
    assert not find({"a": ours["a"][:, 0]}, {"a": np.r_[theirs["a"][:-1, 0], 7]}, "a")
    # of rows that are all alike but a few, these few are not enough
    few = {"a": np.where(np.arange(20)[:, None] < 9, ours["a"], 0)}
    assert not find(few, {"a": few["a"][order]}, "a")
    # the larger weight counts where two disagree, for the units that it tells
    some = {"a": np.where(np.arange(20)[:, None] < 12, ours["a"], 0), "b": ours["b"]}
    swapped = ours["b"].copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    found = find(some, {"a": some["a"][order], "b": swapped[order]}, "a", "b")["g"]
    assert (found[:12] == right[:12]).all()


def test_short_keys_of_altered_rows_are_not_believed() -> None:
    """Weights of two values, of which many were flipped, have some rows' keys by chance."""
    rng = np.random.default_rng(0)
    index = np.arange(200)[:, None]
    group = Group("g", "channels", 200, (), (Slot("a", 0, index), Slot("b", 1, index)))
    ours = {n: rng.choice([-1, 1], s).astype(np.float32) for n, s in SIGNS.items()}
    order = {"g": rng.permutation(200)}
    theirs = {**ours, **permute_arrays(ours, [group], order)}
    flips = {n: rng.choice([-1, 1], a.shape, p=[0.2, 0.8]) for n, a in theirs.items()}
    theirs = {n: (a * flips[n]).astype(np.float32) for n, a in theirs.items()}
    (found,) = Matcher([group], ours, theirs).run()
    assert (found.permutation == np.argsort(order["g"])).all()


def make_mlp(first: np.ndarray, bias: np.ndarray, second: np.ndarray) -> onnx.ModelProto:
    nodes = [
        node("Gemm", "x,a,b", "h"),
        node("Relu", "h", "r"),
        node("MatMul", "r,c", "out"),
    ]
    return build(nodes, {"a": first, "b": bias, "c": second}, {"x": [2, len(first)]})


@pytest.mark.parametrize("dead", [0, 1, 2, 5])
@pytest.mark.parametrize("clones", [0, 2])
def test_units_that_nothing_tells_apart(dead: int, clones: int) -> None:
    """They take the places that are left, and keep theirs where they may."""
    a, b, c = w(4, 8), w(8), w(8, 3)
    a[:, :dead], b[:dead], c[:dead] = 0, 0, 0
    if clones:
        a[:, 6], b[6], c[6] = a[:, 7], b[7], c[7]
    model = make_mlp(a, b, c)
    for seed in range(4):
        shuffled = lady.permute(model, seed).model
        assert find_in(model, shuffled)
        assert lady.check(model, shuffled).verdict == "permuted"
    assert lady.check(model, make_mlp(a, b, c)).verdict == "identical"


def test_heads_that_are_dead() -> None:
    model = genai.make_model("llama-fp32")
    for tensor in model.graph.initializer:
        if "layers.0" in tensor.name and ("qkv" in tensor.name or "o_proj" in tensor.name):
            zeros = np.zeros_like(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(zeros, tensor.name))
    assert lady.check(model, lady.permute(model, seed=4).model).verdict == "permuted"


@examples(100)
@given(st.integers(0, 2**32 - 1), st.sampled_from("abc"))
def test_one_other_element_is_no_exact_copy(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    weights = {"a": w(4, 8), "b": w(8), "c": w(8, 3)}
    model = make_mlp(*weights.values())
    shuffled = lady.permute(model, seed % 1000).model
    tensor = next(t for t in shuffled.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[rng.integers(array.size)] += 1
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    assert not find_in(model, shuffled)
    found = lady.resync(model, shuffled, verify="none")
    assert found.verdict not in ("identical", "permuted")
    assert found.max_weight_difference > 0


@pytest.mark.parametrize("name", "abc")
def test_a_weight_that_holds_nan_is_refused(name: str, tmp_path: Path) -> None:
    weights = {"a": w(4, 8), "b": w(8), "c": w(8, 3)}
    weights[name].reshape(-1)[3] = np.nan
    model = make_mlp(*weights.values())
    with pytest.raises(LadyError, match="NaN"):
        lady.check(model, model)
    with pytest.raises(LadyError, match="NaN"):
        lady.resync(model, lady.permute(model, 3).model)


@examples(100)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=6)),
    st.randoms(use_true_random=False),
    st.sampled_from((1, 16, BLOCK_BYTES)),
)
def test_a_weight_is_compared_in_an_order(array: np.ndarray, random: object, block: int) -> None:
    rng = np.random.default_rng(array.size)
    orders = {a: rng.permutation(n) for a, n in enumerate(array.shape) if rng.random() < 0.7}
    suspect = array
    for axis, order in orders.items():
        suspect = suspect.take(np.argsort(order), axis)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lady_onnx.matching.exact.comparison.BLOCK_BYTES", block)
        assert compare_ordered(array, suspect, orders) == (True, bool(np.isnan(array).any()))
        if array.size:
            other = suspect.copy().view(np.uint32)
            other.reshape(-1)[rng.integers(array.size)] ^= 1
            assert not compare_ordered(array, other.view(np.float32), orders)[0]


@examples(100)
@given(st.lists(st.integers(1, 9), max_size=3), st.integers(1, 60))
def test_places_are_spread_over_a_grid(sizes: list[int], count: int) -> None:
    places = spread_places(sizes, count)
    total = int(np.prod(sizes)) if sizes else 0
    found = set(zip(*(p.tolist() for p in places), strict=True))
    assert len(found) == (min(count, total) if sizes else 0)
    assert all((p < n).all() for p, n in zip(places, sizes, strict=True))


@examples(100)
@given(st.lists(st.integers(0, 6), max_size=12), st.randoms(use_true_random=False))
def test_keys_find_each_other(keys: list[int], random: object) -> None:
    ours = np.array(keys, np.uint64)
    order = np.random.default_rng(len(keys)).permutation(len(keys))
    found = join_keys(ours, ours[order])
    assert found is not None
    single = np.array([keys.count(k) == 1 for k in keys], bool)
    assert ((found >= 0) == single).all()
    assert (order[found[single]] == np.flatnonzero(single)).all()
    # of four strange keys for each that is shared nothing is read; of fewer all that are shared
    other = np.arange(100, 100 + 5 * len(keys)).astype(np.uint64)
    for strange in (len(keys), 5 * len(keys)):
        mine = np.concatenate([ours, other[:strange]])
        its = np.concatenate([ours[order], other[:strange] + np.uint64(1000)])
        part = join_keys(mine, its, in_part=True)
        assert (part is None) == (2 * single.sum() < mine.size)
        if part is not None:
            assert (part == np.concatenate([found, np.full(strange, -1)])).all()
    if keys:
        assert join_keys(ours, np.append(ours[1:], np.uint64(99))) is None


def test_a_weight_that_a_body_has_by_the_same_name_is_no_other(tmp_path: Path) -> None:
    """onnxruntime takes the inner one; a session must not be given the outer one for it."""
    outer = w(70, 70)

    def make(inner: np.ndarray) -> onnx.ModelProto:
        body = helper.make_graph(
            [node("MatMul", "x,big", "z")],
            "body",
            [],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 70])],
            [numpy_helper.from_array(inner, "big")],
        )
        nodes = [
            node("MatMul", "x,big", "y"),
            # a condition that the optimiser does not know, so that the body stays one
            node("ReduceMax", "x", "most", keepdims=0),
            node("Less", "most,bound", "yes"),
            node("If", "yes", "r", then_branch=body, else_branch=body),
            node("Add", "y,r", "out"),
        ]
        bound = np.array(1e30, np.float32)
        return build(nodes, {"big": outer, "bound": bound}, {"x": [2, 70]})

    one, other = make(w(70, 70)), make(w(70, 70) + 1)
    assert not lady.verify(one, other).equal
    assert lady.verify(one, one).equal


def test_a_large_weight_that_nothing_reads() -> None:
    model = make_mlp(w(4, 8), w(8), w(8, 3))
    model.graph.initializer.append(numpy_helper.from_array(w(80, 80), "unused"))
    assert lady.verify(model, lady.permute(model, 1).model).equal


def test_a_deep_network_with_dead_units_is_no_blow_up() -> None:
    """Dead units of all layers are settled in a few turns."""
    layers, width = 40, 8
    weights: dict[str, np.ndarray] = {}
    nodes = []
    for k in range(layers):
        made, read = w(width, width), slice(3)
        made[:, read] = 0
        if k:
            made[read] = 0
        weights[f"w{k}"] = made
        nodes += [node("MatMul", f"{f'r{k - 1}' if k else 'x'},w{k}", f"h{k}")]
        nodes += [node("Relu", f"h{k}", f"r{k}")]
    last = w(width, 2)
    last[:3] = 0
    nodes.append(node("MatMul", f"r{layers - 1},last", "out"))
    model = build(nodes, {**weights, "last": last}, {"x": [2, width]})
    assert lady.check(model, lady.permute(model, 1).model).verdict == "permuted"


def make_reader(places: np.ndarray, factor: float = 1.0) -> onnx.ModelProto:
    """Words that are looked for among words, each with a row of its own; all rows are equal."""
    words = helper.make_tensor("words", TensorProto.STRING, [1, 6], [b"w%d" % p for p in places])
    nodes = [
        node("Equal", "x,words", "same"),
        helper.make_node("Cast", ["same"], ["h"], to=TensorProto.FLOAT),
        node("MatMul", "h,rows", "y"),
    ]
    graph = helper.make_graph(
        nodes,
        "words",
        [helper.make_tensor_value_info("x", TensorProto.STRING, [2, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [words, numpy_helper.from_array(np.full((6, 3), factor, np.float32), "rows")],
    )
    opsets = [helper.make_opsetid("", 19)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_units_that_text_alone_tells_apart() -> None:
    model, places = make_reader(np.arange(6)), np.array([3, 1, 5, 0, 2, 4])
    assert [g.size for g in lady.find_groups(model).groups] == [6]
    assert lady.check(model, make_reader(places)).verdict == "permuted"
    assert lady.check(model, lady.permute(model, 1).model).verdict == "permuted"
    with pytest.raises(LadyError, match="'words' holds text"):
        lady.check(model, make_reader(places, 1.5))


def test_zeros_of_complex_numbers_have_signs() -> None:
    ones = np.array([[complex(0.0, 1), 2]])
    other = np.array([[complex(-0.0, 1), 2]])
    assert compare_ordered(ones, ones.copy(), {}) == (True, False)
    assert not compare_ordered(ones, other, {})[0]


@pytest.mark.parametrize("threads", [0, -1, 1.5])
def test_a_count_of_threads_is_a_whole_number(threads: object) -> None:
    model = make_mlp(w(4, 8), w(8), w(8, 3))
    for judge in (lady.check, lady.resync):
        with pytest.raises(LadyError, match="threads"):
            judge(model, model, threads=threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(threads: int, tmp_path: Path) -> None:
    model = genai.make_model("llama-fp32")
    shuffled = lady.permute(model, 2).model
    found = lady.resync(model, shuffled, verify="none", threads=threads)
    assert found.model == lady.resync(model, shuffled, verify="none").model


def test_rows_of_the_same_values_in_another_order() -> None:
    """The place of a value in a row tells rows apart, and not the values alone."""
    rng = np.random.default_rng(0)
    a = np.stack([rng.permutation(16) for _ in range(8)], 1).astype(np.float32)
    model = make_mlp(a, np.ones(8, np.float32), w(8, 3))
    assert find_in(model, lady.permute(model, 3).model)
