"""Units that a map may mix: queries against keys and values against outputs in a head, linear bottlenecks, streams.

Where nothing but sums stands between the weights that make units and those that read them, the function depends on the
product of both alone: A on the one side is undone by the inverse of A on the other. Of both models the product's singular
vectors are taken for the units, which no map changes; what is matched then says where everything else lies, and least
squares say which map it was. It is undone where the fit is exact, and only there.

Sources: Ganju et al. 2018; arXiv 2506.22712 (generalised linear mode connectivity).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .alterations import floating
from .evidence import rows_of
from .groups import Group, Slot
from .integrity import Finding
from .matching import Arrays, Match
from .rewrite import Family, invert, permuted
from .scaling import Scaling

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


@dataclass(frozen=True)
class Straight:
    """A group whose units any invertible map may mix: as A in the slots `made`, as the inverse of A's transpose in `read`."""

    group: str
    made: tuple[Slot, ...]
    read: tuple[Slot, ...]


def straight(groups: Sequence[Group], scalings: Mapping[str, Scaling]) -> list[Straight]:
    """The groups whose units may be mixed: those that every factor passes, and that meet nothing but sums."""
    found = []
    for group in groups:
        s = scalings.get(group.id)
        if (
            s is None
            or not s.linear
            or s.turned
            or len(s.scales) != 1
            or len(s.signs) != 1
            or not s.signs.all()
            or s.offsets.any()
        ):
            continue
        up = s.scales[0] > 0
        if not np.allclose(np.abs(s.scales[0]), abs(s.scales[0][0])) or up.all() or not up.any():
            continue
        made, read = (tuple(s.slots[k] for k in np.flatnonzero(up == own)) for own in (True, False))
        # a weight that makes units of the group from others of it would have to be multiplied on both sides
        if not any(a.initializer == b.initializer and a.axis != b.axis for a in made for b in read):
            found.append(Straight(group.id, made, read))
    return found


def rows(arrays: Arrays, slots: Sequence[Slot]) -> np.ndarray:
    """What the units have in some slots, side by side, float64 [units, elements]."""
    return np.concatenate([rows_of(np.asarray(arrays[s.initializer]), s).astype(np.float64) for s in slots], 1)


def put(arrays: dict[str, np.ndarray], slots: Sequence[Slot], values: np.ndarray) -> None:
    """The inverse of `rows`, in place."""
    start = 0
    for slot in slots:
        array = arrays[slot.initializer]
        where = slot.region(array.shape)
        front = np.moveaxis(array[where], slot.axis, 0)
        many = front.size // len(slot.index)
        part = values[:, start : start + many].reshape(front.shape)
        array[where] = np.moveaxis(part, 0, slot.axis).astype(array.dtype)
        start += many


def canonical(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows with the product of `x` and `y`, float64 [units, elements] each, that no map changes; None where it has none."""
    if min(x.shape[1], y.shape[1]) < len(x) or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    (qx, rx), (qy, ry) = np.linalg.qr(x.T), np.linalg.qr(y.T)
    u, s, v = np.linalg.svd(rx @ ry.T)
    if s[-1] <= WEAK * s[0]:
        return None
    root = np.sqrt(s)[:, None]
    return root * (qx @ u).T, root * (qy @ v.T).T


def unmixed(
    groups: Sequence[Group],
    scalings: Mapping[str, Scaling],
    reference: Arrays,
    suspect: Arrays,
    matches: Sequence[Match],
    match: Callable[[Arrays, Arrays], Sequence[Match]],
) -> tuple[dict[str, np.ndarray], dict[str, float], tuple[Finding, ...]]:
    """The suspect's weights with the units of straight groups as the reference has them, all others where they are.

    Args:
        groups, scalings: the groups, inner ones first, and the factors that they may have.
        reference, suspect: the weights by the same names.
        matches: where the units are if none were mixed.
        match: finds where the units of a second model are.

    Returns the weights that change, for each by how much more than itself it may have been rounded, and a finding for every
    group that was mixed.
    """
    lines = [s for s in straight(groups, scalings) if _floating(s, reference) and _floating(s, suspect)]
    similarity = {m.group: float(m.similarity.mean()) for m in matches}
    if not lines or min(similarity[line.group] for line in lines) > LOST:
        return {}, {}, ()
    sides: list[dict[str, np.ndarray]] = []
    for arrays in (reference, suspect):
        side = {n: a.astype(np.float64) if floating(a) else a for n, a in arrays.items()}
        sides.append(side)
    kept: list[tuple[Straight, list[tuple[np.ndarray, np.ndarray]]]] = []
    for line in lines:
        forms = [f for side in sides if (f := canonical(rows(side, line.made), rows(side, line.read))) is not None]
        if len(forms) == len(sides):
            kept.append((line, forms))
    if not any(_alike(a, b) for _, (a, _) in kept for _, (_, b) in kept):
        return {}, {}, ()
    for line, forms in kept:
        for side, form in zip(sides, forms, strict=True):
            put(side, line.made, form[0])
            put(side, line.read, form[1])
    found = {m.group: m.permutation for m in match(*sides)}
    here = {n: np.array(a) for n, a in {**suspect, **permuted(suspect, groups, found)}.items()}
    findings = []
    grown: dict[str, float] = {}
    for line, _ in kept:
        ours, theirs = (rows(a, line.made) for a in (reference, here))
        map_ = theirs @ np.linalg.pinv(ours)
        spread = float(np.linalg.cond(map_))
        if not spread < STEEP or _beside(map_) <= MIXED:
            continue
        made, read = np.linalg.inv(map_) @ theirs, map_.T @ rows(here, line.read)
        if max(_gap(ours, made), _gap(rows(reference, line.read), read)) > EXACT:
            continue
        put(here, line.made, made)
        put(here, line.read, read)
        for slot in (*line.made, *line.read):
            grown[slot.initializer] = max(spread, grown.get(slot.initializer, 1.0))
        findings.append(Finding("mixed", line.group, None, line.made[0].initializer, None, _beside(map_)))
    if not findings:
        return {}, {}, ()
    undone = {**here, **permuted(here, groups, invert(Family(groups), found))}
    return {n: undone[n] for n in grown}, grown, tuple(findings)


def turned(
    groups: Sequence[Group],
    scalings: Mapping[str, Scaling],
    reference: Arrays,
    suspect: Arrays,
    matches: Sequence[Match],
) -> tuple[dict[str, np.ndarray], tuple[Finding, ...]]:
    """The suspect's weights with residual streams turned back, all else where it is, and a finding for each.

    A stream that only norms and sums meet may be rotated. The weights that no other group touches say by how much: their
    rows are the reference's, rotated (orthogonal Procrustes problem). Arguments as of `unmixed`.
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
        slots = [slot for slot in group.slots if axes[slot.initializer] == {slot.axis} and not slot.within]
        if not slots or not all(floating(np.asarray(a[s.initializer])) for s in group.slots for a in (reference, suspect)):
            continue
        ours, theirs = (rows(a, slots) for a in (reference, suspect))
        few = slice(None, None, max(ours.shape[1] // (ENOUGH * group.size), 1))
        ours, theirs = ours[:, few], theirs[:, few]
        if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            continue
        u, sizes, v = np.linalg.svd(theirs @ ours.T)
        rotation = u @ v
        if _gap(ours, rotation.T @ theirs) > EXACT or sizes[-1] <= WEAK * sizes[0] or _beside(rotation) <= MIXED:
            continue
        for slot in group.slots:
            changed.setdefault(slot.initializer, np.array(suspect[slot.initializer]))
            put(changed, [slot], rotation.T @ rows(changed, [slot]))
        findings.append(Finding("mixed", group.id, None, slots[0].initializer, None, _beside(rotation)))
    return changed, tuple(findings)


def _gap(reference: np.ndarray, found: np.ndarray) -> float:
    """How far the rows of one unit are from the reference's, as a share of these, at most."""
    sizes = np.linalg.norm(reference, axis=1)
    return float((np.linalg.norm(found - reference, axis=1) / np.maximum(sizes, 1e-30)).max())


def _beside(map_: np.ndarray) -> float:
    """How much of a map is beside the largest element of each row: nothing of a permutation."""
    sizes = np.abs(map_)
    largest = sizes.max(1, keepdims=True)
    return float(np.where(sizes == largest, 0.0, sizes).max() / largest.max())


def _alike(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> bool:
    """Have two products the same singular values?"""
    sizes = [np.linalg.norm(x[0], axis=1) for x in (a, b)]
    return len(sizes[0]) == len(sizes[1]) and bool(np.allclose(sizes[0], sizes[1], rtol=EXACT, atol=EXACT * sizes[0].max()))


def _floating(line: Straight, arrays: Arrays) -> bool:
    return all(floating(np.asarray(arrays[s.initializer])) for s in (*line.made, *line.read))
