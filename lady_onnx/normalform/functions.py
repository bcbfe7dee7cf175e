"""Operators that stand for other nodes: local functions, and fused operators with a plain form."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import onnx.helper
import onnx.numpy_helper
from onnx import AttributeProto, FunctionProto, NodeProto

from ..equality.versions import find_oldest_meaning
from ..graph.nodes import (
    find_live_nodes,
    prefix_of_function,
    sort_topologically,
    walk_nodes,
)
from ..rules.plain_forms import spell_out
from ..rules.rewrites.blocks.reading import NodeRewriter
from ..vocabulary.names import ADD, MUL
from ..vocabulary.structure import CONSTANT, normalise_domain
from .algebra.sums import is_shape_kept
from .algebra.term import NoNormalFormError, Term, list_with_defaults
from .environment import Environment, Frame, ReadNode

PLAIN_FORM_VERSION = 20
"""The version of the default domain that plain forms of fused operators are written in."""


def read_function_call(
    environment: Environment,
    read_node: ReadNode,
    node: NodeProto,
    function: FunctionProto,
    operands: Sequence[Term | None],
) -> Sequence[Term | None]:
    """Read the nodes of a local function where it is called, and return the results.

    Raises:
        NoNormalFormError: if the function calls itself, or if runtimes disagree on what it means.
    """
    key = prefix_of_function(function)
    if key in environment.active_functions:
        raise NoNormalFormError("a function that calls itself")
    given = {a.name: a for a in function.attribute_proto} | {a.name: a for a in node.attribute}
    opsets = {normalise_domain(o.domain): o.version for o in function.opset_import}
    _check_versions(environment, function, opsets)
    frame = Frame({}, key, opsets)
    # an input that the call leaves out counts as left out of the nodes that read it
    left_out = set(function.input)
    for name, operand in zip(function.input, operands, strict=False):
        if operand is not None:
            frame.known[name] = operand
            left_out.discard(name)
    environment.active_functions.append(key)
    try:
        for inner in find_live_nodes(sort_topologically(function.node), list(function.output)):
            bound = _bind_attributes(inner, given)
            for k, name in enumerate(bound.input):
                if name in left_out:
                    bound.input[k] = ""
            read_node(bound, frame)
        # a function declares no types of its inputs and outputs
        environment.note_declarations(frame, (), function.value_info, ())
    finally:
        environment.active_functions.pop()
    return [environment.find_term(name, frame) for name in function.output]


def _check_versions(
    environment: Environment, function: FunctionProto, opsets: Mapping[str, int]
) -> None:
    """Check that a function's nodes mean the same at its own versions and at the model's.

    Runtimes differ in which of the two they take.
    """
    for inner in walk_nodes(function.node):
        domain = normalise_domain(inner.domain)
        versions = [known.get(domain, 1) for known in (opsets, environment.graph.opsets)]
        if (
            versions[0] != versions[1]
            and len({find_oldest_meaning(inner.op_type, domain, v) for v in versions}) > 1
        ):
            raise NoNormalFormError(
                f"a function of version {versions[0]} in a model of version {versions[1]} "
                f"with another {inner.op_type}"
            )


def _bind_attributes(node: NodeProto, given: Mapping[str, AttributeProto]) -> NodeProto:
    """Copy a node of a function with the attributes that a call gives.

    An attribute that refers to one that the call leaves out is left out.
    """
    bound = NodeProto()
    bound.CopyFrom(node)
    del bound.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            kept = bound.attribute.add()
            kept.CopyFrom(attribute)
            # nodes of a body may refer to attributes of the call as well
            if attribute.type == AttributeProto.GRAPH:
                inner = [_bind_attributes(n, given) for n in attribute.g.node]
                del kept.g.node[:]
                kept.g.node.extend(inner)
        elif attribute.ref_attr_name in given:
            kept = bound.attribute.add()
            kept.CopyFrom(given[attribute.ref_attr_name])
            kept.name = attribute.name
    return bound


def read_fused_node(
    environment: Environment,
    rewrite: NodeRewriter,
    node: NodeProto,
    operands: Sequence[Term | None],
    frame: Frame,
    version: int,
) -> Sequence[Term | None]:
    """Read an operator outside the specification by its plain form, or as it stands.

    Args:
        environment: what names stand for.
        rewrite: makes the results of the nodes of the plain form.
        node: the node.
        operands: its operands.
        frame: the names around it.
        version: the version of its domain.

    Raises:
        NoNormalFormError: if it is of the default domain, or if its operands broadcast.
    """
    graph, terms = environment.graph, environment.terms

    def find_rank(name: str) -> int | None:
        if name in frame.known:
            return frame.known[name].rank
        return len(graph.shape(frame.prefix + name))

    counter = itertools.count(1)

    def make_name(hint: str) -> str:
        # no name in a file holds a null character
        return f"\0{hint}{next(counter)}"

    spelled = None if terms.is_exact else spell_out(node, find_rank, make_name)
    if spelled is None:
        if not normalise_domain(node.domain):
            raise NoNormalFormError("an operator that the specification does not have")
        attributes = list_with_defaults(node, version)
        # of an operator that nothing is known of, two nodes may give different results
        return terms.make_node(
            node.op_type, node.domain, operands, attributes, len(node.output), is_unique=True
        )
    known = dict(frame.known)
    for name, operand in zip(node.input, operands, strict=False):
        if operand is not None:
            known[name] = operand
    for part in spelled:
        _read_part(environment, rewrite, part, known, node.input)
    return [known[name] if name else None for name in node.output]


def _read_part(
    environment: Environment,
    rewrite: NodeRewriter,
    part: NodeProto,
    known: dict[str, Term],
    given: Sequence[str],
) -> None:
    """Read a node of a plain form, and add its results to what is known.

    Args:
        environment: what names stand for.
        rewrite: makes the results of the node.
        part: the node.
        known: the terms of the fused operator's operands, and of the nodes before this one.
        given: the names of the fused operator's operands.

    Raises:
        NoNormalFormError: if its operands broadcast as the fused operator itself may not.
    """
    if part.op_type == CONSTANT:
        value = onnx.helper.get_attribute_value(part.attribute[0])
        known[part.output[0]] = environment.terms.make_constant(onnx.numpy_helper.to_array(value))
        return
    operands = [known[n] if n else None for n in part.input]
    if part.op_type in (ADD, MUL) and not _may_combine(operands, [n in given for n in part.input]):
        raise NoNormalFormError("its operands broadcast as the operator itself may not")
    made = rewrite(part, PLAIN_FORM_VERSION, operands)
    known.update({n: t for n, t in zip(part.output, made, strict=False) if n and t is not None})


def _may_combine(operands: Sequence[Term | None], are_given: Sequence[bool]) -> bool:
    """Tell whether a fused operator may add or multiply operands of these shapes.

    An operand of the fused operator itself must not broadcast the other one to a larger shape.

    Args:
        operands: the two operands of the sum or product.
        are_given: for each whether it is an operand of the fused operator itself.
    """
    a, b = operands
    if a is None or b is None:
        return False
    if are_given[1] and not (are_given[0] and b.shape == a.shape):
        return b.shape == a.shape or (
            b.rank == 1 and bool(a.shape) and b.shape == (a.shape or ())[-1:]
        )
    return is_shape_kept(a, b) or is_shape_kept(b, a)
