"""Biases that may change without changing the function."""

from __future__ import annotations

import numpy as np
import pytest

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph

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


def test_what_a_relu_stands_behind_takes_nothing_back() -> None:
    """Two biases that differ by what would cancel, if nothing stood between."""
    model = attention(0)
    suspect = load_graph(model).copy()
    step = np.ones(8, np.float32)
    suspect.replace("bq", suspect.array("bq") + step)
    suspect.replace("bo", suspect.array("bo") - step @ suspect.array("wo"))
    assert not lady.check(model, suspect).accepted
