"""Cases of mixtures of experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .block_cases import draw_bytes, scales
from .one_operator import LENGTH, OneOperator, Operand, Shape, draw

E, W, J = 3, 6, 5
"""Experts, the width of rows, and hidden units of each expert."""
ROWS: Shape = (1, LENGTH, W)
CHOICE: Shape = (LENGTH, E)
"""What the router says of each row."""
FREE = [E, W, W, *[J] * E]
"""Experts, what they read, what they make, and the hidden units of each."""


def float_cases() -> Iterator[OneOperator]:
    out: list[Operand] = [draw(3, E, W, J), draw(4, E, W)]
    single: list[Operand] = [ROWS, CHOICE, draw(1, E, J, W), draw(2, E, J)]
    for attributes in (
        {"k": 1},
        {"k": 2, "activation_type": "gelu", "normalize_routing_weights": 1},
    ):
        yield OneOperator("MoE", [*single, *out], [ROWS], FREE, attributes)
    pairs: list[Operand] = [ROWS, CHOICE, draw(1, E, 2 * J, W), draw(2, E, 2 * J), *out]
    for fusion, runs in ((1, True), (2, False)):
        attributes = {"k": 2, "activation_type": "swiglu", "swiglu_fusion": fusion}
        yield OneOperator("MoE", pairs, [ROWS], FREE, attributes, runs=runs)
    tokens: Shape = (LENGTH, W)
    tokens_alone: list[Operand] = [tokens, CHOICE, *single[2:], draw(3, E, W, J)]
    yield OneOperator("MoE", tokens_alone, [tokens], FREE, {"k": 2})
    gated: list[Operand] = [*single, *out, draw(5, E, J, W), draw(6, E, J)]
    attributes = {"k": 2, "activation_type": "silu"}
    yield OneOperator("MoE", gated, [ROWS], FREE, attributes, runs=False)


def byte_cases() -> Iterator[OneOperator]:
    """QMoE with numbers of eight and four bits, with one scale a row and with blocks."""
    wide, inner = 32, 64
    rows: Shape = (1, LENGTH, wide)
    for bits in (8, 4):
        shared = 8 // bits

        def layers(parts: int, block: int = 0, shared: int = shared) -> list[Operand]:
            read, made = ((n // block,) if block else () for n in (wide, inner))
            return [
                draw_bytes(1, E, parts * inner, wide // shared),
                scales(2, E, parts * inner, *read) / 20,
                draw(3, E, parts * inner),
                draw_bytes(4, E, wide, inner // shared),
                scales(5, E, wide, *made) / 20,
                draw(6, E, wide),
            ]

        given = {"k": 2, "expert_weight_bits": bits, "weights_prepacked": 0}
        free = [E, wide, wide, *[inner] * E]
        yield OneOperator("QMoE", [rows, CHOICE, *layers(1)], [rows], free, given)
        swiglu = {**given, "activation_type": "swiglu", "swiglu_fusion": 1}
        case: list[Operand] = [rows, CHOICE, *layers(2)]
        yield OneOperator("QMoE", case, [rows], free, swiglu)
        # The node does not say how weights are laid out; their shapes do.
        silent = {k: v for k, v in swiglu.items() if k != "weights_prepacked"}
        yield OneOperator("QMoE", case, [rows], free, silent)
        block = 16
        case = [rows, CHOICE, *layers(2, block)]
        free = [E, wide, wide // block, *[block] * (wide // block)]
        free += [*[inner // block] * E, *[block] * (inner // block) * E]
        yield OneOperator("QMoE", case, [rows], free, {**swiglu, "block_size": block})
    # Zero points of two hidden units share a byte, and those of two blocks do.
    zeros: list[Operand] = [None] * 3 + [draw_bytes(7, E, inner // 2), draw_bytes(8, E, wide // 2)]
    free = [E, wide, wide, *[inner] * E]
    given = {"k": 2, "expert_weight_bits": 4, "weights_prepacked": 0}
    yield OneOperator("QMoE", [rows, CHOICE, *layers(1), *zeros], [rows], free, given)
    zeros = [None] * 3 + [
        draw_bytes(7, E, inner, wide // block // 2),
        draw_bytes(8, E, wide, inner // block // 2),
    ]
    free = [E, wide, wide // block, *[block] * (wide // block)]
    free += [*[inner // block] * E, *[block] * (inner // block) * E]
    blocks = {**given, "block_size": block}
    yield OneOperator("QMoE", [rows, CHOICE, *layers(1, block), *zeros], [rows], free, blocks)
    prepacked: dict[str, Any] = {**given, "weights_prepacked": 1}
    yield OneOperator("QMoE", [rows, CHOICE, *layers(1)], [rows], [E], prepacked, runs=False)


CASES = [*float_cases(), *byte_cases()]
