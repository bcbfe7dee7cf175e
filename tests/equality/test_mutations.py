"""A quick run of the measure of `benchmarks/mutations.py`, and what it must see."""

from __future__ import annotations

import functools

import onnx
import pytest
from onnx import onnx_ml_pb2

import lady_onnx as lady
from lady_onnx.pipeline.checking import Check

from ..helpers import bases, messages, oracle, special_models, trials, workers

SEED = 1
INDICES = sorted([*range(0, 2 * len(messages.KINDS), 2), *range(1, 80, 2)])
"""The even trials take all kinds of fields in turn, the odd ones those that tell."""


WEIGHTS = [k for k in range(1, 1000, 2) if trials.kind_of(k) == ("TensorProto", "raw_data")]
"""Trials that change elements of weights, which brings no process down."""


@functools.cache
def few() -> dict[str, list[bases.Base]]:
    return {"special": [b for b in bases.pool(node_tests=False) if b.family == "special"]}


@functools.cache
def quick_run() -> tuple[trials.Trial, ...]:
    return tuple(sorted(workers.run_trials(INDICES, SEED), key=lambda t: t.index))


def test_no_mutant_that_computes_something_else_is_accepted() -> None:
    assert [str(t) for t in quick_run() if t.wrong] == []
    assert sum(t.state == oracle.DIFFERENT for t in quick_run()) > len(INDICES) / 6


def test_no_mutant_raises_anything_but_the_error_of_the_project() -> None:
    assert [str(t) for t in quick_run() if t.verdict == trials.CRASHED] == []


def test_every_field_of_every_message_is_changed() -> None:
    found = set()

    def walk(descriptors: dict) -> None:
        for d in descriptors.values():
            found.add(d)
            walk(d.nested_types_by_name)

    walk(onnx_ml_pb2.DESCRIPTOR.message_types_by_name)
    # an operator set is a file of its own
    fields = {
        f"{d.full_name.removeprefix('onnx.')}.{f.name}"
        for d in found
        for f in d.fields
        if "Operator" not in d.name
    }
    assert fields <= {".".join(k) for k in messages.KINDS}
    # trials that bring their process down are counted too
    assert [t.index for t in quick_run()] == INDICES
    assert {t.kind for t in quick_run() if t.base} == {".".join(k) for k in messages.KINDS}


def test_a_trial_is_the_same_again() -> None:
    first, second = ([trials.run_trial(few(), SEED, k) for k in WEIGHTS] for _ in range(2))
    assert first == second
    assert len({str(t) for t in first}) == len(WEIGHTS)


def test_a_gate_that_lets_everything_pass_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lady, "check", lambda reference, suspect: Check("identical", "", None))
    assert any(trials.run_trial(few(), SEED, k).wrong for k in WEIGHTS)


def test_an_error_of_another_kind_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(reference: object, suspect: object) -> Check:
        raise IndexError("beyond the end")

    monkeypatch.setattr(lady, "check", fail)
    found = trials.run_trial(few(), SEED, WEIGHTS[0])
    assert found.verdict == trials.CRASHED
    assert "beyond the end" in found.reason


def test_the_oracle_tells_what_two_random_runs_do_not() -> None:
    """A word beyond the first few, an arm for large values, and a size that is odd."""
    for build, kind, name in (
        (special_models.words, "int64_data", "table"),
        (special_models.masked, "float_data", "mask"),
    ):
        reference = build()
        suspect = messages.copied(reference)
        tensor = next(t for t in suspect.graph.initializer if t.name == name)
        array = onnx.numpy_helper.to_array(tensor).copy()
        flat = array.reshape(-1)
        flat[-1 if kind == "int64_data" else 1] = 0
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
        sessions = [oracle.opened(m.SerializeToString()) for m in (reference, suspect)]
        lengths = [n for t in reference.graph.initializer for n in t.dims]
        assert (
            oracle.judge(*sessions, list(oracle.samples(sessions[0], (), lengths, 0)))[0]
            == oracle.DIFFERENT
        )
        assert (
            oracle.judge(
                sessions[0], sessions[0], list(oracle.samples(sessions[0], (), lengths, 0))
            )[0]
            == oracle.EQUAL
        )
