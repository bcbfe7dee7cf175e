"""Cases of operators with attention heads: packed operands, caches, masks, norms, rotations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .one_operator import Heads, OneOperator, Operand, Shape, draw

H, D, S, P = 2, 3, 4, 5
"""Heads, dimensions in each, places, and places of the past."""
ROWS: Shape = (1, S, H * D)
PAST: Shape = (1, H, P, D)
ALL: Shape = (1, H, S + P, D)
FREE = [H, *[D] * 2 * H]
"""The order of heads, and in each that of queries and keys, and that of values."""


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def multi_head(
    operands: list[Operand],
    *,
    results: list[Shape | None] | None = None,
    sizes: list[int] | None = None,
    operator: str = "MultiHeadAttention",
    attributes: dict[str, Any] | None = None,
    **others: Any,
) -> OneOperator:
    return OneOperator(
        operator,
        operands,
        results or [ROWS],
        FREE if sizes is None else sizes,
        {"num_heads": H, **(attributes or {})},
        **others,
    )


def multi_head_cases() -> Iterator[OneOperator]:
    """MultiHeadAttention where it has no plain form."""
    past: list[Operand] = [draw(3, *PAST), draw(4, *PAST)]
    returned: list[Shape | None] = [ROWS, ALL, ALL]
    addend, mask = draw(5, 3 * H * D), np.array([[1, 1, 0, 1, 1, 1, 1, 0, 1]], np.int32)
    one, many = draw(6, 1, 1, S, S + P), draw(7, 1, H, S, S + P)
    yield multi_head([ROWS] * 3, attributes={"unidirectional": 1})
    yield multi_head([ROWS] * 3, results=[ROWS, (1, H, S, D), (1, H, S, D)])
    yield multi_head([ROWS, *[Heads((1, H, S, D))] * 2, addend])
    # Places that no mask tells apart may be shuffled together in keys and values.
    yield multi_head([ROWS, *past], sizes=[*FREE, *[P] * H])
    yield multi_head([*[ROWS] * 3, None, None, None, *past], results=returned)
    yield multi_head([*[ROWS] * 3, addend, None, one, *past], results=returned)
    yield multi_head([*[ROWS] * 3, addend, mask, many, *past], results=returned)
    # onnxruntime reads other places of a past that it is not to return, whatever stands there.
    yield multi_head([*[ROWS] * 3, None, None, None, *past], sizes=[], runs=False)
    wide: Shape = (1, S, H, 3, D)
    yield multi_head([wide], runs=False)
    yield multi_head([wide, None, None, addend], runs=False)
    yield multi_head([ROWS, (1, S, H, 2, D)], runs=False)
    scores: list[Shape | None] = [ROWS, None, None, (1, H, S, S)]
    yield multi_head([ROWS] * 3, results=scores, runs=False)


def decoder_cases() -> Iterator[OneOperator]:
    """Attention of one new place."""
    shared = {"operator": "DecoderMaskedMultiHeadAttention", "length": 1}
    share = {"past_present_share_buffer": 1}
    # Kernels lay keys out by eights of dimensions, so that these keep their order.
    d = 8
    row, cache, place = (1, 1, H * d), (1, H, P, d), whole(P - 1)
    past: list[Operand] = [draw(1, *cache), draw(2, *cache), place]
    pinned: dict[str, Any] = {"results": [row, cache, cache], "sizes": [H, *[d] * H]}
    pinned |= {"attributes": share} | shared
    yield multi_head([row, row, row, None, None, *past], **pinned)
    mask, bias, addend = whole(1, 1, 0, 1, 1).reshape(1, P), draw(3, 1, 1, 1, P), draw(4, 3 * H * d)
    yield multi_head([row, row, row, mask, bias, *past, None, None, addend], **pinned)
    side: list[Operand] = [(1, 1, 3 * H * d), None, None, None, None, *past]
    yield multi_head(side, runs=False, **pinned)
    # Keys and values of the past are one tensor here, whose last axis is that of both.
    own: list[Operand] = [row, draw(5, H * d, 3 * H * d), draw(6, 3 * H * d), None]
    own += [draw(7, 2, *cache), None, place]
    alone: dict[str, Any] = {"results": [row, (2, *cache)], "attributes": share, "length": 1}
    operator = "DecoderMaskedSelfAttention"
    yield multi_head(own, sizes=[H * d, H], operator=operator, runs=False, **alone)
    one = (1, 1, H * D)
    keys: list[Operand] = [draw(5, *PAST), draw(6, *PAST)]
    yield multi_head([one, *[Heads((1, H, 1, D))] * 2], results=[one], **shared)
    longer = (1, H, P + 1, D)
    unshared: list[Operand] = [one, one, one, None, None, *keys]
    yield multi_head(unshared, results=[one, longer, longer], runs=False, **shared)


def projected_cases() -> Iterator[OneOperator]:
    """Attention with a projection of its own, where it has no plain form."""
    weights: list[Operand] = [draw(1, H * D, 3 * H * D), draw(2, 3 * H * D)]
    sizes, both = [H * D, *FREE], (2, 1, H, S, D)
    share = {"operator": "Attention", "sizes": sizes}
    yield multi_head([ROWS, *weights], results=[ROWS, both], **share)
    bias = draw(3, 1, H, S, S)
    yield multi_head([ROWS, *weights, None, None, bias], attributes={"unidirectional": 1}, **share)
    share = {"results": [(S, H * D)], "runs": False}
    offsets: list[Operand] = [np.arange(S, dtype=np.int32).reshape(1, S), whole(0, S)]
    tokens, packed, flat = (S, H * D), (S, H, 3, D), draw(4, 1, 1, S, S)
    yield multi_head([tokens, *weights, *offsets], operator="PackedAttention", sizes=sizes, **share)
    operator = "PackedMultiHeadAttention"
    addend = draw(5, 3 * H * D)
    yield multi_head([tokens] * 3 + [addend, *offsets, flat], operator=operator, **share)
    yield multi_head([packed, None, None, addend, *offsets], operator=operator, **share)
    yield multi_head(
        [ROWS, *weights, draw(6, 1, S), *weights, np.ones((1, S), np.int32)],
        operator="LongformerAttention",
        sizes=[H * D, H, *[D] * H * 3],
        attributes={"window": 1},
        runs=False,
    )


Q, K, DIM = 4, 2, 16
"""Query heads, key heads, and dimensions in each."""
QUERY, KEY = (1, S, Q * DIM), (1, S, K * DIM)
OLD, NEW = (1, K, P, DIM), (1, K, S + P, DIM)


def grouped(
    operands: list[Operand],
    inner: list[int],
    *,
    results: list[Shape | None] | None = None,
    operator: str = "GroupQueryAttention",
    attributes: dict[str, Any] | None = None,
    **others: Any,
) -> OneOperator:
    """A case with the orders of key heads, of the queries of each, of values, and `inner` ones."""
    sizes = [K, *[Q // K] * K, *[DIM] * K, *inner]
    given = {"num_heads": Q, "kv_num_heads": K, **(attributes or {})}
    return OneOperator(operator, operands, results or [QUERY, NEW, NEW], sizes, given, **others)


EACH = [DIM] * K
"""An order of queries and keys in each key head."""


def grouped_cases() -> Iterator[OneOperator]:
    """GroupQueryAttention with caches and with all that is beside queries, keys and values."""
    cache: list[Operand] = [
        draw(1, *OLD),
        draw(2, *OLD),
        whole(S + P - 1),
        np.array(S + P, np.int32),
    ]
    now: list[Operand] = [None, None, whole(S - 1), np.array(S, np.int32)]
    parts: list[Operand] = [QUERY, KEY, KEY]
    tables: list[Operand] = [draw(3, 16, DIM // 2), draw(4, 16, DIM // 2)]
    short: list[Shape | None] = [QUERY, (1, K, S, DIM), (1, K, S, DIM)]
    turn, nothing = {"do_rotary": 1}, [None, None]
    places = np.arange(P, P + S).reshape(1, S)
    yield grouped([*parts, *cache], EACH)
    yield grouped([*parts, *cache, *tables, places], [DIM // 2], attributes=turn)
    wide: Shape = (1, S, (Q + 2 * K) * DIM)
    pairs = {**turn, "rotary_interleaved": 1}
    yield grouped([wide, None, None, *cache, *tables], [DIM // 2], attributes=pairs)
    for heads in (1, Q):
        bias = draw(5, 1, heads, S, S + P)
        yield grouped([*parts, *cache, *nothing, None, bias], EACH)
    yield grouped([*parts, *now, *nothing, None, None, draw(6, Q)], EACH, results=short)
    soft = {"smooth_softmax": 1, "softcap": 3.0, "local_window_size": 2}
    yield grouped([*parts, *now], EACH, attributes=soft, results=short)
    yield grouped([*parts, *now], EACH, attributes={"causal": 0}, results=short)
    scores: list[Shape | None] = [*short, (1, Q, S, S)]
    yield grouped([*parts, *now], EACH, attributes={"qk_output": 1}, results=scores)
    window = {"sliding_window_cache": 1, "local_window_size": P}
    kept: list[Shape | None] = [QUERY, OLD, OLD]
    yield grouped([*parts, *cache], EACH, attributes=window, results=kept)
    gains: list[Operand] = [*[None] * 4, draw(7, DIM), draw(8, DIM)]
    yield grouped([*parts, *now, *nothing, None, *gains], [DIM], results=short, runs=False)
    yield grouped(
        [*parts, *now, *tables, None, *gains],
        [DIM // 2],
        attributes=turn,
        results=short,
        runs=False,
    )


def stored_cases() -> Iterator[OneOperator]:
    """Caches of bytes, and of numbers that share one."""
    rng = np.random.default_rng(0)
    lengths: list[Operand] = [whole(S + P - 1), np.array(S + P, np.int32)]
    each = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
    scales: list[Operand] = [None] * 5 + [np.abs(draw(k, 1, K, 1, DIM)) / 10 for k in (1, 2)]
    numbers: list[Operand] = [rng.integers(-127, 127, OLD).astype(np.int8) for _ in "kv"]
    case: list[Operand] = [QUERY, KEY, KEY, *numbers, *lengths, *scales]
    yield grouped(case, EACH, attributes={**each, "kv_cache_bit_width": 8})
    half: list[Operand] = [
        rng.integers(0, 255, (*OLD[:3], DIM // 2)).astype(np.uint8) for _ in "kv"
    ]
    made = (*NEW[:3], DIM // 2)
    # Two dimensions that share a byte stay together, in keys and in values.
    sizes = [K, *[Q // K] * K, *[DIM // 2] * 2 * K]
    given = {"num_heads": Q, "kv_num_heads": K, **each, "kv_cache_bit_width": 4}
    operands: list[Operand] = [QUERY, KEY, KEY, *half, *lengths, *scales]
    yield OneOperator("GroupQueryAttention", operands, [QUERY, made, made], sizes, given)


def paged_cases() -> Iterator[OneOperator]:
    """Caches in pages, or with places that are chosen."""
    tokens, keys, page = (S, Q * DIM), (S, K * DIM), (2, 8, K, DIM)
    pages: list[Operand] = [draw(1, *page), draw(2, *page)]
    table: list[Operand] = [whole(0, S), whole(3), whole(0, 1).reshape(1, 2)]
    tables: list[Operand] = [draw(3, 16, DIM // 2), draw(4, 16, DIM // 2)]
    gains: list[Operand] = [draw(5, Q), draw(6, DIM), draw(7, DIM)]
    share: dict[str, Any] = {"operator": "PagedAttention", "runs": False}
    made: list[Shape | None] = [tokens, page, page]
    yield grouped([tokens, keys, keys, *pages, *table], EACH, results=made, **share)
    turn = {"do_rotary": 1}
    case: list[Operand] = [tokens, keys, keys, *pages, *table, *tables, None, *gains]
    yield grouped(case, [DIM // 2], attributes=turn, results=made, **share)
    # A latent key has values in front and what turns behind; all heads have it in common.
    one, half = (2, 8, 1, DIM), DIM // 2
    latent: list[Operand] = [tokens, (S, DIM), None, draw(1, *one), None, *table]
    attributes = {"kv_cache_layout": "LATENT", "v_head_size": half, "rotary_offset": half}
    attributes |= {"num_heads": Q, "kv_num_heads": 1, "do_rotary": 1, "scale": 0.25}
    angles: list[Operand] = [draw(3, 16, half // 2), draw(4, 16, half // 2)]
    yield OneOperator(
        "PagedAttention",
        [*latent, *angles],
        [(S, Q * half), one],
        [Q, half // 2, half],
        attributes,
        runs=False,
    )
    chosen: list[Operand] = [whole(*[0, 1] * S).reshape(S, 2), whole(*[2] * S)]
    yield grouped(
        [tokens, keys, keys, *pages, *table, None, *chosen, draw(8, 1, 3, K, DIM)],
        # Other keys that are values as well give both one order.
        [],
        attributes={"auxiliary_kv_shared": 1},
        results=made,
        operator="SparsePagedAttention",
        runs=False,
    )
    cache: list[Operand] = [draw(1, *OLD), draw(2, *OLD)]
    length: list[Operand] = [whole(S + P - 1), whole(S + P)]
    yield grouped(
        [QUERY, KEY, KEY, *cache, None, None, *chosen, *length],
        EACH,
        operator="DynamicSparseAttention",
        runs=False,
    )
    rows: list[Operand] = [whole(0, 1).reshape(1, 2), whole(0).reshape(1, 1), *length]
    whole_cache: list[Operand] = [draw(1, 1, K, 16, DIM), draw(2, 1, K, 16, DIM)]
    yield grouped(
        [QUERY, KEY, KEY, *whole_cache, *rows],
        EACH,
        attributes={"sparse_block_size": 16},
        results=[QUERY, (1, K, 16, DIM), (1, K, 16, DIM)],
        operator="SparseAttention",
        runs=False,
    )

    # Each query head sees places in the other way than its neighbour.
    ways: list[Operand] = [whole(0, 1, 0, 1).reshape(2, 2), whole(0, 0).reshape(2, 1), *length]
    yield OneOperator(
        "SparseAttention",
        [QUERY, KEY, KEY, *whole_cache, *ways],
        [QUERY, (1, K, 16, DIM), (1, K, 16, DIM)],
        [*EACH, *EACH],
        {"num_heads": Q, "kv_num_heads": K, "sparse_block_size": 16},
        runs=False,
    )


def default_cases() -> Iterator[OneOperator]:
    """The operators of ONNX itself."""
    wide, narrow, d = (1, S, 4 * 6), (1, S, 2 * 6), 6
    free = [2, 2, 2, *[d] * 4]
    counts = {"q_num_heads": 4, "kv_num_heads": 2}
    for opset in (23, 24):
        share: dict[str, Any] = {"domain": "", "opset": opset}

        def attention(
            operands: list[Operand], attributes: dict[str, Any], share: dict[str, Any] = share
        ) -> OneOperator:
            is_wide = isinstance(operands[0], tuple)
            made = wide if is_wide else (1, 4, S, 6)
            given = {**(counts if is_wide else {}), **attributes}
            return OneOperator("Attention", operands, [made], free, given, **share)

        for attributes in ({}, {"is_causal": 1}, {"softcap": 2.0}, {"scale": 0.3}):
            yield attention([wide, narrow, narrow], attributes)
        yield attention([Heads((1, 4, S, 6)), *[Heads((1, 2, S, 6))] * 2], {"is_causal": 1})
        yield attention([wide, narrow, narrow, draw(1, S, S)], {})
        yield attention([wide, narrow, narrow, draw(1, S, S) > 0], {"is_causal": 1})
    share = {"domain": "", "opset": 24}
    lengths: list[Operand] = [wide, narrow, narrow, None, None, None, np.array([3])]
    yield OneOperator("Attention", lengths, [wide], free, counts, **share)
    share = {"domain": "", "opset": 23}
    ids = np.arange(S).reshape(1, S)
    for attributes in ({}, {"interleaved": 1}, {"rotary_embedding_dim": 4}):
        half = attributes.get("rotary_embedding_dim", 6) // 2
        # Heads change places pair by pair; pairs have the tables' order, and the rest is free.
        sizes = [*[2] * half, half, *[2 * (6 - 2 * half)] * (half < 3)]
        tables: list[Operand] = [draw(1, 16, half), draw(2, 16, half)]
        given = {"num_heads": 2, **attributes}
        yield OneOperator(
            "RotaryEmbedding", [narrow, *tables, ids], [narrow], sizes, given, **share
        )
        rows: list[Operand] = [draw(1, 1, S, half), draw(2, 1, S, half)]
        yield OneOperator("RotaryEmbedding", [narrow, *rows], [narrow], sizes, given, **share)
        laid = Heads((1, 2, S, 6))
        yield OneOperator(
            "RotaryEmbedding", [laid, *tables, ids], [laid.shape], sizes, attributes, **share
        )
    yield OneOperator("RMSNormalization", [narrow, draw(1, 12)], [narrow], [12], {}, **share)
    # Nothing tells heads from dimensions here.
    laid = Heads((1, 2, S, 6))
    yield OneOperator(
        "TensorScatter", [laid, laid, np.array([0])], [laid.shape], [12], domain="", opset=24
    )


CASES = [
    *multi_head_cases(),
    *decoder_cases(),
    *projected_cases(),
    *grouped_cases(),
    *stored_cases(),
    *paged_cases(),
    *default_cases(),
]
