"""Protobuf's wire format, as far as it takes to read a model without copying its weights.

Spec: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

LEAST = 1 << 12
"""Weights of fewer bytes stay where they are."""
GRAPH, INITIALIZER, NAME, RAW_DATA = 7, 5, 8, 9
"""Field numbers of `onnx.proto`: of a model, a graph, and twice of a tensor."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def light(data: bytes) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """A serialized model without the raw bytes of its main graph's large weights, and where they lie in `data`.

    Bytes that are no model come back as they are: it is for the parser to say what is wrong with them.
    """
    found: dict[str, tuple[int, int]] = {}
    try:
        return b"".join(_without(data, 0, len(data), (GRAPH, INITIALIZER), found)), found
    except (IndexError, ValueError):
        return data, {}


def _without(data: bytes, start: int, end: int, path: tuple[int, ...], found: dict[str, tuple[int, int]]) -> list[bytes]:
    """A message in pieces, with less in its fields along `path`."""
    pieces = []
    done = start
    for number, tag, low, high in _fields(data, start, end):
        if number != path[0]:
            continue
        inner = _without(data, low, high, path[1:], found) if path[1:] else _tensor(data, low, high, found)
        pieces += [data[done:tag], _varint(number << 3 | BYTES), _varint(sum(map(len, inner))), *inner]
        done = high
    return [*pieces, data[done:end]]


def _tensor(data: bytes, start: int, end: int, found: dict[str, tuple[int, int]]) -> list[bytes]:
    name, raw = "", None
    for number, tag, low, high in _fields(data, start, end):
        if number == NAME:
            name = data[low:high].decode()
        if number == RAW_DATA:
            raw = tag, low, high
    if raw is None or raw[2] - raw[1] < LEAST or name in found:
        return [data[start:end]]
    found[name] = raw[1], raw[2]
    return [data[start : raw[0]], data[raw[2] : end]]


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Every field of a message: its number, where its tag begins, and where its content begins and ends."""
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
        yield key >> 3, tag, low, at


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
