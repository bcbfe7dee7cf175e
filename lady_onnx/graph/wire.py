"""Protobuf's wire format, as far as it takes to read a model without copying its weights.

What is read here is what protobuf reads. Where a message is not written in the one plain way (a field of another wire
type, a field twice that may stand once, values in two places), nothing is left out and protobuf reads all of it.

Spec: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

LEAST = 1 << 12
"""Weights of fewer bytes stay where they are."""
GRAPH, INITIALIZER, NAME, RAW_DATA = 7, 5, 8, 9
"""Field numbers of `onnx.proto`: of a model, a graph, and twice of a tensor."""
PLAIN = {1: (0, 2), 2: (0,), NAME: (2,), RAW_DATA: (2,), 12: (2,), 14: (0,), 16: (2,)}
"""Fields of a tensor that holds raw bytes, and their wire types: dims, type, name, bytes, text, place, notes."""
ONCE = (2, NAME, RAW_DATA, 14)
"""Of these a tensor has one."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def split_large_weights(data: bytes) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """A serialized model without the raw bytes of its main graph's large weights, and where they lie in `data`.

    Bytes that are no model come back as they are: it is for the parser to say what is wrong with them.
    """
    found: dict[str, tuple[int, int]] = {}
    try:
        return b"".join(_without(data, 0, len(data), (GRAPH, INITIALIZER), found)), found
    except (IndexError, ValueError):
        # `found` names weights that were not left out
        return data, {}


def _without(
    data: bytes, start: int, end: int, path: tuple[int, ...], found: dict[str, tuple[int, int]]
) -> list[bytes]:
    """A message in pieces, with less in its fields along `path`."""
    pieces = []
    done = start
    graphs = 0
    for number, kind, tag, low, high in _fields(data, start, end):
        if number != path[0]:
            continue
        graphs += number == GRAPH and len(path) > 1
        if kind != BYTES or graphs > 1:
            raise ValueError("not written plainly")
        inner = (
            _without(data, low, high, path[1:], found)
            if path[1:]
            else _tensor(data, low, high, found)
        )
        pieces += [
            data[done:tag],
            _varint(number << 3 | BYTES),
            _varint(sum(map(len, inner))),
            *inner,
        ]
        done = high
    return [*pieces, data[done:end]]


def _tensor(data: bytes, start: int, end: int, found: dict[str, tuple[int, int]]) -> list[bytes]:
    fields = list(_fields(data, start, end))
    at = {number: (tag, low, high) for number, _, tag, low, high in fields}
    if RAW_DATA not in at or at[RAW_DATA][2] - at[RAW_DATA][1] < LEAST:
        return [data[start:end]]
    numbers = [number for number, *_ in fields]
    if any(kind not in PLAIN.get(number, ()) for number, kind, *_ in fields) or any(
        numbers.count(n) > 1 for n in ONCE
    ):
        raise ValueError("not written plainly")
    _, low, high = at.get(NAME, (0, 0, 0))
    name = data[low:high].decode()
    if name in found:
        raise ValueError("two weights of one name")
    tag, low, high = at[RAW_DATA]
    found[name] = low, high
    return [data[start:tag], data[high:end]]


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Every field of a message: its number, its wire type, where its tag begins, and where its content begins and ends."""
    at = start
    while at < end:
        tag = at
        key, at = _read(data, at)
        kind = key & 7
        if kind == VARINT:
            low, at = at, _read(data, at)[1]
        elif kind == BYTES:
            size, low = _read(data, at)
            at = low + size
        elif kind in (FIXED32, FIXED64):
            low, at = at, at + (4 if kind == FIXED32 else 8)
        else:
            raise ValueError(f"wire type {kind}")
        if at > end:
            raise ValueError("cut short")
        if not 0 < key >> 3 < 1 << 29:
            raise ValueError(f"field {key >> 3}")
        yield key >> 3, kind, tag, low, at


def _read(data: bytes, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
