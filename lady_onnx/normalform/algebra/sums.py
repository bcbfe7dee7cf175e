"""Sums and products of terms, in one order, with constants behind them.

A sum or product that nothing else reads becomes part of a longer one. Addends that are constant
become biases where they meet a layer, and factors become part of its weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...semantics.lengths import Length, Polynomial
from ...vocabulary.names import ADD, MUL, PRODUCT, SUM, TRANSPOSE
from .constants import compute_constant, is_moderate, is_vector, may_reassociate
from .movements import (
    find_common_movement,
    move_like,
    split_movement,
    strip_factor,
    strip_movement,
    undo_movement,
    undo_movement_of_constant,
)
from .multiples import make_multiple, split_factor
from .numbering import Terms
from .term import Leaf, Term
from .units import is_layer, read_numbers_per_unit, scale_units, shift_units

MAX_PARTS = 256
"""A sum, product or concatenation of more parts becomes no part of a longer one."""
MAX_FOLDED_ELEMENTS = 1 << 20
"""The largest number of elements of the sum of constants that are added to one term."""


def broadcast_shapes(a: Term, b: Term) -> tuple[Length | None, ...] | None:
    """Find the shape of a sum of two terms.

    Returns:
        The lengths, with None for one that cannot be told; None where a rank is not known.
    """
    if a.shape is None or b.shape is None:
        return None
    rank = max(len(a.shape), len(b.shape))
    found: list[Length | None] = []
    for m, n in zip(*[(1,) * (rank - len(s)) + s for s in (a.shape, b.shape)], strict=True):
        if m == n or n == 1:
            found.append(m)
        elif m == 1:
            found.append(n)
        # beside a number other than one, an unknown length is that number, or one and broadcasts
        elif isinstance(m, int) and isinstance(n, Polynomial):
            found.append(m)
        elif isinstance(n, int) and isinstance(m, Polynomial):
            found.append(n)
        else:
            found.append(None)
    return tuple(found)


def is_shape_kept(a: Term, b: Term) -> bool:
    """Tell whether the sum of two terms has the shape of the first."""
    return a.shape is not None and broadcast_shapes(a, b) == a.shape


def make_sum(terms: Terms, a: Term, b: Term, unshared: frozenset[int] = frozenset()) -> Term:
    """Add two terms of floats.

    Args:
        terms: makes terms.
        a, b: the terms.
        unshared: the identities of those that nothing else reads; sums among them become part of
            this one.
    """
    # a constant comes last, and stays out of the order of the other addends: it may become a bias
    if a.leaf is not None and b.leaf is None:
        a, b = b, a
    if b.leaf is not None:
        return _add_constant(terms, a, b)
    parts = [p for term in (a, b) for p in list_parts(terms, SUM, term, id(term) in unshared)]
    return combine_terms(terms, SUM, parts, broadcast_shapes(a, b))


def list_parts(terms: Terms, operator: str, term: Term, is_unshared: bool) -> list[Term]:
    """List the operands of a sum or product; those of a moved one are moved likewise.

    Args:
        terms: makes terms.
        operator: `Sum` or `Product`.
        term: any term.
        is_unshared: whether nothing else reads it.

    Returns:
        The operands; the term alone where it is no such combination, or where others read it too.
    """
    whole = strip_movement(term)
    if whole.operator != operator or not is_unshared:
        return [term]
    parts = [o for o in whole.operands if o is not None]
    if len(parts) > MAX_PARTS:
        return [term]
    if whole is term:
        return parts
    # a part that broadcasts cannot be reshaped as the whole is
    if term.operator != TRANSPOSE and any(p.shape != whole.shape for p in parts):
        return [term]
    if any(p.rank != whole.rank for p in parts):
        return [term]
    return [move_like(terms, p, term) for p in parts]


def combine_terms(
    terms: Terms, operator: str, parts: Sequence[Term], shape: Sequence[Length | None] | None
) -> Term:
    """Make a sum or product of terms, in one order; movements that all have in common come last.

    Args:
        terms: makes terms.
        operator: `Sum` or `Product`.
        parts: the terms.
        shape: the shape of the result, with None for an unknown length.
    """
    # terms that are moved alike are combined before the movement
    cores = [split_factor(terms, p) for p in parts]
    model = find_common_movement([c for c, _ in cores])
    found = None if model is None else split_movement(model)
    if model is not None and found is not None:
        inner = [
            make_multiple(terms, undo_movement(terms, core, model), factor)
            for core, factor in cores
        ]
        whole: Sequence[Length | None] | None = found.core.shape
        if model.operator == TRANSPOSE:
            whole = None if shape is None else [shape[k] for k in np.argsort(found.order)]
        return move_like(terms, combine_terms(terms, operator, inner, whole), model)
    # by how they are computed, which is the same in both files, and not by where they stand
    order = sorted(parts, key=lambda t: strip_factor(t).digest)
    return terms.make_term(operator, order, dtype=parts[0].dtype, shape=shape)


def _add_constant(terms: Terms, a: Term, b: Term) -> Term:
    """Add a constant to a term, or to what is before it: a bias, another constant, a movement."""
    assert b.leaf is not None
    if a.leaf is not None:
        made = compute_constant(terms, ADD, [a.leaf, b.leaf])
        if made is not None:
            return made
    b = drop_leading_axes(terms, a, b)
    assert b.leaf is not None
    if is_shape_kept(a, b):
        # a vector of zeros stays: it is the bias of a layer, and may hold other numbers in a copy
        is_bias = b.leaf.array.size != 1 and is_vector(b.leaf.array)
        # -0.0 + 0.0 is 0.0: equal numbers, though not equal bits
        if not is_bias and not b.leaf.array.any():
            return a
        made = _add_to_bias(terms, a, b.leaf) or _add_to_constant(terms, a, b.leaf)
        if made is not None:
            return made
        earlier = undo_movement_of_constant(terms, a, b.leaf)
        if earlier is not None:
            return move_like(terms, make_sum(terms, strip_movement(a), earlier), a)
    return terms.make_term(ADD, [a, b], dtype=a.dtype, shape=broadcast_shapes(a, b))


def _add_to_bias(terms: Terms, a: Term, addend: Leaf) -> Term | None:
    """Add a constant to the bias of a layer; None for any other term or constant."""
    if not is_layer(a):
        return None
    own = read_numbers_per_unit(a, addend.array)
    return None if own is None else shift_units(terms, a, addend, own)


def _add_to_constant(terms: Terms, a: Term, addend: Leaf) -> Term | None:
    """Add a constant to the one that a sum adds already; None where they are not added up."""
    if a.operator != ADD:
        return None
    inner, constant = a.operands
    assert inner is not None
    assert constant is not None
    # a vector stays apart from a larger constant: it is a bias, and would vanish in the other
    if constant.leaf is None or (is_vector(addend.array) and not is_vector(constant.leaf.array)):
        return None
    made = compute_constant(terms, ADD, [constant.leaf, addend])
    if made is None or made.leaf is None or made.leaf.array.size > MAX_FOLDED_ELEMENTS:
        return None
    return _add_constant(terms, inner, made)


def make_product(terms: Terms, a: Term, b: Term, unshared: frozenset[int] = frozenset()) -> Term:
    """Multiply two terms of floats, element by element.

    Args:
        terms: makes terms.
        a, b: the terms.
        unshared: the identities of those that nothing else reads; products among them become part
            of this one.
    """
    # asked before factors are split off, as other terms may be left
    are_unshared = [id(a) in unshared, id(b) in unshared]
    if a.leaf is not None and b.leaf is None:
        a, b = b, a
    if b.leaf is not None and not is_moderate(b.leaf.array):
        # a large factor does not change places with others: what is in between may overflow
        return terms.make_term(MUL, [a, b], dtype=a.dtype, shape=broadcast_shapes(a, b))
    (core, first), (other, second) = split_factor(terms, a), split_factor(terms, b)
    if may_reassociate(first * second):
        a, b, factor = core, other, first * second
    else:
        factor = 1.0
    if b.leaf is not None:
        number = b.number
        if number is not None and may_reassociate(factor * number) and is_shape_kept(a, b):
            return make_multiple(terms, a, factor * number)
        return make_multiple(terms, _multiply_constant(terms, a, b), factor)
    parts = [
        p
        for term, is_unshared in zip((a, b), are_unshared, strict=True)
        for p in list_parts(terms, PRODUCT, term, is_unshared)
    ]
    return make_multiple(
        terms, combine_terms(terms, PRODUCT, parts, broadcast_shapes(a, b)), factor
    )


def drop_leading_axes(terms: Terms, a: Term, b: Term) -> Term:
    """Drop the leading axes of length one of a constant that a term is combined with.

    Args:
        terms: makes terms.
        a: the term.
        b: the constant.

    Returns:
        The constant; unchanged where it broadcasts the term to a larger shape.
    """
    assert b.leaf is not None
    if not is_shape_kept(a, b):
        return b
    array = b.leaf.array
    if array.size == 1:
        return terms.move_constant(b.leaf, lambda x: x.reshape(()))
    # with several elements, some axis is longer than one
    first = next(k for k, n in enumerate(array.shape) if n > 1) if array.size else 0
    return terms.move_constant(b.leaf, lambda x: x.reshape(array.shape[first:])) if first else b


def _multiply_constant(terms: Terms, a: Term, b: Term) -> Term:
    """Multiply a term by a constant, or what is before it: a layer, a constant, a movement."""
    assert b.leaf is not None
    b = drop_leading_axes(terms, a, b)
    assert b.leaf is not None
    if a.leaf is not None:
        made = compute_constant(terms, MUL, [a.leaf, b.leaf])
        if made is not None:
            return made
    if is_shape_kept(a, b):
        earlier = undo_movement_of_constant(terms, a, b.leaf)
        if earlier is not None:
            return move_like(terms, make_product(terms, strip_movement(a), earlier), a)
        made = scale_units(terms, a, b.leaf.array, b.leaf) or _multiply_with_inner(terms, a, b)
        if made is not None:
            return made
    return terms.make_term(MUL, [a, b], dtype=a.dtype, shape=broadcast_shapes(a, b))


def _multiply_with_inner(terms: Terms, a: Term, b: Term) -> Term | None:
    """Multiply the constant that a term adds or multiplies by another one.

    None where the term does neither, or where one of the constants is no vector.
    """
    inner, constant = (*a.operands, None, None)[:2]
    if (
        a.operator not in (ADD, MUL)
        or inner is None
        or constant is None
        or constant.leaf is None
        or b.leaf is None
        or not (is_vector(constant.leaf.array) and is_vector(b.leaf.array))
    ):
        return None
    made = compute_constant(terms, MUL, [constant.leaf, b.leaf])
    if (
        made is None
        or made.leaf is None
        or not is_vector(made.leaf.array)
        or not is_shape_kept(inner, made)
    ):
        return None
    if a.operator == MUL:
        return make_product(terms, inner, made)
    return make_sum(terms, make_product(terms, inner, b), made)
