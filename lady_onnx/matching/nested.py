"""Matches groups whose units hold groups of their own: attention heads above all.

For every pair of units what they hold is matched, and the scores of these matches are the score of
the pair. Groups that hold no others are the business of `flat`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays, Nesting
from .evidence.exact import match_exactly
from .evidence.probabilities import compute_certainties, find_runners_up
from .flattened import match_flattened
from .matches import Match
from .strategies import Comparison, weigh_rows


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
    if kinds.are_apart and not any(family.inside(g.id, 0) for g in kinds.inner[0]):
        sure = match_flattened(comparison, group, kinds.inner, kinds.pieces)
        if sure is not None:
            return sure
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
    rows, others = (
        [weigh_rows(strategy, arrays, group.slots[k]) for k in which]
        for arrays, group in ((comparison.reference, x), (comparison.current, y))
    )
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

    All units hold the same kinds in the same order. What is said of a piece holds in every unit.

    Attributes:
        inner: By unit and kind the group.
        pieces: By unit and kind the slots of the group, in pieces that cross the same kinds.
        crossed: By kind and piece the other kinds that it crosses. It is evidence as soon as these
            are matched.
        order: The kinds in the order in which they are matched, the ones with most elements in
            pieces that cross no other kind first.
        covered: The weights that are evidence of any kind, or that are in no order yet.
    """

    inner: list[list[Group]]
    pieces: list[list[list[Slot]]]
    crossed: list[list[set[int]]]
    order: list[int]
    covered: set[str]

    @property
    def are_apart(self) -> bool:
        """Whether no kind crosses another one."""
        return not any(itertools.chain(*self.crossed))

    def list_pieces(self, kind: int, settled: Set[int]) -> list[int]:
        """List the pieces of a kind that are evidence once some other kinds are matched."""
        return [k for k, others in enumerate(self.crossed[kind]) if others <= settled]


def _find_kinds(family: Nesting, comparison: Comparison, group: Group, usable: set[str]) -> _Kinds:
    """Find the kinds of groups inside a group's units, and their slots in `usable` weights."""
    inner = [[family.groups[n] for n in family.inside(group.id, u)] for u in range(group.size)]
    covered: set[str] = set()
    chosen: list[list[int]] = []
    for first in inner[0]:
        # Told apart by identity: slots hold arrays, for which `==` is no truth value. So a strategy
        # must select slots of the group itself, and no copies of them.
        selected = {id(s) for s in comparison.strategy.select_slots(first)}
        own = [
            i for i, s in enumerate(first.slots) if s.initializer in usable and id(s) in selected
        ]
        # Rows in which a group of a third level lies are in no order yet.
        below = _list_weights_below(family, first)
        own = [i for i in own if first.slots[i].initializer not in below] or own
        covered |= below | {first.slots[i].initializer for i in own}
        chosen.append(own)
    cuts = [
        [(i, *cut) for i in own for cut in _cut_slot(inner[0][kind].slots[i], kind, inner[0])]
        for kind, own in enumerate(chosen)
    ]
    pieces = [
        [[_take_columns(groups[k].slots[i], columns) for i, columns, _ in cuts[k]] for k in kinds]
        for groups, kinds in ((g, range(len(g))) for g in inner)
    ]
    crossed = [[others for _, _, others in own] for own in cuts]

    def count_elements(kind: int) -> int:
        """Count the elements of a kind that cross no other one."""
        return sum(
            comparison.reference[s.initializer].size
            // comparison.reference[s.initializer].shape[s.axis]
            * s.index.size
            for s, others in zip(pieces[0][kind], crossed[kind], strict=True)
            if not others
        )

    order = sorted(range(len(inner[0])), key=lambda kind: -count_elements(kind))
    return _Kinds(inner, pieces, crossed, order, covered)


def _cut_slot(slot: Slot, kind: int, kinds: Sequence[Group]) -> list[tuple[list[int], set[int]]]:
    """Cut the positions of a slot's units into those that cross the same other kinds.

    A kind is crossed along another axis of the weight by all positions, and along the same axis by
    the positions that it has as well.

    Args:
        slot: the slot.
        kind: its kind.
        kinds: the groups inside the unit, by kind.

    Returns:
        Columns of the slot's index, with the kinds that they cross.
    """
    across: set[int] = set()
    along = [set[int]() for _ in range(slot.index.shape[1])]
    for other, group in enumerate(kinds):
        for s in group.slots:
            if other == kind or s.initializer != slot.initializer:
                continue
            if s.axis != slot.axis:
                across.add(other)
                continue
            for column in np.flatnonzero(np.isin(slot.index, s.index).any(0)).tolist():
                along[column].add(other)
    found: dict[frozenset[int], list[int]] = {}
    for column, others in enumerate(along):
        found.setdefault(frozenset(others | across), []).append(column)
    return [(columns, set(others)) for others, columns in found.items()]


def _take_columns(slot: Slot, columns: Sequence[int]) -> Slot:
    """Return a slot with some of the positions of every unit."""
    if len(columns) == slot.index.shape[1]:
        return slot
    return replace(slot, index=slot.index[:, columns])


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
        self._plain: dict[tuple[bool, int, int, int], np.ndarray] = {}

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
        again = [k for k in self.kinds.order if any(self.kinds.crossed[k])]
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
        which = kinds.list_pieces(kind, settled.keys())
        # The rows of both sides run along the other kinds in one order: the reference's.
        plain = {j: np.arange(kinds.inner[u][j].size) for j in settled}
        x = self._take_rows(comparison.reference, u, kind, which, plain)
        y = self._take_rows(comparison.current, v, kind, which, settled)
        group, name = kinds.inner[u][kind], kinds.inner[v][kind].id
        exact = match_exactly(x, y) if x else None
        if exact is not None and comparison.strategy.gives_copies_zero:
            return _make_exact_match(name, *exact), 0.0
        slots = [kinds.pieces[u][kind][k] for k in which]
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

    def _take_plain_rows(self, arrays: Arrays, unit: int, kind: int, piece: int) -> np.ndarray:
        """Return the weighed rows of a piece that crosses no other kind: the same for all pairs."""
        key = arrays is self.comparison.reference, unit, kind, piece
        if key not in self._plain:
            slot = self.kinds.pieces[unit][kind][piece]
            self._plain[key] = weigh_rows(self.comparison.strategy, arrays, slot)
        return self._plain[key]

    def _take_rows(
        self,
        arrays: Arrays,
        unit: int,
        kind: int,
        which: Sequence[int],
        orders: Mapping[int, np.ndarray],
    ) -> list[np.ndarray]:
        """Return the weighed rows of one kind inside one unit, [inner units, elements] for a piece.

        Args:
            arrays: the weights of one model.
            unit: the unit.
            kind: the kind whose rows are taken.
            which: the pieces to take.
            orders: by other kinds the permutations in which they are taken.
        """
        parts = []
        for k in which:
            slot = self.kinds.pieces[unit][kind][k]
            if not self.kinds.crossed[kind][k]:
                parts.append(self._take_plain_rows(arrays, unit, kind, k))
                continue
            taken = {}
            crossing = [
                (s, permutation)
                for j, permutation in orders.items()
                for s in self.kinds.inner[unit][j].slots
                if s.initializer == slot.initializer
            ]
            for s, permutation in crossing:
                if s.axis != slot.axis:
                    taken[s.axis] = s.index[permutation].ravel()
                else:
                    slot = _order_positions(slot, s, permutation)
            parts.append(weigh_rows(self.comparison.strategy, arrays, slot, taken))
        return parts


def _order_positions(slot: Slot, other: Slot, permutation: np.ndarray) -> Slot:
    """Return a slot with the positions of every unit in the order of the units of another one.

    Args:
        slot: the slot.
        other: a slot along the same axis, such as that of heads beside that of their dimensions.
        permutation: int64 [size], the unit of `other` that comes at each place.
    """
    place = np.full(max(slot.index.max(), other.index.max()) + 1, -1)
    place[other.index] = np.argsort(permutation)[:, None]
    places = place[slot.index]
    columns = np.flatnonzero((places >= 0).all(0))
    order = np.argsort(places[:, columns], 1, kind="stable")
    index = slot.index.copy()
    index[:, columns] = np.take_along_axis(index[:, columns], order, 1)
    return replace(slot, index=index)


def _make_exact_match(name: str, chosen: np.ndarray, margin: np.ndarray) -> Match:
    """Return a match of rows that are equal bit for bit."""
    ones = np.ones(chosen.size)
    return Match(name, chosen, ones, margin, ones)
