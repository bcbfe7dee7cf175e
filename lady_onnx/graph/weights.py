"""Every weight of a model, wherever it is kept: initializers, Constant nodes, sparse tensors, bodies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import onnx
import onnx.inliner
import onnx.numpy_helper
import onnx.shape_inference
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from ..errors import LadyError, to_one_line
from .nodes import prefix_of_body, prefix_of_function

PACKED_TYPES = (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1)
"""Element types of which two share a byte."""


TYPE_OF_VALUE_ATTRIBUTE = {
    "value": AttributeProto.TENSOR,
    "value_float": AttributeProto.FLOAT,
    "value_floats": AttributeProto.FLOATS,
    "value_int": AttributeProto.INT,
    "value_ints": AttributeProto.INTS,
}
"""By the name of a Constant node's attribute that holds numbers its type."""


def _read_constant(node: NodeProto) -> TensorProto | None:
    """The tensor that a Constant node holds, None for any other node and for strings."""
    if (
        node.op_type != "Constant"
        or node.domain not in ("", "ai.onnx")
        or not node.attribute
        or not any(node.output)
    ):
        return None
    attribute = node.attribute[0]
    if attribute.type != TYPE_OF_VALUE_ATTRIBUTE.get(attribute.name):
        return None
    if attribute.name == "value":
        return attribute.t
    dtype = np.float32 if "float" in attribute.name else np.int64
    value = np.array(onnx.helper.get_attribute_value(attribute), dtype)
    return onnx.numpy_helper.from_array(value, node.output[0])


Holder = NodeProto | SparseTensorProto | None


MAX_SPARSE_RATIO = 1 << 20
"""Of so many elements one at least must be given, or a sparse weight is not written out."""


def list_weights(model: ModelProto) -> Iterator[tuple[str, TensorProto, Holder]]:
    """Every weight of a model: its name, its tensor, and the Constant node or sparse tensor that it is made from."""
    yield from _list_in_graph(model.graph, "")
    for function in model.functions:
        yield from _list_in_nodes(function.node, prefix_of_function(function))


def _list_in_graph(graph: GraphProto, prefix: str) -> Iterator[tuple[str, TensorProto, Holder]]:
    for tensor in graph.initializer:
        yield prefix + tensor.name, tensor, None
    for sparse in graph.sparse_initializer:
        yield prefix + sparse.values.name, _densify(sparse), sparse
    yield from _list_in_nodes(graph.node, prefix)


def _list_in_nodes(
    nodes: Iterable[NodeProto], prefix: str
) -> Iterator[tuple[str, TensorProto, Holder]]:
    for node in nodes:
        constant = _read_constant(node)
        if constant is not None:
            yield prefix + node.output[0], constant, node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _list_in_graph(
                    attribute.g, prefix + prefix_of_body(node, attribute.name)
                )


def _densify(sparse: SparseTensorProto) -> TensorProto:
    try:
        values, indices = (onnx.numpy_helper.to_array(t) for t in (sparse.values, sparse.indices))
        if math.prod(sparse.dims) > MAX_SPARSE_RATIO * max(values.size, 1):
            raise ValueError("it is too large to be written out")
        array = np.zeros(tuple(sparse.dims), values.dtype)
        flat = (
            indices
            if indices.ndim == 1
            else np.ravel_multi_index(tuple(indices.T), tuple(sparse.dims))
        )
        if flat.size and (flat[0] < 0 or (np.diff(flat) <= 0).any()):
            # the specification wants them so, and runtimes differ in what they make of others
            raise ValueError("its places are not in ascending order")
        array.reshape(-1)[flat] = values
    except (IndexError, MemoryError, TypeError, ValueError) as error:
        where = f"sparse weight '{sparse.values.name}'"
        raise LadyError(
            f"{where}: cannot be read ({to_one_line(error)}); export the model again"
        ) from error
    return onnx.numpy_helper.from_array(array, sparse.values.name)


def shape_bytes(tensor: TensorProto, raw: np.ndarray) -> np.ndarray:
    """The values of a weight, out of its bytes."""
    if tensor.data_type in PACKED_TYPES:
        plain = TensorProto(
            name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=raw.tobytes()
        )
        return onnx.numpy_helper.to_array(plain)
    return raw.view(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).reshape(
        tuple(tensor.dims)
    )


def write_values(tensor: TensorProto, holder: Holder, array: np.ndarray) -> None:
    """Writes the values of `array` to where a weight's tensor lies in its model."""
    if isinstance(holder, SparseTensorProto):
        places = np.flatnonzero(array)
        holder.values.CopyFrom(
            onnx.numpy_helper.from_array(array.ravel()[places], holder.values.name)
        )
        holder.indices.CopyFrom(onnx.numpy_helper.from_array(places, holder.indices.name))
        return
    if isinstance(holder, NodeProto) and holder.attribute[0].name != "value":
        # a list of floats needs a tensor to hold what replaces it
        holder.attribute[0].CopyFrom(
            onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(array))
        )
        return
    new = onnx.numpy_helper.from_array(array, tensor.name)
    for field in (
        "float_data",
        "int32_data",
        "int64_data",
        "double_data",
        "uint64_data",
        "external_data",
    ):
        tensor.ClearField(field)
    tensor.ClearField("data_location")
    tensor.raw_data = new.raw_data
