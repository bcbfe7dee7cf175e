"""Lengths that inference and the kernels of a runtime compute in two ways, and may disagree on.

Such a length is a quotient or a product that is rounded. onnx's inference and onnxruntime's kernels
round with another precision, or by the rules of another version. Then a runtime folds one length to
a constant and computes the other. Such a length counts as known where every way to compute it gives
the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...semantics.lengths import Length
from ...vocabulary.classes import WINDOW_POOLS
from ...vocabulary.names import CONV_TRANSPOSE, RESIZE, UPSAMPLE

PartialShape = Sequence[Length | None]
"""The shape of a result; None for a length that is not known."""


def find_agreed_lengths(
    operator: str,
    given: Mapping[str, Any],
    before: PartialShape | None,
    after: PartialShape,
    scales: np.ndarray | None,
) -> PartialShape:
    """Find the lengths of a result on which every way to compute them agrees.

    Args:
        operator: one of `DISPUTED_LENGTH_OPERATORS`.
        given: its attributes.
        before: the shape of its first operand; None if it is not known.
        after: the shape of its result as onnx infers it.
        scales: the scales by which it resizes; None if they are not known, or none are given.

    Returns:
        The lengths; None in place of each length that is disputed.
    """
    # what cannot be checked counts as disputed
    if before is None or len(before) != len(after):
        return [None] * len(after)
    if operator in (RESIZE, UPSAMPLE):
        return _find_agreed_resized_lengths(given, before, after, scales)
    spatial = len(after) - 2
    is_padded_alike = given.get("auto_pad", b"NOTSET").startswith(b"SAME")
    if operator in WINDOW_POOLS and given.get("ceil_mode"):
        fits = [_has_whole_windows(given, before, k, spatial) for k in range(spatial)]
    else:
        is_open = operator == CONV_TRANSPOSE and is_padded_alike
        fits = [not (is_open and any(given.get("output_padding", [])))] * spatial
    inner = zip(after[2:], fits, strict=True)
    return [*after[:2], *(length if is_agreed else None for length, is_agreed in inner)]


def _find_agreed_resized_lengths(
    given: Mapping[str, Any], before: PartialShape, after: PartialShape, scales: np.ndarray | None
) -> PartialShape:
    """Find the agreed lengths of a map that is resized."""
    if given.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        return [None] * len(after)
    if scales is None or not scales.size:
        # the lengths are given as such, and nothing is rounded
        return after
    is_cut = given.get("coordinate_transformation_mode") == b"tf_crop_and_resize"
    if is_cut or scales.size != len(after):
        # only a part of the map is resized, or only some of its axes
        return [None] * len(after)
    pairs = zip(before, after, scales.ravel(), strict=True)
    return [m if _is_product_exact(n, m, scale) else None for n, m, scale in pairs]


def _is_product_exact(before: Length | None, after: Length | None, scale: np.float32) -> bool:
    """Tell whether a length times a scale is the same in single and in double precision."""
    if not isinstance(before, int):
        return before == after and scale == 1
    # onnx's inference multiplies in one precision, and a kernel may do so in the other
    products = (np.float32(before) * np.float32(scale), float(before) * float(scale))
    return {int(np.floor(product)) for product in products} == {after}


def _has_whole_windows(
    given: Mapping[str, Any], before: PartialShape, axis: int, spatial: int
) -> bool:
    """Tell whether the windows of a pool end with its map, so that nothing is rounded up.

    Versions differ in whether a last window may start behind the last element.
    """
    length, kernel = before[axis + 2], given.get("kernel_shape", [])
    strides, dilations = (given.get(name) or [1] * spatial for name in ("strides", "dilations"))
    pads = given.get("pads") or [0] * (2 * spatial)
    is_plain = given.get("auto_pad", b"NOTSET") == b"NOTSET" and isinstance(length, int)
    counts = [len(kernel), len(strides), len(dilations), len(pads) / 2]
    if not is_plain or any(count != spatial for count in counts) or strides[axis] < 1:
        return False
    assert isinstance(length, int)
    window = dilations[axis] * (kernel[axis] - 1) + 1
    return (length + pads[axis] + pads[axis + spatial] - window) % int(strides[axis]) == 0
