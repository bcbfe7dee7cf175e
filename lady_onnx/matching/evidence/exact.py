"""Matches rows that are equal bit for bit: exact copies need no likelihoods.

The module compares digests of bytes: zeros of different signs differ, and a NaN equals itself. It
knows nothing of noise.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np


def match_exactly(
    a: Sequence[np.ndarray], b: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Match rows that are the same rows, bit for bit, in another order.

    Args:
        a: the rows of the reference, [units, elements], one array for each slot.
        b: the rows of the suspect in the same slots.

    Returns:
        The permutation, int64 [units], and the margins, float64 [units], which are 0 where
        several rows are equal and infinite elsewhere; None if any row has no copy.
    """
    if any(x.dtype != y.dtype for x, y in zip(a, b, strict=True)):
        return None
    # The first column alone tells most rows that are no copies, for less than digests of all.
    first = next((i for i, x in enumerate(a) if x.shape[1]), 0)
    # Zeros of both signs are equal here: a sort leaves them in the order in which they stood.
    if a[first].size and not _are_equal(*(np.sort(x[first][:, 0]) for x in (a, b))):
        return None
    theirs: dict[bytes, list[int]] = {}
    for j, key in enumerate(_digest_rows(b)):
        theirs.setdefault(key, []).append(j)
    ours = _digest_rows(a)
    permutation = np.empty(len(ours), np.int64)
    margin = np.full(len(ours), np.inf)
    for i, key in enumerate(ours):
        places = theirs.get(key)
        if not places:
            return None
        # Among equal rows the one that did not move is preferred.
        place = i if i in places else places[0]
        if len(places) > 1:
            margin[i] = 0.0
        places.remove(place)
        permutation[i] = place
    return permutation, margin


def _are_equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether the numbers of two columns are equal, NaN to NaN."""
    return bool(((a == b) | ((a != a) & (b != b))).all())


def find_proven_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Find the rows of `b` that equal the same row of `a`, bit for bit, and no other row of `b`.

    No noise can have made such a row.

    Args:
        a, b: [units, elements].

    Returns:
        bool [units].
    """
    found = np.zeros(len(a), bool)
    if a.dtype != b.dtype or not a.shape[1]:
        return found
    # Several equal rows, of dead units for example, do not say which of them is whose copy.
    ours, theirs = _digest_rows([a]), _digest_rows([b])
    counts = Counter(theirs)
    for k, (x, y) in enumerate(zip(ours, theirs, strict=True)):
        found[k] = x == y and counts[y] == 1
    return found


def _digest_rows(parts: Sequence[np.ndarray]) -> list[bytes]:
    """Return a digest of the bytes of every row, all parts together.

    Equal digests, of 128 bits, are taken for equal rows. Verdicts do not rest on that: they compare
    the weights themselves.
    """
    digests = [hashlib.blake2b(digest_size=16) for _ in range(parts[0].shape[0])]
    for part in parts:
        for digest, row in zip(digests, np.ascontiguousarray(part).view(np.uint8), strict=True):
            digest.update(row)
    return [d.digest() for d in digests]
