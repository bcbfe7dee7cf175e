"""Unification of the roles that meet in one operator: which are tied, and which contain which.

Two roles over the same axes are tied. A role whose axes include another's takes it as parent. Two
roles that share some axes, neither including the other, get a common parent over the shared axes.
What follows is written into `Facts`; nothing is merged here. The classes of equal labels are found
at the end, by `lady_onnx.symmetry.congruence`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from .facts import Facts
from .roles import (
    find_components,
    find_run_start,
    find_varying_axes,
    is_address,
    is_refinement,
    lay_along,
    make_addresses,
    merge_addresses,
    number_classes,
)

Axes = tuple[int, ...]
Leaves = dict[Axes, list[np.ndarray]]
"""For every set of axes of an equation the roles over it: the finest one, then addresses."""
DERIVED = -1
"""Stands for an operand where a role comes from none: the operator itself makes it."""


def unify_roles(
    facts: Facts,
    entries: Sequence[tuple[np.ndarray, int]],
    space: Sequence[int],
    gone: set[int],
    over: set[int],
) -> list[np.ndarray]:
    """Tie the roles that meet in one operator.

    Args:
        facts: where the statements are kept.
        entries: roles over the axes of an equation, each with the operand that it comes from.
        space: the size of every axis.
        gone: the axes that the result does not have.
        over: the axes that a normalisation reduces.

    Returns:
        The roles of the result, over the axes of the equation.
    """
    groups: dict[Axes, list[tuple[np.ndarray, int]]] = {}
    for role, operand in entries:
        if role.size > 1:
            axes = find_varying_axes(role)
            groups.setdefault(axes, []).append((role, operand))
            if gone & set(axes):
                facts.read.append(role)
    if all(is_address(r) for g in groups.values() for r, _ in g):
        # addresses are never tied: what is left is which axes of the result keep their order
        kept = [r for axes, g in groups.items() if not set(axes) & gone for r, _ in g]
        partial = {a for axes in groups for a in axes if set(axes) & gone and a not in gone}
        return kept + [lay_along(make_addresses(space[a]), a, len(space)) for a in sorted(partial)]
    leaves: Leaves = {}
    origins: dict[Axes, set[int]] = {}
    for axes, group in groups.items():
        leaves[axes] = _tie_roles(facts, [r for r, _ in group])
        origins[axes] = {o for _, o in group}
    _keep_to_crossing_addresses(facts, leaves, gone | over)
    for axes in list(leaves):
        _reduce_roles(facts, leaves, origins, axes, gone, is_contraction=True)
        _reduce_roles(facts, leaves, origins, axes, over, is_contraction=False)
    # a parent that follows from a role of the result need not be a role as well: whoever meets the
    # child meets it, too
    implied = _relate_leaves(facts, leaves, origins, gone)
    kept = [r for axes, roles in leaves.items() if not set(axes) & gone for r in roles]
    return [r for r in kept if not any(r is other for other in implied)]


def _keep_to_crossing_addresses(facts: Facts, leaves: Leaves, reduced: set[int]) -> None:
    """Make labels keep to addresses that cross them along an axis that is reduced.

    A tensor that was joined with itself has one label at several places, which addresses tell from
    each other. Laid out in rows, each row may hold other places of a label: after the sum over the
    row nobody knows which.
    """
    for axes, crossing in itertools.product(list(leaves), list(leaves)):
        if set(crossing) <= set(axes) or not set(axes) & set(crossing) & reduced:
            continue
        for role, mark in itertools.product(leaves[axes], leaves[crossing]):
            if is_address(role) or not is_address(mark):
                continue
            shape = np.broadcast_shapes(role.shape, mark.shape)
            apart = [a for a in crossing if a not in axes]
            rows = make_addresses(math.prod(shape[a] for a in apart))
            rows = rows.reshape([n if a in apart else 1 for a, n in enumerate(shape)])
            told = merge_addresses(_broadcast((mark, rows), shape))
            fix_to_addresses(facts, role, told)


def _reduce_roles(
    facts: Facts,
    leaves: Leaves,
    origins: dict[Axes, set[int]],
    axes: Axes,
    dropped: set[int],
    is_contraction: bool,
) -> None:
    """Add what a reduction along `dropped` leaves of the roles over `axes`: coarser roles."""
    rest = tuple(a for a in axes if a not in dropped)
    if not rest or rest == axes:
        return
    places = [r for met, roles in leaves.items() if set(met) <= set(axes) for r in roles]
    places = [r for r in places if is_address(r)]
    for role in [r for r in leaves[axes] if not is_address(r)]:
        coarse = _coarsen_role(facts, role, rest, places)
        leaves[rest] = _tie_roles(facts, [*leaves.get(rest, []), coarse])
        origins.setdefault(rest, set()).add(DERIVED)
    # of addresses alone there is no parent to make: each axis that is left keeps its order
    if is_contraction and all(is_address(r) for r in leaves[axes]):
        first = leaves[axes][0]
        for a in rest:
            mark = lay_along(make_addresses(first.shape[a]), a, first.ndim)
            leaves[(a,)] = _tie_roles(facts, [*leaves.get((a,), []), mark])
            origins.setdefault((a,), set()).add(DERIVED)


def _relate_leaves(
    facts: Facts, leaves: Leaves, origins: dict[Axes, set[int]], gone: set[int]
) -> list[np.ndarray]:
    """Relate roles that share axes, and return the parents that follow from kept children."""
    pairs = [
        (a, b) for a, b in itertools.combinations(sorted(leaves, key=len), 2) if set(a) & set(b)
    ]
    # what comes from one operand was related when it met, or lies along coordinates of its own
    pairs = [(a, b) for a, b in pairs if origins[a] != origins[b] or len(origins[a]) > 1]
    nested = [(a, b) for a, b in pairs if set(a) < set(b)]
    implied = []
    # labels first: what they have in common may need labels of its own, which then keep to the
    # addresses
    for addressed, (small, large) in itertools.product((False, True), nested):
        found = _nest_roles(facts, leaves, large, small, addressed)
        implied += found if not set(large) & gone else []
    for small, large in pairs:
        if (small, large) not in nested:
            common = tuple(sorted(set(small) & set(large)))
            _relate_crossing(facts, leaves[large] + leaves[small], common)
    return implied


def _tie_roles(facts: Facts, roles: list[np.ndarray]) -> list[np.ndarray]:
    """Tie roles over the same axes.

    Returns:
        The finest role, and at most one role of addresses that it does not settle.
    """
    distinct: list[np.ndarray] = []
    for role in roles:
        if not any(role is d or np.array_equal(role, d) for d in distinct):
            distinct.append(role)
    if len(distinct) == 1:
        return distinct
    # runs hold no address and no label twice, so that each is as fine as the other
    if all(find_run_start(r) is not None for r in distinct):
        for other in distinct[1:]:
            facts.tie_labels(distinct[0], other)
        return distinct[:1]
    if all(is_address(r) for r in distinct):
        return distinct
    return _tie_distinct_roles(facts, distinct)


def _tie_distinct_roles(facts: Facts, distinct: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Tie roles of which some are no runs; the finest gets the others as parents."""
    named = [r for r in distinct if not is_address(r)]
    fixed = [r for r in distinct if is_address(r)]
    parts = [number_classes(r) for r in named]
    finest = next((i for i, p in enumerate(parts) if all(is_refinement(p, q) for q in parts)), None)
    if finest is None:
        # roles that cross: each of their elements gets a label, which lies below all of them
        role = facts.make_labels(named[0].shape)
        for other in distinct:
            facts.relate_labels(role, other)
        return [role]
    role, part = named[finest], parts[finest]
    for other, coarse in zip(named, parts, strict=True):
        if other is not role:
            if is_refinement(coarse, part):
                facts.tie_labels(role, other)
            else:
                facts.relate_labels(role, other)
    return [role, *_settle_addresses(facts, role, part, fixed)]


def _settle_addresses(
    facts: Facts, role: np.ndarray, part: np.ndarray, fixed: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Pin or relate a role to the addresses over its axes, and return at most one role of them.

    The one returned is not settled: its addresses are finer than the labels, or cross them.
    """
    left = []
    for mark in fixed:
        places = number_classes(mark)
        if is_refinement(places, part):
            facts.pin_labels(role)
            left += [mark] if not is_refinement(part, places) else []
        elif is_refinement(part, places):
            facts.relate_labels(role, mark)
        else:
            left.append(mark)
    if len(left) > 1:
        facts.pin_labels(role, "two orders of positions")
    return [merge_addresses(left)] if left else []


def _coarsen_role(
    facts: Facts, role: np.ndarray, rest: Axes, marks: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """Make a coarser role over the axes `rest`: the parent of `role`, or of one finer than it.

    Args:
        facts: where the statements are kept.
        role: labels.
        rest: the axes that are left.
        marks: roles of addresses that broadcast against the labels. They tell the places of one
            label from each other.
    """
    shape = [n if a in rest else 1 for a, n in enumerate(role.shape)]
    coarse = facts.make_labels(shape)
    if facts.try_relate_labels(role, coarse):
        return coarse
    # a label that stands at several places of the rest has no one parent there. Where labels and
    # places fall into blocks, and all labels of a block stand alike at each place of it, a parent
    # for every block will do
    child = number_classes(role)
    place = np.broadcast_to(coarse - coarse.min(), role.shape).ravel()
    size, count = coarse.size, int(child.max()) + 1
    group = find_components(place, child + size, size + count)
    told = merge_addresses([np.zeros(role.shape, np.int64) - 1, *_broadcast(marks, role.shape)])
    if _stand_alike(child, place, told.ravel(), group[:size]):
        group = group[:size]
        shared = coarse.ravel()[np.unique(group, return_index=True)[1][group]].reshape(shape)
        facts.relate_labels(role, shared)
        return shared
    finer = facts.make_labels(role.shape)
    for parent in (role, coarse, told):
        facts.relate_labels(finer, parent)
    return coarse


def _broadcast(roles: Sequence[np.ndarray], shape: tuple[int, ...]) -> list[np.ndarray]:
    """Lay roles out over all elements of a shape."""
    return [np.broadcast_to(r, shape) for r in roles]


def _stand_alike(child: np.ndarray, place: np.ndarray, told: np.ndarray, group: np.ndarray) -> bool:
    """Tell whether all labels of a block stand equally often, and alike, at each place of it.

    Args:
        child: int64 [elements], the label of each element, from 0 on.
        place: int64 [elements], its place, from 0 on.
        told: int64 [elements], addresses that tell elements of one label from each other.
        group: int64 [places], the block of each place.
    """
    kinds = np.unique(told, return_inverse=True)[1].ravel()
    # how many elements of each kind a label has at a place; all labels of a block have as many
    met, times = np.unique(np.stack([place, kinds, child]), axis=1, return_counts=True)
    labels = np.bincount(np.unique(np.stack([child, group[place]]), axis=1)[1])
    cells, first, found = np.unique(met[:2], axis=1, return_index=True, return_inverse=True)[:3]
    found = found.ravel()
    is_even = bool((times == times[first][found]).all())
    return is_even and bool((np.bincount(found) == labels[group[cells[0]]]).all())


def fix_to_addresses(facts: Facts, role: np.ndarray, addresses: np.ndarray) -> None:
    """Make the labels of a role keep to the addresses at which they stand.

    Labels that stand at the same set of addresses may still change places with each other.

    Args:
        facts: where the statement is kept.
        role: labels.
        addresses: a role of addresses that broadcasts against it.
    """
    labels, child = np.unique(role, return_inverse=True)
    child, mark = (x.ravel() for x in np.broadcast_arrays(child.reshape(role.shape), addresses))
    pairs = np.unique(np.stack([child, mark]), axis=1)
    start = np.flatnonzero(np.r_[True, np.diff(pairs[0]) != 0])
    kinds: dict[bytes, int] = {}
    sets = [
        kinds.setdefault(places.tobytes(), len(kinds)) for places in np.split(pairs[1], start[1:])
    ]
    facts.relate_labels(labels, -1 - np.array(sets))


def _nest_roles(
    facts: Facts, leaves: Leaves, large: Axes, small: Axes, addressed: bool
) -> list[np.ndarray]:
    """Make roles over fewer axes the parents of those over more.

    Args:
        facts: where the statements are kept.
        leaves: the roles by their axes; a child may be replaced by a finer one.
        large: the axes of the children.
        small: the axes of the parents.
        addressed: whether the parents to relate are those of addresses, or those of labels.

    Returns:
        The parents that follow from their children. An address does not follow from a label that
        stands at several.
    """
    implied = []
    for parent in leaves[small]:
        if is_address(parent) != addressed:
            continue
        follows = True
        for i, child in enumerate(leaves[large]):
            # two addresses have nothing to say of each other; an address below labels pins them
            if (is_address(child) and addressed) or facts.try_relate_labels(child, parent):
                follows &= not is_address(child)
            elif addressed:
                fix_to_addresses(facts, child, parent)
                follows = False
            else:
                finer = facts.make_labels(child.shape)
                facts.relate_labels(finer, child)
                facts.relate_labels(finer, parent)
                leaves[large][i] = finer
        if follows:
            implied.append(parent)
    return implied


def _relate_crossing(facts: Facts, roles: Sequence[np.ndarray], common: Axes) -> None:
    """Give roles that cross a common parent over the axes that they share."""
    role = next((r for r in roles if not is_address(r)), None)
    if role is None:
        # addresses that cross say nothing of labels
        return
    others = [r for r in roles if r is not role]
    for other in others:
        if is_address(other):
            space = [
                n if a in common else 1
                for a, n in enumerate(np.broadcast_shapes(role.shape, other.shape))
            ]
            fix_to_addresses(facts, role, make_addresses(math.prod(space)).reshape(space))
    if not all(is_address(o) for o in others):
        coarse = _coarsen_role(facts, role, common)
        for other in others:
            if not is_address(other):
                _tie_or_nest(facts, _coarsen_role(facts, other, common), coarse)


def _tie_or_nest(facts: Facts, a: np.ndarray, b: np.ndarray) -> None:
    """Tie two roles over the same axes; where one refines the other, it is the other's child."""
    one, two = number_classes(a), number_classes(b)
    # they divide the elements alike, or they cross; tied labels that cross are merged further by
    # the closure
    if is_refinement(one, two) == is_refinement(two, one):
        facts.tie_labels(a, b)
    elif is_refinement(one, two):
        facts.relate_labels(a, b)
    else:
        facts.relate_labels(b, a)
