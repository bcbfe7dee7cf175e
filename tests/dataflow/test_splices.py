"""The law and tightness on random graphs in which every rule of the registry occurs."""

from __future__ import annotations

import math

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lady_onnx import rules

from ..helpers import splices
from ..helpers.law import check, examples

SPLICED = {(case.domain, case.operator) for case in splices.ALONE if case.can_be_spliced}
ELSEWHERE = {
    # newer than the opsets that onnxruntime runs
    *(("", name) for name in ("Swish", "SwiGLU", "CausalConvWithState")),
    # on GPUs alone: test_fused
    *(("com.microsoft", name) for name in ("NhwcConv", "NhwcFusedConv")),
    # no channels to permute
    *(("", name) for name in ("RandomNormal", "RandomUniform", "STFT")),
    # what onnxruntime runs on no CPU, or what reads no input: test_one_operator
    *({(case.domain, case.operator) for case in splices.ALONE} - SPLICED),
}


@examples(40)
@given(splices.spliced(), st.integers(0, 1000))
def test_random_graphs(grown: tuple[onnx.ModelProto, list[int], set[int]], seed: int) -> None:
    model, expected, _ = grown
    check(model, expected, seed)


@pytest.mark.long
def test_many_random_graphs_draw_every_rule() -> None:
    drawn: set[tuple[str, str]] = set()

    each = math.ceil(2000 / len(splices.POOL))
    for first in range(len(splices.POOL)):

        @examples(each)
        @given(splices.spliced(6, first), st.integers(0, 1000))
        def run(grown: tuple[onnx.ModelProto, list[int], set[int]], seed: int) -> None:
            model, expected, used = grown
            check(model, expected, seed)
            drawn.update((n.domain, n.op_type) for n in model.graph.node)
            for number in used:
                drawn.update(splices.operators(number))

        run()
    deliberate = {
        key
        for key, rule in rules.REGISTRY.items()
        if (rule.order.__doc__ or "").startswith("pinned: ")
    }
    missing = rules.REGISTRY.keys() - drawn - deliberate - ELSEWHERE
    assert not missing


def test_every_rule_can_be_drawn() -> None:
    drawn = {
        operator for number in range(len(splices.POOL)) for operator in splices.operators(number)
    }
    deliberate = {
        key
        for key, rule in rules.REGISTRY.items()
        if (rule.order.__doc__ or "").startswith("pinned: ")
    }
    missing = rules.REGISTRY.keys() - drawn - deliberate - ELSEWHERE
    assert not missing
