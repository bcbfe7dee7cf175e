"""Nodes of ONNX graphs: their attributes, the bodies inside them, their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

from ..errors import ArchitectureError

SUBGRAPH_TYPES = (AttributeProto.UNDEFINED, AttributeProto.GRAPH, AttributeProto.GRAPHS)
"""The types that an attribute may give itself if it holds a subgraph."""


def read_attributes(node: NodeProto) -> dict[str, Any]:
    """Return the attributes of a node as Python values, without references to a function's.

    >>> read_attributes(onnx.helper.make_node("Concat", ["a", "b"], ["c"], axis=1))
    {'axis': 1}
    """
    return {
        a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if not a.ref_attr_name
    }


def describe_node(node: NodeProto) -> str:
    """Return what a node is called in messages: its operator, and its name or first output.

    >>> describe_node(onnx.helper.make_node("Relu", ["x"], ["y"]))
    "Relu 'y'"
    """
    return f"{node.op_type} '{node.name or next(iter(node.output), '')}'"


def list_captured_names(node: NodeProto) -> list[str]:
    """Return the names that the subgraphs of a node read, their own included."""
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
    """Return nodes in their own order, but each after those that it reads from.

    Some tools append nodes out of order. Nodes in a cycle come last: whoever reads them finds what
    is missing.
    """
    # Every turn takes the nodes whose operands are made. Most files need a single turn.
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
            return result + late
        waiting = late
    return result


def pair_by_name(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[str, str]]:
    """Pair the inputs, or the outputs, of two models.

    Names belong to each other if all are the same; otherwise their order decides.

    Args:
        ours: the names in the reference.
        theirs: the names in the other model.

    Raises:
        ArchitectureError: one model has more of them.

    >>> pair_by_name(["x", "mask"], ["mask", "x"])
    [('x', 'x'), ('mask', 'mask')]
    >>> pair_by_name(["x", "mask"], ["input", "mask"])
    [('x', 'input'), ('mask', 'mask')]
    """
    if len(ours) != len(theirs):
        raise ArchitectureError(
            f"there are {len(theirs)} inputs or outputs where the reference has {len(ours)}"
        )
    has_same_names = set(ours) == set(theirs)
    return [(a, a) for a in ours] if has_same_names else list(zip(ours, theirs, strict=True))


def list_bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """Yield the graphs inside a node, each with the name of its attribute."""
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield attribute.name, graph


def walk_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yield some nodes, and all nodes of the bodies inside them, in no particular order."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        for _, graph in list_bodies(node):
            waiting += graph.node


def list_nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Yield all nodes of a model, of its functions, and of the bodies inside them."""
    return walk_nodes([*model.graph.node, *(n for f in model.functions for n in f.node)])


def has_declared_values(model: ModelProto) -> bool:
    """Tell whether a model declares types or shapes of values inside it."""
    whole = model.graph
    weights = {t.name for t in whole.initializer}
    weights |= {t.values.name for t in whole.sparse_initializer}
    bodies = [body for node in list_nodes(model) for _, body in list_bodies(node)]
    inner = [*whole.value_info, *(v for f in model.functions for v in f.value_info)]
    inner += [v for body in bodies for v in (*body.input, *body.value_info, *body.output)]
    inner += [v for v in whole.input if v.name in weights]
    return any(v.type.WhichOneof("value") for v in inner)


def prefix_of_body(node: NodeProto, attribute: str) -> str:
    """Return what stands before the names of weights in a subgraph: `node/attribute/`."""
    return f"{node.name or next(iter(node.output), '')}/{attribute}/"


def prefix_of_function(function: FunctionProto) -> str:
    """Return what stands before the names of weights in a local function: `domain.function/`."""
    return f"{function.domain}.{function.name}{function.overload}/"


def list_repeated(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once.

    >>> list_repeated(["a", "b", "a"])
    ['a']
    """
    return [name for name, count in Counter(names).items() if count > 1]


def find_live_nodes(nodes: Sequence[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """Return the nodes that some outputs depend on, in their order.

    Args:
        nodes: the nodes, every one after those that it reads from.
        outputs: the names of the outputs.
    """
    wanted = set(outputs)
    found = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            found.append(node)
            wanted.update(node.input)
            wanted.update(list_captured_names(node))
    return found[::-1]
