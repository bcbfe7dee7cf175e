"""TODO."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...semantics.lengths import Length, are_numbers, divide_lengths, multiply_lengths
from .factorisation import as_integers, group_factors, split_factors
from .numbering import Terms
from .term import Leaf, Term, make_attributes


def strip_factor(term: Term) -> Term:
    """What a term multiplies by a number, if it does."""
    inner = term.operands[0] if term.operator == "Scale" else None
    return term if inner is None else inner


def make_reshape(terms: Terms, term: Term, shape: Sequence[Length]) -> Term:
    """A term with its elements laid out in another shape."""
    to = tuple(shape)
    if term.shape == to:
        return term
    if term.operator == "Reshape" and len(term.operands) == 1:
        assert term.operands[0] is not None
        return make_reshape(terms, term.operands[0], to)
    if term.leaf is not None and are_numbers(to):
        whole = as_integers(to)
        return terms.moved(term.leaf, lambda a: a.reshape(whole))
    if term.operator == "Transpose":
        inner = term.operands[0]
        assert inner is not None
        if inner.shape is not None:
            order = term.perm
            made = make_movement(terms, inner, inner.shape, order, to)
            if made is not None:
                return made
    if term.operator == "Move":
        core, factors, turns = _read_layout(term)
        made = make_movement(terms, core, factors, turns, to)
        if made is not None:
            return made
        # what the shape was in between says nothing
        turned = make_movement(terms, core, factors, turns, [factors[k] for k in turns])
        if turned is not None and turned.shape != to:
            return _make_plain_reshape(terms, turned, to)
    return _make_plain_reshape(terms, term, to)


def _make_plain_reshape(terms: Terms, term: Term, to: tuple[Length, ...]) -> Term:
    known = (
        term.known.reshape(as_integers(to)) if term.known is not None and are_numbers(to) else None
    )
    return terms.make(
        "Reshape", [term], (("to", repr(to).encode()),), dtype=term.dtype, shape=to, known=known
    )


def make_transpose(terms: Terms, term: Term, order: Sequence[int]) -> Term:
    """A term with its axes in another order."""
    order = list(order)
    if order == sorted(order):
        return term
    if term.operator == "Transpose":
        inner = term.perm
        assert term.operands[0] is not None
        return make_transpose(terms, term.operands[0], [inner[k] for k in order])
    if term.leaf is not None:
        return terms.moved(term.leaf, lambda a: np.transpose(a, order))
    if term.shape is None:
        return terms.make("Transpose", [term], make_attributes(perm=order), dtype=term.dtype)
    shape = tuple(term.shape[k] for k in order)
    core, inner_order = term, list(range(len(term.shape)))
    factors: Sequence[Length] = term.shape
    if term.operator == "Reshape" and len(term.operands) == 1 and term.operands[0] is not None:
        core = term.operands[0]
    elif term.operator == "Move":
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
    return terms.make(
        "Transpose", [term], make_attributes(perm=order), dtype=term.dtype, shape=shape
    )


def _read_layout(term: Term) -> tuple[Term, Sequence[Length], list[int]]:
    """What a movement moves, the factors of its shape, and their order."""
    assert term.operands[0] is not None
    factors, order = term.layout
    return term.operands[0], factors, list(order)


def make_movement(
    terms: Terms,
    core: Term,
    factors: Sequence[Length],
    order: Sequence[int],
    shape: Sequence[Length],
) -> Term | None:
    """A term split into factors, these in another order, and laid out in a shape, in the one way to write that.

    None where the shape splits no factors, or several at once.
    """
    split_up = split_factors(factors, order, shape)
    if split_up is None:
        return None
    fine, sequence = split_up
    # what stays side by side is one
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
    axes = None if core.shape is None else group_factors(core.shape, whole)
    if axes is not None and core.shape is not None:
        turned = [a for k in places for a in axes[k]]
        if len(turned) == len(core.shape) and tuple(core.shape[a] for a in turned) == to:
            return terms.make(
                "Transpose", [core], make_attributes(perm=turned), dtype=core.dtype, shape=to
            )
    attributes = (
        ("order", repr(places).encode()),
        ("factors", repr(whole).encode()),
        ("to", repr(to).encode()),
    )
    term = terms.make("Move", [core], tuple(sorted(attributes)), dtype=core.dtype, shape=to)
    term.layout = (tuple(whole), tuple(places))
    return term


def split_movement(term: Term) -> tuple[Term, Sequence[Length], list[int]] | None:
    """What a term moves without changing it, the factors of its shape, and their order; None for a term that moves nothing."""
    core = term.operands[0] if len(term.operands) == 1 else None
    if core is None or core.shape is None or term.shape is None:
        return None
    if term.operator == "Reshape":
        return core, core.shape, list(range(len(core.shape)))
    if term.operator == "Transpose":
        return core, core.shape, term.perm
    return _read_layout(term) if term.operator == "Move" else None


def strip_movement(term: Term) -> Term:
    """What is left of a term without a movement."""
    found = split_movement(term)
    return term if found is None else found[0]


def move_like(terms: Terms, term: Term, model: Term) -> Term:
    """A term moved as another is; it has the shape of what that one moves, or, of a transposition, the rank."""
    found = split_movement(model)
    assert found is not None
    assert model.shape is not None
    _, factors, order = found
    if model.operator == "Transpose":
        return make_transpose(terms, term, order)
    if model.operator == "Reshape":
        return make_reshape(terms, term, model.shape)
    made = make_movement(terms, term, factors, order, model.shape)
    assert made is not None
    return made


def undo_movement(terms: Terms, term: Term, model: Term) -> Term:
    """A term of the shape that another has been moved to, or, of a transposition, the rank, moved back."""
    found = split_movement(model)
    assert found is not None
    core, factors, order = found
    assert core.shape is not None
    inverse = np.argsort(order).tolist()
    if model.operator == "Transpose":
        return make_transpose(terms, term, inverse)
    turned = make_transpose(terms, make_reshape(terms, term, [factors[k] for k in order]), inverse)
    return make_reshape(terms, turned, core.shape)


def find_common_movement(terms: Terms, parts: Sequence[Term]) -> Term | None:
    """Of some terms that are combined element by element, the one that all of them are moved back like; None for none.

    Of terms that were moved differently it is one that does not hang on where the movements stand. How a term was turned is
    not seen where its axes have length one.
    """
    if all(split_movement(p) is None for p in parts):
        return None
    sizes = [multiply_lengths(p.shape or ()) for p in parts]
    kinds = set(sizes)
    largest = {
        size for size in kinds if all(divide_lengths(size, other) is not None for other in kinds)
    }
    whole = [p for p, size in zip(parts, sizes, strict=True) if size in largest]
    model = min(whole or parts, key=lambda t: strip_factor(strip_movement(t)).digest)
    if split_movement(model) is None:
        return None
    alike = all(p.shape == model.shape for p in parts)
    turned = model.operator == "Transpose" and all(p.rank == model.rank for p in parts)
    return model if alike or turned else None


def undo_movement_of_constant(terms: Terms, term: Term, constant: Leaf) -> Term | None:
    """A constant that a moved term is combined with, as what is moved is combined with it; None where there is no such.

    The constant's shape broadcasts to that of the term.
    """
    found = split_movement(term)
    if found is None:
        return None
    core, factors, order = found
    assert core.shape is not None
    assert term.shape is not None
    if constant.array.size == 1:
        return terms.moved(constant, lambda a: a.reshape(()))
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
    # along an axis of what is moved it varies in all of its factors, or in none
    if any(0 < len(varies.intersection(sequence.index(k) for k in run)) < len(run) for run in own):
        return None
    turned = [fine[k] if p in varies else 1 for p, k in enumerate(sequence)]
    if not are_numbers(turned):
        return None
    lengths, inverse = as_integers(turned), np.argsort(sequence).tolist()
    natural = [lengths[sequence.index(k)] for k in range(len(fine))]
    to = [math.prod(natural[k] for k in run) for run in own]
    return terms.moved(constant, lambda a: a.reshape(lengths).transpose(inverse).reshape(to))
