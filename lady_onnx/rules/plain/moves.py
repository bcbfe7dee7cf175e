"""Plain forms of operators that ONNX has as well, with other operands or attributes.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ..plain_forms import INT, NoPlainFormError, Writer, make_optional, register_plain_form

GRID_MODES = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}
"""The names that ONNX has for modes of interpolation."""


@register_plain_form("Trilu", "X k?", upper=1)
def write_trilu(w: Writer) -> str:
    """Trilu of the default domain."""
    return w("Trilu", w["X"], w["k"], upper=w.get_attribute("upper"))


@register_plain_form("Pad", "data pads value?", mode="constant")
def write_pad(w: Writer) -> str:
    """Pad of the default domain, whose value is one number."""
    pads = w("Reshape", w["pads"], w.write_integers(-1))
    value = w["value"] and w("Reshape", w["value"], w.write_constant([], np.int64))
    return w("Pad", w["data"], pads, value, mode=w.get_attribute("mode"))


@register_plain_form("GatherND", "data indices")
def write_gather_nd(w: Writer) -> str:
    """GatherND of the default domain."""
    return w("GatherND", w["data"], w("Cast", w["indices"], to=TensorProto.INT64))


@register_plain_form("GridSample", "X Grid", align_corners=0, mode="bilinear", padding_mode="zeros")
def write_grid_sample(w: Writer) -> str:
    """GridSample of the default domain."""
    mode = GRID_MODES.get(w.get_attribute("mode"))
    if mode is None:
        raise NoPlainFormError("another mode of interpolation")
    given = w.get_attributes(("align_corners", "padding_mode"))
    return w("GridSample", w["X"], w["Grid"], mode=mode, **given)


@register_plain_form("ExpandDims", "X axis")
def write_expand_dims(w: Writer) -> str:
    """Unsqueeze along one axis."""
    axis = w("Cast", w["axis"], to=TensorProto.INT64)
    return w("Unsqueeze", w["X"], w("Reshape", axis, w.write_integers(1)))


@register_plain_form("BitmaskDropout", "data ratio?", seed=make_optional(INT))
def write_bitmask_dropout(w: Writer) -> str:
    """A copy: without the operand `training_mode` nothing is dropped."""
    return w("Dropout", w["data"], w["ratio"], seed=w.get_attribute("seed"))
