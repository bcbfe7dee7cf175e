"""Units of one model that cannot be told apart by what they do: clones, and dead units.

If several units of a network compute the same, or compute nothing, nothing says which is which: a
copy that has one in the place of the other computes the same. The module looks at one model alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy

from ..groups.model import Group
from ..groups.permutations import Arrays
from ..groups.rows import take_rows
from ..groups.scaling import Scaling
from ..numerics import MIN_DIVISOR, as_finite
from .factor_fitting import fit_allowed_factors
from .factor_measuring import measure_row_factors

CLONE_TOLERANCE = 0.05
"""Units compute the same whose rows differ by less than this share, allowed factors out."""
MIN_SAMPLED_ELEMENTS, SAMPLED_SHARE = 64, 32
"""At first so many elements of two rows are compared, or one in so many of them."""
ROWS_PER_BLOCK = 512
"""So many rows are compared with others at once."""
ROUNDING = 1e-5
"""Squared distances of vectors of length one are off by less than this in single precision."""
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
    found = {g.id: _find_sets(g.size, scalings[g.id], arrays) for g in groups if g.id in scalings}
    return {name: sets for name, sets in found.items() if sets}


def _find_sets(size: int, scaling: Scaling, arrays: Arrays) -> tuple[tuple[int, ...], ...]:
    """Find the units that are not read, those that compute nothing, and sets of clones."""
    own = scaling.incoming
    # Where there are no slots to be faint in, all units would pass for faint.
    if own.all() or not own.any():
        return ()
    rows = [
        take_rows(as_finite(arrays[s.initializer]), s) + offset
        for s, offset in zip(scaling.slots, scaling.offsets, strict=True)
    ]
    faint = np.stack([_are_faint(r) for r in rows])
    unread = faint[~own].all(0)
    zero = np.zeros(size, bool)
    for unit in np.flatnonzero(faint[own].any(0) & ~unread).tolist():
        zero[unit] = _is_silenced(scaling.scales, own, faint[:, unit])
    near = _find_clones(rows, scaling) & ~np.logical_or.outer(unread | zero, unread | zero)
    sets = [np.flatnonzero(unread), np.flatnonzero(zero)]
    waiting = ~(unread | zero)
    for unit in np.flatnonzero(near.any(1)).tolist():
        if waiting[unit]:
            # All members are near to the first one, and so to each other, at twice the tolerance.
            members = np.append(unit, np.flatnonzero(near[unit] & waiting))
            waiting[members] = False
            sets.append(members)
    return tuple(sorted(tuple(s.tolist()) for s in sets if len(s) > 1))


def _are_faint(rows: np.ndarray) -> np.ndarray:
    """Return which units have all but nothing in a slot, bool [units]."""
    sizes = np.linalg.norm(rows, axis=1)
    return np.asarray(sizes <= DEAD_ROW_SHARE * np.median(sizes))


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
    if not len(scales):
        return False
    kept = scales[:, own & ~faint].T
    fewer = np.concatenate([-scales[:, own & faint].T, scales[:, ~own].T])
    limits = np.concatenate([np.zeros((own & faint).sum()), -np.ones((~own).sum())])
    found = scipy.optimize.linprog(
        np.zeros(len(scales)),
        fewer,
        limits,
        kept if kept.size else None,
        np.zeros(len(kept)) if kept.size else None,
        (None, None),
    )
    return bool(found.success)


def _find_clones(rows: Sequence[np.ndarray], scaling: Scaling) -> np.ndarray:
    """Find pairs of units that are made alike, up to factors that their structure allows.

    Args:
        rows: for each slot the elements of every unit, float32 [units, elements].
        scaling: the slots, and the factors that are allowed in them.

    Returns:
        bool [units, units], each pair once: the one with the smaller number first.
    """
    # Slots with the same exponents have one factor, which leaves the direction of a row that joins
    # them as it is.
    kinds: dict[bytes, list[int]] = {}
    for k in np.flatnonzero(scaling.incoming).tolist():
        key = scaling.scales[:, k].tobytes() + scaling.signs[:, k].tobytes()
        kinds.setdefault(key, []).append(k)
    pairs: tuple[np.ndarray, np.ndarray] | None = None
    for places in kinds.values():
        x = np.concatenate([rows[k] for k in places], 1)
        unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), MIN_DIVISOR)
        has_signs = bool(scaling.signs[:, places[0]].any())
        i, j = _list_candidates(unit, has_signs) if pairs is None else pairs
        # Two vectors of length one at a distance d have the cosine 1 - d^2 / 2.
        cosine = np.einsum("ij,ij->i", unit[i], unit[j])
        kept = (np.abs(cosine) if has_signs else cosine) >= 1 - CLONE_TOLERANCE**2 / 2
        pairs = i[kept], j[kept]
    near = np.zeros((len(rows[0]), len(rows[0])), bool)
    assert pairs is not None
    near[pairs] = True
    i, j = pairs
    if not i.size:
        return near
    # Readers of clones may differ: their ratios stay unknown.
    ratio = np.full((len(rows), i.size), np.nan)
    for k in np.flatnonzero(scaling.incoming).tolist():
        ratio[k] = measure_row_factors(rows[k][i], rows[k][j])[0]
    error = np.nan_to_num(CLONE_TOLERANCE * np.abs(ratio))
    allowed = fit_allowed_factors(scaling, ratio, error, robust=False)
    near[i, j] = (np.isnan(ratio) | (np.abs(ratio / allowed - 1) <= CLONE_TOLERANCE)).all(0)
    return near


def _list_candidates(unit: np.ndarray, has_signs: bool) -> tuple[np.ndarray, np.ndarray]:
    """List the pairs of vectors that some of their elements do not tell apart.

    The distance over some elements is no larger than that over all.

    Args:
        unit: float [units, elements]: vectors of length one.
        has_signs: whether a vector and its opposite are alike.

    Returns:
        The numbers of both, the smaller one first, int64 [pairs] each.
    """
    step = max(unit.shape[1] // max(MIN_SAMPLED_ELEMENTS, unit.shape[1] // SAMPLED_SHARE), 1)
    some = np.ascontiguousarray(unit[:, ::step])
    squares = np.einsum("ij,ij->i", some, some)
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for start in range(0, len(some), ROWS_PER_BLOCK):
        dot = some[start : start + ROWS_PER_BLOCK] @ some[start:].T
        dot = np.abs(dot) if has_signs else dot
        apart = squares[start : start + ROWS_PER_BLOCK, None] + squares[start:] - 2 * dot
        # rounding of single precision must hide no pair
        i, j = np.nonzero(np.triu(apart <= CLONE_TOLERANCE**2 + ROUNDING, 1))
        found.append((i + start, j + start))
    i, j = (np.concatenate(z) for z in zip(*found, strict=True))
    return i, j
