"""Undoes invertible maps that mixed the units of straight groups.

Let X make the units, and Y read them, both [units, elements]. The function depends on X^T Y alone.
A map A makes A X of X and A^-T Y of Y, which leaves the product as it is. So the product's singular
vectors are taken for the units in both models. What is matched then says where everything else
lies, and least squares say which map it was. The map is undone if the fit is exact, and only then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...groups.model import Group, Slot
from ...groups.permutations import Arrays, Nesting, invert_permutations, permute_arrays
from ...groups.rows import join_slots, put_rows
from ...groups.scaling import Scaling
from ...matching.matches import Match
from ...numerics import MIN_DIVISOR, is_float_array
from ...threads import map_in_threads
from ..findings import Finding
from ..undone import Enlargements, Undone, Unmixed
from .fits import (
    MAX_MISFIT,
    MAX_MIXED_SIMILARITY,
    MIN_MIXING,
    MIN_SINGULAR_SHARE,
    are_floating,
    average_similarities,
    measure_misfit,
    measure_mixing,
)
from .straight import StraightGroup, find_straight_groups

MAX_CONDITION = 100.0
"""A map of a larger condition number enlarges the rounding of what it undoes too much."""
SPECTRUM_ROOM = 16
"""Two spectra of n values that agree to within a share have sums of squares that differ by no more
than so many times the share and the root of n, relatively.
"""
CanonicalRows = tuple[np.ndarray, np.ndarray]
"""The rows of both sides of a group that no map changes, float64 [units, elements] each."""


@dataclass(frozen=True)
class _Map:
    """A map of the units of a group, and what it takes to undo it.

    Attributes:
        matrix: float64 [units, units].
        halves: The slots of both sides, each with the matrix that undoes the map there.
    """

    matrix: np.ndarray
    halves: tuple[tuple[Sequence[Slot], np.ndarray], ...]


def undo_mixing(
    groups: Sequence[Group],
    scalings: Mapping[str, Scaling],
    reference: Arrays,
    suspect: Arrays,
    matches: Sequence[Match],
    align: Callable[[Arrays, Arrays], Undone],
) -> Unmixed:
    """Bring the units of straight groups to what the reference has.

    Args:
        groups: the groups, inner ones first.
        scalings: by group id the factors that its units may have.
        reference, suspect: the weights by the same names.
        matches: where the units are if none were mixed.
        align: finds where the units of a second model are.

    Returns:
        The suspect's weights with maps undone, in the suspect's own order of units.
    """
    similarity = average_similarities(matches)
    straight = [
        s
        for s in find_straight_groups(groups, scalings)
        if are_floating((*s.made, *s.read), reference, suspect)
    ]
    is_alike = all(similarity[s.group] > MAX_MIXED_SIMILARITY for s in straight)
    if is_alike or not _may_have_equal_spectra(straight, reference, suspect):
        return Unmixed()
    ours, theirs = (_collect_canonical_rows(straight, m) for m in (reference, suspect))
    straight = [s for s in straight if s.group in ours and s.group in theirs]
    if not any(
        _have_equal_spectra(ours[a.group], theirs[b.group]) for a in straight for b in straight
    ):
        return Unmixed()
    sides = (
        _put_canonical_rows(straight, model, forms)
        for model, forms in ((reference, ours), (suspect, theirs))
    )
    # The signs of singular vectors are arbitrary. Signs pass a straight group: `align` finds them.
    found = {m.group: m.permutation for m in align(*sides).matches}
    # All units are moved into place for the fit. What that does to the mixed units is part of their
    # map, and `back` below undoes it in all groups.
    here = {
        n: np.array(a) for n, a in {**suspect, **permute_arrays(suspect, groups, found)}.items()
    }
    findings = []
    grown: Enlargements = {}
    for group in straight:
        map_ = _fit_map(group, reference, here)
        if map_ is None:
            continue
        _undo_map(map_, here, grown)
        name = group.made[0].initializer
        findings.append(
            Finding("mixed", group.group, None, name, None, measure_mixing(map_.matrix))
        )
    back = invert_permutations(Nesting(groups), found)
    undone = {**here, **permute_arrays(here, groups, back)}
    return Unmixed({n: undone[n] for n in grown}, grown, tuple(findings))


def make_canonical(x: np.ndarray, y: np.ndarray) -> CanonicalRows | None:
    """Return rows with the product of `x` and `y` that no map of the units changes.

    They are the product's singular vectors, each times the root of its singular value.

    Args:
        x, y: float64 [units, elements]: what makes the units, and what reads them.

    Returns:
        The rows of both sides, or None if the product does not determine them.
    """
    if min(x.shape[1], y.shape[1]) < len(x) or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    # The factors are [units, units], so the decomposition of the whole product, [elements of x,
    # elements of y], follows from a small one.
    (qx, rx), (qy, ry) = np.linalg.qr(x.T), np.linalg.qr(y.T)
    u, s, v = np.linalg.svd(rx @ ry.T)
    if s[-1] <= MIN_SINGULAR_SHARE * s[0]:
        return None
    root = np.sqrt(s)[:, None]
    return root * (qx @ u).T, root * (qy @ v.T).T


def _collect_canonical_rows(
    straight: Sequence[StraightGroup], arrays: Arrays
) -> dict[str, CanonicalRows]:
    """Return the canonical rows of the groups that have any, by group id."""
    found = {}
    for group in straight:
        rows = make_canonical(join_slots(arrays, group.made), join_slots(arrays, group.read))
        if rows is not None:
            found[group.group] = rows
    return found


def _put_canonical_rows(
    straight: Sequence[StraightGroup], arrays: Arrays, forms: Mapping[str, CanonicalRows]
) -> dict[str, np.ndarray]:
    """Return a model, as float64, with canonical rows in its straight groups."""
    result = {n: a.astype(np.float64) if is_float_array(a) else a for n, a in arrays.items()}
    for group in straight:
        for slots, values in zip((group.made, group.read), forms[group.group], strict=True):
            put_rows(result, slots, values)
    return result


def _fit_map(group: StraightGroup, reference: Arrays, here: Arrays) -> _Map | None:
    """Fit the map that mixed the units of a group; None if there is none that fits exactly."""
    matrix = join_slots(here, group.made) @ np.linalg.pinv(join_slots(reference, group.made))
    if not float(np.linalg.cond(matrix)) < MAX_CONDITION or measure_mixing(matrix) <= MIN_MIXING:
        return None
    # The map that is fitted on one side has to explain the other, too.
    halves = (group.made, np.linalg.inv(matrix)), (group.read, matrix.T)
    misfits = [
        measure_misfit(join_slots(reference, slots), back @ join_slots(here, slots))
        for slots, back in halves
    ]
    return None if max(misfits) > MAX_MISFIT else _Map(matrix, halves)


def _undo_map(map_: _Map, here: dict[str, np.ndarray], grown: Enlargements) -> None:
    """Undo a map in `here`, in place, and note in `grown` how much rounding that enlarges."""
    for slots, back in map_.halves:
        for slot in slots:
            own = grown.setdefault(slot.initializer, {})
            more = _measure_enlargement(back, join_slots(here, [slot]))
            own[slot.axis] = max(more, own.get(slot.axis, 1.0))
        put_rows(here, slots, back @ join_slots(here, slots))


def _measure_enlargement(map_: np.ndarray, found: np.ndarray) -> float:
    """Return by how much a map enlarges the rounding of any column, at most.

    A map leaves columns apart, so each is measured by the largest element that it has afterwards.
    Roundings are independent, so their squares add up.

    Args:
        map_: float64 [units, units].
        found: float64 [units, elements]: the rows before the map.
    """
    rounding = np.sqrt(np.square(map_) @ np.square(found)).max(0)
    size = np.abs(map_ @ found).max(0)
    # no column exceeds the condition but one that the map takes to nothing, which is no copy
    most = float(np.linalg.cond(map_))
    return min(float((rounding / np.maximum(size, MIN_DIVISOR)).max(initial=1)), most)


def _may_have_equal_spectra(
    straight: Sequence[StraightGroup], reference: Arrays, suspect: Arrays
) -> bool:
    """Tell whether any product of the suspect is of a size that one of the reference has.

    No map and no order changes the sum of the squares of a product's singular values, which takes
    no decomposition: it is the trace of X X^T Y Y^T.
    """

    def measure(group: StraightGroup) -> list[float]:
        found = []
        for arrays in (reference, suspect):
            x, y = join_slots(arrays, group.made), join_slots(arrays, group.read)
            found.append(float(np.vdot(x @ x.T, y @ y.T)))
        return found

    sizes = np.array(map_in_threads(measure, straight)).reshape(-1, 2)
    units = np.array([len(s.made[0].index) for s in straight])
    # What `_have_equal_spectra` takes for equal may differ by so much in the sum, at most.
    room = SPECTRUM_ROOM * MAX_MISFIT * np.sqrt(units) * sizes[:, 0]
    apart = np.abs(sizes[:, :1] - sizes[:, 1])
    # what is no number is not told apart
    return not bool((apart > room[:, None]).all())


def _have_equal_spectra(a: CanonicalRows, b: CanonicalRows) -> bool:
    """Return whether two products have the same singular values.

    Each canonical row is as long as the root of its singular value.
    """
    if len(a[0]) != len(b[0]):
        return False
    ours, theirs = (np.linalg.norm(x[0], axis=1) for x in (a, b))
    return bool(np.allclose(ours, theirs, rtol=MAX_MISFIT, atol=MAX_MISFIT * ours.max()))
