"""Types and shapes of results, as onnx infers them from those of the operands.

Lengths that only a run shows go to onnx as names and come back as polynomials. What onnx and the
runtimes may disagree on is left open (`disputed_lengths`).
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import AttributeProto, NodeProto, TensorProto, TypeProto

from ...semantics.lengths import Length, Polynomial, make_unknown_length
from ...vocabulary.classes import DISPUTED_LENGTH_OPERATORS
from ...vocabulary.names import UPSAMPLE
from ...vocabulary.schemas import find_schema
from ...vocabulary.structure import normalise_domain
from .disputed_lengths import find_agreed_lengths
from .term import Attributes, NoNormalFormError, Term, read_attribute_value

MAX_SHAPE_ELEMENTS = 64
"""The largest number of elements of a constant that onnx is shown: it may say a result's shape."""
INFERENCE_IR_VERSION = 10
"""The IR version under which onnx is asked."""

ResultType = tuple[int, Sequence[Length | None] | None]
"""An element type, 0 if unknown, and a shape, with None for what is unknown."""


class UnknownLengths:
    """The lengths that only a run shows, each with a name of its own.

    Attributes:
        axes: the term and the axis that a length was first found at, by its name.
    """

    def __init__(self) -> None:
        self.axes: dict[str, tuple[Term, int]] = {}
        self._computed: dict[str, Length] = {}

    def fill_shape(
        self, term: Term, dims: Sequence[Length | None] | None
    ) -> tuple[Length, ...] | None:
        """Make a term's shape out of one that leaves lengths open: each gets a name of its own."""
        if dims is None:
            return None
        return tuple(self._make(term, a) if d is None else d for a, d in enumerate(dims))

    def name_by_formula(self, term: Term, axis: int, formula: str) -> None:
        """Give a length a name by how it is computed, so that it is one wherever that is done.

        Args:
            term: a term of a known rank, whose shape is changed.
            axis: the axis of the length.
            formula: how the length is computed.
        """
        assert term.shape is not None
        if formula not in self._computed:
            self._computed[formula] = self._make(term, axis)
        term.shape = (*term.shape[:axis], self._computed[formula], *term.shape[axis + 1 :])

    def _make(self, term: Term, axis: int) -> Length:
        """Make a new unknown length, of which only the place is known where it was found."""
        name = f"{len(self.axes)}"
        self.axes[name] = term, axis
        return make_unknown_length(name)


class ShapeInference:
    """Asks onnx for the types and shapes of results.

    Args:
        version: the version of the default domain that the terms' operators speak.
    """

    def __init__(self, version: int):
        self.version = version
        self._sizes: dict[str, Length] = {}
        """The lengths that onnx was told of, by the names that they went under."""

    def describe_type(self, term: Term) -> TypeProto | None:
        """Write the type of a term for onnx; None if its element type is not known."""
        if not term.dtype:
            return None
        dims: list[int | str] | None = None
        if term.shape is not None:
            dims = []
            for length in term.shape:
                # onnx carries names through, and they come back as lengths in `_read_type`
                if isinstance(length, Polynomial):
                    self._sizes[repr(length)] = length
                dims.append(repr(length) if isinstance(length, Polynomial) else length)
        return onnx.helper.make_tensor_type_proto(term.dtype, dims)

    def check_operands(
        self, node: NodeProto, operands: Sequence[Term | None], version: int
    ) -> list[ResultType]:
        """Check that operands fit their operator, as far as onnx's inference checks it.

        Returns:
            What onnx infers of the results, nothing where it does not know the operator.

        Raises:
            NoNormalFormError: if onnx refuses the operands.
        """
        if find_schema(node.op_type, node.domain, version) is None:
            return []
        attributes = tuple((a.name, a.SerializeToString()) for a in node.attribute)
        try:
            return self._infer_at_version(
                node.op_type,
                normalise_domain(node.domain),
                operands,
                attributes,
                len(node.output),
                version,
            )
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
            raise NoNormalFormError(
                f"its operands do not fit: {' '.join(str(error).split())[:200]}"
            ) from error

    def infer(
        self,
        operator: str,
        domain: str,
        operands: Sequence[Term | None],
        attributes: Attributes,
        results: int,
    ) -> list[ResultType]:
        """Infer the types of an operator's results; all unknown where onnx refuses the operands."""
        try:
            return self._infer_at_version(
                operator, domain, operands, attributes, results, self.version
            )
        except (
            onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError,
            RuntimeError,
            ValueError,
        ):
            return [(0, None)] * results

    def _infer_at_version(
        self,
        operator: str,
        domain: str,
        operands: Sequence[Term | None],
        attributes: Attributes,
        results: int,
        version: int,
    ) -> list[ResultType]:
        """Infer the types of results at a version of the domain; raises what onnx raises."""
        unknown: list[ResultType] = [(0, None)] * results
        schema = find_schema(operator, domain, version)
        if schema is None:
            return unknown
        names = ["" if o is None else f"a{k}" for k, o in enumerate(operands)]
        types: dict[str, TypeProto] = {}
        data: dict[str, TensorProto] = {}
        for name, operand in zip(names, operands, strict=True):
            if operand is None:
                continue
            kind = self.describe_type(operand)
            if kind is None:
                return unknown
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
        inferred = onnx.shape_inference.infer_node_outputs(
            schema,
            node,
            types,
            data,
            opset_imports=[onnx.helper.make_opsetid(domain, version)],
            ir_version=INFERENCE_IR_VERSION,
        )
        found = [self._read_type(inferred.get(f"r{k}")) for k in range(results)]
        if domain or operator not in DISPUTED_LENGTH_OPERATORS:
            return found
        return _drop_disputed_lengths(operator, operands, attributes, version, found)

    def _read_type(self, kind: TypeProto | None) -> ResultType:
        """Read what onnx inferred of a result."""
        if kind is None or not kind.HasField("tensor_type"):
            return 0, None
        tensor = kind.tensor_type
        if not tensor.HasField("shape"):
            return tensor.elem_type, None
        dims = [
            d.dim_value if d.HasField("dim_value") else self._sizes.get(d.dim_param)
            for d in tensor.shape.dim
        ]
        # a length that inference leaves open gets an unknown of its own later
        return tensor.elem_type, dims


def _drop_disputed_lengths(
    operator: str,
    operands: Sequence[Term | None],
    attributes: Attributes,
    version: int,
    found: Sequence[ResultType],
) -> list[ResultType]:
    """Leave open the lengths on which inference and the kernels of a runtime may disagree."""
    values = {n: read_attribute_value(b) for n, b in attributes}
    before = operands[0].shape if operands and operands[0] is not None else None
    # the first version takes its scales as an attribute, the next as the second operand,
    # and those from 11 on as the third
    place = 1 if operator == UPSAMPLE or version < 11 else 2
    scales = next((t.leaf.array for t in operands[place : place + 1] if t and t.leaf), None)
    return [
        (kind, after and find_agreed_lengths(operator, values, before, after, scales))
        for kind, after in found
    ]
