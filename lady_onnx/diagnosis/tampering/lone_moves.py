"""The test of what moved beside nothing, where hardly anything of a weight moved.

Such a weight has no law of its own, so what moved is judged by what the rest of the model shows
(`TrainingLaw`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...groups.model import Group, Slot
from ..findings import PARTLY_TRAINED, Finding
from .moves import Moves
from .outliers import MIN_FACTOR_STEP, have_mostly_stayed
from .training import TrainingLaw


def find_untrained_rows(
    name: str,
    group: str,
    rows: tuple[np.ndarray, np.ndarray],
    left: np.ndarray,
    ratio: np.ndarray,
    scale: float,
    law: TrainingLaw,
) -> np.ndarray:
    """Find rows that training cannot have moved beside others that stayed.

    Args:
        name: the weight.
        group: the id of the group whose units the rows are.
        rows: the reference's and the suspect's, float64 [units, elements].
        left: float64 [units]: how far each row moved.
        ratio: float64 [units]: the factor of each row, nan where none is known.
        scale: the size of the weight.
        law: what the model shows of training.

    Returns:
        bool [units].
    """
    lone = np.array([not law.has_support([(group, u)], name) for u in range(left.size)])
    # The law is one of elements, so a row counts by the root mean square of its own.
    is_large = law.find_too_large(left / rows[0].shape[1] ** 0.5, scale)
    return lone | _are_just_multiplied(*rows, left, ratio) | is_large


def find_untrained_elements(
    name: str,
    own: Sequence[tuple[Group, Slot]],
    gap: np.ndarray,
    chosen: np.ndarray,
    scale: float,
    law: TrainingLaw,
) -> np.ndarray:
    """Find elements that training cannot have moved beside others that stayed.

    Args:
        name: the weight.
        own: the slots in it, each with its group.
        gap: float64, how far each element moved, of the weight's shape.
        chosen: int64 [n]: the flat positions of the elements in question.
        scale: the size of the weight.
        law: what the model shows of training.

    Returns:
        bool [n].
    """
    odd = _are_isolated(gap).ravel()[chosen]
    for number in np.flatnonzero(odd).tolist():
        # A unit that moved elsewhere as well, beside others that did not, was the only one alive.
        units = list_holders(own, np.unravel_index(chosen[number], gap.shape))
        odd[number] = not law.has_support(units, name)
    return odd | law.find_too_large(gap.ravel()[chosen], scale)


def report_part_training(name: str, moves: Moves) -> list[Finding]:
    """Report that training reached a part of a weight, if all but a few elements stayed."""
    # What only decayed, or was rounded, is different too: then training reached more than a part.
    if not moves.gap.any() or not have_mostly_stayed(moves.different):
        return []
    return [Finding(PARTLY_TRAINED, None, None, name, None, float((moves.gap > 0).mean()))]


def list_holders(
    own: Sequence[tuple[Group, Slot]], where: Sequence[np.intp]
) -> Iterator[tuple[str, int]]:
    """Yield the groups, and the unit of each, that an element of a weight belongs to.

    Args:
        own: the slots in the weight, each with its group.
        where: the position of the element along each axis.
    """
    for group, slot in own:
        if where[slot.axis] in slot.index and all(where[a] in p for a, p in slot.within):
            yield group.id, int(np.flatnonzero((slot.index == where[slot.axis]).any(1))[0])


def choose_row_axes(shape: Sequence[int]) -> list[int]:
    """Return the axes of rows and columns: the two longest ones.

    There are none in an array that has fewer than two axes longer than one.

    >>> choose_row_axes((8, 16, 3, 3)), choose_row_axes((8, 1))
    ([1, 0], [])
    """
    longest = sorted(range(len(shape)), key=lambda a: -shape[a])[:2]
    return longest if len(longest) == 2 and shape[longest[1]] > 1 else []


def _are_just_multiplied(
    a: np.ndarray, b: np.ndarray, left: np.ndarray, ratio: np.ndarray
) -> np.ndarray:
    """Return which rows were multiplied and moved in no other way, as no gradient moves them."""
    k = np.where(np.isfinite(ratio), ratio, 1.0)
    return np.linalg.norm(b - k[:, None] * a, axis=1) <= MIN_FACTOR_STEP * left


def _are_isolated(gap: np.ndarray) -> np.ndarray:
    """Return which elements moved alone in their row and in their column."""
    axes = choose_row_axes(gap.shape)
    result = np.full(gap.shape, bool(axes))
    for axis in axes:
        others = tuple(a for a in range(gap.ndim) if a != axis)
        result &= (gap > 0).sum(others, keepdims=True) == 1
    return result & (gap > 0)
