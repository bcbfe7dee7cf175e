"""The order of a sum's operands says nothing: which of two like branches is which, weights tell."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import lady_onnx as lady

from ..helpers.builders import build, node, w
from ..helpers.law import trials

WIDTH = 24


def make_blocks(
    operator: str, swapped: bool, seed: int, blocks: int = 3, branches: int = 2
) -> onnx.ModelProto:
    """Blocks of like branches that are summed up, in one order or in the other."""
    rng = np.random.default_rng(seed)
    nodes, weights, last = [], {}, "x"
    for k in range(blocks):
        names = [f"{k}{'abcd'[j]}" for j in range(branches)]
        for name in names:
            weights[f"w{name}"] = rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 5
            nodes.append(node("MatMul", f"{last},w{name}", f"h{name}"))
            nodes.append(node("Relu", f"h{name}", f"r{name}"))
        order = names[::-1] if swapped else names
        last = "out" if k == blocks - 1 else f"p{k}"
        nodes.append(node(operator, ",".join(f"r{n}" for n in order), last))
    return build(nodes, weights, {"x": ["n", WIDTH]})


@pytest.mark.parametrize("seed", trials(2, 10))
@pytest.mark.parametrize(
    ("operator", "branches"), [("Add", 2), ("Mul", 2), ("Sum", 4), ("Mean", 3)]
)
def test_swapped_branches_are_no_change(operator: str, branches: int, seed: int) -> None:
    model, other = (
        make_blocks(operator, swapped, seed, branches=branches) for swapped in (False, True)
    )
    assert lady.check(model, other).verdict == "identical"
    shuffled = lady.permute(other, seed + 1).model
    found = lady.resync(model, shuffled)
    assert (found.verdict, found.outputs_preserved) == ("permuted", True)
    assert lady.verify(model, found.model).equal
    noisy = lady.attack(shuffled, "noise", 0.05, seed=seed).model
    assert lady.check(model, lady.attack(model, "noise", 0.05, seed=seed).model).recognised > 0.9
    assert lady.check(model, noisy).verdict != "identical"


def test_like_branches_that_were_altered_are_told_apart_by_their_spread() -> None:
    """Trained branches spread unlike each other. Without a clear answer they stay as they stand."""
    rng = np.random.default_rng(0)
    model, other = (make_blocks("Add", swapped, 0) for swapped in (False, True))
    for changed in (model, other):
        for tensor in changed.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor) * (1.5 if tensor.name.endswith("a") else 1)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), tensor.name))
    for suspect in (model, other):
        noisy = lady.permute(lady.attack(suspect, "noise", 0.2, seed=1).model, 1).model
        found = lady.check(model, noisy)
        assert found.verdict == "altered", found.reason
        assert found.recognised > 0.9
    stranger = make_blocks("Add", bool(rng.integers(2)), 7)
    assert lady.check(model, stranger).verdict == "unrelated"


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
