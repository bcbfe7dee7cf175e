"""TODO."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ...semantics.lengths import Length, are_numbers
from .numbering import Terms
from .term import Term


def are_known_lengths(*terms: Term | None) -> bool:
    """Are all of these known whole numbers, of which one at least is a length that only a run shows?"""
    known = [t.known for t in terms if t is not None]
    whole = all(k is not None and k.dtype == object for k in known)
    return whole and not all(are_numbers(k.ravel().tolist()) for k in known if k is not None)


def read_lengths(term: Term | None) -> list[Length] | None:
    """The known lengths in a tensor of one axis."""
    if term is None or term.known is None or term.known.dtype != object or term.known.ndim != 1:
        return None
    return list(term.known)


def write_known_lengths(terms: Terms, term: Term) -> Term:
    """A tensor of lengths that are known, written in one way."""
    known = term.known
    if (
        known is None
        or known.dtype != object
        or term.leaf is not None
        or term.operator == "Extents"
    ):
        return term
    return make_lengths(terms, known, term.dtype)


def make_lengths(
    terms: Terms, lengths: np.ndarray | Length, dtype: int = TensorProto.INT64
) -> Term:
    """A tensor of lengths, or of one."""
    # numpy gives an element where an array of no axes would be
    array = np.empty((), object)
    if isinstance(lengths, np.ndarray):
        array = lengths
    else:
        array[()] = lengths
    made = terms.values(array, dtype)
    if made is not None:
        return made
    text = repr((array.shape, array.ravel().tolist())).encode()
    return terms.make(
        "Extents",
        [],
        (("dtype", str(dtype).encode()), ("of", text)),
        dtype=dtype,
        shape=array.shape,
        known=array,
    )
