"""The suspect's weights as the reference's own file has them, whatever was done to the suspect."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

import lady_onnx as lady
from lady_onnx.errors import LadyError
from lady_onnx.graph.loading import load_graph

from ..helpers import disguises
from ..helpers.law import examples
from ..helpers.networks import perceptron, weights, with_weights
from ..helpers.strategies import graphs


@examples(60)
@given(graphs(), st.integers(0, 2**32))
def test_weights_come_back_in_the_reference_s_own_form(
    grown: tuple[onnx.ModelProto, list[int]], seed: int
) -> None:
    """After any order of the units, and rewrites by other tools: all that is known is right."""
    model, rng = grown[0], np.random.default_rng(seed)
    try:
        moved = lady.permute(model, seed % 1000).model
    except LadyError:
        moved = model  # it has no groups
    suspect, _ = disguises.disguise(moved, rng)
    found = lady.resync(model, suspect, verify="none")
    if found.verdict not in ("identical", "permuted", "rescaled") or found.stripped:
        return
    ours = load_graph(model)
    alike = {id_ for units in found.interchangeable.values() for u in units for id_ in u}
    for name, array in found.weights.items():
        own = ours.array(name)
        assert array.shape == own.shape
        if own.dtype.kind != "f" or alike:
            continue
        is_known = ~np.isnan(array)
        size = np.abs(own).max(initial=0)
        assert np.abs(array - own)[is_known].max(initial=0) <= 1e-4 * size


def test_units_that_were_not_found_are_not_known() -> None:
    """What stands in their places is whatever is likest to the reference."""
    model = perceptron((20, 60, 60), seed=0)
    rng = np.random.default_rng(1)
    lost = {
        n: np.where(np.arange(a.shape[-1]) < 30, a, rng.standard_normal(a.shape)).astype(np.float32)
        for n, a in weights(model).items()
        if n in ("w0", "b0")
    }
    lost["w1"] = weights(model)["w1"].copy()
    lost["w1"][30:] = rng.standard_normal((30, 60))
    found = lady.resync(
        model, lady.permute(with_weights(model, {**weights(model), **lost}), 1).model, verify="none"
    )
    blank = np.isnan(found.weights["w0"]).all(0)
    assert not blank[:30].any()
    assert blank[30:].mean() > 0.9
    assert np.array_equal(found.weights["w0"][:, :30], weights(model)["w0"][:, :30])


def test_weights_are_never_those_of_the_reference() -> None:
    """A repair writes the reference's values into the result, and not into these."""
    model = perceptron((20, 60, 60), seed=0)
    changed = {n: a.copy() for n, a in weights(model).items()}
    changed["w0"][:, 7] *= 3
    suspect = with_weights(model, changed)
    found = lady.resync(model, suspect, verify="none", repair=True)
    assert found.repaired
    assert np.array_equal(found.weights["w0"], changed["w0"])
    assert not np.array_equal(found.graph.array("w0"), changed["w0"])


@pytest.mark.parametrize("seed", range(3))
def test_removed_and_inserted_units_keep_the_reference_s_shapes(seed: int) -> None:
    model = perceptron((20, 60, 60), seed=0)
    old = weights(model)
    wide = {
        "w0": np.concatenate([old["w0"], np.zeros((20, 3), np.float32)], 1),
        "b0": np.concatenate([old["b0"], np.ones(3, np.float32)]),
        "w1": np.concatenate([old["w1"], np.zeros((3, 60), np.float32)], 0),
    }
    suspect = onnx.ModelProto()
    suspect.CopyFrom(model)
    for tensor in suspect.graph.initializer:
        if tensor.name in wide:
            tensor.CopyFrom(numpy_helper.from_array(wide[tensor.name], tensor.name))
    found = lady.resync(model, lady.permute(suspect, seed).model, verify="none")
    for name in ("w0", "w1", "b0"):
        assert np.array_equal(found.weights[name], old[name])
