"""Graphs as terms: every value by how it is computed, each of them once.

A term is an operator, its attributes and its operands, which are terms. Terms that are written alike are one (value
numbering), so names, order and repetition are gone. Types and shapes are known as far as they can be, lengths of axes
as polynomials (`equality.extents`); small whole numbers, shapes above all, are known by their values.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, TypeProto

from ..equality.declared import list_declared_lengths
from ..equality.extents import Length, Poly, is_number, make_unknown_length
from ..equality.meanings import find_schema, list_defaults, normalise_domain
from ..errors import LadyError
from ..graph.model import Graph
from .lengths import DISPUTED, agreed_lengths

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
"""Types in which sums and products are written in one form; shorter ones round too much for that."""
MOST_SHAPING = 64
"""Constants of more elements do not say what shape a result has."""
MAX_KNOWN_ELEMENTS = 1 << 12
"""Constants of whole numbers of more elements are not looked into."""

Attributes = tuple[tuple[str, bytes], ...]
"""Attributes by name, serialized."""


class NoForm(LadyError):
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
        return self.dtype in FLOATS and not self.exact

    @property
    def number(self) -> float | None:
        """The one number of a constant of one element."""
        if self.leaf is None or self.leaf.array.size != 1 or self.dtype not in FLOATS:
            return None
        return float(self.leaf.array.reshape(-1)[0])

    @property
    def whole(self) -> np.ndarray | None:
        """The known values as int64; None where they are not all plain numbers."""
        if self.known is None or self.known.dtype.kind not in "Oiub":
            return None
        return self.known.astype(np.int64) if is_number(self.known.ravel().tolist()) else None

    @property
    def perm(self) -> list[int]:
        """Of a transposition, for every axis which one of its operand it is."""
        order = self.attribute("perm")
        assert isinstance(order, list)
        return order

    def attribute(self, name: str) -> object:
        """The value of an attribute."""
        return value_of(dict(self.attributes)[name])


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


def attribute(name: str, value: object) -> tuple[str, bytes]:
    """An attribute of a term."""
    empty = AttributeProto.INTS if value == [] else None
    made = onnx.helper.make_attribute(name, value, attr_type=empty)
    return name, made.SerializeToString(deterministic=True)


def value_of(serialized: bytes) -> object:
    """The value of a serialized attribute."""
    return onnx.helper.get_attribute_value(AttributeProto.FromString(serialized))


def make_attributes(**values: object) -> Attributes:
    """Attributes of a term, by name."""
    return tuple(sorted(attribute(k, v) for k, v in values.items()))


class Terms:
    """Makes terms, each of them once.

    Args:
        graph: the graph that holds the constants.
        version: the version of the default domain that the terms' operators speak.
        exact: whether only such equalities are used as leave every bit as it is, and none that hold for real numbers alone.
        named: by an input and an axis the name of a length that all axes of that name have.
    """

    def __init__(
        self,
        graph: Graph,
        version: int,
        exact: bool,
        named: Mapping[tuple[str, int], str] | None = None,
    ):
        self.graph = graph
        self.exact = exact
        self.version = version
        """The version of the default domain that the terms' operators speak."""
        self.scope = Scope()
        self.sizes: dict[str, Length] = {}
        self.axes: dict[str, tuple[Term, int]] = {}
        """By the name of an unknown length where it is found."""
        self.parts: dict[tuple[int, int], Term | None] = {}
        """By the identity of a map and how many of its channels are asked, these."""
        self._named = named or {}
        self._lengths: dict[str, Length] = {}
        self._measured: dict[str, Length] = {}
        self._weights: dict[str, Term] = {}
        self._fresh = 0

    # ---- constants and inputs

    def input(self, k: int, name: str, kind: TypeProto) -> Term:
        """An input of the model, by position."""
        tensor = kind.tensor_type
        serialized = kind.SerializeToString(deterministic=True)
        term = Term(
            "Input",
            "",
            (("name", name.encode()), ("position", str(k).encode()), ("type", serialized)),
            (),
        )
        term = self._one(("input", name), term, tensor.elem_type, None)
        dims = list_declared_lengths(kind)
        if dims is not None:
            shape = list(self._axes(term, dims) or ())
            for axis, length in enumerate(shape):
                if dims[axis] is None and (name, axis) in self._named:
                    shape[axis] = self._lengths.setdefault(self._named[name, axis], length)
            term.shape = tuple(shape)
        return term

    def formal(self, k: int, kind: TypeProto) -> Term:
        """An input of a body, by position."""
        dtype = kind.tensor_type.elem_type if kind.HasField("tensor_type") else 0
        serialized = kind.SerializeToString(deterministic=True)
        made = Term("Formal", "", (("position", str(k).encode()), ("type", serialized)), ())
        return self._one(("formal", k, id(self.scope)), made, dtype, None)

    def weight(self, name: str) -> Term:
        """A constant of the file."""
        if name not in self._weights:
            self._weights[name] = self._weight(name)
        return self._weights[name]

    def _weight(self, name: str) -> Term:
        tensor = self.graph.tensors[name]
        if tensor.data_type == TensorProto.STRING or np.prod(tensor.dims, dtype=np.int64) == 0:
            return self._constant(
                self.graph.array(name),
                name,
                tensor.data_type,
                text=tensor.data_type == TensorProto.STRING,
            )
        array = self.graph.array(name)
        origin = name, lambda: np.arange(array.size).reshape(array.shape)
        return self._constant(array, name, tensor.data_type, origin)

    def constant(
        self, array: np.ndarray, hint: str = "constant", room: np.ndarray | None = None
    ) -> Term:
        """A constant that was computed."""
        array = np.asarray(array)
        return self._constant(
            array, hint, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), room=room
        )

    def moved(self, leaf: Leaf, move: Callable[[np.ndarray], np.ndarray]) -> Term:
        """A constant whose elements were moved, copied or left out."""
        array = move(leaf.array)
        origin = None
        if leaf.origin is not None:
            name, places = leaf.origin
            origin = name, lambda: move(places())
        whole = None if leaf.room is None else move(np.broadcast_to(leaf.room, leaf.array.shape))
        return self._constant(
            array, leaf.hint, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), origin, whole
        )

    def _constant(
        self,
        array: np.ndarray,
        hint: str,
        dtype: int,
        origin: tuple[str, Callable[[], np.ndarray]] | None = None,
        room: np.ndarray | None = None,
        text: bool = False,
    ) -> Term:
        # what is no weight is one wherever it holds the same
        plain = (
            not text
            and (array.dtype.kind in "biu" or array.size == 1)
            and array.size <= MAX_KNOWN_ELEMENTS
        )
        held = (
            (str(array.dtype), array.shape, array.tobytes())
            if plain
            else id(array)
            if origin is None
            else None
        )
        key = ("constant", held if held is not None else (hint, id(array)))
        old = self.scope.find(key)
        if old is not None:
            return old[0]
        term = Term("Constant", "", (), (), leaf=Leaf(array, hint, origin, room))
        if plain and array.dtype.kind in "iu":
            term.known = array.astype(object)
        elif plain:
            term.known = array
        top = self.scope
        while top.outer is not None:
            top = top.outer
        # what may have been put in another order shows what it holds, whatever the order
        shown = (
            (array.shape, np.sort(array, axis=None).tobytes())
            if plain and array.dtype.kind in "biu"
            else array.shape
        )
        return self._one(key, term, dtype, tuple(array.shape), shown, top)

    def values(self, known: np.ndarray, dtype: int = TensorProto.INT64) -> Term | None:
        """A constant of whole numbers; None where a length is not a plain number."""
        if not is_number(known.ravel().tolist()):
            return None
        return self.constant(known.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype)))

    # ---- terms

    def make(
        self,
        operator: str,
        operands: Sequence[Term | None],
        attributes: Attributes = (),
        *,
        dtype: int | None = None,
        shape: Sequence[Length | None] | None = None,
        scale: float = 1.0,
        known: np.ndarray | None = None,
    ) -> Term:
        """The term of an operator of the default domain with one result; type and shape are inferred if not given."""
        return self.node(
            operator,
            "",
            operands,
            attributes,
            1,
            dtype=dtype,
            shape=shape,
            scale=scale,
            known=known,
        )[0]

    def node(
        self,
        operator: str,
        domain: str,
        operands: Sequence[Term | None],
        attributes: Attributes,
        results: int,
        bodies: tuple[Body, ...] = (),
        *,
        dtype: int | None = None,
        shape: Sequence[Length | None] | None = None,
        scale: float = 1.0,
        known: np.ndarray | None = None,
        once: bool = False,
    ) -> tuple[Term, ...]:
        """The results of an operator; `once` for one that gives other results where it stands another time."""
        left = list(operands)
        while left and left[-1] is None:
            left.pop()
        key: object = (operator, domain, attributes, tuple(map(id, left)), results, scale)
        if bodies or once:
            self._fresh += 1
            key = ("once", self._fresh)
        old = self.scope.find(key)
        if old is not None:
            return old
        kinds: Sequence[tuple[int, Sequence[Length | None] | None]] = [
            (dtype or 0, shape)
        ] * results
        if dtype is None:
            kinds = self._infer(operator, domain, left, attributes, results)
        made = []
        for k, (kind, dims) in enumerate(kinds):
            term = Term(
                operator,
                domain,
                attributes,
                tuple(left),
                k,
                results,
                kind,
                known=known,
                bodies=bodies,
            )
            term.scope, term.scale, term.key, term.exact = self.scope, scale, key, self.exact
            term.digest = self._digest(term)
            term.shape = self._axes(term, dims)
            made.append(term)
        self.scope.table[key] = tuple(made)
        return tuple(made)

    def _one(
        self,
        key: object,
        term: Term,
        dtype: int,
        shape: tuple[Length, ...] | None,
        shown: object = None,
        scope: Scope | None = None,
    ) -> Term:
        term.dtype, term.shape, term.scope, term.exact = (
            dtype,
            shape,
            scope or self.scope,
            self.exact,
        )
        # inputs of two files are each other's by position
        position = [v for n, v in term.attributes if n == "position"]
        text = repr((term.operator, dtype, position, shown))
        term.digest = hashlib.blake2b(text.encode(), digest_size=12).digest()
        term.scope.table[key] = (term,)
        return term

    @staticmethod
    def _digest(term: Term) -> bytes:
        parts = hashlib.blake2b(digest_size=12)
        # lengths are named by the order in which they were found, which is another in another file
        named = [
            (n, _unnamed(v)) if n in ("factors", "of", "to") else (n, v) for n, v in term.attributes
        ]
        parts.update(repr((term.operator, term.domain, named, term.position)).encode())
        for operand in term.operands:
            parts.update(operand.digest if operand else b"-")
        for body in term.bodies:
            parts.update(b"|".join(o.digest for o in body.outputs))
            parts.update(b"|".join(d.SerializeToString(deterministic=True) for d in body.declared))
        return parts.digest()

    # ---- types and shapes

    def _axes(self, term: Term, dims: Sequence[Length | None] | None) -> tuple[Length, ...] | None:
        if dims is None:
            return None
        return tuple(self._axis(term, a) if d is None else d for a, d in enumerate(dims))

    def measured(self, term: Term, axis: int, how: str) -> None:
        """Gives a length that nothing is known about a name by how it is computed, so that it is one wherever that is done."""
        assert term.shape is not None
        if how not in self._measured:
            self._measured[how] = self._axis(term, axis)
        term.shape = (*term.shape[:axis], self._measured[how], *term.shape[axis + 1 :])

    def _axis(self, term: Term, axis: int) -> Length:
        """A length that nothing is known about but where it is found."""
        name = f"{len(self.axes)}"
        self.axes[name] = term, axis
        return make_unknown_length(name)

    def type_of(self, term: Term) -> TypeProto | None:
        """What onnx's inference is told of a term."""
        if not term.dtype:
            return None
        dims: list[int | str] | None = None
        if term.shape is not None:
            dims = []
            for extent in term.shape:
                if isinstance(extent, Poly):
                    self.sizes[repr(extent)] = extent
                dims.append(repr(extent) if isinstance(extent, Poly) else extent)
        return onnx.helper.make_tensor_type_proto(term.dtype, dims)

    def check(self, node: NodeProto, operands: Sequence[Term | None], version: int) -> None:
        """Raises NoForm where onnx's inference says that operands do not fit their operator."""
        if find_schema(node.op_type, node.domain, version) is None:
            return
        attributes = tuple((a.name, a.SerializeToString()) for a in node.attribute)
        try:
            self._inferred(
                node.op_type,
                normalise_domain(node.domain),
                operands,
                attributes,
                len(node.output),
                version,
            )
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
            raise NoForm(
                f"its operands do not fit: {' '.join(str(error).split())[:200]}"
            ) from error

    def _infer(
        self,
        operator: str,
        domain: str,
        operands: Sequence[Term | None],
        attributes: Attributes,
        results: int,
    ) -> list[tuple[int, Sequence[Length | None] | None]]:
        try:
            return self._inferred(operator, domain, operands, attributes, results, self.version)
        except (
            onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError,
            RuntimeError,
            ValueError,
        ):
            return [(0, None)] * results

    def _inferred(
        self,
        operator: str,
        domain: str,
        operands: Sequence[Term | None],
        attributes: Attributes,
        results: int,
        version: int,
    ) -> list[tuple[int, Sequence[Length | None] | None]]:
        """The types and shapes of an operator's results as onnx infers them; raises what onnx does where nothing fits."""
        nothing: list[tuple[int, Sequence[Length | None] | None]] = [(0, None)] * results
        schema = find_schema(operator, domain, version)
        if schema is None:
            return nothing
        names = ["" if o is None else f"a{k}" for k, o in enumerate(operands)]
        types: dict[str, TypeProto] = {}
        data: dict[str, TensorProto] = {}
        for name, operand in zip(names, operands, strict=True):
            if operand is None:
                continue
            kind = self.type_of(operand)
            if kind is None:
                return nothing
            types[name] = kind
            if (
                operand.leaf is not None
                and operand.leaf.array.size <= MOST_SHAPING
                and operand.dtype != TensorProto.STRING
            ):
                data[name] = onnx.numpy_helper.from_array(operand.leaf.array, name)
        node = NodeProto(
            op_type=operator, domain=domain, input=names, output=[f"r{k}" for k in range(results)]
        )
        node.attribute.extend(AttributeProto.FromString(b) for _, b in attributes)
        found = onnx.shape_inference.infer_node_outputs(
            schema,
            node,
            types,
            data,
            opset_imports=[onnx.helper.make_opsetid(domain, version)],
            ir_version=10,
        )
        seen = [self._seen(found.get(f"r{k}")) for k in range(results)]
        if domain or operator not in DISPUTED:
            return seen
        values = {n: value_of(b) for n, b in attributes}
        before = operands[0].shape if operands and operands[0] is not None else None
        # the scales of the first versions are an attribute, and then an operand
        place = 1 if operator == "Upsample" or version < 11 else 2
        scales = next((t.leaf.array for t in operands[place : place + 1] if t and t.leaf), None)
        return [
            (kind, after and agreed_lengths(operator, values, before, after, scales))
            for kind, after in seen
        ]

    def _seen(self, kind: TypeProto | None) -> tuple[int, Sequence[Length | None] | None]:
        if kind is None or not kind.HasField("tensor_type"):
            return 0, None
        tensor = kind.tensor_type
        if not tensor.HasField("shape"):
            return tensor.elem_type, None
        dims = [
            d.dim_value if d.HasField("dim_value") else self.sizes.get(d.dim_param)
            for d in tensor.shape.dim
        ]
        # what inference leaves open gets an unknown of its own
        return tensor.elem_type, dims


def _unnamed(text: bytes) -> bytes:
    """A shape as it is written in attributes, without the names of its unknown lengths."""
    return re.sub(rb"\d+(\*\d+)+", b"?", text)


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
