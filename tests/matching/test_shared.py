"""Groups of whole models, restricted to a part that both share, and which of them are copies."""

from __future__ import annotations

import numpy as np

from lady_onnx.groups.model import Group, Slot
from lady_onnx.matching.matches import Match
from lady_onnx.matching.shared.copies import find_copied_groups, find_copied_weights
from lady_onnx.matching.shared.restriction import join_groups, restrict_groups
from lady_onnx.matching.shared.sizes import select_explained_weights


def group(name: str, *slots: tuple[str, int], size: int = 3, **more: object) -> Group:
    index = np.arange(size)[:, None]
    parents = more.get("parents", ())
    assert isinstance(parents, tuple)
    return Group(name, "channels", size, parents, tuple(Slot(n, a, index) for n, a in slots))


def test_a_group_keeps_its_slots_in_weights_that_count() -> None:
    groups = [group("g", ("a", 0), ("head", 1)), group("h", ("head", 0))]
    (kept,) = restrict_groups(groups, {"a": "A"})
    assert (kept.id, [(s.initializer, s.axis) for s in kept.slots]) == ("g", [("A", 0)])


def test_what_lies_inside_units_goes_with_the_group_that_holds_them() -> None:
    inner = [group(f"h[{k}]/i", ("a", 0), parents=(("h", k),)) for k in range(3)]
    assert restrict_groups([*inner, group("h", ("b", 0))], {"a": "a"}) == []
    assert len(restrict_groups([*inner, group("h", ("b", 0))], {"a": "a", "b": "b"})) == 4


def test_groups_of_the_reference_alone_are_those_that_meet_no_other() -> None:
    first = [group("a:0", ("a", 0))]
    second = [group("a:0", ("a", 0), ("b", 1)), group("c:0", ("c", 0))]
    assert [g.id for g in join_groups(first, second)] == ["a:0", "reference:c:0"]


def test_groups_count_by_units_beyond_the_one_that_chance_gives() -> None:
    groups = [group("g", ("a", 0), size=4), group("h", ("b", 0), size=4)]
    figures = np.ones(4)
    matches = [
        Match("g", np.arange(4), figures, figures, np.array([1.0, 0.9, 0.8, 0.1])),
        Match("h", np.arange(4), figures, figures, np.array([1.0, 0.4, 0.3, 0.3])),
    ]
    partners = {"g": 4, "h": 4}
    assert find_copied_groups(groups, matches, partners, {}) == {"g"}
    # units that nothing tells apart say nothing for or against
    assert find_copied_groups(groups, matches, partners, {"h": [(1, 2)]}) == frozenset({"g"})
    copied, rng = frozenset({"g"}), np.random.default_rng(0)
    ours = {n: rng.standard_normal((4, 4)) for n in "abc"}
    theirs = {**ours, "c": -ours["c"]}
    assert find_copied_weights(groups, copied, ours, theirs) == ["a"]


def test_shapes_differ_by_numbers_of_units_or_are_left_out() -> None:
    reference = {"a": np.ones((5, 4)), "b": np.ones((4, 6)), "head": np.ones((6, 2))}
    suspect = {"a": np.ones((5, 3)), "b": np.ones((3, 6)), "head": np.ones((6, 7))}
    names = {n: n for n in reference}
    sides = [
        [group("g", ("a", 1), ("b", 0), size=n), group("s", ("b", 1), ("head", 0), size=6)]
        for n in (4, 3)
    ]
    kept, ours, theirs = select_explained_weights(reference, suspect, names, *sides)
    assert kept == {"a": "a", "b": "b"}
    assert [g.id for g in ours] == [g.id for g in theirs] == ["g", "s"]
