"""Operators with bodies, such as `If`, `Loop` and `Scan`; bodies are read where they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import AttributeProto, GraphProto, NodeProto, TypeProto

from ..equality.versions import find_oldest_meaning
from ..graph.nodes import (
    find_live_nodes,
    prefix_of_body,
    read_attributes,
    sort_topologically,
)
from ..rules.rewrites.arguments import count_axis_from_front
from ..semantics.declarations import Declaration
from ..semantics.lengths import Length
from ..vocabulary.structure import IF, SCAN, normalise_domain
from .algebra.term import Body, NoNormalFormError, Scope, Term, list_with_defaults
from .environment import Environment, Frame, ReadNode


def read_node_with_bodies(
    environment: Environment,
    read_node: ReadNode,
    node: NodeProto,
    bodies: Sequence[AttributeProto],
    operands: Sequence[Term | None],
    frame: Frame,
) -> Sequence[Term]:
    """Read a node that holds bodies, and return its results.

    Args:
        environment: what names stand for.
        read_node: reads the nodes of bodies.
        node: the node.
        bodies: its attributes that are bodies.
        operands: its operands.
        frame: the names around it.

    Raises:
        NoNormalFormError: if the operator means something else at the form's version, or has a list
            of bodies, or branches that do not fit.
    """
    if any(a.type == AttributeProto.GRAPHS for a in bodies):
        raise NoNormalFormError("a list of bodies")
    prefixes = {a.name: frame.prefix + prefix_of_body(node, a.name) for a in bodies}
    environment.outer_prefixes.update({prefixes[a.name]: frame.prefix for a in bodies})
    condition = (
        operands[0].known if node.op_type == IF and operands and operands[0] is not None else None
    )
    if condition is not None and condition.size == 1:
        # a runtime reads both branches, and refuses what it cannot read
        branches = {
            a.name: _read_branch(environment, read_node, a, frame, prefixes[a.name]) for a in bodies
        }
        if len({tuple(t.dtype for t in own) for own in branches.values()}) > 1:
            raise NoNormalFormError("branches of different types")
        return branches["then_branch" if condition.reshape(-1)[0] else "else_branch"]
    version = frame.opsets.get(normalise_domain(node.domain), 1)
    _check_meaning(environment, node, version)
    shapes = _find_formal_shapes(node, version, operands)
    made = tuple(
        _read_body(environment, read_node, a, shapes, frame, prefixes[a.name])
        for a in sorted(bodies, key=lambda a: a.name)
    )
    plain = list_with_defaults(node, environment.terms.version)
    results = environment.terms.make_node(
        node.op_type, node.domain, operands, plain, len(node.output), made
    )
    if node.op_type == IF:
        _infer_from_branches(results, made)
    return results


def _check_meaning(environment: Environment, node: NodeProto, version: int) -> None:
    """Check that an operator means the same at the version of the form."""
    domain = normalise_domain(node.domain)
    meanings = [
        find_oldest_meaning(node.op_type, domain, v) for v in (version, environment.terms.version)
    ]
    if meanings[0] != meanings[1]:
        raise NoNormalFormError(f"version {version} has another {node.op_type}")


def _infer_from_branches(results: Sequence[Term], branches: Sequence[Body]) -> None:
    """Give the results of an `If` the types and shapes that its branches have in common."""
    for k, result in enumerate(results):
        if any(body.declared[k].WhichOneof("value") for body in branches):
            # a runtime may take what is declared for true
            continue
        ends = [body.outputs[k] for body in branches]
        if len({e.dtype for e in ends}) == 1:
            result.dtype = ends[0].dtype
        if len({e.shape for e in ends}) == 1:
            result.shape = ends[0].shape


def _read_branch(
    environment: Environment,
    read_node: ReadNode,
    attribute: AttributeProto,
    frame: Frame,
    prefix: str,
) -> Sequence[Term]:
    """Read a branch whose condition is known, as a part of the graph around it."""
    graph = attribute.g
    own = Frame(_list_visible_terms(graph, frame.known), prefix, frame.opsets)
    outputs = [o.name for o in graph.output]
    for inner in find_live_nodes(sort_topologically(graph.node), outputs):
        read_node(inner, own)
    # nothing of the branch itself is left in the form, so that its inputs and outputs count as
    # inner values
    environment.note_declarations(own, (), [*graph.input, *graph.value_info, *graph.output], ())
    return environment.find_outputs(outputs, own)


def _read_body(
    environment: Environment,
    read_node: ReadNode,
    attribute: AttributeProto,
    shapes: Sequence[tuple[Length, ...] | None],
    frame: Frame,
    prefix: str,
) -> Body:
    """Read a body in a scope of its own.

    Args:
        environment: what names stand for.
        read_node: reads the body's nodes.
        attribute: the attribute that holds it.
        shapes: the shapes of its first inputs.
        frame: the names around it.
        prefix: what stands before the names of its weights.
    """
    graph: GraphProto = attribute.g
    terms = environment.terms
    scope = Scope(terms.scope)
    terms.scope = scope
    try:
        own = Frame(_list_visible_terms(graph, frame.known), prefix, frame.opsets)
        inputs = [terms.make_formal(k, v.type) for k, v in enumerate(graph.input)]
        # not the shapes that the body declares: those are compared, and need not be true
        for term, shape in zip(inputs, shapes, strict=False):
            term.shape = shape
        own.known.update({v.name: t for v, t in zip(graph.input, inputs, strict=True)})
        outputs = [o.name for o in graph.output]
        for node in find_live_nodes(sort_topologically(graph.node), outputs):
            read_node(node, own)
        environment.note_declarations(own, graph.input, graph.value_info, graph.output)
        ends = environment.find_outputs(outputs, own)
    finally:
        assert scope.outer is not None
        terms.scope = scope.outer
    declared = (
        TypeProto() if Declaration(v.name, v.type, t.dtype, t.shape).is_implied else v.type
        for v, t in zip(graph.output, ends, strict=True)
    )
    return Body(attribute.name, tuple(inputs), tuple(ends), tuple(declared), scope)


def _list_visible_terms(graph: GraphProto, known: Mapping[str, Term]) -> dict[str, Term]:
    """List the terms around a body but for those that weights of the body hide."""
    hiding = {t.name for t in graph.initializer}
    hiding |= {t.values.name for t in graph.sparse_initializer}
    return {name: term for name, term in known.items() if name not in hiding}


def _find_formal_shapes(
    node: NodeProto, version: int, operands: Sequence[Term | None]
) -> list[tuple[Length, ...] | None]:
    """Find the shapes of the inputs of a `Scan`'s body; none for another operator.

    They are those of the states, and then those of slices of what is scanned. A scan has to keep
    the shapes of its states from turn to turn, and a loop has not.
    Spec: https://onnx.ai/onnx/operators/onnx__Scan.html
    """
    given = read_attributes(node)
    if node.op_type != SCAN or normalise_domain(node.domain) or version < 9:
        return []
    scanned = int(given["num_scan_inputs"])
    axes = given.get("scan_input_axes", [0] * scanned)
    shapes = [None if o is None else o.shape for o in operands]
    states, rest = shapes[: len(shapes) - scanned], shapes[len(shapes) - scanned :]
    slices: list[tuple[Length, ...] | None] = []
    for shape, axis in zip(rest, axes, strict=True):
        place = 0 if shape is None else count_axis_from_front(axis, len(shape))
        slices.append(shape and (*shape[:place], *shape[place + 1 :]))
    return [*states, *slices]
