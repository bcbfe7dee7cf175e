"""The paper's divergence of a unit that was multiplied."""

from __future__ import annotations

import numpy as np


def divergence(
    factor: float, mean: float = 0.0, deviation: float = 1.0, relu: bool = False
) -> float:
    """How far the output of a unit that was multiplied by `factor` is from what it was, in nats.

    The Kullback-Leibler divergence of its sum of weighted inputs, normal with this `mean` and `deviation`, from that of the
    multiplied unit; with `relu`, of what a ReLU makes of a sum of mean zero, which depends on the factor alone.

    Source: "Find the Lady" (AAAI 2024), equations 10 and 11, with k = factor - 1. As printed, equation 11 is twice
    equation 10 at mean zero; of the two halves of the sum a ReLU keeps one, and of the divergence half.

    Raises ValueError for a factor of zero, a deviation that is not positive, or `relu` with a mean or a negative factor.
    """
    if not factor or deviation <= 0 or (relu and (mean or factor < 0)):
        raise ValueError(
            "a factor of zero, no deviation, or a ReLU with a mean that is not zero or a negative factor"
        )
    k = factor - 1
    whole = (
        np.log(abs(factor))
        + (deviation**2 + (k * mean) ** 2) / (2 * factor**2 * deviation**2)
        - 0.5
    )
    return float(whole / 2 if relu else whole)
