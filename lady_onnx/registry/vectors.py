"""One short vector for a model: near those of its altered copies, and far from all others.

The signatures of a family's units are summed up by their second moments, which no order and no sign
of units changes. Each family adds its moments to the vector, at places and with signs drawn by
chance. So the likeness of two vectors tells which share of their families is alike, also where one
model has another head than the other.

Sources: Weinberger et al. 2009, Feature hashing for large scale multitask learning; for compressed
second moments, Lin et al. 2015, Bilinear CNN models.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ..diagnosis.pruning import find_pruning_limit, prune_below
from ..groups.model import Group
from ..groups.permutations import Arrays
from .signatures import WIDTH, Signatures, is_table
from .signs import SignedArrays

Key = tuple[int, ...]
"""Tells a family by what relatives have in common: its sizes, and which one of that size it is."""
LENGTH = 512
"""The length of a vector."""
EMPHASES = (1, 3)
"""The powers that the elements of weights count with, each for half of the vector.

Pruning spares large elements, and noise disturbs all by as much: what one leaves of the first half
or of the second, the other does not.
"""
COMPRESSION = 2 / 3
"""Moments count with this power of their size: what all networks have in common is large."""
PRUNED_SHARE = 0.85
"""So much is pruned for the vector of a pruned model: between the usual three quarters and 90 %."""
MIN_UNITS = 4
"""Fewer units say little of a model."""


class PrunedArrays(Mapping[str, np.ndarray]):
    """The weights of a model as if it had been pruned; each is made when it is asked for.

    Args:
        arrays: the weights. Of tables the smallest magnitudes are set to zero.
    """

    def __init__(self, arrays: Arrays):
        self._arrays = arrays
        self._limits: dict[str, np.floating] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        array = self._arrays[name]
        if not (is_table(array) and array.size):
            return array
        if name not in self._limits:
            count = max(round(PRUNED_SHARE * array.size), 1)
            self._limits[name] = find_pruning_limit(array, count)
        return prune_below(array, self._limits[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def compute_vector(
    groups: Sequence[Group], arrays: SignedArrays, names: Sequence[str]
) -> np.ndarray:
    """Compute the vector of a model.

    Args:
        groups: its groups, inner ones first.
        arrays: its weights, with signs that are chosen.
        names: the names of its weights in the order in which the program uses them.

    Returns:
        int8 [LENGTH]; zeros where nothing is known of any unit.
    """
    families = list_families(groups, arrays, names)
    return sum_up((key, compress_moments(table)) for key, table in families)


def list_families(
    groups: Sequence[Group], arrays: SignedArrays, names: Sequence[str]
) -> Iterator[tuple[Key, np.ndarray]]:
    """Yield the signatures of each family that has enough units.

    Families are told from the first weights on, and from the last ones, with each emphasis: each
    occurs four times.

    Args:
        groups, arrays, names: as for `compute_vector`.

    Yields:
        A key that relatives have in common, and float64 [units, WIDTH].
    """
    signatures = Signatures(groups, arrays, names)
    for emphasis, is_reversed in itertools.product(EMPHASES, (False, True)):
        table = signatures.compute(is_reversed=is_reversed, emphasis=emphasis)
        seen: Counter[tuple[int, int]] = Counter()
        for family in signatures.families:
            kind = family.groups[0].size, len(family.groups)
            key = emphasis, int(is_reversed), *kind, seen[kind]
            seen[kind] += 1
            own = table[family.units].astype(np.float64)
            own = own[own.any(1)]
            if len(own) >= MIN_UNITS:
                yield key, own


def compress_moments(table: np.ndarray, power: float = COMPRESSION) -> np.ndarray:
    """Return the second moments of signatures, float64 [WIDTH * (WIDTH - 1) / 2].

    Args:
        table: float64 [units, WIDTH].
        power: what their sizes are raised to.
    """
    moments = (table.T @ table)[np.triu_indices(WIDTH, 1)]
    compressed: np.ndarray = np.sign(moments) * np.abs(moments) ** power
    return compressed


def sum_up(features: Iterable[tuple[Key, np.ndarray]]) -> np.ndarray:
    """Sum up what families have, each with the same weight, int8 [LENGTH].

    Args:
        features: the key of a family, and its features, at most `LENGTH` of them.
    """
    vector = np.zeros(LENGTH)
    for key, own in features:
        size = np.linalg.norm(own)
        if size:
            rng = np.random.default_rng(key)
            places = rng.permutation(LENGTH)[: own.size]
            signs = 2 * rng.integers(0, 2, own.size) - 1
            vector[places] += signs * own / size
    largest = np.abs(vector).max()
    return np.rint(vector * (127 / largest if largest else 0)).astype(np.int8)


def compare_vectors(a: np.ndarray, b: np.ndarray) -> float:
    """Return how alike two vectors are: 1 for equal ones, about 0 for those of strangers.

    Args:
        a, b: [LENGTH], of any type.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    sizes = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / sizes if sizes else 0.0
