"""Mixtures of experts in one operator, with weights as floats or in bytes.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...errors import UnknownStructureError
from ...vocabulary.packing import find_packing
from ...vocabulary.structure import MICROSOFT
from ..kinds import Equation, Kind, Node, Reshape, Take, require_shape
from ..laws import Law, Linear, Multilinear, PositivelyHomogeneous
from ..registry import register
from ..step_list import StepList
from .blocks import count_shared, require_whole_blocks, tie_zero_points
from .heads import Shape, find_operand


@dataclass(frozen=True)
class Layer:
    """Where a layer of all experts has its operands.

    Attributes:
        weight: the weights, [expert, result, source].
        bias: the biases, [expert, result].
        scales: the scales of the weights; None where they are floats.
        zeros: the zero points of the weights.
    """

    weight: int
    bias: int
    scales: int | None = None
    zeros: int | None = None


FLOAT_LAYERS = (Layer(2, 3), Layer(4, 5), Layer(6, 7))
"""The layers of MoE: into the hidden units, out of them, and into what they are multiplied by."""
BYTE_LAYERS = (Layer(2, 4, 3, 11), Layer(5, 7, 6, 12), Layer(8, 10, 9, 13))
"""The layers of QMoE."""
ROUTER_WEIGHTS = 14
"""The operand of QMoE with the weights of the experts, where those of the router only choose."""

ACTIVATIONS: dict[bytes, Law] = {b"relu": PositivelyHomogeneous(), b"identity": Linear()}
"""What activations of hidden units do to their scale and sign; others let no factor pass."""


def find_expert_shape(node: Node) -> list[Shape]:
    """Return the shape of the result, which is that of the rows."""
    return [require_shape(node)]


@register("MoE", domain=MICROSOFT, shape=find_expert_shape)
def describe_experts(node: Node) -> Kind:
    """Experts with the router's columns, and in every expert its hidden units."""
    return _describe_layers(node, FLOAT_LAYERS)


@register("QMoE", domain=MICROSOFT, shape=find_expert_shape)
def describe_quantised_experts(node: Node) -> Kind:
    """As MoE; numbers that share a byte stay together, and so do those of a block.

    Of weights that are no whole numbers, or in the layout of a processor, experts alone are free.
    """
    layout = int(node.attributes.get("weights_prepacked", -1))
    is_whole = node.attributes.get("quant_type", b"int") == b"int"
    if is_whole and layout <= 0 and (layout == 0 or _is_laid_out_plainly(node)):
        return _describe_layers(node, BYTE_LAYERS)
    w, experts = StepList(), require_shape(node, 1)[1]
    w.keep("0", len(require_shape(node)))
    _read_router(w, node, experts)
    for k, shape in enumerate(node.shapes[1:], 1):
        if shape is None or math.prod(shape) == 1:
            continue
        axis = 1 if k in (1, ROUTER_WEIGHTS) else 0
        if shape[axis] == experts:
            names = ["e" if a == axis else f"[m{a}]" for a in range(len(shape))]
            text = " ".join(names)
            w.relate(f"{text}, n e -> {text}", str(k), "1")
        else:
            w.keep(str(k), len(shape))
    names = [f"[m{k}]" for k in range(len(require_shape(node)))]
    text = " ".join(names)
    return w.finish(w.relate(f"{text}, n e -> {text}", "0", "1"))


def _is_laid_out_plainly(node: Node) -> bool:
    """Tell whether the shapes of weights are those of the specification, and of no other layout.

    A provider may want its own layout where the node does not say. It has sources and results of
    each layer in the other order.
    """
    for layer in BYTE_LAYERS:
        weight, scales = find_operand(node, layer.weight), find_operand(node, layer.scales)
        if weight is None:
            continue
        if scales is None or weight[1] != scales[1]:
            return False
        # Of a square weight the shape does not tell.
        if weight[1] in (weight[2], weight[2] * _count_in_byte(node, layer)):
            return False
    return True


def _describe_layers(node: Node, layers: tuple[Layer, Layer, Layer]) -> Kind:
    """Describe the two or three layers of all experts, and their weighted sum."""
    w, shape = StepList(), require_shape(node)
    first, second, gate = layers
    rows = (math.prod(shape[:-1]), shape[-1])
    x = w.move("0", Reshape(rows))
    experts, made, source = require_shape(node, second.weight)
    if made != shape[-1]:
        raise UnknownStructureError("weights whose results and sources have changed places")
    fusion = int(node.attributes.get("swiglu_fusion", 0))
    parts = 2 if fusion else 1
    inner, rest = divmod(require_shape(node, first.weight)[1], parts)
    # Whether elements are bytes or numbers is told by their count.
    if rest or inner not in (source, source * _count_in_byte(node, second)):
        raise UnknownStructureError("weights of two layers that do not fit each other")
    hidden = _multiply(w, node, first, (x, rows), "n")
    factor = None
    if fusion:
        every = np.arange(2 * inner).reshape((inner, 2) if fusion == 1 else (2, inner))
        halves = every.T if fusion == 1 else every
        hidden, factor = (w.move(hidden, Take(2, half)) for half in halves)
    elif find_operand(node, gate.weight) is not None:
        factor = _multiply(w, node, gate, (x, rows), "n")
    hidden = _activate(w, node, hidden, factor)
    y = _multiply(w, node, second, (hidden, (rows[0], experts, inner)), "n e")
    met = [y, _read_router(w, node, experts)]
    if layers is BYTE_LAYERS and find_operand(node, ROUTER_WEIGHTS) is not None:
        # They may be normalised, and what is not positive may be left out.
        met.append(w.map(str(ROUTER_WEIGHTS)))
    text = f"n e o{', n e' * (len(met) - 1)} -> n o"
    total = w.relate(text, *met, law=Multilinear(len(met)))
    return w.finish(w.move(total, Reshape(shape)))


def _read_router(w: StepList, node: Node, experts: int) -> str:
    """Add how much each expert counts, [row, expert]: no product of the scores of the router."""
    router = w.map("1")
    if int(node.attributes.get("k", 1)) < experts and not node.is_equal_by_chance(1):
        # Of equal scores the first one counts.
        router = w.relate("n [e] -> n [e]", router)
    return router


def _activate(w: StepList, node: Node, hidden: str, factor: str | None) -> str:
    """Add the activation of hidden units, and what they are multiplied by if there is any."""
    kind = node.attributes.get("activation_type", b"relu")
    hidden = w.map(hidden, law=ACTIVATIONS.get(kind))
    if factor is None:
        return hidden
    is_changed = node.attributes.get("activation_beta") or "swiglu_limit" in node.attributes
    if kind == b"swiglu" and is_changed:
        factor = w.map(factor)
    return w.map(hidden, factor, law=Multilinear())


def _count_in_byte(node: Node, layer: Layer) -> int:
    """Return how many numbers of a weight share a byte in the file."""
    if layer.scales is None:
        return 1
    packing = find_packing(MICROSOFT, node.operator, node.attributes, layer.weight)
    return packing.count if packing is not None else 1


def _multiply(w: StepList, node: Node, layer: Layer, rows: tuple[str, Shape], outer: str) -> str:
    """Add the product of rows with a layer of all experts, [row, expert, result].

    Args:
        w: gets the steps.
        node: the node.
        layer: the layer.
        rows: the rows and their shape.
        outer: the names of all their axes but the last.
    """
    name, shape = rows
    weight, bias = require_shape(node, layer.weight), find_operand(node, layer.bias)
    shared = count_shared(shape[-1], weight[2])
    if shared not in (1, _count_in_byte(node, layer)):
        raise UnknownStructureError("weights whose results and sources have changed places")
    sides, met, sizes = (
        [f"{outer} (c p [z])", "e o (c p)"],
        [name, str(layer.weight)],
        {"z": shared},
    )
    sizes["c"] = 1
    scales = find_operand(node, layer.scales)
    if scales is not None:
        wide = (*scales, 1)[:3]
        sizes["c"] = wide[2]
        require_whole_blocks(weight[2], wide[2])
        laid = w.move(str(layer.scales), Reshape(wide))
        sides.append("e o c")
        met.append(laid)
    if bias is not None:
        sides.append("e o")
        met.append(str(layer.bias))
    law = Multilinear(factors=2 if scales is None else 3)
    y = w.apply(Equation(f"{', '.join(sides)} -> n e o", sizes), *met, law=law)
    zeros = find_operand(node, layer.zeros)
    if scales is not None and zeros is not None:
        packed = (*zeros, 1)[:3]
        beside = w.move(str(layer.zeros), Reshape(packed))
        parts = (*weight[:2], wide[2], weight[2] // wide[2])
        if len(zeros) == 2 and packed[1] != weight[1]:
            raise UnknownStructureError("zero points of several results in a byte")
        tie_zero_points(w, (w.move(str(layer.weight), Reshape(parts)), parts), (beside, packed), 2)
    return y
