"""Nodes of ONNX graphs: their attributes, the bodies inside them, their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import onnx
import onnx.inliner
import onnx.numpy_helper
import onnx.shape_inference
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

from ..errors import ArchitectureError

SUBGRAPH_TYPES = (AttributeProto.UNDEFINED, AttributeProto.GRAPH, AttributeProto.GRAPHS)
"""What an attribute says that it is, if it may hold a subgraph."""


def read_attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes of `node` as Python values."""
    return {
        a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if not a.ref_attr_name
    }


def describe_node(node: NodeProto) -> str:
    """How a node is called in messages: its operator and its name, or its first output."""
    return f"{node.op_type} '{node.name or next(iter(node.output), '')}'"


def list_captured_names(node: NodeProto) -> list[str]:
    """The names that the subgraphs of a node read, their own included."""
    names: list[str] = []
    for attribute in node.attribute:
        if attribute.type not in SUBGRAPH_TYPES:
            continue
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            for inner in graph.node:
                names += [*inner.input, *list_captured_names(inner)]
            names += [o.name for o in graph.output]
    return names


def sort_topologically(nodes: Iterable[NodeProto]) -> list[NodeProto]:
    """Nodes in their own order, but for those that stand before what they read; some tools append out of order."""
    waiting = list(nodes)
    ahead = {o for node in waiting for o in node.output if o}
    result: list[NodeProto] = []
    while waiting:
        late = []
        for node in waiting:
            if ahead.isdisjoint(node.input) and ahead.isdisjoint(list_captured_names(node)):
                result.append(node)
                ahead.difference_update(node.output)
            else:
                late.append(node)
        if len(late) == len(waiting):
            # a cycle: whoever reads these nodes will find what is missing
            return result + late
        waiting = late
    return result


def pair_by_name(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[str, str]]:
    """Inputs, or outputs, of two models that are each other's: those of one name if all names are the same, else in order.

    Raises ArchitectureError where one has more.
    """
    if len(ours) != len(theirs):
        raise ArchitectureError(
            f"there are {len(theirs)} inputs or outputs where the reference has {len(ours)}"
        )
    return (
        [(a, a) for a in ours] if set(ours) == set(theirs) else list(zip(ours, theirs, strict=True))
    )


def list_bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The graphs inside a node, each with the name of its attribute."""
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield attribute.name, graph


def walk_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Some nodes, and all nodes of the bodies inside them."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        for _, graph in list_bodies(node):
            waiting += graph.node


def list_nodes(model: ModelProto) -> Iterator[NodeProto]:
    """All nodes of a model, of its functions, and of the bodies inside them."""
    return walk_nodes([*model.graph.node, *(n for f in model.functions for n in f.node)])


def prefix_of_body(node: NodeProto, attribute: str) -> str:
    """What stands before the names of weights in a subgraph: `node/attribute/`."""
    return f"{node.name or next(iter(node.output), '')}/{attribute}/"


def prefix_of_function(function: FunctionProto) -> str:
    """What stands before the names of weights in a local function."""
    return f"{function.domain}.{function.name}{function.overload}/"


def list_repeated(names: Iterable[str]) -> list[str]:
    """The names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def find_live_nodes(nodes: Sequence[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """The nodes that the outputs hang on, in their order, which is one in which each comes after what it reads."""
    wanted = set(outputs)
    found = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            found.append(node)
            wanted.update(node.input)
            wanted.update(list_captured_names(node))
    return found[::-1]


FLOAT_TYPES = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)
