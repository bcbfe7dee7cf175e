"""The element types and shapes of tensors, as far as they are known."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import onnx
from onnx import TypeProto

from ...errors import UnknownStructureError
from ...graph.model import Graph


class TensorTypes:
    """The types of a graph's tensors, at one choice of its inputs' shapes.

    Equal types are one object. So the shape of a type is read once, and blocks of nodes that repeat
    are recognised by the identities of their operands' types.

    Args:
        graph: the graph; the types of its weights are known.
        loose: the names of tensors whose shape depends on a symbolic axis that was taken as one.

    Attributes:
        loose: these names, and those of tensors that depend on them. An axis of length one in such
            a tensor may be longer.
    """

    def __init__(self, graph: Graph, loose: set[str]):
        self.loose = set(loose)
        self._graph = graph
        self._types: dict[str, TypeProto] = {}
        self._interned: dict[bytes, TypeProto] = {}
        """One object for every type, by its serialised form."""
        self._shapes: dict[int, tuple[int, ...] | None] = {}
        """The shape of each of these objects by identity, None where it is not known."""

    def find_type(self, name: str) -> TypeProto | None:
        """Return the type of a tensor, None where it is not known."""
        kind = self._types.get(name)
        if kind is None and name in self._graph.tensors:
            self.declare(name, self._graph.tensors[name].data_type, self._graph.shape(name))
            kind = self._types[name]
        return kind

    def find_element_type(self, name: str) -> int:
        """Return the element type of a tensor; float where it is not known."""
        kind = self.find_type(name)
        return kind.tensor_type.elem_type if kind else onnx.TensorProto.FLOAT

    def set_type(self, name: str, kind: TypeProto) -> None:
        """Give a tensor a type that `intern_type` returned."""
        self._types[name] = kind

    def declare(self, name: str, element_type: int, shape: Sequence[int]) -> None:
        """Give a tensor its element type, as ONNX counts them, and its shape."""
        self._types[name] = self.intern_tensor(element_type, shape)

    def declare_like(self, name: str, shape: Sequence[int], like: str) -> None:
        """Give a tensor a shape, and all else that is known of the tensor `like`."""
        self.declare(name, self.find_element_type(like), shape)
        self.loosen(name, like)

    def copy_type(self, name: str, source: str) -> None:
        """Give a tensor the type of another, where that is known."""
        kind = self.find_type(source)
        if kind is not None:
            self._types[name] = kind
        self.loosen(name, source)

    def loosen(self, name: str, source: str) -> None:
        """Note that a tensor is loose if the tensor `source` is."""
        if source in self.loose:
            self.loose.add(name)

    def intern_tensor(self, element_type: int, shape: Sequence[int]) -> TypeProto:
        """Return the one object for the type of tensors of an element type and a shape."""
        return self.intern_type(_make_tensor_type(element_type, tuple(shape)))

    def intern_type(self, kind: TypeProto) -> TypeProto:
        """Return the one object that stands for all types equal to this one."""
        # only interned types have an entry, and they live as long as this object: no identity in
        # the table is used again
        if id(kind) not in self._shapes:
            kind = self._interned.setdefault(kind.SerializeToString(), kind)
            self._shapes[id(kind)] = _read_type_shape(kind)
        return kind

    def find_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises:
            UnknownStructureError: it cannot be computed.
        """
        shape = self.known_shape(name)
        if shape is None:
            raise UnknownStructureError("a shape that cannot be computed")
        return shape

    def known_shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor, None where it cannot be computed."""
        if name in self._graph.tensors:
            return self._graph.shape(name)
        kind = self._types.get(name)
        return None if kind is None else self._shapes[id(kind)]


@functools.lru_cache(maxsize=1 << 12)
def _make_tensor_type(element_type: int, shape: tuple[int, ...]) -> TypeProto:
    """Make the type of a tensor. All callers share it: it must not be changed."""
    return onnx.helper.make_tensor_type_proto(element_type, shape)


def _read_type_shape(kind: TypeProto) -> tuple[int, ...] | None:
    """Return the shape of a type, None where it has none or an axis has no length."""
    tensor = kind.tensor_type
    is_known = tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim)
    return tuple(d.dim_value for d in tensor.shape.dim) if is_known else None
