"""Units that may be reflected: f(-x) = top - f(x), as of a sigmoid.

The sigmoid of -x is one less the sigmoid of x. So a unit before a sigmoid may change its sign, if
what reads the unit behind it changes sign as well and gains a bias that makes up for the one. The
factor walk asks this module at every activation, and at every node that reads a reflected tensor.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from ..dataflow.labels.equations import solve_equation
from ..dataflow.labels.roles import find_varying_axes
from ..groups.scaling import Shift
from ..rules import Elementwise, Equation, Kind
from ..rules.laws import Linear, Multilinear, Reflective, StatisticsNorm
from .monomials import FactorRole
from .state import FactorState, PlainNode, read_node


class Reflections:
    """What the walk over the factors of a graph knows of reflected tensors.

    Args:
        state: the factors of the walk.

    Attributes:
        state: the same.
        reflected: by tensor `(group, top)`: where the sign of a unit of the group changes before
            the activation, the unit becomes `top` less itself in the tensor.
        shifts: by group what biases gain when units of the group change their signs.
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
        """List the nodes that read a tensor, one as often as the tensor is an operand of it."""
        return [read_node(self.state.plain, *reader) for reader in self._readers[name]]

    def reflect(
        self, node: PlainNode, law: Reflective, first: list[FactorRole]
    ) -> list[FactorRole] | None:
        """Return the signs behind an activation whose units may be reflected, else None.

        Args:
            node: the activation.
            law: its law.
            first: the factors on its operand.
        """
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
            # The input must become `top` less itself. So the bias is reflected at half of `top`:
            # that is taken off before the bias is multiplied, and added again.
            offsets[bias] = middle
        self.state.monomials.fix(first, sign=False)
        self.reflected[node.outputs[0]] = first[0][0], law.top
        return self.state.monomials.keep_signs(first)

    def _find_bias_before(self, name: str) -> str | None:
        """Return the weight that is added last to a tensor, if it is read nowhere else."""
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
        """Tell whether one node reads a tensor, and neither a second one nor an output."""
        return len(self._readers.get(name, [])) == 1 and name not in self._shown

    def pass_behind(self, node: PlainNode) -> None:
        """Note what a node makes of a reflected tensor.

        The node passes the reflection on, or a bias makes up for it. Where neither is the case, the
        signs of the units are fixed.
        """
        # A product reads units as its first operand, and its weight as the second.
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
        """Return the shift of the bias that makes up for reflected units in a product, else None.

        Args:
            node: the product, which sums over the units.
            group: the group of the units.
            top: what a unit and its reflection add up to.
        """
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
            # The bias needs an element of its own for every output.
            return None
        if not graph.array(bias).any():
            # A bias of zeros has no factor of its own, and would need one once it is shifted.
            return None
        (own,) = [g for g in self.state.groups if g.id == group]
        slots = [s for s in own.slots if (s.initializer, s.axis) == (weight, axis) and not s.within]
        return Shift(slots[0], 1 - axis, bias, top) if len(slots) == 1 else None

    def _find_bias_behind(self, node: PlainNode) -> str | None:
        """Return the weight that is added to a product of two operands, else None.

        It is an operand of the product, or of the node behind it. The product must have no other
        coefficient than one, and no padding.
        """
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
        # only a sum: the weights of others whose results are linear, such as scales, are not added
        if reader.law != Linear() or not isinstance(reader.kind, Elementwise):
            return None
        weights = [n for n in reader.inputs if n in self.state.plain.graph.tensors]
        return weights[0] if weights else None

    def _find_summed_axis(self, node: PlainNode) -> int | None:
        """Return which axis of a product's weight is summed over, 0 or 1.

        None where it is neither of them, or both, and where channels form groups.
        """
        if not isinstance(node.kind, Equation):
            return None
        shapes = [self.state.find_shape(n) if n else None for n in node.inputs]
        results = [self.state.find_shape(o) if o else None for o in node.outputs]
        solution = solve_equation(node.kind.text, shapes, node.kind.sizes, results)
        how, sizes = solution.how, solution.sizes
        terms = how.sides[1]
        has_window = isinstance(node.law, Multilinear) and node.law.window is not None
        if len(terms) < 2 or (len(terms) > 2 and not has_window):
            return None
        if any(sizes[n] > 1 for n in how.batch):
            # The groups of a grouped convolution have columns of their own.
            return None
        summed = [k for k in (0, 1) if how.gone & set(terms[k].names)]
        return summed[0] if len(summed) == 1 else None
