"""Biases that may change without changing the function."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph

from ..helpers.builders import build
from ..helpers.law import trials
from ..helpers.networks import attention


@pytest.mark.parametrize("seed", trials(6))
def test_a_bias_of_keys_may_have_any_value(seed: int) -> None:
    model = attention(seed)
    rng = np.random.default_rng(seed)
    shuffled = lady.permute(model, seed).graph
    for size in (1, 8):
        suspect = shuffled.copy()
        array = suspect.array("bk").copy()
        array[rng.permutation(8)[:size]] += rng.standard_normal(size).astype(np.float32)
        suspect.replace("bk", array)
        assert lady.verify(model, suspect.to_model("")).equal
        found = lady.check(model, suspect)
        assert found.verdict == "rescaled", found.reason
        assert found.resync is not None
        assert [(f.kind, f.slot) for f in found.resync.integrity] == [("inert", "bk")]
        assert np.array_equal(found.resync.graph.array("bk"), load_graph(model).array("bk"))
        # the bias of queries is no such
        suspect = shuffled.copy()
        array = suspect.array("bq").copy()
        array[int(rng.integers(8))] += 1
        suspect.replace("bq", array)
        assert lady.check(model, suspect).verdict == "tampered"


@pytest.mark.parametrize("seed", trials(3))
def test_a_bias_of_values_is_taken_back_behind(seed: int) -> None:
    model = attention(seed)
    rng = np.random.default_rng(seed)
    shuffled = lady.permute(model, seed).graph
    for size in (1, 8):
        step = np.zeros(8, np.float32)
        step[rng.permutation(8)[:size]] = rng.standard_normal(size)
        suspect = shuffled.copy()
        suspect.replace("bv", suspect.array("bv") + step)
        suspect.replace("bo", suspect.array("bo") - step @ suspect.array("wo"))
        assert lady.verify(model, suspect.to_model("")).equal
        found = lady.check(model, suspect)
        assert found.verdict == "rescaled", found.reason
        assert found.resync is not None
        assert [(f.kind, f.slot) for f in found.resync.integrity] == [("shifted", "bv")]
        assert found.resync.exact
        # what takes back nine tenths changes the function
        suspect.replace("bo", shuffled.array("bo") - np.float32(0.9) * step @ suspect.array("wo"))
        assert not lady.check(model, suspect).accepted


@pytest.mark.parametrize("value", [np.inf, 3e38, 1e8, 1e3])
def test_a_bias_of_keys_that_drowns_the_scores_is_not_inert(value: float) -> None:
    """Beside such a number the scores are lost in rounding."""
    model = attention(0)
    suspect = load_graph(model).copy()
    array = suspect.array("bk").copy()
    array[1] = value
    suspect.replace("bk", array)
    found = lady.check(model, suspect)
    assert not found.accepted
    assert found.resync is not None
    assert [(f.kind, f.slot) for f in found.resync.integrity] == [("replaced", "bk")]


def two_biases(
    types: type, step: float, is_masked: bool
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A sum of two biases, and a copy with a step added to one and taken from the other.

    Between them a mask may choose a low number. Ten more layers follow.
    """
    rng = np.random.default_rng(0)

    def model(step: float) -> onnx.ModelProto:
        arrays = {"w": w, "first": first + types(step), "last": last - types(step), **more}
        if is_masked:
            arrays |= {"low": np.array(-40000, types), "zero": np.array(0, types)}
        return build(nodes, arrays, {"x": [2, 4]})

    w, first, last = rng.standard_normal((4, 6)), np.arange(20.0, 26), np.arange(25.0, 19, -1)
    w, first, last = (x.astype(types) for x in (w, first, last))
    more = {f"v{k}": np.eye(6, dtype=types) for k in range(10)}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(types))
    nodes = [helper.make_node("Cast", ["x"], ["z"], to=kind)]
    nodes.append(helper.make_node("MatMul", ["z", "w"], ["h"]))
    nodes.append(helper.make_node("Add", ["h", "first"], ["i"]))
    if is_masked:
        nodes.append(helper.make_node("Greater", ["h", "zero"], ["m"]))
        nodes.append(helper.make_node("Where", ["m", "i", "low"], ["j"]))
    nodes.append(helper.make_node("Add", ["j" if is_masked else "i", "last"], ["y0"]))
    nodes += [helper.make_node("MatMul", [f"y{k}", f"v{k}"], [f"y{k + 1}"]) for k in range(10)]
    nodes.append(helper.make_node("Cast", ["y10"], ["out"], to=TensorProto.FLOAT))
    return model(0), model(step)


@pytest.mark.parametrize("step", [2.0**3, 2.0**16, 2.0**20, 2.0**23])
def test_a_bias_takes_back_no_step_that_hides_the_rest(step: float) -> None:
    model, suspect = two_biases(np.float32, step, False)
    assert lady.check(model, suspect).accepted == (step == 8)


def test_what_a_mask_chose_is_not_taken_back() -> None:
    """In half precision a step shows beside the low number of a mask."""
    assert lady.check(*two_biases(np.float16, 64, False)).verdict == "rescaled"
    assert not lady.check(*two_biases(np.float16, 64, True)).accepted


def test_what_a_relu_stands_behind_takes_nothing_back() -> None:
    """Two biases that differ by what would cancel, if nothing stood between."""
    model = attention(0)
    suspect = load_graph(model).copy()
    step = np.ones(8, np.float32)
    suspect.replace("bq", suspect.array("bq") + step)
    suspect.replace("bo", suspect.array("bo") - step @ suspect.array("wo"))
    assert not lady.check(model, suspect).accepted
