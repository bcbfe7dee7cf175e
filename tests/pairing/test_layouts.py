"""Weights and units of a normal form, as its source file has them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from lady_onnx.groups.model import Group, Slot
from lady_onnx.pairing.layouts import find_own_units, lay_out_weights

TURN = np.array([2, 0, 3, 1])
"""The columns of the weight in the order that the form has them in."""
WEIGHT = np.arange(12.0).reshape(3, 4) + 1


def make_form(leaf: SimpleNamespace) -> SimpleNamespace:
    """A form of one constant, of a file of one weight."""
    source = SimpleNamespace(
        tensors={"w": None}, shape=lambda name: WEIGHT.shape, array=lambda name: WEIGHT
    )
    return SimpleNamespace(leaves={"leaf": leaf}, source=source)


def make_group(name: str, weight: str, axis: int, count: int) -> Group:
    return Group(name, "channels", count, (), (Slot(weight, axis, np.arange(count)[:, None]),))


MOVED = make_form(
    SimpleNamespace(
        array=WEIGHT.T[TURN],
        hint="w",
        origin=("w", lambda: np.arange(12).reshape(3, 4).T[TURN]),
    )
)
"""Transposed, and its units in another order."""


def test_units_are_those_of_the_source() -> None:
    found = find_own_units(
        MOVED, [make_group("form", "leaf", 0, 4)], [make_group("own", "w", 1, 4)]
    )
    assert found["form"][0] == "own"
    assert found["form"][1].tolist() == TURN.tolist()


def test_groups_without_a_counterpart_are_left_out() -> None:
    for own in ([], [make_group("own", "w", 0, 3)], [make_group("own", "other", 1, 4)]):
        assert find_own_units(MOVED, [make_group("form", "leaf", 0, 4)], own) == {}
    assert find_own_units(MOVED, [make_group("form", "none", 0, 4)], []) == {}


def test_weights_go_back_to_their_places() -> None:
    other = -WEIGHT.T[TURN]
    assert np.array_equal(lay_out_weights(MOVED, {"leaf": other})["w"], -WEIGHT)
    part = make_form(
        SimpleNamespace(array=WEIGHT[:1], hint="w", origin=("w", lambda: np.arange(4)[None]))
    )
    found = lay_out_weights(part, {"leaf": -WEIGHT[:1]})["w"]
    assert np.array_equal(found[:1], -WEIGHT[:1])
    assert np.isnan(found[1:]).all()


def test_factors_along_one_axis_are_taken_out() -> None:
    factors = np.array([[2.0], [-3.0], [0.5]])
    folded = make_form(SimpleNamespace(array=WEIGHT * factors, hint="w", origin=None))
    other = np.random.default_rng(0).standard_normal(WEIGHT.shape)
    assert np.allclose(lay_out_weights(folded, {"leaf": other * factors})["w"], other)
    both = make_form(
        SimpleNamespace(array=WEIGHT * factors * [1.0, 2, 3, 4], hint="w", origin=None)
    )
    assert np.isnan(lay_out_weights(both, {"leaf": other})["w"]).all()
