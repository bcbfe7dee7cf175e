"""Value numbering: which tensors were computed in the same way, and touches that follow from it.

Operators without weights say nothing about the order of units that each of them maps alike. Yet
units that one of them maps may not change places with units that it does not map. So every tensor
has a *value number*, which is the same for tensors whose units were computed and moved in the same
way, each unit from its own. Every operator that computes *touches* the labels that it meets: it
notes a number that is made of what it does and of its operands' numbers. A touch tells units apart
only where these labels are not all that were born together, and is kept only there.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from onnx import NodeProto

from .. import rules
from ..vocabulary.classes import COMMUTATIVE_OPERATORS
from ..vocabulary.structure import normalise_domain
from .labels.equations import plan_equation
from .labels.facts import Facts
from .labels.roles import (
    ADDRESSES,
    LabelRun,
    Role,
    find_run_start,
    find_varying_axes,
    is_address,
    to_dense,
)
from .labels.tensors import Tensor
from .labels.weights import Labelling
from .state import COPY_OPERATOR
from .steps import move_role, move_shape

NAMED_CONSTANT, OF_EACH_UNIT, OF_ONE_NODE, BESIDE = "number", "each", "node", "beside"
"""What a number or touch is made of: a constant, an operator that maps every unit from itself
alone, a node whose result is like no other's, and tensors that are concatenated."""


class TouchRecorder:
    """Records touches on labels, unless all labels that were born together get the same touch."""

    def __init__(self, facts: Facts):
        """Take the facts that the touches are kept in."""
        self._facts = facts
        # by the identity of an array, the array, which keeps it alive, and the answer
        self._is_whole_by_id: dict[int, tuple[np.ndarray, bool]] = {}

    def touch_labels(self, roles: Sequence[Role], *said: object) -> None:
        """Touch the labels of roles with what is said of them."""
        some = [role for role in roles if not self._is_whole(role)]
        if some:
            what = digest(*said)
            self._facts.touched += [(what, role) for role in some]

    def _is_whole(self, role: Role) -> bool:
        """Tell whether a role holds all labels that were born together, each equally often."""
        if isinstance(role, LabelRun):
            return self._is_birth(role.start, role.size)
        if id(role) not in self._is_whole_by_id:
            start = find_run_start(role)
            whole = self._is_birth(start, role.size) if start is not None else self._is_even(role)
            self._is_whole_by_id[id(role)] = role, whole
        return self._is_whole_by_id[id(role)][1]

    def _is_birth(self, start: int, size: int) -> bool:
        """Tell whether exactly these consecutive labels were born together."""
        births = self._facts.births
        k = bisect.bisect_left(births, start)
        if k == len(births) or births[k] != start:
            return False
        return start + size == (births[k + 1] if k + 1 < len(births) else self._facts.label_count)

    def _is_even(self, role: np.ndarray) -> bool:
        """Tell whether the labels are whole births, those of one birth equally often."""
        labels, times = np.unique(role[role >= 0], return_counts=True)
        births = np.array(self._facts.births)
        birth = np.searchsorted(births, labels, side="right") - 1
        size = np.diff(np.r_[births, self._facts.label_count])
        found = np.bincount(birth, minlength=births.size)
        # of a birth that is met at all, every label has to be met
        if (found != np.where(found > 0, size, 0)).any():
            return False
        first = np.flatnonzero(np.r_[True, birth[1:] != birth[:-1]])
        return bool((times == np.repeat(times[first], np.diff(np.r_[first, labels.size]))).all())


class ValueNumbering:
    """The value numbers of the tensors of one walk.

    Attributes:
        numbers: by tensor its number.
    """

    def __init__(self, labelling: Labelling, constant: Callable[[str], bytes | None]):
        """Start without numbers.

        Args:
            labelling: the labels of weights, and the facts that touches are kept in.
            constant: gives the bytes of a constant of one element, None for any other tensor.
        """
        self.numbers: dict[str, int] = {}
        self._labelling = labelling
        self._constant = constant
        self._touches = TouchRecorder(labelling.facts)

    def find_number(self, name: str) -> int:
        """Return the number of a tensor; one that nothing is known of has its own."""
        if name not in self.numbers:
            value = self._constant(name)
            self.numbers[name] = digest(NAMED_CONSTANT, value) if value else digest(name)
        return self.numbers[name]

    def number_results(
        self,
        node: NodeProto,
        kind: rules.Kind,
        operands: Sequence[Tensor | None],
        results: Sequence[Tensor | None],
    ) -> None:
        """Number the results of a node, and touch the labels that it meets.

        Args:
            node: the node, once its rule has been applied.
            kind: what its rule says.
            operands: its operands, None for one that is not given.
            results: its results, None for one that is no tensor.
        """
        match kind:
            case rules.Body() | rules.Source():
                # the nodes of a body speak for themselves; a source depends on no order
                return
            case rules.Movement():
                self._number_movements(node, kind, operands, results)
            case _ if node.op_type == COPY_OPERATOR and not normalise_domain(node.domain):
                self.numbers[node.output[0]] = self.find_number(node.input[0])
            case _ if self._keeps_units_apart(kind, operands):
                self._number_computation(node, operands)
            case _:
                # units meet each other, or a weight: the result is like no other node's
                self._touch_operands((OF_ONE_NODE, node.output[0]), operands)

    def _number_computation(self, node: NodeProto, operands: Sequence[Tensor | None]) -> None:
        """Number the results of a node that computes every unit from itself alone."""
        # the order in which a node has its attributes says nothing
        attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        numbers = [self.find_number(n) if n else 0 for n in node.input]
        order = list(range(len(numbers)))
        if node.op_type in COMMUTATIVE_OPERATORS and not normalise_domain(node.domain):
            # the order in which it has its operands says nothing either
            order.sort(key=lambda k: numbers[k])
        what = digest(node.op_type, node.domain, *attributes, *(numbers[k] for k in order))
        self._touch_operands((OF_EACH_UNIT, what), [operands[k] for k in order])
        for k, name in enumerate(node.output):
            self.numbers[name] = digest(what, k) if k else what

    def _number_movements(
        self,
        node: NodeProto,
        kind: rules.Movement,
        operands: Sequence[Tensor | None],
        results: Sequence[Tensor | None],
    ) -> None:
        """Number the results of a node that moves elements."""
        made = zip(node.output, results, kind.results, strict=False)
        for name, result, (sources, steps) in made:
            if name and result is not None:
                named = [(node.input[i], o) for i in sources if (o := operands[i])]
                self.numbers[name] = self._number_movement(
                    node.op_type, name, named, kind.axis, steps, result
                )

    def _keeps_units_apart(self, kind: rules.Kind, operands: Sequence[Tensor | None]) -> bool:
        """Tell whether a node computes every unit from itself alone."""
        if not isinstance(kind, rules.Equation):
            return isinstance(kind, rules.Elementwise)
        operands = operands[: kind.text.partition("->")[0].count(",") + 1]
        how = plan_equation(kind.text, tuple(None if o is None else len(o.shape) for o in operands))
        bound = how.gone | how.over | how.pinned
        for operand, side in zip(operands, how.sides, strict=False):
            if operand is None:
                continue
            free = {a for a, term in enumerate(side) if bound.isdisjoint(term.names)}
            if operand.parts and any(n > 1 and a not in free for a, n in enumerate(operand.shape)):
                return False
            if not all(_find_role_axes(r) <= free for r in self._list_roles(operand)):
                return False
        return True

    def _touch_operands(self, said: tuple, operands: Sequence[Tensor | None]) -> None:
        """Touch the labels of every operand with what is said, and with the operand's position."""
        for k, operand in enumerate(operands):
            self._touches.touch_labels(self._list_roles(operand), *said, k)

    def _list_roles(self, tensor: Tensor | None) -> list[Role]:
        """List the roles of a tensor that hold labels."""
        if tensor is None:
            return []
        if tensor.parts:
            # an operation on a whole weight meets all labels of its axes alike
            partial = [p for p in tensor.parts if not p.is_whole]
            return [r for p in partial for r in self._labelling.list_labels(p)]
        starts = tensor.run_starts
        if starts is not None:
            rank = len(tensor.shape)
            return [
                LabelRun(s, n, a, rank)
                for a, (s, n) in enumerate(zip(starts, tensor.shape, strict=True))
                if s is not None and s != ADDRESSES
            ]
        return [r for r in tensor.roles if not is_address(r)]

    def _number_movement(
        self,
        operator: str,
        name: str,
        sources: Sequence[tuple[str, Tensor]],
        axis: int,
        steps: Sequence[rules.Step],
        result: Tensor,
    ) -> int:
        """Number a result of a movement; what it does along the units' axes is no matter.

        Args:
            operator: the node's operator.
            name: the result's name.
            sources: the operands that the result is made of, by their names.
            axis: the axis along which they are concatenated, if they are several.
            steps: what then moves their elements.
            result: the result.
        """
        numbers = [self.find_number(source) for source, _ in sources]
        if len(set(numbers)) != 1:
            tensors = [t for _, t in sources]
            return self._number_concatenation(name, numbers, tensors, axis, bool(steps))
        number, tensor = numbers[0], sources[0][1]
        if not steps:
            return number
        if tensor.parts:
            return number if all(map(_is_in_order, steps)) else digest(number, *_spell_steps(steps))
        roles = self._list_roles(tensor)
        if math.prod(result.shape) and _may_leave_one_unit(roles, steps):
            # a unit that is alone has no axis any more by which it could be known
            ends = [(r, _move_through(r, steps, tensor.shape)) for r in map(to_dense, roles)]
            alone = [end for r, end in ends if end.size == 1 < r.size]
            if alone:
                number = digest(number, name, *_spell_steps(steps))
                # of a role of labels and padding, the padding may be left
                self._touches.touch_labels([e for e in alone if not is_address(e)], number)
        if all(isinstance(s, rules.Take) for s in steps):
            return _number_taking(number, roles, steps)
        said = (
            self._spell_rearrangement(tensor, steps[0], result)
            if len(steps) == 1
            else (operator, *_spell_steps(steps))
        )
        return digest(number, *said) if said else number

    def _number_concatenation(
        self,
        name: str,
        numbers: Sequence[int],
        tensors: Sequence[Tensor],
        axis: int,
        moves: bool,
    ) -> int:
        """Number a tensor that is made of tensors of several numbers.

        Args:
            name: the result's name.
            numbers: the tensors' numbers.
            tensors: the tensors.
            axis: the axis along which they are concatenated.
            moves: whether the result is moved after that.
        """
        parts = [(t, self._list_roles(t)) for t in tensors]
        # side by side along another axis than its own, each unit is made of itself alone; along
        # their own axis the units are of several kinds
        apart = not moves and all(
            not t.parts and all(axis % len(t.shape) not in _find_role_axes(r) for r in roles)
            for t, roles in parts
        )
        what = digest(BESIDE, *numbers) if apart else digest(OF_ONE_NODE, name)
        for k, (number, (_, roles)) in enumerate(zip(numbers, parts, strict=True)):
            self._touches.touch_labels(roles, *((what, k) if apart else (BESIDE, number, name)))
        return what

    def _spell_rearrangement(self, tensor: Tensor, step: rules.Step, result: Tensor) -> tuple:
        """Spell what a step other than a `Take` does to axes that hold no units; empty for nothing.

        Args:
            tensor: the tensor.
            step: the step.
            result: what the step makes of the tensor.
        """
        busy = set().union(*map(_find_role_axes, self._list_roles(tensor)))
        if isinstance(step, rules.Transpose):
            rest = [a for a in step.order if a not in busy]
            return () if rest == sorted(rest) else ("transpose", *np.argsort(rest).tolist())
        busy_after = set().union(*map(_find_role_axes, self._list_roles(result)))
        before, after = (
            [n for a, n in enumerate(t.shape) if n > 1 and a not in axes]
            for t, axes in ((tensor, busy), (result, busy_after))
        )
        return () if before == after else ("shape", *after)


def _is_in_order(step: rules.Step) -> bool:
    """Tell whether a step leaves the elements that it takes in their order and side by side."""
    return not isinstance(step, rules.Take) or find_run_start(step.index) is not None


def _number_taking(number: int, roles: Sequence[Role], steps: Sequence[rules.Step]) -> int:
    """Number elements that are taken out of a tensor of a given number along its axes."""
    own = [_find_role_axes(r) for r in roles]
    busy = set().union(*own)
    for step in steps:
        assert isinstance(step, rules.Take)
        if not roles or any(step.axis not in axes for axes in own):
            # counted among the axes without units: where the units lie is no matter
            free_axes = sum(a not in busy for a in range(step.axis))
            there = free_axes if step.axis not in busy else -1
            number = digest(number, "take", there, step.index.tobytes())
    return number


def _move_through(
    role: np.ndarray, steps: Sequence[rules.Step], shape: tuple[int, ...]
) -> np.ndarray:
    """Carry a role over a tensor of a shape to what the steps make of it."""
    for step in steps:
        role, shape = move_role(role, step, shape), move_shape(shape, step)
    return role


def _may_leave_one_unit(roles: Sequence[Role], steps: Sequence[rules.Step]) -> bool:
    """Tell whether steps may leave nothing of an order but one label, once or many times."""
    taken = [s.index for s in steps if isinstance(s, rules.Take)]
    if any(index.size and (index == index[0]).all() for index in taken):
        return True
    # in a run every label stands once, and one step takes along one axis
    return bool(taken) and (len(steps) > 1 or not all(isinstance(r, LabelRun) for r in roles))


def _find_role_axes(role: Role) -> set[int]:
    return {role.axis} if isinstance(role, LabelRun) else set(find_varying_axes(role))


def _spell_steps(steps: Sequence[rules.Step]) -> Iterator[object]:
    """Yield what steps do, as parts of a digest."""
    for step in steps:
        yield type(step).__name__
        if isinstance(step, rules.Take):
            yield from (step.axis, step.index.tobytes())
        else:
            yield step.order if isinstance(step, rules.Transpose) else step.shape


def digest(*said: object) -> int:
    """Return a 63-bit hash of all that is said.

    The 64th bit leaves room for the count that `split_by_occurrence` adds.

    >>> digest("take", 3) == digest("take", 3), digest("take", 3) == digest("take", 4)
    (True, False)
    """
    total = hashlib.blake2b(digest_size=8)
    for part in said:
        total.update(part if isinstance(part, bytes) else repr(part).encode())
        total.update(b"\0")
    return int.from_bytes(total.digest(), "little") >> 1
