"""The order of a sum's operands says nothing: which of two like branches is which, weights tell."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest

import lady_onnx as lady
from lady_onnx.equality.comparison import pair_graphs
from lady_onnx.graph.loading import load_graph

from ..helpers.builders import build, node, w
from ..helpers.law import trials

WIDTH = 24


def make_blocks(operator: str, swapped: bool, seed: int, blocks: int = 3) -> onnx.ModelProto:
    """Blocks of like branches that are summed up, in one order or in the other."""
    rng = np.random.default_rng(seed)
    nodes, weights, last = [], {}, "x"
    for k in range(blocks):
        names = [f"{k}a", f"{k}b"]
        for name in names:
            weights[f"w{name}"] = rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 5
            nodes.append(node("MatMul", f"{last},w{name}", f"h{name}"))
            nodes.append(node("Relu", f"h{name}", f"r{name}"))
        order = names[::-1] if swapped else names
        last = "out" if k == blocks - 1 else f"p{k}"
        nodes.append(node(operator, ",".join(f"r{n}" for n in order), last))
    return build(nodes, weights, {"x": ["n", WIDTH]})


@pytest.mark.parametrize("seed", trials(2, 10))
@pytest.mark.parametrize("operator", ["Add", "Mul", "Sum", "Mean"])
def test_swapped_branches_are_no_change(operator: str, seed: int) -> None:
    model, other = (make_blocks(operator, swapped, seed) for swapped in (False, True))
    assert lady.check(model, other).verdict == "identical"
    shuffled = lady.permute(other, seed + 1).model
    found = lady.resync(model, shuffled)
    assert (found.verdict, found.outputs_preserved) == ("permuted", True)
    assert lady.verify(model, found.model).equal
    for suspect in (model, lady.permute(model, 2).model):
        scaled = lady.attack(suspect, "rescale", 0.5, seed=seed).model
        assert lady.check(model, scaled).verdict == "rescaled"
        noisy = lady.attack(suspect, "noise", 0.05, seed=seed).model
        assert lady.check(model, noisy).recognised > 0.9


def test_branches_that_were_multiplied_stay_where_they_are() -> None:
    """Their weights spread otherwise than before, which says nothing of their places."""
    nodes = [
        *(node("MatMul", f"x,v{k}", f"h{k}") for k in "ab"),
        *(node("Relu", f"h{k}", f"r{k}") for k in "ab"),
        *(node("MatMul", f"r{k},w{k}", f"o{k}") for k in "ab"),
        node("Add", "oa,ob", "out"),
    ]
    arrays = {f"{n}{k}": w(WIDTH, WIDTH) for n in "vw" for k in "ab"}
    scaled = dict(arrays)
    for k, factor in (("a", 2.0), ("b", 0.5)):
        scaled[f"v{k}"] = arrays[f"v{k}"] * np.float32(factor)
        scaled[f"w{k}"] = arrays[f"w{k}"] / np.float32(factor)
    model, other = (build(nodes, a, {"x": ["n", WIDTH]}) for a in (arrays, scaled))
    assert lady.check(model, lady.permute(other, 1).model).verdict == "rescaled"


def test_branches_are_told_apart_by_values_and_not_by_names_or_inner_orders() -> None:
    arrays = {f"{n}{k}": w(WIDTH, WIDTH) for n in "vw" for k in "ab"}
    renamed = {n: arrays[n[0] + ("b" if n[1] == "a" else "a")] for n in arrays}

    def make(arrays: dict[str, np.ndarray], is_swapped: bool) -> onnx.ModelProto:
        nodes = []
        for k in "ab":
            nodes += [node("MatMul", f"x,v{k}", f"p{k}"), node("MatMul", f"x,w{k}", f"q{k}")]
            nodes.append(node("Add", f"q{k},p{k}" if is_swapped else f"p{k},q{k}", f"s{k}"))
            nodes.append(node("Relu", f"s{k}", f"r{k}"))
        nodes.append(node("Mul", "ra,rb", "out"))
        return build(nodes, arrays, {"x": ["n", WIDTH]})

    model = make(arrays, False)
    for own in (arrays, renamed):
        for is_swapped in (False, True):
            assert lady.check(model, make(own, is_swapped)).verdict == "identical"


@pytest.mark.parametrize("operator", ["Sum", "Mean"])
def test_of_three_operands_the_order_counts(operator: str) -> None:
    """Two huge ones that cancel round the third away, or do not."""
    arrays = {f"w{k}": w(4, 4) for k in range(3)}
    arrays["w1"] *= np.float32(1e9)
    arrays["w2"] = -arrays["w1"]

    def make(order: str) -> onnx.ModelProto:
        nodes = [node("MatMul", f"x,w{k}", f"h{k}") for k in range(3)]
        nodes += [node(operator, ",".join(f"h{k}" for k in order), "s"), node("Tanh", "s", "out")]
        return build(nodes, arrays, {"x": ["n", 4]})

    model, other = make("012"), make("120")
    assert not lady.verify(model, other).equal
    assert lady.check(model, other).verdict not in ("identical", "permuted", "rescaled")


def test_values_that_are_made_of_themselves_end() -> None:
    model = build(
        [node("Relu", "x", "a"), node("Relu", "x", "b"), node("Add", "a,b", "out")],
        {"unread": w(2, 2)},
        {"x": ["n", 4]},
    )
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for made, name in zip(other.graph.node, ("b", "a"), strict=False):
        made.input[0] = name
    with contextlib.suppress(lady.LadyError):
        assert lady.check(model, other).verdict not in ("identical", "permuted", "rescaled")


@pytest.mark.parametrize("operator", ["Max", "Sub"])
def test_operands_that_have_an_order_keep_it(operator: str) -> None:
    """Of zeros of both signs, which is larger depends on the order in which they stand."""
    model, other = (make_blocks(operator, swapped, 1) for swapped in (False, True))
    assert lady.check(model, other).verdict not in ("identical", "permuted", "rescaled")
    assert lady.check(model, lady.permute(model, 1).model).verdict == "permuted"


def test_a_branch_is_no_other_one_for_what_both_read() -> None:
    """Branches with the same weights on other inputs are told apart by these."""

    arrays = {"v": w(6, 5), "w": w(6, 5)}

    def make(first: str, second: str) -> onnx.ModelProto:
        nodes = [
            node("MatMul", f"{first},v", "a"),
            node("MatMul", f"{second},w", "b"),
            node("Relu", "a", "ra"),
            node("Relu", "b", "rb"),
            node("Add", "ra,rb", "out"),
        ]
        return build(nodes, arrays, {"x": ["n", 6], "y": ["n", 6]})

    assert lady.check(make("x", "y"), make("x", "y")).verdict == "identical"
    assert lady.check(make("x", "y"), make("y", "x")).verdict not in ("identical", "permuted")


def test_operands_that_are_read_many_times_are_looked_at_once() -> None:
    # a thousand operands of a thousand operands would be a million values
    nodes = [node("MatMul", "x,v", "h0")]
    for k in range(3):
        names = ",".join([f"h{k}"] * 1000)
        nodes.append(node("Max", names, f"h{k + 1}"))
    nodes += [node("Neg", "h3", "a"), node("Neg", "h3", "b"), node("Add", "a,b", "out")]
    graph = load_graph(build(nodes, {"v": w(WIDTH, WIDTH)}, {"x": ["n", WIDTH]}))
    assert not pair_graphs(graph, graph).differences
