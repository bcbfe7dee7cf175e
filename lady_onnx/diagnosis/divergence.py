"""The paper's divergence of a unit that was multiplied: a closed form, apart from all matching."""

from __future__ import annotations

import numpy as np


def divergence(
    factor: float, mean: float = 0.0, deviation: float = 1.0, relu: bool = False
) -> float:
    """Compute how far the output of a multiplied unit is from what it was.

    That is the Kullback-Leibler divergence of the unit's sum of weighted inputs, taken for normal,
    from that of the multiplied unit. With `relu` it is the divergence of what a ReLU makes of a sum
    of mean zero, which depends on the factor alone.

    Source: "Find the Lady" (AAAI 2024), equations 10 and 11, with k = factor - 1. As printed,
    equation 11 is twice equation 10 at mean zero. But of the two halves of the sum a ReLU keeps
    one, and of the divergence half.

    Args:
        factor: what the unit was multiplied by.
        mean, deviation: of the sum before.
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
