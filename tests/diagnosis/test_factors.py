"""Measured factors of units are fitted to what a structure allows."""

from __future__ import annotations

import numpy as np
import pytest

from lady_onnx.diagnosis.factors.choice import choose_factors
from lady_onnx.diagnosis.factors.fitting import Factors, fit_allowed_factors
from lady_onnx.groups.model import Slot
from lady_onnx.groups.scaling import Scaling

UNITS = 40


def make_scaling() -> Scaling:
    """A hidden layer: incoming weights and bias have a factor, and outgoing weights its inverse."""
    index = np.arange(UNITS)[:, None]
    slots = tuple(Slot(name, axis, index) for name, axis in (("w", 1), ("b", 0), ("v", 0)))
    flips = np.zeros((0, 3), bool)
    incoming = np.array([True, True, False])
    return Scaling("g", slots, np.array([[1.0, 1.0, -1.0]]), flips, np.zeros(3), incoming)


def test_a_slot_that_is_unsure_decides_nothing() -> None:
    """The two sure slots disagree, and are equally far from the truth."""
    ratio, error = np.ones((3, UNITS)), np.full((3, UNITS), 0.01)
    ratio[:, 0], error[:, 0] = (0.784, 1.625, 2.069), (0.0147, 0.718, 0.041)
    allowed = fit_allowed_factors(make_scaling(), ratio, error)[:, 0]
    assert 1 / 2.069 - 0.01 < allowed[0] < 0.784 + 0.01
    assert allowed[0] == pytest.approx(allowed[1])
    assert allowed[0] * allowed[2] == pytest.approx(1)


@pytest.mark.parametrize("precise", [0.01, 1e-6])
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_the_factor_of_a_unit_whose_slots_disagree(share: float, precise: float) -> None:
    """It is taken out where most units were multiplied, and else left to be judged.

    A slot that was measured more precisely has no larger say.
    """
    rng = np.random.default_rng(1)
    scaling = make_scaling()
    factor = np.where(np.arange(UNITS) < share * UNITS, np.exp(rng.normal(0, 0.3, UNITS)), 1.0)
    ratio = np.stack([factor, factor, 1 / factor]) * np.exp(rng.normal(0, 0.01, (3, UNITS)))
    ratio[:, 0] = 0.784, 1.625, 2.069
    error = 0.01 * ratio
    error[:2, 0] = precise, 0.7
    factors = Factors(scaling, ratio, error, fit_allowed_factors(scaling, ratio, error))
    chosen = choose_factors({"g": factors})["g"][:, 0]
    if share < 0.5:
        assert (chosen == 1).all()
    else:
        assert chosen[0] == pytest.approx((0.784 / 2.069) ** 0.5, abs=0.07)
