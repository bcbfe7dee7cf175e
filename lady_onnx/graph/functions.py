"""Local functions of a model, written where they are called."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx.inliner
import onnx.numpy_helper
import onnx.shape_inference
from onnx import ModelProto, NodeProto

from .nodes import list_nodes, walk_nodes


def count_inlined_nodes(model: ModelProto, most: int) -> int:
    """How many nodes a model has with its functions written where they are called; too many if one calls itself."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    counts: dict[tuple[str, str, str], int] = {}

    def count(nodes: Iterable[NodeProto], above: frozenset[tuple[str, str, str]]) -> int:
        total = 0
        for node in walk_nodes(nodes):
            key = (node.domain, node.op_type, node.overload)
            total += 1
            if key in above or total > most:
                return most + 1
            if key in functions:
                if key not in counts:
                    counts[key] = count(functions[key].node, above | {key})
                total += counts[key]
        return total

    return count(model.graph.node, frozenset()) if functions else 0


def inline_functions(model: ModelProto) -> ModelProto:
    """The same model with its local functions written where they are called.

    The defaults of a function's attributes are written into its calls first: onnx's inliner leaves them out.
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
