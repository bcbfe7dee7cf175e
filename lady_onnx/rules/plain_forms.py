"""Plain forms: a fused operator spelled out in plain ones, declared once.

onnxruntime's optimisers write operators of their own domain. Each has one declaration: the operands
and attributes that are understood, by the names in its schema, and a function that writes the same
computation in operators of the default domain at opset 20. A node with an operand or an attribute
that its declaration does not list has no plain form: nothing is guessed. The two forms are equal
for real numbers; their rounding may differ.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import AttributeProto, NodeProto, helper, numpy_helper

from ..errors import MALFORMED_NODE_ERRORS
from ..vocabulary.structure import MICROSOFT, normalise_domain
from .plugins import load_entry_points

PLAIN_OPSET = 20
"""The version of the default domain in which plain forms are written."""


FLOAT, INT, STRING = AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING


FLOATS, INTS = AttributeProto.FLOATS, AttributeProto.INTS

Ranks = Callable[[str], int | None]
"""Gives the rank of a tensor by its name, None where it is not known."""


Names = Callable[[str], str]
"""Gives a name for a tensor that is not taken, and like the given one."""


class NoPlainFormError(Exception):
    """Says why a node has no plain form: it is not understood, or cannot be expressed."""


@dataclass(frozen=True)
class Attribute:
    """What is understood of an attribute.

    Attributes:
        kind: its type, one of `AttributeProto.AttributeType`.
        is_required: whether it must be given.
        default: its value where it is left out.
    """

    kind: int
    is_required: bool = False
    default: Any = None

    @classmethod
    def from_default(cls, default: float | int | str) -> Attribute:
        """Make an attribute of the type of its default."""
        kinds: dict[type, int] = {float: FLOAT, int: INT, str: STRING}
        return cls(kinds[type(default)], default=default)

    def read_value(self, given: AttributeProto | None) -> Any:
        """Return the value that a node gives, or the default.

        Args:
            given: the attribute on the node, None where it is left out.

        Raises:
            NoPlainFormError: the attribute is left out although required, has another type, or
                refers to the attribute of a function.
        """
        if given is None:
            if self.is_required:
                raise NoPlainFormError("a required attribute is left out")
            return self.default
        if given.type != self.kind or given.ref_attr_name:
            raise NoPlainFormError(f"attribute {given.name} is of another type")
        value = helper.get_attribute_value(given)
        return value.decode() if isinstance(value, bytes) else value


def make_required(kind: int) -> Attribute:
    """Declare an attribute of type `kind` that must be given."""
    return Attribute(kind, is_required=True)


def make_optional(kind: int) -> Attribute:
    """Declare an attribute of type `kind` that is None where it is left out."""
    return Attribute(kind)


@dataclass
class Writer:
    """Writes the plain form of one node.

    `w["A"]` is the name of the node's operand A, and `w("Add", x, y)` writes a node and returns the
    name of its result.

    Attributes:
        operands: the names of the node's operands by the names in its schema; "" for one that is
            left out.
        rest: the names of the operands beyond those, where the operator takes any number.
        attributes: the values of the node's attributes by name.
        rank: gives the rank of a tensor, or None.
        fresh: gives a name for a tensor that is not taken.
        nodes: what is written so far.
    """

    operands: Mapping[str, str]
    rest: Sequence[str]
    attributes: Mapping[str, Any]
    rank: Ranks
    fresh: Names
    nodes: list[NodeProto] = field(default_factory=list)

    def __getitem__(self, operand: str) -> str:
        return self.operands[operand]

    def __call__(self, operator: str, *operands: str, **attributes: Any) -> str:
        """Write a node with one result, and return its name.

        Args:
            operator: an operator of the default domain.
            operands: the names of its operands; "" for one that is left out.
            attributes: its attributes; those that are None are left out.
        """
        return self.write_many(1, operator, *operands, **attributes)[0]

    def write_many(
        self, results: int, operator: str, *operands: str, **attributes: Any
    ) -> list[str]:
        """Write a node with several results, and return their names; see `__call__`."""
        names = [self.fresh(operator.lower()) for _ in range(results)]
        given = {name: value for name, value in attributes.items() if value is not None}
        # Operands that are left out at the end are not written.
        last = max((k for k, name in enumerate(operands, 1) if name), default=0)
        self.nodes.append(helper.make_node(operator, operands[:last], names, **given))
        return names

    def get_attribute(self, name: str) -> Any:
        """Return the value of an attribute."""
        return self.attributes[name]

    def get_attributes(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the values of some attributes by name."""
        return {name: self.attributes[name] for name in names}

    def require_rank(self, name: str) -> int:
        """Return the rank of a tensor.

        Raises:
            NoPlainFormError: it is not known.
        """
        rank = self.rank(name)
        if rank is None:
            raise NoPlainFormError(f"the rank of {name!r} is not known")
        return rank

    def write_constant(self, value: Any, dtype: Any) -> str:
        """Write a constant of a numpy type, and return its name."""
        name = self.fresh("constant")
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
        self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def write_integers(self, *values: int) -> str:
        """Write a vector of integers, int64, and return its name."""
        return self.write_constant(values, np.int64)

    def write_number(self, value: float, like: str) -> str:
        """Write a number in the type of the tensor `like`, and return its name."""
        return self("CastLike", self.write_constant(value, np.float32), like)

    def scale(self, x: str, factor: float) -> str:
        """Write `x` times a number, and return its name."""
        return x if factor == 1 else self("Mul", x, self.write_number(factor, x))

    def add(self, x: str, *addends: str) -> str:
        """Write the sum of `x` and those addends that are not "", and return its name."""
        for addend in filter(None, addends):
            x = self("Add", x, addend)
        return x

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """Write `x` with its axes in another order, and return its name."""
        return x if list(order) == sorted(order) else self("Transpose", x, perm=list(order))


WriteForm = Callable[[Writer], str | Sequence[str | None]]
"""Writes a plain form; returns the names of its results in order, None for one it does not give."""


@dataclass(frozen=True)
class PlainForm:
    """What is understood of an operator.

    Attributes:
        operands: the names of the operands in order; one that ends in "?" may be left out.
        attributes: what is understood of the attributes, by their names.
        write: writes the plain form.
        has_rest: whether any number of operands follows.
    """

    operands: Sequence[str]
    attributes: Mapping[str, Attribute]
    write: WriteForm
    has_rest: bool = False

    def make_writer(self, node: NodeProto, rank: Ranks, fresh: Names) -> Writer:
        """Return a writer for a node.

        Args:
            node: the node.
            rank: gives the rank of a tensor, or None.
            fresh: gives a name for a tensor that is not taken.

        Raises:
            NoPlainFormError: the node has something undeclared, or lacks what is required.
        """
        given = {a.name: a for a in node.attribute}
        # An attribute that stands twice is read in one way here, and maybe in another by a runtime.
        if (
            len(given) < len(node.attribute)
            or not given.keys() <= self.attributes.keys()
            or node.overload
        ):
            raise NoPlainFormError("an attribute is not known")
        names, rest = list(node.input[: len(self.operands)]), list(node.input[len(self.operands) :])
        if rest and not self.has_rest:
            raise NoPlainFormError("an operand is not known")
        names += [""] * (len(self.operands) - len(names))
        if not all(
            name or operand.endswith("?")
            for name, operand in zip(names, self.operands, strict=True)
        ):
            raise NoPlainFormError("a required operand is left out")
        operands = {
            operand.rstrip("?"): name for operand, name in zip(self.operands, names, strict=True)
        }
        values = {
            name: attribute.read_value(given.get(name))
            for name, attribute in self.attributes.items()
        }
        return Writer(operands, rest, values, rank, fresh)


PLAIN_FORMS: dict[tuple[str, str], PlainForm] = {}
"""The declarations by domain and operator."""


def register_plain_form(
    operator: str,
    operands: str,
    *,
    domain: str = MICROSOFT,
    **attributes: Attribute | float | int | str,
) -> Callable[[WriteForm], WriteForm]:
    """Register the decorated function as the plain form of an operator.

    Args:
        operator: the operator's name.
        operands: the names of its operands in order, separated by spaces. One that ends in "?" may
            be left out; "..." at the end stands for any number of further ones.
        domain: the operator's domain.
        attributes: by the name of each attribute its default, or an `Attribute`.

    Returns:
        A decorator that registers a function and returns it unchanged.

    Raises:
        ValueError: the operator has a plain form already.
    """
    declared = {
        name: a if isinstance(a, Attribute) else Attribute.from_default(a)
        for name, a in attributes.items()
    }

    def register(write: WriteForm) -> WriteForm:
        key = normalise_domain(domain), operator
        if key in PLAIN_FORMS:
            raise ValueError(f"two plain forms for {domain} {operator}")
        named = operands.removesuffix("...").split()
        PLAIN_FORMS[key] = PlainForm(named, declared, write, operands.endswith("..."))
        return write

    return register


def has_plain_form(node: NodeProto) -> bool:
    """Tell whether a plain form of the node's operator is declared."""
    return _find_form(node) is not None


def _find_form(node: NodeProto) -> PlainForm | None:
    """Return the plain form of a node's operator; None where it has none."""
    key = normalise_domain(node.domain), node.op_type
    # other packages declare operators of other domains
    if key not in PLAIN_FORMS and key[0] not in ("", MICROSOFT):
        load_entry_points()
    return PLAIN_FORMS.get(key)


def spell_out(node: NodeProto, rank: Ranks, fresh: Names) -> list[NodeProto] | None:
    """Return the plain form of a node: the same computation in operators of opset 20.

    A number that an attribute gives takes the type of the tensor that it meets (`CastLike`). A
    model may have a function of its own under the name of an operator. The caller knows such nodes,
    and must not ask about them.

    Args:
        node: any node.
        rank: gives the rank of a tensor, or None.
        fresh: gives a name for a tensor that is not taken.

    Returns:
        Nodes in an order in which they can run, whose last results have the names of the node's;
        None where no plain form is known.

    >>> from onnx import helper
    >>> from lady_onnx import rules
    >>> node = helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft", alpha=1.0)
    >>> [n.op_type for n in spell_out(node, lambda name: None, lambda name: f"new_{name}")]
    ['Sigmoid', 'Mul']
    """
    declaration = _find_form(node)
    if declaration is None:
        return None
    try:
        writer = declaration.make_writer(node, rank, fresh)
        written = declaration.write(writer)
        results = [written] if isinstance(written, str) else [*written]
    except (NoPlainFormError, *MALFORMED_NODE_ERRORS):
        return None
    results += [None] * (len(node.output) - len(results))
    pairs = [(result, name) for result, name in zip(results, node.output, strict=False) if name]
    if any(result is None for result, _ in pairs):
        return None
    # A form returns names of its own. Copies give them the node's, and are taken out below.
    for result, name in pairs:
        writer.nodes.append(helper.make_node("Identity", [str(result)], [name]))
    return _drop_copies(_keep_needed(writer.nodes, [name for _, name in pairs]))


def _keep_needed(nodes: Sequence[NodeProto], names: Sequence[str]) -> list[NodeProto]:
    """Return the nodes on which some tensors depend."""
    wanted, kept = set(names), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _drop_copies(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Return the nodes without copies: what is copied is made under its last name at once."""
    # A copy of an operand stays, because operands keep their names. So does a second copy of one
    # result, which has two names then.
    made = {name for node in nodes for name in node.output}
    names: dict[str, str] = {}
    kept = []
    for node in nodes:
        if node.op_type == "Identity" and node.input[0] in made and node.input[0] not in names:
            names[node.input[0]] = node.output[0]
        else:
            kept.append(node)
    for node in kept:
        for field_ in (node.input, node.output):
            field_[:] = [names.get(name, name) for name in field_]
    return kept
