"""The paper's divergence of a unit that was multiplied: a closed form, apart from all matching."""

from __future__ import annotations

import numpy as np


def divergence(
    factor: float, mean: float = 0.0, deviation: float = 1.0, relu: bool = False
) -> float:
    """Compute how far the output of a multiplied unit is from what it was.

    It is the Kullback-Leibler divergence between two sums of weighted inputs, that of the unit and
    that of the multiplied unit. Both are taken for normal. With `relu` it is the divergence behind
    a ReLU, for sums of mean zero. That one depends on the factor alone.

    Source: "Find the Lady" (AAAI 2024), equations 10 and 11, with k = factor - 1. As printed,
    equation 11 is twice equation 10 at mean zero. It is half of it here: a ReLU makes zeros of one
    half of either sum, and those tell nothing.

    Args:
        factor: what the unit was multiplied by.
        mean, deviation: of the unit's sum before it was multiplied.
        relu: whether a ReLU follows.

    Returns:
        The divergence in nats.

    Raises:
        ValueError: for a factor of zero, a deviation that is not positive, or `relu` with a mean or
            a negative factor.

    >>> divergence(1.0)
    0.0
    """
    if not factor or deviation <= 0 or (relu and (mean or factor < 0)):
        raise ValueError(
            "a factor of zero, no deviation, or a ReLU with a mean that is not zero or a negative "
            "factor"
        )
    k = factor - 1
    whole = (
        np.log(abs(factor))
        + (deviation**2 + (k * mean) ** 2) / (2 * factor**2 * deviation**2)
        - 0.5
    )
    return float(whole / 2 if relu else whole)
