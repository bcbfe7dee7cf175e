"""How operators are written in the normal form: one rule each, which holds for all inputs.

Rules make terms out of terms that are in normal form already, so one pass from the inputs to the outputs is enough.
What moves nothing is left out, and movements are one (`layouts`); factors that are one number stand behind what they scale;
sums and products of floats have one order; layers have a bias; normalisations and activations are spelled out. An
equality that holds for real numbers, and for floats up to rounding, is used for floats of 32 and 64 bits alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from ..equality.extents import Length, is_number
from ..equality.meanings import find_oldest_meaning, find_schema, list_defaults
from ..equality.pairing import RANDOM_OPERATORS, is_same_message
from ..runtime.sessions import run_node
from .layouts import are_plain_numbers, move_like, split_movement, without_movement
from .terms import Attributes, NoForm, Term, Terms, list_with_defaults

LEGACY = "consumed_inputs"
"""An attribute of the first version of the operator set, which no runtime reads."""
FLAGS = (
    *(
        "allowzero",
        "ceil_mode",
        "count_include_pad",
        "is_test",
        "keepdims",
        "noop_with_empty_axes",
        "spatial",
    ),
    *("training_mode", "transA", "transB"),
)
"""Attributes that say yes or no; of other numbers runtimes make what they like."""
MOST_WHOLE = 1 << 16
"""No constant of whole numbers that an operator gives has more elements."""


class Asked(Mapping[str, Any]):
    """Values by name, that knows for which of them was asked."""

    def __init__(self, values: Mapping[str, Any]):
        self._values = values
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True)
class Call:
    """A node as its rule sees it.

    Attributes:
        terms: makes terms.
        node: the node.
        version: the version of its domain.
        operands: None for one that is left out.
        attributes: those that are given, as Python values. One that the rule does not ask for must have its default, or be
            left aside: what nobody thought of is not dropped.
        loose: the operands, by identity, that nothing else reads.
    """

    terms: Terms
    node: NodeProto
    version: int
    operands: Sequence[Term | None]
    attributes: Asked
    loose: frozenset[int] = frozenset()

    def operand(self, k: int) -> Term | None:
        return self.operands[k] if k < len(self.operands) else None

    def first(self) -> Term:
        term = self.operand(0)
        if term is None:
            raise NoForm(f"{self.node.op_type}: no first operand")
        return term

    @property
    def results(self) -> int:
        return len(self.node.output)

    def is_asked(self, k: int) -> bool:
        return k < len(self.node.output) and bool(self.node.output[k])

    def leave_aside(self, *names: str) -> None:
        """Attributes that change nothing here, whatever they are."""
        self.attributes.names.update(names)

    def is_understood(self) -> bool:
        """Has every attribute its default, but for those that the rule asked for?"""
        defaults = list_defaults(self.node.op_type, "", self.version)
        others = (a for a in self.node.attribute if a.name not in {*self.attributes.names, LEGACY})
        return all(a.name in defaults and is_same_message(a, defaults[a.name]) for a in others)


Rule = Callable[[Call], Sequence[Term | None] | Term | None]
"""The results of a node; None where the rule does not apply, and the node stands as it is."""
RULES: dict[str, Rule] = {}


def register_rewrite(*operators: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        for operator in operators:
            if operator in RULES:
                raise ValueError(f"two rules for {operator}")
            RULES[operator] = function
        return function

    return register


def rewrite_node(call: Call) -> Sequence[Term | None]:
    """The results of a node of the default domain in normal form.

    Raises NoForm for a node that is not as its specification says.
    """
    call.terms.check(call.node, call.operands, call.version)
    schema = find_schema(call.node.op_type, "", call.version)
    for attribute in call.node.attribute:
        # a rule reads the attributes that it knows, and these are all that there are
        if schema is not None and attribute.name not in schema.attributes:
            raise NoForm(f"'{attribute.name}' is no attribute of {call.node.op_type}")
        if attribute.name in FLAGS and attribute.i not in (0, 1):
            raise NoForm(f"'{attribute.name}' is {attribute.i}, and neither 0 nor 1")
    found = RULES[call.node.op_type](call) if call.node.op_type in RULES else None
    if found is None or not call.is_understood():
        return keep_as_written(call)
    return [known_extents(call.terms, found)] if isinstance(found, Term) else found


def keep_as_written(
    call: Call, operands: Sequence[Term | None] | None = None, attributes: Attributes | None = None
) -> Sequence[Term]:
    """A node as it stands, if it means the same at the form's version."""
    node, terms = call.node, call.terms
    if attributes is None:
        meanings = [find_oldest_meaning(node.op_type, "", v) for v in (call.version, terms.version)]
        if meanings[0] != meanings[1]:
            raise NoForm(
                f"version {call.version} of the operator sets has another {node.op_type} than version {terms.version}"
            )
        attributes = list_with_defaults(node, terms.version)
    left = call.operands if operands is None else operands
    if node.op_type in UNARY_OPERATORS and left:
        before = apply_before_movement(terms, node.op_type, left, attributes)
        if before is not None:
            return [before]
    made = terms.node(
        node.op_type, "", left, attributes, call.results, once=node.op_type in RANDOM_OPERATORS
    )
    return [folded_whole(terms, t) or t for t in made] if call.results == 1 else made


def known_extents(terms: Terms, term: Term) -> Term:
    """A tensor of lengths that are known, written in one way."""
    known = term.known
    if (
        known is None
        or known.dtype != object
        or term.leaf is not None
        or term.operator == "Extents"
    ):
        return term
    return make_lengths(terms, known, term.dtype)


def make_lengths(
    terms: Terms, lengths: np.ndarray | Length, dtype: int = TensorProto.INT64
) -> Term:
    """A tensor of lengths, or of one."""
    # numpy gives an element where an array of no axes would be
    array = np.empty((), object)
    if isinstance(lengths, np.ndarray):
        array = lengths
    else:
        array[()] = lengths
    made = terms.values(array, dtype)
    if made is not None:
        return made
    text = repr((array.shape, array.ravel().tolist())).encode()
    return terms.make(
        "Extents",
        [],
        (("dtype", str(dtype).encode()), ("of", text)),
        dtype=dtype,
        shape=array.shape,
        known=array,
    )


def folded_whole(terms: Terms, term: Term) -> Term | None:
    """A small constant of whole numbers or truth values, for an operator on constants."""
    operands = [o for o in term.operands if o is not None]
    if (
        not operands
        or term.results > 1
        or any(o.leaf is None or o.leaf.array.size > 1 << 12 for o in operands)
    ):
        return None
    if any(
        o.leaf.room is not None or o.leaf.array.dtype.kind not in "biuf"
        for o in operands
        if o.leaf is not None
    ):
        return None
    if term.operator in RANDOM_OPERATORS or not is_modest(term):
        return None
    array = evaluate(terms, term, [o.leaf.array if o and o.leaf else None for o in term.operands])
    if array is None or array.dtype.kind not in "biu":
        return None
    return terms.constant(array)


def is_modest(term: Term) -> bool:
    """Is it known before it is computed that a result has few elements?"""
    if term.operator in ("Compress", "NonZero", "Unique"):
        # no more than what it reads
        return True
    return (
        term.shape is not None
        and is_number(term.shape)
        and math.prod(are_plain_numbers(term.shape)) <= MOST_WHOLE
    )


def evaluate(terms: Terms, term: Term, arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """What onnxruntime gives for constants; onnx's reference implementation takes what no runtime does."""
    names = ["" if a is None else f"a{k}" for k, a in enumerate(arrays)]
    node = NodeProto(op_type=term.operator, input=names, output=["r"])
    node.attribute.extend(onnx.AttributeProto.FromString(b) for _, b in term.attributes)
    return run_node(
        node, terms.version, {n: a for n, a in zip(names, arrays, strict=True) if a is not None}
    )


UNARY_OPERATORS = (
    *(
        "Abs",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "HardSigmoid",
        "LeakyRelu",
        "Log",
        "Neg",
    ),
    *(
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Tanh",
    ),
)
"""Operators that act on every element alone; of Clip the first operand is acted on."""


def apply_before_movement(
    terms: Terms, operator: str, operands: Sequence[Term | None], attributes: Attributes
) -> Term | None:
    """An operator that acts on every element alone, before the movement of what it acts on; None where there is none."""
    term = operands[0]
    if operator not in UNARY_OPERATORS or term is None or split_movement(term) is None:
        return None
    if any(o is not None and (o.leaf is None or o.leaf.array.size != 1) for o in operands[1:]):
        return None
    inner = without_movement(term)
    made = apply_before_movement(terms, operator, [inner, *operands[1:]], attributes)
    if made is None:
        made = terms.make(
            operator, [inner, *operands[1:]], attributes, dtype=term.dtype, shape=inner.shape
        )
    return move_like(terms, made, term)


def count_axis_from_front(axis: int, rank: int, many: int | None = None) -> int:
    """An axis, counted from the first; `many` is how many there are if that is not the rank.

    Raises NoForm for one that a tensor does not have.
    """
    many = rank if many is None else many
    if not -rank <= axis < many:
        raise NoForm(f"axis {axis} of a tensor of rank {rank}")
    return axis + rank if axis < 0 else axis


def count_axes_from_front(axes: Sequence[int], rank: int) -> list[int]:
    """Axes, counted from the first. Raises NoForm for one that a tensor does not have, or that stands there twice."""
    places = [count_axis_from_front(int(a), rank) for a in axes]
    if len(set(places)) < len(places):
        raise NoForm("an axis that stands there twice")
    return places


def read_axis(call: Call, name: str = "axis", default: int = 0, behind: int = 0) -> int:
    """An axis, counted from the first; so many places `behind` the last are one as well."""
    axis = int(call.attributes.get(name, default))
    rank = call.first().rank
    if rank is not None:
        return count_axis_from_front(axis, rank, rank + behind)
    if axis >= 0:
        return axis
    raise NoForm(f"{call.node.op_type} counts axes from the end of a tensor of unknown rank")


def read_axes(call: Call, place: int = 1) -> list[int] | None:
    """Axes that are an attribute or an operand; None where they are neither, or are not known."""
    found = call.attributes.get("axes")
    operand = call.operand(place)
    if operand is not None:
        whole = operand.whole
        if whole is None or whole.ndim != 1:
            return None
        found = whole.tolist()
    rank = call.first().rank
    if found is None or (rank is None and any(a < 0 for a in found)):
        return None
    return [int(a) for a in found] if rank is None else count_axes_from_front(found, rank)


def read_window(call: Call, name: str, places: int, default: int, each: int = 1) -> list[int]:
    """Numbers of a window, `each` of them for every place that it moves along."""
    found = [int(v) for v in call.attributes.get(name, [default] * places * each)]
    if len(found) != places * each or min(found, default=default) < default:
        raise NoForm(f"'{name}' is {found}, of {places} places")
    return found


def read_whole_numbers(call: Call, name: str, place: int) -> list[int] | None:
    """Whole numbers that are an attribute in older versions, and an operand in newer ones; None where not known."""
    operand = call.operand(place)
    if operand is not None:
        whole = operand.whole
        return None if whole is None or whole.ndim != 1 else [int(v) for v in whole]
    found = call.attributes.get(name)
    return None if found is None else [int(v) for v in found]
