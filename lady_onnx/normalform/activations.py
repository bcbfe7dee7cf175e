"""Rules of the normal form: activations, reductions, pools and resized maps."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import NodeProto

from ..equality.extents import is_number, multiply_lengths
from .calls import (
    Call,
    count_axis_from_front,
    keep_as_written,
    read_axes,
    read_axis,
    read_window,
    register_rewrite,
)
from .layers import read_pads
from .layouts import make_reshape, make_transpose
from .rewrites import (
    apply_unary,
    combine_terms,
    make_multiple,
    make_number,
    make_product,
    make_reduction,
    make_sum,
    make_window_operator,
)
from .shaping import as_operand
from .terms import NoForm, Term, make_attributes

# ---- activations


@register_rewrite("Gelu")
def gelu(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    if not x.is_float:
        return None
    how = call.attributes.get("approximate", b"none")
    if how not in (b"none", b"tanh"):
        raise NoForm(f"'approximate' is {how!r}")
    if how == b"tanh":
        cube = make_multiple(
            terms, combine_terms(terms, "Product", [x, x, x], x.shape), _single(x, 0.044715)
        )
        inner = apply_unary(
            terms,
            "Tanh",
            make_multiple(terms, make_sum(terms, x, cube), _single(x, math.sqrt(2 / math.pi))),
        )
        return make_multiple(
            terms, make_product(terms, x, make_sum(terms, inner, make_number(terms, 1.0, x))), 0.5
        )
    inner = apply_unary(terms, "Erf", make_multiple(terms, x, _single(x, 1 / math.sqrt(2))))
    return make_multiple(
        terms, make_product(terms, x, make_sum(terms, inner, make_number(terms, 1.0, x))), 0.5
    )


def _single(like: Term, value: float) -> float:
    """A number as it is rounded to the type of a term."""
    return float(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(like.dtype)).type(value))


@register_rewrite("Swish")
def swish(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    if not x.is_float:
        return None
    gate = apply_unary(
        terms, "Sigmoid", make_multiple(terms, x, float(call.attributes.get("alpha", 1.0)))
    )
    return make_product(terms, x, gate)


@register_rewrite("HardSwish")
def hard_swish(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    if not x.is_float:
        return None
    gate = apply_unary(terms, "HardSigmoid", x, alpha=1 / 6, beta=0.5)
    return make_product(terms, x, gate)


@register_rewrite("Mish")
def mish(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    return (
        make_product(terms, x, apply_unary(terms, "Tanh", apply_unary(terms, "Softplus", x)))
        if x.is_float
        else None
    )


@register_rewrite("Clip")
def clip(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    if call.version < 11:
        if not x.is_float:
            return None
        given_ = [call.attributes.get(n) for n in ("min", "max")]
        limits = [None if v is None else make_number(terms, v, x) for v in given_]
    else:
        limits = [call.operand(1), call.operand(2)]
    low, high = limits
    if any(bound is not None and bound.rank != 0 for bound in limits):
        return None
    if x.is_float:
        low = None if low is not None and low.number == -math.inf else low
        high = None if high is not None and high.number == math.inf else high
    if low is None and high is None:
        return x
    if low is not None and low.number == 0.0:
        if high is None:
            return apply_unary(terms, "Relu", x)
        if x.operator == "Relu" and high.number is not None and high.number >= 0:
            x = x.operands[0] or x
    return keep_as_written(call, [x, low, high], ())[0]


@register_rewrite("Softmax", "LogSoftmax", "Hardmax")
def softmax(call: Call) -> Term | None:
    x, terms, operator = call.first(), call.terms, call.node.op_type
    if x.rank is None or x.shape is None:
        return None
    axis = read_axis(call, default=-1 if call.version >= 13 else 1)
    if call.version < 13 and axis != x.rank - 1:
        flat = make_reshape(
            terms, x, (multiply_lengths(x.shape[:axis]), multiply_lengths(x.shape[axis:]))
        )
        return make_reshape(terms, terms.make(operator, [flat], make_attributes(axis=1)), x.shape)
    core = x.operands[0] if x.operator == "Transpose" else None
    if core is not None and core.shape is not None:
        order = x.perm
        made = terms.make(
            operator, [core], make_attributes(axis=order[axis]), dtype=x.dtype, shape=core.shape
        )
        return make_transpose(terms, made, order)
    return terms.make(operator, [x], make_attributes(axis=axis), dtype=x.dtype, shape=x.shape)


@register_rewrite("PRelu")
def prelu(call: Call) -> Term | None:
    x, slope = call.first(), call.operand(1)
    if slope is None or x.shape is None or slope.shape is None or not is_number(slope.shape):
        return None
    if len(slope.shape) > len(x.shape):
        return None
    # one slope for each channel: leading ones say nothing
    kept = list(slope.shape)
    while len(kept) > 1 and kept[0] == 1:
        kept = kept[1:]
    slope = make_reshape(call.terms, slope, kept)
    return call.terms.make("PRelu", [x, slope], dtype=x.dtype, shape=x.shape)


@register_rewrite("LSTM", "GRU", "RNN")
def recurrent(call: Call) -> Sequence[Term]:
    """All results, whether they are read or not."""
    results = 3 if call.node.op_type == "LSTM" else 2
    whole = NodeProto()
    whole.CopyFrom(call.node)
    whole.output[:] = [*call.node.output, *[""] * (results - call.results)]
    return keep_as_written(replace(call, node=whole))


@register_rewrite("Max", "Min")
def extreme(call: Call) -> Term | None:
    """Of constants the larger or smaller of every element; of more than two operands two by two."""
    sides = [o for o in call.operands if o is not None]
    if len(sides) == 1:
        return sides[0]
    if not all(o.is_float for o in sides):
        return None
    constants = [o for o in sides if o.leaf is not None]
    if len(constants) < len(sides):
        return None
    choose = np.maximum if call.node.op_type == "Max" else np.minimum
    first = constants[0].leaf
    if first is None or any(o.leaf is None or o.leaf.room is not None for o in constants):
        return None
    array = functools.reduce(choose, [o.leaf.array for o in constants if o.leaf is not None])
    return call.terms.constant(array, first.hint)


EXACT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Floor": np.floor,
    "Sign": np.sign,
}
"""What is done to every element of a constant and rounds nothing."""
SMOOTH: dict[str, Callable[[np.ndarray], np.ndarray]] = {"Cos": np.cos, "Sin": np.sin}
"""What is done to every element of a constant, of size one at most."""


@register_rewrite(*EXACT, *SMOOTH)
def of_constant(call: Call) -> Term | None:
    """A function of every element, of a constant a constant."""
    term = call.first()
    if term.leaf is None or not term.is_float or term.leaf.room is not None:
        return None
    if call.node.op_type in EXACT:
        return call.terms.constant(EXACT[call.node.op_type](term.leaf.array), term.leaf.hint)
    array = SMOOTH[call.node.op_type](term.leaf.array.astype(np.float64)).astype(
        term.leaf.array.dtype
    )
    # libraries give the last two bits of a number of this size as they like
    return call.terms.constant(
        array, term.leaf.hint, np.full((), 4 * float(np.finfo(array.dtype).eps))
    )


# ---- reductions and pools


@register_rewrite(
    *(
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
    ),
    *("ReduceSum", "ReduceSumSquare"),
)
def reduction(call: Call) -> Term | None:
    x = call.first()
    axes = read_axes(call)
    noop = call.attributes.get("noop_with_empty_axes")
    if x.shape is None:
        keeps = int(call.attributes.get("keepdims", 1))
        if noop and not axes:
            return None
        return as_operand(call, "axes", keepdims=keeps, noop_with_empty_axes=0)
    if axes is None or not axes:
        if call.operand(1) is not None and axes != []:
            return None
        if noop:
            return None
        axes = list(range(len(x.shape)))
    made = make_reduction(call.terms, call.node.op_type, x, axes)
    if call.attributes.get("keepdims", 1):
        return made
    return make_reshape(call.terms, made, [n for a, n in enumerate(x.shape) if a not in axes])


@register_rewrite("GlobalAveragePool", "GlobalMaxPool")
def global_pool(call: Call) -> Term | None:
    """A mean; a pool of the largest has another idea of what is no number than a reduction."""
    x = call.first()
    if call.node.op_type != "GlobalAveragePool" or x.rank is None or x.rank < 3 or not x.is_float:
        return None
    if x.shape is None or 0 in [n for n in x.shape if isinstance(n, int)]:
        return None
    return make_reduction(call.terms, "ReduceMean", x, range(2, x.rank))


@register_rewrite("AveragePool", "MaxPool")
def pool(call: Call) -> Term | None:
    x = call.first()
    kernel = [int(k) for k in call.attributes["kernel_shape"]]
    pads = read_pads(call, x, kernel)
    if (
        pads is None
        or call.attributes.get("ceil_mode")
        or any(call.node.output[1:])
        or call.version < 7
    ):
        return None
    places = len(kernel)
    named: dict[str, object] = {
        "dilations": read_window(call, "dilations", places, 1),
        "kernel_shape": kernel,
        "pads": pads,
        "strides": read_window(call, "strides", places, 1),
    }
    if (
        call.node.op_type == "AveragePool"
        and x.shape is not None
        and list(x.shape[2:]) == kernel
        and not any(pads)
        and named["dilations"] == [1] * places
        and x.is_float
    ):
        call.leave_aside("count_include_pad")
        return make_reduction(call.terms, "ReduceMean", x, range(2, len(x.shape)))
    if call.node.op_type == "AveragePool":
        named["count_include_pad"] = (
            int(call.attributes.get("count_include_pad", 0)) if any(pads) else 0
        )
    # onnxruntime fuses no quantised pool whose dilations are written out
    written = {n: v for n, v in named.items() if n != "dilations" or v != [1] * places}
    return make_window_operator(
        call.terms, call.terms.make(call.node.op_type, [x], make_attributes(**written)), x, named
    )


# ---- sizes


@register_rewrite("Resize", "Upsample")
def resize(call: Call) -> Term | None:
    x = call.first()
    attributes = dict(call.attributes)
    if call.node.op_type == "Upsample" or call.version < 11:
        scales: Term | None
        if call.version < 9:
            if "scales" not in attributes:
                return None
            scales = call.terms.constant(np.array(attributes.pop("scales"), np.float32))
        else:
            scales = call.operand(1)
        if scales is None or scales.leaf is None or (scales.leaf.array < 1).any():
            # runtimes differ in which pixel a smaller picture takes
            return None
        # the older operators count pixels by their corners, and take the lower of two
        attributes |= {"coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
        return _resized(call, [x, None, scales], attributes)
    roi, scales, sizes = (call.operand(k) for k in (1, 2, 3))
    crops = attributes.get("coordinate_transformation_mode") == b"tf_crop_and_resize"
    empty = [t is not None and t.shape is not None and 0 in t.shape for t in (roi, scales)]
    roi = roi if crops else None
    scales = None if empty[1] else scales
    return _resized(call, [x, roi, scales, sizes], attributes)


def _resized(call: Call, operands: list[Term | None], attributes: dict[str, object]) -> Term:
    defaults = onnx.defs.get_schema("Resize", call.terms.version).attributes
    whole = {
        n: onnx.helper.get_attribute_value(a.default_value)
        for n, a in defaults.items()
        if a.default_value.name
    }
    whole |= attributes
    if whole.get("mode") != b"cubic":
        whole.pop("cubic_coeff_a", None)
    if whole.get("mode") == b"nearest":
        whole.pop("exclude_outside", None)
    elif "nearest_mode" in whole:
        whole.pop("nearest_mode")
    if whole.get("coordinate_transformation_mode") != b"tf_crop_and_resize":
        whole.pop("extrapolation_value", None)
    x, scales = operands[0], operands[2] if len(operands) > 2 else None
    shape = None
    if x is not None and x.shape is not None and scales is not None and scales.leaf is not None:
        by = scales.leaf.array.ravel().tolist()
        if len(by) == len(x.shape) and all(float(s).is_integer() for s in by):
            shape = [n * int(s) for n, s in zip(x.shape, by, strict=True)]
    if shape is None or x is None:
        return call.terms.make("Resize", operands, make_attributes(**whole))
    return call.terms.make("Resize", operands, make_attributes(**whole), dtype=x.dtype, shape=shape)


@register_rewrite("CumSum")
def running_sum(call: Call) -> Term | None:
    """The axis counted from the first, in one type of whole numbers."""
    term, axis = call.first(), call.operand(1)
    if axis is None or axis.whole is None or axis.rank != 0 or term.rank is None:
        return None
    place = call.terms.constant(
        np.array(count_axis_from_front(int(axis.whole.reshape(-1)[0]), term.rank), np.int64)
    )
    return keep_as_written(call, [term, place])[0]


@register_rewrite("TopK")
def top_k(call: Call) -> Sequence[Term] | None:
    if call.version >= 10:
        return None
    count = call.terms.constant(np.array([call.attributes["k"]], np.int64))
    named = make_attributes(axis=int(call.attributes.get("axis", -1)), largest=1, sorted=1)
    return keep_as_written(call, [call.first(), count], named)


__all__: list[str] = []
