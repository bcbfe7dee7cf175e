"""Units that may be reflected: an activation that is a number less itself where the sign of its input changes.

A sigmoid of -x is one less the sigmoid of x. So a unit in front of it may change its sign, where what
reads the unit behind it changes its own and gains a bias. The walk over the factors asks here at
every activation, and at everything that reads a reflected tensor.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from ..dataflow.labels.equations import solve_equation
from ..dataflow.labels.roles import find_varying_axes
from ..groups.scaling import Shift
from ..rules import Equation, Kind
from ..rules.laws import Linear, Multilinear, Reflective, StatisticsNorm
from .monomials import FactorRole
from .state import FactorState, PlainNode, read_node


class Reflections:
    """What the walk over the factors of a graph knows of reflected tensors.

    Attributes:
        state: the walk.
        reflected: by tensor the group whose units become so much less themselves there when their
            sign changes, and how much that is.
        shifts: by group what biases gain when its units change signs.
    """

    def __init__(self, state: FactorState):
        self.state = state
        self.reflected: dict[str, tuple[str, float]] = {}
        self.shifts: dict[str, list[Shift]] = {}
        self._readers: dict[str, list[tuple[NodeProto, Kind | None]]] = {}
        for node, kind in state.plain.steps:
            for name in node.input:
                self._readers.setdefault(name, []).append((node, kind))
        self._shown = {o.name for o in state.plain.graph.model.graph.output}

    def list_readers(self, name: str) -> list[PlainNode]:
        """Return the nodes that read a tensor, once for every operand that it is."""
        return [read_node(self.state.plain, *reader) for reader in self._readers[name]]

    def reflect(
        self, node: PlainNode, law: Reflective, first: list[FactorRole]
    ) -> list[FactorRole] | None:
        """Return the signs behind an activation whose units may be reflected; None where they may not."""
        if len(first) != 1 or len(find_varying_axes(first[0][1])) != 1:
            return None
        if law.is_input_shifted:
            bias, offsets = self._find_bias_before(node.inputs[0]), self.state.offsets
            middle = -law.top / 2
            if (
                bias is None
                or not self._is_read_once(node.inputs[0])
                or offsets.get(bias, middle) != middle
            ):
                return None
            # what comes in must become `top` less itself
            offsets[bias] = middle
        self.state.monomials.fix(first, sign=False)
        self.reflected[node.outputs[0]] = first[0][0], law.top
        return self.state.monomials.keep_signs(first)

    def _find_bias_before(self, name: str) -> str | None:
        """Return the weight that is added last to a tensor, and nowhere else."""
        plain = self.state.plain
        maker = plain.makers.get(name)
        if maker is None:
            return None
        node = read_node(plain, maker, None)
        match node.law:
            case Linear(operands=None, coefficients=None, is_mean=False):
                added = node.inputs
            case Multilinear(factors=2, addend=1.0) | StatisticsNorm():
                added = node.inputs[2:3]
            case _:
                return None
        found = [n for n in added if n in plain.graph.tensors and self.state.list_factors(n)]
        return found[0] if len(found) == 1 and self._is_read_once(found[0]) else None

    def _is_read_once(self, name: str) -> bool:
        """Does one node read a tensor, and nothing else?"""
        return len(self._readers.get(name, [])) == 1 and name not in self._shown

    def pass_behind(self, node: PlainNode) -> None:
        """Note what a node that reads a reflected tensor makes of it.

        It passes the reflection on, or gains a bias. Else the signs of the units stay.
        """
        group, top = self.reflected.get(node.inputs[0], ("", 0.0))
        is_alone = sum(bool(self.state.list_factors(name)) for name in node.inputs) == 1
        is_mean = isinstance(node.law, Linear) and node.law.is_mean
        if group and is_alone and (node.is_plain_movement or is_mean):
            self.reflected.update(dict.fromkeys(node.outputs, (group, top)))
            return
        is_read_once = group and node.inputs[0] not in node.inputs[1:]
        shift = self._find_shift(node, group, top) if is_read_once else None
        if shift is not None:
            self.shifts.setdefault(group, []).append(shift)
            return
        for name in node.inputs:
            if name in self.reflected:
                self.state.monomials.fix(self.state.list_factors(name), scale=False)

    def _find_shift(self, node: PlainNode, group: str, top: float) -> Shift | None:
        """Return how a product that sums over reflected units makes up for it, None where it cannot."""
        graph = self.state.plain.graph
        bias = self._find_bias_behind(node)
        if bias is None or bias not in graph.tensors or node.inputs[1] not in graph.tensors:
            return None
        weight = node.inputs[1]
        axis = self._find_summed_axis(node)
        if axis is None or not all(map(self._is_read_once, (weight, bias))):
            return None
        wide = graph.shape(bias)
        if not wide or wide[-1] != np.prod(wide) or wide[-1] != graph.shape(weight)[1 - axis]:
            return None
        if not graph.array(bias).any():
            # zeros have no factor of their own, and would need one when they are zeros no more
            return None
        (own,) = [g for g in self.state.groups if g.id == group]
        slots = [s for s in own.slots if (s.initializer, s.axis) == (weight, axis) and not s.within]
        return Shift(slots[0], 1 - axis, bias, top) if len(slots) == 1 else None

    def _find_bias_behind(self, node: PlainNode) -> str | None:
        """Return what is added to a plain product of two operands, by itself or by the node behind it."""
        law = node.law
        if not isinstance(law, Multilinear) or len(node.inputs) < 2:
            return None
        is_plain = law.factors == 2 or (law.factors is None and len(node.inputs) == 2)
        is_padded = law.window is not None and law.window.is_padded
        if not is_plain or is_padded or law.coefficient != 1 or law.addend != 1:
            return None
        if len(node.inputs) > 2:
            return node.inputs[2]
        if not self._is_read_once(node.outputs[0]):
            return None
        reader = self.list_readers(node.outputs[0])[0]
        if not isinstance(reader.law, Linear) or reader.law != Linear():
            return None
        weights = [n for n in reader.inputs if n in self.state.plain.graph.tensors]
        return weights[0] if weights else None

    def _find_summed_axis(self, node: PlainNode) -> int | None:
        """Return the axis of a product's weight that is summed over, of its first two; None where none is alone."""
        if not isinstance(node.kind, Equation):
            return None
        shapes = [self.state.shape(n) if n else None for n in node.inputs]
        results = [self.state.shape(o) if o else None for o in node.outputs]
        solution = solve_equation(node.kind.text, shapes, node.kind.sizes, results)
        how, sizes = solution.how, solution.sizes
        terms = how.sides[1]
        has_window = isinstance(node.law, Multilinear) and node.law.window is not None
        if len(terms) < 2 or (len(terms) > 2 and not has_window):
            return None
        if any(sizes[n] > 1 for n in how.batch):
            # groups of channels, each with columns of its own
            return None
        summed = [k for k in (0, 1) if how.gone & set(terms[k].names)]
        return summed[0] if len(summed) == 1 else None
