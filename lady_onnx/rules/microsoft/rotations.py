"""Rotary embeddings, which turn pairs of dimensions by an angle of each place.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import numpy as np

from ...vocabulary.structure import MICROSOFT
from ..kinds import Kind, Node, Reshape, Step, Take, Transpose, require_rank, require_shape
from ..registry import register
from ..step_list import StepList
from .heads import keep_orders, rotate


@register("MRotaryEmbedding", "RotaryEmbedding", domain=MICROSOFT)
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
    laid, angles = w.move("0", there), ["2", "3"]
    if node.operator == "MRotaryEmbedding":
        # Pairs are told apart by the stream of positions that gives their angles.
        angles.append(w.move("1", Take(0, _list_streams(node))))
    made = rotate(w, laid, wide, angles, turned, is_interleaved=is_interleaved)
    return w.finish(w.move(made, back))


def _list_streams(node: Node) -> np.ndarray:
    """List for every pair the stream of positions, of the three, that gives its angle."""
    sections = [int(n) for n in node.attributes["mrope_section"]]
    if not node.attributes.get("mrope_layout"):
        return np.repeat(np.arange(3), sections)
    streams = np.zeros(sum(sections), np.int64)
    for stream in (1, 2):
        streams[stream : 3 * sections[stream] : 3] = stream
    return streams


@register("GemmaRotaryEmbedding", domain=MICROSOFT)
def describe_gemma_rotary_embedding(node: Node) -> Kind:
    """Sums of two products, of queries and of keys; angles have one order for all heads."""
    # The operands: 0 emb, 1 q, 2 q_rot, 3 k, 4 k_rot.
    w = StepList()
    angles = w.relate("b s d -> b 1 s d", "0")
    return w.finish(*(w.combine(str(k), str(k + 1), angles) for k in (1, 3)))
