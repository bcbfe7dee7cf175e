"""One change to one field of any message of a model.

The fields are those of the protobuf descriptors, from `ModelProto` down: a new version of `onnx`
brings its new fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import Message
from onnx import ModelProto, NodeProto

from .changes import WAYS
from .dressing import holding
from .messages import Kind, NotPossibleError, Place, Random, copied, named, pick, swap

AIMED = 0.8
"""The share of changes that a field's meaning suggests, where it suggests any.

The others are like those of any field.
"""


def mutate(model: ModelProto, kind: Kind, rng: Random) -> str:
    """Changes one field of a model, in place, and says how.

    Raises NotPossibleError where the model holds no such field, or the change leaves it as it was.
    """
    before = model.SerializeToString(deterministic=True)
    held = holding(model, kind)
    # each message that holds it counts the same; weights have many times more tensors than nodes
    place = pick(rng, held)
    ways = WAYS.get(".".join(kind), ())
    what = None
    if ways and rng.random() < AIMED:
        what = pick(rng, ways)(place.message, place, rng)
    if what is None:
        what = _change_any(place, kind[1], rng)
    if model.SerializeToString(deterministic=True) == before:
        raise NotPossibleError
    return f"{'.'.join(kind)} at {_where(place)}: {what}"


def _where(place: Place) -> str:
    words = []
    for message in (*place.above, place.message):
        name = getattr(message, "name", "") if "name" in message.DESCRIPTOR.fields_by_name else ""
        words.append(
            f"{message.DESCRIPTOR.name.removesuffix('Proto')}{f'[{name}]' if name else ''}"
        )
        if isinstance(message, NodeProto):
            words[-1] = f"Node[{message.op_type}->{','.join(message.output)}]"
    return "/".join(words)


def _change_any(place: Place, field: str, rng: Random) -> str:
    message: Any = place.message
    f = message.DESCRIPTOR.fields_by_name[field]
    if f.message_type is not None:
        others = [
            p.message for p in named(place.model, f.message_type.full_name.removeprefix("onnx."))
        ]
        return (
            _change_messages(message, f, others, rng)
            if f.is_repeated
            else _change_message(message, f, others, rng)
        )
    others = [
        v
        for p in named(place.model, message.DESCRIPTOR.full_name.removeprefix("onnx."))
        for v in (getattr(p.message, field) if f.is_repeated else [getattr(p.message, field)])
    ]
    if not f.is_repeated:
        old = getattr(message, field)
        new = _other(old, f, others, rng)
        setattr(message, field, new)
        return f"{old!r:.80} -> {new!r:.80}"
    content = getattr(message, field)
    way = pick(rng, ["one", "one", "swap", "swap", "remove", "add"]) if len(content) else "add"
    if way == "one":
        k = int(rng.integers(len(content)))
        old = content[k]
        content[k] = _other(old, f, others, rng)
        return f"[{k}] {old!r:.80} -> {content[k]!r:.80}"
    if way == "swap":
        return swap(content, rng)
    if way == "remove":
        k = int(rng.integers(len(content)))
        del content[k]
        return f"[{k}] removed"
    content.append(
        _other(pick(rng, content) if len(content) else pick(rng, others), f, others, rng)
    )
    return f"{content[-1]!r:.80} added"


def _change_messages(message: Any, f: Any, others: Sequence[Message], rng: Random) -> str:
    content = getattr(message, f.name)
    way = pick(rng, ["swap", "swap", "remove", "double", "replace", "replace"])
    k = int(rng.integers(len(content)))
    if way == "swap":
        return swap(content, rng)
    if way == "remove":
        del content[k]
        return f"[{k}] removed"
    if way == "double":
        content.append(copied(content[k]))
        return f"[{k}] doubled"
    content[k].CopyFrom(copied(pick(rng, others)))
    return f"[{k}] replaced by another"


def _change_message(message: Any, f: Any, others: Sequence[Message], rng: Random) -> str:
    if rng.random() < 0.3:
        message.ClearField(f.name)
        return "removed"
    other = copied(pick(rng, others))
    getattr(message, f.name).CopyFrom(other)
    return "replaced by another"


def _other(value: Any, f: Any, others: Sequence[Any], rng: Random) -> Any:
    """Another value of a number or a word: near it, a usual one, or one from elsewhere here."""
    candidates = [v for v in others if v != value]
    if candidates and rng.random() < 0.3:
        return pick(rng, candidates)
    if f.enum_type is not None:
        return pick(rng, [n for n in f.enum_type.values_by_number if n != value])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        least = 0 if f.cpp_type in (f.CPPTYPE_UINT64, f.CPPTYPE_UINT32) else -(2**31) + 1
        near = {value + 1, value - 1, -value, 0, 1, 2, -1, value * 2, value + 2} - {value}
        return pick(rng, sorted(n for n in near if least <= n < 2**31))
    if isinstance(value, float):
        near = [value * 2, -value, value + 1, 0.0, 1.0, 0.5 * value, value * 1.01]
        return pick(rng, [float(np.float32(n)) for n in near if n != value])
    if isinstance(value, bytes):
        return pick(rng, [w for w in (b"other", b"", b"A", value[::-1]) if w != value])
    return pick(rng, [w for w in ("other", "", "A", f"{value}_2", "ai.onnx") if w != value])
