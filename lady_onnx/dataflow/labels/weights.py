"""The labels of weights: given when an operator first meets a weight, and kept for the next one.

A weight that an operator moves stays a weight, with the place of every element (`tensors.Part`). It
gets labels when it meets something that has an order. They are kept over the weight's own axes, so
that all places where the weight is used share them. A weight of which only parts have been met has
`UNREAD_LABEL` everywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any

import numpy as np

from .facts import POSITION, Facts
from .roles import (
    UNREAD_LABEL,
    LabelRun,
    Role,
    drop_constant_axes,
    find_components,
    find_varying_axes,
    lay_along,
    make_addresses,
    to_dense,
)
from .tensors import Part, Tensor, tidy_roles
from .unification import unify_roles

READ_AS_VALUE = "read as a shape or an index"
SCATTERED = "its elements stand at several places along several axes"
UNREAD = "unread"


class Labelling:
    """The labels that a walk has given so far.

    Attributes:
        facts: what the operators have said of the labels.
        weights: for every weight that something has met its roles, over the weight's own axes.
    """

    def __init__(self, facts: Facts, shape_of_weight: Callable[[str], tuple[int, ...]]):
        """Start without labels; `shape_of_weight` gives the shape of a weight by its name."""
        self.facts = facts
        self.weights: dict[str, list[Role]] = {}
        self._state_shapes: dict[str, tuple[int, ...]] = {}
        self._shape_of_weight = shape_of_weight

    def make_state(self, shape: tuple[int, ...]) -> Tensor:
        """Make a tensor that is read before it is made, such as the state of a loop.

        It gets its labels from what it meets, as a weight does, but is no weight of the graph.
        """
        # no weight of a file has a name with a null character
        name = f"\0{len(self._state_shapes)}"
        self._state_shapes[name] = shape
        index = tuple(
            lay_along(np.arange(n), a, len(shape)) if n > 1 else None for a, n in enumerate(shape)
        )
        return Tensor(shape, parts=(Part(name, index, True),))

    def label_tensor(self, tensor: Tensor) -> Tensor:
        """Give a tensor labels: what is still a weight gets a role along each of its axes."""
        if not tensor.parts:
            return tensor
        sets = [{a} for a in range(len(tensor.shape))]
        entries = [
            (role, k)
            for k, part in enumerate(tensor.parts)
            for role in self.label_parts([part], sets, tensor.shape)
        ]
        # weights that were combined element by element share one order
        is_alone = len(tensor.parts) == 1
        roles = (
            [r for r, _ in entries]
            if is_alone
            else unify_roles(self.facts, entries, tensor.shape, set(), set())
        )
        return Tensor(tensor.shape, tidy_roles(roles, tensor.shape), reason=tensor.reason)

    def label_parts(
        self, parts: Sequence[Part], sets: Sequence[set[int]], sizes: Sequence[int]
    ) -> list[np.ndarray]:
        """Give weights inside a tensor roles; a weight that was met before keeps those it has.

        Args:
            parts: the weights.
            sets: the sets of axes that a new role may span; along another axis it spans that alone.
            sizes: the tensor's shape.
        """
        roles: list[np.ndarray] = []
        for part in parts:
            known = self._find_roles(part.weight)
            if known is None or _is_unread(part, known):
                roles += self._label_part(part, known, sets, sizes)
            else:
                roles += self._take_roles(part, len(known))
        return roles

    def list_labels(self, part: Part) -> list[np.ndarray]:
        """List the labels of a part of a weight, as far as it has any; no new ones are given."""
        known = [to_dense(r) for r in self.weights.get(part.weight, ())]
        taken = [_take_part(part, r)[0] for r in known if not _has_constant_axis(part, r)]
        return [t for t in taken if (t != UNREAD_LABEL).any()]

    def pin_values(self, names: Sequence[str]) -> None:
        """Pin the weights that were read for their values."""
        for name in names:
            for role in self.weights[name]:
                self.facts.pin_labels(to_dense(role), READ_AS_VALUE)

    def finish(self) -> None:
        """Forget the states, and give pinned labels to elements of weights that nothing met."""
        for state in self._state_shapes:
            self.weights.pop(state, None)
        for roles in self.weights.values():
            for i, role in enumerate(roles):
                # a run is over a whole weight, of which nothing is left unread
                if isinstance(role, LabelRun):
                    continue
                missing = role == UNREAD_LABEL
                if missing.any():
                    # tensors may hold the array as a role: it is not changed in place
                    role = role.copy()
                    role[missing] = self.facts.make_labels((int(missing.sum()),))
                    self.facts.pin_labels(role[missing], UNREAD)
                    roles[i] = role

    def _label_part(
        self,
        part: Part,
        known: list[np.ndarray] | None,
        sets: Sequence[set[int]],
        sizes: Sequence[int],
    ) -> list[np.ndarray]:
        """Make roles for a part of a weight that nothing has met; others may have `known` ones."""
        span = {a for i in part.index if i is not None for a in find_varying_axes(i)}
        wanted = {frozenset(s & span) for s in sets} - {frozenset()}
        wanted |= {frozenset({a}) for a in span - set().union(*wanted)}
        # a set inside another adds nothing; the order is fixed, as sets have none of their own
        born: list[np.ndarray] = []
        frames: list[np.ndarray] = []
        scattered: set[int] = set()
        for axes in sorted((w for w in wanted if not any(w < o for o in wanted)), key=sorted):
            role = self.facts.make_labels([n if a in axes else 1 for a, n in enumerate(sizes)])
            if part.is_whole:
                born.append(role)
                frames.append(_frame_whole(part, role))
            elif (own := self._merge_places(part, role)) is not None:
                born.append(own)
                frames.append(self._frame_part(part, own))
            else:
                born += [lay_along(make_addresses(sizes[a]), a, len(sizes)) for a in sorted(axes)]
                scattered.update(_index_elements(part, role)[0])
        if not part.is_whole:
            frames += self._name_positions(part, frames, scattered)
        merged = frames if known is None else _merge_frames(known, frames)
        if merged is None:
            # the new labels are dropped: the part takes the axes that the weight has already
            return self._take_roles(part, len(known or ()))
        self.weights[part.weight] = list(merged)
        return born

    def _name_positions(
        self, part: Part, frames: Sequence[np.ndarray], scattered: Set[int]
    ) -> Iterator[np.ndarray]:
        """Yield roles over the axes of a weight that no role of a part runs along.

        Along an axis of which the part takes one position alone, what reads the whole weight later
        finds a label there of another birth than the others: the position does not change places
        with them. Along an axis whose positions are `scattered` over the part, all are pinned.
        """
        shape = self._shape_of(part.weight)
        for axis, (size, index) in enumerate(zip(shape, part.index, strict=True)):
            for frame in frames if axis in scattered else ():
                if frame.shape[axis] > 1:
                    self.facts.pin_labels(frame, SCATTERED)
            if size > 1 and index is not None and not any(f.shape[axis] > 1 for f in frames):
                frame = np.full(size, UNREAD_LABEL)
                where = np.unique(index)
                frame[where] = self.facts.make_labels((where.size,))
                if axis in scattered:
                    self.facts.pin_labels(frame, SCATTERED)
                yield lay_along(frame, axis, len(shape))

    def _find_roles(self, weight: str) -> list[np.ndarray] | None:
        """Find the roles of a weight as arrays, None where nothing has met it."""
        known = self.weights.get(weight)
        if known is None:
            return None
        roles = [to_dense(r) for r in known]
        self.weights[weight] = list(roles)
        return roles

    def _take_roles(self, part: Part, count: int) -> list[np.ndarray]:
        """Take the `count` roles of a weight over a part, but for those it is constant along."""
        taken = (self._take_role(part, which) for which in range(count))
        return [role for role in taken if role is not None]

    def _take_role(self, part: Part, which: int) -> np.ndarray | None:
        """Take one role of a weight over a part of it; elements that nothing has met get labels."""
        role = to_dense(self.weights[part.weight][which])
        if _has_constant_axis(part, role):
            return None
        found, where = _take_part(part, role)
        if (found == UNREAD_LABEL).any():
            role = role.copy()
            places = tuple(np.broadcast_arrays(*where))
            # an element that stands at several places of the part gets one label
            missing = np.unique(np.stack([p[found == UNREAD_LABEL] for p in places]), axis=1)
            role[tuple(missing)] = self.facts.make_labels((missing.shape[1],))
            self.weights[part.weight][which] = role
            found = role[tuple(where)]
        if not find_varying_axes(found) and find_varying_axes(role):
            # a unit that is read alone has no axis any more by which it could be known
            self.facts.pin_labels(found, POSITION)
        return found

    def _shape_of(self, weight: str) -> tuple[int, ...]:
        if weight in self._state_shapes:
            return self._state_shapes[weight]
        return self._shape_of_weight(weight)

    def _merge_places(self, part: Part, role: np.ndarray) -> np.ndarray | None:
        """Give one label to all places of a role where the same element of the weight stands.

        None where such an element stands in several lines along other axes: a label for all lines
        that have elements in common would not say which of them lie where.
        """
        used, (places, *where) = _index_elements(part, role)
        # along one axis, in ascending order, no element stands twice
        if len(where) == 1 and (np.diff(where[0].ravel()) > 0).all():
            return role
        shape = self._shape_of(part.weight)
        element = np.ravel_multi_index([w.ravel() for w in where], [shape[a] for a in used])
        pairs = np.unique(np.stack([element, places.ravel()]), axis=1)
        if (np.diff(pairs[0]) != 0).all():
            return role
        across = (i for a in used if (i := part.index[a]) is not None)
        if not {a for i in across for a in find_varying_axes(i)} <= set(find_varying_axes(role)):
            return None
        # `make_labels` counts in row-major order: a label less the lowest one is its flat place
        lowest = int(role.min())
        size = role.size
        group = find_components(pairs[1] - lowest, pairs[0] + size, size + math.prod(shape))[:size]
        # each component goes by its lowest label; its other labels stand nowhere
        return (np.unique(group, return_index=True)[1][group] + lowest)[role - lowest]

    def _frame_part(self, part: Part, role: np.ndarray) -> np.ndarray:
        """Write labels over a tensor back to the axes of the weight in it."""
        shape = self._shape_of(part.weight)
        used, (places, *index) = _index_elements(part, role)
        frame = np.full([n if a in used else 1 for a, n in enumerate(shape)], UNREAD_LABEL)
        where: list[Any] = [0] * len(shape)
        for a, place in zip(used, index, strict=True):
            where[a] = place
        frame[tuple(where)] = places
        return drop_constant_axes(frame, used)


def _has_constant_axis(part: Part, role: np.ndarray) -> bool:
    """Tell whether a role runs along an axis of the weight on which the part is constant."""
    return any(part.index[a] is None for a in find_varying_axes(role))


def _is_unread(part: Part, known: Sequence[np.ndarray]) -> bool:
    """Tell whether nothing has met this part of a weight yet, though something met another part."""
    return bool(known) and all((_take_part(part, r)[0] == UNREAD_LABEL).all() for r in known)


def _take_part(part: Part, role: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """Carry a role over a weight to a part of it, and return the index that leads there as well."""
    where: list[Any] = [0] * role.ndim
    for a in find_varying_axes(role):
        where[a] = 0 if part.index[a] is None else part.index[a]
    return np.asarray(role[tuple(where)]), where


def _index_elements(part: Part, role: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """Find where in a weight the elements of a role over a tensor stand.

    Returns:
        The axes of the weight that the role runs along; the role and the index along each of these
        axes, broadcast against each other.
    """
    axes = set(find_varying_axes(role))
    used = [
        (a, i)
        for a, i in enumerate(part.index)
        if i is not None and axes & set(find_varying_axes(i))
    ]
    return [a for a, _ in used], list(np.broadcast_arrays(role, *(i for _, i in used)))


def _frame_whole(part: Part, role: np.ndarray) -> np.ndarray:
    """Write labels over a tensor that is a whole weight back to the weight's axes."""
    kept = find_varying_axes(role)
    along_axis = [None if i is None else find_varying_axes(i)[0] for i in part.index]
    order = [kept.index(t) for t in along_axis if t in kept]
    dims = [1 if t not in kept else role.shape[t] for t in along_axis]
    return role.reshape([role.shape[t] for t in kept]).transpose(order).reshape(dims)


def _merge_frames(
    known: Sequence[np.ndarray], more: Sequence[np.ndarray]
) -> list[np.ndarray] | None:
    """Fill the roles of another part of a weight into those that it has.

    Returns:
        The roles; None where the two parts do not have roles over the same axes.
    """
    # by shapes: a role has size one along each axis that it does not run along
    if sorted(r.shape for r in known) != sorted(r.shape for r in more):
        return None
    result = list(known)
    for role in more:
        fits = [
            i
            for i, r in enumerate(result)
            if r.shape == role.shape and (r[role != UNREAD_LABEL] == UNREAD_LABEL).all()
        ]
        if not fits:
            return None
        result[fits[0]] = np.where(role == UNREAD_LABEL, result[fits[0]], role)
    return result
