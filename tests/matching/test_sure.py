"""Matches by some elements of a row, which all its elements bear out, are those of all elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lady_onnx.groups import rows
from lady_onnx.groups.model import Group, Slot
from lady_onnx.groups.permutations import permute_arrays
from lady_onnx.matching import alignment, flattened, sure
from lady_onnx.matching.evidence.assignment import ASSIGNMENTS
from lady_onnx.matching.evidence.copies import MIN_COPY_SHARE
from lady_onnx.matching.evidence.noise import Scales
from lady_onnx.matching.evidence.scores import join_rows
from lady_onnx.matching.layout import Layout
from lady_onnx.matching.matcher import Matcher
from lady_onnx.matching.matches import Match
from lady_onnx.matching.strategies import Comparison, LikelihoodStrategy

from ..helpers.slotted import Arrays, add_noise, draw, lay_flat, lay_heads, shuffle


def match(groups: Sequence[Group], ours: Arrays, theirs: Arrays) -> dict[str, Match]:
    return {m.group: m for m in Matcher(groups, ours, theirs).run()}


def compare(groups: Sequence[Group], ours: Arrays, theirs: Arrays, room: float = 1e-6) -> int:
    """Hold both paths together, certainties up to `room`; returns how many matches were sure."""
    count = [0]
    original = sure.match_surely

    def counted(*args):
        found = original(*args)
        count[0] += found is not None
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(alignment.match_flat.__globals__, "match_surely", counted)
        patch.setattr(flattened, "match_surely", counted)
        quick = match(groups, ours, theirs)
        patch.setattr(sure, "SURE_MARGIN_NATS", np.inf)
        whole = match(groups, ours, theirs)
    for name, found in quick.items():
        assert (found.permutation == whole[name].permutation).all()
        assert np.allclose(found.similarity, whole[name].similarity, atol=1e-4)
        assert np.allclose(found.certainty, whole[name].certainty, atol=room)
    return count[0]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.sampled_from([0.02, 0.1, 0.3, 1.0, 3.0]),
    st.sampled_from(["flat", "heads"]),
)
def test_both_paths_agree(seed: int, noise: float, kind: str) -> None:
    rng = np.random.default_rng(seed)
    groups, shapes = lay_flat(40, 1500) if kind == "flat" else lay_heads(4, 8, 1200)
    ours = draw(rng, shapes)
    theirs = shuffle(rng, groups, ours)
    theirs = {
        n: a + np.float32(noise) * x
        for (n, a), x in zip(theirs.items(), draw(rng, shapes).values(), strict=True)
    }
    count = compare(groups, ours, theirs)
    assert count or noise > 0.2


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_rows_of_which_a_part_is_another_units(share: float) -> None:
    """What some elements say is not what all of them say: these decide."""
    rng = np.random.default_rng(0)
    groups, shapes = lay_flat(40, 1500)
    ours = draw(rng, shapes)
    theirs = {
        n: a + np.float32(0.1) * x
        for (n, a), x in zip(ours.items(), draw(rng, shapes).values(), strict=True)
    }
    # every fifth row of `a` is that of another unit, or most of them are
    some = np.zeros(1500, bool)
    some[:: 1500 // 256] = True
    some = some if share < 0.5 else ~some
    theirs["a"][some] = theirs["a"][some][:, rng.permutation(40)]
    compare(groups, ours, theirs)


@pytest.mark.parametrize("common", [1.0, 2.0, 3.0, 4.0, 6.0, 10.0])
@pytest.mark.parametrize("noise", [1e-3, 0.05])
def test_units_that_are_mostly_alike(common: float, noise: float) -> None:
    """Some elements do not tell how much others recover, where that is nearly all."""
    rng = np.random.default_rng(0)
    groups, shapes = lay_flat(40, 1500)
    ours = draw(rng, shapes)
    for name, axis in (("a", 1), ("b", 0), ("b", 1), ("c", 0)):
        ours[name] += np.float32(common) * ours[name].take([0], axis)
    theirs = add_noise(rng, shuffle(rng, groups, ours), noise)
    # a unit of which others recover all has the odds of the group, which no share bounds further
    compare(groups, ours, theirs, 2 * MIN_COPY_SHARE)


def test_clones_and_dead_units_are_not_sure() -> None:
    rng = np.random.default_rng(0)
    groups, shapes = lay_flat(40, 1500)
    ours = draw(rng, shapes)
    for name, axis in (("a", 1), ("ab", 0), ("b", 0)):
        rows = np.moveaxis(ours[name], axis, 0)
        rows[1], rows[2:4] = rows[0], 0
    theirs = shuffle(rng, groups, ours)
    theirs = {
        n: a + np.float32(0.05) * x
        for (n, a), x in zip(theirs.items(), draw(rng, shapes).values(), strict=True)
    }
    compare(groups, ours, theirs)


def test_numbers_that_are_none_are_not_sure() -> None:
    rng = np.random.default_rng(0)
    groups, shapes = lay_flat(8, 1500)
    ours = draw(rng, shapes)
    theirs = {n: a + np.float32(0.1) for n, a in ours.items()}
    theirs["a"][0, 3] = np.nan
    with np.errstate(invalid="ignore"):
        found = match(groups, ours, theirs)
    assert sorted(found["one"].permutation) == list(range(8))


def test_infinite_elements_say_no_more_than_others() -> None:
    rng = np.random.default_rng(0)
    groups, shapes = lay_flat(40, 300)
    ours = draw(rng, shapes)
    moves = {g.id: rng.permutation(g.size) for g in groups}
    theirs = permute_arrays(add_noise(rng, ours, 0.1), groups, moves)
    theirs["a"][0, 3] = np.inf
    for name, found in match(groups, ours, theirs).items():
        assert (found.permutation == np.argsort(moves[name])).all()
        assert found.certainty.mean() > 0.98


def test_units_that_changed_their_heads() -> None:
    """Two heads have a dimension of each other: which head is which says the rest of them."""
    rng = np.random.default_rng(0)
    groups, shapes = lay_heads(4, 8, 1200)
    ours = draw(rng, shapes)
    theirs = {n: a.copy() for n, a in ours.items()}
    for name in "qk":
        theirs[name][:, [3, 11]] = ours[name][:, [11, 3]]
    compare(groups, ours, add_noise(rng, shuffle(rng, groups, theirs), 0.1))


def test_what_some_elements_say_needs_all_of_them() -> None:
    """The elements that are looked at are those of one order, and all others those of another."""
    rng = np.random.default_rng(0)
    ours = {"a": np.float32(rng.standard_normal((1500, 40)))}
    some, most = (rng.permutation(40) for _ in range(2))
    theirs = {"a": ours["a"][:, most]}
    step = 1500 // sure.FIRST_SAMPLED_ELEMENTS
    theirs["a"][::step] = ours["a"][::step][:, some]
    strategy = LikelihoodStrategy(Scales(ours))
    slots = [Slot("a", 1, np.arange(40)[:, None])]
    for judge in (None, strategy.judge_matches):
        comparison = Comparison(ours, theirs, {}, strategy, ASSIGNMENTS["optimal"], judge)
        nearest = sure._find_nearest_units(comparison, slots, 40)
        assert nearest is not None
        assert (nearest.nearest.first == np.argsort(some)).all()
        assert sure.match_surely(comparison, "one", slots, 40) is None


@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
def test_few_elements_do_where_there_is_little_noise(noise: float) -> None:
    rng = np.random.default_rng(0)
    ours = {"a": np.float32(rng.standard_normal((1500, 400)))}
    order = rng.permutation(400)
    theirs = add_noise(rng, {"a": ours["a"][:, order]}, noise)
    strategy = LikelihoodStrategy(Scales(ours))
    slots = [Slot("a", 1, np.arange(400)[:, None])]
    shares = []
    for judge in (None, strategy.judge_matches):
        comparison = Comparison(ours, theirs, {}, strategy, ASSIGNMENTS["optimal"], judge)
        sample = sure._find_nearest_units(comparison, slots, 400)
        shares.append(0 if sample is None else sample.share)
        found = sure.match_surely(comparison, "one", slots, 400)
        if judge is None:
            assert found is not None
            assert (found.permutation == np.argsort(order)).all()
    # figures rest on all elements that were taken: by few of them others seem nearer than they are
    assert shares[0] > 1 if noise < 0.1 else shares[0] >= 1
    assert shares[1] <= 1


def lay_confined() -> tuple[list[Group], Arrays]:
    """Units that hold some places along the other axis, and all of them."""
    own = (Slot("a", 0, np.arange(24).reshape(12, 2), ((1, np.array([3, 1, 6])),)),)
    return [Group("one", "channels", 12, (), own)], {"a": np.zeros((24, 9), np.float32)}


@pytest.mark.parametrize("lay", [lay_flat(30, 70), lay_heads(3, 8, 40), lay_confined()])
def test_figures_of_all_elements_are_those_of_whole_rows(
    lay: tuple[list[Group], Arrays], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, arrays = lay
    rng = np.random.default_rng(0)
    ours, theirs = draw(rng, arrays), draw(rng, arrays)
    monkeypatch.setattr(rows, "BLOCK_ELEMENTS", 200)
    for group in groups:
        first = LikelihoodStrategy(Scales(ours))
        for strategy in (first, first.estimate_noise(Layout(groups), ours, theirs)[0]):
            comparison = Comparison(ours, theirs, {}, strategy, ASSIGNMENTS["optimal"], None)
            x, y = (join_rows(z, group.size) for z in comparison.weigh_both(group.slots))
            for order in (np.arange(group.size), rng.permutation(group.size)):
                match = y[order]
                found = sure._multiply_rows(comparison, strategy, group.slots, order)
                for figures, expected in zip(
                    found,
                    (
                        [np.square(x).sum(1), np.square(match).sum(1)],
                        (x * match).sum(1),
                        np.square(x - match).sum(1),
                    ),
                    strict=True,
                ):
                    assert figures == pytest.approx(np.array(expected), rel=1e-4, abs=1e-3)
