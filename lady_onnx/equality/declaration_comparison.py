"""Compares what two files declare of values that stand for each other: types, shapes, lengths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from onnx import TypeProto, ValueInfoProto

from ..semantics.declarations import read_length, read_length_name, walk_dimensions
from ..semantics.messages import is_same_type, is_within
from .findings import Findings
from .scopes import NameScope


class DeclarationComparison:
    """Compares declarations, and remembers which lengths have one name.

    What a suspect declares beyond the reference is doubted: it has to follow from its nodes.

    Args:
        findings: what is found so far.
    """

    def __init__(self, findings: Findings):
        self._findings = findings
        self._lengths: dict[str, object] = {}
        """What the reference calls a length, by the suspect's name of it."""

    def compare_interface(
        self, kind: str, ours: Sequence[ValueInfoProto], theirs: Sequence[ValueInfoProto]
    ) -> None:
        """Compare the inputs of two models, or their outputs.

        Args:
            kind: `input` or `output`.
            ours: those of the reference.
            theirs: those of the suspect.
        """
        findings = self._findings
        if len(ours) != len(theirs):
            findings.add_difference(
                f"the {kind}s", f"there are {len(theirs)} where the reference has {len(ours)}"
            )
        for a, b in zip(ours, theirs, strict=False):
            place = f"{kind} '{b.name}'"
            if a.name != b.name:
                findings.add_difference(place, f"the reference has '{a.name}' in its place")
                continue
            elem_types = [v.type.tensor_type.elem_type for v in (a, b)]
            if kind == "input" and not is_same_type(a.type, b.type):
                findings.add_difference(
                    place, "its declared type or shape is another than the reference's"
                )
            elif len(set(elem_types)) > 1:
                findings.add_difference(
                    place, "its declared element type is another than the reference's"
                )
            elif not is_within(b.type, a.type):
                # the shape of an output follows from the nodes, or it does not
                findings.doubted.add(b.name)
            self.compare_lengths(place, b.name, a.type, b.type, kind == "input")

    def compare_values(self, one: NameScope, a: str, two: NameScope, b: str, place: str) -> None:
        """Compare what two files declare of values that are met in the same place.

        Args:
            one, a: the scope and the name of the reference's value.
            two, b: the scope and the name of the suspect's value.
            place: where they are met.
        """
        ours = [kind for _, kind in one.list_types(a)] or [TypeProto()]
        # a file may declare a value more than once; each time one of the reference's has to cover
        for name, theirs in two.list_types(b):
            own = next((kind for kind in ours if is_within(theirs, kind)), None)
            if own is None:
                self._findings.doubted.add(name)
            self.compare_lengths(
                place, name, ours[0] if own is None else own, theirs, is_given=False
            )

    def compare_lengths(
        self, place: str, name: str, ours: TypeProto, theirs: TypeProto, is_given: bool
    ) -> None:
        """Compare which lengths two files give one name, which says that they are equal.

        Args:
            place: where the value is met.
            name: the value, as the suspect calls it.
            ours: what the reference declares of it.
            theirs: what the suspect declares of it.
            is_given: whether the value is given to a graph. Nothing follows for it from the nodes,
                so that the reference has to say the same.
        """
        findings = self._findings
        axes = zip_longest(walk_dimensions(ours), walk_dimensions(theirs))
        for k, (x, y) in enumerate(axes):
            stated = read_length(x)
            if stated is not None:
                findings.stated[name, k] = stated
            called = read_length_name(y) if y is not None else ""
            if not called:
                continue
            # what is not given follows from the nodes, or it does not: that is looked at later
            if stated is None and not is_given:
                findings.doubted.add(name)
                continue
            # a length that the reference does not speak of is equal to no other one
            counterpart = ("nothing", name, k) if stated is None else stated
            if self._lengths.setdefault(called, counterpart) != counterpart:
                if is_given:
                    what = (
                        f"length {k} is called '{called}', like others that the reference does "
                        "not say to be equal"
                    )
                    findings.add_difference(place, what)
                findings.doubted.add(name)
