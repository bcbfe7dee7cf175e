"""Groups of a loop: what is fed back may have any order, and the answers stay what they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph

from ..helpers.stateful import make_cell, make_gru, make_sliding, make_stacked_lstm, make_streaming

CASES: dict[str, tuple[Callable[[], onnx.ModelProto], list[str], list[int]]] = {
    "gru": (make_gru, [], [6]),
    "stacked lstm": (make_stacked_lstm, [], [6, 6]),
    "written cell": (make_cell, ["next_state=state"], [6]),
    "streaming": (make_streaming, [], [6, 7]),
    "sliding": (make_sliding, [], [6]),
    # two channels change places at every step: the others are free
    "turned cache": (lambda: make_streaming(is_turned=True), [], [4, 7]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_groups_are_those_of_the_loop(case: str) -> None:
    make, states, sizes = CASES[case]
    model = make()
    symmetry = lady.find_groups(model, states=states)
    assert sorted(g.size for g in symmetry.groups) == sizes
    assert all(s.groups for s in symmetry.states)
    assert symmetry.states
    # no group of the loop is named after a state, or has a slot in one
    weights = load_graph(model).tensors
    assert all(s.initializer in weights for g in symmetry.groups for s in g.slots)
    assert all(p.initializer in weights for p in symmetry.pinned)


@pytest.mark.parametrize("case", CASES)
def test_the_loop_computes_the_same(case: str) -> None:
    make, states, _ = CASES[case]
    model = make()
    for seed in range(4):
        shuffled = lady.permute(model, seed, states=states)
        assert [s.output for s in shuffled.moved_states] == [
            s.output for s in lady.find_groups(model, states=states).states
        ]
        found = lady.verify(model, shuffled.model, states=states)
        assert found.equal, found
        assert {o.name for o in found.outputs} == {"y", "y, step 2", "y, step 3"}
        result = lady.resync(model, shuffled.model, states=states)
        assert result.max_weight_difference == 0
        assert result.outputs_preserved
        assert lady.check(model, shuffled.model, states=states).verdict == "permuted"


@pytest.mark.parametrize("case", CASES)
def test_without_its_states_a_loop_is_pinned(case: str) -> None:
    make, _, sizes = CASES[case]
    found = lady.find_groups(make(), states=["none"])
    assert sum(g.size for g in found.groups) < sum(sizes)
    assert not found.states


def test_a_name_alone_makes_no_state_of_an_answer() -> None:
    """A model of the world tells its next state: shuffled, it tells another one."""
    model = make_cell()
    assert not lady.find_groups(model).groups
    shuffled = lady.permute(model, 1, states=["next_state=state"]).model
    assert not lady.check(model, shuffled).accepted
    assert not lady.verify(model, shuffled).equal


def test_a_cache_that_leaves_in_another_order_shows_in_the_next_step() -> None:
    """On the first step alone, both models answer alike."""
    plain, turned = make_streaming(), make_streaming(is_turned=True)
    found = lady.verify(plain, turned)
    assert not found.equal
    equal = {o.name: o.equal for o in found.outputs}
    assert equal == {"y": True, "y, step 2": False, "y, step 3": False}
    assert not lady.check(plain, turned).accepted


def test_half_a_permutation_of_a_loop_is_no_copy() -> None:
    """The recurrent matrix and the output were moved, and the matrix of the input was not."""
    model = make_gru()
    shuffled = lady.permute(model, 1).model
    kept = next(t for t in model.graph.initializer if t.name == "w")
    for tensor in shuffled.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(kept)
    assert not lady.verify(model, shuffled).equal
    assert not lady.check(model, shuffled).accepted


def test_given_inputs_leave_the_state_out() -> None:
    model = make_gru()
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((4, 2, 5)).astype(np.float32)}
    shuffled = lady.permute(model, 1).model
    assert lady.verify(model, shuffled, data=data).equal
    uneven = {**data, "h0": rng.standard_normal((1, 2, 6)).astype(np.float32)}
    with pytest.raises(lady.LadyError, match="the given input 'h0' is a state"):
        lady.verify(model, shuffled, data=uneven)
    level = {**data, "h0": np.ones((1, 2, 6), np.float32)}
    assert lady.verify(model, shuffled, data=level).equal
