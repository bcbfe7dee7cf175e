"""Nodes run on known operands, by onnx's reference operators."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto
from onnx.helper import make_graph, make_model, make_opsetid

REFERENCE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What onnx's reference operators raise on operands that do not fit them."""


def evaluate_node(
    node: NodeProto, name: str, values: Mapping[str, np.ndarray], opsets: Mapping[str, int]
) -> np.ndarray | None:
    """Return one result of a node, run on its operands.

    Args:
        node: a node of the default domain.
        name: one of its results.
        values: the values of its operands by name.
        opsets: by domain the version of the operator set that the node speaks.

    Returns:
        The result; None where the operands do not fit the operator.

    >>> import onnx
    >>> relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    >>> evaluate_node(relu, "y", {"x": np.array([-1.0, 2.0])}, {"": 20}).tolist()
    [0.0, 2.0]
    """
    # it takes long to load, and many models have nothing to run
    from onnx.reference import ReferenceEvaluator

    # an overflow or a division by zero belongs to the model, and is none of the user's warnings
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            result = ReferenceEvaluator(_wrap_node(node, opsets)).run(None, dict(values))
        except REFERENCE_ERRORS:
            return None
    return np.asarray(list(result)[[o for o in node.output if o].index(name)])


def _wrap_node(node: NodeProto, opsets: Mapping[str, int]) -> ModelProto:
    """Return a model of one node; of a bare node the evaluator takes the newest version."""
    inputs, outputs = (
        [ValueInfoProto(name=n) for n in dict.fromkeys(names) if n]
        for names in (node.input, node.output)
    )
    imports = [make_opsetid(domain, version) for domain, version in opsets.items()]
    return make_model(make_graph([node], "node", inputs, outputs), opset_imports=imports)
