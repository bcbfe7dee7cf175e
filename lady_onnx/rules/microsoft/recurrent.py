"""Recurrences: LSTM with weights in bytes, linear attention, and convolutions with a state.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import math

from ...vocabulary.structure import MICROSOFT
from ..kinds import Equation, Kind, Node, Reshape, require_rank, require_shape
from ..laws import SUM, Linear, Multilinear
from ..operators.recurrent import describe_cells
from ..registry import register, register_equation
from ..step_list import StepList
from .heads import find_operand, take_columns


@register("DynamicQuantizeLSTM", domain=MICROSOFT)
def describe_quantised_lstm(node: Node) -> Kind:
    """As LSTM, of weights that are transposed; scales and zero points follow gates and units."""
    # The operands: 8 W_scale, 9 W_zero_point, 10 R_scale, 11 R_zero_point; one number for each
    # direction, or for each row of it.
    sides = {k: "d" if require_rank(node, k) == 1 else "d ([g] h)" for k in range(8, 12)}
    beside = [{k: sides[k] for k in pair} for pair in ((8, 9), (10, 11))]
    return describe_cells(node, 4, ("d i ([g] h)", "d k ([g] h)"), (beside[0], beside[1]))


@register("LinearAttention")
@register("LinearAttention", domain=MICROSOFT)
def describe_linear_attention(node: Node) -> Kind:
    """Heads, and in each an order of keys and one of values, which the state shares."""
    # The operands: 0 query, 1 key, 2 value, 3 past_state, 4 decay, 5 beta.
    w = StepList()
    queries, heads = int(node.attributes["q_num_heads"]), int(node.attributes["kv_num_heads"])
    b, t, width = require_shape(node)
    d, e = width // queries, require_shape(node, 2)[2] // heads
    # Each key head has several query heads, or each query head several key heads.
    shared = min(queries, heads)
    groups = {"0": queries // shared, "1": heads // shared, "2": heads // shared}
    query, key, value = (
        w.move(x, Reshape((b, t, shared, group, size)))
        for (x, group), size in zip(groups.items(), (d, d, e), strict=True)
    )
    state_shape = (b, shared, heads // shared, d, e)
    if b"delta" in node.attributes.get("update_rule", b"gated_delta"):
        # What the keys read of the state is taken off the values, and so keys meet keys.
        key = w.map(key)
    text = "b [t] h g d, b [t] h g e -> b h g d e"
    state = w.relate(text, key, value, law=Multilinear())
    past = find_operand(node, 3)
    window = past[:1] if past and len(past) == 5 else ()
    if past is not None:
        earlier = w.move("3", Reshape((*window, *state_shape)))
        side = "[w] b h g d e" if window else "b h g d e"
        state = w.relate(f"b h g d e, {side} -> b h g d e", state, earlier, law=SUM)
    for k in (4, 5):
        given = find_operand(node, k)
        if given is not None:
            size = given[2] // heads if given[2] > 1 else 1
            outer = (shared, heads // shared) if given[2] > 1 else (1, 1)
            gate = w.map(w.move(str(k), Reshape((b, t, *outer, size))))
            names = " ".join(("h g" if given[2] > 1 else "1 1", "d" if size > 1 else "1"))
            text = f"b h g d e, b [t] {names} -> b h g d e"
            state = w.relate(text, state, gate, law=Multilinear())
    # One of the two groups is of one.
    text = "b [t] h q d, b h g d e -> b [t] h q g e"
    seen = w.relate(text, query, state, law=Multilinear())
    seen = w.move(seen, Reshape((b, t, max(queries, heads) * e)))
    made = w.move(state, Reshape((b, heads, d, e)))
    count = int(node.attributes.get("state_window", 0))
    if count:
        made = w.relate("b h d e -> [w] b h d e", made, law=Linear(), w=count)
    return w.finish(*[seen, made][: node.results])


@register("GatedDeltaNet", domain=MICROSOFT, typed_like=0)
def describe_gated_delta_net(node: Node) -> Kind:
    """Heads of keys, heads of values of each, and in each an order of keys and one of values."""
    # The operands: 0 query, 1 key, 2 value, 3 cu_seqlens, 4 decay, 5 beta, 6 initial_state,
    # 7 a_log, 8 dt_bias, 9 capture_count, 10 state_update_active.
    w, shape, state = StepList(), require_shape(node), find_operand(node, 6)
    given = find_operand(node, 2)
    outer = shape[:-2] if given else shape[:-1]
    n = math.prod(outer)
    if given is not None:
        (queries, d), (heads, e) = shape[-2:], given[-2:]
        parts = ["0", "1", "2"]
    else:
        # Packed rows: the state tells the sizes.
        _, heads, e, d = require_shape(node, 6)
        queries = (shape[-1] - heads * e) // (2 * d)
        widths = [queries * d, queries * d, heads * e]
        parts = take_columns(w, "0", len(shape) - 1, widths)
    group = heads // queries
    query, key = (w.move(x, Reshape((n, queries, d))) for x in parts[:2])
    value = w.move(parts[2], Reshape((n, queries, group, e)))
    kept = w.relate("[n] h d, [n] h g e -> h g e d", key, value)
    for k, side in ((4, "[n] h g"), (5, "[n] h g"), (7, "h g"), (8, "h g")):
        gate = find_operand(node, k)
        if gate is not None:
            tail = (d,) if len(gate) > len(outer) + 1 else ()
            wide = (*([n] if k < 6 else []), queries, group, *tail)
            laid = w.move(str(k), Reshape(wide))
            kept = w.relate(f"h g e d, {side}{' d' if tail else ''} -> h g e d", kept, laid)
    if state is not None:
        earlier = w.move("6", Reshape((state[0], queries, group, e, d)))
        kept = w.relate("h g e d, [b] h g e d -> h g e d", kept, earlier)
    for k in (3, 9, 10):
        if find_operand(node, k) is not None:
            w.keep(str(k), 1)
    text = "[n] h d, h g e d -> [n] h g e"
    seen = w.move(w.relate(text, query, kept), Reshape((*outer, heads, e)))
    results = [seen]
    if node.results > 1:
        batch = state[0] if state else outer[0]
        made = w.relate("h g e d -> [b] h g e d", kept, b=batch)
        results.append(w.move(made, Reshape((batch, heads, e, d))))
    return w.finish(*results)


@register("CausalConvWithState", domain=MICROSOFT)
def describe_causal_convolution(node: Node) -> Kind:
    """Every channel alone; its places and those of the state keep their order."""
    # The operands: 0 input, 1 weight, 2 bias, 3 past_state.
    w, shape, kernel = StepList(), require_shape(node), require_shape(node, 1)
    past, is_last = find_operand(node, 3), bool(node.attributes.get("channels_last"))
    window = int(node.attributes.get("state_window", 0))
    channels, rest = kernel[0], shape[2:]
    x = w.move("0", Reshape((*shape[:2], channels))) if is_last else "0"
    places = " ".join(f"[x{k}]" for k in range(len(rest)))
    side = "b [t] c" if is_last else f"b c {places}"
    stored = f"{'[w] ' if window else ''}{'b [p] c' if is_last else f'b c {_name_state(rest)}'}"
    weight = " ".join(["c", "1", *(f"[k{k}]" for k in range(len(kernel) - 2))])
    if past is not None:
        laid = (*past[: 2 + bool(window)], channels)
        earlier = w.move("3", Reshape(laid)) if is_last else "3"
        x = w.relate(f"{side}, {stored} -> {side}", x, earlier, law=SUM)
    sides, met = [side, weight], [x, "1"]
    if find_operand(node, 2) is not None:
        sides.append("c")
        met.append("2")
    text = ", ".join(sides)
    length = (kernel[-1] - 1) * int(node.attributes.get("dilation", 1))
    sizes = {"p": length, **({"w": window} if window else {})}
    y = w.relate(f"{text} -> {side}", *met, law=Multilinear())
    if node.attributes.get("activation", b"none") != b"none":
        y = w.map(y)
    state = w.apply(Equation(f"{side} -> {stored}", sizes), x, law=Linear())
    if is_last:
        y = w.move(y, Reshape(shape))
        state = w.move(state, Reshape((*([window] if window else []), shape[0], length, *rest)))
    return w.finish(*[y, state][: node.results])


def _name_state(rest: tuple[int, ...]) -> str:
    """Return the names of the places of a state: the last axis alone is one of time."""
    return " ".join([*(f"[x{k}]" for k in range(len(rest) - 1)), "[p]"])


@register("VarlenCausalConvWithState", domain=MICROSOFT)
def describe_packed_causal_convolution(node: Node) -> Kind:
    """Every channel alone; tokens and the places of the state keep their order."""
    count = int(node.attributes.get("state_update_capacity", 0))
    results = ["[n] c", "b c [p]", "b [u] c"][: node.results]
    w = StepList()
    for k in (2, 5):
        if find_operand(node, k) is not None:
            w.keep(str(k), require_rank(node, k))
    sides, met = ["[n] c", "c 1 [k]", "[b] c [p]"], ["0", "1", "4"]
    if find_operand(node, 3) is not None:
        sides.append("c")
        met.append("3")
    batch, _, length = require_shape(node, 4)
    sizes = {"b": batch, "p": length, "u": count}
    made = [
        w.apply(Equation(f"{', '.join(sides)} -> {result.replace('b ', '[b] ')}", sizes), *met)
        for result in results
    ]
    return w.finish(*made)


# The decay of each head; the second result is that of another operand alone.
register_equation("b t h, h, h, b t h -> b t h, b t h", "LinearAttentionGate", domain=MICROSOFT)
