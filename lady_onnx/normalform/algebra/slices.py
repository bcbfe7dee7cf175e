"""Slices along one axis, and concatenations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...semantics.lengths import Length
from ...vocabulary.names import CONCAT, LINEAR, PART, SCALE, TRANSPOSE
from .linear import make_linear
from .movements import (
    find_common_movement,
    find_moved_axis,
    make_movement,
    make_transpose,
    undo_movement,
)
from .multiples import apply_linear
from .numbering import MAX_KNOWN_ELEMENTS, Terms
from .sums import MAX_PARTS
from .term import Term, make_attributes


def make_slice(terms: Terms, term: Term, axis: int, start: int, stop: int, step: int = 1) -> Term:
    """Make a part of a term along one axis.

    Args:
        terms: makes terms.
        term: the term, of a known shape.
        axis: the axis, whose length is a plain number.
        start: the first place, within the axis.
        stop: the place behind the last one; -1 where a slice goes back to the first element.
        step: the distance between two places; a negative one goes back.
    """
    assert term.shape is not None
    length = term.shape[axis]
    if (start, stop, step) == (0, length, 1):
        return term
    if term.operator == SCALE:
        return apply_linear(terms, term, lambda t: make_slice(terms, t, axis, start, stop, step))
    # -1 means before the first element here, and the last one to a slice of Python
    where = (*[slice(None)] * axis, slice(start, stop if step > 0 or stop >= 0 else None, step))
    if term.leaf is not None:
        return terms.move_constant(term.leaf, lambda a: a[where])
    if (
        term.operator == TRANSPOSE
        and term.operands[0] is not None
        and term.operands[0].shape is not None
    ):
        order = term.permutation
        return make_transpose(
            terms, make_slice(terms, term.operands[0], order[axis], start, stop, step), order
        )
    if term.operator == LINEAR and axis == len(term.shape) - 1 and step == 1:
        x, weight, bias = term.operands
        assert x is not None
        assert weight is not None
        assert bias is not None
        return make_linear(
            terms,
            x,
            make_slice(terms, weight, 1, start, stop),
            make_slice(terms, bias, 0, start, stop),
        )
    count = len(range(start, stop, step))
    shape = (*term.shape[:axis], count, *term.shape[axis + 1 :])
    # what is known of a length stays with it
    moved = find_moved_axis(term, axis) if term.known is None else None
    if moved is not None:
        movement, inner, factor = moved
        part = make_slice(terms, movement.core, inner, start, stop, step)
        factors = [count if k == factor else n for k, n in enumerate(movement.factors)]
        made = make_movement(terms, part, factors, movement.order, shape)
        if made is not None:
            return made
    known = term.known[where] if term.known is not None else None
    attributes = make_attributes(axis=axis, start=start, stop=stop, step=step)
    return terms.make_term(PART, [term], attributes, dtype=term.dtype, shape=shape, known=known)


def make_concatenation(terms: Terms, parts: Sequence[Term], axis: int) -> Term | None:
    """Join terms along an axis; joins of joins are one.

    Args:
        terms: makes terms.
        parts: the terms, of one rank.
        axis: the axis, counted from the front.
    """
    flat = _flatten_parts(parts, axis)
    if len(flat) == 1:
        return flat[0]
    model = find_common_movement(flat)
    if model is not None and model.operator == TRANSPOSE:
        order = model.permutation
        made = make_concatenation(
            terms, [undo_movement(terms, p, model) for p in flat], order[axis]
        )
        return None if made is None else make_transpose(terms, made, order)
    constant = _join_constants(terms, flat, axis)
    if constant is not None:
        return constant
    known = None
    # small constants of other types are known as well, and are no lengths
    if sum(p.known.size for p in flat if p.known is not None) <= MAX_KNOWN_ELEMENTS and all(
        p.known is not None and p.known.dtype == object for p in flat
    ):
        known = np.concatenate([p.known for p in flat if p.known is not None], axis)
    shape: tuple[Length, ...] | None = None
    if all(p.shape is not None for p in flat):
        shapes = [p.shape for p in flat if p.shape is not None]
        total: Length = 0
        for s in shapes:
            total = total + s[axis]
        shape = (*shapes[0][:axis], total, *shapes[0][axis + 1 :])
    dtype = flat[0].dtype
    return terms.make_term(
        CONCAT, flat, make_attributes(axis=axis), dtype=dtype, shape=shape, known=known
    )


def _flatten_parts(parts: Sequence[Term], axis: int) -> list[Term]:
    """List the parts of joins along the same axis in place of these."""
    flat: list[Term] = []
    for part in parts:
        is_join = part.operator == CONCAT and part.read_attribute("axis") == axis
        if is_join and len(flat) < MAX_PARTS:
            flat += [o for o in part.operands if o is not None]
        else:
            flat.append(part)
    return flat


def _join_constants(terms: Terms, parts: Sequence[Term], axis: int) -> Term | None:
    """Join constants of one type; None for any other terms."""
    leaves = [p.leaf for p in parts if p.leaf is not None]
    if (
        len(leaves) < len(parts)
        or sum(leaf.array.nbytes for leaf in leaves) > terms.left_bytes
        or len({leaf.array.dtype for leaf in leaves}) != 1
    ):
        return None
    error_bound = None
    if any(leaf.error_bound is not None for leaf in leaves):
        error_bounds = [
            np.broadcast_to(
                leaf.error_bound if leaf.error_bound is not None else 0.0, leaf.array.shape
            )
            for leaf in leaves
        ]
        error_bound = np.concatenate(error_bounds, axis)
    joined = np.concatenate([leaf.array for leaf in leaves], axis)
    return terms.make_constant(joined, leaves[0].hint, error_bound)
