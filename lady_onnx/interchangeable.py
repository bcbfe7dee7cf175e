"""Units of one model that cannot be told apart by what they do: clones, and dead ones. Knows arrays and groups, no ONNX.

Where a network has two units that compute the same, or several that compute nothing, it says nothing which is which: a
copy that has one in the place of the other computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .evidence import finite, rows_of
from .groups import Group, Slot
from .scaling import Scaling
from .unscaling import nearest, row_ratios

CLOSE = 0.05
"""Units whose rows differ by less than this share, beyond a factor that their structure allows, compute the same."""
DEAD = 1e-3
"""A unit of which rows are smaller than this share of the median row computes nothing, or is not read."""
Arrays = Mapping[str, np.ndarray]


def interchangeable(group: Group, scaling: Scaling, incoming: Sequence[Slot], arrays: Arrays) -> tuple[tuple[int, ...], ...]:
    """The sets of two or more units of a group that compute the same, or nothing, or that nothing reads.

    Args:
        group, scaling: a group that holds no others, and the factors that its units may have.
        incoming: the slots whose elements make the units; what the others hold reads them.
        arrays: the weights of one model.
    """
    made = {(s.initializer, s.axis) for s in incoming}
    own = np.array([(s.initializer, s.axis) in made for s in scaling.slots])
    if own.all() or not own.any():
        return ()
    # what the units are multiplied by where they are read, they are made with: where all of that is zero, so are they
    passed = (scaling.scales[:, ~own] != 0).any(1)
    kinds: dict[tuple, list[int]] = {}
    for k in range(len(scaling.slots)):
        kinds.setdefault((bool(own[k]), scaling.scales[:, k].tobytes() if own[k] else b""), []).append(k)
    rows = [rows_of(finite(arrays[s.initializer]), s) for s in scaling.slots]
    unread = np.zeros(group.size, bool)
    zero = np.ones(group.size, bool)
    alike = np.ones((group.size, group.size), bool)
    handed = False
    for (makes, _), places in kinds.items():
        x = np.concatenate([rows[k] for k in places], 1)
        sizes = np.linalg.norm(x, axis=1)
        faint = sizes <= DEAD * np.median(sizes)
        if not makes:
            unread = faint
            continue
        if (scaling.scales[passed][:, places] != 0).any():
            zero, handed = zero & faint, True
        unit = x / np.maximum(sizes, 1e-30)[:, None]
        alike &= unit @ unit.T >= 1 - CLOSE**2 / 2
    zero = zero & ~unread if handed else np.zeros(group.size, bool)
    alike &= ~((unread | zero)[:, None] | (unread | zero)[None])
    i, j = np.nonzero(np.triu(alike, 1))
    if i.size:
        ratio = np.full((len(rows), i.size), np.nan)
        for k in np.flatnonzero(own).tolist():
            ratio[k] = row_ratios(rows[k][i] + scaling.offsets[k], rows[k][j] + scaling.offsets[k])[0]
        allowed = nearest(scaling, ratio, np.nan_to_num(CLOSE * np.abs(ratio)), robust=False)
        same = (np.isnan(ratio) | (np.abs(ratio / allowed - 1) <= CLOSE)).all(0)
        i, j = i[same], j[same]
    near = np.zeros_like(alike)
    near[i, j] = True
    sets = [tuple(np.flatnonzero(dead).tolist()) for dead in (unread, zero)]
    waiting = ~(unread | zero)
    for first in range(group.size):
        # all are near to the first, and so to each other
        members = [first, *np.flatnonzero(near[first] & waiting).tolist()] if waiting[first] else []
        waiting[members] = False
        sets.append(tuple(members))
    return tuple(sorted(s for s in sets if len(s) > 1))
