"""Congruence closure: what must hold of equal labels, and of parents of the same children."""

from __future__ import annotations

import numpy as np

from lady_onnx.dataflow.labels.facts import Facts
from lady_onnx.symmetry.congruence import Congruence, close_congruence


def close(count: int, *parents: tuple[list[int], list[int]], equal: tuple = ()) -> Congruence:
    """The congruence of `count` labels, of relations, and of pairs of equal labels."""
    facts = Facts()
    facts.reserve_labels(count)
    for child, parent in parents:
        facts.relate_labels(np.array(child), np.array(parent))
    for a, b in equal:
        facts.tie_labels(np.array(a), np.array(b))
    return close_congruence(facts)


def test_equal_children_have_equal_parents() -> None:
    found = close(4, ([0, 1], [2, 3]), equal=[([0], [1])])
    assert found.class_count == 2
    assert found.class_of_label[2] == found.class_of_label[3]


def test_parents_that_divide_their_children_alike_are_one() -> None:
    found = close(8, ([0, 1, 2, 3], [4, 4, 5, 5]), ([0, 1, 2, 3], [6, 6, 7, 7]))
    of = found.class_of_label
    assert (of[4], of[5]) == (of[6], of[7])
    assert of[4] != of[5]


def test_a_parent_whose_children_lie_below_another_is_its_child() -> None:
    found = close(7, ([0, 1, 2, 3], [4, 4, 5, 5]), ([0, 1, 2, 3], [6, 6, 6, 6]))
    of = found.class_of_label
    pairs = {(c, p) for children, up in found.relations for c, p in zip(children, up, strict=True)}
    assert {(of[4], of[6]), (of[5], of[6])} <= pairs


def test_a_class_below_two_addresses_stands_at_both() -> None:
    found = close(4, ([0, 1, 2, 3], [-1, -2, -1, -2]), equal=[([0], [1])])
    (children, up), of = found.relations[0], found.class_of_label
    parent = dict(zip(children.tolist(), up.tolist(), strict=True))
    assert parent[of[0]] in found.set_classes
    assert (parent[of[2]], parent[of[3]]) == tuple(found.class_of_address)
    assert found.fixed_classes.size == 0


def test_sets_of_addresses_that_differ_are_apart() -> None:
    places = [-1, -2, -1, -2, -1, -3]
    found = close(6, (list(range(6)), places), equal=[([0, 2, 4], [1, 3, 5])])
    parents = dict(zip(*(x.tolist() for x in found.relations[0]), strict=True))
    one, two, other = (parents[found.class_of_label[k]] for k in (0, 2, 4))
    assert one == two != other


def test_a_class_that_would_be_an_address_is_pinned() -> None:
    found = close(3, ([0, 1], [2, -1]), equal=[([0], [1])])
    assert found.class_of_label[2] in found.fixed_classes
