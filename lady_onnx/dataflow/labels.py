"""Labels: what is known about the order of the elements of every axis.

A *role* is an integer array that broadcasts over a tensor: the label of each element, of size 1 along
the axes that it does not depend on. Labels of zero and more stand for units; negative ones are
*addresses*, positions that keep their order (batch, space, time). Everything that an operator says is
one of five facts: labels are born, two are equal, one has another as its parent, one is pinned, some of those that were
born together are touched.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..errors import UnknownStructure

MOST = 1 << 18
"""Elements along several axes that have one order of their own for all of them; each takes a kilobyte on the way."""
UNREAD_LABEL = np.iinfo(np.int64).min
ADDRESSES = -1
"""In place of a line's first label: the addresses of an axis, from its front."""


class LabelRun(NamedTuple):
    """Labels that follow each other along one axis of a tensor: what most roles are, without an array."""

    start: int
    size: int
    axis: int = 0
    rank: int = 1

    def array(self) -> np.ndarray:
        return lay_along(np.arange(self.start, self.start + self.size), self.axis, self.rank)


Role = np.ndarray | LabelRun
RolePair = tuple[np.ndarray, np.ndarray] | tuple[LabelRun, LabelRun]


def to_dense(role: Role) -> np.ndarray:
    """A role as an array."""
    return role.array() if isinstance(role, LabelRun) else role


@dataclass
class Facts:
    """Everything that the operators of one graph said, in the order of their nodes."""

    count: int = 0
    births: list[int] = field(default_factory=list)
    """The first label of every birth."""
    equal: list[RolePair] = field(default_factory=list)
    parents: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """Child labels and their parents, one pair of arrays a relation; a parent may be an address."""
    equal_nodes: list[str] = field(default_factory=list)
    parent_nodes: list[str] = field(default_factory=list)
    """The nodes that said so."""
    pins: list[tuple[Role, str, str]] = field(default_factory=list)
    """Pinned labels, the reason, and the node that gave it."""

    read: list[Role] = field(default_factory=list)
    """Labels of axes that an operator contracts or pins: what has been read. Others are computed in vain."""
    touched: list[tuple[int, Role]] = field(default_factory=list)
    """What an operator does, as a number, and the labels that it does it to, where others were born with them."""
    node: str = ""
    """The node that speaks."""
    reason: str = "position"
    """Why the addresses that it meets keep their order."""

    def fresh(self, shape: Sequence[int]) -> np.ndarray:
        """New labels, all different, as an array of `shape`.

        Raises UnknownStructure where elements along several axes would have too many of their own.
        """
        size = math.prod(shape)
        if size > MOST and sum(n > 1 for n in shape) > 1:
            raise UnknownStructure("more elements along several axes than are followed one by one")
        start = self.born(size)
        return np.arange(start, start + size).reshape(shape)

    def born(self, size: int) -> int:
        """The first of `size` new labels."""
        self.births.append(self.count)
        self.count += size
        return self.count - size

    def tie_lines(self, a: LabelRun, b: LabelRun) -> None:
        """As `tie`."""
        self.equal.append((a, b))
        self.equal_nodes.append(self.node)

    def pin_line(self, line: LabelRun, reason: str) -> None:
        """As `pin`."""
        self.pins.append((line, reason, self.node))

    def tie(self, a: np.ndarray, b: np.ndarray) -> None:
        """The elements of `a` and `b` have the same labels; a label that meets an address is pinned."""
        a, b = a.ravel(), b.ravel()
        both = (a >= 0) & (b >= 0)
        if both.all():
            self.equal.append((a, b))
            self.equal_nodes.append(self.node)
            return
        if both.any():
            self.equal.append((a[both], b[both]))
            self.equal_nodes.append(self.node)
        self.pin(np.concatenate([a[(a >= 0) & ~both], b[(b >= 0) & ~both]]))

    def pin(self, labels: np.ndarray, reason: str = "") -> None:
        """The labels keep their order, for `reason` or, without one, because of the addresses that they meet."""
        labels = labels.ravel()
        labels = labels[labels >= 0]
        if labels.size:
            self.pins.append((labels, reason or self.reason, self.node))

    def relate(self, child: np.ndarray, parent: np.ndarray) -> None:
        """Makes `parent` the parent of `child`, element by element; every child has one."""
        if not self.can_relate(child, parent):
            raise AssertionError(f"{self.node}: a label with two parents of one relation")

    def can_relate(self, child: np.ndarray, parent: np.ndarray) -> bool:
        """As `relate`, but False, and nothing related, where a child has two parents."""
        child, parent = (x.ravel() for x in np.broadcast_arrays(child, parent))
        # an address below a label fixes that label
        fixed = child < 0
        if fixed.any():
            self.pin(parent[fixed])
            child, parent = child[~fixed], parent[~fixed]
        if (child[1:] <= child[:-1]).any():
            order = np.argsort(child, kind="stable")
            child, parent = child[order], parent[order]
            first = np.r_[True, child[1:] != child[:-1]]
            if (parent != parent[first][np.cumsum(first) - 1]).any():
                return False
            child, parent = child[first], parent[first]
        if child.size:
            self.parents.append((child, parent))
            self.parent_nodes.append(self.node)
        return True


def count_occurrences(what: int, labels: Role) -> list[tuple[int, Role]]:
    """What is said of labels, once for all that occur as often: another thing where that is more than once."""
    if isinstance(labels, LabelRun):
        return [(what, labels)]
    found, many = np.unique(labels[labels >= 0], return_counts=True)
    return [(what + n - 1, found[many == n]) for n in np.unique(many).tolist()]


def make_addresses(size: int) -> np.ndarray:
    """The addresses of the positions of an axis."""
    return -1 - np.arange(size)


def find_varying_axes(role: np.ndarray) -> tuple[int, ...]:
    """The axes that a role depends on."""
    return _longer(role.shape)


@functools.lru_cache(maxsize=1 << 12)
def _longer(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(i for i, n in enumerate(shape) if n > 1)


def lay_along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """A one-dimensional array as a role along `axis`."""
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


def drop_constant_axes(role: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """`role` with size 1 along those of `axes` on which it does not depend."""
    for axis in axes:
        if role.shape[axis] > 1:
            first = role.take([0], axis)
            if (role == first).all():
                role = first
    return role


def is_address(role: np.ndarray) -> bool:
    return not role.size or (role.item(0) < 0 and bool((role < 0).all()))


def find_run_start(labels: np.ndarray) -> int | None:
    """The first of labels that follow each other without a gap, else None."""
    flat = labels.ravel()
    if (
        not flat.size
        or flat[0] < 0
        or flat[-1] - flat[0] != flat.size - 1
        or (flat[1:] - flat[:-1] != 1).any()
    ):
        return None
    return int(flat[0])


def number_classes(role: np.ndarray) -> np.ndarray:
    """The elements of a role as numbers from 0, equal where the labels are."""
    flat = role.ravel()
    start = find_run_start(flat)
    if start is not None:
        return flat - start
    return np.unique(flat, return_inverse=True)[1].ravel()


def is_refinement(fine: np.ndarray, coarse: np.ndarray) -> bool:
    """Are elements that are equal in the partition `fine` always equal in `coarse`?"""
    first = np.zeros(int(fine.max()) + 1, np.int64)
    first[fine] = coarse
    return bool((first[fine] == coarse).all())


def reshape_role(role: np.ndarray, before: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """A role over a tensor of shape `before`, over its row-major reshape to `after`."""
    out: list[int] = []
    dims: list[int] = []
    i = j = 0
    touched: list[int] = []
    while i < len(before) or j < len(after):
        i0, j0 = i, j
        m = n = 1
        if i < len(before):
            m, i = before[i], i + 1
        if j < len(after):
            n, j = after[j], j + 1
        while m != n:
            if m < n and i < len(before):
                m, i = m * before[i], i + 1
            elif j < len(after):
                n, j = n * after[j], j + 1
            else:
                raise ValueError(f"cannot reshape {tuple(before)} to {tuple(after)}")
        while i < len(before) and before[i] == 1:
            i += 1
        while j < len(after) and after[j] == 1:
            j += 1
        own = role.shape[i0:i]
        if all(d == 1 for d in own):
            dims += [1] * (i - i0)
            out += [1] * (j - j0)
        else:
            dims += list(before[i0:i])
            out += list(after[j0:j])
            if j - j0 > 1:
                touched += range(j0, j)
    return drop_constant_axes(np.broadcast_to(role, dims).reshape(out), touched)


def sort_distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values, sorted: what `np.unique` gives, and much faster where there are many, or they are in order."""
    flat = values.ravel()
    if (flat[1:] > flat[:-1]).all():
        return flat
    flat = np.sort(flat)
    return flat[np.r_[True, flat[1:] != flat[:-1]]]


def find_components(a: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    """The connected component of each of `size` points that the pairs `(a, b)` join."""
    graph = coo_array((np.ones(a.size, np.int8), (a, b)), shape=(size, size))
    return connected_components(graph, directed=False)[1].astype(np.int64)
