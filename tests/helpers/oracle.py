"""onnxruntime's word on whether two models compute the same, on inputs made to tell.

Nothing here is shared with what it judges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from ml_dtypes import bfloat16, finfo

Sample = dict[str, Any]
EQUAL, DIFFERENT, UNDECIDED, INVALID = "same", "different", "undecided", "invalid"
TELLING = 1e-4
"""Outputs that differ by more, of the largest value of the output, differ."""
NUDGE = 1e-6
"""By this share of themselves inputs are moved, to see how steep a model is."""
NUDGE_OF_HALVES = 2.0**-11
"""The same where a model rounds to half precision on the way.

A runtime may leave that rounding out between two operators.
"""
STEEP = 10
"""A difference of as many times what such a nudge does is no difference."""
DTYPES = {
    "float": np.float32,
    "double": np.float64,
    "float16": np.float16,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint64": np.uint64,
    "uint32": np.uint32,
    "uint16": np.uint16,
    "uint8": np.uint8,
    "bool": np.bool_,
    "string": np.object_,
    "bfloat16": bfloat16,
}
SIZES = (2, 3, 7, 1, 16)
"""Of symbolic axes, in turn."""
COUNT = 14
"""So many samples a model is run on, and those that come with it."""


def opened(model: bytes | Path, is_optimised: bool = False) -> Any:
    """A session, with everything optimised or nothing; None where onnxruntime refuses the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if is_optimised else levels.ORT_DISABLE_ALL
    )
    source = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - whatever it says, it does not run
        return None


# ---- inputs


def samples(
    session: Any, examples: Sequence[Mapping[str, Any]], lengths: Sequence[int], seed: int
) -> Iterator[Sample]:
    """Inputs made to tell.

    Args:
        session: of the reference.
        examples: inputs on which it is known to run.
        lengths: of tables, whose rows are read by number.
        seed: of what is random.
    """
    rng = np.random.default_rng(seed)
    wanted = session.get_inputs()
    for example in examples:
        yield dict(example)
        yield {n: _like(v, rng, k) for k, (n, v) in enumerate(example.items())}
        for k in range(6):
            # one input changes alone: the others are what it is run with
            name = sorted(example)[k % len(example)] if example else None
            yield {n: _like(v, rng, k) if n == name else v for n, v in example.items()}
    if all(i.type.startswith("tensor(") and i.type[7:-1] in DTYPES for i in wanted):
        limits = [*sorted({n for n in lengths if n > 1})[-3:], 2]
        for k in range(COUNT if wanted else 1):
            size: dict[Any, int] = {}
            yield {i.name: _drawn(i, k, size, limits, rng) for i in wanted}


def _drawn(
    value: Any, k: int, size: dict[Any, int], limits: Sequence[int], rng: np.random.Generator
) -> np.ndarray:
    shape = [
        d if isinstance(d, int) else size.setdefault(d or len(size), SIZES[k % len(SIZES)])
        for d in value.shape
    ]
    return _filled(DTYPES[value.type[7:-1]], shape, k, limits, rng)


def _filled(
    kind: Any, shape: Sequence[int], k: int, limits: Sequence[int], rng: np.random.Generator
) -> np.ndarray:
    count = int(np.prod(shape))
    dtype = np.dtype(kind)
    if dtype.kind == "O":
        return rng.choice(np.array(["a", "b", "c", "p", "q", "Other", ""], object), shape)
    if dtype.kind == "b":
        return [
            rng.random(shape) < 0.5,
            np.ones(shape, bool),
            np.zeros(shape, bool),
            _holes(shape, rng),
        ][k % 4]
    if dtype.kind in "iu":
        limit = limits[k % len(limits)]
        along = np.arange(count).reshape(shape)
        ways = [
            rng.integers(0, limit, shape),
            along % limit,
            (limit - 1 - along) % limit,
            rng.integers(0, 2, shape),
        ]
        ways += [
            rng.integers(-3 if dtype.kind == "i" else 0, 4, shape),
            rng.integers(0, 100, shape),
        ]
        return ways[k // len(limits) % len(ways)].astype(dtype)
    normal = rng.standard_normal(shape)
    ways = [
        normal,
        3 * normal,
        _holes(shape, rng).astype(float),
        0.1 * normal,
        30 * normal,
        np.abs(normal),
        -np.abs(normal),
    ]
    ways += [
        np.zeros(shape),
        rng.random(shape),
        np.round(4 * normal),
        np.ones(shape),
        1000 * normal,
    ]
    ways += [
        np.arange(count).reshape(shape) / max(count, 1),
        rng.integers(0, limits[0], shape).astype(float),
    ]
    return ways[k % len(ways)].astype(dtype)


def _holes(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """True, but in the middle, at one end, and here and there."""
    found = rng.random(shape) < 0.7
    if found.size > 2:
        flat = found.reshape(-1)
        flat[found.size // 2], flat[0], flat[-1] = False, True, False
    return found


def _like(value: Any, rng: np.random.Generator, k: int) -> Any:
    """Another value of its type and shape, near where the old one is."""
    if isinstance(value, list):
        return [_like(v, rng, k) for v in value]
    if not isinstance(value, (np.ndarray, np.generic)) or np.asarray(value).dtype == object:
        return value
    array = np.asarray(value)
    if array.dtype == bool:
        return np.asarray(rng.random(array.shape) < 0.5)
    if array.dtype.kind in "iu":
        return (
            rng.permutation(array.ravel()).reshape(array.shape)
            if k % 2
            else _filled(array.dtype, array.shape, k, [4], rng)
        )
    if array.dtype.kind == "f":
        return (rng.standard_normal(array.shape) * (3.0 if k % 2 else 1.0)).astype(array.dtype)
    return value


# ---- outputs


def run(session: Any, sample: Sample) -> list[np.ndarray] | None:
    """The outputs as flat arrays; None where the model does not run."""
    try:
        return [np.asarray(a) for value in session.run(None, sample) for a in _flat(value)]
    except Exception:  # noqa: BLE001 - whatever it says, it does not run
        return None


def _flat(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [np.array(len(value)), *(a for v in value for a in _flat(v))]
    if isinstance(value, dict):
        return [a for k in sorted(value) for a in (np.asarray(k), np.asarray(value[k]))]
    return [np.array("nothing") if value is None else value]


def difference(a: Sequence[np.ndarray] | None, b: Sequence[np.ndarray] | None) -> float:
    """The largest difference, as a share of the largest value of its output.

    Infinite where it is of another kind.
    """
    if a is None or b is None:
        return 0.0 if a is b else np.inf
    if len(a) != len(b):
        return np.inf
    return max((_apart(x, y) for x, y in zip(a, b, strict=True)), default=0.0)


def _apart(x: np.ndarray, y: np.ndarray) -> float:
    if x.shape != y.shape or x.dtype != y.dtype:
        return np.inf
    if x.dtype.kind in "OSU":
        return 0.0 if (x == y).all() else np.inf
    if x.tobytes() == y.tobytes():
        return 0.0
    x, y = x.astype(np.float64), y.astype(np.float64)
    plain = np.isfinite(x) & np.isfinite(y)
    if not np.array_equal(x[~plain], y[~plain], equal_nan=True):
        return np.inf
    return float(
        np.abs(x[plain] - y[plain]).max(initial=0) / max(np.abs(x[plain]).max(initial=0), 1e-30)
    )


def interface(session: Any) -> tuple[Any, ...]:
    """What a caller sees: names and types of inputs and outputs, in their order."""
    return [(i.name, i.type) for i in session.get_inputs()], [
        (o.name, o.type) for o in session.get_outputs()
    ]  # type: ignore[return-value]


def judge(reference: Any, suspect: Any, given: Sequence[Sample]) -> tuple[str, float, int]:
    """Whether two sessions give the same.

    Returns: one of `EQUAL`, `DIFFERENT`, `UNDECIDED` and `INVALID`; the largest difference, and the
    sample that shows it (-1 where the interfaces differ).
    """
    if reference is None or suspect is None:
        return INVALID, np.inf, -1
    if interface(reference) != interface(suspect):
        return DIFFERENT, np.inf, -1
    worst, where, ran = 0.0, 0, 0
    for k, sample in enumerate(given):
        ours, theirs = run(reference, sample), run(suspect, sample)
        ran += ours is not None or theirs is not None
        apart = difference(ours, theirs)
        if apart > worst:
            worst, where = apart, k
        if apart == np.inf:
            break
    if not ran:
        return INVALID, np.inf, -1
    return EQUAL if worst == 0 else DIFFERENT if worst > TELLING else UNDECIDED, worst, where


def steepness(session: Any, sample: Sample, nudge: float = NUDGE, seed: int = 0) -> float:
    """How far the outputs move when the inputs are nudged.

    Near a pole, or a step, rounding may do the same.
    """
    rng = np.random.default_rng(seed)
    plain = run(session, sample)
    moves = [0.0]
    for _ in range(4):
        nudged = {n: _nudged(v, nudge, rng) for n, v in sample.items()}
        moves.append(difference(plain, run(session, nudged)))
    return max(moves)


def _nudged(value: Any, nudge: float, rng: np.random.Generator) -> Any:
    """Floats by a share of themselves away; short ones at least to the next."""
    if not isinstance(value, np.ndarray) or value.dtype not in (
        np.float16,
        np.float32,
        np.float64,
        bfloat16,
    ):
        return value
    share = max(nudge, float(finfo(value.dtype).eps))
    return (value.astype(np.float64) * (1 + share * rng.standard_normal(value.shape))).astype(
        value.dtype
    )
