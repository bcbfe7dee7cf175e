"""TODO."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, TypeProto

from ...errors import LadyError
from ...semantics.lengths import Length, are_numbers
from ...semantics.schemas import list_defaults, normalise_domain


def list_with_defaults(
    node: NodeProto, version: int, kept: Mapping[str, AttributeProto] | None = None
) -> Attributes:
    """The attributes of a node, with the defaults that its operator has at a version, but for bodies."""
    domain = normalise_domain(node.domain)
    every = {
        **list_defaults(node.op_type, domain, version),
        **(kept or {a.name: a for a in node.attribute}),
    }
    found = []
    for name, proto in every.items():
        if proto.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            continue
        plain = AttributeProto()
        plain.CopyFrom(proto)
        plain.ClearField("doc_string")
        found.append((name, plain.SerializeToString(deterministic=True)))
    return tuple(sorted(found))


def walk_terms(ends: Sequence[Term]) -> Iterator[Term]:
    """The terms that some hang on, operands first, each once; those of bodies where their operator stands."""
    done: set[int] = set()
    waiting: list[tuple[Term, bool]] = [(t, False) for t in reversed(ends)]
    while waiting:
        term, ready = waiting.pop()
        if id(term) in done:
            continue
        if ready:
            done.add(id(term))
            yield term
            continue
        waiting.append((term, True))
        inner = [o for body in term.bodies for o in body.outputs]
        waiting += [(o, False) for o in (*inner, *term.operands) if o is not None]


WIDE_FLOAT_TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE)
"""Types in which sums and products are written in one form; shorter ones round too much for that."""


Attributes = tuple[tuple[str, bytes], ...]
"""Attributes by name, serialized."""


class NoNormalForm(LadyError):
    """A graph that has no normal form; the message says at which node."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """A constant of a form.

    Attributes:
        array: its values.
        hint: the name of the weight that it is, or was made of.
        origin: that weight, and for every element of `array` its flat position there, where nothing but movement lies
            between; None for what was computed.
        room: by how much rounding may have changed every element, float64 of a shape that broadcasts to that of
            `array`; None where it is exact.
    """

    array: np.ndarray
    hint: str
    origin: tuple[str, Callable[[], np.ndarray]] | None = None
    room: np.ndarray | None = None


@dataclass(eq=False)
class Term:
    """One value of a graph.

    Attributes:
        operator, domain, attributes, operands: how it is computed; None for an operand that is left out.
        position: which of the operator's results it is.
        results: how many the operator gives.
        dtype: its element type, 0 if that is not known.
        shape: the lengths of its axes; None if their number is not known.
        known: an object array of whole numbers and polynomials, or a small constant of any type; None if not known.
        leaf: the constant that it is.
        bodies: the bodies of its operator.
        scope: where it is computed.
        scale: of the operator Scale, the number that it multiplies by.
        key: under which the results of its operator stand in the scope's table.
        layout: of the operator Move, the factors that its operand's shape is split into, and their order.
        exact: whether it stands in a form in which every bit is as it was.
        digest: a hash of how it is computed, without the values of weights.
    """

    operator: str
    domain: str
    attributes: Attributes
    operands: tuple[Term | None, ...]
    position: int = 0
    results: int = 1
    dtype: int = 0
    shape: tuple[Length, ...] | None = None
    known: np.ndarray | None = None
    leaf: Leaf | None = None
    bodies: tuple[Body, ...] = ()
    scope: Scope | None = None
    scale: float = 1.0
    key: object = None
    layout: tuple[tuple[Length, ...], tuple[int, ...]] = ((), ())
    exact: bool = False
    digest: bytes = b""

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def is_float(self) -> bool:
        """Is it of a type, and in a form, in which sums and products may be written anew?"""
        return self.dtype in WIDE_FLOAT_TYPES and not self.exact

    @property
    def number(self) -> float | None:
        """The one number of a constant of one element."""
        if self.leaf is None or self.leaf.array.size != 1 or self.dtype not in WIDE_FLOAT_TYPES:
            return None
        return float(self.leaf.array.reshape(-1)[0])

    @property
    def whole(self) -> np.ndarray | None:
        """The known values as int64; None where they are not all plain numbers."""
        if self.known is None or self.known.dtype.kind not in "Oiub":
            return None
        return self.known.astype(np.int64) if are_numbers(self.known.ravel().tolist()) else None

    @property
    def perm(self) -> list[int]:
        """Of a transposition, for every axis which one of its operand it is."""
        order = self.attribute("perm")
        assert isinstance(order, list)
        return order

    def attribute(self, name: str) -> object:
        """The value of an attribute."""
        return read_attribute_value(dict(self.attributes)[name])


@dataclass(frozen=True, eq=False)
class Body:
    """A graph inside an operator: its inputs and outputs by position.

    Attributes:
        attribute: the name of the attribute that it stands in.
        inputs, outputs: the terms.
        declared: for every output what the file says of its type and shape; empty where that is known to be so.
        scope: where its terms are computed.
    """

    attribute: str
    inputs: tuple[Term, ...]
    outputs: tuple[Term, ...]
    declared: tuple[TypeProto, ...]
    scope: Scope


@dataclass(eq=False)
class Scope:
    """The terms that are computed in one graph or body."""

    outer: Scope | None = None
    table: dict[object, tuple[Term, ...]] = field(default_factory=dict)

    def find(self, key: object) -> tuple[Term, ...] | None:
        if key in self.table:
            return self.table[key]
        return self.outer.find(key) if self.outer else None


def make_attribute(name: str, value: object) -> tuple[str, bytes]:
    """An attribute of a term."""
    empty = AttributeProto.INTS if value == [] else None
    made = onnx.helper.make_attribute(name, value, attr_type=empty)
    return name, made.SerializeToString(deterministic=True)


def read_attribute_value(serialized: bytes) -> object:
    """The value of a serialized attribute."""
    return onnx.helper.get_attribute_value(AttributeProto.FromString(serialized))


def make_attributes(**values: object) -> Attributes:
    """Attributes of a term, by name."""
    return tuple(sorted(make_attribute(k, v) for k, v in values.items()))
