"""Every weight of a model, wherever it is kept: initializers, Constant nodes, sparse tensors."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
import onnx.numpy_helper
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from ..errors import LadyError, to_one_line
from ..numerics import view_bits
from ..vocabulary.packing import BYTE_BITS, PACKED_OPERANDS, Packing, find_packing
from ..vocabulary.structure import CONSTANT, IDENTITY, normalise_domain
from ..vocabulary.types import PACKED_TYPES
from .nodes import (
    find_live_nodes,
    list_captured_names,
    prefix_of_body,
    prefix_of_function,
    read_attributes,
    sort_topologically,
)

TYPE_OF_VALUE_ATTRIBUTE = {
    "value": AttributeProto.TENSOR,
    "value_float": AttributeProto.FLOAT,
    "value_floats": AttributeProto.FLOATS,
    "value_int": AttributeProto.INT,
    "value_ints": AttributeProto.INTS,
}
"""The types of a Constant node's attributes that hold numbers, by name."""

MAX_SPARSE_RATIO = 1 << 20
"""A sparse weight is written out if at least one in this number of its elements is given.

A file of a few bytes could fill the memory otherwise.
"""

VALUE_FIELDS = (
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "external_data",
)
"""Fields of a tensor that may hold its values, beside the raw bytes."""

MIN_LARGE_ELEMENTS = 1 << 12
"""A weight of fewer elements is copied without a thought."""

Holder = NodeProto | SparseTensorProto | None
"""What a weight's tensor is made from: a Constant node, a sparse tensor, or nothing else."""


def list_weights(model: ModelProto) -> Iterator[tuple[str, TensorProto, Holder]]:
    """Yield every weight of a model: its name, its tensor, and what the tensor is made from."""
    yield from _list_in_graph(model.graph, "")
    for function in model.functions:
        yield from _list_in_nodes(function.node, prefix_of_function(function))


def _list_in_graph(graph: GraphProto, prefix: str) -> Iterator[tuple[str, TensorProto, Holder]]:
    """Yield the weights of a graph; `prefix` stands before their names."""
    for tensor in graph.initializer:
        yield prefix + tensor.name, tensor, None
    for sparse in graph.sparse_initializer:
        yield prefix + sparse.values.name, _make_dense(sparse), sparse
    yield from _list_in_nodes(graph.node, prefix)


def _list_in_nodes(
    nodes: Iterable[NodeProto], prefix: str
) -> Iterator[tuple[str, TensorProto, Holder]]:
    """Yield the weights that Constant nodes hold, and those of subgraphs."""
    for node in nodes:
        constant = read_constant(node)
        if constant is not None:
            yield prefix + node.output[0], constant, node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                inner = prefix + prefix_of_body(node, attribute.name)
                yield from _list_in_graph(attribute.g, inner)


def read_constant(node: NodeProto) -> TensorProto | None:
    """Return the tensor that a Constant node holds, None for any other node and for strings."""
    is_constant = node.op_type == CONSTANT and node.domain in ("", "ai.onnx")
    if not is_constant or not node.attribute or not any(node.output):
        return None
    # The specification wants exactly one attribute.
    attribute = node.attribute[0]
    if attribute.type != TYPE_OF_VALUE_ATTRIBUTE.get(attribute.name):
        return None
    if attribute.name == "value":
        return attribute.t
    dtype = np.float32 if "float" in attribute.name else np.int64
    value = np.array(onnx.helper.get_attribute_value(attribute), dtype)
    return onnx.numpy_helper.from_array(value, node.output[0])


def _make_dense(sparse: SparseTensorProto) -> TensorProto:
    """Return a sparse weight written out.

    Raises:
        LadyError: it would be too large, it lies in external data, or its places are not in
            ascending order.
    """
    try:
        parts = (sparse.values, sparse.indices)
        if any(t.data_location == TensorProto.EXTERNAL for t in parts):
            # onnx would look for it in the folder of the process
            raise ValueError("it lies in external data")
        values, indices = map(onnx.numpy_helper.to_array, parts)
        if math.prod(sparse.dims) > MAX_SPARSE_RATIO * max(values.size, 1):
            raise ValueError("it is too large to be written out")
        array = np.zeros(tuple(sparse.dims), values.dtype)
        flat = indices
        if indices.ndim != 1:
            flat = np.ravel_multi_index(tuple(indices.T), tuple(sparse.dims))
        if flat.size and (flat[0] < 0 or (np.diff(flat) <= 0).any()):
            # The specification wants this order, and runtimes differ in what they make of others.
            raise ValueError("its places are not in ascending order")
        array.reshape(-1)[flat] = values
    except (IndexError, MemoryError, TypeError, ValueError) as error:
        where = f"sparse weight '{sparse.values.name}'"
        what = f"cannot be read ({to_one_line(error)}); export the model again"
        raise LadyError(f"{where}: {what}") from error
    return onnx.numpy_helper.from_array(array, sparse.values.name)


def shape_bytes(tensor: TensorProto, raw: np.ndarray) -> np.ndarray:
    """Return the values of a weight out of its bytes.

    Args:
        tensor: says the type and the shape.
        raw: the bytes, uint8 [size].

    Returns:
        A view of the bytes, or a copy where two elements share a byte.
    """
    if tensor.data_type in PACKED_TYPES:
        plain = TensorProto(
            name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=raw.tobytes()
        )
        return onnx.numpy_helper.to_array(plain)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return raw.view(dtype).reshape(tuple(tensor.dims))


def read_fields(tensor: TensorProto) -> np.ndarray:
    """Return the values of a weight whose numbers lie in fields of their own, not in bytes.

    Raises:
        ValueError: they are not as many as its shape says, one needs more bits than its type has,
            or a text ends with a zero byte. What is done with such bits is up to the runtime, and
            numpy drops such bytes.
    """
    if any(text.endswith(b"\0") for text in tensor.string_data):
        raise ValueError("a text ends with a zero byte")
    array = onnx.numpy_helper.to_array(tensor)
    if tensor.int32_data:
        bits = 1 if array.dtype == bool else BYTE_BITS * array.dtype.itemsize
        given = np.array(tensor.int32_data)
        # other types than integers lie there as their bits, and packed ones as bytes
        is_signed = array.dtype.kind == "i" and tensor.data_type not in PACKED_TYPES
        low, high = (-(1 << bits - 1), 1 << bits - 1) if is_signed else (0, 1 << bits)
        wrong = given[(given < low) | (given >= high)]
        if wrong.size:
            raise ValueError(f"{wrong[0]} in its int32_data needs more bits than its type has")
    return array


def write_values(tensor: TensorProto, holder: Holder, array: np.ndarray) -> None:
    """Write values to where a weight's tensor lies in its model.

    Args:
        tensor: the tensor, as `list_weights` gave it.
        holder: what it is made from, as `list_weights` gave it.
        array: the values, of the tensor's shape and type.
    """
    if isinstance(holder, SparseTensorProto):
        # a zero may have a sign
        places = np.flatnonzero(view_bits(np.ascontiguousarray(array)))
        values = onnx.numpy_helper.from_array(array.ravel()[places], holder.values.name)
        holder.values.CopyFrom(values)
        holder.indices.CopyFrom(onnx.numpy_helper.from_array(places, holder.indices.name))
        return
    if isinstance(holder, NodeProto) and holder.attribute[0].name != "value":
        # A list of floats needs a tensor to hold what replaces it.
        value = onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(array))
        holder.attribute[0].CopyFrom(value)
        return
    clear_values(tensor)
    if tensor.data_type == TensorProto.STRING:
        tensor.ClearField("string_data")
        tensor.string_data.extend(onnx.numpy_helper.from_array(array).string_data)
        return
    tensor.raw_data = encode_values(tensor, array).tobytes()


def clear_values(tensor: TensorProto) -> None:
    """Remove all values of a tensor, wherever it has them."""
    for field in (*VALUE_FIELDS, "raw_data", "data_location"):
        tensor.ClearField(field)


def encode_values(tensor: TensorProto, array: np.ndarray) -> np.ndarray:
    """Return the bytes of a weight's values, as a file has them.

    Args:
        tensor: says the type.
        array: the values.

    Returns:
        uint8 [size]; a view of `array` where that has no gaps.
    """
    if tensor.data_type in PACKED_TYPES:
        return np.frombuffer(onnx.numpy_helper.from_array(array).raw_data, np.uint8)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def is_large(tensor: TensorProto) -> bool:
    """Tell whether a weight has so many numbers that it is not copied without need."""
    return tensor.data_type != TensorProto.STRING and math.prod(tensor.dims) >= MIN_LARGE_ELEMENTS


def unpack_numbers(array: np.ndarray, packing: Packing) -> np.ndarray:
    """Return the numbers that lie in bytes, one by one.

    Args:
        array: the bytes, uint8 [.., bytes].
        packing: how numbers lie in them.

    Returns:
        uint8 [.., numbers].

    >>> unpack_numbers(np.array([0x21, 0x43], np.uint8), Packing(4))
    array([1, 2, 3, 4], dtype=uint8)
    """
    shifts = _list_shifts(packing)
    numbers = np.empty((*array.shape, packing.count), np.uint8)
    for place, shift in enumerate(shifts):
        np.right_shift(array, shift, out=numbers[..., place])
    numbers &= (1 << packing.bits) - 1
    return numbers.reshape(*array.shape[:-1], array.shape[-1] * packing.count)


def pack_numbers(array: np.ndarray, packing: Packing) -> np.ndarray:
    """Return bytes with several numbers each: the inverse of `unpack_numbers`.

    Args:
        array: the numbers, uint8 [.., numbers].
        packing: how they lie in bytes.

    Returns:
        uint8 [.., bytes].

    >>> pack_numbers(np.array([1, 2, 3, 4], np.uint8), Packing(4, is_high_first=True))
    array([18, 52], dtype=uint8)
    """
    numbers = array.reshape(*array.shape[:-1], array.shape[-1] // packing.count, packing.count)
    bytes_ = np.zeros(numbers.shape[:-1], np.uint8)
    for place, shift in enumerate(_list_shifts(packing)):
        bytes_ |= numbers[..., place] << np.uint8(shift)
    return bytes_


def _list_shifts(packing: Packing) -> list[int]:
    """List by how many bits each number of a byte is shifted, in the order of the numbers."""
    shifts = range(0, BYTE_BITS, packing.bits)
    return list(reversed(shifts) if packing.is_high_first else shifts)


def find_packings(model: ModelProto, tensors: Mapping[str, TensorProto]) -> dict[str, Packing]:
    """Find the weights of bytes in which all readers find several numbers, in the same way.

    Nodes on which no output depends do not count.

    Args:
        model: the model.
        tensors: its weights by name.

    Returns:
        How numbers share bytes, by weight. A weight that a body reads, or that is an output, is not
        among them: whoever reads it reads bytes.
    """
    graph = model.graph
    said: dict[str, set[Packing | None]] = defaultdict(set)
    aliases: dict[str, str] = {}
    # Where nothing packs, which is nearly everywhere, no node is sorted.
    if not any((normalise_domain(n.domain), n.op_type) in PACKED_OPERANDS for n in graph.node):
        return {}
    ends = [o.name for o in graph.output]
    for node in find_live_nodes(sort_topologically(graph.node), ends):
        operator = normalise_domain(node.domain), node.op_type
        if operator == ("", IDENTITY):
            # operands come before results, so that a chain of aliases is followed as it is built
            aliases[node.output[0]] = aliases.get(node.input[0], node.input[0])
            continue
        attributes = read_attributes(node) if node.domain else {}
        for operand, name in enumerate(node.input):
            said[aliases.get(name, name)].add(find_packing(*operator, attributes, operand))
        for name in list_captured_names(node):
            said[aliases.get(name, name)].add(None)
    for name in ends:
        said[aliases.get(name, name)].add(None)
    found = {}
    for name, tensor in tensors.items():
        (packing, *others) = said.get(name) or (None,)
        is_bytes = tensor.data_type == TensorProto.UINT8 and len(tensor.dims) > 0
        if packing is not None and not others and is_bytes:
            found[name] = packing
    return found
