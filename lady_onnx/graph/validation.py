"""Checks that a file says one thing: names, versions, attributes. Readers rely on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from ..errors import LadyError
from ..vocabulary.schemas import Signature, find_signature, list_newest_versions
from ..vocabulary.structure import CONSTANT, MIN_BODIES, normalise_domain
from .functions import count_inlined_nodes
from .model import Graph
from .nodes import (
    describe_node,
    list_bodies,
    list_nodes,
    list_repeated,
    prefix_of_body,
    prefix_of_function,
    walk_nodes,
)

MAX_INLINED_NODES, MAX_INLINED_NODES_PER_NODE = 1 << 12, 64
"""The number of nodes that a model may have once its functions are written where they are called.

It may have the first number, and the second for each node of its file. A chain of functions
that call the next one twice grows exponentially.
"""

FIELD_OF_TYPE = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    AttributeProto.TYPE_PROTO: "tp",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
    AttributeProto.TENSORS: "tensors",
    AttributeProto.GRAPHS: "graphs",
    AttributeProto.SPARSE_TENSORS: "sparse_tensors",
    AttributeProto.TYPE_PROTOS: "type_protos",
}
"""By the type that an attribute gives itself, the field that holds its value."""

INTERNAL_PREFIX = "__"
"""What names of attributes begin with that onnx's own checker lets pass."""

FIELDS_BESIDE_CONTENT = {"name", "type", "doc_string", "ref_attr_name"}
"""Fields of an attribute that do not hold its value."""

OPERATOR_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
"""Domains whose operators ONNX defines."""
UNLIMITED = 2**31 - 1
"""The largest number of operands of operators that have any number of them."""

VENDOR_DOMAIN_PREFIX = "com.microsoft"
"""What the names of the domains of onnxruntime's own operators begin with."""


def check_attributes(model: ModelProto, file: str) -> None:
    """Raise LadyError where an attribute holds something else than its type says.

    Readers may then go by the type or by the field.

    Args:
        model: the model.
        file: its name, for messages.
    """
    for node in list_nodes(model):
        for name in list_repeated([a.name for a in node.attribute]):
            what = f"node {describe_node(node)} has two attributes '{name}'; remove one"
            raise LadyError(f"{file}: {what}")
        for attribute in node.attribute:
            if _is_ambiguous(attribute):
                where = f"attribute '{attribute.name}' of node {describe_node(node)}"
                what = f"{where} holds something else than its type says; export the model again"
                raise LadyError(f"{file}: {what}")
            if node.op_type != CONSTANT and _lies_outside(attribute):
                where = f"attribute '{attribute.name}' of node {describe_node(node)}"
                what = f"{where} lies in external data; put it into the file"
                raise LadyError(f"{file}: {what}")
    for function in model.functions:
        defaults = function.attribute_proto
        for name in list_repeated([*function.attribute, *(a.name for a in defaults)]):
            what = f"function '{function.name}' has two attributes '{name}'; remove one"
            raise LadyError(f"{file}: {what}")
        for attribute in defaults:
            if attribute.ref_attr_name or _is_ambiguous(attribute):
                where = f"the default of '{attribute.name}' of function '{function.name}'"
                what = f"{where} cannot be read in one way; export the model again"
                raise LadyError(f"{file}: {what}")


def _is_ambiguous(attribute: AttributeProto) -> bool:
    """Tell whether an attribute holds values in another field than its type says."""
    # Only fields that the file gives are listed, those with a default value among them.
    held = {f.name for f, _ in attribute.ListFields()} - FIELDS_BESIDE_CONTENT
    return bool(held - {FIELD_OF_TYPE.get(attribute.type)})


def _lies_outside(attribute: AttributeProto) -> bool:
    """Tell whether an attribute holds a tensor whose numbers are in another file.

    Only those of weights and constants are read from there.
    """
    tensors = [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])]
    sparse = [*attribute.sparse_tensors]
    sparse += [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    tensors += [part for s in sparse for part in (s.values, s.indices)]
    return any(t.data_location == TensorProto.EXTERNAL for t in tensors)


def check_versions(graph: Graph) -> None:
    """Raise LadyError where versions are unclear or unknown, or a model is cut short or too large.

    Versions are unclear where a file names two different ones of one domain. Too large is what has
    too many nodes once its functions are written where they are called.
    """
    model = graph.model
    imports = {f"function '{f.name}'": f.opset_import for f in model.functions}
    for what, opsets in {"the model": model.opset_import, **imports}.items():
        # The default domain has two names, and a version under each would be two versions.
        versions = {("" if o.domain == "ai.onnx" else o.domain, o.version) for o in opsets}
        # One version twice is read in one way: skl2onnx writes it.
        for domain in list_repeated(domain for domain, _ in versions):
            imported = f"{what} imports domain '{domain or 'ai.onnx'}' twice"
            raise LadyError(f"{graph.name}: {imported}; keep one version")
        for domain, version in versions:
            if version > list_newest_versions().get(domain, version):
                of_domain = f" of domain '{domain}'" if domain else ""
                newer = f"opset {version}{of_domain} is newer than any that is known; update onnx"
                raise LadyError(f"{graph.name}: {newer}")
    if model.ir_version > onnx.IR_VERSION:
        newer = f"is newer than onnx {onnx.__version__} knows; update onnx"
        raise LadyError(f"{graph.name}: IR version {model.ir_version} {newer}")
    _check_bodies(graph)
    _check_nodes(graph)
    _check_size(graph)


def _check_bodies(graph: Graph) -> None:
    """Raise LadyError where a node lacks a graph that its operator must hold."""
    for node in list_nodes(graph.model):
        is_default = node.domain in ("", "ai.onnx")
        needed = MIN_BODIES.get(node.op_type, 0) if is_default else 0
        if sum(1 for _ in list_bodies(node)) < needed:
            what = f"node {describe_node(node)} has no body: cut short"
            raise LadyError(f"{graph.name}: {what}; export the model again")


def _check_nodes(graph: Graph) -> None:
    """Raise LadyError at a node that its operator does not allow in the version of the file.

    Some runtimes refuse it, others take no notice, and others read memory that is not theirs.
    """
    model = graph.model
    parts = [(model.opset_import, model.graph.node)]
    parts += [(f.opset_import, f.node) for f in model.functions]
    for imports, nodes in parts:
        versions = {normalise_domain(o.domain): o.version for o in imports}
        for node in walk_nodes(nodes):
            version = versions.get(normalise_domain(node.domain), 0)
            known = find_signature(node.op_type, node.domain, version)
            what = known and (_find_unknown_attribute(node, known) or _find_misfit(node, known))
            if what:
                where = f"{graph.name}: node {describe_node(node)} {what} in opset {version}"
                raise LadyError(f"{where}; export the model again")


def _find_unknown_attribute(node: NodeProto, known: Signature) -> str:
    """Find an attribute of a node that its operator does not have; empty where there is none."""
    for name in (a.name for a in node.attribute):
        if name not in known.attributes and not name.startswith(INTERNAL_PREFIX):
            return f"has attribute '{name}', which its operator does not have"
    return ""


def _find_misfit(node: NodeProto, known: Signature) -> str:
    """Find how operands or results of a node are none of its operator; empty if they all are.

    An empty name leaves an operand out, which only an optional one may be.
    """
    for kind, count, (least, most) in (
        ("operands", len(node.input), known.operand_counts),
        ("results", len(node.output), known.result_counts),
    ):
        if not least <= count <= most:
            need = f"{least}" if least == most else f"{least} to {most}"
            need = f"at least {least}" if most >= UNLIMITED else need
            return f"has {count} {kind}, and its operator has {need}"
    for place, name in enumerate(node.input):
        if not name and not known.are_optional[min(place, len(known.are_optional) - 1)]:
            return f"leaves out operand {place}, which its operator needs"
    return ""


def _check_size(graph: Graph) -> None:
    """Raise LadyError where a model has too many nodes once its functions are inlined."""
    own = sum(1 for _ in list_nodes(graph.model))
    limit = MAX_INLINED_NODES + MAX_INLINED_NODES_PER_NODE * own
    try:
        count = count_inlined_nodes(graph.model, limit)
    except RecursionError:
        count = limit + 1
    if count > limit:
        what = f"over {limit} nodes once its functions are written where they are called"
        raise LadyError(f"{graph.name}: {what}; export it again without functions")


def check_names(graph: Graph) -> None:
    """Raise LadyError where a name stands for two things, or for nothing.

    Runtimes differ in which of two things they take, so that no answer would be right.
    """
    model = graph.model
    _check_functions(graph)
    # onnxruntime reads constants as weights, and asks only other nodes for names of their own
    nodes = [n for n in model.graph.node if n.name and n.op_type != CONSTANT]
    for name in list_repeated([n.name for n in nodes]):
        raise LadyError(f"{graph.name}: two nodes are called '{name}'; give one another name")
    for what, names in _list_scopes(model):
        for name in list_repeated(names):
            called = f"two values of {what} are called '{name}'"
            raise LadyError(f"{graph.name}: {called}; give one another name")
    for tensor in graph.tensors.values():
        if tensor.HasField("segment"):
            what = f"weight '{tensor.name}' is stored in segments"
            raise LadyError(f"{graph.name}: {what}; export the model again")
    produced = [o for node in model.graph.node for o in node.output if o]
    made = produced + [t.name for t in model.graph.initializer]
    for name in list_repeated(made):
        raise LadyError(f"{graph.name}: '{name}' is made twice; give one another name")
    _check_inner_names(graph, set(made))
    _check_outputs(graph, produced)


def _check_functions(graph: Graph) -> None:
    """Raise LadyError where two functions have one name, or one has the name of an operator."""
    if len(graph.functions) < len(graph.model.functions):
        raise LadyError(f"{graph.name}: two functions have one name; remove one")
    for function in graph.model.functions:
        domain = function.domain
        if domain in OPERATOR_DOMAINS or domain.startswith(VENDOR_DOMAIN_PREFIX):
            what = f"function '{function.name}' stands in a domain of operators, '{domain}'"
            raise LadyError(f"{graph.name}: {what}; give it a domain of its own")


def _check_inner_names(graph: Graph, made: set[str]) -> None:
    """Raise LadyError where a name could be that of a weight inside a body or a function.

    `Graph.tensors` calls these by the path that leads to them, and two things of one name would be
    taken for each other.

    Args:
        graph: the graph.
        made: the names of all values that the main graph makes.
    """
    homes = [
        (prefix_of_body(node, name), body.node)
        for node in graph.model.graph.node
        for name, body in list_bodies(node)
    ]
    homes += [(prefix_of_function(f), f.node) for f in graph.model.functions]
    for home, nodes in homes:
        for name in made & {home + name for name in _list_read_names(nodes)}:
            what = f"'{name}' is named like a weight inside a node or a function"
            raise LadyError(f"{graph.name}: {what}; give it another name")


def _check_outputs(graph: Graph, produced: Iterable[str]) -> None:
    """Raise LadyError where a file's output is made by no node: the file is cut short.

    A model in memory was made as it is.
    """
    known = {*produced, *graph.tensors, *(v.name for v in graph.model.graph.input)}
    for output in graph.model.graph.output if graph.path else ():
        if output.name not in known:
            what = f"output '{output.name}' is made by no node: cut short"
            raise LadyError(f"{graph.name}: {what}; export or copy it again")


def _list_read_names(nodes: Iterable[NodeProto], home: str = "") -> Iterator[str]:
    """Yield the names that some nodes read.

    Names in bodies get what stands before the names of weights there.
    """
    for node in nodes:
        yield from (home + name for name in node.input)
        for attribute, body in list_bodies(node):
            yield from _list_read_names(body.node, home + prefix_of_body(node, attribute))


def _list_scopes(model: ModelProto) -> Iterator[tuple[str, list[str]]]:
    """Yield the names that are given in each function and body, and those of the model's inputs."""
    yield "the inputs", [v.name for v in model.graph.input]
    for function in model.functions:
        made = [o for node in function.node for o in node.output if o]
        yield f"function '{function.name}'", [*filter(None, function.input), *made]
    for node in list_nodes(model):
        for name, body in list_bodies(node):
            made = [o for inner in body.node for o in inner.output if o]
            made += [t.name for t in body.initializer]
            made += [t.values.name for t in body.sparse_initializer]
            inputs = [v.name for v in body.input if v.name]
            yield f"body '{name}' of node {describe_node(node)}", [*inputs, *made]
