"""What the analysis knows of one tensor, and how its elements move."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import rules
from .labels import (
    ADDRESSES,
    drop_constant_axes,
    find_run_start,
    find_varying_axes,
    is_address,
    lay_along,
    make_addresses,
    reshape_role,
    sort_distinct,
)

Index = tuple[np.ndarray | None, ...]
"""For each axis of a weight the index that an element has there, as a role; None along one on which it is constant."""


class Part:
    """A weight inside a tensor.

    Its index may be given as a function, which is called when it is needed: many weights are read for their values alone.
    `plain`: is it the whole weight, each of its axes along one of the tensor's?
    """

    __slots__ = ("_index", "plain", "weight")

    def __init__(self, weight: str, index: Index | Callable[[], Index], plain: bool = False):
        self.weight, self.plain, self._index = weight, plain, index

    @property
    def index(self) -> Index:
        if not isinstance(self._index, tuple):
            self._index = self._index()
        return self._index


Lines = tuple[int | None, ...]


class Tensor:
    """What is known of one tensor: its shape, its roles, or the weights that it still is.

    `reason` says why its addresses keep their order. Roles may be given as `lines`: for each axis the first of the
    labels that follow each other along it, `ADDRESSES`, or None where the tensor does not depend on the axis.
    """

    __slots__ = ("_lines", "_roles", "parts", "reason", "shape")

    def __init__(
        self,
        shape: tuple[int, ...],
        roles: tuple[np.ndarray, ...] = (),
        parts: tuple[Part, ...] = (),
        reason: str = "position",
        lines: Lines | None = None,
    ):
        self.shape, self.parts, self.reason = shape, parts, reason
        self._roles: tuple[np.ndarray, ...] | None = None if lines is not None else roles
        self._lines: Lines | bool | None = lines

    @property
    def roles(self) -> tuple[np.ndarray, ...]:
        if self._roles is None:
            assert isinstance(self._lines, tuple)
            found = [
                (s, a, n)
                for a, (s, n) in enumerate(zip(self._lines, self.shape, strict=True))
                if s is not None and n > 1
            ]
            found.sort(key=lambda f: f[0] == ADDRESSES)
            rank = len(self.shape)
            self._roles = tuple(
                lay_along(make_addresses(n) if s == ADDRESSES else np.arange(s, s + n), a, rank)
                for s, a, n in found
            )
        return self._roles

    @property
    def labelled(self) -> bool:
        """Has it any role?"""
        if self._roles is not None:
            return bool(self._roles)
        assert isinstance(self._lines, tuple)
        return any(s is not None and n > 1 for s, n in zip(self._lines, self.shape, strict=True))

    @property
    def lines(self) -> Lines | None:
        """The roles as lines, None where they are no such."""
        if self._lines is None:
            self._lines = _lines(self.shape, self.roles)
        return self._lines if isinstance(self._lines, tuple) else None


def _lines(shape: tuple[int, ...], roles: Sequence[np.ndarray]) -> Lines | bool:
    found: list[int | None] = [None] * len(shape)
    for role in roles:
        axes = find_varying_axes(role)
        if len(axes) != 1 or found[axes[0]] is not None:
            return False
        start = find_run_start(role)
        if start is None and not np.array_equal(role.ravel(), make_addresses(role.size)):
            return False
        found[axes[0]] = ADDRESSES if start is None else start
    return tuple(found)


def make_opaque(shape: tuple[int, ...], reason: str = "position") -> Tensor:
    """A tensor whose elements keep their places."""
    return Tensor(
        shape,
        tuple(lay_along(make_addresses(n), a, len(shape)) for a, n in enumerate(shape) if n > 1),
        reason=reason,
    )


def prefix_axes(tensor: Tensor, rank: int) -> Tensor:
    missing = rank - len(tensor.shape)
    if not missing:
        return tensor

    def wide(x: np.ndarray) -> np.ndarray:
        return x.reshape((1,) * missing + x.shape)

    parts = tuple(
        Part(p.weight, tuple(None if i is None else wide(i) for i in p.index), p.plain)
        for p in tensor.parts
    )
    return Tensor(
        (1,) * missing + tensor.shape, tuple(wide(r) for r in tensor.roles), parts, tensor.reason
    )


def move_role(role: np.ndarray, step: rules.Step, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(step, rules.Take):
        return (
            role
            if role.shape[step.axis] == 1
            else drop_constant_axes(role.take(step.index, step.axis), range(role.ndim))
        )
    if isinstance(step, rules.Reshape):
        return reshape_role(role, shape, step.shape)
    if isinstance(step, rules.Transpose):
        return role.transpose(step.order)
    return role.reshape((1,) * (len(step.shape) - role.ndim) + role.shape)


def move_shape(shape: tuple[int, ...], step: rules.Step) -> tuple[int, ...]:
    if isinstance(step, rules.Take):
        return tuple(len(step.index) if a == step.axis else n for a, n in enumerate(shape))
    if isinstance(step, rules.Transpose):
        return tuple(shape[a] for a in step.order)
    return step.shape


def tidy_roles(roles: Sequence[np.ndarray], shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Roles without the trivial ones; addresses numbered from the front where no labels share their axes."""
    named = [r for r in roles if r.size > 1 and not is_address(r)]
    fixed = [r for r in roles if r.size > 1 and is_address(r)]
    busy = {a for r in named for a in find_varying_axes(r)}
    grown = True
    while grown:
        reach = {a for r in fixed if busy & set(find_varying_axes(r)) for a in find_varying_axes(r)}
        grown = not reach <= busy
        busy |= reach
    plain = sorted({a for r in fixed for a in find_varying_axes(r)} - busy)
    out = [*named, *(lay_along(make_addresses(shape[a]), a, len(shape)) for a in plain)]
    spans: dict[tuple[int, ...], list[np.ndarray]] = {}
    for r in fixed:
        if busy & set(find_varying_axes(r)):
            spans.setdefault(find_varying_axes(r), []).append(r)
    for group in spans.values():
        if len(group) == 1:
            out.append(group[0])
        else:
            number = np.zeros(group[0].size, np.int64)
            for g in group:
                both = number * g.size + np.searchsorted(sort_distinct(g), g.ravel())
                number = np.searchsorted(sort_distinct(both), both)
            out.append((-1 - number).reshape(group[0].shape))
    return tuple(out)
