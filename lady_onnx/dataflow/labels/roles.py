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
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

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
        """The run as a role.

        >>> LabelRun(5, 3, axis=1, rank=2).to_array()
        array([[5, 6, 7]])
        """
        return lay_along(np.arange(self.start, self.start + self.size), self.axis, self.rank)


Role = np.ndarray | LabelRun
RolePair = tuple[np.ndarray, np.ndarray] | tuple[LabelRun, LabelRun]


def to_dense(role: Role) -> np.ndarray:
    """The role as an array."""
    return role.to_array() if isinstance(role, LabelRun) else role


def make_addresses(size: int) -> np.ndarray:
    """The addresses of the positions of an axis.

    >>> make_addresses(3)
    array([-1, -2, -3])
    """
    return -1 - np.arange(size)


def find_varying_axes(role: np.ndarray) -> tuple[int, ...]:
    """The axes that a role depends on: those of more than one element."""
    return _find_long_axes(role.shape)


@functools.lru_cache(maxsize=1 << 12)
def _find_long_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(i for i, n in enumerate(shape) if n > 1)


def lay_along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """A one-dimensional array as a role of `rank` axes along `axis`."""
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


def drop_constant_axes(role: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """The role with size 1 along those of `axes` on which it does not depend."""
    for axis in axes:
        if role.shape[axis] > 1:
            first = role.take([0], axis)
            if (role == first).all():
                role = first
    return role


def is_address(role: np.ndarray) -> bool:
    """Are all elements of the role addresses? An empty role counts as addresses."""
    return not role.size or (role.item(0) < 0 and bool((role < 0).all()))


def find_run_start(labels: np.ndarray) -> int | None:
    """The first of labels that are consecutive, in row-major order; None where they are not.

    >>> find_run_start(np.array([4, 5, 6])), find_run_start(np.array([4, 6, 5]))
    (4, None)
    """
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
    """The elements of a role as numbers from 0 on, equal where their labels are equal.

    >>> number_classes(np.array([7, 3, 7]))
    array([1, 0, 1])
    """
    flat = role.ravel()
    start = find_run_start(flat)
    if start is not None:
        return flat - start
    return np.unique(flat, return_inverse=True)[1].ravel()


def is_refinement(fine: np.ndarray, coarse: np.ndarray) -> bool:
    """Are elements that are equal in the partition `fine` always equal in `coarse`?

    Args:
        fine: int64 [elements], numbers of classes from 0 on.
        coarse: int64 [elements].
    """
    first = np.zeros(int(fine.max()) + 1, np.int64)
    first[fine] = coarse
    return bool((first[fine] == coarse).all())


def reshape_role(role: np.ndarray, before: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """A role over a tensor of shape `before`, over the tensor's row-major reshape to `after`.

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
    """The shortest ranges of axes of two shapes that hold the same elements, from the front."""
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
        while i < len(before) and before[i] == 1:
            i += 1
        while j < len(after) and after[j] == 1:
            j += 1
        yield (i0, i), (j0, j)


def sort_distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values, sorted: what `np.unique` gives.

    It is much faster than `np.unique` where there are many values, or where they are in order.
    """
    flat = values.ravel()
    if (flat[1:] > flat[:-1]).all():
        return flat
    flat = np.sort(flat)
    return flat[np.r_[True, flat[1:] != flat[:-1]]]


def find_components(a: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    """The connected component of each of `size` points that the pairs `(a, b)` join.

    >>> find_components(np.array([0, 3]), np.array([2, 1]), 4)
    array([0, 1, 0, 1])
    """
    graph = coo_array((np.ones(a.size, np.int8), (a, b)), shape=(size, size))
    return connected_components(graph, directed=False)[1].astype(np.int64)
