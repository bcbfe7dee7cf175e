"""Cases of weights in blocks that have scales of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from .one_operator import LENGTH, OneOperator, Operand, Shape, draw

N, BLOCK, SIZE = 7, 4, 16
"""Columns, blocks of each, and numbers in a block."""
K = BLOCK * SIZE
ROWS: Shape = (1, LENGTH, K)
MADE: Shape = (1, LENGTH, N)


def draw_bytes(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def scales(seed: int, *shape: int) -> np.ndarray:
    return np.abs(draw(seed, *shape)) + np.float32(0.1)


def product_cases() -> Iterator[OneOperator]:
    """MatMulNBits, and products with it inside."""
    given = {"K": K, "N": N, "block_size": SIZE}
    for bits in (2, 4, 8):
        each = SIZE * bits // 8
        weight: list[Operand] = [ROWS, draw_bytes(bits, N, BLOCK, each), scales(1, N, BLOCK)]
        attributes = {**given, "bits": bits}
        free = [BLOCK, N, *[SIZE] * BLOCK]
        yield OneOperator("MatMulNBits", weight, [MADE], free, attributes)
        packed: list[Operand] = [*weight, draw_bytes(9, N, BLOCK * bits // 8), None, draw(3, N)]
        yield OneOperator("MatMulNBits", packed, [MADE], free, attributes)
        if bits == 4:
            # Zero points may be floats, which share nothing.
            plain: list[Operand] = [*weight, draw(4, N, BLOCK)]
            yield OneOperator("MatMulNBits", plain, [MADE], free, attributes)
    # A byte holds four zero points, and the last one of six blocks only two.
    six: list[Operand] = [(1, LENGTH, 6 * SIZE), draw_bytes(1, N, 6, 4), scales(2, N, 6)]
    six.append(draw_bytes(3, N, 2))
    attributes = {**given, "K": 6 * SIZE, "bits": 2}
    yield OneOperator("MatMulNBits", six, [MADE], [6, N, *[SIZE] * 6], attributes)
    # Half a block is no block of half as many numbers in a byte.
    half: list[Operand] = [(1, LENGTH, SIZE // 2), draw_bytes(1, N, 1, 8), scales(2, N, 1)]
    attributes = {**given, "K": SIZE // 2, "bits": 4}
    yield OneOperator("MatMulNBits", half, [MADE], [N, SIZE // 2], attributes)
    # Of a block that is cut its own numbers are free, and the blocks before it.
    cut: list[Operand] = [(1, LENGTH, K - 8), draw_bytes(5, N, BLOCK, 8), scales(6, N, BLOCK)]
    free = [N, BLOCK - 1, *[SIZE] * (BLOCK - 1), SIZE - 8]
    yield OneOperator("MatMulNBits", cut, [MADE], free, {**given, "K": K - 8, "bits": 4})
    free = [BLOCK, N, *[SIZE] * BLOCK]
    laid: list[Operand] = [ROWS, draw_bytes(5, N, BLOCK, 8), scales(6, N, BLOCK)]
    attributes = {**given, "bits": 4, "weight_prepacked": 1}
    yield OneOperator("MatMulNBits", laid, [MADE], [], attributes, runs=False)
    share: dict[str, Any] = {"runs": False}
    part: list[Operand] = [draw_bytes(7, N, BLOCK, 8), scales(8, N, BLOCK), draw(9, N)]
    free = [BLOCK, *[8] * BLOCK, N]
    attributes = {**given, "bits": 4, "activation": "silu"}
    both: list[Operand] = [ROWS, ROWS, draw(2, K), *part, *part]
    yield OneOperator("MatMulNBitsMlp", both, [MADE, ROWS], free, attributes, **share)
    attributes = {"K": K, "Nq": N, "Nkv": N, "bits": 4, "block_size": SIZE}
    three: list[Operand] = [ROWS, None, draw(2, K), *part, *part, *part]
    sizes = [*free[:-1], N, N, N]
    yield OneOperator("MatMulNBitsQkv", three, [MADE] * 3, sizes, attributes, **share)
    halves: list[Operand] = [
        ROWS,
        draw_bytes(1, N, K // 2),
        draw_bytes(2, N, BLOCK),
        np.array(0.5, np.float32),
        None,
        draw(3, N),
    ]
    operator = "MatMulBlockQuantizedFp4Weight"
    yield OneOperator(operator, halves, [MADE], free, {"block_size": SIZE}, **share)
    single: list[Operand] = [
        ROWS,
        draw(1, N, K).astype(ml_dtypes.float8_e4m3fn),
        scales(2, N, BLOCK),
        None,
        draw(3, N),
    ]
    operator, free = "MatMulBlockQuantizedFp8Weight", [BLOCK, *[SIZE] * BLOCK, N]
    yield OneOperator(operator, single, [MADE], free, {"block_size": SIZE}, **share)


def flat_cases() -> Iterator[OneOperator]:
    """MatMulBnb4: a weight that is flattened, in blocks that lie in a row or span several."""
    for rows, inner, size, turned in ((4, 32, 16, 1), (8, 16, 32, 1), (16, 32, 16, 0)):
        weight: list[Operand] = [
            (1, LENGTH, inner if turned else rows),
            draw_bytes(1, rows * inner // 2),
            scales(2, rows * inner // size),
        ]
        attributes = {"K": inner, "N": rows, "block_size": size, "quant_type": 1}
        attributes |= {} if turned else {"transB": 0}
        # Either blocks and numbers of each, or numbers, blocks of rows and the rows of each.
        inside = [inner // size, *[size] * (inner // size), rows]
        across = [inner, rows // 2, *[2] * (rows // 2)]
        sizes = inside if size <= inner else across
        made = [(1, LENGTH, rows if turned else inner)]
        yield OneOperator("MatMulBnb4", weight, made, sizes, attributes, runs=bool(turned))
    ragged: list[Operand] = [(1, LENGTH, 24), draw_bytes(1, 48), scales(2, 6)]
    attributes = {"K": 24, "N": 4, "block_size": 16, "quant_type": 1}
    yield OneOperator("MatMulBnb4", ragged, [(1, LENGTH, 4)], [], attributes)


def gathered_cases() -> Iterator[OneOperator]:
    """GatherBlockQuantized along either axis, with numbers that share bytes and without."""
    rng = np.random.default_rng(4)
    # Their order is free, together with what reads the rows.
    ids = np.array([[0, 2, 1]])

    def table(*shape: int) -> np.ndarray:
        return rng.integers(0, 16, shape).astype(ml_dtypes.uint4)

    attributes = {"gather_axis": 1, "quantize_axis": 0, "block_size": SIZE}
    sizes = [3, BLOCK, *[SIZE] * BLOCK]
    for zeros in ([], [table(BLOCK, 5)]):
        operands: list[Operand] = [table(K, 5), ids, scales(1, BLOCK, 5), *zeros]
        yield OneOperator("GatherBlockQuantized", operands, [(K, 1, 3)], sizes, attributes)
    attributes = {"gather_axis": 0, "quantize_axis": 2, "block_size": SIZE}
    for bits, more in ((2, []), (4, []), (4, [draw_bytes(2, 5, 6, BLOCK // 2)]), (8, [])):
        each = SIZE * bits // 8
        operands = [draw_bytes(3, 5, 6, BLOCK * each), ids, scales(1, 5, 6, BLOCK), *more]
        free = [3, 6, BLOCK, *[SIZE] * BLOCK]
        given = {**attributes, "bits": bits}
        yield OneOperator("GatherBlockQuantized", operands, [(1, 3, 6, K)], free, given)


CASES = [*product_cases(), *flat_cases(), *gathered_cases()]
