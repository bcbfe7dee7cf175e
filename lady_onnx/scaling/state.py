"""The state of the factor walk: the factors on every tensor, and what was noted of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto

from ..dataflow.labels.roles import lay_along
from ..dataflow.plainsteps import PlainSteps
from ..graph.nodes import read_attributes
from ..groups.model import Group, Slot
from ..groups.scaling import locate_units
from ..rules import Kind, Movement, find_rule
from ..rules.laws import Law
from ..vocabulary.types import FLOAT_TYPES
from .monomials import FactorRole, Monomials, encode_factors


@dataclass
class FactorState:
    """The factors of a walk over a graph's plain steps.

    Attributes:
        plain: the steps, and what is known of the tensors.
        groups: the groups whose units may have factors: those that hold no others.
        monomials: all products of unknown factors that occur, and the equations between them.
        roles: by tensor the factors on its elements.
        unknowns: by the number of an unknown factor the group's id and the places that have it.
        offsets: by weight what is added to its values before they are multiplied.
        reading: the unknowns of weights along axes that an operator sums over: there weights read
            units, and do not make them.
        crossed: groups whose units meet in anything but a weighted sum.
        zeros: tensors of zeros that are copies of weights, in other places or under other names.
    """

    plain: PlainSteps
    groups: Sequence[Group]
    monomials: Monomials = field(default_factory=Monomials)
    roles: dict[str, list[FactorRole]] = field(default_factory=dict)
    unknowns: list[tuple[str, Slot]] = field(default_factory=list)
    offsets: dict[str, float] = field(default_factory=dict)
    reading: set[int] = field(default_factory=set)
    crossed: set[str] = field(default_factory=set)
    zeros: set[str] = field(default_factory=set)

    @classmethod
    def begin(cls, plain: PlainSteps, groups: Sequence[Group]) -> FactorState:
        """Begin a walk, with an unknown factor for every position of a unit in every slot.

        Args:
            plain: the steps of the graph.
            groups: the groups whose units may have factors.
        """
        state = cls(plain, groups)
        for group in groups:
            for slot in group.slots:
                state._begin_slot(group, slot)
        return state

    def _begin_slot(self, group: Group, slot: Slot) -> None:
        """Give every position of a unit in a slot an unknown factor of its own."""
        axes = {slot.axis, *(a for a, _ in slot.within)}
        whole = self.plain.graph.shape(slot.initializer)
        shape = [n if a in axes else 1 for a, n in enumerate(whole)]
        first = len(self.unknowns)
        self.unknowns += [
            (group.id, Slot(slot.initializer, slot.axis, c[:, None], slot.within))
            for c in slot.index.T
        ]
        numbers = np.array(
            [
                self.monomials.number_factor((((k, 1.0),), frozenset({k})))
                for k in range(first, len(self.unknowns))
            ]
        )
        units = len(slot.index)
        # In the order of `slot.index`: all positions of a unit, then those of the next one.
        codes = encode_factors(np.tile(numbers, units), np.repeat(np.arange(units), len(numbers)))
        if self.plain.graph.tensors[slot.initializer].data_type not in FLOAT_TYPES:
            # An integer times a factor is in general no integer.
            self.monomials.fix([(group.id, codes)])
        array = np.zeros(shape, np.int64)
        array[np.ix_(*locate_units(slot, shape))] = lay_along(codes, slot.axis, len(shape))
        # A weight that has the group along two axes keeps two roles of it.
        known = self.roles.setdefault(slot.initializer, [])
        for i, (name, other) in enumerate(known):
            is_apart = (
                not ((other > 0) & (array > 0)).any() if other.shape == array.shape else False
            )
            if name == group.id and is_apart:
                # Both are zero outside their own positions.
                known[i] = name, other + array
                return
        known.append((group.id, array))

    def list_factors(self, name: str) -> list[FactorRole]:
        """Return the factors on the elements of a tensor."""
        return self.roles.get(name, [])

    def find_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises:
            UnknownStructureError: it is not known.
        """
        return self.plain.find_shape(name)

    def is_weight(self, name: str) -> bool:
        """Tell whether a tensor is a weight, or made of weights that were moved."""
        tensor = self.plain.tensors.get(name)
        return name in self.plain.graph.tensors or (tensor is not None and bool(tensor.parts))

    def is_zero(self, name: str) -> bool:
        """Tell whether a tensor is a weight of zeros, which no factor changes, or a copy of one."""
        array = self.plain.find_value(name)
        return name in self.zeros or (array is not None and not array.any())

    def note_reading(self, roles: Iterable[FactorRole]) -> None:
        """Note that factors are of weights that read units, and do not make them."""
        self.reading.update(k for _, a in roles for k in self.monomials.list_unknowns(a))

    def add(self, names: Sequence[str], sides: Sequence[list[FactorRole]]) -> list[FactorRole]:
        """Return the factors of a sum, and note that those of its terms are equal.

        Zeros have any factor.

        Args:
            names: the terms, "" for one that is left out.
            sides: the factors on each of them.
        """
        terms = [
            side
            for name, side in zip(names, sides, strict=True)
            if name and (side or not self.is_zero(name))
        ]
        return self.monomials.equate(terms) if terms else []


@dataclass(frozen=True)
class PlainNode:
    """A node of a walk with what its rule says.

    Attributes:
        node: the node.
        kind: what the rule says of order, None where the node pins what it touches.
        law: what the rule says of scale and sign, None where it says nothing.
        is_plain_movement: whether elements are moved and nothing is put beside them.
        results_stay: whether results behind the first keep their values.
        attributes: the node's attributes as Python values.
    """

    node: NodeProto
    kind: Kind | None
    law: Law | None
    is_plain_movement: bool
    results_stay: bool
    attributes: dict[str, Any]

    @property
    def inputs(self) -> list[str]:
        """The names of the operands."""
        return list(self.node.input)

    @property
    def outputs(self) -> list[str]:
        """The names of the results."""
        return list(self.node.output)


def read_node(plain: PlainSteps, node: NodeProto, kind: Kind | None) -> PlainNode:
    """Ask the registry what holds of a node.

    Args:
        plain: the steps that the node is one of.
        node: the node.
        kind: what its rule says of order; None where it pins what it touches, or nobody asked.
    """
    rule = find_rule(node.domain, node.op_type)
    moves = isinstance(kind, Movement) and (rule is None or rule.law is None)
    stays = rule is not None and rule.results_stay
    return PlainNode(node, kind, plain.find_law(node), moves, stays, read_attributes(node))
