"""Units that a map may mix: queries against keys and values against outputs in a head, linear bottlenecks, streams.

Where nothing but sums stands between the weights that make units and those that read them, the function depends on the
product of both alone: A on the one side is undone by the inverse of A on the other. Of both models the product's singular
vectors are taken for the units, which no map changes; what is matched then says where everything else lies, and least
squares say which map it was. It is undone where the fit is exact, and only there.

Sources: Ganju et al. 2018; arXiv 2506.22712 (generalised linear mode connectivity).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays, Nesting, invert_permutations, permute_arrays
from ..groups.rows import take_rows
from ..groups.scaling import Scaling
from ..matching.matches import Match
from ..numerics import is_float_array
from .integrity import Finding
from .undoing import Undone

EXACT = 1e-4
"""A fit is exact where less than this share of the rows is left."""
MIXED = 1e-3
"""A map mixes units where more than this share of it is beside the largest element of each row."""
LOST = 0.9
"""Where the units of such groups are more alike than this, nothing was mixed."""
ENOUGH = 8
"""So many elements a unit tell a rotation."""
STEEP = 100.0
"""A map of a larger condition makes too much of the rounding of what it undoes."""
WEAK = 1e-5
"""Products with singular values smaller than this share of the largest have no vectors of their own."""
ROTATED = 8.0
"""By how much a rotation may enlarge the rounding of what it changes."""
Rows = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Plain:
    """What maps were taken out of a suspect, all else where it is.

    Attributes:
        arrays: the weights that change.
        grown: for each of them by how much more than its own size it may have been rounded.
        findings: one for every group whose units were mixed.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    grown: dict[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Straight:
    """A group whose units any invertible map may mix: as A in the slots `made`, as the inverse of A's transpose in `read`."""

    group: str
    made: tuple[Slot, ...]
    read: tuple[Slot, ...]


def find_straight_groups(
    groups: Sequence[Group], scalings: Mapping[str, Scaling]
) -> list[Straight]:
    """The groups whose units may be mixed: those that every factor passes, and that meet nothing but sums."""
    found = []
    for group in groups:
        s = scalings.get(group.id)
        if s is None or not s.linear or s.turned or s.offsets.any():
            continue
        # one factor for all slots, in some the inverse, of any sign
        alone = len(s.scales) == len(s.signs) == 1 and bool(s.signs.all())
        up = s.scales[0] > 0 if alone else np.ones(1, bool)
        if up.all() or not up.any() or not np.allclose(np.abs(s.scales[0]), abs(s.scales[0][0])):
            continue
        made, read = (tuple(s.slots[k] for k in np.flatnonzero(up == own)) for own in (True, False))
        # a weight that makes units of the group from others of it would have to be multiplied on both sides
        if not any(a.initializer == b.initializer and a.axis != b.axis for a in made for b in read):
            found.append(Straight(group.id, made, read))
    return found


def join_slots(arrays: Arrays, slots: Sequence[Slot]) -> np.ndarray:
    """What the units have in some slots, side by side, float64 [units, elements]."""
    return np.concatenate(
        [take_rows(np.asarray(arrays[s.initializer]), s).astype(np.float64) for s in slots], 1
    )


def put_rows(arrays: dict[str, np.ndarray], slots: Sequence[Slot], values: np.ndarray) -> None:
    """The inverse of `join_slots`, in place."""
    start = 0
    for slot in slots:
        array = arrays[slot.initializer]
        where = slot.region(array.shape)
        front = np.moveaxis(array[where], slot.axis, 0)
        many = front.size // len(slot.index)
        part = values[:, start : start + many].reshape(front.shape)
        array[where] = np.moveaxis(part, 0, slot.axis).astype(array.dtype)
        start += many


def make_canonical(x: np.ndarray, y: np.ndarray) -> Rows | None:
    """Rows with the product of `x` and `y`, float64 [units, elements] each, that no map changes; None where it has none."""
    if min(x.shape[1], y.shape[1]) < len(x) or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    (qx, rx), (qy, ry) = np.linalg.qr(x.T), np.linalg.qr(y.T)
    u, s, v = np.linalg.svd(rx @ ry.T)
    if s[-1] <= WEAK * s[0]:
        return None
    root = np.sqrt(s)[:, None]
    return root * (qx @ u).T, root * (qy @ v.T).T


def undo_mixing(
    groups: Sequence[Group],
    scalings: Mapping[str, Scaling],
    reference: Arrays,
    suspect: Arrays,
    matches: Sequence[Match],
    align: Callable[[Arrays, Arrays], Undone],
) -> Plain:
    """The suspect with the units of straight groups as the reference has them.

    Args:
        groups, scalings: the groups, inner ones first, and the factors that they may have.
        reference, suspect: the weights by the same names.
        matches: where the units are if none were mixed.
        align: finds where the units of a second model are.
    """
    similarity = {m.group: float(m.similarity.mean()) for m in matches}
    lines = [
        s
        for s in find_straight_groups(groups, scalings)
        if _floating((*s.made, *s.read), reference, suspect)
    ]
    if all(similarity[line.group] > LOST for line in lines):
        return Plain()
    models = reference, suspect
    ours, theirs = (
        {s.group: make_canonical(join_slots(m, s.made), join_slots(m, s.read)) for s in lines}
        for m in models
    )
    lines = [s for s in lines if ours[s.group] is not None and theirs[s.group] is not None]
    if not any(_alike(ours[a.group], theirs[b.group]) for a in lines for b in lines):
        return Plain()
    sides = [
        {n: a.astype(np.float64) if is_float_array(a) else a for n, a in m.items()} for m in models
    ]
    for line in lines:
        for side, forms in zip(sides, (ours, theirs), strict=True):
            for slots, values in zip((line.made, line.read), forms[line.group] or (), strict=True):
                put_rows(side, slots, values)
    found = {m.group: m.permutation for m in align(*sides).matches}
    here = {
        n: np.array(a) for n, a in {**suspect, **permute_arrays(suspect, groups, found)}.items()
    }
    findings = []
    grown: dict[str, float] = {}
    for line in lines:
        map_ = join_slots(here, line.made) @ np.linalg.pinv(join_slots(reference, line.made))
        steep = float(np.linalg.cond(map_))
        if not steep < STEEP or _beside(map_) <= MIXED:
            continue
        halves = (line.made, np.linalg.inv(map_)), (line.read, map_.T)
        if (
            max(
                _gap(join_slots(reference, slots), back @ join_slots(here, slots))
                for slots, back in halves
            )
            > EXACT
        ):
            continue
        for slots, back in halves:
            for slot in slots:
                grown[slot.initializer] = max(
                    _enlarged(back, join_slots(here, [slot])), grown.get(slot.initializer, 1.0)
                )
            put_rows(here, slots, back @ join_slots(here, slots))
        findings.append(
            Finding("mixed", line.group, None, line.made[0].initializer, None, _beside(map_))
        )
    undone = {**here, **permute_arrays(here, groups, invert_permutations(Nesting(groups), found))}
    return Plain({n: undone[n] for n in grown}, grown, tuple(findings))


def undo_rotations(
    groups: Sequence[Group],
    scalings: Mapping[str, Scaling],
    reference: Arrays,
    suspect: Arrays,
    matches: Sequence[Match],
) -> Plain:
    """The suspect with residual streams turned back; arguments as of `undo_mixing`.

    A stream that only norms and sums meet may be rotated. The weights that no other group touches say by how much: their
    rows are the reference's, rotated (orthogonal Procrustes problem).
    """
    similarity = {m.group: float(m.similarity.mean()) for m in matches}
    axes: dict[str, set[int]] = {}
    for group in groups:
        for slot in group.slots:
            axes.setdefault(slot.initializer, set()).add(slot.axis)
    changed: dict[str, np.ndarray] = {}
    findings = []
    for group in groups:
        s = scalings.get(group.id)
        if s is None or not (s.linear and s.turned) or similarity[group.id] > LOST:
            continue
        slots = [
            slot
            for slot in group.slots
            if axes[slot.initializer] == {slot.axis} and not slot.within
        ]
        if not slots or not _floating(group.slots, reference, suspect):
            continue
        ours, theirs = (join_slots(a, slots) for a in (reference, suspect))
        few = slice(None, None, max(ours.shape[1] // (ENOUGH * group.size), 1))
        ours, theirs = ours[:, few], theirs[:, few]
        if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            continue
        u, sizes, v = np.linalg.svd(theirs @ ours.T)
        rotation = u @ v
        if (
            _gap(ours, rotation.T @ theirs) > EXACT
            or sizes[-1] <= WEAK * sizes[0]
            or _beside(rotation) <= MIXED
        ):
            continue
        for slot in group.slots:
            changed.setdefault(slot.initializer, np.array(suspect[slot.initializer]))
            put_rows(changed, [slot], rotation.T @ join_slots(changed, [slot]))
        findings.append(
            Finding("mixed", group.id, None, slots[0].initializer, None, _beside(rotation))
        )
    return Plain(changed, dict.fromkeys(changed, ROTATED), tuple(findings))


def _gap(reference: np.ndarray, found: np.ndarray) -> float:
    """How far the rows of one unit are from the reference's, as a share of these, at most."""
    sizes = np.linalg.norm(reference, axis=1)
    return float((np.linalg.norm(found - reference, axis=1) / np.maximum(sizes, 1e-30)).max())


def _enlarged(map_: np.ndarray, found: np.ndarray) -> float:
    """By how much a map enlarges the rounding of these rows, at most, in units of what the largest was rounded by."""
    sizes = np.abs(found).max(1)
    return float(np.linalg.norm(map_ * sizes, axis=1).max() / max(sizes.max(), 1e-30))


def _beside(map_: np.ndarray) -> float:
    """How much of a map is beside the largest element of each row: nothing of a permutation."""
    sizes = np.abs(map_)
    largest = sizes.max(1, keepdims=True)
    return float(np.where(sizes == largest, 0.0, sizes).max() / largest.max())


def _alike(a: Rows | None, b: Rows | None) -> bool:
    """Have two products the same singular values?"""
    if a is None or b is None or len(a[0]) != len(b[0]):
        return False
    ours, theirs = (np.linalg.norm(x[0], axis=1) for x in (a, b))
    return bool(np.allclose(ours, theirs, rtol=EXACT, atol=EXACT * ours.max()))


def _floating(slots: Sequence[Slot], *models: Arrays) -> bool:
    return all(is_float_array(np.asarray(m[s.initializer])) for s in slots for m in models)
