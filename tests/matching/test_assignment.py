"""The best assignment, found among the likeliest pairs, is as good as the one found among all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from lady_onnx.matching.evidence.assignment import assign_rows, choose_best_columns
from lady_onnx.matching.evidence.exact import match_exactly
from lady_onnx.matching.evidence.probabilities import compute_certainties, find_runners_up
from lady_onnx.matching.evidence.scores import compute_log_likelihoods
from lady_onnx.matching.evidence.sparse_assignment import (
    EQUAL_PRICE_TOLERANCE,
    assign_sparsely,
    settle_prices,
)
from lady_onnx.numerics import assign_optimally

SIZE = 1100


@pytest.mark.parametrize("maximize", [True, False])
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 6), st.integers(0, 3)).map(lambda z: (z[0], sum(z))),
        elements=st.integers(-50, 50).map(lambda k: np.inf if k > 45 else float(k)),
    )
)
@example(np.array([[np.inf, 1], [np.inf, 2]], np.float32))
def test_what_is_common_to_a_column_decides_nothing(maximize: bool, table: np.ndarray) -> None:
    """Square tables, and others; of costs, some pairs may be forbidden."""
    if maximize:
        table = np.minimum(table, 50)
    try:
        rows, best = linear_sum_assignment(table, maximize=maximize)
    except ValueError:
        with pytest.raises(ValueError, match="infeasible"):
            assign_optimally(table, maximize)
        return
    assert table[rows, assign_optimally(table, maximize)].sum() == table[rows, best].sum()


@pytest.mark.parametrize("assign", [assign_rows, choose_best_columns])
def test_a_score_that_is_no_number_is_the_worst(assign: Callable[[np.ndarray], np.ndarray]) -> None:
    nan = np.nan
    assert assign(np.array([[nan, 1.0], [1.0, nan]])).tolist() == [1, 0]
    assert assign(np.array([[nan, 1.0, 0.0], [0.0, nan, 1.0], [2.0, 1.0, 0.0]])).tolist() == [
        1,
        2,
        0,
    ]


def test_copies_whose_rows_begin_with_zeros_of_both_signs_are_exact() -> None:
    rows = np.float32([[0, 1], [-0.0, 2], [0, 3], [-0.0, 1]])
    order = np.array([3, 1, 0, 2])
    found = match_exactly([rows], [rows[order]])
    assert found is not None
    assert np.array_equal(order[found[0]], np.arange(4))
    assert np.isinf(found[1]).all()
    assert match_exactly([rows], [np.abs(rows[order])]) is None


def _rows(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """Units of two models with five weights each, and the noise between them."""
    x = rng.standard_normal((SIZE, 5))
    noise = {"copies": 0.1, "noisy copies": 0.5, "others": 1.0, "clones": 0.1, "outliers": 0.5}[
        kind
    ]
    if kind == "clones":
        x[: SIZE // 3] = 0
    if kind == "outliers":
        x *= np.exp(1.5 * rng.standard_normal((SIZE, 1)))
    y = (
        rng.standard_normal(x.shape)
        if kind == "others"
        else x + noise * rng.standard_normal(x.shape)
    )
    if kind == "clones":
        y[: SIZE // 3] = 0
    return x, y[rng.permutation(SIZE)], noise


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["copies", "noisy copies", "others", "clones", "outliers"])
def test_a_sparse_assignment_is_the_best_one(kind: str, dtype: type) -> None:
    x, y, noise = _rows(kind, np.random.default_rng(0))
    scores = compute_log_likelihoods(
        (x / noise).astype(np.float32), (y / noise).astype(np.float32)
    ).astype(dtype)
    found = assign_sparsely(scores, choose_best_columns(scores))
    # of many alike too many pairs are as good as each other: then all are looked at
    assert found is not None or kind == "clones"
    found = assign_rows(scores)
    assert np.array_equal(np.sort(found), np.arange(SIZE))
    rows, best = linear_sum_assignment(scores, maximize=True)
    most, least = (scores[rows, c].sum(dtype=np.float64) for c in (best, found))
    # prices are equal that differ by a ten-thousandth of the spread of a unit's likeliest partners
    top = np.sort(scores, axis=1)[:, -16:]
    assert most - least <= 2 * EQUAL_PRICE_TOLERANCE * SIZE * float(
        np.median(top[:, -1] - top[:, 0])
    )


def test_prices_settle_where_rows_want_the_same() -> None:
    """Two rows that like one column best share the next ones so that the sum is largest."""
    worth = np.array([5.0, 4.0, 5.0, 1.0, 3.0, 3.0])
    rows, columns = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 2, 1, 2])
    settled = settle_prices(rows, columns, worth, np.zeros(3), 1e-9)
    assert settled is not None
    assert settled[0].tolist() == [1, 0, 2]


def test_wide_tables_are_balanced_without_what_counts_for_nothing() -> None:
    """A match is as probable whether all of the table is there or only the odds that count."""
    x, y, noise = _rows("noisy copies", np.random.default_rng(1))
    whole = compute_log_likelihoods((x / noise).astype(np.float32), (y / noise).astype(np.float32))
    match = linear_sum_assignment(whole, maximize=True)[1]
    expected = np.exp(whole - whole.max(1, keepdims=True))
    for _ in range(20):
        expected /= expected.sum(0)
        expected /= expected.sum(1, keepdims=True)
    for scores in (whole, whole.astype(np.float32)):
        assert np.allclose(
            compute_certainties(scores, match), expected[np.arange(SIZE), match], atol=0.02
        )


def test_runners_up_are_found_part_by_part() -> None:
    scores = np.random.default_rng(0).standard_normal((600, 600))
    match = scores.argmax(1)
    second, margin = find_runners_up(scores, match)
    order = np.argsort(scores, axis=1)
    assert np.array_equal(second, order[:, -2])
    assert np.array_equal(margin, scores[np.arange(600), match] - scores[np.arange(600), second])
