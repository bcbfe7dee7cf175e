"""Lengths that are known as polynomials: tensors of them, and the lengths that windows give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto

from ...semantics.lengths import Length, Polynomial, are_numbers
from ...vocabulary.names import EXTENTS
from .numbering import Terms
from .term import Term


def write_known_lengths(terms: Terms, term: Term) -> Term:
    """Write a tensor of known lengths by these; any other term stays as it is."""
    known = term.known
    if known is None or known.dtype != object or term.leaf is not None or term.operator == EXTENTS:
        return term
    return make_lengths(terms, known, term.dtype)


def make_lengths(
    terms: Terms, lengths: np.ndarray | Length, dtype: int = TensorProto.INT64
) -> Term:
    """Make a tensor of lengths, or of one length."""
    # indexing an array gives an element in place of an array of no axes
    array = np.empty((), object)
    if isinstance(lengths, np.ndarray):
        array = lengths
    else:
        array[()] = lengths
    made = terms.make_integers(array, dtype)
    if made is not None:
        return made
    text = repr((array.shape, array.ravel().tolist())).encode()
    return terms.make_term(
        EXTENTS,
        [],
        (("dtype", str(dtype).encode()), ("of", text)),
        dtype=dtype,
        shape=array.shape,
        known=array,
    )


def are_known_lengths(*terms: Term | None) -> bool:
    """Tell whether terms are known integers, among them a length that only a run shows."""
    known = [t.known for t in terms if t is not None]
    whole = all(k is not None and k.dtype == object for k in known)
    return whole and not all(are_numbers(k.ravel().tolist()) for k in known if k is not None)


def read_lengths(term: Term | None) -> list[Length] | None:
    """Return the known lengths in a tensor of one axis; None for any other term."""
    if term is None or term.known is None or term.known.dtype != object or term.known.ndim != 1:
        return None
    return list(term.known)


def measure_windows(terms: Terms, term: Term, source: Term, window: Mapping[str, Any]) -> Term:
    """Work out the unknown lengths of the result of a convolution or pool from its window.

    Args:
        terms: makes terms.
        term: the convolution or pool, whose shape is changed.
        source: the map that it reads.
        window: its attributes `kernel_shape`, `pads`, `strides` and `dilations`.

    Returns:
        The term itself.
    """
    shape, made = source.shape, term.shape
    if shape is None or made is None or len(shape) != len(made):
        return term
    kernel, pads, strides, dilations = (
        list(window[n]) for n in ("kernel_shape", "pads", "strides", "dilations")
    )
    places = len(kernel)
    for k in range(places):
        n = shape[k + 2]
        if not isinstance(n, Polynomial) or not isinstance(made[k + 2], Polynomial):
            continue
        # the specification's (n + pads - dilation * (kernel - 1) - 1) // stride + 1
        less = dilations[k] * (kernel[k] - 1) - pads[k] - pads[places + k]
        if strides[k] == 1:
            assert term.shape is not None
            term.shape = (*term.shape[: k + 2], n - less, *term.shape[k + 3 :])
        else:
            terms.lengths.name_by_formula(term, k + 2, f"({n - less - 1!r}) // {strides[k]} + 1")
    # inference may leave the batch open as well, which no window changes
    if isinstance(shape[0], Polynomial) and term.shape is not None:
        term.shape = (shape[0], *term.shape[1:])
    return term
