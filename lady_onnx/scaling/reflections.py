"""Units that may be reflected: an activation that is a number less itself where the sign of its input changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto

from ..dataflow.labels.roles import find_varying_axes
from ..dataflow.plainsteps import PlainSteps, is_plain
from ..graph.nodes import read_attributes
from ..groups.model import Group
from ..groups.scaling import Shift
from ..rules import Kind, Movement
from .factors import FactorRole, Monomials


class Reflections:
    """What the walk over the factors of a graph knows of reflected tensors."""

    def __init__(
        self,
        plain: PlainSteps,
        groups: Sequence[Group],
        roles: Mapping[str, list[FactorRole]],
        products: Monomials,
        offsets: dict[str, float],
    ):
        self.plain = plain
        self.graph = plain.graph
        self.groups = groups
        self.roles = roles
        self.products = products
        self.offsets = offsets
        self.reflected: dict[str, tuple[str, float]] = {}
        """By tensor the group whose units become so much less themselves there when their sign changes."""
        self.shifts: dict[str, list[Shift]] = {}
        self.readers: dict[str, list[NodeProto]] = {}
        for node, _ in plain.steps:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.shown = {o.name for o in plain.graph.model.graph.output}

    def _on(self, name: str) -> list[FactorRole]:
        return self.roles.get(name, [])

    def made(
        self, operator: str, node: NodeProto, first: list[FactorRole]
    ) -> list[FactorRole] | None:
        """The signs behind an activation that may be reflected; None where it may not."""
        top = self._top(operator, node)
        if top is None or len(first) != 1 or len(find_varying_axes(first[0][1])) != 1:
            return None
        if operator == "Clip":
            bias = self._bias_before(node.input[0])
            if (
                bias is None
                or not self._is_read_once(node.input[0])
                or self.offsets.get(bias, -top / 2) != -top / 2
            ):
                return None
            # what comes in must become `top` less itself
            self.offsets[bias] = -top / 2
        self.products.still(first, sign=False)
        self.reflected[node.output[0]] = first[0][0], top
        return self.products.signs(first)

    def _top(self, operator: str, node: NodeProto) -> float | None:
        """What an activation and its mirror image add up to, None where it has none."""
        given, names = read_attributes(node), [*node.input, "", ""]
        if operator == "Sigmoid" or (operator == "HardSigmoid" and given.get("beta", 0.5) == 0.5):
            return 1.0
        if operator == "Clip":
            ends = [
                self._bound(n, given.get(key))
                for n, key in zip(names[1:3], ("min", "max"), strict=True)
            ]
            if ends[0] == 0:
                return ends[1]
        return None

    def _bound(self, name: str, given: float | None) -> float | None:
        """A bound of Clip, None where it is not known, or there is none."""
        array = self.plain.known(name) if name else given
        return None if array is None else float(np.asarray(array).reshape(-1)[0])

    def _bias_before(self, name: str) -> str | None:
        """The weight that is added last to a tensor, and nowhere else."""
        maker = self.plain.makers.get(name)
        if maker is None or not is_plain(maker, "Add", "BatchNormalization", "Conv", "Gemm"):
            return None
        if read_attributes(maker).get("beta", 1.0) != 1:
            # another number than the bias is added
            return None
        added = maker.input if maker.op_type == "Add" else maker.input[2:3]
        found = [n for n in added if n in self.graph.tensors and self._on(n)]
        return found[0] if len(found) == 1 and self._is_read_once(found[0]) else None

    def _is_read_once(self, name: str) -> bool:
        """Does one node read a tensor, and nothing else?"""
        return len(self.readers.get(name, [])) == 1 and name not in self.shown

    def behind(self, operator: str, node: NodeProto, kind: Kind | None) -> None:
        """What reads a reflected tensor gains a bias, or passes it on; else its signs are still."""
        group, top = self.reflected.get(node.input[0], ("", 0.0))
        alone = sum(bool(self._on(name)) for name in node.input) == 1
        moves = isinstance(kind, Movement) and operator != "Pad"
        if group and alone and (moves or operator in ("GlobalAveragePool", "ReduceMean")):
            self.reflected.update(dict.fromkeys(node.output, (group, top)))
            return
        shift = (
            self._shift(operator, node, group, top)
            if group and node.input[0] not in node.input[1:]
            else None
        )
        if shift is not None:
            self.shifts.setdefault(group, []).append(shift)
            return
        for name in node.input:
            if name in self.reflected:
                self.products.still(self._on(name), scale=False)

    def _shift(self, operator: str, node: NodeProto, group: str, top: float) -> Shift | None:
        """How a product that sums over reflected units makes up for it, None where it cannot."""
        if (
            operator not in ("Conv", "Gemm", "MatMul")
            or len(node.input) < 2
            or node.input[1] not in self.graph.tensors
        ):
            return None
        given, weight, bias = read_attributes(node), node.input[1], None
        if operator == "MatMul" and self._is_read_once(node.output[0]):
            reader = self.readers[node.output[0]][0]
            others = (
                [n for n in reader.input if n in self.graph.tensors]
                if reader.op_type == "Add"
                else []
            )
            bias = others[0] if others else None
        elif len(node.input) > 2:
            bias = node.input[2]
        padded = any(given.get("pads", ())) or given.get("auto_pad", b"NOTSET") not in (
            b"NOTSET",
            b"VALID",
        )
        plain = (
            not padded
            and given.get("group", 1) == 1
            and given.get("alpha", 1.0) == given.get("beta", 1.0) == 1
        )
        if (
            not bias
            or bias not in self.graph.tensors
            or not plain
            or not all(map(self._is_read_once, (weight, bias)))
        ):
            return None
        if (
            given.get("transA")
            or self.graph.array(weight).ndim < 2
            or (operator == "MatMul" and self.graph.array(weight).ndim > 2)
        ):
            return None
        axis = 1 if operator == "Conv" or given.get("transB") else 0
        wide = self.graph.shape(bias)
        if not wide or wide[-1] != np.prod(wide) or wide[-1] != self.graph.shape(weight)[1 - axis]:
            return None
        if not self.graph.array(bias).any():
            # zeros have no factor of their own, and would need one when they are zeros no more
            return None
        (own,) = [g for g in self.groups if g.id == group]
        slots = [s for s in own.slots if (s.initializer, s.axis) == (weight, axis) and not s.within]
        return Shift(slots[0], 1 - axis, bias, top) if len(slots) == 1 else None
