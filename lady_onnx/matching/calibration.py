"""Calibrates a search by what it finds in weights of which the answer is known.

A search over pure chance and a search over copies with the suspect's noise, both rehearsals, tell
how far the certainties of the real search are to be trusted.
"""

from __future__ import annotations

import numpy as np

from ..groups.permutations import Arrays, invert_permutations, permute_arrays
from ..numerics import MIN_DIVISOR, as_finite
from .alignment import AlignmentState
from .evidence.copies import Calibration, estimate_copy_share
from .evidence.noise import MIN_RELATIVE_NOISE, Scales
from .search import Search, SearchOptions
from .strategies import LikelihoodStrategy


def calibrate_search(search: Search) -> dict[str, Calibration]:
    """Rehearse a search in chance and in noisy copies.

    Args:
        search: a search that has found its matches; it is not changed.

    Returns:
        By group id what the rehearsals found.
    """
    alignment = search.alignment
    layout = alignment.layout
    rng = np.random.default_rng(0)
    # Chance is the suspect's own values in a random order, so it has their distribution. Weights
    # come in the order of names, so that they draw the same numbers in any order of groups.
    chance = {
        n: rng.permutation(as_finite(a).ravel()).reshape(a.shape)
        for n, a in sorted(alignment.current.items())
    }
    # How certain the search is of what it finds in chance matters to the search alone.
    others = _rehearse(search, chance, layout.has_meeting_groups()).measure_recoveries()
    # Noise on weights near the end of single precision overflows; `as_finite` bounds it later.
    with np.errstate(over="ignore"):
        noisy = {
            n: as_finite(a)
            + np.float32(_measure_noise(search, n)) * rng.standard_normal(a.shape, np.float32)
            for n, a in sorted(alignment.reference.items())
        }
    moves = {g.id: rng.permutation(g.size) for g in layout.groups}
    noisy.update(permute_arrays(noisy, layout.groups, moves))
    copies = _rehearse(search, noisy, with_figures=True)
    gains, wholes = search.measure_recoveries(), copies.measure_recoveries()
    share = estimate_copy_share(gains, others, wholes)
    truth = invert_permutations(layout.family, moves)
    where = {n: np.argsort(p) for n, p in copies.alignment.permutations.items()}
    found = {}
    for m in copies.alignment.list_matches():
        # A match of an inner group goes by where the group lies in the rehearsal's suspect. The
        # real search asks by where it lies in the reference.
        name = layout.family.twin(m.group, where)
        # By chance one match of a group is right, on average.
        right = max((m.permutation == truth[m.group]).mean(), 1 / m.permutation.size)
        trust = right / max(m.certainty.mean(), MIN_DIVISOR)
        found[name] = Calibration(others[name][0], wholes[name][0], trust, share)
    return found


def _rehearse(search: Search, suspect: Arrays, with_figures: bool) -> Search:
    """Run the same search on another suspect, as a rehearsal.

    Args:
        search: the search.
        suspect: the weights of the other suspect.
        with_figures: whether the certainty of the rehearsal's matches is asked for.
    """
    real = search.alignment
    alignment = AlignmentState(real.layout.groups, real.reference, suspect, real.assignment)
    strategy = LikelihoodStrategy(Scales(alignment.reference))
    rehearsal = Search(alignment, strategy, SearchOptions(True, with_figures))
    rehearsal.run()
    return rehearsal


def _measure_noise(search: Search, name: str) -> float:
    """Measure the standard deviation of what was added to a weight.

    That is what the weight's variance has gained, but at most what differs from its match. What is
    gained does not depend on the matching, which may be wrong.
    """
    alignment = search.alignment
    ours, theirs = (as_finite(x[name]) for x in (alignment.reference, alignment.current))
    differing = float(np.square(theirs - ours, dtype=np.float64).mean())
    gained = float(np.var(theirs, dtype=np.float64) - np.var(ours, dtype=np.float64))
    spread = search.strategy.scales.measure(name)[1]
    return min(differing, max(gained, (MIN_RELATIVE_NOISE * spread) ** 2)) ** 0.5
