"""Cases of recurrences: linear attention, convolutions with a state, LSTM in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .block_cases import scales
from .one_operator import LENGTH, OneOperator, Operand, Shape, draw

S, D, V = LENGTH, 3, 5
"""Places, dimensions of keys, and dimensions of values."""


def linear_cases() -> Iterator[OneOperator]:
    """Linear attention by every rule, with query heads that share a key head, and the other way."""
    for rule, queries, heads in (
        ("linear", 2, 2),
        ("gated", 4, 2),
        ("delta", 2, 2),
        ("gated_delta", 4, 2),
        ("gated", 2, 4),
    ):
        parts: list[Operand] = [(1, S, queries * D), (1, S, heads * D), (1, S, heads * V)]
        state, past = (1, heads, D, V), draw(1, 1, heads, D, V)
        each = heads * D if rule == "gated" else heads
        gates: list[Operand] = [
            (1, S, each) if "gated" in rule else None,
            (1, S, heads) if "delta" in rule else None,
        ]
        attributes = {"q_num_heads": queries, "kv_num_heads": heads, "update_rule": rule}
        made = [(1, S, max(queries, heads) * V), state]
        # Keys have one order for all heads that share a query head, values one for each.
        shared = min(queries, heads)
        sizes = [shared, *[max(queries, heads) // shared] * shared, *[V] * heads, *[D] * shared]
        sizes = [n for n in sizes if n > 1]
        yield OneOperator("LinearAttention", [*parts, past, *gates], made, sizes, attributes)
    attributes = {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "linear", "state_window": 2}
    parts = [(1, S, 2 * D), (1, S, 2 * D), (1, S, 2 * V)]
    made = [(1, S, 2 * V), (2, 1, 2, D, V)]
    yield OneOperator("LinearAttention", parts, made, [2, D, D, V, V], attributes, runs=False)
    # ONNX has it as well, in an opset that onnxruntime does not run yet.
    share: dict[str, Any] = {"domain": "", "opset": 27, "runs": False}
    attributes = {"q_num_heads": 4, "kv_num_heads": 2}
    parts = [(1, S, 4 * D), (1, S, 2 * D), (1, S, 2 * V), None, (1, S, 2), (1, S, 2)]
    made = [(1, S, 4 * V), (1, 2, D, V)]
    yield OneOperator("LinearAttention", parts, made, [2, 2, 2, D, D, V, V], attributes, **share)
    bias: list[Operand] = [(1, S, 3), draw(1, 3), draw(2, 3), (1, S, 3)]
    yield OneOperator("LinearAttentionGate", bias, [(1, S, 3)] * 2, [3])


def delta_cases() -> Iterator[OneOperator]:
    """GatedDeltaNet, with tokens side by side."""
    q, heads, group = 2, 4, 2
    tokens: list[Operand] = [(S, q, D), (S, q, D), (S, heads, V)]
    gates: list[Operand] = [(S, heads), (S, heads)]
    state: list[Operand] = [draw(1, 1, heads, V, D), draw(2, heads), draw(3, heads)]
    made: list[Shape | None] = [(S, heads, V), (1, heads, V, D)]
    attributes = {"gate_activation": "qwen", "update_rule": "gated_delta"}
    sizes = [q, *[group] * q, *[D] * q, *[V] * heads]
    case: list[Operand] = [*tokens, None, *gates, *state]
    yield OneOperator("GatedDeltaNet", case, made, sizes, attributes, runs=False)
    packed: list[Operand] = [(S, 2 * q * D + heads * V), None, None, None, *gates, *state]
    yield OneOperator("GatedDeltaNet", packed, made, sizes, attributes, runs=False)


def convolution_cases() -> Iterator[OneOperator]:
    """Convolutions of every channel alone, with what came before."""
    channels, kernel = 5, 3
    weight, bias = draw(1, channels, 1, kernel), draw(2, channels)
    rows: Shape = (1, S, channels)
    past: list[Operand] = [draw(3, 1, kernel - 1, channels)]
    last = {"channels_last": 1, "activation": "silu"}
    made: list[Shape | None] = [rows, (1, kernel - 1, channels)]
    operator = "CausalConvWithState"
    yield OneOperator(operator, [rows, weight, bias, *past], made, [channels], last)
    window: list[Shape | None] = [rows, (2, 1, kernel - 1, channels)]
    case: list[Operand] = [rows, weight]
    yield OneOperator(operator, case, window, [channels], {**last, "state_window": 2}, runs=False)
    dilated: list[Shape | None] = [rows, (1, 2 * (kernel - 1), channels)]
    yield OneOperator(operator, case, dilated, [channels], {**last, "dilation": 2})
    tokens: Shape = (S, channels)
    packed: list[Operand] = [tokens, weight, np.array([0, S], np.int32), bias]
    packed.append(draw(4, 1, channels, kernel - 1))
    made = [tokens, (1, channels, kernel - 1)]
    operator = "VarlenCausalConvWithState"
    yield OneOperator(operator, packed, made, [channels], runs=False)


def cell_cases() -> Iterator[OneOperator]:
    """DynamicQuantizeLSTM with one scale for all units, and with one for each."""
    width, units = 5, 3
    rng = np.random.default_rng(0)
    for directions, each in ((1, False), (2, False), (1, True)):
        size: Shape = (directions, 4 * units) if each else (directions,)
        weights: list[Operand] = [
            rng.integers(-99, 99, (directions, n, 4 * units)).astype(np.int8)
            for n in (width, units)
        ]
        first: list[Operand] = [draw(1, directions, 8 * units), None]
        first += [draw(2, directions, 1, units), draw(3, directions, 1, units)]
        beside: list[Operand] = [None]
        for k in range(2):
            beside += [scales(k, *size) / 100, np.zeros(size, np.int8)]
        made: list[Shape | None] = [(S, directions, 1, units), (directions, 1, units)]
        made.append(made[1])
        operands: list[Operand] = [(S, 1, width), *weights, *first, *beside]
        attributes: dict[str, Any] = {"hidden_size": units}
        attributes["direction"] = "bidirectional" if directions == 2 else "forward"
        sizes = [width, *[units] * directions]
        yield OneOperator("DynamicQuantizeLSTM", operands, made, sizes, attributes)


CASES = [*linear_cases(), *delta_cases(), *convolution_cases(), *cell_cases()]
