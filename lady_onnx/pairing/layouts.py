"""Weights of a normal form, laid out again as the file has them that it is the form of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..graph.model import WeightMapping
from ..numerics import is_float_array

if TYPE_CHECKING:
    from ..normalform.form import Form

FACTOR_TOLERANCE = 1e-3
"""Elements have one factor whose ratios differ by no more than this share."""


def lay_out_weights(form: Form, weights: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Lay weights out as the source of a normal form has them.

    Args:
        form: the normal form.
        weights: by the names of its constants, of another model of the same form.

    Returns:
        By their names the weights of the source that are floats and of which anything is known.
        Elements that are not known are NaN. A constant that is a weight of the source times a
        factor along one axis, such as that of a folded norm, is divided by that factor.
    """
    source, parts, scaled = form.source, dict[str, list[str]](), dict[str, str]()
    for name, leaf in form.leaves.items():
        if name not in weights:
            continue
        if leaf.origin is not None:
            parts.setdefault(leaf.origin[0], []).append(name)
        elif leaf.hint in source.tensors:
            scaled[leaf.hint] = name
    known = [n for n in {**scaled, **parts} if is_float_array(source.array(n))]

    def lay_out(weight: str) -> np.ndarray:
        ours = source.array(weight)
        result = np.full_like(ours, np.nan)
        if weight in parts:
            for name in parts[weight]:
                origin = form.leaves[name].origin
                assert origin is not None
                result.reshape(-1)[origin[1]().ravel()] = weights[name].ravel()
            return result
        name = scaled[weight]
        factors = _find_factors(ours, form.leaves[name].array)
        return result if factors is None else (weights[name] / factors).astype(ours.dtype)

    return WeightMapping(known, lay_out)


def _find_factors(weight: np.ndarray, constant: np.ndarray) -> np.ndarray | None:
    """Find by what factors along one axis a constant is larger than a weight.

    Returns:
        float64, as many as that axis has places and one along all others; None if there is no such
        axis.
    """
    if weight.shape != constant.shape or not weight.size:
        return None
    x, y = weight.astype(np.float64), constant.astype(np.float64)
    for axis in range(x.ndim):
        others = tuple(a for a in range(x.ndim) if a != axis)
        power = (x * x).sum(others, keepdims=True)
        factors = (x * y).sum(others, keepdims=True) / np.where(power > 0, power, 1.0)
        left = np.abs(y - factors * x).max(others, keepdims=True)
        size = np.abs(y).max(others, keepdims=True)
        if (left <= FACTOR_TOLERANCE * size).all() and (factors != 0).all():
            return factors
    return None
