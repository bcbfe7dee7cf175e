"""Matches groups whose units hold groups of their own: attention heads above all.

For every pair of units what they hold is matched, and the scores of these matches are the score of
the pair. Groups that hold no others are the business of `flat`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays, Nesting
from .evidence.exact import match_exactly
from .evidence.probabilities import compute_certainties, find_runners_up
from .flat import Comparison
from .matches import Match
from .strategies import EvidenceStrategy, weigh_rows


def match_nested(
    comparison: Comparison, family: Nesting, group: Group, slots: Sequence[Slot]
) -> dict[str, Match]:
    """Match the units of a group by the best match of what lies inside them, and that as well.

    Args:
        comparison: the models, and how they are compared.
        family: how the groups lie inside each other.
        group: the group that holds others.
        slots: those of its slots that may be used.

    Returns:
        The matches of the group and of all groups inside its units, by their ids.
    """
    kinds = _find_kinds(family, comparison, group, {s.initializer for s in slots})
    pairs = _UnitPairs(comparison, kinds)
    # Units are few, such as the heads of a layer, so all pairs are tried.
    score = np.array([[pairs.match(u, v)[1] for v in range(group.size)] for u in range(group.size)])
    # Weights in which units lie whole, with no inner group, speak for the units themselves.
    direct = [s for s in slots if s.initializer not in kinds.covered]
    if direct:
        ours, theirs = comparison.weigh_both(direct)
        score += comparison.strategy.score_pairs(group, direct, ours, theirs).scores
    score = comparison.strategy.apply_prior(group, score, comparison.permutations)
    outer = comparison.assign(score)
    found = {}
    means = []
    for u, v in enumerate(outer.tolist()):
        # Matched once more, as the figures were left out of the table to save time.
        inner, _ = pairs.match(u, v, with_figures=True)
        found.update({m.group: m for m in inner})
        for mine, other in zip(kinds.inner[u], kinds.inner[v], strict=True):
            order = found[other.id].permutation
            found.update(_match_deeper(comparison, family, mine, other, order))
        means.append(np.mean([m.similarity.mean() for m in inner]))
    found[group.id] = Match(
        group.id,
        outer,
        np.array(means),
        find_runners_up(score, outer)[1],
        compute_certainties(score, outer),
    )
    return found


def _match_deeper(
    comparison: Comparison, family: Nesting, ours: Group, theirs: Group, order: np.ndarray
) -> dict[str, Match]:
    """Match what lies inside the units of an inner group, once these are matched.

    Args:
        comparison: the models, and how they are compared.
        family: how the groups lie inside each other.
        ours: the inner group of the reference.
        theirs: its partner in the suspect.
        order: int64 [size], the unit of `theirs` that each unit of `ours` is.

    Returns:
        The matches of all groups below, by their ids in the suspect.
    """
    found: dict[str, Match] = {}
    for a, b in enumerate(order.tolist()):
        pairs = zip(family.inside(ours.id, a), family.inside(theirs.id, b), strict=True)
        for x, y in ((family.groups[n], family.groups[m]) for n, m in pairs):
            axes = _list_axes_of_others(family, x)
            which = [k for k, s in enumerate(x.slots) if axes.get(s.initializer, set()) <= {s.axis}]
            match = _match_alone(comparison, x, y, which)
            found[y.id] = match
            found.update(_match_deeper(comparison, family, x, y, match.permutation))
    return found


def _match_alone(comparison: Comparison, x: Group, y: Group, which: Sequence[int]) -> Match:
    """Match the units of two inner groups by some of their slots."""
    strategy = comparison.strategy
    if not which:
        return Match.in_place(y.id, y.size)
    rows = _take_inner_rows(strategy, comparison.reference, [x], 0, which, {})
    others = _take_inner_rows(strategy, comparison.current, [y], 0, which, {})
    exact = match_exactly(rows, others)
    if exact is not None:
        return _make_exact_match(y.id, *exact)
    scored = strategy.score_pairs(x, [x.slots[k] for k in which], rows, others)
    chosen = comparison.assign(scored.scores)
    return Match(y.id, chosen, *comparison.measure_figures(y.id, scored, chosen))


def _list_axes_of_others(family: Nesting, group: Group) -> dict[str, set[int]]:
    """List by weight the axes along which other groups than this one lie."""
    axes: dict[str, set[int]] = {}
    weights = {s.initializer for s in group.slots}
    for other in family.order:
        for slot in other.slots if other is not group else ():
            if slot.initializer in weights:
                axes.setdefault(slot.initializer, set()).add(slot.axis)
    return axes


@dataclass(frozen=True)
class _Kinds:
    """The kinds of groups inside the units of a group: in a head, query-key and value dimensions.

    All units hold the same kinds in the same order. A slot of a kind goes by its number among the
    slots of its group, which is the same in every unit.

    Attributes:
        inner: By unit and kind the group.
        alone: By kind the numbers of the slots in weights that no other kind touches.
        shared: By kind the numbers of the slots in weights that other kinds touch as well. Such a
            weight is evidence as soon as the other kinds are matched.
        on: By weight the kinds that touch it; only weights that may be used occur.
        order: The kinds in the order in which they are matched, the ones with most elements in
            weights of their own first.
        unordered: The weights of groups of a third level.
    """

    inner: list[list[Group]]
    alone: list[list[int]]
    shared: list[list[int]]
    on: Mapping[str, set[int]]
    order: list[int]
    unordered: set[str]

    @property
    def covered(self) -> set[str]:
        """The weights that are evidence of any kind, or that are in no order yet."""
        return set(self.on) | self.unordered

    def get_weight(self, kind: int, slot: int) -> str:
        """Return the weight of a kind's slot."""
        return self.inner[0][kind].slots[slot].initializer


def _find_kinds(family: Nesting, comparison: Comparison, group: Group, usable: set[str]) -> _Kinds:
    """Find the kinds of groups inside a group's units, and their slots in `usable` weights."""
    inner = [[family.groups[n] for n in family.inside(group.id, u)] for u in range(group.size)]
    on: dict[str, set[int]] = {}
    unordered: set[str] = set()
    chosen = []
    for kind, first in enumerate(inner[0]):
        # Told apart by identity: slots hold arrays, for which `==` is no truth value. So a strategy
        # must select slots of the group itself, and no copies of them.
        selected = {id(s) for s in comparison.strategy.select_slots(first)}
        own = [
            i for i, s in enumerate(first.slots) if s.initializer in usable and id(s) in selected
        ]
        # Rows in which a group of a third level lies are in no order yet.
        below = _list_weights_below(family, first)
        own = [i for i in own if first.slots[i].initializer not in below] or own
        unordered |= below
        chosen.append(own)
        for i in own:
            on.setdefault(first.slots[i].initializer, set()).add(kind)

    def count_kinds(kind: int, slot: int) -> int:
        return len(on[inner[0][kind].slots[slot].initializer])

    def count_elements(kind: int) -> int:
        slots = inner[0][kind].slots
        return sum(comparison.reference[slots[i].initializer].size for i in alone[kind])

    alone = [[i for i in own if count_kinds(k, i) == 1] for k, own in enumerate(chosen)]
    shared = [[i for i in own if count_kinds(k, i) > 1] for k, own in enumerate(chosen)]
    order = sorted(range(len(inner[0])), key=lambda kind: -count_elements(kind))
    return _Kinds(inner, alone, shared, on, order, unordered)


def _list_weights_below(family: Nesting, group: Group) -> set[str]:
    """List the weights of all groups inside the units of a group."""
    found: set[str] = set()
    for unit in range(group.size):
        for inner in (family.groups[n] for n in family.inside(group.id, unit)):
            found |= {s.initializer for s in inner.slots} | _list_weights_below(family, inner)
    return found


class _UnitPairs:
    """Matches what lies inside a unit of the reference with what lies inside one of the suspect."""

    def __init__(self, comparison: Comparison, kinds: _Kinds):
        self.comparison, self.kinds = comparison, kinds
        self.ours, self.theirs = (
            [
                [
                    _take_inner_rows(comparison.strategy, arrays, groups, k, kinds.alone[k], {})
                    for k in range(len(groups))
                ]
                for groups in kinds.inner
            ]
            for arrays in (comparison.reference, comparison.current)
        )

    def match(self, u: int, v: int, with_figures: bool = False) -> tuple[list[Match], float]:
        """Match what lies inside a pair of units.

        Args:
            u: the unit of the reference.
            v: the unit of the suspect.
            with_figures: whether matches have their figures; else these are ones.

        Returns:
            The match of every kind, and the sum of the scores of all that was matched.
        """
        done: dict[int, np.ndarray] = {}
        found: dict[int, tuple[Match, float]] = {}
        # A kind cannot use the weights that it shares before the others have an order. Once they
        # do, it is matched again by all its weights.
        again = [k for k in self.kinds.order if self.kinds.shared[k]]
        for k in [*self.kinds.order, *again]:
            settled = {j: p for j, p in done.items() if j != k}
            found[k] = self._match_kind(u, v, k, settled, with_figures)
            done[k] = found[k][0].permutation
        return [m for m, _ in found.values()], sum(score for _, score in found.values())

    def _match_kind(
        self, u: int, v: int, kind: int, settled: Mapping[int, np.ndarray], with_figures: bool
    ) -> tuple[Match, float]:
        """Match the groups of one kind inside two units.

        Args:
            u: the unit of the reference.
            v: the unit of the suspect.
            kind: the kind.
            settled: by other kinds, int64 [size], the permutations that they were matched by.
            with_figures: whether the match has its figures; else these are ones.

        Returns:
            The match, under the id of the suspect's group, and its score.
        """
        comparison, kinds = self.comparison, self.kinds
        which = [
            i for i in kinds.shared[kind] if kinds.on[kinds.get_weight(kind, i)] <= {kind, *settled}
        ]
        x, y = self.ours[u][kind], self.theirs[v][kind]
        if which:
            # The rows of both sides run along the other kinds in one order: the reference's.
            plain = {j: np.arange(kinds.inner[u][j].size) for j in settled}
            sides = (
                (comparison.reference, kinds.inner[u], plain),
                (comparison.current, kinds.inner[v], settled),
            )
            more, others = (
                _take_inner_rows(comparison.strategy, arrays, groups, kind, which, orders)
                for arrays, groups, orders in sides
            )
            x, y = [*x, *more], [*y, *others]
        group, name = kinds.inner[u][kind], kinds.inner[v][kind].id
        exact = match_exactly(x, y) if x else None
        if exact is not None and comparison.strategy.gives_copies_zero:
            return _make_exact_match(name, *exact), 0.0
        slots = [group.slots[i] for i in (*kinds.alone[kind], *which)]
        pairs = comparison.strategy.score_pairs(group, slots, x, y)
        if exact is not None:
            # beside units that are no copies: their scores count from where these do
            score = float(pairs.scores[np.arange(exact[0].size), exact[0]].sum())
            return _make_exact_match(name, *exact), score
        chosen = comparison.assign(pairs.scores)
        figures: Sequence[np.ndarray] = list(np.ones((3, chosen.size)))
        if with_figures:
            figures = comparison.measure_figures(name, pairs, chosen)
        score = float(pairs.scores[np.arange(chosen.size), chosen].sum())
        return Match(name, chosen, *figures), score


def _make_exact_match(name: str, chosen: np.ndarray, margin: np.ndarray) -> Match:
    """Return a match of rows that are equal bit for bit."""
    ones = np.ones(chosen.size)
    return Match(name, chosen, ones, margin, ones)


def _take_inner_rows(
    strategy: EvidenceStrategy,
    arrays: Arrays,
    groups: Sequence[Group],
    kind: int,
    which: Sequence[int],
    orders: Mapping[int, np.ndarray],
) -> list[np.ndarray]:
    """Return the weighed rows of one kind inside one unit, [inner units, elements] for each slot.

    Args:
        strategy: how elements are weighed.
        arrays: the weights of one model.
        groups: the groups inside the unit, by kind.
        kind: the kind whose rows are taken.
        which: the numbers of the slots to take.
        orders: by other kinds the permutations in which they are taken.
    """
    parts = []
    for i in which:
        slot = groups[kind].slots[i]
        taken = {
            s.axis: s.index[permutation].ravel()
            for k, permutation in orders.items()
            for s in groups[k].slots
            if s.initializer == slot.initializer and s.axis != slot.axis
        }
        parts.append(weigh_rows(strategy, arrays, slot, taken))
    return parts
