"""Normalisations and softmax: a reduction, then an elementwise operator.

Spec: https://onnx.ai/onnx/operators/
"""

from ...errors import UnknownStructureError
from ..kinds import Equation, Kind, Node, read_axis_attribute, require_rank
from ..laws import Law, Norm, ScaledNode, Softmax, StatisticsNorm
from ..registry import register, register_equation


def find_batch_norm_law(node: ScaledNode) -> Law:
    """Find the law of BatchNormalization: by stored statistics, with an epsilon on the variance."""
    return StatisticsNorm(float(node.attributes.get("epsilon", 1e-5)))


def find_layer_norm_law(node: ScaledNode) -> Law:
    """Find the law of LayerNormalization: from an axis on, with the mean subtracted."""
    return Norm(keeps_sign=False, axis=int(node.attributes.get("axis", -1)))


def find_lp_norm_law(node: ScaledNode) -> Law:
    """Find the law of LpNormalization: no mean is subtracted, and a 2-norm may be rotated."""
    # A law does not know the rank, so only the last axis by its negative name is known to be it.
    is_euclidean = node.attributes.get("p", 2) == 2 and node.attributes.get("axis", -1) == -1
    return Norm(keeps_sign=True, axis=-1 if is_euclidean else None)


register_equation("b c {x..}, c, c -> b c x..", "InstanceNormalization", law=Norm(keeps_sign=False))


@register("BatchNormalization", law=find_batch_norm_law)
def describe_batch_norm(node: Node) -> Kind:
    """Channels follow gain, bias and both statistics."""
    if node.attributes.get("training_mode"):
        raise UnknownStructureError("training mode")
    return Equation("b c x.., c, c, c, c -> b c x..")


@register("LayerNormalization", law=find_layer_norm_law, results_stay=True)
def describe_layer_norm(node: Node) -> Kind:
    """Normalised over the last axes."""
    rank = require_rank(node)
    names = [f"x{i}" for i in range(rank)]
    axis = read_axis_attribute(node, -1, rank)
    source = " ".join([*names[:axis], *(f"{{{n}}}" for n in names[axis:])])
    weights = []
    for shape in node.shapes[1:]:
        if shape is not None:
            weights.append(" ".join(names[rank - len(shape) :]))
    statistics = " ".join([*names[:axis], *["1"] * (rank - axis)])
    results = [" ".join(names), statistics, statistics][: node.results]
    return Equation(f"{', '.join([source, *weights])} -> {', '.join(results)}")


@register("GroupNormalization", law=Norm(keeps_sign=False))
def describe_group_norm(node: Node) -> Kind:
    """Normalised over each group of channels."""
    weight = "g" if node.opset < 21 else "(g i)"
    return Equation(
        f"b (g {{i}}) {{x..}}, {weight}, {weight} -> b (g i) x..",
        {"g": node.attributes["num_groups"]},
    )


@register("Softmax", law=Softmax(is_share=True))
@register("LogSoftmax", law=Softmax(is_share=False))
def describe_softmax(node: Node) -> Kind:
    """Normalised over the axis, or over all from it on before opset 13."""
    rank = require_rank(node)
    names = [f"x{i}" for i in range(rank)]
    axis = read_axis_attribute(node, -1 if node.opset >= 13 else 1, rank)
    stop = axis + 1 if node.opset >= 13 else rank
    over = [f"{{{n}}}" if axis <= i < stop else n for i, n in enumerate(names)]
    return Equation(f"{' '.join(over)} -> {' '.join(names)}")


@register("LpNormalization", law=find_lp_norm_law)
def describe_lp_norm(node: Node) -> Kind:
    """Normalised over the axis."""
    rank = require_rank(node)
    axis = read_axis_attribute(node, -1, rank)
    names = [f"x{i}" for i in range(rank)]
    over = [f"{{{n}}}" if i == axis else n for i, n in enumerate(names)]
    return Equation(f"{' '.join(over)} -> {' '.join(names)}")
