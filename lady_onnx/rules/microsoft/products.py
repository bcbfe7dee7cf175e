"""Products, sums and look-ups that are as those of ONNX, of other types.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from ...vocabulary.structure import MICROSOFT
from ..kinds import Elementwise, Equation, Kind, Node, require_rank
from ..laws import Linear
from ..operators.linear import describe_gemm, describe_matmul
from ..operators.spatial import spell_reduction
from ..registry import register, register_equation
from ..step_list import StepList


@register("MulInteger", domain=MICROSOFT, typed_like=0)
def describe_whole_product(node: Node) -> Kind:
    """Every element alone; zero points are numbers."""
    # The operands: 0 A, 1 A_zero_point, 2 B, 3 B_zero_point.
    w = StepList()
    return w.finish(w.combine("0", "2"))


@register("MatMulInteger16", domain=MICROSOFT, typed_like=0)
def describe_whole_matmul(node: Node) -> Kind:
    """As MatMul."""
    return describe_matmul(node)


@register("GemmFloat8", domain=MICROSOFT)
def describe_small_gemm(node: Node) -> Kind:
    """As Gemm; scales are numbers."""
    w = StepList()
    given = [k for k, shape in enumerate(node.shapes[:3]) if shape is not None]
    kind = describe_gemm(node)
    return w.finish(w.apply(kind, *(str(k) for k in given)))


@register("ReduceSumInteger", "QLinearReduceMean", domain=MICROSOFT, typed_like=0)
def describe_whole_sum(node: Node) -> Kind:
    """Contracts its axes; scales and zero points are numbers."""
    rank = require_rank(node)
    axes = node.attributes.get("axes") or range(rank)
    w = StepList()
    text = spell_reduction(rank, axes, bool(node.attributes.get("keepdims", 1)))
    return w.finish(w.relate(text, "0"))


@register("IsAllFinite", domain=MICROSOFT)
def describe_check(node: Node) -> Kind:
    """One answer for all elements."""
    w = StepList()
    answers = []
    for k in range(len(node.shapes)):
        names = " ".join(f"x{a}" for a in range(require_rank(node, k)))
        answers.append(w.relate(f"{names} ->", str(k)))
    return w.finish(w.combine(*answers))


@register("TorchEmbedding", domain=MICROSOFT)
def describe_embedding(node: Node) -> Kind:
    """Rows keep their order, the width is free."""
    w = StepList()
    places = " ".join(f"i{k}" for k in range(require_rank(node, 1)))
    return w.finish(w.relate(f"[v] c, {places} -> {places} c", "0", "1", law=Linear()))


@register("MurmurHash3", "SampleOp", domain=MICROSOFT, typed_like=0)
def describe_each_element(node: Node) -> Kind:
    """Every element alone."""
    return Elementwise()


@register("WordConvEmbedding", domain=MICROSOFT)
def describe_word_embedding(node: Node) -> Kind:
    """Words and letters keep their order, filters and the width of letters are free."""
    return Equation("[s] [l], f 1 [k] e, f, [v] e -> [s] f")


# Distances between rows of two matrices.
register_equation("m k, n k -> m n", "CDist", domain=MICROSOFT)
