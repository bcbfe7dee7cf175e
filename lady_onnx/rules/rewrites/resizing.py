"""Rewrites of the operators that resize maps, into the newest of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from ...normalform.algebra.term import Term, make_attributes
from .call import Call, register_rewrite


@register_rewrite("Resize", "Upsample")
def rewrite_resize(call: Call) -> Term | None:
    """Write the older operators as the newest one, and drop operands that are empty or not read."""
    x = call.require_first()
    attributes = dict(call.attributes)
    if call.node.op_type == "Upsample" or call.version < 11:
        scales: Term | None
        if call.version < 9:
            if "scales" not in attributes:
                return None
            scales = call.terms.make_constant(np.array(attributes.pop("scales"), np.float32))
        else:
            scales = call.get_operand(1)
        if scales is None or scales.leaf is None or (scales.leaf.array < 1).any():
            # runtimes disagree on which pixel a smaller map takes
            return None
        # the older operators count pixels from their corners, and take the lower of two
        attributes |= {"coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
        return _make_resize(call, [x, None, scales], attributes)
    roi, scales, sizes = (call.get_operand(k) for k in (1, 2, 3))
    crops = attributes.get("coordinate_transformation_mode") == b"tf_crop_and_resize"
    empty = [t is not None and t.shape is not None and 0 in t.shape for t in (roi, scales)]
    roi = roi if crops else None
    scales = None if empty[1] else scales
    return _make_resize(call, [x, roi, scales, sizes], attributes)


def _make_resize(call: Call, operands: list[Term | None], attributes: dict[str, object]) -> Term:
    """Make a resize with all attributes that have a meaning in its mode.

    Args:
        call: the node.
        operands: the operands of the newest version.
        attributes: the attributes that are given.
    """
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
        given: Any = attributes.get("axes", range(len(by)))
        axes = [int(a) % len(x.shape) for a in given]
        is_whole = len(by) == len(axes) and all(float(s).is_integer() for s in by)
        if is_whole and sorted(axes) == list(range(len(x.shape))):
            shape = [x.shape[a] * int(by[axes.index(a)]) for a in range(len(axes))]
    if shape is None or x is None:
        return call.terms.make_term("Resize", operands, make_attributes(**whole))
    return call.terms.make_term(
        "Resize", operands, make_attributes(**whole), dtype=x.dtype, shape=shape
    )
