"""Rotary embeddings, which turn pairs of dimensions by an angle of each place.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from ..kinds import Kind, Node, Reshape, Step, Transpose, require_rank, require_shape
from ..plain_forms import MICROSOFT
from ..registry import register
from ..step_list import StepList
from .heads import keep_orders, rotate


@register("RotaryEmbedding", domain=MICROSOFT)
def describe_rotary_embedding(node: Node) -> Kind:
    """Pairs of dimensions turn together; their order is that of the tables' columns."""
    w, shape, tables = StepList(), require_shape(node), require_shape(node, 2)
    turned = int(node.attributes.get("rotary_embedding_dim", 0)) or 2 * tables[1]
    if require_rank(node) == 3:
        heads = int(node.attributes.get("num_heads", 0)) or shape[2] // turned
        wide = (*shape[:2], heads, shape[2] // heads)
        there: Step = Reshape(wide)
        back: Step = Reshape(shape)
    else:
        wide = (shape[0], shape[2], shape[1], shape[3])
        there = back = Transpose((0, 2, 1, 3))
    keep_orders(w, node, 1)
    is_interleaved = bool(node.attributes.get("interleaved"))
    laid = w.move("0", there)
    made = rotate(w, laid, wide, ("2", "3"), turned, is_interleaved=is_interleaved)
    return w.finish(w.move(made, back))
