"""Roles: arrays that give every element of a tensor its label, and what is asked of such arrays.

A *role* is an integer array that broadcasts over a tensor. It has size 1 along every axis that the
labels do not depend on. Labels of zero and more stand for units. Negative ones are *addresses*:
positions that keep their order, such as those of batch, space and time. This module has no state;
the facts about labels are in `facts`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

UNREAD_LABEL = np.iinfo(np.int64).min
"""Stands in a role of a weight where nothing has met the element yet."""
ADDRESSES = -1
"""Stands for the first label of a run where the run is the addresses of an axis, from its front."""


class LabelRun(NamedTuple):
    """Consecutive labels along one axis of a tensor. Most roles are such runs and need no array.

    Attributes:
        start: the first label.
        size: how many labels there are.
        axis: the axis along which they lie.
        rank: the number of axes of the tensor.
    """

    start: int
    size: int
    axis: int = 0
    rank: int = 1

    def to_array(self) -> np.ndarray:
        """Return the run as a role.

        >>> LabelRun(5, 3, axis=1, rank=2).to_array()
        array([[5, 6, 7]])
        """
        return lay_along(np.arange(self.start, self.start + self.size), self.axis, self.rank)


Role = np.ndarray | LabelRun
RolePair = tuple[np.ndarray, np.ndarray] | tuple[LabelRun, LabelRun]


def to_dense(role: Role) -> np.ndarray:
    """Return the role as an array."""
    return role.to_array() if isinstance(role, LabelRun) else role


def make_addresses(size: int) -> np.ndarray:
    """Make the addresses of the positions of an axis, int64 [size].

    >>> make_addresses(3)
    array([-1, -2, -3])
    """
    return -1 - np.arange(size)


def find_varying_axes(role: np.ndarray) -> tuple[int, ...]:
    """Find the axes that a role depends on: those of more than one element."""
    return _find_long_axes(role.shape)


# asked for nearly every role of every node, and always of the same few shapes
@functools.lru_cache(maxsize=1 << 12)
def _find_long_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(i for i, n in enumerate(shape) if n > 1)


def lay_along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """Lay a one-dimensional array along `axis` of a role of `rank` axes."""
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


def drop_constant_axes(role: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Return the role with size 1 along those of `axes` on which it does not depend."""
    for axis in axes:
        if role.shape[axis] > 1:
            first = role.take([0], axis)
            if (role == first).all():
                role = first
    return role


def is_address(role: np.ndarray) -> bool:
    """Tell whether all elements of a role are addresses; an empty role counts as addresses."""
    # the first element settles most roles, without a pass over all of them
    return not role.size or (role.item(0) < 0 and bool((role < 0).all()))


def merge_addresses(roles: Sequence[np.ndarray]) -> np.ndarray:
    """Merge roles of addresses over the same axes: one that tells apart what any of them does."""
    if len(roles) == 1:
        return roles[0]
    number = np.zeros(roles[0].size, np.int64)
    # pairs are numbered anew after each role, so that their codes stay below the square of the size
    for role in roles:
        both = number * role.size + np.searchsorted(sort_distinct(role), role.ravel())
        number = np.searchsorted(sort_distinct(both), both)
    return (-1 - number).reshape(roles[0].shape)


def find_run_start(labels: np.ndarray) -> int | None:
    """Find the first of labels that are consecutive, in row-major order; None where they are not.

    >>> find_run_start(np.array([4, 5, 6])), find_run_start(np.array([4, 6, 5]))
    (4, None)
    """
    flat = labels.ravel()
    # cheap tests first: the ends settle most arrays that are no runs
    if (
        not flat.size
        or flat[0] < 0
        or flat[-1] - flat[0] != flat.size - 1
        or (flat[1:] - flat[:-1] != 1).any()
    ):
        return None
    return int(flat[0])


def number_classes(role: np.ndarray) -> np.ndarray:
    """Number the elements of a role from 0 on, alike where their labels are equal.

    >>> number_classes(np.array([7, 3, 7]))
    array([1, 0, 1])
    """
    flat = role.ravel()
    start = find_run_start(flat)
    if start is not None:
        return flat - start
    return np.unique(flat, return_inverse=True)[1].ravel()


def is_refinement(fine: np.ndarray, coarse: np.ndarray) -> bool:
    """Tell whether elements that are equal in the partition `fine` are always equal in `coarse`.

    Args:
        fine: int64 [elements], numbers of classes from 0 on.
        coarse: int64 [elements].
    """
    # of all elements of a class the last one is written; all others must agree with it
    first = np.zeros(int(fine.max()) + 1, np.int64)
    first[fine] = coarse
    return bool((first[fine] == coarse).all())


def reshape_role(role: np.ndarray, before: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """Carry a role over a tensor of shape `before` to the tensor's row-major reshape to `after`.

    Only axes that are joined with others, or split into others, are written out in full: a role
    stays of size one along the rest.

    Raises:
        ValueError: the shapes have different numbers of elements.
    """
    out: list[int] = []
    dims: list[int] = []
    split_axes: list[int] = []
    for (i0, i), (j0, j) in _match_axes(before, after):
        if all(d == 1 for d in role.shape[i0:i]):
            dims += [1] * (i - i0)
            out += [1] * (j - j0)
        else:
            dims += list(before[i0:i])
            out += list(after[j0:j])
            if j - j0 > 1:
                split_axes += range(j0, j)
    return drop_constant_axes(np.broadcast_to(role, dims).reshape(out), split_axes)


def _match_axes(
    before: Sequence[int], after: Sequence[int]
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the shortest ranges of axes of two shapes that hold the same elements, in order."""
    i = j = 0
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
        # axes of one go with the range before them: one shape may have more of these than the other
        while i < len(before) and before[i] == 1:
            i += 1
        while j < len(after) and after[j] == 1:
            j += 1
        yield (i0, i), (j0, j)


def sort_distinct(values: np.ndarray) -> np.ndarray:
    """Return the distinct values, sorted: what `np.unique` gives.

    It is much faster than `np.unique` where there are many values, or where they are in order; in
    order, the result shares the memory of `values`.
    """
    flat = values.ravel()
    if (flat[1:] > flat[:-1]).all():
        return flat
    flat = np.sort(flat)
    return flat[np.r_[True, flat[1:] != flat[:-1]]]


def find_components(a: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    """Number the connected component of each of `size` points that the pairs `(a, b)` join.

    Args:
        a, b: int64 [pairs], points from 0 on.
        size: the number of points.

    Returns:
        int64 [size], from 0 on without a gap.

    >>> find_components(np.array([0, 3]), np.array([2, 1]), 4)
    array([0, 1, 0, 1])
    """
    # As fast as scipy's sparse graphs, which take a quarter of a second to load: as long as the
    # analysis of a large model. Every point goes by the lowest point that it is known to be joined
    # with; in each turn at least half of the points that others go by, and that a pair joins with
    # others, come to go by lower ones themselves.
    lowest = np.arange(size)
    while True:
        ours, theirs = lowest[a], lowest[b]
        apart = ours != theirs
        if not apart.any():
            return np.unique(lowest, return_inverse=True)[1].astype(np.int64)
        a, b, ours, theirs = a[apart], b[apart], ours[apart], theirs[apart]
        low = np.minimum(ours, theirs)
        np.minimum.at(lowest, ours, low)
        np.minimum.at(lowest, theirs, low)
        while not np.array_equal(lower := lowest[lowest], lowest):
            lowest = lower
