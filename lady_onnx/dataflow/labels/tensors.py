"""The abstract value of a tensor: its shape, and what is known of the order of its elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .facts import POSITION
from .roles import (
    ADDRESSES,
    find_run_start,
    find_varying_axes,
    is_address,
    lay_along,
    make_addresses,
    merge_addresses,
)

Index = tuple[np.ndarray | None, ...]
"""For each axis of a weight the index that every element of a tensor has along it, as a role.

None stands for an axis on which the weight is constant.
"""
RunStarts = tuple[int | None, ...]
"""For each axis of a tensor the first label of the run along it.

`ADDRESSES` stands for an axis of addresses, None for an axis that the labels do not depend on.
"""


class Part:
    """A weight inside a tensor whose elements have no labels yet.

    Attributes:
        weight: the weight's name.
        is_whole: whether this is the whole weight, with each of its axes along one of the tensor's.
        index: where in the weight every element of the tensor stands.
    """

    __slots__ = ("_index", "is_whole", "weight")

    def __init__(self, weight: str, index: Index | Callable[[], Index], is_whole: bool = False):
        """Take a function as `index` too, and call it late: many weights are read as values."""
        self.weight, self.is_whole, self._index = weight, is_whole, index

    @property
    def index(self) -> Index:
        """The index of every element along each axis of the weight, as a role over the tensor."""
        if not isinstance(self._index, tuple):
            self._index = self._index()
        return self._index


class Tensor:
    """What is known of one tensor: its shape, and its roles or the weights that it still is.

    Attributes:
        shape: its shape.
        parts: the weights that it is made of, where nothing has given it labels yet.
        reason: why its addresses keep their order.
    """

    __slots__ = ("_roles", "_run_starts", "parts", "reason", "shape")

    def __init__(
        self,
        shape: tuple[int, ...],
        roles: tuple[np.ndarray, ...] = (),
        parts: tuple[Part, ...] = (),
        reason: str = POSITION,
        run_starts: RunStarts | None = None,
    ):
        """Take the roles as arrays or as `run_starts`; the other form is made when asked for."""
        self.shape, self.parts, self.reason = shape, parts, reason
        self._roles: tuple[np.ndarray, ...] | None = None if run_starts is not None else roles
        # False once the roles are known to be no runs
        self._run_starts: RunStarts | bool | None = run_starts

    @property
    def roles(self) -> tuple[np.ndarray, ...]:
        """The roles as arrays: first those with labels, then those of addresses."""
        if self._roles is None:
            assert isinstance(self._run_starts, tuple)
            found = [
                (s, a, n)
                for a, (s, n) in enumerate(zip(self._run_starts, self.shape, strict=True))
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
    def has_roles(self) -> bool:
        """Whether the tensor has any role."""
        if self._roles is not None:
            return bool(self._roles)
        assert isinstance(self._run_starts, tuple)
        return any(
            s is not None and n > 1 for s, n in zip(self._run_starts, self.shape, strict=True)
        )

    @property
    def run_starts(self) -> RunStarts | None:
        """The roles as runs of consecutive labels; None where they are no such runs."""
        if self._run_starts is None:
            self._run_starts = _find_run_starts(self.shape, self.roles)
        return self._run_starts if isinstance(self._run_starts, tuple) else None


def _find_run_starts(shape: tuple[int, ...], roles: Sequence[np.ndarray]) -> RunStarts | bool:
    """Find the runs that roles are; False where they are no runs, or two of them share an axis."""
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


def make_opaque(shape: tuple[int, ...], reason: str = POSITION) -> Tensor:
    """Make a tensor whose elements keep their places, for `reason`."""
    return Tensor(
        shape,
        tuple(lay_along(make_addresses(n), a, len(shape)) for a, n in enumerate(shape) if n > 1),
        reason=reason,
    )


def prefix_axes(tensor: Tensor, rank: int) -> Tensor:
    """Put axes of one in front of a tensor, to `rank` axes in all."""
    missing = rank - len(tensor.shape)
    if not missing:
        return tensor

    def prefix(x: np.ndarray) -> np.ndarray:
        return x.reshape((1,) * missing + x.shape)

    parts = tuple(
        Part(p.weight, tuple(None if i is None else prefix(i) for i in p.index), p.is_whole)
        for p in tensor.parts
    )
    return Tensor(
        (1,) * missing + tensor.shape, tuple(prefix(r) for r in tensor.roles), parts, tensor.reason
    )


def tidy_roles(roles: Sequence[np.ndarray], shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Bring the roles of a tensor of `shape` to their simplest form.

    Roles of one element are left out. Where no labels share their axes, addresses become those of
    single axes, numbered from the front. Several roles of addresses over the same axes become one.
    """
    named = [r for r in roles if r.size > 1 and not is_address(r)]
    fixed = [r for r in roles if r.size > 1 and is_address(r)]
    # axes that share a role of addresses with an axis of labels are as busy as that one
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
    return (*out, *(merge_addresses(group) for group in spans.values()))
