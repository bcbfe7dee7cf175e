"""Plain forms of attention in one operator.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..plain_forms import (
    FLOAT,
    INT,
    INTS,
    NoPlainFormError,
    Writer,
    make_optional,
    make_required,
    register_plain_form,
)


def write_attention_core(w: Writer, parts: Sequence[str], mask: str, bias: str) -> str:
    """Write attention without keys and values of the past.

    Args:
        w: writes the nodes.
        parts: queries, keys and values, [batch, place, head x dimension] each.
        mask: the mask, see `write_mask`; "" for none.
        bias: what is added to the scores; "" for nothing.

    Returns:
        The name of the result, [batch, place, head x dimension].

    Raises:
        NoPlainFormError: later places are masked.
    """
    if w.get_attribute("unidirectional"):
        raise NoPlainFormError("what comes later is masked")
    heads = w.write_integers(0, 0, w.get_attribute("num_heads"), -1)
    query, key, value = (w("Transpose", w("Reshape", x, heads), perm=[0, 2, 1, 3]) for x in parts)
    scores = w("MatMul", query, w("Transpose", key, perm=[0, 1, 3, 2]))
    # onnxruntime takes a scale of zero as one that is not given.
    if w.get_attribute("scale"):
        scores = w.scale(scores, w.get_attribute("scale"))
    else:
        scores = w("Div", scores, w("Sqrt", w("CastLike", w("Shape", query, start=3), scores)))
    scores = w.add(scores, bias, write_mask(w, mask, scores) if mask else "")
    seen = w("Transpose", w("MatMul", w("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
    return w("Reshape", seen, w.write_integers(0, 0, -1))


def write_mask(w: Writer, mask: str, scores: str) -> str:
    """Write what a mask adds to scores: zero where it is positive, a low number elsewhere.

    Args:
        w: writes the nodes.
        mask: the mask, int32 [batch, key] or [batch, query, key].
        scores: the scores, [batch, head, query, key].

    Raises:
        NoPlainFormError: the mask has another rank.
    """
    axes = {2: (1, 2), 3: (1,)}.get(w.require_rank(mask))
    if axes is None:
        raise NoPlainFormError("a mask that is no table of what is kept")
    is_kept = w(
        "Greater", w("Unsqueeze", mask, w.write_integers(*axes)), w.write_constant(0, np.int32)
    )
    return w(
        "Where",
        is_kept,
        w.write_number(0, scores),
        w.write_number(w.get_attribute("mask_filter_value"), scores),
    )


ATTENTION_ATTRIBUTES: dict[str, Any] = {
    "mask_filter_value": -10000.0,
    "num_heads": make_required(INT),
    "scale": make_optional(FLOAT),
    "unidirectional": 0,
}
"""The attributes of attention without a past."""


@register_plain_form(
    "Attention",
    "input weights bias? mask_index? past? attention_bias?",
    **ATTENTION_ATTRIBUTES,
    qkv_hidden_sizes=make_optional(INTS),
)
def write_attention(w: Writer) -> str:
    """Attention whose queries, keys and values are one product."""
    if w["past"]:
        raise NoPlainFormError("keys and values of the past")
    rows = w.add(w("MatMul", w["input"], w["weights"]), w["bias"])
    widths = w.get_attribute("qkv_hidden_sizes")
    if widths is None:
        parts = w.write_many(3, "Split", rows, axis=-1, num_outputs=3)
    elif len(widths) == 3:
        parts = w.write_many(3, "Split", rows, w.write_integers(*widths), axis=-1)
    else:
        raise NoPlainFormError("other parts than queries, keys and values")
    return write_attention_core(w, parts, w["mask_index"], w["attention_bias"])


@register_plain_form(
    "MultiHeadAttention",
    "query key? value? bias? key_padding_mask? attention_bias?",
    **ATTENTION_ATTRIBUTES,
)
def write_multi_head_attention(w: Writer) -> str:
    """Attention of queries, keys and values that are given apart; the bias is that of all three."""
    parts = [w["query"], w["key"], w["value"]]
    if not all(parts) or any(w.require_rank(part) != 3 for part in parts):
        raise NoPlainFormError("keys or values are packed, or split into heads")
    if w["bias"]:
        widths = w("Concat", *(w("Shape", part, start=2) for part in parts), axis=0)
        biases = w.write_many(3, "Split", w["bias"], widths, axis=0)
        parts = [w("Add", part, bias) for part, bias in zip(parts, biases, strict=True)]
    return write_attention_core(w, parts, w["key_padding_mask"], w["attention_bias"])
