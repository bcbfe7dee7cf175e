"""Norms over groups and branches, and what mixes branches.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from ...errors import UnknownStructureError
from ...vocabulary.structure import MICROSOFT
from ..kinds import Kind, Node, Reshape, require_rank, require_shape
from ..laws import SUM, Multilinear, Norm
from ..registry import register
from ..step_list import StepList
from .heads import Shape, find_operand


@register("GroupNorm", "SkipGroupNorm", domain=MICROSOFT)
def describe_group_norm(node: Node) -> Kind:
    """Groups of channels, and channels in each; what is added has their order."""
    # The operands: 0 X, 1 gamma, 2 beta; for SkipGroupNorm 3 skip and 4 bias.
    w, rank = StepList(), require_rank(node)
    places = [f"x{k}" for k in range(rank - 2)]
    is_last = bool(node.attributes.get("channels_last", 1))
    names = ["b", *places, "c"] if is_last else ["b", "c", *places]
    text = " ".join(names)
    total = "0"
    for k, side in ((3, None), (4, "c")):
        shape = find_operand(node, k)
        if shape is None:
            continue
        if side is None:
            side = text if len(shape) == rank else "b c"
        total = w.relate(f"{text}, {side} -> {text}", total, str(k), law=SUM)
    normed = [f"{{{n}}}" if n in places else "(g {i})" if n == "c" else n for n in names]
    made = ["(g i)" if n == "c" else n for n in names]
    y = w.relate(
        f"{' '.join(normed)}, (g i), (g i) -> {' '.join(made)}",
        *(total, "1", "2"),
        law=Norm(keeps_sign=False),
        g=int(node.attributes["groups"]),
    )
    if node.attributes.get("activation"):
        y = w.map(y)
    return w.finish(*[y, total][: node.results])


def _group_branches(node: Node, width: int | None = None) -> tuple[Shape, Shape]:
    """Return the shape of the first operand, and that with branches on an axis of their own.

    Args:
        node: the node.
        width: the number of features of each branch, where that is known.

    Raises:
        UnknownStructureError: branches are flattened, and the node does not say how many.
    """
    shape, count = require_shape(node), int(node.attributes.get("num_branches", 0))
    if not count:
        return shape, shape
    grouped = (*shape[:-1], count, shape[-1] // count)
    if width not in (None, grouped[-1]):
        raise UnknownStructureError("branches of another width")
    return shape, grouped


@register("BranchwiseRMSNorm", domain=MICROSOFT)
def describe_branch_norm(node: Node) -> Kind:
    """Branches, and an order of features inside each; one gain for all gives them one order."""
    w = StepList()
    shape, grouped = _group_branches(node)
    left = " ".join(f"x{k}" for k in range(len(grouped) - 2))
    x, gain = w.move("0", Reshape(grouped)), find_operand(node, 1)
    sides, met = [f"{left} c {{h}}"], [x]
    if gain is not None:
        is_shared = gain == grouped[-1:]
        sides.append("h" if is_shared else "c h")
        met.append("1" if is_shared else w.move("1", Reshape(grouped[-2:])))
    # Where features have one order, their signs in each branch would hide that of both.
    has_gains = gain is not None and gain != grouped[-1:]
    law = Norm(keeps_sign=True) if has_gains else None
    y = w.relate(f"{', '.join(sides)} -> {left} c h", *met, law=law)
    return w.finish(w.move(y, Reshape(shape)))


def _lay_gates(w: StepList, node: Node, operand: int, grouped: Shape) -> tuple[str, str]:
    """Add what lays gates of branches out, and return them with the names of their last axes."""
    shape, rank = require_shape(node, operand), len(grouped)
    if shape == grouped[:-1] and len(shape) < rank:
        return str(operand), "c"
    if shape == (*grouped[:-1], 1) and grouped[-1] > 1:
        return str(operand), "c 1"
    return w.move(str(operand), Reshape(grouped)), "c h"


@register("HyperConnectionPreMix", domain=MICROSOFT)
def describe_branch_sum(node: Node) -> Kind:
    """The sum of branches, each times its gates."""
    w = StepList()
    _, grouped = _group_branches(node)
    left = " ".join(f"x{k}" for k in range(len(grouped) - 2))
    streams = w.move("0", Reshape(grouped))
    gates, names = _lay_gates(w, node, 1, grouped)
    text = f"{left} c h, {left} {names} -> {left} h"
    return w.finish(w.relate(text, streams, gates, law=Multilinear()))


@register("HyperConnectionPostMix", domain=MICROSOFT)
def describe_branch_mix(node: Node) -> Kind:
    """Branches mixed by a matrix, and what is added to each, times its gates."""
    # The operands: 0 streams, 1 block_output, 2 post_mix, 3 stream_mix.
    w = StepList()
    shape, grouped = _group_branches(node, require_shape(node, 1)[-1])
    left = " ".join(f"x{k}" for k in range(len(grouped) - 2))
    streams = w.move("0", Reshape(grouped))
    if find_operand(node, 3) is not None:
        text = f"{left} c h, {left} c k -> {left} k h"
        streams = w.relate(text, streams, "3", law=Multilinear())
    gates, names = _lay_gates(w, node, 2, grouped)
    text = f"{left} h, {left} {names} -> {left} c h"
    beside = w.relate(text, "1", gates, law=Multilinear(), c=grouped[-2])
    every = f"{left} c h"
    total = w.relate(f"{every}, {every} -> {every}", streams, beside, law=SUM)
    return w.finish(w.move(total, Reshape(shape)))


@register("EngramGate", domain=MICROSOFT)
def describe_engram_gate(node: Node) -> Kind:
    """Branches, in each an order of keys and queries; values have one order for all of them."""
    # The operands: 0 key, 1 query, 2 value, 3 and 4 gains of the norms of both, 5 that of the
    # result.
    w = StepList()
    key, query = (w.relate("b s c {h}, c h -> b s c h", x, k) for x, k in (("0", "3"), ("1", "4")))
    gate = w.relate("b s c h, b s c h -> b s c", key, query)
    y = w.relate("b s c, b s v -> b s c v", gate, "2")
    results = [y]
    if find_operand(node, 5) is not None:
        results.append(w.relate("b s c {v}, c v -> b s c v", y, "5"))
    return w.finish(*results[: node.results])
