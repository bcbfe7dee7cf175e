"""Units of one model that cannot be told apart by what they do: clones, and dead units.

If several units of a network compute the same, or compute nothing, nothing says which is which: a
copy that has one in the place of the other computes the same. The module looks at one model alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from ..groups.lines import OWN, sum_lines
from ..groups.model import Group, Slot
from ..groups.permutations import Arrays
from ..groups.rows import (
    NO_THINNING,
    Thin,
    count_row_elements,
    multiply_lines,
    split_slot,
    take_rows,
    thin_slot,
)
from ..groups.scaling import Scaling
from ..numerics import MIN_DIVISOR, as_finite
from ..threads import map_in_threads
from .factors.fitting import fit_allowed_factors
from .factors.measuring import measure_row_factors

CLONE_TOLERANCE = 0.05
"""Units compute the same whose rows differ by less than this share, allowed factors out."""
MIN_SAMPLED_ELEMENTS, SAMPLED_SHARE = 64, 32
"""At first so many elements of two rows are compared, or one in so many of them."""
ROWS_PER_BLOCK = 512
"""So many rows are compared with others at once."""
ROUNDING = 1e-5
"""Squared distances of vectors of length one are off by less than this in single precision."""
NULL_TOLERANCE = 1e-9
"""Exponents that are smaller than this are zero."""
DEAD_ROW_SHARE = 1e-3
"""A unit computes nothing, or is not read, if its rows are smaller than this share of the median.
"""


def find_interchangeable_units(
    groups: Sequence[Group], scalings: Mapping[str, Scaling], arrays: Arrays
) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Find the sets of two or more units that nothing tells apart.

    Args:
        groups: the groups.
        scalings: by group id the factors that its units may have, for groups that hold no others.
        arrays: the weights of one model.

    Returns:
        By group id the sets of units, for groups that have any.
    """
    own = [g for g in groups if g.id in scalings]
    axes: dict[str, set[int]] = {}
    for slot in (s for g in own for s in scalings[g.id].slots if not s.within):
        axes.setdefault(slot.initializer, set()).add(slot.axis)
    names = list(axes)
    sums = map_in_threads(lambda n: sum_lines(arrays[n], arrays[n], axes[n], OWN), names)
    lines = dict(zip(names, sums, strict=True))
    found = map_in_threads(lambda g: _find_sets(g.size, scalings[g.id], arrays, lines), own)
    return {g.id: sets for g, sets in zip(own, found, strict=True) if sets}


def _find_sets(
    size: int, scaling: Scaling, arrays: Arrays, lines: Mapping[str, Mapping[int, np.ndarray]]
) -> tuple[tuple[int, ...], ...]:
    """Find the units that are not read, those that compute nothing, and sets of clones.

    Args:
        size: the number of units.
        scaling: the factors that they may have.
        arrays: the weights.
        lines: by weight the squares of its elements; see `groups.lines.sum_lines`.
    """
    own = scaling.incoming
    # Where there are no slots to be faint in, all units would pass for faint.
    if own.all() or not own.any():
        return ()
    sizes = np.stack(
        [
            _measure_rows(arrays[s.initializer], s, offset, lines.get(s.initializer, {}))
            for s, offset in zip(scaling.slots, scaling.offsets, strict=True)
        ]
    )
    faint = sizes <= DEAD_ROW_SHARE * np.median(sizes, 1, keepdims=True)
    unread = faint[~own].all(0)
    zero = np.zeros(size, bool)
    for unit in np.flatnonzero(faint[own].any(0) & ~unread).tolist():
        zero[unit] = _is_silenced(scaling.scales, own, faint[:, unit])
    waiting = ~(unread | zero)
    i, j = _find_clones(_Rows(scaling, arrays, sizes))
    alive = waiting[i] & waiting[j]
    i, j = i[alive], j[alive]
    sets = [np.flatnonzero(unread), np.flatnonzero(zero)]
    for unit in np.unique(i).tolist():
        if waiting[unit]:
            # All members are near to the first one, and so to each other, at twice the tolerance.
            near = j[i == unit]
            members = np.append(unit, np.sort(near[waiting[near]]))
            waiting[members] = False
            sets.append(members)
    return tuple(sorted(tuple(s.tolist()) for s in sets if len(s) > 1))


def _measure_rows(
    array: np.ndarray, slot: Slot, offset: float, lines: Mapping[int, np.ndarray]
) -> np.ndarray:
    """Measure the lengths of the rows of units in a slot, float64 [units]."""
    if not slot.within and not offset and np.isfinite(lines[slot.axis]).all():
        return np.sqrt(lines[slot.axis][0, slot.index].sum(1))
    squares = np.zeros(len(slot.index))
    for part in split_slot(array.shape, slot):
        values = as_finite(part.take_elements(array)) + np.float32(offset)
        products = multiply_lines(values, values, slot.axis)
        squares[part.units] += products.reshape(-1, slot.index.shape[1]).sum(1)
    return np.sqrt(squares)


def _is_silenced(scales: np.ndarray, own: np.ndarray, faint: np.ndarray) -> bool:
    """Tell whether a unit computes nothing because it is faint in some slots.

    It does if these slots alone may be multiplied by one factor, and what reads the unit divided by
    it: then the unit is that many times smaller. The factors of a batch norm show that the basis
    does not say it, as a unit is zero where gain and shift are, but not where variance and shift
    are. Behind a sigmoid, which passes no factor, zero is a half.

    Args:
        scales: float [factors, slots]: a basis of the exponents that are allowed.
        own: bool [slots]: which slots make the unit; the others read it.
        faint: bool [slots]: the slots in which the unit has all but nothing.
    """
    # What leaves all other slots that make the unit as they are: the rest is asked of that alone,
    # of which there is seldom more than one exponent. To load the solver takes half a second.
    free = _find_null_space(scales[:, own & ~faint].T) @ scales
    if not len(free):
        return False
    fewer = np.concatenate([-free[:, own & faint].T, free[:, ~own].T])
    limits = np.concatenate([np.zeros((own & faint).sum()), -np.ones((~own).sum())])
    if len(free) == 1:
        # a large multiple of either sign meets all limits that any multiple meets
        signs = np.sign(np.where(np.abs(fewer) > NULL_TOLERANCE, fewer, 0.0))
        return any(bool((s * signs[:, 0] <= np.sign(limits)).all()) for s in (1.0, -1.0))
    found = scipy.optimize.linprog(np.zeros(len(free)), fewer, limits, bounds=(None, None))
    return bool(found.success)


def _find_null_space(rows: np.ndarray) -> np.ndarray:
    """Return a basis of the vectors that all rows are orthogonal to, [vectors, columns]."""
    _, sizes, basis = np.linalg.svd(rows, full_matrices=True)
    return basis[int((sizes > NULL_TOLERANCE).sum()) :]


@dataclass(frozen=True)
class _Rows:
    """The rows of the units of a group, slot by slot.

    Attributes:
        scaling: The slots, and the factors that are allowed in them.
        arrays: The weights.
        sizes: The lengths of the rows, float64 [slots, units].
    """

    scaling: Scaling
    arrays: Arrays
    sizes: np.ndarray

    def take(
        self, number: int, units: np.ndarray | slice = slice(None), thin: Thin = NO_THINNING
    ) -> np.ndarray:
        """Return the rows of units in a slot, or some of their elements, float32."""
        slot, offset = self.scaling.slots[number], self.scaling.offsets[number]
        some = replace(slot, index=slot.index[units])
        rows = take_rows(np.asarray(self.arrays[slot.initializer]), some, thin)
        return as_finite(rows) + np.float32(offset)

    def list_kinds(self) -> list[list[int]]:
        """List the slots that make the units, those of the same exponents together.

        They have one factor, which leaves the direction of a row that joins them as it is.
        """
        kinds: dict[bytes, list[int]] = {}
        for k in np.flatnonzero(self.scaling.incoming).tolist():
            key = self.scaling.scales[:, k].tobytes() + self.scaling.signs[:, k].tobytes()
            kinds.setdefault(key, []).append(k)
        return list(kinds.values())

    def measure(self, slots: Sequence[int]) -> np.ndarray:
        """Return the lengths of the rows that join some slots, float64 [units], above zero."""
        return np.maximum(np.sqrt(np.square(self.sizes[slots]).sum(0)), MIN_DIVISOR)


def _find_clones(rows: _Rows) -> tuple[np.ndarray, np.ndarray]:
    """Find pairs of units that are made alike, up to factors that their structure allows.

    Returns:
        The numbers of both, the smaller one first, int64 [pairs] each.
    """
    scaling, kinds = rows.scaling, rows.list_kinds()
    i, j = _list_candidates(rows, kinds[0])
    for places in kinds:
        if not i.size:
            return i, j
        size, cosine = rows.measure(places), np.zeros(i.size)
        for k in places:
            cosine += np.einsum("ij,ij->i", rows.take(k, i), rows.take(k, j), dtype=np.float64)
        cosine /= size[i] * size[j]
        cosine = np.abs(cosine) if scaling.signs[:, places[0]].any() else cosine
        # Two vectors of length one at a distance d have the cosine 1 - d^2 / 2.
        kept = cosine >= 1 - CLONE_TOLERANCE**2 / 2
        i, j = i[kept], j[kept]
    if not i.size:
        return i, j
    # Readers of clones may differ: their ratios stay unknown.
    ratio = np.full((len(scaling.slots), i.size), np.nan)
    for k in np.flatnonzero(scaling.incoming).tolist():
        x, y = (rows.take(k, units).astype(np.float64) for units in (i, j))
        ratio[k] = measure_row_factors(x, y)[0]
    error = np.nan_to_num(CLONE_TOLERANCE * np.abs(ratio))
    allowed = fit_allowed_factors(scaling, ratio, error, robust=False)
    near = (np.isnan(ratio) | (np.abs(ratio / allowed - 1) <= CLONE_TOLERANCE)).all(0)
    return i[near], j[near]


def _list_candidates(rows: _Rows, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """List the pairs of units that some elements of their rows do not tell apart.

    The distance over some elements is no larger than that over all.

    Args:
        rows: the rows.
        places: slots of the same exponents, whose rows are joined.

    Returns:
        The numbers of both, the smaller one first, int64 [pairs] each.
    """
    slots = [rows.scaling.slots[k] for k in places]
    shapes = [np.shape(rows.arrays[s.initializer]) for s in slots]
    total = sum(count_row_elements(z, s) for z, s in zip(shapes, slots, strict=True))
    step = max(total // max(MIN_SAMPLED_ELEMENTS, total // SAMPLED_SHARE), 1)
    thins = (thin_slot(z, s, step) for z, s in zip(shapes, slots, strict=True))
    some = np.concatenate([rows.take(k, thin=t) for k, t in zip(places, thins, strict=True)], 1)
    some /= rows.measure(places)[:, None].astype(np.float32)
    has_signs = bool(rows.scaling.signs[:, places[0]].any())
    squares = np.einsum("ij,ij->i", some, some)
    # rounding of single precision must hide no pair
    room = CLONE_TOLERANCE**2 + ROUNDING - squares
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for start in range(0, len(some), ROWS_PER_BLOCK):
        block = some[start : start + ROWS_PER_BLOCK]
        dot = block @ some[start:].T
        if has_signs:
            np.abs(dot, out=dot)
        dot += room[start:] / 2
        near = dot >= squares[start : start + ROWS_PER_BLOCK, None] / 2
        np.fill_diagonal(near, False)
        if near.any():
            i, j = np.nonzero(near)
            later = i < j
            found.append((i[later] + start, j[later] + start))
    i, j = (np.concatenate(z) for z in zip(*found, strict=True))
    return i, j
