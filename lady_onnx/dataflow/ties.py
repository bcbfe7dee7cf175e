"""What operators say about the roles that meet in them: which are tied, and which contain which."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from .labels import (
    Facts,
    find_components,
    find_run_start,
    find_varying_axes,
    is_address,
    is_refinement,
    lay_along,
    make_addresses,
    number_classes,
)

Leaves = dict[tuple[int, ...], list[np.ndarray]]
"""For every set of axes of an equation the roles over it: the finest one, and addresses."""


class Unification:
    """Ties roles over the axes of one operator, and writes what that amounts to into `facts`."""

    def __init__(self, facts: Facts):
        self.facts = facts

    def combine(
        self,
        entries: Sequence[tuple[np.ndarray, int]],
        space: Sequence[int],
        gone: set[int],
        over: set[int],
    ) -> list[np.ndarray]:
        """Ties the roles that meet in one operator; returns the roles of its result.

        `entries` are roles over the axes of an equation, with the operand that each comes from;
        `gone` are the axes that the result has not, `over` those that a normalisation reduces.
        """
        groups: dict[tuple[int, ...], list[tuple[np.ndarray, int]]] = {}
        for role, operand in entries:
            if role.size > 1:
                axes = find_varying_axes(role)
                groups.setdefault(axes, []).append((role, operand))
                if gone & set(axes):
                    self.facts.read.append(role)
        if all(is_address(r) for g in groups.values() for r, _ in g):
            kept = [r for axes, g in groups.items() if not set(axes) & gone for r, _ in g]
            partial = [a for axes in groups for a in axes if set(axes) & gone and a not in gone]
            rank = len(space)
            return kept + [
                lay_along(make_addresses(space[a]), a, rank) for a in sorted(set(partial))
            ]
        leaves: Leaves = {}
        origins: dict[tuple[int, ...], set[int]] = {}
        for axes, group in groups.items():
            leaves[axes] = self._join([r for r, _ in group])
            origins[axes] = {o for _, o in group}
        for axes in list(leaves):
            for dropped in (gone, over):
                rest = tuple(a for a in axes if a not in dropped)
                if rest and rest != axes:
                    for role in [r for r in leaves[axes] if not is_address(r)]:
                        coarse = self.remainder(role, rest)
                        old = leaves.get(rest, [])
                        leaves[rest] = self._join([*old, coarse])
                        origins.setdefault(rest, set()).add(-1)
                    if dropped is gone and all(is_address(r) for r in leaves[axes]):
                        for a in rest:
                            mark = lay_along(
                                make_addresses(leaves[axes][0].shape[a]), a, leaves[axes][0].ndim
                            )
                            leaves[(a,)] = self._join([*leaves.get((a,), []), mark])
                            origins.setdefault((a,), set()).add(-1)
        pairs = [
            (a, b) for a, b in itertools.combinations(sorted(leaves, key=len), 2) if set(a) & set(b)
        ]
        # what comes from one operand was related when it met, or lies along coordinates of its own
        pairs = [(a, b) for a, b in pairs if origins[a] != origins[b] or len(origins[a]) > 1]
        nested = [(a, b) for a, b in pairs if set(a) < set(b)]
        implied = []
        # labels first: what they have in common may need labels of its own, which then keep to the addresses
        for marks, (small, large) in itertools.product((False, True), nested):
            found = self._nest(leaves, large, small, marks)
            implied += found if not set(large) & gone else []
        for small, large in pairs:
            if (small, large) not in nested:
                self._overlap(leaves, large, small, tuple(sorted(set(small) & set(large))))
        kept = [r for axes, roles in leaves.items() if not set(axes) & gone for r in roles]
        return [r for r in kept if not any(r is other for other in implied)]

    def _join(self, roles: list[np.ndarray]) -> list[np.ndarray]:
        """Ties roles over the same axes; returns the finest one, and the addresses that it does not settle."""
        distinct: list[np.ndarray] = []
        for role in roles:
            if not any(role is d or np.array_equal(role, d) for d in distinct):
                distinct.append(role)
        if len(distinct) == 1:
            return distinct
        if all(find_run_start(r) is not None for r in distinct):
            for other in distinct[1:]:
                self.facts.tie(distinct[0], other)
            return distinct[:1]
        named = [r for r in distinct if not is_address(r)]
        fixed = [r for r in distinct if is_address(r)]
        if not named:
            return fixed
        parts = [number_classes(r) for r in named]
        leaf = next(
            (i for i, p in enumerate(parts) if all(is_refinement(p, q) for q in parts)), None
        )
        if leaf is None:
            role = self.facts.fresh(named[0].shape)
            for other in distinct:
                self.facts.relate(role, other)
            return [role]
        role, part = named[leaf], parts[leaf]
        for other, coarse in zip(named, parts, strict=True):
            if other is not role:
                if is_refinement(coarse, part):
                    self.facts.tie(role, other)
                else:
                    self.facts.relate(role, other)
        left = []
        for mark in fixed:
            places = number_classes(mark)
            if is_refinement(places, part):
                self.facts.pin(role)
                left += [mark] if not is_refinement(part, places) else []
            elif is_refinement(part, places):
                self.facts.relate(role, mark)
            else:
                left.append(mark)
        if len(left) > 1:
            self.facts.pin(role, "two orders of positions")
        return [role, *left[:1]]

    def remainder(self, role: np.ndarray, rest: tuple[int, ...]) -> np.ndarray:
        """A coarser role over the axes `rest`, the parent of `role`, or of a finer one."""
        shape = [n if a in rest else 1 for a, n in enumerate(role.shape)]
        coarse = self.facts.fresh(shape)
        if self.facts.can_relate(role, coarse):
            return coarse
        # one label stands at several places of the rest: where it is the same places for all that meet in one,
        # those places share a parent
        child = number_classes(role)
        place = np.broadcast_to(coarse - coarse.min(), role.shape).ravel()
        size, count = coarse.size, int(child.max()) + 1
        group = find_components(place, child + size, size + count)
        stands = np.bincount(np.unique(np.stack([child, place]), axis=1)[0], minlength=count)
        if (stands == np.bincount(group[:size])[group[size:]]).all():
            group = group[:size]
            shared = coarse.ravel()[np.unique(group, return_index=True)[1][group]].reshape(shape)
            self.facts.relate(role, shared)
            return shared
        finer = self.facts.fresh(role.shape)
        self.facts.relate(finer, role)
        self.facts.relate(finer, coarse)
        return coarse

    def fix(self, role: np.ndarray, marks: np.ndarray) -> None:
        """The labels of `role` keep to the addresses at which they stand: labels of one set of them may change places."""
        labels, child = np.unique(role, return_inverse=True)
        child, mark = (x.ravel() for x in np.broadcast_arrays(child.reshape(role.shape), marks))
        pairs = np.unique(np.stack([child, mark]), axis=1)
        start = np.flatnonzero(np.r_[True, np.diff(pairs[0]) != 0])
        kinds: dict[bytes, int] = {}
        sets = [
            kinds.setdefault(places.tobytes(), len(kinds))
            for places in np.split(pairs[1], start[1:])
        ]
        self.facts.relate(labels, -1 - np.array(sets))

    def _nest(
        self, leaves: Leaves, large: tuple[int, ...], small: tuple[int, ...], marks: bool
    ) -> list[np.ndarray]:
        """Roles over more axes have those over fewer as parents, addresses if `marks`, else labels.

        Returns the parents that follow from the children. An address does not where a label stands at several.
        """
        implied = []
        for parent in leaves[small]:
            if is_address(parent) != marks:
                continue
            follows = True
            for i, child in enumerate(leaves[large]):
                if (is_address(child) and marks) or self.facts.can_relate(child, parent):
                    follows &= not is_address(child)
                elif marks:
                    self.fix(child, parent)
                    follows = False
                else:
                    finer = self.facts.fresh(child.shape)
                    self.facts.relate(finer, child)
                    self.facts.relate(finer, parent)
                    leaves[large][i] = finer
            if follows:
                implied.append(parent)
        return implied

    def _overlap(
        self,
        leaves: Leaves,
        large: tuple[int, ...],
        small: tuple[int, ...],
        common: tuple[int, ...],
    ) -> None:
        """Roles that share some axes and neither all: both get a parent over the shared ones."""
        both = leaves[large] + leaves[small]
        named = [r for r in both if not is_address(r)]
        if not named:
            return
        for role in named:
            others = [r for r in both if r is not role]
            for other in others:
                if is_address(other):
                    space = [
                        n if a in common else 1
                        for a, n in enumerate(np.broadcast_shapes(role.shape, other.shape))
                    ]
                    self.fix(role, make_addresses(math.prod(space)).reshape(space))
            if not all(is_address(o) for o in others):
                coarse = self.remainder(role, common)
                for other in others:
                    if not is_address(other):
                        self._meet(self.remainder(other, common), coarse)
            break

    def _meet(self, a: np.ndarray, b: np.ndarray) -> None:
        """Ties two roles over the same axes, or makes one the parent of the other where a label of it stands at more places."""
        one, two = number_classes(a), number_classes(b)
        if is_refinement(one, two) == is_refinement(two, one):
            self.facts.tie(a, b)
        elif is_refinement(one, two):
            self.facts.relate(a, b)
        else:
            self.facts.relate(b, a)
