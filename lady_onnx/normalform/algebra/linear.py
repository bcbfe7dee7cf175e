"""Products with a constant matrix.

They stand before transpositions and reshapes of all axes but the last, and before factors.
"""

from __future__ import annotations

from ...semantics.lengths import multiply_lengths
from ...vocabulary.names import LINEAR, MOVE, RESHAPE, TRANSPOSE
from .constants import may_reassociate
from .movements import make_movement, make_reshape, make_transpose, split_movement
from .multiples import make_multiple, split_factor
from .numbering import Terms
from .sums import make_sum
from .term import Term
from .units import make_zero_bias


def make_linear(terms: Terms, x: Term, weight: Term, bias: Term | None = None) -> Term:
    """Multiply the last axis of a term by a constant matrix, and add a bias.

    Args:
        terms: makes terms.
        x: the term, [..., rows].
        weight: the matrix, [rows, units].
        bias: the bias, [units]; zeros where it is left out.
    """
    assert weight.leaf is not None
    rows, units = weight.leaf.array.shape
    if bias is None:
        bias = make_zero_bias(terms, units, weight)
    core, factor = split_factor(terms, x)
    if factor != 1.0 and not may_reassociate(factor):
        core, factor = x, 1.0
    if factor != 1.0 and bias.leaf is not None and bias.leaf.array.any():
        # the factor scales what comes in, and not the bias
        return make_sum(terms, make_multiple(terms, make_linear(terms, core, weight), factor), bias)
    inner = _undo_reshape(terms, core, rows)
    order = core.permutation if core.operator == TRANSPOSE and core.shape else []
    if order and order[-1] == len(order) - 1 and core.operands[0] is not None:
        made = make_transpose(terms, make_linear(terms, core.operands[0], weight, bias), order)
    elif inner is None:
        made = _make_plain_linear(terms, core, weight, bias)
    else:
        assert core.shape is not None
        made = make_reshape(
            terms, make_linear(terms, inner, weight, bias), (*core.shape[:-1], units)
        )
    return make_multiple(terms, made, factor)


def _undo_reshape(terms: Terms, term: Term, rows: int) -> Term | None:
    """Find what a term reshapes, if the reshape keeps the last axis; None where there is none."""
    inner = term.operands[0] if term.operands else None
    if inner is None or not term.shape or len(term.shape) < 2 or term.shape[-1] != rows:
        return None
    if term.operator == RESHAPE and len(term.operands) == 1:
        is_kept = inner.shape is not None and len(inner.shape) > 1 and inner.shape[-1] == rows
        return inner if is_kept else None
    found = split_movement(term) if term.operator == MOVE else None
    if found is None:
        return None
    core, factors, order = found
    turned = [factors[k] for k in order]
    # the last factors that make up the rows; a movement to the very shape of the term is the term,
    # and would be undone for ever
    for cut in range(len(turned) - 1, 0, -1):
        if multiply_lengths(turned[cut:]) == rows:
            natural = (*turned[:cut], rows)
            return (
                make_movement(terms, core, factors, order, natural)
                if natural != term.shape
                else None
            )
    return None


def _make_plain_linear(terms: Terms, x: Term, weight: Term, bias: Term) -> Term:
    assert weight.shape is not None
    shape = None if x.shape is None else (*x.shape[:-1], weight.shape[1])
    return terms.make_term(LINEAR, [x, weight, bias], dtype=x.dtype, shape=shape)
