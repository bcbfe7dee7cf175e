"""Cases of operators of onnxruntime that are of no larger family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .one_operator import CLASSICAL, LENGTH, Heads, OneOperator, Operand, Shape, draw

S = LENGTH
GPU: dict[str, Any] = {"runs": False}
"""What onnxruntime runs on no CPU."""


def whole(seed: int, kind: Any, *shape: int) -> np.ndarray:
    return (40 * draw(seed, *shape)).astype(kind)


def rotations() -> Iterator[OneOperator]:
    """Rotations whose pairs have positions of three kinds, or whose angles are given."""
    places = np.array([[[0, 1, 2, 3]], [[3, 1, 0, 2]], [[1, 1, 2, 5]]])
    for sections, layout in (([2, 1, 1], 0), ([2, 2, 2], 0), ([2, 2, 2], 1), ([6, 0, 0], 0)):
        half = sum(sections)
        rows: Shape = (1, S, 4 * half)
        operands: list[Operand] = [rows, places, draw(1, 16, half), draw(2, 16, half)]
        # Pairs may change places that have the same kind of position.
        sizes = [*[2] * half, *[n for n in sections if n > 1]]
        given = {"mrope_section": sections, "mrope_layout": layout, "num_heads": 2}
        yield OneOperator("MRotaryEmbedding", operands, [rows], sizes, given)
    parts: list[Operand] = [Heads((1, 2, S, 6))] * 4
    made: Shape = (1, 2, S, 6)
    yield OneOperator(
        "GemmaRotaryEmbedding", [(1, S, 6), *parts], [made] * 2, [6, *[2] * 12], **GPU
    )


def norms() -> Iterator[OneOperator]:
    """Norms of groups and branches."""
    picture, gains = (1, S, 1, 6), [draw(1, 6), draw(2, 6)]
    given = {"groups": 2, "activation": 1}
    yield OneOperator("GroupNorm", [picture, *gains], [picture], [2, 3, 3], given, **GPU)
    first: Shape = (1, 6, S, 1)
    moved: list[Operand] = [Heads(first), *gains]
    given = {**given, "channels_last": 0}
    yield OneOperator("GroupNorm", moved, [first], [2, 3, 3], given, **GPU)
    skip: list[Operand] = [picture, *gains, draw(3, 1, 6), draw(4, 6)]
    given = {"groups": 2, "activation": 0}
    yield OneOperator("SkipGroupNorm", skip, [picture] * 2, [2, 3, 3], given, **GPU)
    flat, grouped, branches = (1, S, 6), (1, S, 2, 3), {"num_branches": 2}
    yield OneOperator("BranchwiseRMSNorm", [flat, draw(1, 6)], [flat], [2, 3, 3], branches)
    yield OneOperator("BranchwiseRMSNorm", [grouped, draw(1, 3)], [grouped], [2, 3])
    operator = "HyperConnectionPreMix"
    yield OneOperator(operator, [flat, (1, S, 2)], [(1, S, 3)], [2, 3], branches)
    # Gates of every feature let it have an order of branches of its own.
    yield OneOperator(operator, [grouped, grouped], [(1, S, 3)], [2, 2, 2, 3])
    operator = "HyperConnectionPostMix"
    mixed: list[Operand] = [grouped, (1, S, 3), (1, S, 2), (1, S, 2, 2)]
    yield OneOperator(operator, mixed, [grouped], [2, 2, 3])
    yield OneOperator(operator, [flat, (1, S, 3), (1, S, 2)], [flat], [2, 3], branches)
    engram: list[Operand] = [grouped, grouped, (1, S, 3)]
    engram += [draw(k, 2, 3) for k in range(3)]
    yield OneOperator("EngramGate", engram, [grouped] * 2, [2, 3, 3, 3])


def places() -> Iterator[OneOperator]:
    """Operators that cut, pad, count or transform places."""
    rows: Shape = (1, S, 6)
    given: dict[str, Any] = {"dim": 1, "size": 2, "step": 2}
    yield OneOperator("UnfoldTensor", [rows], [(1, 2, 6, 2)], [6], given)
    offsets = np.arange(S, dtype=np.int32).reshape(1, S)
    yield OneOperator("RestorePadding", [(S, 6), offsets], [rows], [6], **GPU)
    yield OneOperator("RemovePadding", [rows, np.array([S], np.int32)], [(S, 6)], [6], **GPU)
    box, zero, size = np.array([[0.1, 0.2, 0.8, 0.7]], np.float32), np.zeros(1, np.int32), [2, 2]
    picture: list[Operand] = [Heads((1, 5, S, 2)), box, zero, np.array(size, np.int32)]
    yield OneOperator("CropAndResize", picture, [(1, 5, 2, 2)], [5])
    one = {"signal_ndim": 1}
    yield OneOperator("Rfft", [(1, S, 6, 4)], [(1, S, 6, 3, 2)], [6], one, **GPU)
    yield OneOperator("Irfft", [(1, S, 6, 3, 2)], [(1, S, 6, 4)], [6], one, **GPU)
    lengths: list[Operand] = [np.array([S]), np.array([S])]
    # Heads lie across both axes of the table, which is written column by column.
    table: list[Operand] = [draw(1, 8, 5), *lengths]
    given = {"max_distance": 8}
    yield OneOperator("RelativePositionBias", table, [(1, 5, S, S)], [], given, **GPU)
    gated: list[Operand] = [rows, draw(1, 6), draw(2, 1, 2, S, S), draw(3, 3, 4), draw(4, 4)]
    gated.append(draw(5, 1, 2, 1, 1))
    operator, heads = "GatedRelativePositionBias", {"num_heads": 2}
    yield OneOperator(operator, gated, [(1, 2, S, S)], [2, 2, 3], heads, **GPU)
    yield OneOperator("Range", [np.array(0), np.array(6)], [(6,)], [])


def products() -> Iterator[OneOperator]:
    """Products and sums of other types, and look-ups."""
    rows: Shape = (S, 6)
    for operator in ("ComplexMul", "ComplexMulConj"):
        both: list[Operand] = [(1, S, 6, 2), draw(1, 6, 2)]
        yield OneOperator(operator, both, [(1, S, 6, 2)], [6], **GPU)
    metric = {"metric": "euclidean"}
    yield OneOperator("CDist", [rows, draw(1, 5, 6)], [(S, 5)], [5, 6], metric)
    small = [whole(k, np.int8, 6) for k in (1, 2)]
    yield OneOperator("MulInteger", [small[0], None, small[1]], [(6,)], [6], **GPU)
    matrix = whole(1, np.int8, 6, 5)
    axes = {"axes": [1], "keepdims": 0}
    yield OneOperator("ReduceSumInteger", [matrix], [(6,)], [5, 6], axes, **GPU)
    number, zero = np.array(0.5, np.float32), np.array(0, np.int8)
    mean: list[Operand] = [matrix, number, zero, number, zero]
    yield OneOperator("QLinearReduceMean", mean, [(6,)], [5, 6], axes, **GPU)
    ids = np.array([[1, 2, 4]])
    yield OneOperator("TorchEmbedding", [draw(1, 9, 6), ids], [(1, 3, 6)], [3, 6], **GPU)
    gemm: list[Operand] = [rows, draw(1, 5, 6), draw(2, 5)]
    yield OneOperator("GemmFloat8", gemm, [(S, 5)], [5, 6], {"transB": 1}, **GPU)
    yield OneOperator("IsAllFinite", [rows], [(1,)], [6], **GPU)
    letters = np.array([[1, 2, 3, 1], [2, 1, 1, 3]], np.int32)
    words: list[Operand] = [letters, draw(1, 5, 1, 2, 3), draw(2, 5), draw(3, 7, 3)]
    yield OneOperator("WordConvEmbedding", words, [(2, 5)], [3, 5])
    wide: list[Operand] = [whole(1, np.int16, 4, 6), whole(2, np.int16, 6, 5)]
    yield OneOperator("MatMulInteger16", wide, [(4, 5)], [4, 5, 6])
    yield OneOperator("SampleOp", [rows], [rows], [6])
    yield OneOperator("MurmurHash3", [np.arange(6, dtype=np.int32)], [(6,)], [6])


def features() -> Iterator[OneOperator]:
    """Classical machine learning, where no feature has a number of its own."""
    rows: Shape = (S, 6)
    share: dict[str, Any] = {"domain": CLASSICAL}
    yield OneOperator("Binarizer", [rows], [rows], [6], {"threshold": 0.1}, **share)
    given: dict[str, Any] = {"offset": [0.5], "scale": [2.0]}
    yield OneOperator("Scaler", [rows], [rows], [6], given, **share)
    given = {"offset": [0.5] * 6, "scale": [1.0, 2.0] * 3}
    yield OneOperator("Scaler", [rows], [rows], [], given, **share)
    given = {"imputed_value_floats": [0.5], "replaced_value_float": 0.0}
    yield OneOperator("Imputer", [rows], [rows], [6], given, **share)
    yield OneOperator("Normalizer", [rows], [rows], [6], {"norm": "L2"}, **share)
    given = {"inputdimensions": [6, 5]}
    yield OneOperator("FeatureVectorizer", [rows, (S, 5)], [(S, 11)], [5, 6], given, **share)


CASES = [*features(), *rotations(), *norms(), *places(), *products()]
