"""Fits measured factors to what a structure allows.

The logarithms of a unit's allowed factors, one a slot, are any sum of multiples of the rows of
`Scaling.scales`. Its signs are any product of the rows of `Scaling.signs`. How factors are measured
is the business of `measuring`; which of the fitted ones are real and not the drift of
training, that of `choice`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...groups.scaling import Scaling
from ...numerics import MIN_DIVISOR

MAX_FIT_STEPS = 16
"""The number of steps towards the factors that agree with most slots."""
FINAL_TOLERANCES = (0.1, 0.03, 0.01, 1e-3, 1e-4)
"""How near logarithms of factors must be to agree, after each of the last of these steps."""
COARSE_ERROR = 0.03
"""Slots whose factors have a smaller error than this, as a share of them, have the same say."""
MAX_AGREEING_ERRORS = 6
"""Slots agree whose factors are nearer than this many times their error."""
RIDGE_SHARE = 1e-9
"""What a system of equations says more faintly than this, beside the rest, counts for nothing."""
MAX_TRIED_FLIPS = 8
"""Of more independent signs than this, not all combinations are tried: the surest slots tell them.
"""


@dataclass(frozen=True)
class Factors:
    """By what the units of a group were multiplied, slot by slot.

    Attributes:
        scaling: The slots, and what is allowed.
        ratio: float64 [slots, units]: the median ratio of the suspect's elements to the
            reference's; nan where there are none.
        error: float64 [slots, units]: the deviation of `ratio`, in the units of `ratio`.
        allowed: float64 [slots, units]: of the factors that leave the function as it is, those
            that agree best with `ratio`.
    """

    scaling: Scaling
    ratio: np.ndarray
    error: np.ndarray
    allowed: np.ndarray


def fit_allowed_factors(
    scaling: Scaling, ratio: np.ndarray, error: np.ndarray, robust: bool = True
) -> np.ndarray:
    """Fit the factors that a structure allows to measured ones.

    Args:
        scaling: what is allowed.
        ratio, error: float64 [slots, units]: the measured factors, nan where none is known, and
            their errors.
        robust: whether the factors are fitted that most slots agree with; else those that are
            nearest to all.

    Returns:
        float64 [slots, units]; 1 where nothing is known.
    """
    known = np.isfinite(ratio) & (ratio != 0)
    logs = np.log(np.abs(np.where(known, ratio, 1.0)))
    trust = np.where(known, 1.0, 0.0)
    result = np.zeros_like(logs)
    # From here on errors are those of logarithms. No factor is surer than single precision.
    least = np.maximum(error / np.maximum(np.abs(np.where(known, ratio, 1.0)), MIN_DIVISOR), 1e-7)
    # Units of which no slot differs by more than its error were not multiplied.
    units = (
        np.flatnonzero((np.abs(logs) > MAX_AGREEING_ERRORS * least).any(0))
        if robust
        else np.flatnonzero(logs.any(0))
    )
    # Exponents that share no slot are fitted apart, in smaller systems.
    for chosen in _split_systems(scaling.scales != 0) if units.size else ():
        own = np.flatnonzero((scaling.scales[chosen] != 0).any(0))
        basis = scaling.scales[chosen][:, own].T
        here = np.ix_(own, units)
        result[here] = _fit_logs(basis, logs[here], trust[here], least[here], robust)
    observed = np.where(known, np.sign(np.where(known, ratio, 1.0)), 0.0)
    return _fit_signs(scaling.signs, observed) * np.exp(result)


def _fit_signs(flips: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the allowed signs that agree with most slots of every unit.

    Args:
        flips: bool [independent flips, slots].
        observed: float64 [slots, units]: the observed signs, 0 where none is known.

    Returns:
        float64 [slots, units].
    """
    signs = np.ones(observed.shape)
    for rows in _split_systems(flips):
        own = flips[rows]
        slots = own.any(0)
        best = np.full(observed.shape[1], -np.inf)
        tried: Iterable[np.ndarray] = [np.zeros((len(own), 1), int)]
        if len(own) <= MAX_TRIED_FLIPS:
            every = itertools.product((0, 1), repeat=len(own))
            tried = itertools.chain(tried, (np.array(chosen)[:, None] for chosen in every))
        else:
            own, pivots = _reduce_flips(own, np.abs(observed).sum(1))
            tried = itertools.chain(tried, [observed[pivots] < 0])
        # That nothing was flipped is tried first, so it wins where others agree as well.
        for chosen in tried:
            # Two flips of one slot cancel.
            turned = 1 - 2 * (own[:, slots].T.astype(int) @ chosen % 2)
            agree = (observed[slots] * turned).sum(0)
            better = agree > best + 1e-9
            best = np.where(better, agree, best)
            signs[slots] = np.where(better, turned, signs[slots])
    return signs


def _reduce_flips(flips: np.ndarray, trust: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return flips of which each has a slot that no other has: the slot says whether it was made.

    Args:
        flips: bool [flips, slots]: flips that are independent modulo two.
        trust: float64 [slots]: how sure the signs in the slots are; the surest are taken first.

    Returns:
        The flips, bool [flips, slots], and the slot of each, int64 [flips].

    >>> reduced, pivots = _reduce_flips(np.array([[1, 1, 0], [1, 0, 1]], bool), np.array([3, 2, 1]))
    >>> reduced.astype(int).tolist(), pivots.tolist()
    ([[1, 0, 1], [0, 1, 1]], [0, 1])
    """
    pivots: list[int] = []
    rows = flips.copy()
    for slot in np.argsort(-trust, kind="stable").tolist():
        done = len(pivots)
        (left,) = np.nonzero(rows[done:, slot])
        if not left.size:
            continue
        rows[[done, done + left[0]]] = rows[[done + left[0], done]]
        others = rows[:, slot].copy()
        others[done] = False
        rows[others] ^= rows[done]
        pivots.append(slot)
    return rows, np.array(pivots, np.int64)


def _fit_logs(
    basis: np.ndarray, logs: np.ndarray, trust: np.ndarray, least: np.ndarray, robust: bool
) -> np.ndarray:
    """Fit for every unit the combination of the columns of `basis` that is nearest to `logs`.

    Args:
        basis: float64 [slots, factors].
        logs: float64 [slots, units]: the logarithms of the measured factors.
        trust: float64 [slots, units]: 1 where a factor is known, else 0.
        least: float64 [slots, units]: the errors of `logs`.
        robust: whether most slots count, and not all.

    Returns:
        float64 [slots, units]: the fitted logarithms.
    """
    result = np.zeros_like(logs)
    # All slots that are sure enough have the same say.
    each = trust / np.maximum(least, COARSE_ERROR) if robust else trust / least**2
    weight = each
    for number in range(MAX_FIT_STEPS if robust else 1):
        root = np.sqrt(weight.T)
        systems = root[:, :, None] * basis[None]
        result = (basis[None] @ _solve_least_squares(systems, root * logs.T))[:, :, 0].T
        # A square that is weighted by one over its distance is that distance. So the fit approaches
        # least absolute differences, which few slots that lie far off do not move. At last the mean
        # of those that agree is taken.
        weight = each / np.maximum(np.abs(logs - result), least)
        if number >= MAX_FIT_STEPS - len(FINAL_TOLERANCES):
            # The index is negative, and counts from the last step.
            limit = np.maximum(
                MAX_AGREEING_ERRORS * least, FINAL_TOLERANCES[number - MAX_FIT_STEPS]
            )
            near = np.abs(logs - result) <= limit
            # A slot that is hardly sure of anything is near to everything, and decides nothing.
            is_most = 2 * (each * near).sum(0) >= each.sum(0)
            weight = np.where(is_most, np.where(near, trust / least**2, 0.0), weight)
    return result


def _solve_least_squares(systems: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Solve many small systems by least squares; unknowns that no equation tells are zero.

    The faint equations of the ridge, "this unknown is zero", decide only what no other does. A
    factorisation of the equations themselves keeps more digits than one of their normal equations.

    Args:
        systems: float64 [systems, equations, unknowns].
        targets: float64 [systems, equations].

    Returns:
        float64 [systems, unknowns, 1].
    """
    count = systems.shape[2]
    ridge = RIDGE_SHARE * np.maximum(np.linalg.norm(systems, axis=(1, 2)), 1e-150)
    whole = np.concatenate([systems, ridge[:, None, None] * np.eye(count)], 1)
    q, r = np.linalg.qr(whole)
    return np.linalg.solve(r, np.swapaxes(q[:, : systems.shape[1]], 1, 2) @ targets[:, :, None])


def _split_systems(rows: np.ndarray) -> list[list[int]]:
    """Split the rows of a bool matrix into sets that have no column in common, by their numbers.

    >>> _split_systems(np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1]], bool))
    [[1], [0, 2]]
    """
    sets: list[tuple[list[int], np.ndarray]] = []
    for number, row in enumerate(rows):
        touching = [s for s in sets if (s[1] & row).any()]
        sets = [s for s in sets if not (s[1] & row).any()]
        numbers = [*itertools.chain.from_iterable(n for n, _ in touching), number]
        sets.append((numbers, np.any([row, *(c for _, c in touching)], 0)))
    return [numbers for numbers, _ in sets]
