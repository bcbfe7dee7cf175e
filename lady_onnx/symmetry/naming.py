"""Named groups and pins: the last stage, from accepted groups to what the user sees.

The order and the names of groups follow from the weights' names and places, not from the order of
the nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dataflow.labels.roles import find_varying_axes, sort_distinct
from ..groups.model import Group, Pin, Slot, StateOrder
from .acceptance import FoundGroup
from .classes import ClassedFacts
from .incidence import Incidence, concatenate_ranges
from .pinning import OTHER_REASONS, describe_cause

Holder = tuple[int, int]
"""A group, by its number, and one of its units, which holds another group."""


def order_groups(
    classed: ClassedFacts, groups: Sequence[FoundGroup], colours: np.ndarray
) -> list[FoundGroup]:
    """Order groups, and the slots of each, by the weights' names and places.

    Groups that stand in one place of several units have one colour. They come in the same order in
    every unit.

    Args:
        classed: the classes.
        groups: the groups, with slots in any order.
        colours: uint64 [classes], the colours.
    """
    # groups are named after weights, so slots in states come last
    states = classed.fold.analysis.states
    ranks = {w: -1 if w in states else r.ndim for w, r in classed.occurrences.roles}
    first: dict[int, tuple] = {}
    keyed: list[tuple[tuple, int, tuple, FoundGroup]] = []
    for group in groups:
        slots, axes, where = _sort_slots(group.slots, ranks)
        colour = int(colours[group.units[0]])
        first[colour] = min(first.get(colour, where), where)
        keyed.append((axes, colour, where, FoundGroup(group.units, slots)))
    keyed.sort(key=lambda k: (k[0], first[k[1]], k[2]))
    return [group for *_, group in keyed]


def _sort_slots(slots: Sequence[Slot], ranks: dict[str, int]) -> tuple[list[Slot], tuple, tuple]:
    """Sort slots, those in weights of most axes first.

    Returns:
        The sorted slots; for each the rank, the weight and the axis; and the positions of all.
    """
    placed = sorted(
        (-ranks[s.initializer], s.initializer, s.axis, min(s.index.ravel().tolist()), k)
        for k, s in enumerate(slots)
    )
    own = [slots[k] for *_, k in placed]
    within = tuple((a, p.tolist()) for slot in own for a, p in slot.within)
    return own, tuple(p[:3] for p in placed), (tuple(p[3] for p in placed), within)


def unfold_groups(classed: ClassedFacts, groups: Sequence[FoundGroup]) -> list[FoundGroup]:
    """Unfold groups to all their units, those that a folded unit stands for as well.

    A unit that stands for others occurs once for each of them.

    Raises:
        UnfoldingError: the positions of a group's units do not follow the runs that were folded.
    """
    fold, of_class = classed.fold, classed.multiplicities.of_class
    # most groups are folded like others, and most slots have the same index as others
    known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    shared: dict[tuple, np.ndarray] = {}
    found = []
    for group in groups:
        times = of_class.take(group.units).astype(np.int64)
        if (key := times.tobytes()) not in known:
            which = np.repeat(np.arange(times.size), times)
            known[key] = which, concatenate_ranges(np.zeros_like(times), times)
        which, distance = known[key]
        slots = [fold.unfold_slot(s, which, distance, shared) for s in group.slots]
        found.append(FoundGroup(group.units.take(which), slots))
    return found


def name_groups(
    incidence: Incidence, groups: Sequence[FoundGroup]
) -> tuple[tuple[Group, ...], tuple[StateOrder, ...]]:
    """Name groups, find the units that hold them, and return inner ones first.

    A group is named after its first slot, and after the unit that holds it. What stands in states
    alone is no group: no weight of it could move.

    Args:
        incidence: the indexed facts.
        groups: the groups over all their units, in order.

    Returns:
        The groups, and the states with the ids of the groups that they have the order of.
    """
    fed = incidence.classed.fold.analysis.states
    held: dict[str, list[str]] = {source: [] for source in fed}
    groups = [g for g in groups if any(s.initializer not in fed for s in g.slots)]
    holders = _find_holders(incidence, groups)
    depths = _count_group_depths(holders)
    names: dict[int, str] = {}
    taken: set[str] = set()
    for i in sorted(range(len(groups)), key=lambda i: depths[i]):
        slot = groups[i].slots[0]
        base = f"{slot.initializer}:{slot.axis}"
        if holders[i]:
            parent, unit = holders[i][0]
            base = f"{names[parent]}[{unit}]/{base}"
        names[i] = _choose_name(base, taken)
    holding = {i for parents in holders for i, _ in parents}
    named = []
    for i in sorted(range(len(groups)), key=lambda i: -depths[i]):
        kind = "blocks" if i in holding else "inner" if holders[i] else "channels"
        parents = tuple((names[p], unit) for p, unit in holders[i])
        group = groups[i]
        slots = tuple(s for s in group.slots if s.initializer not in fed)
        named.append(Group(names[i], kind, group.units.size, parents, slots))
        for source in dict.fromkeys(s.initializer for s in group.slots if s.initializer in fed):
            held[source].append(names[i])
    states = (StateOrder(output, source, tuple(held[source])) for source, output in fed.items())
    return tuple(named), tuple(states)


def _find_holders(incidence: Incidence, groups: Sequence[FoundGroup]) -> list[list[Holder]]:
    """Find for every group the units of other groups that it lies inside of."""
    which, place = np.full((2, incidence.class_count), -1)
    for i, group in enumerate(groups):
        # a class that stands for many units stands here once for each of them. It has no group
        # inside it, and written from the back it has the place of the first
        which[group.units[::-1]] = i
        place[group.units[::-1]] = np.arange(group.units.size)[::-1]
    edges = incidence.above
    holders: list[list[Holder]] = []
    for group in groups:
        # in the order of the relations, which is the same for all groups that stand in one place
        # of several units
        parents = edges.parents[edges.find_one(group.units[0])]
        held = [(int(which[p]), int(place[p])) for p in parents if which[p] >= 0]
        holders.append(list(dict.fromkeys(held)))
    return holders


def _count_group_depths(holders: Sequence[Sequence[Holder]]) -> list[int]:
    """Count how many groups hold each, one inside the other."""
    depths = [0] * len(holders)
    for _ in range(len(holders)):
        deeper = [max((depths[i] + 1 for i, _ in parents), default=0) for parents in holders]
        if deeper == depths:
            break
        depths = deeper
    return depths


def _choose_name(base: str, taken: set[str]) -> str:
    """Return the name, with a number behind it if it is taken; it is taken from then on."""
    name, k = base, 1
    while name in taken:
        k += 1
        name = f"{base}#{k}"
    taken.add(name)
    return name


def list_pins(classed: ClassedFacts, causes: np.ndarray) -> tuple[Pin, ...]:
    """List the pinned axes of weights, each once for every reason.

    Args:
        classed: the classes.
        causes: int64 [classes], what pins each class.
    """
    facts, occurrences = classed.facts, classed.occurrences
    found = causes[classed.congruence.class_of_label[occurrences.label]]
    count = len(facts.pins) + len(OTHER_REASONS)
    pins: dict[tuple[str, int, str], Pin] = {}
    for code in sort_distinct((occurrences.role * count + found)[found >= 0]).tolist():
        weight, role = occurrences.roles[code // count]
        if weight in classed.fold.analysis.states:
            continue
        reason, node = describe_cause(facts, code % count)
        # a pin names one axis: the last one where a role runs along several
        for axis in find_varying_axes(role)[-1:]:
            pins.setdefault((weight, axis, reason), Pin(weight, axis, reason, node))
    return tuple(pins.values())
