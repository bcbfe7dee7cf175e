"""Nodes of the default domain in normal form: by the rewrite of their operator, or as written."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto

from ...equality.versions import find_oldest_meaning
from ...normalform.algebra.elementwise import apply_before_movement
from ...normalform.algebra.inference import ResultType
from ...normalform.algebra.known_lengths import write_known_lengths
from ...normalform.algebra.numbering import MAX_KNOWN_ELEMENTS, Terms
from ...normalform.algebra.term import Attributes, NoNormalFormError, Term, list_with_defaults
from ...runtime.sessions import run_node
from ...semantics.factorisation import as_integers
from ...semantics.lengths import are_numbers
from ...vocabulary.classes import RANDOM_OPERATORS, UNARY_OPERATORS
from ...vocabulary.schemas import find_schema
from .call import REWRITES, Call

FLAG_ATTRIBUTES = (
    "allowzero",
    "ceil_mode",
    "count_include_pad",
    "is_test",
    "keepdims",
    "noop_with_empty_axes",
    "spatial",
    "training_mode",
    "transA",
    "transB",
)
"""Attributes that are 0 or 1; runtimes disagree on what other numbers mean."""
MAX_FOLDED_INTEGERS = 1 << 16
"""The largest number of elements of a constant that an operator on constants is folded to."""
SHRINKING_OPERATORS = ("Compress", "NonZero", "Unique")
"""Operators whose result has no more elements, in each row, than what they read."""


def rewrite_node(call: Call) -> Sequence[Term | None]:
    """Make the results of a node of the default domain in normal form.

    Raises:
        NoNormalFormError: if the node is not as its specification says.
    """
    inferred = call.terms.inference.check_operands(call.node, call.operands, call.version)
    schema = find_schema(call.node.op_type, "", call.version)
    for attribute in call.node.attribute:
        # a rewrite asks for the attributes that it knows, and the specification names them all
        if schema is not None and attribute.name not in schema.attributes:
            raise NoNormalFormError(f"'{attribute.name}' is no attribute of {call.node.op_type}")
        if attribute.name in FLAG_ATTRIBUTES and attribute.i not in (0, 1):
            raise NoNormalFormError(f"'{attribute.name}' is {attribute.i}, and neither 0 nor 1")
    found = REWRITES[call.node.op_type](call) if call.node.op_type in REWRITES else None
    # Asked after the rewrite, because that is when it is known which attributes it asked for.
    if found is None or not call.are_attributes_understood():
        return keep_as_written(call)
    made = [found] if isinstance(found, Term) else list(found)
    _check_shapes(call.node, made, inferred)
    return [write_known_lengths(call.terms, found)] if isinstance(found, Term) else found


def _check_shapes(
    node: NodeProto, made: Sequence[Term | None], inferred: Sequence[ResultType]
) -> None:
    """Check that a rewrite makes results of the shapes that the node has.

    A rewrite that returns one of its operands is wrong where the others would have broadcast it.

    Raises:
        NoNormalFormError: if a rank or a length differs from what onnx infers of the node.
    """
    for term, (_, shape) in zip(made, inferred, strict=False):
        if term is None or term.shape is None or shape is None:
            continue
        pairs = zip(term.shape, shape, strict=False)
        if len(term.shape) != len(shape) or any(b is not None and a != b for a, b in pairs):
            raise NoNormalFormError(f"the shape of {node.op_type} is not told in one way")


def keep_as_written(
    call: Call, operands: Sequence[Term | None] | None = None, attributes: Attributes | None = None
) -> Sequence[Term]:
    """Make the results of a node that stands as it is written.

    Args:
        call: the node.
        operands: other operands in place of its own.
        attributes: other attributes in place of its own, as the form's version has them.

    Raises:
        NoNormalFormError: if the operator means something else at the form's version. It is not
            raised where the attributes are given.
    """
    node, terms = call.node, call.terms
    if attributes is None:
        # A form has one version for all nodes, and other files may have another one.
        meanings = [find_oldest_meaning(node.op_type, "", v) for v in (call.version, terms.version)]
        if meanings[0] != meanings[1]:
            raise NoNormalFormError(
                f"version {call.version} of the operator sets has another {node.op_type} than "
                f"version {terms.version}"
            )
        attributes = list_with_defaults(node, terms.version)
        # all of them stay, whatever they mean
        call.attributes.asked.update(a.name for a in node.attribute)
    given = call.operands if operands is None else operands
    if node.op_type in UNARY_OPERATORS and given:
        before = apply_before_movement(terms, node.op_type, given, attributes)
        if before is not None:
            return [before]
    made = terms.make_node(
        node.op_type,
        "",
        given,
        attributes,
        call.result_count,
        is_unique=node.op_type in RANDOM_OPERATORS,
    )
    return [_fold_integers(terms, t) or t for t in made] if call.result_count == 1 else made


def _fold_integers(terms: Terms, term: Term) -> Term | None:
    """Compute an operator on constants whose result is small, of integers or truth values.

    None where the operator is not of that kind, or cannot be run.
    """
    operands = [o for o in term.operands if o is not None]
    if (
        not operands
        or term.results > 1
        or any(o.leaf is None or o.leaf.array.size > MAX_KNOWN_ELEMENTS for o in operands)
    ):
        return None
    if any(
        o.leaf.error_bound is not None or o.leaf.array.dtype.kind not in "biuf"
        for o in operands
        if o.leaf is not None
    ):
        return None
    if term.operator in RANDOM_OPERATORS or not _is_small(term):
        return None
    # Integers come out the same everywhere. Floats are rounded as each runtime does it.
    array = _evaluate_term(
        terms, term, [o.leaf.array if o and o.leaf else None for o in term.operands]
    )
    if array is None or array.dtype.kind not in "biu":
        return None
    return terms.make_constant(array)


def _is_small(term: Term) -> bool:
    """Tell whether a result is known to have few elements before it is computed."""
    if term.operator in SHRINKING_OPERATORS:
        return True
    return (
        term.shape is not None
        and are_numbers(term.shape)
        and math.prod(as_integers(term.shape)) <= MAX_FOLDED_INTEGERS
    )


def _evaluate_term(
    terms: Terms, term: Term, arrays: Sequence[np.ndarray | None]
) -> np.ndarray | None:
    """Run the operator of a term on constants; None where onnxruntime does not take it."""
    names = ["" if a is None else f"a{k}" for k, a in enumerate(arrays)]
    node = NodeProto(op_type=term.operator, input=names, output=["r"])
    node.attribute.extend(onnx.AttributeProto.FromString(b) for _, b in term.attributes)
    return run_node(
        node, terms.version, {n: a for n, a in zip(names, arrays, strict=True) if a is not None}
    )
