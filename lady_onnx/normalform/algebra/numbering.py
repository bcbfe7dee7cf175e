"""TODO."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, TypeProto

from ...graph.model import Graph
from ...rules.classes import DISPUTED_LENGTH_OPERATORS
from ...semantics.declarations import list_declared_lengths
from ...semantics.lengths import Length, Polynomial, are_numbers, make_unknown_length
from ...semantics.schemas import find_schema, normalise_domain
from .disputed_lengths import find_agreed_lengths
from .inference import MAX_SHAPE_ELEMENTS
from .term import Attributes, Body, Leaf, NoNormalForm, Scope, Term, read_attribute_value


def _hide_unknown_lengths(text: bytes) -> bytes:
    """A shape as it is written in attributes, without the names of its unknown lengths."""
    return re.sub(rb"\d+(\*\d+)+", b"?", text)


MAX_KNOWN_ELEMENTS = 1 << 12
"""Constants of whole numbers of more elements are not looked into."""


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
        if not are_numbers(known.ravel().tolist()):
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
            (n, _hide_unknown_lengths(v)) if n in ("factors", "of", "to") else (n, v)
            for n, v in term.attributes
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
                if isinstance(extent, Polynomial):
                    self.sizes[repr(extent)] = extent
                dims.append(repr(extent) if isinstance(extent, Polynomial) else extent)
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
            raise NoNormalForm(
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
                and operand.leaf.array.size <= MAX_SHAPE_ELEMENTS
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
        if domain or operator not in DISPUTED_LENGTH_OPERATORS:
            return seen
        values = {n: read_attribute_value(b) for n, b in attributes}
        before = operands[0].shape if operands and operands[0] is not None else None
        # the scales of the first versions are an attribute, and then an operand
        place = 1 if operator == "Upsample" or version < 11 else 2
        scales = next((t.leaf.array for t in operands[place : place + 1] if t and t.leaf), None)
        return [
            (kind, after and find_agreed_lengths(operator, values, before, after, scales))
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
