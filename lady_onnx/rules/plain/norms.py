"""Plain forms of normalisations, with what is added in front of them.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, numpy_helper

from ..plain_forms import INT, NoPlainFormError, Writer, make_optional, register_plain_form


def write_root_mean_square_norm(
    w: Writer, x: str, scale: str, axes: Sequence[int]
) -> tuple[str, str]:
    """Write a tensor over the root of its mean square, times a scale.

    The root is taken in single precision.

    Args:
        w: writes the nodes.
        x: the tensor.
        scale: the scale.
        axes: the axes over which the mean is taken.

    Returns:
        The names of the result, and of one over the root.
    """
    single = w("Cast", x, to=TensorProto.FLOAT)
    squares = w("ReduceMean", w("Mul", single, single), w.write_integers(*axes), keepdims=1)
    inverse = w(
        "Reciprocal",
        w("Sqrt", w("Add", squares, w.write_constant(w.get_attribute("epsilon"), np.float32))),
    )
    return w("Mul", w("CastLike", w("Mul", single, inverse), scale), scale), inverse


@register_plain_form(
    "SimplifiedLayerNormalization", "X scale", domain="", axis=-1, epsilon=1e-5, stash_type=1
)
def write_simplified_layer_normalization(w: Writer) -> tuple[str, str]:
    """Every row over the root of its mean square."""
    axis = w.get_attribute("axis")
    if w.get_attribute("stash_type") != TensorProto.FLOAT:
        raise NoPlainFormError("another precision")
    return write_root_mean_square_norm(
        w, w["X"], w["scale"], range(axis, w.require_rank(w["X"]) if axis >= 0 else 0)
    )


@register_plain_form("SkipSimplifiedLayerNormalization", "input skip gamma bias?", epsilon=1e-12)
def write_skip_simplified_layer_normalization(w: Writer) -> tuple[str | None, ...]:
    """Every row of a sum over the root of its mean square, and the sum."""
    total = w.add(w["input"], w["bias"], w["skip"])
    # The results in the middle are a mean and an inverse deviation, for training.
    return write_root_mean_square_norm(w, total, w["gamma"], [-1])[0], None, None, total


@register_plain_form("SkipLayerNormalization", "input skip gamma beta? bias?", epsilon=1e-12)
def write_skip_layer_normalization(w: Writer) -> tuple[str | None, ...]:
    """LayerNormalization of a sum, and the sum."""
    total = w.add(w["input"], w["bias"], w["skip"])
    normed = w(
        "LayerNormalization",
        total,
        w["gamma"],
        w["beta"],
        axis=-1,
        epsilon=w.get_attribute("epsilon"),
    )
    return normed, None, None, total


@register_plain_form(
    "EmbedLayerNormalization",
    "input_ids segment_ids? word_embedding position_embedding segment_embedding? gamma beta"
    " mask? position_ids?",
    epsilon=1e-12,
    mask_index_type=make_optional(INT),
)
def write_embed_layer_normalization(w: Writer) -> tuple[str, str, str]:
    """LayerNormalization of a sum of rows of tables; how many tokens the mask keeps; the sum."""
    if bool(w["segment_ids"]) != bool(w["segment_embedding"]):
        raise NoPlainFormError("segments without a table, or a table without segments")
    if w["position_ids"]:
        places = w("Gather", w["position_embedding"], w["position_ids"])
    else:
        length = w("Shape", w["input_ids"], start=1)
        places = w(
            "Slice", w["position_embedding"], w.write_integers(0), length, w.write_integers(0)
        )
    total = w("Add", w("Gather", w["word_embedding"], w["input_ids"]), places)
    if w["segment_ids"]:
        total = w("Add", total, w("Gather", w["segment_embedding"], w["segment_ids"]))
    normed = w(
        "LayerNormalization",
        total,
        w["gamma"],
        w["beta"],
        axis=-1,
        epsilon=w.get_attribute("epsilon"),
    )
    return normed, count_kept_tokens(w), total


@register_plain_form(
    "QEmbedLayerNormalization",
    "input_ids segment_ids? word_embedding_quant position_embedding_quant segment_embedding?"
    " gamma_quant beta_quant mask? word_embedding_scale position_embedding_scale"
    " segment_embedding_scale? gamma_scale beta_scale word_embedding_zero_point"
    " position_embedding_zero_point segment_embedding_zero_point? gamma_zero_point beta_zero_point",
    epsilon=1e-12,
)
def write_quantised_embed_layer_normalization(w: Writer) -> tuple[str, str]:
    """EmbedLayerNormalization of what bytes stand for."""
    if bool(w["segment_ids"]) != bool(w["segment_embedding"]):
        raise NoPlainFormError("segments without a table, or a table without segments")

    def read(table: str, name: str) -> str:
        scale, zero = w[f"{name}_scale"], w[f"{name}_zero_point"]
        if w.require_rank(scale) or w.require_rank(zero):
            raise NoPlainFormError("a scale that is no number for the whole table")
        return w("DequantizeLinear", w[table], scale, zero)

    words, places = (read(f"{n}_quant", n) for n in ("word_embedding", "position_embedding"))
    length = w("Shape", w["input_ids"], start=1)
    rows = w("Slice", places, w.write_integers(0), length, w.write_integers(0))
    total = w("Add", w("Gather", words, w["input_ids"]), rows)
    if w["segment_ids"]:
        segments = read("segment_embedding", "segment_embedding")
        total = w("Add", total, w("Gather", segments, w["segment_ids"]))
    gains = (read(f"{n}_quant", n) for n in ("gamma", "beta"))
    epsilon = w.get_attribute("epsilon")
    normed = w("LayerNormalization", total, *gains, axis=-1, epsilon=epsilon)
    return normed, count_kept_tokens(w)


@register_plain_form("GatedRMSNorm", "X scale gate", activation="silu", epsilon=1e-5)
def write_gated_norm(w: Writer) -> str:
    """Every run of a row over the root of its mean square, times a gain and a gate."""
    activation = w.get_attribute("activation")
    if activation not in ("silu", "swish", "sigmoid"):
        raise NoPlainFormError("another activation")
    shape, run = w("Shape", w["X"]), w("Shape", w["scale"])
    outer = w("Shape", w["X"], end=-1)
    runs = w("Reshape", w["X"], w("Concat", outer, w.write_integers(-1), run, axis=0))
    normed = w("Reshape", write_root_mean_square_norm(w, runs, w["scale"], [-1])[0], shape)
    gate = w("Sigmoid", w["gate"])
    if activation != "sigmoid":
        gate = w("Mul", w["gate"], gate)
    return w("Mul", normed, gate)


def count_kept_tokens(w: Writer) -> str:
    """Write how many entries of each row of the mask are one; zeros where there is no mask."""
    if not w["mask"]:
        zero = numpy_helper.from_array(np.zeros(1, np.int32))
        return w("ConstantOfShape", w("Shape", w["input_ids"], end=1), value=zero)
    is_kept = w("Equal", w["mask"], w.write_constant(1, np.int32))
    return w("ReduceSum", w("Cast", is_kept, to=TensorProto.INT32), w.write_integers(1), keepdims=0)
