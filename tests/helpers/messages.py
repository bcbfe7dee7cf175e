"""The messages of a model, their fields, and the places where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import Message
from onnx import ModelProto

Kind = tuple[str, str]
"""A message and one of its fields."""
Random = np.random.Generator


class NotPossibleError(Exception):
    """A change, or a rewrite, that this model does not allow."""


def pick(rng: Random, items: Sequence[Any]) -> Any:
    if not len(items):
        raise NotPossibleError
    return items[int(rng.integers(len(items)))]


def copied(message: Any) -> Any:
    other = type(message)()
    other.CopyFrom(message)
    return other


def _messages() -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(descriptor: Any) -> None:
        if descriptor.full_name not in found:
            found[descriptor.full_name] = descriptor
            for f in descriptor.fields:
                if f.message_type is not None:
                    walk(f.message_type)

    walk(ModelProto.DESCRIPTOR)
    return {name.removeprefix("onnx."): descriptor for name, descriptor in found.items()}


MESSAGES = _messages()
KINDS: tuple[Kind, ...] = tuple((name, f.name) for name, d in MESSAGES.items() for f in d.fields)
"""Every field of every message that a model may hold."""
SILENT = re.compile(
    r"doc_string|metadata_props|denotation|producer|model_version|StringString"
    r"|training_info|TrainingInfo|onfiguration"
    r"|Shard|IntIntList|TensorAnnotation|quantization_annotation|Opaque|opaque"
    r"|SparseTensor\.|sparse_tensor_type|Segment"
    r"|segment|ModelProto.domain|GraphProto.name|NodeProto.name|value_info"
    r"|Map|map_type|type_protos|tensors|graphs|external"
)
TELLING: tuple[Kind, ...] = tuple(k for k in KINDS if not SILENT.search(".".join(k)))
"""Fields that can change what onnxruntime computes; they are drawn more often."""


class Place:
    """A message in a model, with the messages that hold it, outermost first."""

    def __init__(self, message: Message, above: tuple[Message, ...]):
        self.message = message
        self.above = above

    def near(self, kind: type) -> Any:
        """The innermost message of a type that holds it."""
        return next((m for m in reversed(self.above) if isinstance(m, kind)), None)

    @property
    def model(self) -> ModelProto:
        return self.above[0] if self.above else self.message  # type: ignore[return-value]


def places(message: Message, above: tuple[Message, ...] = ()) -> Iterator[Place]:
    """Every message in a message, itself first."""
    yield Place(message, above)
    for f, content in message.ListFields():
        if f.message_type is not None:
            for item in content if f.is_repeated else [content]:
                yield from places(item, (*above, message))


def named(message: Message, name: str) -> list[Place]:
    return [p for p in places(message) if p.message.DESCRIPTOR.full_name == f"onnx.{name}"]


def swap(content: Any, rng: Random) -> str:
    """Exchanges two of the entries of a field."""
    if len(content) < 2:
        raise NotPossibleError
    i, j = sorted(rng.choice(len(content), 2, replace=False).tolist())
    items = [copied(x) if isinstance(x, Message) else x for x in content]
    items[i], items[j] = items[j], items[i]
    del content[:]
    content.extend(items)
    return f"[{i}] and [{j}] exchanged"
