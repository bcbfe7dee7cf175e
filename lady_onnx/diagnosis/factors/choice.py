"""Chooses which of the fitted factors are real, and not the drift of training.

A factor is real if it is far larger than the disagreement of the unit's slots about it. Taking
factors out is the business of `undoing`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...numerics import MIN_DIVISOR
from .fitting import COARSE_ERROR, Factors, fit_allowed_factors

MIN_FACTOR_ERRORS = 6
"""A factor differs from another, or from one, if they lie this many times its error apart."""
EQUAL_FACTOR_TOLERANCE = 1e-5
"""Factors that are nearer than this are equal, which leaves room for rounding to float32."""
FEW_UNITS_SHARE, MULTIPLIED_SHARE = 0.05, 0.5
"""If fewer units than the first share were multiplied, only factors count that all slots bear out;
if more than the second, all units of the group were.
"""


def choose_factors(factors: Mapping[str, Factors]) -> dict[str, np.ndarray]:
    """Choose the factors to take out.

    Args:
        factors: by group id what was measured and fitted.

    Returns:
        By group id, float64 [slots, units]; 1 where nothing is to be taken out.
    """
    # The first choice, of factors that several slots bear out, says whether units were multiplied
    # in numbers.
    chosen = {g: _choose_from_slots(f, confirmed=True) for g, f in factors.items()}
    changed = {g: (c != 1).any(0) for g, c in chosen.items()}
    count = sum(int(c.sum()) for c in changed.values())
    if count < FEW_UNITS_SHARE * sum(c.size for c in changed.values()):
        # Where few units were multiplied, a factor that is only half compensated is none: somebody
        # multiplied a single weight, which is for `tampering` to find.
        return {g: np.where(_count_opponents(factors[g], c), 1.0, c) for g, c in chosen.items()}
    # Where many were multiplied, so was a unit whose factor hardly any slot speaks against.
    also = {g: ~changed[g] & (_count_opponents(f, f.allowed) <= 1) for g, f in factors.items()}
    chosen = {g: np.where(also[g], _choose_from_slots(f), chosen[g]) for g, f in factors.items()}
    return {g: _choose_for_doubtful(factors[g], c) for g, c in chosen.items()}


def _choose_for_doubtful(factors: Factors, chosen: np.ndarray) -> np.ndarray:
    """Choose the factors of units whose slots disagree, if most units of the group were multiplied.

    Such a unit was multiplied as well, and training moved its slots further than those of others.
    The factors that are nearest to all slots leave the least for which nobody is to be blamed.

    Args:
        factors: what was measured and fitted.
        chosen: float64 [slots, units]: the factors that were chosen, 1 for none.
    """
    is_open = (chosen == 1).all(0) & (_count_opponents(factors, factors.allowed) > 1)
    if not is_open.any() or (chosen != 1).any(0).mean() <= MULTIPLIED_SHARE:
        return chosen
    # slots that are sure enough have the same say
    error = np.maximum(factors.error, COARSE_ERROR * np.abs(factors.ratio))
    nearest = fit_allowed_factors(factors.scaling, factors.ratio, error, robust=False)
    return np.where(is_open, nearest, chosen)


def _choose_from_slots(factors: Factors, confirmed: bool = False) -> np.ndarray:
    """Choose the factors that are far larger than the disagreement of the slots about them.

    Training moves the incoming and the outgoing weights of a unit, too, but each by itself. So it
    leaves slots that disagree.

    Args:
        factors: what was measured and fitted.
        confirmed: whether only slots count that others bear out.

    Returns:
        float64 [slots, units]; 1 for units that were not multiplied.
    """
    size = np.abs(np.where(_are_known(factors), factors.ratio, 1.0))
    logs = np.log(np.abs(factors.allowed))
    usual = np.maximum(factors.error / size, _measure_usual_spread(factors))
    far = np.abs(logs) > np.maximum(MIN_FACTOR_ERRORS * usual, EQUAL_FACTOR_TOLERANCE)
    # Minus one has a logarithm of size zero, so a changed sign is asked for apart.
    far |= (factors.allowed < 0) & (size > MIN_FACTOR_ERRORS * factors.error)
    far &= _do_slots_agree(factors, factors.allowed) & _are_known(factors)
    if confirmed:
        far &= _are_confirmed(factors.scaling.scales, far)
    return np.where(far.any(0), factors.allowed, 1.0)


def _are_confirmed(scales: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Return which slots say nothing that other slots of the same unit do not say as well.

    What one slot alone says in any unit needs no other.

    Args:
        scales: float64 [factors, slots]: the exponents of the factors.
        far: bool [slots, units]: the slots that say that a unit was multiplied.

    Returns:
        bool [slots, units].
    """
    # A slot of leverage one is fitted exactly, whatever it says: no other slot has a part in that.
    alone = np.isclose(_compute_leverage(scales), 1)
    # Many units share few patterns, and each pattern needs a pseudoinverse.
    patterns, which = np.unique(far, axis=1, return_inverse=True)
    each = [~np.isclose(_compute_leverage(scales * pattern), 1) | alone for pattern in patterns.T]
    return np.transpose(each)[:, which.ravel()]


def _compute_leverage(scales: np.ndarray) -> np.ndarray:
    """Compute how much of what is fitted to each slot is the slot's own, 0 to 1.

    That is the leverage of a regression: the diagonal of the matrix that projects the slots'
    logarithms onto the rows of `scales`.

    Args:
        scales: float64 [factors, slots]: the exponents of the factors.

    Returns:
        float64 [slots].
    """
    return np.einsum("fs,sf->s", scales, np.linalg.pinv(scales))


def _are_known(factors: Factors) -> np.ndarray:
    """Return which factors were measured, and have a logarithm, bool [slots, units]."""
    return np.isfinite(factors.ratio) & (factors.ratio != 0)


def _measure_usual_spread(factors: Factors) -> float:
    """Measure by how much the factors of the median unit differ from allowed ones.

    That is a root mean square of differences of logarithms, beyond the errors of the factors. So it
    is what training, say, did to each slot by itself.
    """
    known = _are_known(factors)
    size = np.abs(np.where(known, factors.ratio, 1.0))
    share = factors.error / size
    apart = np.maximum(np.square(np.log(size / np.abs(factors.allowed))) - np.square(share), 0.0)
    weight = known / np.square(np.maximum(share, COARSE_ERROR))
    mean = (weight * apart).sum(0) / np.maximum(weight.sum(0), MIN_DIVISOR)
    # Each independent factor was fitted, and takes one difference away.
    spare = np.maximum(known.sum(0) - len(factors.scaling.scales), 1)
    return float(np.median(np.sqrt(mean * known.sum(0) / spare)))


def _do_slots_agree(factors: Factors, chosen: np.ndarray) -> np.ndarray:
    """Return which slots have factors like the chosen ones, bool [slots, units]."""
    usual = MIN_FACTOR_ERRORS * _measure_usual_spread(factors)
    near = np.maximum(
        MIN_FACTOR_ERRORS * factors.error, max(usual, 10 * EQUAL_FACTOR_TOLERANCE) * np.abs(chosen)
    )
    return np.abs(factors.ratio - chosen) <= near


def _count_opponents(factors: Factors, chosen: np.ndarray) -> np.ndarray:
    """Count the slots of each unit whose factors are not like the chosen ones."""
    return (np.isfinite(factors.ratio) & ~_do_slots_agree(factors, chosen)).sum(0)
