"""Folding of runs: labels that every fact treats alike, kept as two labels a run.

Units mostly lie side by side, and what a fact says of one it says of its neighbours. Any
permutation of the places of such runs maps all facts onto themselves, so two places tell as much as
thousands. The cost of the stages that follow is then one of the graph, not of its widths. `Fold`
also has the way back, from the places that are kept to all.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..dataflow.engine import Analysis
from ..dataflow.labels.facts import Facts
from ..dataflow.labels.roles import LabelRun, Role, RolePair, lay_along, to_dense
from ..groups.model import Slot
from .run_cuts import RunCuts

MIN_RUN_LABELS = 8
"""Shorter runs stay as they are."""
MAX_TABLE_LABELS = 1 << 22
"""Up to here, kept labels are numbered by a table over all labels; beyond it, by search."""

FoldedPlaces = tuple[np.ndarray, np.ndarray]
"""The positions of an axis that are kept, and for each of them the length of its run.

The length is negative for the second position of a run.
"""


# no `LadyError`: it never leaves the package, as `finder` then keeps all labels
class UnfoldingError(Exception):
    """The units of a group do not lie as a fold has them."""


@dataclass(frozen=True)
class Fold:
    """The facts of a graph, folded, and the way back.

    Attributes:
        analysis: the facts, on the labels that are kept.
        length: int64 [labels], for every kept label how many labels its run has, 1 where it is not
            folded.
        is_second: bool [labels], whether a kept label is the second of its run. It stands for all
            others but the first.
        places: the positions that are kept, for every weight and axis that is folded.
    """

    analysis: Analysis
    length: np.ndarray
    is_second: np.ndarray
    places: dict[tuple[str, int], FoldedPlaces]

    def unfold_slot(
        self, slot: Slot, which: np.ndarray, distance: np.ndarray, shared: dict[tuple, np.ndarray]
    ) -> Slot:
        """Unfold a slot to all units.

        Args:
            slot: the slot over the units that are kept.
            which: int64 [units], for each real unit the kept one that stands for it.
            distance: int64 [units], how far behind that one it lies.
            shared: indices that were made before; of equal ones only one is kept.

        Raises:
            UnfoldingError: the positions do not follow the runs.
        """
        within = tuple(
            [(a, self._unfold_index(slot.initializer, a, p[None])[0]) for a, p in slot.within]
        )
        known = self.places.get((slot.initializer, slot.axis))
        if known is None:
            if which.size > len(slot.index):
                raise UnfoldingError
            index = slot.index
        elif which.size > len(slot.index):
            index = known[0].take(slot.index).take(which, 0) + distance[:, None]
        else:
            index = self._unfold_index(slot.initializer, slot.axis, slot.index)
        index = shared.setdefault((index.shape, index.tobytes()), index)
        return Slot(slot.initializer, slot.axis, index, within)

    def _unfold_index(self, weight: str, axis: int, index: np.ndarray) -> np.ndarray:
        """Unfold positions where whole runs are meant, int64 [units, kept], to all positions.

        Of `w` runs of `n` labels side by side, a row has the `w` first positions, and then the `w`
        second ones. The result has the `w` first, the `w` second, ..., the `w` last ones.

        Raises:
            UnfoldingError: the positions of some unit do not lie so.
        """
        known = self.places.get((weight, axis))
        if known is None:
            return index
        places, length = known
        if (length[index] != length[index[0]]).any():
            raise UnfoldingError
        real, spans = places[index], length[index[0]]
        pieces, k = [], 0
        while k < spans.size:
            # the same place of several runs, then the next place of them all
            n = int(spans[k])
            if n < 0:
                raise UnfoldingError
            width = 1
            if n > 1:
                width = next((j for j, m in enumerate(spans[k:]) if m != n), spans.size - k)
            block = real[:, k : k + width, None].transpose(0, 2, 1)
            if n > 1:
                second = slice(k + width, k + 2 * width)
                if (spans[second] != -n).any() or (
                    real[:, second] != real[:, k : k + width] + 1
                ).any():
                    raise UnfoldingError
                block = block + np.arange(n)[None, :, None]
                k += width
            pieces.append(block.reshape(len(index), -1))
            k += width
        return np.concatenate(pieces, 1)


class _KeptLabels:
    """The labels that a fold keeps, with new numbers from 0 on.

    Attributes:
        kept: int64 [kept], the labels, ascending.
        length: int64 [kept], how many labels the run of each has, 1 where it is not folded.
        is_second: bool [kept], whether it is the second of its run.
        is_kept: bool [labels], whether a label is kept.
    """

    def __init__(self, is_cut: np.ndarray, min_run: int):
        """Keep two labels of every run, and all labels of runs shorter than `min_run`."""
        count = is_cut.size - 1
        start = np.flatnonzero(is_cut[:-1])
        size = np.diff(np.r_[start, count])
        kept = np.repeat(start, np.where(size < min_run, size, 2))
        run = np.searchsorted(start, kept, side="right") - 1
        # to the start of its run, the place of each label inside the run
        kept += np.arange(kept.size) - np.searchsorted(kept, start)[run] if kept.size else kept
        self.kept = kept
        self.length = np.where(size < min_run, 1, size)[run]
        self.is_second = (self.length > 1) & (kept > start[run])
        self.is_kept = np.zeros(count, bool)
        self.is_kept[kept] = True
        self._ordered = kept.tolist()
        self._table = np.cumsum(self.is_kept) - 1 if count < MAX_TABLE_LABELS else None

    def number(self, labels: np.ndarray) -> np.ndarray:
        """Return the new numbers of kept labels; addresses stay as they are."""
        # addresses are negative, and there may be more of them than labels
        found = (
            np.searchsorted(self.kept, labels)
            if self._table is None
            else self._table[np.maximum(labels, 0)]
        )
        return np.where(labels < 0, labels, found) if labels.size and labels.min() < 0 else found

    def number_run(self, run: LabelRun) -> np.ndarray:
        """Return the new numbers of the kept labels of a run."""
        return np.arange(
            bisect.bisect_left(self._ordered, run.start),
            bisect.bisect_left(self._ordered, run.start + run.size),
        )

    def number_pairs(self, pair: RolePair) -> tuple[np.ndarray, np.ndarray]:
        """Return the new numbers of pairs of labels of which the first is kept."""
        if isinstance(pair[0], LabelRun):
            return self.number_run(pair[0]), self.number_run(pair[1])
        # paired runs were cut alike, and single labels cut out: the other label is kept as well
        here = self.is_kept[pair[0]]
        return self.number(pair[0][here]), self.number(pair[1][here])

    def number_set(self, labels: Role) -> np.ndarray:
        """Return the new numbers of those of a set of labels that are kept, without addresses."""
        if isinstance(labels, LabelRun):
            return self.number_run(labels)
        labels = labels[labels >= 0]
        return self.number(labels[self.is_kept[labels]])

    def list_lengths(self, numbers: np.ndarray) -> np.ndarray:
        """List the lengths of the runs of kept labels, negative for the second label of a run."""
        return np.where(self.is_second[numbers], -self.length[numbers], self.length[numbers])


def keep_runs(analysis: Analysis) -> Fold:
    """Keep the facts as they are, with nothing folded."""
    count = analysis.facts.label_count
    return Fold(analysis.expand_runs(), np.ones(count, np.int64), np.zeros(count, bool), {})


def fold_runs(analysis: Analysis, min_run: int = MIN_RUN_LABELS) -> Fold:
    """Fold the facts of a graph to two labels of every run that they treat alike.

    Args:
        analysis: the facts.
        min_run: runs of fewer labels stay as they are.
    """
    facts = analysis.facts
    cuts = RunCuts(facts.label_count, min_run)
    # labels of two births have two colours, even where they are consecutive
    cuts.cut_before(np.array(facts.births, np.int64))
    equal = [cuts.cut_pairs(a, b) for a, b in facts.equal]
    parents = [cuts.cut_pairs(c, p) for c, p in facts.parents]
    for labels in itertools.chain((p for p, _, _ in facts.pins), facts.read):
        cuts.cut_set(labels)
    touched = facts.split_touches()
    for _, labels in touched:
        cuts.cut_set(labels)
    lines = {w: cuts.cut_weight(roles) for w, roles in analysis.weights.items()}
    cuts.spread()
    kept = _KeptLabels(cuts.is_cut, min_run)
    weights, places = _fold_weights(analysis, kept, lines)
    folded = Facts(
        label_count=kept.kept.size,
        births=np.searchsorted(kept.kept, facts.births).tolist(),
        equal=[kept.number_pairs(p) for p in equal],
        parents=[kept.number_pairs(p) for p in parents],
        pins=[(kept.number_set(p), reason, node) for p, reason, node in facts.pins],
        read=[kept.number_set(r) for r in facts.read],
        touched=[(what, kept.number_set(labels)) for what, labels in touched],
    )
    folded_analysis = replace(analysis, facts=folded, weights=weights)
    return Fold(folded_analysis, kept.length, kept.is_second, places)


def _fold_weights(
    analysis: Analysis, kept: _KeptLabels, lines: Mapping[str, Mapping[int, np.ndarray]]
) -> tuple[dict[str, list[Role]], dict[tuple[str, int], FoldedPlaces]]:
    """Fold the roles of all weights to the labels that are kept, and note which places these are.

    Args:
        analysis: the facts.
        kept: the labels that are kept.
        lines: by weight and axis the labels of one line along the axis, where it may be folded.
    """
    places: dict[tuple[str, int], FoldedPlaces] = {}
    weights: dict[str, list[Role]] = {}
    for weight, roles in analysis.weights.items():
        if all(isinstance(r, LabelRun) for r in roles):
            weights[weight] = []
            for role in roles:
                assert isinstance(role, LabelRun)
                at = kept.number_run(role)
                weights[weight].append(lay_along(at, role.axis, role.rank))
                if at.size < role.size:
                    places[weight, role.axis] = kept.kept[at] - role.start, kept.list_lengths(at)
            continue
        arrays = [to_dense(r) for r in roles]
        for axis, line in lines[weight].items():
            stay = np.flatnonzero(kept.is_kept[line])
            if stay.size == line.size:
                continue
            places[weight, axis] = stay, kept.list_lengths(kept.number(line[stay]))
            arrays = [r if r.shape[axis] == 1 else r.take(stay, axis) for r in arrays]
        weights[weight] = [kept.number(r) for r in arrays]
    return weights, places
