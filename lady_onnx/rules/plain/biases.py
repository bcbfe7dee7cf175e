"""Plain forms of operators that add biases in front of another one.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from .writer import (
    INT,
    Writer,
    make_optional,
    make_required,
    register_plain_form,
)


@register_plain_form("BiasAdd", "X bias skip")
def write_bias_add(w: Writer) -> str:
    """A sum of three."""
    return w.add(w["X"], w["bias"], w["skip"])


@register_plain_form("BiasSplitGelu", "X bias")
def write_bias_split_gelu(w: Writer) -> str:
    """The first half of the channels times Gelu of the second."""
    first, second = w.write_many(2, "Split", w.add(w["X"], w["bias"]), axis=-1, num_outputs=2)
    return w("Mul", first, w("Gelu", second))


@register_plain_form("BiasDropout", "data bias residual? ratio?", seed=make_optional(INT))
@register_plain_form("BitmaskBiasDropout", "data bias residual? ratio?", seed=make_optional(INT))
def write_bias_dropout(w: Writer) -> str:
    """A sum: without the operand `training_mode` nothing is dropped, whatever the ratio."""
    return w.add(w["data"], w["bias"], w["residual"])


@register_plain_form("BiasSoftmax", "data bias", axis=1, is_inner_broadcast=make_required(INT))
def write_bias_softmax(w: Writer) -> str:
    """Softmax over all axes from `axis` on, of a sum.

    Data and bias are flattened to matrices, and then summed. With inner broadcast each row of the
    bias is added to a run of as many rows of the data. Else the rows of the bias are added to the
    rows of the data in turn.
    """
    rows = w("Flatten", w["data"], axis=w.get_attribute("axis"))
    row = w("Shape", rows, start=1)
    bias = w("Reshape", w["bias"], w("Concat", w.write_integers(-1), row, axis=0))
    many = w("Shape", bias, end=1)
    if w.get_attribute("is_inner_broadcast"):
        shape, bias = (
            w("Concat", many, w.write_integers(-1), row, axis=0),
            w("Unsqueeze", bias, w.write_integers(1)),
        )
    else:
        shape = w("Concat", w.write_integers(-1), many, row, axis=0)
    probabilities = w("Softmax", w("Add", w("Reshape", rows, shape), bias), axis=-1)
    return w("Reshape", probabilities, w("Shape", w["data"]))
