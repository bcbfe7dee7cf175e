"""Unification of the roles that meet in one operator."""

from __future__ import annotations

import numpy as np

from lady_onnx.dataflow.labels.facts import Facts
from lady_onnx.dataflow.labels.roles import make_addresses
from lady_onnx.dataflow.labels.unification import unify_roles


def test_roles_over_the_same_axis_are_tied() -> None:
    facts = Facts()
    a, b = facts.make_labels((3, 1)), facts.make_labels((3, 1))
    (left,) = unify_roles(facts, [(a, 0), (b, 1)], (3, 2), set(), set())
    assert left is a
    assert [(x.tolist(), y.tolist()) for x, y in facts.equal] == [([0, 1, 2], [3, 4, 5])]


def test_a_role_over_fewer_axes_is_the_parent_of_one_over_more() -> None:
    facts = Facts()
    inner, outer = facts.make_labels((2, 3)), facts.make_labels((2, 1))
    left = unify_roles(facts, [(inner, 0), (outer, 1)], (2, 3), set(), set())
    # the outer role follows from the inner one
    assert len(left) == 1
    assert left[0] is inner
    ((child, parent),) = facts.parents
    assert (child.tolist(), parent.tolist()) == ([0, 1, 2, 3, 4, 5], [6, 6, 6, 7, 7, 7])


def test_a_contracted_axis_leaves_a_coarser_role_behind() -> None:
    facts = Facts()
    role = facts.make_labels((2, 3))
    (left,) = unify_roles(facts, [(role, 0)], (2, 3), {1}, set())
    assert left.shape == (2, 1)
    assert facts.read == [role]
    assert facts.parents[0][1].tolist() == np.repeat(left.ravel(), 3).tolist()


def test_labels_that_meet_addresses_are_pinned() -> None:
    facts = Facts(reason="graph input")
    role = facts.make_labels((3,))
    unify_roles(facts, [(role, 0), (make_addresses(3), 1)], (3,), set(), set())
    ((pinned, reason, _),) = facts.pins
    assert (pinned.tolist(), reason) == ([0, 1, 2], "graph input")
