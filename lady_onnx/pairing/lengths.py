"""Lengths that inference and the kernels of a runtime compute in two ways, and may disagree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .extents import Extent

POOLS = ("AveragePool", "LpPool", "MaxPool")

Lengths = Sequence[Extent | None]


def agreed_lengths(
    operator: str, given: Mapping[str, Any], before: Lengths | None, after: Lengths, scales: np.ndarray | None
) -> Lengths:
    """The lengths of a result on which every way to compute them agrees; None for the others.

    Args:
        operator: an operator of the default domain.
        given: its attributes.
        before: the shape of its first operand, if that is known.
        after: the shape of its result as onnx infers it.
        scales: the scales by which it resizes, if they are known.
    """
    if before is None or len(before) != len(after):
        return after
    if operator in ("Resize", "Upsample"):
        if given.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
            return [None] * len(after)
        return [m if _is_sure(n, m, scales, k) else None for k, (n, m) in enumerate(zip(before, after, strict=True))]
    spatial = len(after) - 2
    if operator in POOLS and given.get("ceil_mode"):
        # versions differ in whether the last window may start behind the last element
        kernel = given.get("kernel_shape", [])
        strides, dilations = (given.get(name) or [1] * spatial for name in ("strides", "dilations"))
        pads = given.get("pads") or [0] * (2 * spatial)
        is_plain = given.get("auto_pad", b"NOTSET") == b"NOTSET" and len(kernel) == spatial and len(pads) == 2 * spatial
        found = list(after)
        for k in range(spatial):
            n = before[k + 2]
            fits = is_plain and isinstance(n, int) and len(strides) == len(dilations) == spatial
            room = n + pads[k] + pads[k + spatial] - (dilations[k] * (kernel[k] - 1) + 1) if fits else 1
            found[k + 2] = after[k + 2] if fits and strides[k] > 0 and room % strides[k] == 0 else None
        return found
    if (
        operator == "ConvTranspose"
        and given.get("auto_pad", b"NOTSET").startswith(b"SAME")
        and any(given.get("output_padding", []))
    ):
        return [*after[:2], *[None] * spatial]
    return after


def _is_sure(before: Extent | None, after: Extent | None, scales: np.ndarray | None, axis: int) -> bool:
    """Is a length that was multiplied by a scale the same in single and in double precision?"""
    if scales is None or scales.size == 0:
        # the lengths are given
        return True
    if not isinstance(before, int) or axis >= scales.size:
        return before == after
    scale = scales.reshape(-1)[axis]
    products = (np.float32(before) * np.float32(scale), float(before) * float(scale))
    return {int(np.floor(p)) for p in products} == {after}
