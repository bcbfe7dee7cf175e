"""Compares two weights that are met in the same place, but for their values."""

from __future__ import annotations

import math

from onnx import TensorProto

from ..graph.model import Graph
from .findings import Findings
from .scopes import Value, describe_value

MAX_RANK = 8
"""The largest number of axes that a tensor is taken to have."""


def compare_weights(
    findings: Findings,
    reference: Graph,
    suspect: Graph,
    a: Value,
    b: Value,
    place: str,
    with_sizes: bool,
) -> None:
    """Compare the shapes and the types of two weights, and pair them if they agree.

    Args:
        findings: what is found so far.
        reference, suspect: the graphs.
        a, b: values of each, of which one at least is a weight.
        place: where they are met.
        with_sizes: whether the lengths of axes count.
    """
    if not (a.weight and b.weight):
        name = b.weight or describe_value(b)
        findings.add_difference(
            place, f"'{name}' is a weight in one model and computed in the other", is_final=True
        )
        return
    if (
        not with_sizes
        and _is_shape_operand(reference, a.weight)
        and _is_shape_operand(suspect, b.weight)
    ):
        # exporters write equal shapes once, and which are equal depends on the sizes
        # so the first pair of each stands, as one to several would be a difference
        if all(a.weight != name for name, _ in findings.weights):
            findings.weights[a.weight, b.weight] = None
        return
    shapes = reference.shape(a.weight), suspect.shape(b.weight)
    types = reference.tensors[a.weight].data_type, suspect.tensors[b.weight].data_type
    if shapes[0] != shapes[1] and (with_sizes or len(shapes[0]) != len(shapes[1])):
        what = f"weight '{b.weight}' has shape {list(shapes[1])}, the reference's {list(shapes[0])}"
        findings.add_difference(place, what, is_final=True)
    elif types[0] != types[1]:
        ours, theirs = (TensorProto.DataType.Name(t) for t in types)
        findings.add_difference(
            place, f"weight '{b.weight}' is {theirs}, the reference's {ours}", is_final=True
        )
    else:
        findings.weights[a.weight, b.weight] = None


def _is_shape_operand(graph: Graph, name: str) -> bool:
    """Tell whether a constant may say how long axes are."""
    if graph.tensors[name].data_type not in (TensorProto.INT64, TensorProto.INT32):
        return False
    shape = graph.shape(name)
    return len(shape) < 2 and math.prod(shape) <= MAX_RANK
