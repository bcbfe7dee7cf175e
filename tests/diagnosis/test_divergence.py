"""How far a factor moves what a layer gives."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

import lady_onnx as lady


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0, 10.0])
@pytest.mark.parametrize("mean", [0.0, 0.7])
def test_divergence_is_what_a_simulation_gives(factor: float, mean: float) -> None:
    deviation = 1.5
    z = np.random.default_rng(0).normal(mean, deviation, 1_000_000)
    densities = [scipy.stats.norm(mean * f, deviation * f).logpdf(z) for f in (1.0, factor)]
    gap = densities[0] - densities[1]
    error = 5 * gap.std() / len(z) ** 0.5
    assert lady.divergence(factor, mean, deviation) == pytest.approx(gap.mean(), abs=error)
    if not mean:
        # what is cut off is the same in both: a zero, with the same probability
        kept = np.where(z > 0, gap, 0.0)
        assert lady.divergence(factor, deviation=deviation, relu=True) == pytest.approx(
            kept.mean(), abs=error
        )


def test_divergence_refuses_what_has_none() -> None:
    for arguments in (
        {"factor": 0.0},
        {"factor": 2.0, "deviation": 0.0},
        {"factor": 2.0, "mean": 1.0, "relu": True},
        {"factor": -2.0, "relu": True},
    ):
        with pytest.raises(ValueError, match="a factor of zero"):
            lady.divergence(**arguments)
