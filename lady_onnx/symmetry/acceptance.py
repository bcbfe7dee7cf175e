"""Acceptance: a candidate is a group if the permutations of its units map every fact onto itself.

A candidate that is not is pinned, and pins its parents. Acceptance is by proof: a transposition and
a cycle of the units generate all their permutations, so two checks settle each candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..dataflow.labels.roles import find_varying_axes, sort_distinct, to_dense
from ..groups.model import Slot
from ..groups.slots import join_overlapping_slots
from .candidates import UnitTabulator
from .incidence import Incidence
from .pinning import OTHER_REASONS, find_cause, spread_causes
from .repeated_blocks import RepeatedBlocks
from .run_folding import UnfoldingError

MAX_FACT_CODE = 1 << 62
"""Facts are coded as single numbers below this bound, which int64 holds, else as rows of three."""


@dataclass(frozen=True)
class FoundGroup:
    """A group as the analysis finds it.

    Attributes:
        units: int64 [units], the classes that are its units.
        slots: where they lie in the weights.
    """

    units: np.ndarray
    slots: list[Slot]


@dataclass(frozen=True)
class Acceptance:
    """The accepted groups of a graph.

    Attributes:
        groups: the groups, outer ones before those inside their units.
        causes: int64 [classes], what pins each class, refused candidates included.
    """

    groups: list[FoundGroup]
    causes: np.ndarray


def accept_candidates(
    incidence: Incidence, candidates: Sequence[np.ndarray], causes: np.ndarray
) -> Acceptance:
    """Accept the candidates that are symmetric groups and occur in weights.

    Args:
        incidence: the indexed facts.
        candidates: the units of each candidate, outer candidates first.
        causes: int64 [classes], what pins each class; it is not changed.

    Raises:
        UnfoldingError: the units differ in what was folded, or a group lies inside folded units.
    """
    causes = causes.copy()
    relations = incidence.classed.congruence.relations
    refused = find_cause(incidence.classed.facts, OTHER_REASONS[-1])
    examiner = _Examiner(incidence)
    blocks = RepeatedBlocks(incidence.class_count)
    found: list[FoundGroup] = []
    # what is true inside one unit of a block is true inside all: blocks come first. An outer group
    # may be pinned later, by a candidate inside it that is refused: so causes are asked at the end
    for units in candidates:
        slots = blocks.recall_slots(units)
        if slots is None:
            slots = examiner.examine(units, blocks)
        if slots is None:
            _require_equal_runs(incidence, units)
            causes[units] = refused
            spread_causes(causes, relations)
        elif slots:
            _require_single_parents(incidence, units)
            found.append(FoundGroup(units, slots))
    return Acceptance([g for g in found if (causes.take(g.units) < 0).all()], causes)


def _require_equal_runs(incidence: Incidence, units: np.ndarray) -> None:
    """Raise UnfoldingError where units may differ only in the lengths of folded runs."""
    edges = incidence.below
    below = found = sort_distinct(units)
    while found.size:
        found = np.setdiff1d(edges.children[edges.find(found)], below)
        below = np.union1d(below, found)
    spans = incidence.classed.multiplicities.spans[below]
    number = np.unique(incidence.colouring.colours[below], return_inverse=True)[1]
    shortest = np.full(below.size, np.iinfo(np.int64).max)
    longest = np.zeros(below.size, np.int64)
    np.minimum.at(shortest, number, spans)
    np.maximum.at(longest, number, spans)
    if (shortest[number] != longest[number]).any():
        raise UnfoldingError


def _require_single_parents(incidence: Incidence, units: np.ndarray) -> None:
    """Raise UnfoldingError where a group lies inside units that stand for others.

    Each of the units that are not there holds a group of its own.
    """
    edges = incidence.above
    parents = edges.parents[edges.find(units)]
    if incidence.classed.multiplicities.is_paired[parents].any():
        raise UnfoldingError


class _Examiner:
    """Examines candidates one after the other, with arrays over all labels that are made once."""

    def __init__(self, incidence: Incidence):
        self._incidence = incidence
        self._tabulator = UnitTabulator(incidence)
        # by label the unit of the candidate that holds it, -1 for none: empty between calls
        self._unit_of = np.full(incidence.label_count, -1)
        # by label its rank inside that unit
        self._rank_of = np.zeros(incidence.label_count, np.int64)

    def examine(self, units: np.ndarray, blocks: RepeatedBlocks) -> list[Slot] | None:
        """Find the slots of a candidate: none if it is in no weight, None if it is not symmetric.

        A group is remembered in `blocks`.
        """
        tables = self._tabulator.tabulate(units)
        if tables is None:
            return None
        layers = self._tabulate_labels(tables)
        if layers is None:
            return None
        located = self._locate(tables, layers)
        if located is None:
            return None
        slots, is_even = located
        if len(layers) == 1:
            colouring = self._incidence.colouring
            colours, kinds = colouring.colours.take(tables[0]), colouring.kinds.take(layers[0])
            if (colours != colours[0]).any() or (kinds != kinds[0]).any():
                return None
        if not slots:
            return slots
        # what is proven by hashes alone needs no walk through the facts
        is_proven = is_even and len(layers) == 1 and self._is_told_apart(tables[0], layers[0])
        if not is_proven and not _is_symmetric(self._incidence, layers, slots):
            return None
        blocks.remember_group(units, tables, slots)
        return slots

    def _tabulate_labels(self, tables: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """Tabulate for each layer its classes' labels, [units, labels]; None where units differ."""
        starts = self._incidence.label_starts
        layers = []
        for table in tables:
            sizes = starts[table + 1] - starts[table]
            if (sizes != sizes[0]).any():
                return None
            layers.append(self._incidence.gather_labels(table.ravel()).reshape(len(table), -1))
        return layers

    def _locate(
        self, tables: Sequence[np.ndarray], layers: Sequence[np.ndarray]
    ) -> tuple[list[Slot], bool] | None:
        """Locate the distinct slots of a candidate; None where its units do not lie alike.

        The bool says whether reordering the units in each slot is known to do what reordering
        their labels does.
        """
        unique: dict[tuple, Slot] = {}
        is_even = True
        roles = self._incidence.classed.occurrences.roles
        for table, labels in zip(tables, layers, strict=True):
            size = len(labels)
            self._unit_of[labels] = np.arange(size)[:, None]
            self._rank_of[labels] = np.arange(labels.shape[1])
            located = [
                locate_units(*roles[number], self._unit_of, self._rank_of, size)
                for number in self._incidence.find_roles(table[0])
            ]
            self._unit_of[labels] = -1
            if any(slot is None for slot, _ in located):
                return None
            is_even &= all(even for _, even in located)
            # layers move one after the other, and in each of them an element moves once
            own = join_overlapping_slots([slot for slot, _ in located if slot is not None])
            if own is None:
                return None
            is_even &= len(own) == len(located)
            for slot in own:
                within = tuple((a, positions.tobytes()) for a, positions in slot.within)
                # two roles may give one place, with the positions of a unit in another order
                index = np.sort(slot.index, 1).tobytes()
                unique.setdefault((slot.initializer, slot.axis, within, index), slot)
        return list(unique.values()), is_even

    def _is_told_apart(self, table: np.ndarray, labels: np.ndarray) -> bool:
        """Tell whether the units are single classes of labels of which different things are said.

        If the same is said in every unit, no permutation of the labels other than that of the units
        maps the facts onto themselves, and the units are interchangeable.
        """
        if table.shape[1] != 1:
            return False
        hashes = self._incidence.label_hashes.take(labels)
        return bool((hashes == hashes[0]).all() and np.unique(hashes[0]).size == labels.shape[1])


def locate_units(
    weight: str, role: np.ndarray, unit_of: np.ndarray, rank_of: np.ndarray, size: int
) -> tuple[Slot | None, bool]:
    """Locate the units of a candidate in one role of a weight.

    Args:
        weight: the weight's name.
        role: the role.
        unit_of: int64 [labels], by label the unit that holds it, -1 for none.
        rank_of: int64 [labels], by label its rank inside the unit.
        size: the number of units.

    Returns:
        The slot, None if the units do not lie alike; and whether reordering the units there is
        known to do what reordering their labels does.
    """
    axes = find_varying_axes(role)
    owner = unit_of.take(role)
    if len(axes) == 1 and owner.size >= size:
        # mostly each unit has one element, and all lie along one axis
        flat = owner.ravel()
        there = np.flatnonzero(flat >= 0)
        order = np.argsort(flat.take(there))
        if there.size == size and (flat.take(there.take(order)) == np.arange(size)).all():
            rank = rank_of.take(role.ravel().take(there))
            return Slot(weight, axes[0], there.take(order)[:, None]), bool((rank == rank[0]).all())
    # in general every unit must stand there as often, and differ from others along one axis alone
    places = np.nonzero(owner >= 0)
    unit, rank = owner[places], rank_of[role[places]]
    order = np.argsort(unit, kind="stable")
    counts = np.bincount(unit, minlength=size)
    if (counts != counts[0]).any():
        return None, False
    ranks = rank[order].reshape(size, -1)
    moving, within = [], []
    for a in axes:
        rows = places[a][order].reshape(size, -1)
        if (rows == rows[0]).all():
            there = np.unique(rows[0])
            if there.size < role.shape[a]:
                within.append((a, there))
        else:
            moving.append((a, rows))
    if len(moving) != 1:
        return None, False
    axis, rows = moving[0]
    return _index_units(Slot(weight, axis, rows, tuple(within)), ranks, len(axes) == 1)


def _index_units(slot: Slot, ranks: np.ndarray, is_single: bool) -> tuple[Slot | None, bool]:
    """Bring the positions of each unit in a slot to an order that is the same for all units.

    Args:
        slot: its index has the positions of all elements of each unit, in any order.
        ranks: int64 [units, elements], the rank of each element's label inside its unit.
        is_single: whether the role runs along one axis alone.
    """
    rows = slot.index
    weight, axis, within = slot.initializer, slot.axis, slot.within
    if (rows == rows[:, :1]).all():
        is_even = bool((ranks == ranks[0]).all())
        return Slot(weight, axis, rows[:, :1].copy(), within), is_even
    # the place of an element inside its unit: by the rank of its label, then along the axis
    inside = np.lexsort((rows, ranks))
    rows = np.take_along_axis(rows, inside, 1)
    if is_single:
        ranks = np.take_along_axis(ranks, inside, 1)
        return Slot(weight, axis, rows, within), bool((ranks == ranks[0]).all())
    # a role over several axes repeats a position for each place along the others: it counts once
    index = [list(dict.fromkeys(row)) for row in rows.tolist()]
    if len({len(i) for i in index}) > 1:
        return None, False
    return Slot(weight, axis, np.array(index), within), False


def _is_symmetric(
    incidence: Incidence, layers: Sequence[np.ndarray], slots: Sequence[Slot]
) -> bool:
    """Tell whether a transposition and a cycle of units map each fact and role onto itself.

    They generate all permutations of the units.

    Args:
        incidence: the indexed facts.
        layers: for each layer int64 [units, labels], the labels below each unit.
        slots: where the units lie in the weights.
    """
    size = layers[0].shape[0]
    weights = incidence.classed.fold.analysis.weights
    roles = [(w, to_dense(r)) for w in sorted({s.initializer for s in slots}) for r in weights[w]]
    moved = sort_distinct(np.concatenate([labels.ravel() for labels in layers]))
    table, kinds = incidence.statements, incidence.colouring.kinds
    entries = table.find_entries(moved)
    a, b, statement = (x.take(entries) for x in (table.first, table.second, table.statement))
    known = _list_facts(incidence, statement, a, b)
    swap = np.arange(size)
    swap[:2] = 1, 0
    for permutation in (swap, np.roll(np.arange(size), 1)):
        # the classes of each layer are moved one layer after the other (`UnitTabulator`)
        sigma = np.arange(incidence.label_count)
        for labels in layers:
            step = np.arange(incidence.label_count)
            step[labels] = labels[permutation]
            sigma = step.take(sigma)
        if (kinds.take(sigma.take(moved)) != kinds.take(moved)).any():
            return False
        moved_a, moved_b = (np.where(x < 0, x, sigma[x]) for x in (a, b))
        if not np.array_equal(known, _list_facts(incidence, statement, moved_a, moved_b)):
            return False
        if not all(_is_role_kept(incidence, w, r, slots, permutation, sigma) for w, r in roles):
            return False
    return True


def _list_facts(
    incidence: Incidence, statement: np.ndarray, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """List the distinct facts, in one order."""
    lowest = min(int(b.min(initial=0)), 0)
    span = incidence.label_count - lowest
    # these are Python's integers: the product does not wrap around before it is compared
    if incidence.statements.statement_count * span * span < MAX_FACT_CODE:
        return sort_distinct((statement * span + (a - lowest)) * span + (b - lowest))
    return np.unique(np.stack([statement, a, b]), axis=1)


def _is_role_kept(
    incidence: Incidence,
    weight: str,
    role: np.ndarray,
    slots: Sequence[Slot],
    permutation: np.ndarray,
    sigma: np.ndarray,
) -> bool:
    """Tell whether reordering units in a weight's slots does to a role what `sigma` does."""
    own = [s for s in slots if s.initializer == weight and role.shape[s.axis] > 1]
    # a slot that is confined along an axis moves a part of it, which takes a role over all of it
    shape = list(role.shape)
    for s in own:
        for axis, _ in s.within:
            shape[axis] = _find_shape(incidence, weight)[axis]
    frame = np.broadcast_to(role, shape).copy()
    for s in own:
        s.permute(frame, permutation)
    return bool((frame == np.broadcast_to(sigma[role], shape)).all())


def _find_shape(incidence: Incidence, weight: str) -> tuple[int, ...]:
    """Return the broadcast shape of all roles of a weight."""
    roles = incidence.classed.fold.analysis.weights[weight]
    return np.broadcast_shapes(*(to_dense(r).shape for r in roles))
