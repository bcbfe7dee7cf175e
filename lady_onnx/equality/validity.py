"""Whether a file is a valid one of its operator sets, as far as onnx's own inference tells.

An older version of an operator allows fewer element types and numbers. Two files of different
versions say one program only where both are valid: a runtime would refuse the other one.
"""

from __future__ import annotations

import onnx
import onnx.shape_inference
from onnx import ModelProto

from ..errors import to_one_line
from ..graph.external import is_external
from ..graph.model import Graph
from ..graph.nodes import prefix_of_function
from ..graph.weights import is_large
from ..vocabulary.structure import normalise_domain


def find_fault_of_one(reference: Graph, suspect: Graph) -> str:
    """Find what is invalid in one of two graphs where the other one is valid; empty if nothing.

    Where both are refused, onnx's inference may be what is wrong.
    """
    faults = [_find_fault(graph) for graph in (reference, suspect)]
    return "" if all(faults) else next(filter(None, faults), "")


def list_versions(graph: Graph) -> set[tuple[str, str, int]]:
    """List the versions of operator sets, by local function and domain, "" for the graph."""
    imports = {"": graph.model.opset_import}
    imports |= {prefix_of_function(f): f.opset_import for f in graph.model.functions}
    return {
        (part, normalise_domain(o.domain), o.version)
        for part, opsets in imports.items()
        for o in opsets
    }


def _find_fault(graph: Graph) -> str:
    """Find why onnx refuses a graph; empty where it does not."""
    try:
        onnx.shape_inference.infer_shapes(
            _strip_model(graph.model), check_type=True, strict_mode=True, data_prop=True
        )
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        RuntimeError,
        ValueError,
    ) as error:
        return f"{graph.name} is not valid in its operator sets: {to_one_line(error)}"
    return ""


def _strip_model(model: ModelProto) -> ModelProto:
    """Return a model whose large weights are inputs, and that declares nothing of inner values."""
    ours = model.graph
    stripped = ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions
    )
    graph = stripped.graph
    graph.name = ours.name
    graph.node.extend(ours.node)
    graph.input.extend(ours.input)
    graph.sparse_initializer.extend(ours.sparse_initializer)
    inputs = {v.name for v in ours.input}
    for tensor in ours.initializer:
        if not is_large(tensor) and not is_external(tensor):
            graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            # built by hand: a shape of no axes is a shape too
            value = graph.input.add(name=tensor.name)
            value.type.tensor_type.elem_type = tensor.data_type
            value.type.tensor_type.shape.SetInParent()
            for length in tensor.dims:
                value.type.tensor_type.shape.dim.add(dim_value=length)
    for value in ours.output:
        # a shape that is declared falsely is found elsewhere, and stops no runtime
        graph.output.append(value)
        graph.output[-1].type.tensor_type.ClearField("shape")
    return stripped
