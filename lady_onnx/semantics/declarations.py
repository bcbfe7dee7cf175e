"""TODO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from onnx import TensorProto, TensorShapeProto, TypeProto

from .lengths import Length

StatedLengths = Mapping[tuple[str, int], int | str]
"""By a value of the suspect and an axis how long the reference says that it is: a number, or a name."""


@dataclass(frozen=True)
class Declaration:
    """What a file declares of a value, and what is known of it.

    Attributes:
        name: the value, with the prefix of the body or function that it stands in.
        type: what is declared.
        dtype, shape: what follows from the nodes: 0 and None where nothing does.
        is_given: whether it is an input of a body, which what calls the body gives.
        is_compared: whether it stands in the normal form as well, so that two forms differ where it is another.
    """

    name: str
    type: TypeProto
    dtype: int
    shape: tuple[Length, ...] | None
    is_given: bool = False
    is_compared: bool = False

    @property
    def is_implied(self) -> bool:
        """Do the element type and the lengths follow from the nodes?"""
        if not self.type.WhichOneof("value"):
            return True
        return self.type.HasField("tensor_type") and is_covered(self.type, self.dtype, self.shape)


def is_covered(declared: TypeProto, dtype: int, shape: Sequence[Length | None] | None) -> bool:
    """Is what a file declares of a tensor no more than a type and a shape that are known?"""
    kind = declared.tensor_type
    if kind.elem_type not in (TensorProto.UNDEFINED, dtype):
        return False
    if not kind.HasField("shape"):
        return True
    if shape is None or len(kind.shape.dim) != len(shape):
        return False
    sizes = (read_size(dim) for dim in kind.shape.dim)
    return all(size is None or size == known for size, known in zip(sizes, shape, strict=True))


def list_declared_lengths(kind: TypeProto) -> list[int | None] | None:
    """The declared shape of a tensor; None where it is left open."""
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    return [read_size(dim) for dim in kind.tensor_type.shape.dim]


def read_size(dim: TensorShapeProto.Dimension) -> int | None:
    """The declared length of an axis; None where it is left open, as by a negative number."""
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def read_length_name(dim: TensorShapeProto.Dimension) -> str:
    """The name of a length, or nothing."""
    return dim.dim_param if read_size(dim) is None else ""


def read_length(dim: TensorShapeProto.Dimension | None) -> int | str | None:
    """How long an axis is declared to be: a number, or a name."""
    if dim is None:
        return None
    size = read_size(dim)
    return (read_length_name(dim) or None) if size is None else size


def walk_dimensions(kind: TypeProto) -> Iterator[TensorShapeProto.Dimension]:
    """The axes of a tensor, or of the tensors in a sequence, an optional or a map."""
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        yield from getattr(kind, which).shape.dim
    elif which == "map_type":
        yield from walk_dimensions(kind.map_type.value_type)
    elif which in ("sequence_type", "optional_type"):
        yield from walk_dimensions(getattr(kind, which).elem_type)


def find_unimplied(
    declared: Sequence[Declaration], said: StatedLengths, doubted: Set[str], is_formed: bool
) -> tuple[str, str] | None:
    """The first value of which something is declared that does not follow from the nodes.

    Args:
        declared: everything that the suspect declares.
        said: what the reference says of the suspect's lengths.
        doubted: values of which the reference declares less.
        is_formed: whether the two files were compared in their normal forms, where inner values are not declared.

    Returns:
        The value, and what is wrong with it.
    """
    for item in declared:
        is_doubted = item.name in doubted or (is_formed and not item.is_compared)
        if is_doubted and not item.is_implied:
            return (
                item.name,
                "its declared type or shape does not follow from the nodes, and a runtime may take it for true",
            )
    known = _UnionFind()
    places: dict[str, list[tuple[Declaration, object]]] = {}
    for number, item in enumerate(declared):
        for axis, dim in enumerate(walk_dimensions(item.type)):
            place: object = ("place", number, axis)
            if (
                item.type.HasField("tensor_type")
                and item.shape is not None
                and axis < len(item.shape)
            ):
                known.join(place, ("length", repr(item.shape[axis])))
            if (item.name, axis) in said:
                known.join(place, ("said", said[item.name, axis]))
            if read_length_name(dim):
                places.setdefault(read_length_name(dim), []).append((item, place))
    for name, found in places.items():
        if all(item.is_given for item, _ in found):
            continue
        (_, first), *others = found
        for item, place in others:
            if known.find(place) != known.find(first):
                return (
                    item.name,
                    f"a length is called '{name}', like others that nothing shows to be equal",
                )
    return None


class _UnionFind:
    """What is equal to what (union-find)."""

    def __init__(self) -> None:
        self._above: dict[object, object] = {}

    def find(self, item: object) -> object:
        while item in self._above:
            item = self._above[item]
        return item

    def join(self, a: object, b: object) -> None:
        a, b = self.find(a), self.find(b)
        if a != b:
            self._above[a] = b
