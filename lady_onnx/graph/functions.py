"""Local functions of a model, written where they are called."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx.inliner
from onnx import ModelProto, NodeProto

from .nodes import list_nodes, walk_nodes


def count_inlined_nodes(model: ModelProto, limit: int) -> int:
    """Count the nodes that a model has once its functions are written where they are called.

    Args:
        model: the model.
        limit: counting stops beyond this number.

    Returns:
        The number of nodes, or more than `limit` if there are more, or if a function calls itself;
        0 for a model without functions.
    """
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    # Each function is counted once: a chain of functions that call the next one twice would take
    # exponential time.
    counts: dict[tuple[str, str, str], int] = {}

    def count(nodes: Iterable[NodeProto], above: frozenset[tuple[str, str, str]]) -> int:
        total = 0
        for node in walk_nodes(nodes):
            key = (node.domain, node.op_type, node.overload)
            total += 1
            # A function above this node is being counted: it calls itself.
            if key in above or total > limit:
                return limit + 1
            if key in functions:
                if key not in counts:
                    counts[key] = count(functions[key].node, above | {key})
                total += counts[key]
        return total

    return count(model.graph.node, frozenset()) if functions else 0


def inline_functions(model: ModelProto) -> ModelProto:
    """Return the same model with its local functions written where they are called.

    The defaults of a function's attributes are written into its calls first, because onnx's inliner
    leaves them out.
    """
    bound = ModelProto()
    bound.CopyFrom(model)
    defaults = {(f.domain, f.name, f.overload): list(f.attribute_proto) for f in bound.functions}
    for node in list_nodes(bound):
        given = {a.name for a in node.attribute}
        own = defaults.get((node.domain, node.op_type, node.overload), [])
        node.attribute.extend(a for a in own if a.name not in given)
    for function in bound.functions:
        function.attribute.extend(a.name for a in function.attribute_proto)
        del function.attribute_proto[:]
    return onnx.inliner.inline_local_functions(bound)
