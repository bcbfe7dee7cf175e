"""Checks that a file says one thing: names, versions, attributes. Readers rely on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
import onnx.inliner
import onnx.numpy_helper
import onnx.shape_inference
from onnx import AttributeProto, ModelProto, NodeProto

from ..errors import LadyError
from .functions import count_inlined_nodes
from .model import Graph
from .nodes import (
    describe_node,
    list_bodies,
    list_nodes,
    list_repeated,
    prefix_of_body,
    prefix_of_function,
)

MIN_BODIES = {"If": 2, "Loop": 1, "Scan": 1}
"""How many graphs an operator holds."""


MAX_INLINED_NODES, MAX_INLINED_NODES_PER_NODE = 1 << 12, 64
"""A model whose functions are written where they are called has at most so many nodes, and so many
more for each node of its file."""


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
"""By what an attribute says that it is the field that holds it."""


FIELDS_BESIDE_CONTENT = {"name", "type", "doc_string", "ref_attr_name"}


def check_attributes(model: ModelProto, file: str) -> None:
    """Raises LadyError where an attribute holds something else than it says, so that readers may take either."""
    for node in list_nodes(model):
        for name in list_repeated([a.name for a in node.attribute]):
            raise LadyError(
                f"{file}: node {describe_node(node)} has two attributes '{name}'; remove one"
            )
        for attribute in node.attribute:
            held = {f.name for f, _ in attribute.ListFields()} - FIELDS_BESIDE_CONTENT
            if held - {FIELD_OF_TYPE.get(attribute.type)}:
                what = f"attribute '{attribute.name}' of node {describe_node(node)} holds something else than its type says"
                raise LadyError(f"{file}: {what}; export the model again")
    for function in model.functions:
        for name in list_repeated(
            [*function.attribute, *(a.name for a in function.attribute_proto)]
        ):
            raise LadyError(
                f"{file}: function '{function.name}' has two attributes '{name}'; remove one"
            )
        for attribute in function.attribute_proto:
            held = {f.name for f, _ in attribute.ListFields()} - FIELDS_BESIDE_CONTENT
            if attribute.ref_attr_name or held - {FIELD_OF_TYPE.get(attribute.type)}:
                what = f"the default of '{attribute.name}' of function '{function.name}' cannot be read in one way"
                raise LadyError(f"{file}: {what}; export the model again")


def check_versions(graph: Graph) -> None:
    """Raises LadyError where a file speaks two versions of a domain or an unknown one, or is too large.

    Too large is what has too many nodes once its functions are written where they are called.
    """
    model = graph.model
    imports = {f"function '{f.name}'": f.opset_import for f in model.functions}
    for what, opsets in {"the model": model.opset_import, **imports}.items():
        domains = ["" if o.domain == "ai.onnx" else o.domain for o in opsets]
        for domain in list_repeated(domains):
            raise LadyError(
                f"{graph.name}: {what} imports domain '{domain or 'ai.onnx'}' twice; keep one version"
            )
    newer = f"is newer than onnx {onnx.__version__} knows; update onnx"
    if model.ir_version > onnx.IR_VERSION:
        raise LadyError(f"{graph.name}: IR version {model.ir_version} {newer}")
    if graph.opset() > onnx.defs.onnx_opset_version():
        raise LadyError(f"{graph.name}: opset {graph.opset()} {newer}")
    for node in list_nodes(model):
        least = MIN_BODIES.get(node.op_type, 0) if node.domain in ("", "ai.onnx") else 0
        if sum(1 for _ in list_bodies(node)) < least:
            what = f"node {describe_node(node)} has no body: cut short"
            raise LadyError(f"{graph.name}: {what}; export the model again")
    own = sum(1 for _ in list_nodes(model))
    most = MAX_INLINED_NODES + MAX_INLINED_NODES_PER_NODE * own
    try:
        many = count_inlined_nodes(model, most)
    except RecursionError:
        many = most + 1
    if many > most:
        what = f"over {most} nodes once its functions are written where they are called"
        raise LadyError(f"{graph.name}: {what}; export it again without functions")


def check_names(graph: Graph) -> None:
    """Raises LadyError where a name stands for two things, or for nothing.

    Runtimes differ in which of two they take, so that no answer would be right.
    """
    model = graph.model
    if len(graph.functions) < len(model.functions):
        raise LadyError(f"{graph.name}: two functions have one name; remove one")
    for f in model.functions:
        if f.domain in ("", "ai.onnx", "ai.onnx.ml") or f.domain.startswith("com.microsoft"):
            what = f"function '{f.name}' stands in a domain of operators, '{f.domain}'"
            raise LadyError(f"{graph.name}: {what}; give it a domain of its own")
    for name in list_repeated([n.name for n in model.graph.node if n.name]):
        raise LadyError(f"{graph.name}: two nodes are called '{name}'; give one another name")
    for what, names in _list_scopes(model):
        for name in list_repeated(names):
            raise LadyError(
                f"{graph.name}: two values of {what} are called '{name}'; give one another name"
            )
    for tensor in graph.tensors.values():
        if tensor.HasField("segment"):
            raise LadyError(
                f"{graph.name}: weight '{tensor.name}' is stored in segments; export the model again"
            )
    produced = [o for node in model.graph.node for o in node.output if o]
    for name in list_repeated(produced + [t.name for t in model.graph.initializer]):
        raise LadyError(f"{graph.name}: '{name}' is made twice; give one another name")
    homes = [
        (prefix_of_body(node, name), body.node)
        for node in model.graph.node
        for name, body in list_bodies(node)
    ]
    homes += [(prefix_of_function(f), f.node) for f in model.functions]
    made = {*produced, *(t.name for t in model.graph.initializer)} if homes else set()
    for home, nodes in homes:
        for name in made & {home + name for name in _list_read_names(nodes)}:
            raise LadyError(
                f"{graph.name}: '{name}' is named like a weight inside a node or a function; give it another name"
            )
    known = {*produced, *graph.tensors, *(v.name for v in model.graph.input)}
    # of a file that is cut short the outputs are missing; a model in memory was made so
    for output in model.graph.output if graph.path else ():
        if output.name not in known:
            raise LadyError(
                f"{graph.name}: output '{output.name}' is made by no node: cut short; export or copy it again"
            )


def _list_read_names(nodes: Iterable[NodeProto], home: str = "") -> Iterator[str]:
    """The names that some nodes read; of those in bodies with what stands before the names of weights there."""
    for node in nodes:
        yield from (home + name for name in node.input)
        for attribute, body in list_bodies(node):
            yield from _list_read_names(body.node, home + prefix_of_body(node, attribute))


def _list_scopes(model: ModelProto) -> Iterator[tuple[str, list[str]]]:
    """The names that are given in each function and body; of the model itself those of its inputs."""
    yield "the inputs", [v.name for v in model.graph.input]
    for function in model.functions:
        made = [o for node in function.node for o in node.output if o]
        yield f"function '{function.name}'", [*filter(None, function.input), *made]
    for node in list_nodes(model):
        for name, body in list_bodies(node):
            made = [o for inner in body.node for o in inner.output if o]
            made += [t.name for t in body.initializer] + [
                t.values.name for t in body.sparse_initializer
            ]
            yield (
                f"body '{name}' of node {describe_node(node)}",
                [*(v.name for v in body.input if v.name), *made],
            )
