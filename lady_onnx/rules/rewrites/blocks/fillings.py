"""What channels hold that only fill the last block of a map.

The next weight is zero there. That leaves nothing of such a channel only where it holds numbers:
zero times infinity is none.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import AttributeProto

from ....normalform.algebra.term import Term
from .maps import BLOCKED_POOLS, is_filling

Bounds = tuple[float, float]
"""The smallest and the largest number."""

NOTHING: Bounds = (0.0, 0.0)
LARGEST = 1e30
"""What is larger may overflow, if only where a pool adds up a whole map of it."""
ZERO_AT_ZERO = (
    *("Abs", "Ceil", "Celu", "Elu", "Erf", "Floor", "LeakyRelu", "Neg", "Relu", "Round"),
    *("Selu", "Sign", "Sin", "Softsign", "Sqrt", "Tanh"),
)
"""Functions that are zero at zero."""
SMALL = ("Cos", "Erf", "Sigmoid", "Sign", "Sin", "Softsign", "Tanh")
"""Functions whose size is one at most."""
NO_LARGER = ("Abs", "Neg", "Relu")
"""Functions that are no larger than what they are taken of."""
MEANS = ("ReduceMax", "ReduceMean", "ReduceMin", *BLOCKED_POOLS)
"""Operators whose results lie between what they are made of and zero, which is a padding's."""
SUMS = ("ReduceL1", "ReduceL2", "ReduceSum", "ReduceSumSquare")
"""Operators that make zeros of zeros."""
RESIZE_MODE = "coordinate_transformation_mode"
"""The attribute by which a Resize may put any number around a map."""


def has_finite_filling(term: Term, count: int) -> bool:
    """Tell whether a map holds numbers in all channels from one on, as far as its weights tell."""
    return _BoundsFinder(count).find(term) is not None


class _BoundsFinder:
    """Finds the bounds of what maps hold in their channels from one on, each map once.

    Args:
        count: the first of these channels.
    """

    def __init__(self, count: int):
        self._count = count
        self._known: dict[int, Bounds | None] = {}

    def find(self, term: Term) -> Bounds | None:
        """Find the bounds of a map; None where there may be none."""
        if id(term) not in self._known:
            found = self._find_for_operator(term)
            is_bounded = found is not None and max(map(abs, found)) < LARGEST
            self._known[id(term)] = found if is_bounded else None
        return self._known[id(term)]

    def _find_for_operator(self, term: Term) -> Bounds | None:
        first = term.operands[0] if term.operands else None
        if term.shape is not None and len(term.shape) > 1 and term.shape[1] == self._count:
            return NOTHING
        if first is None:
            return None
        if term.operator == "Conv":
            return self._find_for_convolution(term)
        if term.operator in ("Sum", "Add", "Product", "Mul"):
            return self._find_for_combination(term)
        if term.operator == "Pad":
            return NOTHING if is_filling(term) else None
        before = self.find(first)
        return None if before is None else _apply_function(term, before)

    def _find_for_convolution(self, term: Term) -> Bounds | None:
        """Find the bounds of units whose weights are zero: those of their biases."""
        x, weight, bias = (*term.operands, None, None)[:3]
        # a depthwise one reads what fills the last block itself
        if term.read_attribute("group") != 1 and (x is None or self.find(x) is None):
            return None
        if weight is None or weight.leaf is None or weight.leaf.array[self._count :].any():
            return None
        if bias is None:
            return NOTHING
        return None if bias.leaf is None else _measure(bias.leaf.array[self._count :])

    def _find_for_combination(self, term: Term) -> Bounds | None:
        """Find the bounds of a sum or a product."""
        sides = [None if o is None else self._find_for_side(o, term) for o in term.operands]
        is_sum = term.operator in ("Sum", "Add")
        largest = 0.0 if is_sum else 1.0
        for side in sides:
            if side is None:
                return None
            size = max(map(abs, side))
            # what two of several factors make may be larger than the product of all
            largest = largest + size if is_sum else largest * max(size, 1.0)
        if not is_sum and NOTHING in sides:
            return NOTHING if largest < LARGEST else None
        is_positive = all(side is not None and side[0] >= 0 for side in sides)
        return (0.0 if is_positive else -largest), largest

    def _find_for_side(self, side: Term, whole: Term) -> Bounds | None:
        """Find the bounds of what is added to the channels, or multiplied with them."""
        if side.shape is None or whole.shape is None:
            return None
        axis = len(side.shape) - len(whole.shape) + 1
        if side.leaf is not None:
            array = side.leaf.array
            is_own = axis >= 0 and side.shape[axis] != 1
            places = range(self._count, array.shape[axis]) if is_own else None
            return _measure(array if places is None else array.take(places, axis))
        return self.find(side) if axis == 1 and side.shape[1] != 1 else None


def _apply_function(term: Term, before: Bounds) -> Bounds | None:
    """Find the bounds of a function of numbers within bounds."""
    operator, largest = term.operator, max(map(abs, before))
    if operator == "Scale":
        return -largest * abs(term.scale), largest * abs(term.scale)
    if before == NOTHING and operator in (*ZERO_AT_ZERO, *SUMS):
        return NOTHING
    if operator in MEANS:
        return min(before[0], 0.0), max(before[1], 0.0)
    said = dict(term.attributes)
    if operator == "Resize":
        if b"tf_crop_and_resize" in said.get(RESIZE_MODE, b""):
            return None
        # cubic curves swing beyond their ends, and an attribute says how far
        return None if b"cubic" in said.get("mode", b"") and before != NOTHING else before
    if operator == "HardSigmoid":
        slopes = [AttributeProto.FromString(b).f for b in said.values()]
        return (0.0, 1.0) if all(map(math.isfinite, slopes)) else None
    if operator in SMALL:
        return -1.0, 1.0
    if operator in NO_LARGER:
        return -largest, largest
    if operator == "Softplus":
        return 0.0, largest + 1
    if operator == "Exp" and before[1] < math.log(LARGEST):
        return 0.0, math.exp(before[1])
    if operator == "Sqrt" and before[0] >= 0:
        return 0.0, math.sqrt(before[1])
    if operator == "Clip":
        # each bound alone may cut off what the other one leaves
        ends = [o.number for o in term.operands[1:] if o is not None]
        sizes = [abs(e) for e in ends if e is not None and math.isfinite(e)]
        size = max([largest, *sizes])
        return None if None in ends else (-size, size)
    return None


def _measure(array: np.ndarray) -> Bounds | None:
    """Measure the bounds of numbers; None if one is not finite."""
    if not array.size:
        return NOTHING
    low, high = float(array.min()), float(array.max())
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
