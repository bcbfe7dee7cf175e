"""Protobuf's wire format, as far as it takes to read and write a model without copying weights.

What is read here is what protobuf reads. Where a message is not written in the one plain way (a
field of another wire type, a field twice that may stand once, values in two places), nothing is
left out, and protobuf reads all of it.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping

import numpy as np

Piece = bytes | memoryview
"""Bytes that can be written."""

MIN_LARGE_BYTES = 1 << 12
"""Weights of fewer bytes stay where they are."""

GRAPH_FIELD, INITIALIZER_FIELD = 7, 5
"""Field numbers of `onnx.proto`: of a model, and of a graph."""
NAME_FIELD, RAW_DATA_FIELD = 8, 9
"""Field numbers of a tensor."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""

PLAIN_FIELDS = {
    1: (VARINT, BYTES),
    2: (VARINT,),
    NAME_FIELD: (BYTES,),
    RAW_DATA_FIELD: (BYTES,),
    12: (BYTES,),
    14: (VARINT,),
    16: (BYTES,),
}
"""Fields of a tensor of raw bytes, and their wire types.

They are the dimensions, the element type, the name, the bytes, the documentation, where the data
lie, and the metadata.
"""
SINGLE_FIELDS = (2, NAME_FIELD, RAW_DATA_FIELD, 14)
"""Of these fields a tensor has at most one. Of several, protobuf takes the last."""

MAX_FIELD_NUMBER = (1 << 29) - 1
MAX_VARINT_SHIFT = 63
"""A varint has at most ten groups of seven bits: 64 bits."""

Data = bytes | mmap.mmap
"""A serialized model in memory, or in a file that is mapped."""
Places = dict[str, tuple[int, int]]
"""By weight, where its bytes begin and end."""


def split_large_weights(data: Data) -> tuple[bytes, Places]:
    """Split the raw bytes of the main graph's large weights off a serialized model.

    Bytes that are no model come back as they are: the parser says what is wrong with them.

    Args:
        data: the serialized model.

    Returns:
        The serialized model without those bytes, and by weight where they lie in `data`.
    """
    found: Places = {}
    try:
        path = (GRAPH_FIELD, INITIALIZER_FIELD)
        return b"".join(_shorten_message(data, 0, len(data), path, found)), found
    except (IndexError, ValueError):
        # `found` may name weights that were not left out in the end.
        return data[:], {}


def _shorten_message(
    data: Data, start: int, end: int, path: tuple[int, ...], found: Places
) -> list[bytes]:
    """Return a message in pieces, without the large weights that lie along a path of fields.

    Args:
        data: the serialized model.
        start: where the message begins.
        end: where it ends.
        path: the numbers of the fields that lead from the message to its tensors.
        found: gets the places of the bytes that are left out.

    Raises:
        ValueError: the message is not written plainly.
        IndexError: it is cut short.
    """
    pieces = []
    done = start
    graphs = 0
    for number, kind, tag, low, high in _list_wire_fields(data, start, end):
        if number != path[0]:
            continue
        # Of two graphs in one model protobuf makes a single one, weight by weight.
        graphs += number == GRAPH_FIELD and len(path) > 1
        if kind != BYTES or graphs > 1:
            raise ValueError("not written plainly")
        inner = (
            _shorten_message(data, low, high, path[1:], found)
            if path[1:]
            else _shorten_tensor(data, low, high, found)
        )
        # The tag and the length are written anew: the message has become shorter.
        head = [_encode_varint(number << 3 | BYTES), _encode_varint(sum(map(len, inner)))]
        pieces += [data[done:tag], *head, *inner]
        done = high
    return [*pieces, data[done:end]]


def _shorten_tensor(data: Data, start: int, end: int, found: Places) -> list[bytes]:
    """Return a tensor in pieces, without its raw bytes if they are many."""
    fields = list(_list_wire_fields(data, start, end))
    at = {number: (tag, low, high) for number, _, tag, low, high in fields}
    if RAW_DATA_FIELD not in at:
        return [data[start:end]]
    tag, raw_start, raw_end = at[RAW_DATA_FIELD]
    if raw_end - raw_start < MIN_LARGE_BYTES:
        return [data[start:end]]
    numbers = [number for number, *_ in fields]
    has_other_types = any(kind not in PLAIN_FIELDS.get(number, ()) for number, kind, *_ in fields)
    if has_other_types or any(numbers.count(number) > 1 for number in SINGLE_FIELDS):
        raise ValueError("not written plainly")
    _, low, high = at.get(NAME_FIELD, (0, 0, 0))
    name = data[low:high].decode()
    if name in found:
        raise ValueError("two weights of one name")
    found[name] = raw_start, raw_end
    return [data[start:tag], data[raw_end:end]]


def join_large_weights(data: bytes, weights: Mapping[str, np.ndarray]) -> Iterator[Piece]:
    """Yield a serialized model in pieces, with the raw bytes of weights put into it.

    Args:
        data: the serialized model, as protobuf writes it, in which the main graph's tensors of
            these names have no values.
        weights: by name the bytes to put in, uint8 [size].
    """
    yield from _lengthen_message(data, 0, len(data), (GRAPH_FIELD, INITIALIZER_FIELD), weights)[1]


def _lengthen_message(
    data: bytes, start: int, end: int, path: tuple[int, ...], weights: Mapping[str, np.ndarray]
) -> tuple[int, list[Piece]]:
    """Return the length and the pieces of a message with weights put into it.

    Args:
        data: the serialized model.
        start: where the message begins.
        end: where it ends.
        path: the numbers of the fields that lead from the message to its tensors.
        weights: as in `join_large_weights`.
    """
    pieces: list[Piece] = []
    done, total = start, end - start
    for number, _, tag, low, high in _list_wire_fields(data, start, end):
        if number != path[0]:
            continue
        length, inner = (
            _lengthen_message(data, low, high, path[1:], weights)
            if path[1:]
            else _lengthen_tensor(data, low, high, weights)
        )
        head = _encode_varint(number << 3 | BYTES) + _encode_varint(length)
        pieces += [data[done:tag], head, *inner]
        total += len(head) + length - (high - tag)
        done = high
    return total, [*pieces, data[done:end]]


def _lengthen_tensor(
    data: bytes, start: int, end: int, weights: Mapping[str, np.ndarray]
) -> tuple[int, list[Piece]]:
    """Return the length and the pieces of a tensor, with its raw bytes if they are given."""
    fields = list(_list_wire_fields(data, start, end))
    name = next((data[low:high].decode() for n, _, _, low, high in fields if n == NAME_FIELD), "")
    if name not in weights:
        return end - start, [data[start:end]]
    raw = weights[name]
    # Fields stand in the order of their numbers, as protobuf itself writes them.
    at = next((tag for number, _, tag, _, _ in fields if number > RAW_DATA_FIELD), end)
    head = _encode_varint(RAW_DATA_FIELD << 3 | BYTES) + _encode_varint(raw.size)
    return end - start + len(head) + raw.size, [data[start:at], head, raw.data, data[at:end]]


def _list_wire_fields(data: Data, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield every field of a message.

    Yields:
        Its number, its wire type, where its tag begins, and where its content begins and ends.
    """
    at = start
    while at < end:
        tag = at
        key, at = _decode_varint(data, at)
        kind = key & 7
        if kind == VARINT:
            low, at = at, _decode_varint(data, at)[1]
        elif kind == BYTES:
            size, low = _decode_varint(data, at)
            at = low + size
        elif kind in (FIXED32, FIXED64):
            low, at = at, at + (4 if kind == FIXED32 else 8)
        else:
            raise ValueError(f"wire type {kind}")
        if at > end:
            raise ValueError("cut short")
        if not 0 < key >> 3 <= MAX_FIELD_NUMBER:
            raise ValueError(f"field {key >> 3}")
        yield key >> 3, kind, tag, low, at


def _decode_varint(data: Data, at: int) -> tuple[int, int]:
    """Return the varint that begins at a place, and where it ends.

    >>> _decode_varint(bytes([0x96, 0x01]), 0)
    (150, 2)
    """
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > MAX_VARINT_SHIFT:
            raise ValueError("a number of more than 64 bits")


def _encode_varint(value: int) -> bytes:
    """Return a number of zero or more as a varint.

    >>> _encode_varint(150).hex()
    '9601'
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
