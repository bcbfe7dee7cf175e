"""What operators say about the values of their operands: row numbers, counts and thresholds.

Whoever makes inputs for a model asks this module which integers fit a table that they are looked up
in, which operands are sizes, and at which constants something changes. It says nothing about the
order of elements, and it reads no graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Span = tuple[int, int]
"""The integers from the first to the one before the second."""

Bound = float | int
"""A number, or the smallest or largest element of a constant."""


@dataclass(frozen=True)
class TableLookup:
    """An operand of row numbers, and the table in which they are looked up.

    Attributes:
        indices: the position of the operand that holds the numbers of the rows.
        table: the position of the operand that is the table.
        axis_attribute: the attribute that says along which axis of the table the rows lie, by
            default 0; None where they always lie along the first axis.
    """

    indices: int
    table: int
    axis_attribute: str | None = None


TABLE_LOOKUPS = {
    "Gather": (TableLookup(1, 0, "axis"),),
    "GatherElements": (TableLookup(1, 0, "axis"),),
    "GatherND": (TableLookup(1, 0),),
    "GatherBlockQuantized": (TableLookup(1, 0, "gather_axis"),),
    "EmbedLayerNormalization": (TableLookup(0, 2), TableLookup(1, 4), TableLookup(8, 3)),
}
"""The lookups of operators that take rows of a table by their numbers."""

CLASS_COUNTS = {"OneHot": (0, 1)}
"""Operators that count classes: the operand of class numbers, and the operand of their count."""

COUNT_OPERANDS = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Loop": (0,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (3,),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
}
"""Operands that are sizes or counts: large ones cost memory and time, or do not fit."""

COUNT_SPAN: Span = (0, 4)
"""The values of sizes and counts that are cheap and likely to fit."""

KEEPS_FIRST_OPERAND = frozenset(
    {
        "Abs",
        "Cast",
        "Ceil",
        "Clip",
        "Compress",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "Mod",
        "Pad",
        "Reshape",
        "Round",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators whose results are values of their first operand, or no further from zero than those."""

KEEPS_ALL_OPERANDS = frozenset({"Concat", "Max", "Min", "Where"})
"""Operators whose results are values of their operands."""

KEEPS_TABLE_ROWS = frozenset({"Cast", "DequantizeLinear", "Div", "Identity", "Mul"})
"""Operators that compute a table from a stored one, row by row."""

THRESHOLD_OPERATORS = frozenset(
    {
        "Clip",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Max",
        "Min",
        "Mod",
        "Range",
        "Shrink",
        "Slice",
        "ThresholdedRelu",
        "Where",
        "TreeEnsemble",
        "TreeEnsembleClassifier",
        "TreeEnsembleRegressor",
    }
)
"""Operators whose constants are thresholds, at which something else begins."""

THRESHOLD_ATTRIBUTES = frozenset(
    {"alpha", "bias", "lambd", "max", "min", "nodes_splits", "nodes_values"}
)
"""Attributes of these operators that are such thresholds."""


def list_integers(low: float, high: float) -> Span | None:
    """Return the integers between two numbers, both included, or None where there is none.

    >>> list_integers(0.5, 3.0)
    (1, 4)
    >>> list_integers(0.2, 0.8) is None
    True
    """
    first, last = math.ceil(low), math.floor(high)
    return (first, last + 1) if first <= last else None


# A solver returns the x for which the result lies from `first` to `last` with every constant c from
# `low` to `high`, not just with one of them. So the worst constant decides at each end.


def _solve_sum(
    first: int, last: int, low: Bound, high: Bound, is_constant_first: bool
) -> Span | None:
    """Solve x + c."""
    return list_integers(first - low, last - high)


def _solve_difference(
    first: int, last: int, low: Bound, high: Bound, is_constant_first: bool
) -> Span | None:
    """Solve c - x where the constant is first, and x - c where it is not."""
    if is_constant_first:
        return list_integers(high - last, low - first)
    return list_integers(first + high, last + low)


def _solve_product(
    first: int, last: int, low: Bound, high: Bound, is_constant_first: bool
) -> Span | None:
    """Solve x c for positive constants."""
    return list_integers(first / low, last / high) if low > 0 else None


def _solve_quotient(
    first: int, last: int, low: Bound, high: Bound, is_constant_first: bool
) -> Span | None:
    """Solve x / c for positive constants; nothing follows of c / x."""
    return list_integers(first * high, last * low) if low > 0 and not is_constant_first else None


SOLVERS: dict[str, Callable[[int, int, Bound, Bound, bool], Span | None]] = {
    "Add": _solve_sum,
    "Sub": _solve_difference,
    "Mul": _solve_product,
    "Div": _solve_quotient,
}
"""By operator: which values of an operand give wanted results together with a constant."""


def solve_operand(
    operator: str, wanted: Span, low: Bound, high: Bound, is_constant_first: bool
) -> Span | None:
    """Return the values of an operand that give wanted results together with any of some constants.

    Args:
        operator: one of `SOLVERS`.
        wanted: the results that are wanted.
        low: the smallest element of the other operand, which is constant.
        high: its largest element.
        is_constant_first: whether the constant is the first of the two operands.

    Returns:
        The values, or None where nothing follows, or none fits.

    >>> solve_operand("Add", (0, 10), 2, 2, is_constant_first=False)
    (-2, 8)
    >>> solve_operand("Sub", (0, 10), 9, 9, is_constant_first=True)
    (0, 10)
    """
    return SOLVERS[operator](wanted[0], wanted[1] - 1, low, high, is_constant_first)


def halve_span(operator: str, wanted: Span) -> Span | None:
    """Return what both operands may be where neither is constant, or None where nothing follows.

    Of a sum, either operand may be half of what is wanted.

    >>> halve_span("Add", (0, 10))
    (0, 5)
    """
    return (wanted[0], (wanted[0] + wanted[1] + 1) // 2) if operator == "Add" else None
