"""Units of one model that cannot be told apart by what they do: clones, and dead ones. Knows arrays and groups, no ONNX.

Where a network has two units that compute the same, or several that compute nothing, it says nothing which is which: a
copy that has one in the place of the other computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .evidence import finite, rows_of
from .groups import Group, Slot
from .scaling import Scaling
from .unscaling import nearest, row_ratios

CLOSE = 0.1
"""Units whose rows differ by less than this share, beyond a factor that their structure allows, compute the same."""
DEAD = 1e-3
"""A unit of which rows are smaller than this share of the median row computes nothing, or is not read."""
Arrays = Mapping[str, np.ndarray]


def interchangeable(group: Group, scaling: Scaling, incoming: Sequence[Slot], arrays: Arrays) -> tuple[tuple[int, ...], ...]:
    """The sets of two or more units of a group that compute the same, or nothing.

    Args:
        group, scaling: a group that holds no others, and the factors that its units may have.
        incoming: the slots whose elements make the units; what the others hold reads them.
        arrays: the weights of one model.
    """
    made = {(s.initializer, s.axis) for s in incoming}
    kinds: dict[tuple, list[int]] = {}
    for k, slot in enumerate(scaling.slots):
        own = (slot.initializer, slot.axis) in made
        kinds.setdefault((own, scaling.scales[:, k].tobytes() if own else b""), []).append(k)
    rows = [rows_of(finite(arrays[s.initializer]), s) for s in scaling.slots]
    dead = np.zeros(group.size, bool)
    alike = np.ones((group.size, group.size), bool)
    for (own, _), places in kinds.items():
        x = np.concatenate([rows[k] for k in places], 1)
        sizes = np.linalg.norm(x, axis=1)
        faint = sizes <= DEAD * np.median(sizes)
        dead |= faint
        if own:
            unit = x / np.maximum(sizes, 1e-30)[:, None]
            alike &= unit @ unit.T >= 1 - CLOSE**2 / 2
    alike &= ~(dead[:, None] | dead[None])
    i, j = np.nonzero(np.triu(alike, 1))
    if i.size:
        ratio = np.full((len(rows), i.size), np.nan)
        for k, (slot, offset) in enumerate(zip(scaling.slots, scaling.offsets, strict=True)):
            if (slot.initializer, slot.axis) in made:
                ratio[k] = row_ratios(rows[k][i] + offset, rows[k][j] + offset)[0]
        allowed = nearest(scaling, ratio, np.nan_to_num(CLOSE * np.abs(ratio)), robust=False)
        same = (np.isnan(ratio) | (np.abs(ratio / allowed - 1) <= CLOSE)).all(0)
        i, j = i[same], j[same]
    some = np.flatnonzero(dead)
    i, j = np.append(i, some[:-1]), np.append(j, some[1:])
    labels = connected_components(coo_array((np.ones(i.size), (i, j)), shape=alike.shape), directed=False)[1]
    sets = (tuple(np.flatnonzero(labels == k).tolist()) for k in np.flatnonzero(np.bincount(labels) > 1))
    return tuple(sorted(sets))
