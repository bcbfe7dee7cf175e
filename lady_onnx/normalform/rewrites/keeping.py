"""TODO."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto

from ...equality.versions import find_oldest_meaning
from ...rules.classes import RANDOM_OPERATORS, UNARY_OPERATORS
from ...runtime.sessions import run_node
from ...semantics.lengths import are_numbers
from ...semantics.schemas import find_schema
from ..algebra.elementwise import apply_before_movement
from ..algebra.factorisation import as_integers
from ..algebra.known_lengths import write_known_lengths
from ..algebra.numbering import Terms
from ..algebra.term import Attributes, NoNormalForm, Term, list_with_defaults
from .call import FLAG_ATTRIBUTES, REWRITES, Call

MAX_FOLDED_INTEGERS = 1 << 16
"""No constant of whole numbers that an operator gives has more elements."""


def rewrite_node(call: Call) -> Sequence[Term | None]:
    """The results of a node of the default domain in normal form.

    Raises NoForm for a node that is not as its specification says.
    """
    call.terms.check(call.node, call.operands, call.version)
    schema = find_schema(call.node.op_type, "", call.version)
    for attribute in call.node.attribute:
        # a rule reads the attributes that it knows, and these are all that there are
        if schema is not None and attribute.name not in schema.attributes:
            raise NoNormalForm(f"'{attribute.name}' is no attribute of {call.node.op_type}")
        if attribute.name in FLAG_ATTRIBUTES and attribute.i not in (0, 1):
            raise NoNormalForm(f"'{attribute.name}' is {attribute.i}, and neither 0 nor 1")
    found = REWRITES[call.node.op_type](call) if call.node.op_type in REWRITES else None
    if found is None or not call.is_understood():
        return keep_as_written(call)
    return [write_known_lengths(call.terms, found)] if isinstance(found, Term) else found


def keep_as_written(
    call: Call, operands: Sequence[Term | None] | None = None, attributes: Attributes | None = None
) -> Sequence[Term]:
    """A node as it stands, if it means the same at the form's version."""
    node, terms = call.node, call.terms
    if attributes is None:
        meanings = [find_oldest_meaning(node.op_type, "", v) for v in (call.version, terms.version)]
        if meanings[0] != meanings[1]:
            raise NoNormalForm(
                f"version {call.version} of the operator sets has another {node.op_type} than version {terms.version}"
            )
        attributes = list_with_defaults(node, terms.version)
    left = call.operands if operands is None else operands
    if node.op_type in UNARY_OPERATORS and left:
        before = apply_before_movement(terms, node.op_type, left, attributes)
        if before is not None:
            return [before]
    made = terms.node(
        node.op_type, "", left, attributes, call.results, once=node.op_type in RANDOM_OPERATORS
    )
    return [fold_integers(terms, t) or t for t in made] if call.results == 1 else made


def fold_integers(terms: Terms, term: Term) -> Term | None:
    """A small constant of whole numbers or truth values, for an operator on constants."""
    operands = [o for o in term.operands if o is not None]
    if (
        not operands
        or term.results > 1
        or any(o.leaf is None or o.leaf.array.size > 1 << 12 for o in operands)
    ):
        return None
    if any(
        o.leaf.room is not None or o.leaf.array.dtype.kind not in "biuf"
        for o in operands
        if o.leaf is not None
    ):
        return None
    if term.operator in RANDOM_OPERATORS or not is_small(term):
        return None
    array = evaluate_term(
        terms, term, [o.leaf.array if o and o.leaf else None for o in term.operands]
    )
    if array is None or array.dtype.kind not in "biu":
        return None
    return terms.constant(array)


def is_small(term: Term) -> bool:
    """Is it known before it is computed that a result has few elements?"""
    if term.operator in ("Compress", "NonZero", "Unique"):
        # no more than what it reads
        return True
    return (
        term.shape is not None
        and are_numbers(term.shape)
        and math.prod(as_integers(term.shape)) <= MAX_FOLDED_INTEGERS
    )


def evaluate_term(
    terms: Terms, term: Term, arrays: Sequence[np.ndarray | None]
) -> np.ndarray | None:
    """What onnxruntime gives for constants; onnx's reference implementation takes what no runtime does."""
    names = ["" if a is None else f"a{k}" for k, a in enumerate(arrays)]
    node = NodeProto(op_type=term.operator, input=names, output=["r"])
    node.attribute.extend(onnx.AttributeProto.FromString(b) for _, b in term.attributes)
    return run_node(
        node, terms.version, {n: a for n, a in zip(names, arrays, strict=True) if a is not None}
    )
