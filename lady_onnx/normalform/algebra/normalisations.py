"""Reductions along axes, and normalisations, which are made of them."""

from __future__ import annotations

from collections.abc import Sequence

from ...vocabulary.names import (
    REDUCE_MAX,
    REDUCE_MEAN,
    REDUCE_MIN,
    REDUCE_SUM,
    SCALE,
    TRANSPOSE,
)
from .constants import make_number
from .elementwise import make_reciprocal, make_square_root
from .movements import make_transpose
from .multiples import apply_linear, make_multiple
from .numbering import Terms
from .sums import make_product, make_sum
from .term import Term, make_attributes


def make_reduction(terms: Terms, operator: str, term: Term, axes: Sequence[int]) -> Term:
    """Reduce a term along axes, which stay with the length one.

    Args:
        terms: makes terms.
        operator: the reduction.
        term: the term.
        axes: the axes, counted from the front.
    """
    axes = sorted(axes)
    if (
        term.shape is not None
        and all(term.shape[a] == 1 for a in axes)
        # not the norms, of which some take the magnitude of a single element
        and operator in (REDUCE_MEAN, REDUCE_SUM, REDUCE_MAX, REDUCE_MIN)
    ):
        return term
    if operator in (REDUCE_MEAN, REDUCE_SUM) and term.operator == SCALE:
        return apply_linear(terms, term, lambda t: make_reduction(terms, operator, t, axes))
    if (
        term.operator == TRANSPOSE
        and term.operands[0] is not None
        and term.operands[0].shape is not None
    ):
        order = term.permutation
        return make_transpose(
            terms,
            make_reduction(terms, operator, term.operands[0], [order[a] for a in axes]),
            order,
        )
    shape = None
    if term.shape is not None:
        shape = tuple(1 if a in axes else n for a, n in enumerate(term.shape))
    return terms.make_term(
        operator, [term], make_attributes(axes=axes), dtype=term.dtype, shape=shape
    )


def make_normalisation(
    terms: Terms, x: Term, axes: Sequence[int], epsilon: float, is_centred: bool
) -> Term:
    """Divide a term by its standard deviation along axes, or by its root mean square.

    Args:
        terms: makes terms.
        x: the term.
        axes: the axes, counted from the front.
        epsilon: the number that is added to the mean of the squares.
        is_centred: whether the mean is subtracted first.
    """
    if is_centred:
        x = _centre(terms, x, axes)
    square = make_reduction(terms, REDUCE_MEAN, make_product(terms, x, x), axes)
    root = make_square_root(terms, make_sum(terms, square, make_number(terms, epsilon, x)))
    return make_product(terms, x, make_reciprocal(terms, root))


def make_group_normalisation(terms: Terms, x: Term, axes: Sequence[int], epsilon: float) -> Term:
    """Divide a centred term by its standard deviation, as ONNX writes group normalisation.

    The variance is the mean of squares less the square of the mean. That is the variance of real
    numbers, but rounding may leave nothing of it: it is not taken for the other form.

    Args:
        terms: makes terms.
        x: the term.
        axes: the axes, counted from the front.
        epsilon: the number that is added to the variance.
    """
    mean = make_reduction(terms, REDUCE_MEAN, x, axes)
    square = make_multiple(terms, make_product(terms, mean, mean), -1.0)
    variance = make_sum(
        terms, make_reduction(terms, REDUCE_MEAN, make_product(terms, x, x), axes), square
    )
    root = make_square_root(terms, make_sum(terms, variance, make_number(terms, epsilon, x)))
    return make_product(terms, _centre(terms, x, axes), make_reciprocal(terms, root))


def _centre(terms: Terms, x: Term, axes: Sequence[int]) -> Term:
    """Subtract the mean along axes from a term."""
    mean = make_reduction(terms, REDUCE_MEAN, x, axes)
    return make_sum(terms, x, make_multiple(terms, mean, -1.0))
