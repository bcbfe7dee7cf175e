"""The one law: permuting any group leaves the outputs as they are, up to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, settings
from onnx import TensorProto

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.nodes import list_nodes
from lady_onnx.runtime.sampling import draw_telling_samples
from lady_onnx.runtime.sessions import open_session
from lady_onnx.runtime.source import INPUT_SCALES

HALF_STEPS = {TensorProto.FLOAT16: 2.0**-11, TensorProto.BFLOAT16: 2.0**-8}
"""How far rounding to a type moves a number, relatively."""


def examples(count: int) -> settings:
    return settings(
        max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
    )


def trials(first: int, more: int = 200) -> list[Any]:
    """Numbers of seeded trials: the first ones always, so many more with the marker `long`."""
    return [
        *range(first),
        *(pytest.param(k, marks=pytest.mark.long) for k in range(first, first + more)),
    ]


def holds(model: onnx.ModelProto, seed: int) -> bool:
    """Does the law hold for one random element of the symmetry?"""
    found = lady.verify(model, lady.permute(model, seed).model, samples=2)
    # what rounding does is asked at the size of the inputs that show it: a whole number made of a
    # huge one is nothing else
    return all(
        r.equal
        or r.max_rel
        <= 10 * sensitivity(model, INPUT_SCALES.get(r.kind.removeprefix("floats: "), 1))
        for r in found.runs
    )


def sensitivity(model: onnx.ModelProto | str | Path, size: float = 1.0) -> float:
    """How far the outputs move, relatively, when inputs of a size change by one part in a million.

    Near a pole of a tangent, or where a value is rounded to an integer on the way, another order of
    a sum may do the same. Where values are rounded to half precision on the way, it may move them
    by a step of that: inputs move as far.
    """
    graph = load_graph(model)
    step = max([1e-6, *(HALF_STEPS.get(t, 0) for t in list_cast_types(graph.model))])
    running = open_session(graph)
    generator = np.random.default_rng(0)
    moves = [0.0]
    for plain in draw_telling_samples(graph, running, 4, 0):
        sample = {
            k: (v * size).astype(v.dtype) if v.dtype.kind == "f" else v for k, v in plain.items()
        }
        moved = {
            k: (v * (1 + step * generator.standard_normal(v.shape))).astype(v.dtype)
            if v.dtype.kind == "f"
            else v
            for k, v in sample.items()
        }
        pairs = zip(running.run(None, sample), running.run(None, moved), strict=True)
        for x, y in pairs:
            known = np.isfinite(x) & np.isfinite(y)
            moves.append(
                float(
                    np.abs(x[known] - y[known]).max(initial=0)
                    / max(np.abs(x[known]).max(initial=0), 1e-30)
                )
            )
    return max(moves)


def list_cast_types(model: onnx.ModelProto) -> list[int]:
    """List the element types that values are cast to."""
    casts = [a for n in list_nodes(model) if n.op_type == "Cast" for a in n.attribute]
    return [a.i for a in casts if a.name == "to"]


def check(model: onnx.ModelProto, expected: list[int], seed: int) -> None:
    symmetry = lady.find_groups(model)
    assert sorted(g.size for g in symmetry.groups) == expected
    if expected:
        assert holds(model, seed)
