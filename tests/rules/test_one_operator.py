"""Operators one by one: the groups that the network around each must have, and the law."""

from __future__ import annotations

import pytest

import lady_onnx as lady

from ..helpers.one_operator import OneOperator
from ..helpers.splices import ALONE


@pytest.mark.parametrize("case", ALONE, ids=lambda case: case.label)
def test_all_orders_that_are_free_are_found(case: OneOperator) -> None:
    model, sizes = case.build()
    symmetry = lady.find_groups(model)
    assert sorted(group.size for group in symmetry.groups) == sizes
    assert not symmetry.unknown_operators
    if case.runs and sizes:
        assert lady.verify(model, lady.permute(model, 3).model, samples=2).equal
