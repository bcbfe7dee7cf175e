"""Plain forms of operators on maps with their channels on the last axis.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from typing import Any

from ..plain_forms import (
    INTS,
    NoPlainFormError,
    Writer,
    make_optional,
    make_required,
    register_plain_form,
)
from .products import (
    ACTIVATION_ATTRIBUTES,
    CONVOLUTION_ATTRIBUTES,
    write_activation,
)


def move_channels(w: Writer, x: str, rank: int, to: int) -> str:
    """Write a map with its channels moved.

    Args:
        w: writes the nodes.
        x: the map.
        rank: its rank.
        to: the axis that the channels go to: 1, from the last one, or -1, from axis 1.
    """
    order = [0, rank - 1, *range(1, rank - 1)] if to == 1 else [0, *range(2, rank), 1]
    return w("Transpose", x, perm=order)


@register_plain_form(
    "NhwcFusedConv", "X W B? Z?", **CONVOLUTION_ATTRIBUTES, **ACTIVATION_ATTRIBUTES
)
def write_nhwc_fused_conv(w: Writer) -> str:
    """FusedConv of maps with their channels on the last axis; the weight is as that of Conv."""
    rank = w.require_rank(w["W"])
    x = move_channels(w, w["X"], rank, 1)
    y = move_channels(
        w, w("Conv", x, w["W"], w["B"], **w.get_attributes(list(CONVOLUTION_ATTRIBUTES))), rank, -1
    )
    return write_activation(w, w.add(y, w["Z"]))


POOLING_ATTRIBUTES: dict[str, Any] = {
    "auto_pad": "NOTSET",
    "ceil_mode": 0,
    "dilations": make_optional(INTS),
    "kernel_shape": make_required(INTS),
    "pads": make_optional(INTS),
    "strides": make_optional(INTS),
}
"""The attributes of a pooling."""


def write_average(w: Writer, x: str) -> str:
    """Write AveragePool with the node's attributes.

    Raises:
        NoPlainFormError: lengths are rounded up, and places of the padding count.
    """
    if w.get_attribute("ceil_mode") and w.get_attribute("count_include_pad"):
        raise NoPlainFormError(
            "onnxruntime's operators do not agree whether places behind the padding count"
        )
    names = [name for name in (*POOLING_ATTRIBUTES, "count_include_pad") if name in w.attributes]
    return w("AveragePool", x, **w.get_attributes(names))


@register_plain_form("NhwcMaxPool", "x", **POOLING_ATTRIBUTES)
def write_nhwc_max_pool(w: Writer) -> str:
    """MaxPool of maps with their channels on the last axis."""
    rank = len(w.get_attribute("kernel_shape")) + 2
    x = move_channels(w, w["x"], rank, 1)
    return move_channels(w, w("MaxPool", x, **w.get_attributes(list(POOLING_ATTRIBUTES))), rank, -1)
