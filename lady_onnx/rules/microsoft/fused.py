"""Operators that onnxruntime's optimisers and quantisation tools write.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import itertools
from typing import Any

import onnx.shape_inference
from onnx import TensorProto

from ...errors import UnknownStructure
from ..kinds import (
    Elementwise,
    Equation,
    Kind,
    Movement,
    Node,
    rank_of,
    shape_of,
)
from ..laws import Opaque
from ..operators import quantised
from ..operators.linear import convolution, gemm
from ..operators.quantised import per
from ..registry import ShapeOf, register

MICROSOFT = "com.microsoft"
STANDARD_OPSET = 20
"""The version of the default domain in which shapes are inferred."""
WINDOW = {
    "auto_pad",
    "ceil_mode",
    "count_include_pad",
    "dilations",
    "group",
    "kernel_shape",
    "pads",
    "strides",
}
"""The attributes that say how windows lie."""


def shaped_like(operator: str, data: int = 0, weight: int | None = None) -> ShapeOf:
    """Gives the shape of a fused operator's result by ONNX's inference of the standard one.

    Args:
        operator: the standard operator.
        data: the operand with the map; an attribute `channels_last` says how it lies.
        weight: the operand with the weight, for a convolution.
    """

    def shape(node: Node) -> list[tuple[int, ...]]:
        is_nhwc = node.operator.startswith("Nhwc") or node.attributes.get("channels_last", 0)
        operands = [shape_of(node, data)]
        if weight is not None:
            operands.append(shape_of(node, weight))
        moved = operands if node.operator.startswith("Nhwc") else operands[:1]
        if is_nhwc:
            operands = [(*s[:1], *s[-1:], *s[1:-1]) for s in moved] + operands[len(moved) :]
        given = {n: v for n, v in node.attributes.items() if n in WINDOW}
        made = _infer_shape(operator, operands, given)
        return [(*made[:1], *made[2:], made[1]) if is_nhwc else made]

    return shape


def _infer_shape(
    operator: str, operands: list[tuple[int, ...]], attributes: dict[str, Any]
) -> tuple[int, ...]:
    """Returns the shape of the result of a standard operator."""
    names = [f"x{k}" for k in range(len(operands))]
    node = onnx.helper.make_node(operator, names, ["y"], **attributes)
    kinds = {
        n: onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, s)
        for n, s in zip(names, operands, strict=True)
    }
    try:
        schema = onnx.defs.get_schema(operator, STANDARD_OPSET)
        opsets = [onnx.helper.make_opsetid("", STANDARD_OPSET)]
        made = onnx.shape_inference.infer_node_outputs(schema, node, kinds, opset_imports=opsets)
        return tuple(d.dim_value for d in made["y"].tensor_type.shape.dim)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UnknownStructure("operands that do not fit the operator") from error


@register("Gelu", "FastGelu", "BiasGelu", "QuickGelu", domain=MICROSOFT)
def gelu(node: Node) -> Kind:
    """Every element alone, with a bias."""
    return Elementwise()


register("FusedGemm", domain=MICROSOFT)(gemm)


@register("FusedConv", domain=MICROSOFT, shape=shaped_like("Conv", weight=1))
def fused_convolution(node: Node) -> Equation:
    """As Conv, and a map that is added."""
    # the fourth operand is added to the result
    kind = convolution(node)
    return Equation(kind.text.replace(", (g o) ->", ", (g o), b (g o) [y..] ->"), kind.sizes)


def _last(kind: Equation) -> Equation:
    """The same with the channels of maps on their last axis."""
    text = kind.text
    for channels, places in itertools.product(("(g i)", "(g o)", "c"), ("[x..]", "[y..]")):
        text = text.replace(f"b {channels} {places}", f"b {places} {channels}")
    return Equation(text, kind.sizes)


@register("NhwcConv", domain=MICROSOFT, shape=shaped_like("Conv", weight=1))
def convolution_with_channels_last(node: Node) -> Kind:
    """As Conv, of maps and weights with the channels on their last axis."""
    kind = _last(fused_convolution(node))
    return Equation(kind.text.replace("(g o) i [w..]", "(g o) [w..] i"), kind.sizes)


@register("QLinearConv", domain=MICROSOFT, shape=shaped_like("Conv", weight=3), typed_like=0)
def quantised_convolution(node: Node) -> Kind:
    """As QLinearConv of the default domain; maps may have their channels on their last axis."""
    kind = quantised.convolution(node)
    return _last(kind) if node.attributes.get("channels_last") else kind


@register("NhwcMaxPool", domain=MICROSOFT, shape=shaped_like("MaxPool"), typed_like=0)
def pooling_with_channels_last(node: Node) -> Kind:
    """As MaxPool, of maps with the channels on their last axis."""
    return _last(Equation("b c [x..] -> b c [y..]"))


@register("FusedMatMul", domain=MICROSOFT)
def fused_product(node: Node) -> Kind:
    """As MatMul, of either transpose; `transBatchA` and `transBatchB` say that the rows lie before the batches."""
    a, b = rank_of(node, 0), rank_of(node, 1)
    if min(a, b) < 2:
        raise UnknownStructure("a product with a vector")
    batch = [f"b{i}" for i in range(max(a, b) - 2)]
    left = ["k", "m"] if node.attributes.get("transA") else ["m", "k"]
    right = ["n", "k"] if node.attributes.get("transB") else ["k", "n"]
    sides = [*batch[len(batch) - a + 2 :], *left], [*batch[len(batch) - b + 2 :], *right]
    for side, which in zip(sides, "AB", strict=True):
        if node.attributes.get(f"transBatch{which}"):
            side.insert(0, side.pop(-2))
    return Equation(f"{' '.join(sides[0])}, {' '.join(sides[1])} -> {' '.join([*batch, 'm', 'n'])}")


@register("DynamicQuantizeMatMul", "MatMulIntegerToFloat", domain=MICROSOFT)
def dynamic_product(node: Node) -> Kind:
    """A product; scales and zero points follow its columns."""
    a, b = rank_of(node, 0), rank_of(node, 1)
    if a < 2 or b != 2:
        raise UnknownStructure("a weight that is no matrix")
    left = [*(f"b{i}" for i in range(a - 2)), "m"]
    shapes = [*node.shapes, *[None] * 7]
    sides = [" ".join([*left, "k"]), "k n"]
    if node.operator == "MatMulIntegerToFloat":
        rest = [("m", 2), ("n", 3), ("m", 4), ("n", 5), ("n", 6)]
    else:
        rest = [("n", 2), ("n", 3), ("n", 4)]
    sides += [per(shapes[k], axis) for axis, k in rest]
    return Equation(f"{', '.join(sides[: len(node.shapes)])} -> {' '.join([*left, 'n'])}")


def quantised_gemm_type(operands: int) -> int:
    """Bytes where the result has a scale, floats as the scales are where it has none."""
    return 0 if operands > 7 else 1


@register("QGemm", domain=MICROSOFT, typed_like=quantised_gemm_type)
def quantised_gemm(node: Node) -> Kind:
    """As Gemm; scales and zero points follow its columns."""
    shapes = [*node.shapes, *[None] * 9]
    a = "k m" if node.attributes.get("transA") else "m k"
    b = "n k" if node.attributes.get("transB") else "k n"
    sides = [
        a,
        per(shapes[1], ""),
        per(shapes[2], ""),
        b,
        per(shapes[4], "n"),
        per(shapes[5], "n"),
        "n",
    ]
    sides += [per(shapes[7], ""), per(shapes[8], "")]
    return Equation(f"{', '.join(sides[: len(node.shapes)])} -> m n")


@register("QLinearAdd", "QLinearMul", domain=MICROSOFT, typed_like=0)
def quantised_pair(node: Node) -> Kind:
    """Every element of two operands alone."""
    return Elementwise()


@register("QLinearSigmoid", "QLinearLeakyRelu", domain=MICROSOFT, typed_like=0)
def quantised_activation(node: Node) -> Kind:
    """Every element alone."""
    return Elementwise()


@register("QLinearAveragePool", domain=MICROSOFT, shape=shaped_like("AveragePool"), typed_like=0)
def quantised_pooling(node: Node) -> Kind:
    """As AveragePool; maps may have their channels on their last axis."""
    kind = Equation("b c [x..], , , , -> b c [y..]")
    return _last(kind) if node.attributes.get("channels_last") else kind


@register("QLinearGlobalAveragePool", domain=MICROSOFT, typed_like=0)
def quantised_average(node: Node) -> Kind:
    """As GlobalAveragePool; maps may have their channels on their last axis."""
    space = [f"x{i}" for i in range(rank_of(node) - 2)]
    names, gone = ["c", *space], ["c", *("1" for _ in space)]
    if node.attributes.get("channels_last"):
        names, gone = [*names[1:], "c"], [*gone[1:], "c"]
    return Equation(f"b {' '.join(names)}, , , , -> b {' '.join(gone)}")


@register("QLinearSoftmax", domain=MICROSOFT, typed_like=0)
def quantised_softmax(node: Node) -> Kind:
    """As Softmax."""
    names = [f"x{i}" for i in range(rank_of(node))]
    axis = int(node.attributes.get("axis", -1)) % len(names)
    stop = axis + 1 if node.attributes.get("opset", 13) >= 13 else len(names)
    over = " ".join(f"{{{n}}}" if axis <= i < stop else n for i, n in enumerate(names))
    return Equation(f"{over}, , , , -> {' '.join(names)}")


@register("QLinearConcat", domain=MICROSOFT, law=Opaque(), typed_like=2)
def quantised_concat(node: Node) -> Kind:
    """As Concat."""
    # scale and zero point of the result, then a tensor, its scale and its zero point for each part
    return Movement(
        [(tuple(range(2, len(node.shapes), 3)), [])],
        int(node.attributes["axis"]) % rank_of(node, 2),
    )


@register("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_normalisation(node: Node) -> Kind:
    """A sum, normalised over its last axis."""
    rank = rank_of(node)
    names = [f"x{i}" for i in range(rank)]
    last = names[-1]
    over = " ".join([*names[:-1], f"{{{last}}}"])
    skip = " ".join(names[rank - rank_of(node, 1) :])
    vectors = [last if s is not None else "" for s in node.shapes[2:]]
    statistics = " ".join([*names[:-1], "1"])
    results = [" ".join(names), statistics, statistics, " ".join(names)][: node.results]
    return Equation(f"{', '.join([over, skip, *vectors])} -> {', '.join(results)}")


@register("EmbedLayerNormalization", domain=MICROSOFT)
def embed_normalisation(node: Node) -> Kind:
    """Rows of the tables keep their order, the width is normalised over."""
    sides = ["b s", "b s", "[v] {c}", "[p] {c}", "[t] {c}", "c", "c", "b s", "b s"]
    return Equation(
        f"{', '.join(sides[: len(node.shapes)])} -> {', '.join(['b s c', 'b', 'b s c'][: node.results])}"
    )


@register("MatMulNBits", domain=MICROSOFT)
def block_product(node: Node) -> Kind:
    """Weights [n, blocks, bytes]: columns are free, and so are whole blocks of rows; rows keep their order inside a block."""
    rank = rank_of(node)
    left = [f"b{i}" for i in range(rank - 1)]
    given = [*node.shapes, *[None] * 6]
    if given[4] is not None:
        raise UnknownStructure("an index of groups")
    columns, blocks = shape_of(node, 1)[:2]
    size = int(node.attributes["block_size"])
    # two zero points of one column share a byte
    whole = blocks * size == shape_of(node)[-1] and given[3] is None
    c = "c" if whole else "[c]"
    sides = [" ".join([*left, "(c [j])" if whole else "[k]"]), f"n {c} [z]"]
    for k, shape in enumerate(given[2:4], 2):
        if shape is None:
            sides.append("")
        elif (
            len(shape) == 1
            and shape[0] % columns == 0
            and shape[0] // columns in (blocks, (blocks + 1) // 2)
        ):
            sides.append(f"(n {c})" if k == 2 else "(n [q])")
        else:
            sides.append(f"n {c}" if shape[1:] == (blocks,) else "n [p]")
    sides += ["", "n"]
    return Equation(
        f"{', '.join(sides[: len(node.shapes)])} -> {' '.join([*left, 'n'])}",
        {"j": size} if whole else {},
    )
