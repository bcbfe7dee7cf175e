"""The one law: permuting any group leaves the outputs as they are, up to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, settings

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.runtime.sampling import draw_telling_samples
from lady_onnx.runtime.sessions import open_session
from lady_onnx.runtime.source import INPUT_SCALES


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

    Near a pole of a tangent, or where a value is rounded on the way, another order of a sum may do
    the same.
    """
    graph = load_graph(model)
    running = open_session(graph)
    generator = np.random.default_rng(0)
    moves = [0.0]
    for plain in draw_telling_samples(graph, running, 4, 0):
        sample = {
            k: (v * size).astype(v.dtype) if v.dtype.kind == "f" else v for k, v in plain.items()
        }
        moved = {
            k: (v * (1 + 1e-6 * generator.standard_normal(v.shape))).astype(v.dtype)
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


def check(model: onnx.ModelProto, expected: list[int], seed: int) -> None:
    symmetry = lady.find_groups(model)
    assert sorted(g.size for g in symmetry.groups) == expected
    if expected:
        assert holds(model, seed)
