"""Attention as one operator of onnxruntime: heads, rotations, caches.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

import numpy as np

from ...errors import UnknownStructureError
from ..kinds import (
    Elementwise,
    Equation,
    Kind,
    Movement,
    Node,
    Reshape,
    Step,
    Steps,
    Take,
    Transpose,
    require_rank,
    require_shape,
)
from ..plain_forms import MICROSOFT
from ..registry import register


def _keep_order(rank: int) -> Equation:
    """Return the equation of an operand that keeps the order of all its axes."""
    names = " ".join(f"[m{i}]" for i in range(rank))
    return Equation(f"{names} -> {names}")


def list_attention_steps(
    heads: int, keys: tuple[int, ...], values: tuple[int, ...], biased: bool, placed: bool
) -> list[tuple[str, Kind, tuple[str, ...]]]:
    """List the steps of scaled dot-product attention.

    They read `qh` [batch, places, heads, dimensions], and `k` and `v` [batch, places, heads x
    dimensions], and make `y` [batch, places, heads x dimensions]. A bias is called `bias`.

    Args:
        heads: the number of heads.
        keys: the shape of `k`.
        values: the shape of `v`.
        biased: whether a bias is added to the scores.
        placed: whether a mask tells places from each other, so that their order is pinned.
    """
    query, key = ("[b] [s] h d", "[b] [t] h d") if placed else ("b s h d", "b t h d")
    (b, t, wide), (_, _, width) = keys, values

    def split(size: int, length: int) -> Movement:
        return Movement([((0,), [Reshape((b, length, heads, size // heads))])])

    steps: list[tuple[str, Kind, tuple[str, ...]]] = [
        ("kh", split(wide, t), ("k",)),
        ("vh", split(width, t), ("v",)),
        ("s", Equation(f"{query}, {key} -> b h s t"), ("qh", "kh")),
    ]
    if biased:
        steps.append(("sb", Elementwise(), ("s", "bias")))
    steps.append(("p", Equation("b h s {t} -> b h s t"), ("sb" if biased else "s",)))
    steps.append(("y", Equation("b h s t, b t h e -> b s (h e)"), ("p", "vh")))
    return steps


@register("Attention", "QAttention", domain=MICROSOFT)
def describe_attention(node: Node) -> Kind:
    """Projection, heads of queries, keys and values, and an order inside each.

    `Attention` has a plain form as well. It is described here where its plain form says nothing:
    where later places are masked, or the mask is no table of what is kept.
    """
    # The operands, in both: 0 input, 1 weights, 2 bias. QAttention has 4 weight_scale and
    # 7 weight_zero_point, and no bias of the scores: there is no operand 9.
    quantised = node.operator == "QAttention"
    shapes = [*node.shapes, *[None] * 9]
    mask, past, bias = (5, 8, 9) if quantised else (3, 4, 5)
    if shapes[past] is not None or node.results > 1:
        raise UnknownStructureError("a cache of keys and values")
    b, s, _ = require_shape(node)
    heads, total = int(node.attributes["num_heads"]), require_shape(node, 1)[1]
    widths = node.attributes.get("qkv_hidden_sizes") or [total // 3] * 3
    steps: list[tuple[str, Kind, tuple[str, ...]]] = []
    for k, name in enumerate("qkv"):
        columns = np.arange(sum(widths[:k]), sum(widths[: k + 1]))

        def taken(axis: int, columns: np.ndarray = columns) -> Movement:
            steps: list[Step] = [Take(axis, columns)]
            return Movement([((0,), steps)])

        steps.append((f"w{name}", taken(1), ("1",)))
        operands, text = ["0", f"w{name}"], "b s i, i n"
        if shapes[2] is not None:
            steps.append((f"b{name}", taken(0), ("2",)))
            operands, text = [*operands, f"b{name}"], f"{text}, n"
        if quantised and shapes[4] not in (None, (), (1,)):
            steps.append((f"c{name}", taken(0), ("4",)))
            operands, text = [*operands, f"c{name}"], f"{text}, n"
        steps.append((name, Equation(f"{text} -> b s n"), tuple(operands)))
    if quantised and shapes[7] not in (None, (), (1,)):
        raise UnknownStructureError("a zero point for every column")
    placed = shapes[mask] is not None or bool(node.attributes.get("unidirectional"))
    if shapes[mask] is not None:
        steps.append(("mask", _keep_order(require_rank(node, mask)), (str(mask),)))
    steps.append(("qh", Movement([((0,), [Reshape((b, s, heads, widths[0] // heads))])]), ("q",)))
    biased = not quantised and shapes[bias] is not None
    if biased:
        steps.append(("bias", Movement([((0,), [])]), (str(bias),)))
    return Steps(
        [
            *steps,
            *list_attention_steps(heads, (b, s, widths[1]), (b, s, widths[2]), biased, placed),
        ],
        ("y",),
    )


@register("MultiHeadAttention", domain=MICROSOFT)
def describe_multi_head_attention(node: Node) -> Kind:
    """Heads, and an order of queries and keys and one of values inside each.

    The operator has a plain form as well. It is described here where its plain form says nothing:
    where later places are masked, or the mask is no table of what is kept.
    """
    # The operands: 0 query, 1 key, 2 value, 3 bias of all three, 4 key_padding_mask,
    # 5 attention_bias, 6 past_key, 7 past_value.
    shapes = [*node.shapes, *[None] * 9]
    if any(shapes[k] is None or require_rank(node, k) != 3 for k in range(3)) or any(
        shapes[k] is not None for k in (6, 7)
    ):
        raise UnknownStructureError("packed operands, or a cache of keys and values")
    if node.results > 1:
        raise UnknownStructureError("a cache of keys and values")
    (b, s, width), heads = require_shape(node), int(node.attributes["num_heads"])
    sizes = [width, require_shape(node, 1)[2], require_shape(node, 2)[2]]
    steps: list[tuple[str, Kind, tuple[str, ...]]] = []
    for k, name in enumerate("qkv"):
        operands = [str(k)]
        if shapes[3] is not None:
            columns = np.arange(sum(sizes[:k]), sum(sizes[: k + 1]))
            steps.append((f"b{name}", Movement([((0,), [Take(0, columns)])]), ("3",)))
            operands.append(f"b{name}")
        steps.append((name, Elementwise(), tuple(operands)))
    steps.append(("qh", Movement([((0,), [Reshape((b, s, heads, width // heads))])]), ("q",)))
    biased = shapes[5] is not None
    if biased:
        steps.append(("bias", Movement([((0,), [])]), ("5",)))
    placed = shapes[4] is not None or bool(node.attributes.get("unidirectional"))
    if shapes[4] is not None:
        steps.append(("mask", _keep_order(require_rank(node, 4)), ("4",)))
    return Steps(
        [
            *steps,
            *list_attention_steps(
                heads, require_shape(node, 1), require_shape(node, 2), biased, placed
            ),
        ],
        ("y",),
    )


def list_rotation_steps(
    name: str, shape: tuple[int, ...], tables: tuple[str, str], turned: int, interleaved: bool
) -> list[tuple[str, Kind, tuple[str, ...]]]:
    """List the steps that rotate dimensions of a tensor in pairs, each by an angle of its own.

    The last step is called `{name}o`.

    Args:
        name: the tensor.
        shape: its shape, [batch, places, heads, dimensions].
        tables: the names of the tables of cosines and sines; their columns are the pairs.
        turned: the number of dimensions, the first ones, that are rotated.
        interleaved: whether the two of a pair stand beside each other, and not half of `turned`
            apart.
    """
    *outer, d = shape
    half = turned // 2
    pairs: list[Step] = [
        Take(3, np.arange(turned)),
        Reshape((*outer, half, 2) if interleaved else (*outer, 2, half)),
    ]
    text = "b s h j [p]" if interleaved else "b s h [p] j"
    return [
        (f"{name}p", Movement([((0,), pairs)]), (name,)),
        (f"{name}t", Equation(f"{text}, [m] j, [m] j -> {text}"), (f"{name}p", *tables)),
        (f"{name}f", Movement([((0,), [Reshape((*outer, turned))])]), (f"{name}t",)),
        (f"{name}r", Movement([((0,), [Take(3, np.arange(turned, d))])]), (name,)),
        (
            f"{name}o",
            Movement([((0, 1), [])], 3) if turned < d else Movement([((0,), [])]),
            (f"{name}f", f"{name}r"),
        ),
    ]


@register("RotaryEmbedding", domain=MICROSOFT)
def describe_rotary_embedding(node: Node) -> Kind:
    """Pairs of dimensions turn together; their order is that of the tables' columns."""
    shape, tables = require_shape(node), require_shape(node, 2)
    turned = int(node.attributes.get("rotary_embedding_dim", 0)) or 2 * tables[1]
    if len(shape) == 3:
        heads = int(node.attributes.get("num_heads", 0)) or shape[2] // turned
        wide: tuple[int, ...] = (*shape[:2], heads, shape[2] // heads)
        there: list[Step] = [Reshape(wide)]
        back: list[Step] = [Reshape(shape)]
    else:
        wide = (shape[0], shape[2], shape[1], shape[3])
        there, back = [Transpose((0, 2, 1, 3))], [Transpose((0, 2, 1, 3))]
    steps: list[tuple[str, Kind, tuple[str, ...]]] = [
        ("ids", _keep_order(require_rank(node, 1)), ("1",)),
        ("x", Movement([((0,), there)]), ("0",)),
        *list_rotation_steps(
            "x", wide, ("2", "3"), turned, bool(node.attributes.get("interleaved"))
        ),
        ("y", Movement([((0,), back)]), ("xo",)),
    ]
    return Steps(steps, ("y",))


def shape_group_query_attention(node: Node) -> list[tuple[int, ...]]:
    """Shape the result as the queries, and the caches as they are after what is new."""
    b, s, width = require_shape(node)
    heads, keys = int(node.attributes["num_heads"]), int(node.attributes["kv_num_heads"])
    d = width // heads if node.shapes[1] else width // (heads + 2 * keys)
    past = node.shapes[3]
    length = (past[2] if past else 0) + s
    return [(b, s, heads * d), (b, keys, length, d), (b, keys, length, d)][: node.results]


@register("GroupQueryAttention", domain=MICROSOFT, shape=shape_group_query_attention)
def describe_group_query_attention(node: Node) -> Kind:
    """Orders of key heads, of the queries of each, and inside them; caches keep theirs."""
    # The operands: 0 query, 1 key, 2 value, 3 past_key, 4 past_value, 5 seqlens_k,
    # 6 total_sequence_length, 7 cos_cache, 8 sin_cache, 9 position_ids. Without operand 1 the first
    # one has query, key and value side by side.
    given = [s is not None for s in node.shapes] + [False] * 16
    if any(given[10:16]) or node.results > 3:
        raise UnknownStructureError("a bias, a sink, norms or scales inside the operator")
    (b, s, width), heads = require_shape(node), int(node.attributes["num_heads"])
    keys = int(node.attributes["kv_num_heads"])
    d = width // heads if given[1] else width // (heads + 2 * keys)
    counts = {"q": heads, "k": keys, "v": keys}
    steps: list[tuple[str, Kind, tuple[str, ...]]] = []
    start = 0
    for operand, (name, count) in enumerate(counts.items()):
        moves: list[Step] = [Reshape((b, s, count, d))]
        if not given[1]:
            moves.insert(0, Take(2, np.arange(start, start + count * d)))
            start += count * d
        steps.append((name, Movement([((0,), moves)]), (str(operand) if given[1] else "0",)))
    found = {name: name for name in counts}
    if node.attributes.get("do_rotary"):
        turned = 2 * require_shape(node, 7)[1]
        for name in "qk":
            steps += list_rotation_steps(
                name,
                (b, s, counts[name], d),
                ("7", "8"),
                turned,
                bool(node.attributes.get("rotary_interleaved")),
            )
            found[name] = f"{name}o"
    for k in (5, 6, 9):
        if given[k]:
            steps.append((f"kept{k}", _keep_order(require_rank(node, k)), (str(k),)))
    for name, past in (("k", 3), ("v", 4)):
        if given[past]:
            steps.append(
                (f"past{name}", Movement([((0,), [Transpose((0, 2, 1, 3))])]), (str(past),))
            )
            steps.append((f"all{name}", Movement([((0, 1), [])], 1), (f"past{name}", found[name])))
            found[name] = f"all{name}"
        # What is cached has an order in time, as the mask has.
        steps.append((f"present{name}", Equation("b [t] h d -> b h [t] d"), (found[name],)))
    group = Movement([((0,), [Reshape((b, s, keys, heads // keys, d))])])
    steps += [
        ("qg", group, (found["q"],)),
        ("scores", Equation("[b] [s] h g d, [b] [t] h d -> b h g s t"), ("qg", found["k"])),
        ("p", Equation("b h g s {t} -> b h g s t"), ("scores",)),
        ("y", Equation("b h g s t, b t h e -> b s (h g e)"), ("p", found["v"])),
    ]
    return Steps(steps, ("y", "presentk", "presentv")[: node.results])
