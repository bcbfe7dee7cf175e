"""Movements: elements laid out in another shape, with axes in another order.

Reshapes and transpositions that follow each other are written in one way: a shape is split into
factors, these are put in another order, and laid out in another shape. Movements stand behind what
is done to every element alone, so that tools may push them through a graph as they like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...semantics.factorisation import as_integers, group_factors, split_factors
from ...semantics.lengths import Length, are_numbers, divide_lengths, multiply_lengths
from ...vocabulary.names import MOVE, RESHAPE, SCALE, TRANSPOSE
from .numbering import Terms
from .term import Leaf, Term, make_attributes


class Movement(NamedTuple):
    """How elements are moved.

    Attributes:
        core: what is moved.
        factors: the factors of its shape.
        order: the factors in their new order.
    """

    core: Term
    factors: Sequence[Length]
    order: list[int]


def strip_factor(term: Term) -> Term:
    """Return the operand of a `Scale`, and any other term as it is."""
    inner = term.operands[0] if term.operator == SCALE else None
    return term if inner is None else inner


def make_reshape(terms: Terms, term: Term, shape: Sequence[Length]) -> Term:
    """Lay the elements of a term out in another shape."""
    to = tuple(shape)
    if term.shape == to:
        return term
    # only the last shape of several reshapes counts
    if term.operator == RESHAPE and len(term.operands) == 1:
        assert term.operands[0] is not None
        return make_reshape(terms, term.operands[0], to)
    if term.leaf is not None and are_numbers(to):
        whole = as_integers(to)
        return terms.move_constant(term.leaf, lambda a: a.reshape(whole))
    if term.operator == TRANSPOSE:
        inner = term.operands[0]
        assert inner is not None
        if inner.shape is not None:
            order = term.permutation
            made = make_movement(terms, inner, inner.shape, order, to)
            if made is not None:
                return made
    if term.operator == MOVE:
        core, factors, turns = _read_layout(term)
        made = make_movement(terms, core, factors, turns, to)
        if made is not None:
            return made
        # the shape between two reshapes says nothing
        turned = make_movement(terms, core, factors, turns, [factors[k] for k in turns])
        if turned is not None and turned.shape != to:
            return _make_plain_reshape(terms, turned, to)
    return _make_plain_reshape(terms, term, to)


def _make_plain_reshape(terms: Terms, term: Term, to: tuple[Length, ...]) -> Term:
    known = (
        term.known.reshape(as_integers(to)) if term.known is not None and are_numbers(to) else None
    )
    return terms.make_term(
        RESHAPE, [term], (("to", repr(to).encode()),), dtype=term.dtype, shape=to, known=known
    )


def make_transpose(terms: Terms, term: Term, order: Sequence[int]) -> Term:
    """Put the axes of a term in another order.

    Args:
        terms: makes terms.
        term: the term.
        order: the axes of the term, in the order of the result's axes.
    """
    order = list(order)
    if order == sorted(order):
        return term
    if term.operator == TRANSPOSE:
        inner = term.permutation
        assert term.operands[0] is not None
        return make_transpose(terms, term.operands[0], [inner[k] for k in order])
    if term.leaf is not None:
        return terms.move_constant(term.leaf, lambda a: np.transpose(a, order))
    if term.shape is None:
        return terms.make_term(TRANSPOSE, [term], make_attributes(perm=order), dtype=term.dtype)
    shape = tuple(term.shape[k] for k in order)
    core, inner_order = term, list(range(len(term.shape)))
    factors: Sequence[Length] = term.shape
    if term.operator == RESHAPE and len(term.operands) == 1 and term.operands[0] is not None:
        core = term.operands[0]
    elif term.operator == MOVE:
        core, factors, inner_order = _read_layout(term)
    # the axes of what is transposed are runs of the factors in their present order
    split_up = split_factors(factors, inner_order, term.shape)
    if split_up is not None:
        fine, sequence = split_up
        runs = group_factors([fine[k] for k in sequence], term.shape)
        if runs is not None:
            made = make_movement(
                terms, core, fine, [sequence[k] for axis in order for k in runs[axis]], shape
            )
            if made is not None:
                return made
    return terms.make_term(
        TRANSPOSE, [term], make_attributes(perm=order), dtype=term.dtype, shape=shape
    )


def _read_layout(term: Term) -> Movement:
    """Return what a `Move` moves, and how."""
    assert term.operands[0] is not None
    factors, order = term.layout
    return Movement(term.operands[0], factors, list(order))


def make_movement(
    terms: Terms,
    core: Term,
    factors: Sequence[Length],
    order: Sequence[int],
    shape: Sequence[Length],
) -> Term | None:
    """Split a term into factors, put these in another order, and lay them out in a shape.

    Args:
        terms: makes terms.
        core: the term.
        factors: the factors of its shape.
        order: the factors in their new order.
        shape: the shape of the result.

    Returns:
        The result, in the one way to write it; None where an axis of the shape splits no factor.
    """
    split_up = split_factors(factors, order, shape)
    if split_up is None:
        return None
    fine, sequence = split_up
    # factors that stay side by side are one factor
    merged: list[list[int]] = []
    for k in sequence:
        if merged and merged[-1][-1] == k - 1:
            merged[-1].append(k)
        else:
            merged.append([k])
    starts = sorted(run[0] for run in merged)
    sizes = {run[0]: multiply_lengths(fine[k] for k in run) for run in merged}
    whole = [sizes[s] for s in starts]
    places = [starts.index(run[0]) for run in merged]
    to = tuple(shape)
    if places == sorted(places):
        return make_reshape(terms, core, to)
    # where whole axes change places, and are not laid out anew, a transposition says it
    axes = None if core.shape is None else group_factors(core.shape, whole)
    if axes is not None and core.shape is not None:
        turned = [a for k in places for a in axes[k]]
        if len(turned) == len(core.shape) and tuple(core.shape[a] for a in turned) == to:
            return terms.make_term(
                TRANSPOSE, [core], make_attributes(perm=turned), dtype=core.dtype, shape=to
            )
    # as text: lengths may be polynomials, which no attribute of ONNX holds
    attributes = (
        ("order", repr(places).encode()),
        ("factors", repr(whole).encode()),
        ("to", repr(to).encode()),
    )
    term = terms.make_term(MOVE, [core], tuple(sorted(attributes)), dtype=core.dtype, shape=to)
    term.layout = (tuple(whole), tuple(places))
    return term


def split_movement(term: Term) -> Movement | None:
    """Read how a term moves its operand; None for a term that does anything but move elements."""
    # a reshape with two operands goes to a shape that is not known
    core = term.operands[0] if len(term.operands) == 1 else None
    if core is None or core.shape is None or term.shape is None:
        return None
    if term.operator == RESHAPE:
        return Movement(core, core.shape, list(range(len(core.shape))))
    if term.operator == TRANSPOSE:
        return Movement(core, core.shape, term.permutation)
    return _read_layout(term) if term.operator == MOVE else None


def strip_movement(term: Term) -> Term:
    """Return the operand of a movement, and any other term as it is."""
    found = split_movement(term)
    return term if found is None else found.core


def move_like(terms: Terms, term: Term, model: Term) -> Term:
    """Move a term as another one is moved.

    Args:
        terms: makes terms.
        term: the term; it has the shape of what the model moves, or, of a transposition, the rank.
        model: a movement.
    """
    found = split_movement(model)
    assert found is not None
    assert model.shape is not None
    _, factors, order = found
    if model.operator == TRANSPOSE:
        return make_transpose(terms, term, order)
    if model.operator == RESHAPE:
        return make_reshape(terms, term, model.shape)
    made = make_movement(terms, term, factors, order, model.shape)
    assert made is not None
    return made


def undo_movement(terms: Terms, term: Term, model: Term) -> Term:
    """Move a term back as another one was moved.

    Args:
        terms: makes terms.
        term: the term; it has the shape of the model, or, of a transposition, the rank.
        model: a movement.
    """
    found = split_movement(model)
    assert found is not None
    core, factors, order = found
    assert core.shape is not None
    inverse = np.argsort(order).tolist()
    if model.operator == TRANSPOSE:
        return make_transpose(terms, term, inverse)
    turned = make_transpose(terms, make_reshape(terms, term, [factors[k] for k in order]), inverse)
    return make_reshape(terms, turned, core.shape)


def find_common_movement(parts: Sequence[Term]) -> Term | None:
    """Find a movement that terms have in common, so that they can be combined before it.

    Terms may be moved in several ways, as a transposition of axes of length one may be written as a
    reshape. The one that is chosen depends on what is moved, and not on how the file writes it.

    Args:
        parts: terms that are combined element by element.

    Returns:
        The part that is moved in that way; None where there is none.
    """
    if all(split_movement(p) is None for p in parts):
        return None
    # of the largest parts, as smaller ones broadcast; the digest chooses one by how it is computed
    sizes = [multiply_lengths(p.shape or ()) for p in parts]
    kinds = set(sizes)
    largest = {
        size for size in kinds if all(divide_lengths(size, other) is not None for other in kinds)
    }
    whole = [p for p, size in zip(parts, sizes, strict=True) if size in largest]
    model = min(whole or parts, key=lambda t: strip_factor(strip_movement(t)).digest)
    if split_movement(model) is None:
        return None
    is_same_shape = all(p.shape == model.shape for p in parts)
    is_same_rank = model.operator == TRANSPOSE and all(p.rank == model.rank for p in parts)
    return model if is_same_shape or is_same_rank else None


def find_moved_axis(term: Term, axis: int) -> tuple[Movement, int, int] | None:
    """Find the axis that lies along an axis of a moved term, where it is a whole one of both.

    Args:
        term: the moved term.
        axis: its axis.

    Returns:
        The movement in its finest factors; the axis of what is moved; and which factor both are.
        None where the axis is none, or only a part, of what is moved, or the term is not moved.
    """
    found = split_movement(term)
    if found is None or found.core.shape is None or term.shape is None:
        return None
    if term.operator == TRANSPOSE:
        return found, found.order[axis], found.order[axis]
    split_up = split_factors(found.factors, found.order, term.shape)
    if split_up is None:
        return None
    fine, order = split_up
    now = group_factors([fine[k] for k in order], term.shape)
    before = group_factors(fine, found.core.shape)
    if now is None or before is None:
        return None
    own = [order[k] for k in now[axis] if fine[order[k]] != 1]
    for inner, run in enumerate(before):
        if own and [k for k in run if fine[k] != 1] == own[:1] == own:
            return Movement(found.core, fine, order), inner, own[0]
    return None


def undo_movement_of_constant(terms: Terms, term: Term, constant: Leaf) -> Term | None:
    """Undo a term's movement on a constant that it is combined with, so that they meet before it.

    Args:
        terms: makes terms.
        term: the moved term.
        constant: the constant; its shape broadcasts to that of the term.

    Returns:
        The constant; None where the term moves nothing, or where it cannot be moved back.
    """
    found = split_movement(term)
    if found is None:
        return None
    core, factors, order = found
    assert core.shape is not None
    assert term.shape is not None
    if constant.array.size == 1:
        return terms.move_constant(constant, lambda a: a.reshape(()))
    split_up = split_factors(factors, order, term.shape)
    if split_up is None:
        return None
    fine, sequence = split_up
    axes, own = (
        group_factors([fine[k] for k in sequence], term.shape),
        group_factors(fine, core.shape),
    )
    if axes is None or own is None:
        return None
    dims = (*[1] * (len(term.shape) - constant.array.ndim), *constant.array.shape)
    varies = {k for axis, n in enumerate(dims) if n > 1 for k in axes[axis]}
    # along an axis of what is moved the constant has to vary in all factors, or in none
    if any(0 < len(varies.intersection(sequence.index(k) for k in run)) < len(run) for run in own):
        return None
    turned = [fine[k] if p in varies else 1 for p, k in enumerate(sequence)]
    if not are_numbers(turned):
        return None
    lengths, inverse = as_integers(turned), np.argsort(sequence).tolist()
    natural = [lengths[sequence.index(k)] for k in range(len(fine))]
    to = [math.prod(natural[k] for k in run) for run in own]
    return terms.move_constant(
        constant, lambda a: a.reshape(lengths).transpose(inverse).reshape(to)
    )
