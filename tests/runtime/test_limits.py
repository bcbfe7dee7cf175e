"""Runs of models with limits on time and memory: past one, the run ends, and that is the answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lady_onnx as lady
from lady_onnx.errors import ExecutionError
from lady_onnx.pipeline import verification
from lady_onnx.runtime.limits import Limits, run_limited

from ..helpers.networks import perceptron


def endless() -> onnx.ModelProto:
    """A layer behind a loop of some hundred years."""
    layer = perceptron()
    turns = helper.make_tensor("turns", TensorProto.INT64, [], [2**60])
    truth = helper.make_tensor("truth", TensorProto.BOOL, [], [True])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Relu", ["held"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    graph = layer.graph
    last = graph.output[0].name
    graph.initializer.extend([turns, truth])
    graph.node.append(helper.make_node("Loop", ["turns", "truth", last], ["looped"], body=body))
    graph.output[0].name = "looped"
    return layer


def take_memory() -> int:
    held = np.ones(1 << 28)
    time.sleep(60)
    return held.size


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_and_errors_come_back() -> None:
    def fail() -> None:
        raise lady.LadyError("m.onnx: wrong")

    assert run_limited(lambda: np.arange(3).sum(), Limits(timeout=60), "m.onnx") == 3
    with pytest.raises(lady.LadyError, match=r"^m\.onnx: wrong$"):
        run_limited(fail, Limits(memory=4), "m.onnx")


@pytest.mark.parametrize(
    ("work", "limits", "message"),
    [
        (lambda: time.sleep(60), Limits(timeout=0.2), "m.onnx: running it took over 0.2 s"),
        (take_memory, Limits(memory=0.5), "m.onnx: running it took over 0.5 GB"),
        (die, Limits(timeout=60), "m.onnx: running it ended its process"),
    ],
)
def test_work_past_a_limit_is_ended(
    work: Callable[[], object], limits: Limits, message: str
) -> None:
    with pytest.raises(ExecutionError, match=message):
        run_limited(work, limits, "m.onnx")


@pytest.mark.parametrize("limits", [{"timeout": 0}, {"memory": -1}, {"timeout": float("nan")}])
def test_limits_are_above_zero(limits: dict[str, float]) -> None:
    model = perceptron()
    for judge in (lady.verify, lady.resync, lady.check):
        with pytest.raises(lady.LadyError, match="is a number above zero"):
            judge(model, model, **limits)


def test_a_model_that_does_not_end_is_left_to_the_proof() -> None:
    model = endless()
    shuffled = lady.permute(model, 1).graph
    with pytest.raises(lady.LadyError, match=r"took over 1 s"):
        lady.verify(model, shuffled, timeout=1)
    with pytest.raises(lady.LadyError, match=r"took over 1 s"):
        lady.resync(model, shuffled, verify="run", timeout=1)
    found = lady.resync(model, shuffled, timeout=1)
    assert (found.verdict, found.outputs_preserved, found.verified_by) == (
        "permuted",
        True,
        "proof",
    )
    assert found.verification_note is not None
    assert "took over 1 s" in found.verification_note


def test_a_run_within_limits_is_as_one_without() -> None:
    model = perceptron()
    shuffled = lady.permute(model, 1).graph
    # a process that has run onnxruntime itself is copied as well
    plain = lady.verify(model, shuffled)
    assert plain.equal
    assert lady.verify(model, shuffled, timeout=60, memory=8) == plain
    found = lady.resync(model, shuffled, timeout=60)
    assert (found.verified_by, found.verification_note) == ("run", None)


def test_large_models_are_left_to_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    model = perceptron()
    shuffled = lady.permute(model, 1).graph
    monkeypatch.setattr(verification, "MAX_RUN_BYTES", 10)
    found = lady.resync(model, shuffled)
    assert (found.verified_by, found.outputs_preserved) == ("proof", True)
    assert found.verification_note is not None
    assert "was not run" in found.verification_note
    assert lady.resync(model, shuffled, verify="run").verified_by == "run"
