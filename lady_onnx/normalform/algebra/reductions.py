"""TODO."""

from __future__ import annotations

from collections.abc import Sequence

from .constants import make_number
from .elementwise import make_reciprocal, make_square_root
from .movements import make_transpose
from .multiples import apply_linear, make_multiple
from .numbering import Terms
from .sums import make_product, make_sum
from .term import Term, make_attributes


def make_reduction(terms: Terms, operator: str, term: Term, axes: Sequence[int]) -> Term:
    """A reduction that keeps the axes that it reduces, with length one."""
    axes = sorted(axes)
    if (
        term.shape is not None
        and all(term.shape[a] == 1 for a in axes)
        and operator in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
    ):
        return term
    if operator in ("ReduceMean", "ReduceSum") and term.operator == "Scale":
        return apply_linear(terms, term, lambda t: make_reduction(terms, operator, t, axes))
    if (
        term.operator == "Transpose"
        and term.operands[0] is not None
        and term.operands[0].shape is not None
    ):
        order = term.perm
        return make_transpose(
            terms,
            make_reduction(terms, operator, term.operands[0], [order[a] for a in axes]),
            order,
        )
    shape = None
    if term.shape is not None:
        shape = tuple(1 if a in axes else n for a, n in enumerate(term.shape))
    return terms.make(operator, [term], make_attributes(axes=axes), dtype=term.dtype, shape=shape)


def make_normalisation(
    terms: Terms, x: Term, axes: Sequence[int], epsilon: float, centred: bool
) -> Term:
    """A term divided by its deviation along axes, or by its root mean square."""
    if centred:
        x = make_sum(
            terms, x, make_multiple(terms, make_reduction(terms, "ReduceMean", x, axes), -1.0)
        )
    square = make_reduction(terms, "ReduceMean", make_product(terms, x, x), axes)
    root = make_square_root(terms, make_sum(terms, square, make_number(terms, epsilon, x)))
    return make_product(terms, x, make_reciprocal(terms, root))
