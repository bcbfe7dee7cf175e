"""Total equality of two ONNX messages, field by field.

Every field counts, but for those that cannot change what is computed (`fields.IGNORED`).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence

import onnx.numpy_helper
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import TensorProto, TypeProto

from .declarations import is_covered, list_declared_lengths
from .fields import IGNORED


@functools.cache
def _list_compared_fields(name: str, descriptor: object) -> tuple[FieldDescriptor, ...]:
    """List the fields of a message that count."""
    fields: Sequence[FieldDescriptor] = descriptor.fields  # type: ignore[attr-defined]
    return tuple(f for f in fields if f"{name}.{f.name}" not in IGNORED)


def is_same_message(a: Message, b: Message) -> bool:
    """Tell whether two messages of one kind are equal in all fields that count."""
    if isinstance(a, TensorProto) and isinstance(b, TensorProto):
        return _is_same_tensor(a, b)
    name = a.DESCRIPTOR.full_name.removeprefix("onnx.")
    return all(_is_same_field(a, b, f) for f in _list_compared_fields(name, a.DESCRIPTOR))


def _is_same_field(a: Message, b: Message, f: FieldDescriptor) -> bool:
    """Tell whether one field of two messages is equal; a message in it may be given or not."""
    x, y = getattr(a, f.name), getattr(b, f.name)
    if f.is_repeated:
        return len(x) == len(y) and all(_is_same_item(p, q, f) for p, q in zip(x, y, strict=True))
    if f.message_type is not None and not (a.HasField(f.name) and b.HasField(f.name)):
        return a.HasField(f.name) == b.HasField(f.name)
    # a number that is not given is zero
    return _is_same_item(x, y, f)


def _is_same_item(x: object, y: object, f: FieldDescriptor) -> bool:
    """Tell whether two values of a field are equal."""
    if f.message_type is not None:
        assert isinstance(x, Message)
        assert isinstance(y, Message)
        return is_same_message(x, y)
    # Bit for bit: zeros of both signs are different, and a NaN is equal to itself.
    if isinstance(x, float) and isinstance(y, float):
        return struct.pack("<d", x) == struct.pack("<d", y)
    return x == y


def _is_same_serialized(a: Message, b: Message) -> bool:
    """Tell whether two messages are the same bytes."""
    return a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True)


def _is_same_tensor(a: TensorProto, b: TensorProto) -> bool:
    """Tell whether two tensors that stand in attributes are equal, bit for bit."""
    if a.data_type != b.data_type or list(a.dims) != list(b.dims):
        return False
    if a.data_location == TensorProto.EXTERNAL or b.data_location == TensorProto.EXTERNAL:
        return _is_same_serialized(a, b)
    if a.data_type == TensorProto.STRING:
        return list(a.string_data) == list(b.string_data)
    try:
        x, y = onnx.numpy_helper.to_array(a), onnx.numpy_helper.to_array(b)
    except (TypeError, ValueError):
        # one that holds too little is equal to itself alone
        return _is_same_serialized(a, b)
    return bool(x.tobytes() == y.tobytes())


def is_within(declared: TypeProto, other: TypeProto) -> bool:
    """Tell whether a declaration of a value says nothing that another one does not say.

    Args:
        declared: the declaration.
        other: the other one.
    """
    if not declared.WhichOneof("value"):
        return True
    if not (declared.HasField("tensor_type") and other.HasField("tensor_type")):
        return is_same_message(declared, other)
    return is_covered(declared, other.tensor_type.elem_type, list_declared_lengths(other))


def is_same_type(a: TypeProto, b: TypeProto) -> bool:
    """Tell whether two values are declared to be of the same type and shape."""
    return is_within(a, b) and is_within(b, a)
