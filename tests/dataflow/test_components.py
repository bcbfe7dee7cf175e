"""Connected components, held against scipy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lady_onnx.dataflow.labels.roles import find_components

from ..helpers.law import examples


@examples(100)
@given(
    st.integers(1, 40).flatmap(
        lambda n: st.tuples(
            st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))
        )
    )
)
def test_components_are_those_of_scipy(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    size, pairs = drawn
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(a.size), (a, b)), shape=(size, size))
    expected = connected_components(graph, directed=False)[1]
    assert find_components(a, b, size).tolist() == expected.tolist()


def test_a_long_chain_in_any_order() -> None:
    order = np.random.default_rng(0).permutation(100_000)
    assert not find_components(order[:-1], order[1:], order.size).any()
