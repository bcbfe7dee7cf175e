"""What a file declares of its values: element types, lengths of axes, and names of lengths.

A runtime takes that for true where it knows nothing itself. onnxruntime folds lengths to constants
by it, plans its memory by it, and fuses operators where lengths have one name. So what a suspect
declares counts, unless the reference declares it too, or unless it follows from the suspect's
nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from onnx import TensorProto, TensorShapeProto, TypeProto

from .lengths import Length

StatedLengths = Mapping[tuple[str, int], int | str]
"""The length that the reference states for an axis of a suspect's value: a number, or a name."""


@dataclass(frozen=True)
class Declaration:
    """What a file declares of a value, and what is known of it.

    Attributes:
        name: the value, with the prefix of the body or function that it stands in.
        type: what is declared.
        dtype: the element type that follows from the nodes; 0 where none does.
        shape: the shape that follows from the nodes; None where none does.
        is_given: whether it is an input of a body, which the operator around the body gives.
        is_compared: whether it stands in the normal form as well, so that two forms differ where it
            does.
    """

    name: str
    type: TypeProto
    dtype: int
    shape: tuple[Length, ...] | None
    is_given: bool = False
    is_compared: bool = False

    @property
    def is_implied(self) -> bool:
        """Whether the declared type and lengths follow from the nodes."""
        if not self.type.WhichOneof("value"):
            return True
        return self.type.HasField("tensor_type") and is_covered(self.type, self.dtype, self.shape)


def is_covered(declared: TypeProto, dtype: int, shape: Sequence[Length | None] | None) -> bool:
    """Tell whether a file declares no more of a tensor than what is known of it.

    Args:
        declared: what is declared.
        dtype: the known element type; 0 if none is known.
        shape: the known shape, with None for an unknown length; None if no shape is known.
    """
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
    """List the declared lengths of a tensor's axes, with None for an open one.

    None where the whole shape is left open.
    """
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    return [read_size(dim) for dim in kind.tensor_type.shape.dim]


def read_size(dim: TensorShapeProto.Dimension) -> int | None:
    """Read the declared length of an axis; None where it is left open, as by a negative number."""
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def read_length_name(dim: TensorShapeProto.Dimension) -> str:
    """Read the name of a length that is left open; empty where there is none."""
    return dim.dim_param if read_size(dim) is None else ""


def read_length(dim: TensorShapeProto.Dimension | None) -> int | str | None:
    """Read how long an axis is declared to be: a number, or a name."""
    if dim is None:
        return None
    size = read_size(dim)
    return (read_length_name(dim) or None) if size is None else size


def walk_dimensions(kind: TypeProto) -> Iterator[TensorShapeProto.Dimension]:
    """Walk the axes of a tensor, or of the tensors in a sequence, an optional or a map."""
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        yield from getattr(kind, which).shape.dim
    elif which == "map_type":
        yield from walk_dimensions(kind.map_type.value_type)
    elif which in ("sequence_type", "optional_type"):
        yield from walk_dimensions(getattr(kind, which).elem_type)


def find_unimplied(
    declared: Sequence[Declaration], stated: StatedLengths, doubted: Set[str], is_formed: bool
) -> tuple[str, str] | None:
    """Find the first value of which something is declared that does not follow from the nodes.

    Args:
        declared: everything that the suspect declares.
        stated: what the reference states of the suspect's lengths.
        doubted: the values of which the reference declares less.
        is_formed: whether the two files were compared in their normal forms, where nothing is
            declared of inner values.

    Returns:
        The value, and what is wrong with it; None where all follows.
    """
    for item in declared:
        is_doubted = item.name in doubted or (is_formed and not item.is_compared)
        if is_doubted and not item.is_implied:
            return (
                item.name,
                "its declared type or shape does not follow from the nodes, "
                "and a runtime may take it for true",
            )
    return _find_unimplied_length_name(declared, stated)


def _find_unimplied_length_name(
    declared: Sequence[Declaration], stated: StatedLengths
) -> tuple[str, str] | None:
    """Find the first value with a length of a name whose other lengths are not shown to be equal.

    Lengths of one name are equal where the nodes show it, or where the reference states it.
    """
    known = _UnionFind()
    places: dict[str, list[tuple[Declaration, object]]] = {}
    for number, item in enumerate(declared):
        is_tensor = item.type.HasField("tensor_type")
        for axis, dim in enumerate(walk_dimensions(item.type)):
            place: object = ("place", number, axis)
            if is_tensor and item.shape is not None and axis < len(item.shape):
                # Equal lengths have equal texts, since the terms of a polynomial are sorted.
                known.join(place, ("length", repr(item.shape[axis])))
            if (item.name, axis) in stated:
                known.join(place, ("stated", stated[item.name, axis]))
            if read_length_name(dim):
                places.setdefault(read_length_name(dim), []).append((item, place))
    for name, found in places.items():
        if all(item.is_given for item, _ in found):
            # nothing follows of what is given to a body, and the walk has compared its names
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
    """Classes of things that are equal (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[object, object] = {}

    def find(self, item: object) -> object:
        """Return the representative of a thing's class."""
        while item in self._parents:
            item = self._parents[item]
        return item

    def join(self, a: object, b: object) -> None:
        """Note that two things are equal."""
        a, b = self.find(a), self.find(b)
        if a != b:
            self._parents[a] = b
