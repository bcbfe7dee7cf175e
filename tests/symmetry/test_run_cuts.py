"""Cuts between labels that some fact tells apart."""

from __future__ import annotations

import numpy as np

from lady_onnx.symmetry.run_cuts import RunCuts


def list_cuts(cuts: RunCuts) -> list[int]:
    return np.flatnonzero(cuts.is_cut).tolist()


def test_a_set_of_labels_is_cut_at_its_ends() -> None:
    cuts = RunCuts(20, 4)
    cuts.cut_set(np.array([3, 4, 5, 6, 12]))
    assert list_cuts(cuts) == [0, 3, 7, 12, 13, 20]


def test_shifted_runs_are_cut_alike() -> None:
    cuts = RunCuts(20, 4)
    cuts.cut_pairs(np.arange(0, 8), np.arange(10, 18))
    cuts.cut_before(np.array([5]))
    cuts.spread()
    assert list_cuts(cuts) == [0, 5, 8, 10, 15, 18, 20]


def test_a_run_below_one_parent_stays_whole() -> None:
    cuts = RunCuts(20, 4)
    cuts.cut_pairs(np.arange(0, 8), np.repeat([10, 11], 4))
    assert list_cuts(cuts) == [0, 4, 8, 10, 11, 12, 20]


def test_short_runs_are_cut_into_single_labels() -> None:
    cuts = RunCuts(20, 4)
    cuts.cut_pairs(np.array([0, 1]), np.array([10, 11]))
    assert list_cuts(cuts) == [0, 1, 2, 10, 11, 12, 20]
