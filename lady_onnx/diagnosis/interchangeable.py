"""Units of one model that cannot be told apart by what they do: clones, and dead ones. Knows arrays and groups, no ONNX.

Where a network has two units that compute the same, or several that compute nothing, it says nothing which is which: a
copy that has one in the place of the other computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..groups.model import Group
from ..groups.permutations import Arrays
from ..groups.rows import take_rows
from ..groups.scaling import Scaling
from ..numerics import as_finite
from .unscaling import fit_allowed_factors, measure_row_factors

CLOSE = 0.05
"""Units whose rows differ by less than this share, beyond a factor that their structure allows, compute the same."""
DEAD = 1e-3
"""A unit of which rows are smaller than this share of the median row computes nothing, or is not read."""


def find_interchangeable_units(
    groups: Sequence[Group], scalings: Mapping[str, Scaling], arrays: Arrays
) -> dict[str, tuple[tuple[int, ...], ...]]:
    """By each group's id, where there are any, the sets of two or more units that nothing tells apart.

    Args:
        groups, scalings: the groups, and the factors that the units of those that hold no others may have.
        arrays: the weights of one model.
    """
    found = {g.id: _sets(g.size, scalings[g.id], arrays) for g in groups if g.id in scalings}
    return {name: sets for name, sets in found.items() if sets}


def _sets(size: int, scaling: Scaling, arrays: Arrays) -> tuple[tuple[int, ...], ...]:
    """The sets of units that are not read, that compute nothing, and that compute the same."""
    own = scaling.incoming
    if own.all() or not own.any():
        return ()
    rows = [
        take_rows(as_finite(arrays[s.initializer]), s) + offset
        for s, offset in zip(scaling.slots, scaling.offsets, strict=True)
    ]
    unread = _faint(rows, np.flatnonzero(~own))
    # of what makes units that is multiplied with them, where all is zero, so are they
    passed = (scaling.scales[:, ~own] != 0).any(1)
    handed = np.flatnonzero(own & (scaling.scales[passed] != 0).any(0))
    zero = _faint(rows, handed) & ~unread if handed.size else np.zeros(size, bool)
    near = _clones(rows, scaling) & ~np.logical_or.outer(unread | zero, unread | zero)
    sets = [np.flatnonzero(unread), np.flatnonzero(zero)]
    waiting = ~(unread | zero)
    for unit in np.flatnonzero(near.any(1)).tolist():
        if waiting[unit]:
            # all are near to the first, and so to each other
            members = np.append(unit, np.flatnonzero(near[unit] & waiting))
            waiting[members] = False
            sets.append(members)
    return tuple(sorted(tuple(s.tolist()) for s in sets if len(s) > 1))


def _faint(rows: Sequence[np.ndarray], slots: np.ndarray) -> np.ndarray:
    """Which units have all but nothing in all of these slots."""
    sizes = [np.linalg.norm(rows[k], axis=1) for k in slots]
    return np.all([s <= DEAD * np.median(s) for s in sizes], 0)


def _clones(rows: Sequence[np.ndarray], scaling: Scaling) -> np.ndarray:
    """Which pairs of units are made alike, up to factors that their structure allows, bool [units, units], each pair once."""
    kinds: dict[bytes, list[int]] = {}
    for k in np.flatnonzero(scaling.incoming).tolist():
        kinds.setdefault(scaling.scales[:, k].tobytes(), []).append(k)
    near = np.ones((len(rows[0]), len(rows[0])), bool)
    for places in kinds.values():
        x = np.concatenate([rows[k] for k in places], 1)
        unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
        near &= unit @ unit.T >= 1 - CLOSE**2 / 2
    near = np.triu(near, 1)
    i, j = np.nonzero(near)
    if not i.size:
        return near
    ratio = np.full((len(rows), i.size), np.nan)
    for k in np.flatnonzero(scaling.incoming).tolist():
        ratio[k] = measure_row_factors(rows[k][i], rows[k][j])[0]
    allowed = fit_allowed_factors(
        scaling, ratio, np.nan_to_num(CLOSE * np.abs(ratio)), robust=False
    )
    same = (np.isnan(ratio) | (np.abs(ratio / allowed - 1) <= CLOSE)).all(0)
    near[i, j] = same
    return near
