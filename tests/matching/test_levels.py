"""Groups of three levels: key heads, value heads that share one, and dimensions inside these."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lady_onnx as lady

from ..helpers import recurrent_cases
from ..helpers.one_operator import OneOperator

CASES = [
    case
    for case in recurrent_cases.CASES
    if case.attributes.get("kv_num_heads", 0) > case.attributes.get("q_num_heads", 0)
    or case.operator == "GatedDeltaNet"
]


def add_noise(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with a little noise on what is behind the operator, and on its projections."""
    rng = np.random.default_rng(0)
    noisy = onnx.ModelProto()
    noisy.CopyFrom(model)
    for tensor in noisy.graph.initializer:
        if tensor.name.startswith(("a", "last")):
            array = numpy_helper.to_array(tensor)
            array = (array + 1e-3 * rng.standard_normal(array.shape)).astype(array.dtype)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return noisy


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_units_of_three_levels_are_put_back(case: OneOperator) -> None:
    model, _ = case.build()
    assert max(len(g.parents) for g in lady.find_groups(model).groups) > 1
    for seed in range(2):
        shuffled = lady.permute(model, seed).model
        assert lady.resync(model, shuffled, verify="none").exact
        # Where one projection makes all parts, only copies without noise are put back so far.
        if case.operands[1] is not None:
            found = lady.resync(model, add_noise(shuffled), verify="none")
            assert found.max_weight_difference < 0.01
