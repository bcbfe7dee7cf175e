"""What operators say about the roles that meet in them: which are tied, and which contain which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .labels import Facts, addresses, along, axes_of, components, is_address, partition, refines

Leaves = dict[tuple[int, ...], list[np.ndarray]]
"""For every set of axes of an equation the roles over it: the finest one, and addresses."""


class Ties:
    """Ties roles over the axes of one operator, and writes what that amounts to into `facts`."""

    def __init__(self, facts: Facts):
        self.facts = facts

    def combine(
        self, entries: Sequence[tuple[np.ndarray, int]], space: Sequence[int], gone: set[int], over: set[int]
    ) -> list[np.ndarray]:
        """Ties the roles that meet in one operator; returns the roles of its result.

        `entries` are roles over the axes of an equation, with the operand that each comes from;
        `gone` are the axes that the result has not, `over` those that a normalisation reduces.
        """
        groups: dict[tuple[int, ...], list[tuple[np.ndarray, int]]] = {}
        for role, operand in entries:
            if role.size > 1:
                axes = axes_of(role)
                groups.setdefault(axes, []).append((role, operand))
                if gone & set(axes):
                    self.facts.read.append(role)
        if all(is_address(r) for g in groups.values() for r, _ in g):
            kept = [r for axes, g in groups.items() if not set(axes) & gone for r, _ in g]
            partial = [a for axes in groups for a in axes if set(axes) & gone and a not in gone]
            rank = len(space)
            return kept + [along(addresses(space[a]), a, rank) for a in sorted(set(partial))]
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
                            mark = along(addresses(leaves[axes][0].shape[a]), a, leaves[axes][0].ndim)
                            leaves[(a,)] = self._join([*leaves.get((a,), []), mark])
                            origins.setdefault((a,), set()).add(-1)
        spans = sorted(leaves, key=len)
        for i, small in enumerate(spans):
            for large in spans[i + 1 :]:
                common = set(small) & set(large)
                if not common or (origins[small] == origins[large] and len(origins[small]) == 1):
                    continue
                if common == set(small):
                    self._nest(leaves, large, small)
                else:
                    self._overlap(leaves, large, small, tuple(sorted(common)))
        out: list[np.ndarray] = []
        for axes in sorted(leaves, key=len, reverse=True):
            if not set(axes) & gone and not any(set(axes) < set(axes_of(r)) and not is_address(r) for r in out):
                out += leaves[axes]
        return out

    def _join(self, roles: list[np.ndarray]) -> list[np.ndarray]:
        """Ties roles over the same axes; returns the finest one, and the addresses that it does not settle."""
        distinct: list[np.ndarray] = []
        for role in roles:
            if not any(role is d or np.array_equal(role, d) for d in distinct):
                distinct.append(role)
        named = [r for r in distinct if not is_address(r)]
        fixed = [r for r in distinct if is_address(r)]
        if not named:
            return fixed
        parts = [partition(r) for r in named]
        leaf = next((i for i, p in enumerate(parts) if all(refines(p, q) for q in parts)), None)
        if leaf is None:
            role = self.facts.fresh(named[0].shape)
            for other in distinct:
                self.facts.relate(role, other)
            return [role]
        role, part = named[leaf], parts[leaf]
        for other, coarse in zip(named, parts, strict=True):
            if other is not role:
                if refines(coarse, part):
                    self.facts.tie(role, other)
                else:
                    self.facts.relate(role, other)
        left = []
        for mark in fixed:
            places = partition(mark)
            if refines(places, part):
                self.facts.pin(role)
            elif refines(part, places):
                self.facts.relate(role, mark)
            else:
                left.append(mark)
        if len(left) > 1:
            self.facts.pin(role, "two orders of positions")
        return [role, *left[:1]]

    def remainder(self, role: np.ndarray, rest: tuple[int, ...]) -> np.ndarray:
        """A coarser role over the axes `rest`, the parent of `role`."""
        shape = [n if a in rest else 1 for a, n in enumerate(role.shape)]
        coarse = self.facts.fresh(shape)
        if self.facts.can_relate(role, coarse):
            return coarse
        # one label stands at several places of the rest: those places share one parent
        child = partition(role)
        place = np.broadcast_to(coarse - coarse.min(), role.shape).ravel()
        size = coarse.size
        group = components(place, child + size, size + int(child.max()) + 1)[:size]
        shared = coarse.ravel()[np.unique(group, return_index=True)[1][group]].reshape(shape)
        self.facts.relate(role, shared)
        return shared

    def _nest(self, leaves: Leaves, large: tuple[int, ...], small: tuple[int, ...]) -> None:
        """Roles over more axes have those over fewer as parents."""
        for parent in leaves[small]:
            children = leaves[large]
            for i, child in enumerate(children):
                if is_address(child) and is_address(parent):
                    continue
                if not self.facts.can_relate(child, parent):
                    finer = self.facts.fresh(child.shape)
                    self.facts.relate(finer, child)
                    self.facts.relate(finer, parent)
                    children[i] = finer

    def _overlap(self, leaves: Leaves, large: tuple[int, ...], small: tuple[int, ...], common: tuple[int, ...]) -> None:
        """Roles that share some axes and neither all: both get a parent over the shared ones."""
        both = leaves[large] + leaves[small]
        named = [r for r in both if not is_address(r)]
        if not named:
            return
        for role in named:
            coarse = self.remainder(role, common)
            for other in both:
                if other is not role and is_address(other):
                    self.facts.pin(coarse)
                elif other is not role:
                    self.facts.tie(self.remainder(other, common), coarse)
            break
