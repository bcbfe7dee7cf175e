"""Weights that move only when all of them is asked for are those that moved at once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import map_weights
from lady_onnx.groups.moved import MovedWeights, take_slot
from lady_onnx.groups.permutations import permute_arrays
from lady_onnx.groups.rows import count_row_elements, take_elements, thin_slot

from ..helpers import genai, splices
from ..helpers.law import examples


def check_moves(model: onnx.ModelProto, seed: int) -> None:
    """Moves some groups again and again, and looks at some weights between."""
    rng = np.random.default_rng(seed)
    groups = lady.find_groups(model).groups
    names = {s.initializer for g in groups for s in g.slots}
    before = {n: np.array(a) for n, a in map_weights(load_graph(model)).items() if n in names}
    eager, lazy = dict(before), MovedWeights(before)
    kept = {n: a.tobytes() for n, a in before.items()}
    slots = [s for g in groups for s in g.slots]
    for _ in range(4):
        moves = {g.id: rng.permutation(g.size) for g in groups if rng.random() < 0.6}
        eager.update(permute_arrays(eager, groups, moves))
        lazy.move_units(groups, moves)
        for slot in (slots[k] for k in rng.integers(len(slots), size=3)):
            array, step = eager[slot.initializer], int(rng.integers(1, 4))
            thin = thin_slot(array.shape, slot, step, int(rng.integers(step)))
            taken = {a: rng.permutation(p)[:2] for a, p in slot.within}
            found, told = take_slot(lazy, slot, taken, thin), take_slot(eager, slot, taken, thin)
            assert np.array_equal(found, told)
            assert np.array_equal(told, take_elements(array, slot, taken, thin))
            assert taken or found.size == len(slot.index) * count_row_elements(
                array.shape, slot, thin
            )
        if rng.random() < 0.5 and names:
            name = sorted(names)[rng.integers(len(names))]
            assert np.array_equal(lazy[name], eager[name])
    lazy.lay_all()
    assert lazy.keys() == eager.keys()
    assert all(np.array_equal(lazy[n], eager[n]) for n in names)
    assert {n: a.tobytes() for n, a in before.items()} == kept


@examples(60)
@given(splices.spliced(), st.integers(0, 2**32))
def test_weights_of_random_graphs(
    grown: tuple[onnx.ModelProto, list[int], set[int]], seed: int
) -> None:
    if lady.find_groups(grown[0]).groups:
        check_moves(grown[0], seed)


@pytest.mark.parametrize("name", ["llama-fp32", "qwen3-fp16", "gpt-oss-fp16", "llama-int4"])
def test_weights_of_a_language_model(name: str) -> None:
    """Heads inside heads, pairs across heads, and experts with units inside of them."""
    check_moves(genai.make_model(name), 5)
