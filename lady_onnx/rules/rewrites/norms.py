"""Rewrites of normalisations: each is spelled out, or folded into a factor and an offset."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...normalform.algebra.constants import make_number, negate_constant
from ...normalform.algebra.elementwise import make_reciprocal, make_square_root
from ...normalform.algebra.movements import make_reshape
from ...normalform.algebra.normalisations import (
    make_group_normalisation,
    make_normalisation,
)
from ...normalform.algebra.numbering import Terms
from ...normalform.algebra.sums import make_product, make_sum
from ...normalform.algebra.term import Leaf, Term
from ...semantics.factorisation import as_integers
from ...semantics.lengths import are_numbers
from .arguments import read_axis
from .call import Call, register_rewrite


@register_rewrite("BatchNormalization")
def rewrite_batch_norm(call: Call) -> Term | None:
    """Fold a normalisation by constant statistics into a factor and an offset for each channel."""
    x, *rest = call.operands
    if (
        x is None
        or len(rest) < 4
        or any(r is None or r.leaf is None for r in rest)
        or not x.is_reassociable
        or x.rank is None
    ):
        return None
    if any(r is not None and r.dtype != x.dtype for r in rest):
        return None
    if (
        call.attributes.get("training_mode")
        or not call.attributes.get("spatial", 1)
        or any(call.node.output[1:])
    ):
        return None
    if any(
        r.rank != 1 or x.shape is None or x.rank < 2 or r.shape != x.shape[1:2]
        for r in rest[:4]
        if r is not None
    ):
        return None
    # Before version 7 a node without `is_test` trains.
    if call.version < 7 and not call.attributes.get("is_test"):
        return None
    call.ignore_attributes("momentum")
    terms = call.terms
    shape = (-1, *[1] * (x.rank - 2)) if x.rank > 1 else (-1,)
    scale, shift, mean, variance = (
        terms.move_constant(r.leaf, lambda a: a.reshape(shape)) for r in rest[:4] if r and r.leaf
    )
    epsilon = make_number(terms, float(call.attributes.get("epsilon", 1e-5)), variance)
    factor = make_product(
        terms,
        scale,
        make_reciprocal(terms, make_square_root(terms, make_sum(terms, variance, epsilon))),
    )
    if factor.leaf is None or mean.leaf is None:
        return None
    offset = make_sum(terms, shift, make_product(terms, negate_constant(terms, mean.leaf), factor))
    return make_sum(terms, make_product(terms, x, factor), offset)


def _is_gain(x: Term, gain: Term, axes: Sequence[int]) -> bool:
    """Tell whether a gain or a bias has exactly the lengths of the axes normalised over."""
    return x.shape is not None and gain.shape == tuple(x.shape[a] for a in axes)


@register_rewrite("LayerNormalization")
def rewrite_layer_norm(call: Call) -> Term | None:
    """Spell out the normalisation, its gain and its bias."""
    x, scale, bias = (call.get_operand(k) for k in range(3))
    if (
        x is None
        or scale is None
        or x.rank is None
        or not x.is_reassociable
        or call.has_result(1)
        or call.has_result(2)
    ):
        return None
    if call.attributes.get("stash_type", 1) != 1:
        return None
    axes = list(range(read_axis(call, default=-1), x.rank))
    if not _is_gain(x, scale, axes) or (bias is not None and not _is_gain(x, bias, axes)):
        return None
    made = make_normalisation(
        call.terms, x, axes, float(call.attributes.get("epsilon", 1e-5)), True
    )
    made = make_product(call.terms, made, scale)
    return made if bias is None else make_sum(call.terms, made, bias)


@register_rewrite("RMSNormalization")
def rewrite_rms_norm(call: Call) -> Term | None:
    """Spell out the division by the root mean square, and the gain."""
    x, scale = call.get_operand(0), call.get_operand(1)
    if x is None or scale is None or x.rank is None or not x.is_reassociable:
        return None
    if call.attributes.get("stash_type", 1) != 1:
        return None
    axes = list(range(read_axis(call, default=-1), x.rank))
    if not _is_gain(x, scale, axes):
        return None
    made = make_normalisation(
        call.terms, x, axes, float(call.attributes.get("epsilon", 1e-5)), False
    )
    return make_product(call.terms, made, scale)


@register_rewrite("InstanceNormalization")
def rewrite_instance_norm(call: Call) -> Term | None:
    """Spell out the normalisation over the places of each channel, its gain and its bias."""
    x, scale, bias = (call.get_operand(k) for k in range(3))
    if x is None or scale is None or bias is None or x.rank is None or not x.is_reassociable:
        return None
    if (
        scale.leaf is None
        or bias.leaf is None
        or x.shape is None
        or {scale.shape, bias.shape} != {x.shape[1:2]}
    ):
        return None
    made = make_normalisation(
        call.terms, x, range(2, x.rank), float(call.attributes.get("epsilon", 1e-5)), True
    )
    return _apply_to_channels(call.terms, made, scale.leaf, bias.leaf)


def _apply_to_channels(terms: Terms, term: Term, gain: Leaf, bias: Leaf) -> Term:
    """Multiply each channel, the second axis of a term, by its gain and add its bias."""
    shape = (-1, *[1] * ((term.rank or 2) - 2))
    factor, offset = (terms.move_constant(v, lambda a: a.reshape(shape)) for v in (gain, bias))
    return make_sum(terms, make_product(terms, term, factor), offset)


@register_rewrite("GroupNormalization")
def rewrite_group_norm(call: Call) -> Term | None:
    """Spell out the normalisation over each group of channels, its gain and its bias."""
    x, scale, bias = (call.get_operand(k) for k in range(3))
    if x is None or scale is None or bias is None or x.shape is None or not x.is_reassociable:
        return None
    if (
        call.attributes.get("stash_type", 1) != 1
        or scale.leaf is None
        or bias.leaf is None
        or not are_numbers(x.shape[1:])
        or {scale.shape, bias.shape} != {x.shape[1:2]}
    ):
        return None
    channels, *lengths = as_integers(x.shape[1:])
    count, places = int(call.attributes["num_groups"]), math.prod(lengths)
    if not lengths or count < 1 or channels % count:
        return None
    grouped = make_reshape(call.terms, x, [x.shape[0], count, channels // count * places])
    made = make_group_normalisation(
        call.terms, grouped, [2], float(call.attributes.get("epsilon", 1e-5))
    )
    flat = make_reshape(call.terms, made, [x.shape[0], channels, places])
    made = _apply_to_channels(call.terms, flat, scale.leaf, bias.leaf)
    return make_reshape(call.terms, made, x.shape)
