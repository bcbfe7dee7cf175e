"""Terms: the values of a graph, each written by how it is computed.

A term is an operator, its attributes and its operands, which are terms. Names, order and
repetition are gone. Element types and shapes are known as far as they can be, lengths of axes as
polynomials (`semantics.lengths`). Small integers, shapes above all, are known by their values.
Terms are made by `numbering.Terms` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, TypeProto

from ...errors import LadyError
from ...semantics.lengths import Length, are_numbers
from ...vocabulary.schemas import list_defaults
from ...vocabulary.structure import normalise_domain

WIDE_FLOAT_TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE)
"""Types in which sums and products are brought to one form; shorter ones round too much for it."""

Attributes = tuple[tuple[str, bytes], ...]
"""Attributes by name, serialized."""
Origin = tuple[str, Callable[[], np.ndarray]]
"""A weight, and a function that gives for every element of a constant its flat place there."""


class NoNormalFormError(LadyError):
    """A graph that has no normal form; the message says at which node."""


# compared by identity, as terms are
@dataclass(frozen=True, eq=False)
class Leaf:
    """A constant of a form.

    Attributes:
        array: its values.
        hint: the name of the weight that it is, or that it was made of.
        origin: that weight and the places of the elements there, if nothing but movement lies
            between; None for a constant that was computed.
        error_bound: by how much rounding may have changed every element, float64 of a shape that
            broadcasts to that of `array`; None for a constant that is exact.
    """

    array: np.ndarray
    hint: str
    origin: Origin | None = None
    error_bound: np.ndarray | None = None


# by identity: `numbering.Terms` makes one object of terms that are computed alike
@dataclass(eq=False)
class Term:
    """One value of a graph.

    Attributes:
        operator: the operator that computes it.
        domain: the domain of the operator.
        attributes: the attributes of the operator.
        operands: the operands; None for one that is left out.
        position: which of the operator's results it is.
        results: the number of the operator's results.
        dtype: its element type; 0 if that is not known.
        shape: the lengths of its axes; None if their number is not known.
        known: its values, if they are known: an object array of integers and polynomials, or a
            small constant of any type.
        leaf: the constant that it is, if it is one.
        bodies: the bodies of its operator.
        scope: the graph or body that it is computed in.
        scale: the number that `Scale` multiplies by.
        key: the key of its operator's results in the table of the scope.
        layout: the factors that `Move` splits its operand's shape into, and their new order.
        is_exact: whether it stands in a form in which every bit is as the file says.
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
    is_exact: bool = False
    digest: bytes = b""

    @property
    def rank(self) -> int | None:
        """The number of axes; None if it is not known."""
        return None if self.shape is None else len(self.shape)

    @property
    def is_reassociable(self) -> bool:
        """Whether sums and products of it may be reordered: a wide float in a rounded form."""
        return self.dtype in WIDE_FLOAT_TYPES and not self.is_exact

    @property
    def number(self) -> float | None:
        """The number that a constant of one wide float holds; None for any other term."""
        if self.leaf is None or self.leaf.array.size != 1 or self.dtype not in WIDE_FLOAT_TYPES:
            return None
        return float(self.leaf.array.reshape(-1)[0])

    @property
    def integers(self) -> np.ndarray | None:
        """The known values as int64; None if they are not known or not all plain numbers."""
        # lengths are kept as objects, polynomials or not, and booleans as they are
        if self.known is None or self.known.dtype.kind not in "Oiub":
            return None
        return self.known.astype(np.int64) if are_numbers(self.known.ravel().tolist()) else None

    @property
    def permutation(self) -> list[int]:
        """The axes of a `Transpose`'s operand, in the order of the result's axes."""
        order = self.read_attribute("perm")
        assert isinstance(order, list)
        return order

    def read_attribute(self, name: str) -> object:
        """Return the value of an attribute."""
        return read_attribute_value(dict(self.attributes)[name])


@dataclass(frozen=True, eq=False)
class Body:
    """A graph inside an operator; its inputs and outputs go by position.

    Attributes:
        attribute: the name of the attribute that it stands in.
        inputs: the terms of its inputs.
        outputs: the terms of its outputs.
        declared: the type and shape that the file declares of every output; empty where these
            follow from the nodes.
        scope: the scope of its terms.
    """

    attribute: str
    inputs: tuple[Term, ...]
    outputs: tuple[Term, ...]
    declared: tuple[TypeProto, ...]
    scope: Scope


@dataclass(eq=False)
class Scope:
    """The terms that are computed in one graph or body.

    Attributes:
        outer: the scope around it.
        table: the results of every operator, by how they are computed.
    """

    outer: Scope | None = None
    table: dict[object, tuple[Term, ...]] = field(default_factory=dict)

    def find(self, key: object) -> tuple[Term, ...] | None:
        """Find results here or in the scopes around; None if they are not computed there."""
        if key in self.table:
            return self.table[key]
        return self.outer.find(key) if self.outer else None


def make_attributes(**values: object) -> Attributes:
    """Make the attributes of a term from Python values."""
    return tuple(sorted(_make_attribute(k, v) for k, v in values.items()))


def _make_attribute(name: str, value: object) -> tuple[str, bytes]:
    # onnx cannot tell the type of an empty list
    empty = AttributeProto.INTS if value == [] else None
    made = onnx.helper.make_attribute(name, value, attr_type=empty)
    return name, made.SerializeToString(deterministic=True)


def read_attribute_value(serialized: bytes) -> object:
    """Return the value of a serialized attribute."""
    return onnx.helper.get_attribute_value(AttributeProto.FromString(serialized))


def list_with_defaults(node: NodeProto, version: int) -> Attributes:
    """List the attributes of a node but for bodies, with the defaults of those left out.

    Args:
        node: the node.
        version: the version of its domain whose defaults count.
    """
    domain = normalise_domain(node.domain)
    every = {
        **list_defaults(node.op_type, domain, version),
        **{a.name: a for a in node.attribute},
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
    """Walk all terms that some terms depend on, operands first, each once.

    The terms of a body come before the term whose operator holds it.
    """
    # a stack in place of recursion: networks are deeper than Python's
    done: set[int] = set()
    waiting: list[tuple[Term, bool]] = [(t, False) for t in reversed(ends)]
    while waiting:
        term, is_ready = waiting.pop()
        if id(term) in done:
            continue
        if is_ready:
            done.add(id(term))
            yield term
            continue
        waiting.append((term, True))
        inner = [o for body in term.bodies for o in body.outputs]
        waiting += [(o, False) for o in (*inner, *term.operands) if o is not None]
