"""What the weights of two groups of units say about each other, and the assignment that follows. Knows arrays alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array

from ..numerics import as_finite, is_same
from .assignment import assign_sparsely

MIN_NOISE = 0.02
"""The least noise of a weight that is taken for possible, in units of the weight's own deviation."""
PRIOR = 10
"""How many elements of the common noise stand against those at one position."""
WIDEST = 10
"""How much larger or smaller the noise at one position may be."""
BALANCES = 20
"""How often the rows and columns of probabilities are balanced at most."""
BALANCED = 1e-9
"""Columns whose sums are nearer to one are."""
TINY = 1e-30
"""In place of zero, below a fraction."""
MAX_SCORE = 1e30
"""Scores are no larger."""
FEW = 256
"""So many rows are looked at at a time."""
FAINT = 1e-12
"""Odds that are smaller say nothing beside those of one, of which every row and column has some."""
SPARSE = 50
"""Of a wide table so many times fewer odds are quicker without the rest."""
MAX_DENSE_UNITS = 1024
"""Of more units than this the best assignment is looked for among the likeliest pairs."""


@dataclass(frozen=True)
class Match:
    """Where the units of one group went.

    Attributes:
        group: the group's id.
        permutation: int64 [size]: unit j of the reference is unit `permutation[j]` of the suspect.
        similarity: float64 [size]: cosine of unit j of the reference and its match; 1 for equal units.
        margin: float64 [size]: by how much the match is likelier, in nats, than the runner-up; 0 where two are alike,
            infinite where the match is exact, bit for bit, and no other unit is.
        certainty: float64 [size]: the probability that the match is right, among all assignments of the group's units.
    """

    group: str
    permutation: np.ndarray
    similarity: np.ndarray
    margin: np.ndarray
    certainty: np.ndarray

    @classmethod
    def in_place(cls, group: str, size: int) -> Match:
        """Every unit where it is."""
        return cls(group, np.arange(size), np.ones(size), np.full(size, np.inf), np.ones(size))

    @property
    def moved(self) -> int:
        """How many units stood elsewhere."""
        return int((self.permutation != np.arange(self.permutation.size)).sum())


def assign_rows(scores: np.ndarray) -> np.ndarray:
    """The assignment of rows to columns with the largest sum: for each row its column.

    Where every row's best is a different column, that is the optimum, and no solver runs.
    """
    best = scores.argmax(1)
    if np.unique(best).size == best.size:
        return best
    if not np.isfinite(scores).all():
        # of weights whose squares overflow
        scores = np.nan_to_num(scores, nan=-MAX_SCORE, posinf=MAX_SCORE, neginf=-MAX_SCORE)
    found = (
        assign_sparsely(scores, choose_best_columns(scores))
        if len(scores) > MAX_DENSE_UNITS
        else None
    )
    return linear_sum_assignment(scores, maximize=True)[1] if found is None else found


def join_rows(parts: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Rows side by side, and a one: in homogeneous coordinates a lone bias has an angle, and not just a sign."""
    return np.concatenate([*parts, np.ones((count, 1), np.float32)], 1)


def measure_scale(array: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of a weight, the deviation never zero."""
    values = as_finite(array)
    deviation = float(values.std(dtype=np.float64))
    return float(values.mean(dtype=np.float64)), deviation if deviation > 0 else 1.0


def _digests(parts: Sequence[np.ndarray]) -> list[bytes]:
    """A digest of every unit's bytes."""
    digests = [hashlib.blake2b(digest_size=16) for _ in range(parts[0].shape[0])]
    for part in parts:
        for digest, row in zip(digests, np.ascontiguousarray(part).view(np.uint8), strict=True):
            digest.update(row)
    return [d.digest() for d in digests]


def match_exactly(
    a: Sequence[np.ndarray], b: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """The permutation and margins if the rows are the same rows, bit for bit, in another order; else None."""
    if any(x.dtype != y.dtype for x, y in zip(a, b, strict=True)):
        return None
    first = next((i for i, x in enumerate(a) if x.shape[1]), 0)
    if a[first].size and not is_same(*(np.sort(x[first][:, 0]) for x in (a, b))):
        return None
    theirs: dict[bytes, list[int]] = {}
    for j, key in enumerate(_digests(b)):
        theirs.setdefault(key, []).append(j)
    ours = _digests(a)
    permutation = np.empty(len(ours), np.int64)
    margin = np.full(len(ours), np.inf)
    for i, key in enumerate(ours):
        places = theirs.get(key)
        if not places:
            return None
        # among equal rows, the one that did not move
        place = i if i in places else places[0]
        if len(places) > 1:
            margin[i] = 0.0
        places.remove(place)
        permutation[i] = place
    return permutation, margin


def find_proven_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which rows of `b` are those of `a`, bit for bit, and no others of it are: no noise made them so."""
    found = np.zeros(len(a), bool)
    if a.dtype != b.dtype or not a.shape[1]:
        return found
    ours, theirs = _digests([a]), _digests([b])
    counts = Counter(theirs)
    for k, (x, y) in enumerate(zip(ours, theirs, strict=True)):
        found[k] = x == y and counts[y] == 1
    return found


def balance_odds(score: np.ndarray) -> np.ndarray:
    """The doubly stochastic matrix of these log-odds."""
    table, rows, columns = _balance(score)
    table *= rows[:, None]
    table *= columns
    return table


def _balance(score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A positive matrix of these log-odds, and the factors of its rows and columns that make it doubly stochastic."""
    table = score - score.max(1, keepdims=True)
    # a column that no row likes best has its place too
    table -= np.maximum(table.max(0), -MAX_SCORE)
    np.exp(table, out=table)
    rows, columns = np.ones((2, len(table)), table.dtype)
    near = max(BALANCED, 8 * float(np.finfo(table.dtype).eps))
    some = _mostly(table)
    for _ in range(BALANCES):
        sums = columns * (rows @ some)
        columns /= sums + np.float32(TINY)
        rows /= rows * (some @ columns) + np.float32(TINY)
        if np.abs(sums - 1).max(initial=0) < near:
            break
    return table, rows, columns


def _mostly(table: np.ndarray) -> np.ndarray | csr_array:
    """The odds in a table that count beside one, where they are few; else the table."""
    size = len(table)
    if size <= MAX_DENSE_UNITS:
        return table
    kept = np.flatnonzero(table > FAINT)
    if kept.size > table.size / SPARSE:
        return table
    starts = np.searchsorted(kept, np.arange(size + 1) * size)
    return csr_array((table.ravel()[kept], kept % size, starts), shape=table.shape)


@dataclass(frozen=True)
class Noise:
    """The deviation of what was added to a weight, and by how much it is larger or smaller at positions along an axis."""

    deviation: float
    along: Mapping[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def between(
        cls, reference: np.ndarray, suspect: np.ndarray, spread: float, axes: Sequence[int]
    ) -> Noise:
        """What differs between two weights of one shape, of which the reference has the deviation `spread`."""
        # in units of the largest: the squares of large weights have no place in single precision
        apart = as_finite(reference) / 2 - as_finite(suspect) / 2
        largest = np.abs(apart).max(initial=0) or np.float32(1)
        square = np.square(apart / largest)
        unit = (2 * float(largest) / spread) ** 2
        whole = max(float(square.mean(dtype=np.float64)) * unit, MIN_NOISE**2)
        along = {}
        for axis in axes:
            others = tuple(a for a in range(square.ndim) if a != axis)
            many = square.size / square.shape[axis]
            factor = (square.mean(others, dtype=np.float64) * unit / whole * many + PRIOR) / (
                many + PRIOR
            )
            along[axis] = np.sqrt(factor).astype(np.float32).clip(1 / WIDEST, WIDEST)
        return cls(whole**0.5 * spread, along)


def compute_cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cosine of every row of `x` with every row of `y`; 0 for a row of zeros."""
    if not x.shape[1]:
        return np.eye(len(x), dtype=np.float32)
    norms = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    return (x @ y.T) / np.maximum(np.outer(*norms), 1e-30)


def compute_log_likelihoods(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The log-likelihood of every row of `y` as a copy of every row of `x` with noise of deviation one, up to a constant."""
    norms = [np.einsum("ij,ij->i", z, z, dtype=np.float64) / 2 for z in (x, y)]
    score = (x @ y.T).astype(np.float64)
    score -= norms[0][:, None]
    score -= norms[1]
    return score


def choose_best_columns(scores: np.ndarray) -> np.ndarray:
    """For every row its best column; of rows that want the same, the best one has it, and the others what is left."""
    rows = np.arange(len(scores))
    wanted = scores.argmax(1)
    found = np.full(len(scores), -1)
    order = np.argsort(-scores[rows, wanted], kind="stable")
    columns, first = np.unique(wanted[order], return_index=True)
    found[order[first]] = columns
    found[found < 0] = np.setdiff1d(rows, columns)
    return found


def find_runners_up(scores: np.ndarray, permutation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every row the best column that it does not have, and by how much its own is likelier."""
    rows = np.arange(len(permutation))
    second = np.empty_like(permutation)
    for start in range(0, len(rows), FEW):
        part, own = scores[start : start + FEW].copy(), permutation[start : start + FEW]
        part[rows[: len(part)], own] = -np.inf
        second[start : start + FEW] = part.argmax(1)
    others = np.where(len(rows) > 1, scores[rows, second], -np.inf)
    return second, scores[rows, permutation] - others


def compute_certainties(scores: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """Of every match the probability among all assignments, as balanced rows and columns give it."""
    table, rows, columns = _balance(scores)
    own = table[np.arange(len(permutation)), permutation].astype(np.float64)
    return own * rows * columns[permutation]
