"""Operators that the analysis walks through, and operators that pin all that they touch.

The former hold subgraphs, or their specification spells them out as a function.

Spec: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from ..kinds import Body, Kind, Node
from ..laws import Norm, ScaledNode
from ..registry import register, register_pinned


def find_rms_norm_law(node: ScaledNode) -> Norm:
    """Find the law of RMSNormalization: only a sum of squares is taken."""
    return Norm(keeps_sign=True, axis=int(node.attributes.get("axis", -1)))


@register("If", holds_bodies=True)
@register("Attention", "CausalConvWithState", "MeanVarianceNormalization", "RotaryEmbedding")
@register("SwiGLU")
@register("AffineGrid", "CenterCropPad", reads_values_from=1)
@register("RMSNormalization", law=find_rms_norm_law)
def describe_composed(node: Node) -> Kind:
    """Its subgraphs are walked, or the function that its specification gives."""
    return Body()


@register("Loop", "Scan", holds_bodies=True)
def describe_repeated(node: Node) -> Kind:
    """Its body is walked, which may run several times."""
    return Body(is_repeated=True)


@register("SequenceMap", holds_bodies=True)
@register("SplitToSequence", makes_sequences=True, reads_values_from=1)
@register("ConcatFromSequence", "SequenceAt", "SequenceConstruct", makes_sequences=True)
@register("SequenceEmpty", "SequenceErase", "SequenceInsert", makes_sequences=True)
@register("SequenceLength", makes_sequences=True)
def describe_sequence(node: Node) -> Kind:
    """The tensors of a sequence are followed one by one; places in it must be known."""
    return Body(is_repeated=True)


register_pinned(
    "a value that may be missing", "Optional", "OptionalGetElement", "OptionalHasElement"
)
register_pinned(
    "text", "StringNormalizer", "StringSplit", "TfIdfVectorizer", "RegexFullMatch", "StringConcat"
)
register_pinned(
    "a loss over classes in their order", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"
)
register_pinned(
    "random numbers, one after the other",
    *("Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike"),
    is_random=True,
)
register_pinned("a choice among boxes in their order", "NonMaxSuppression")
register_pinned("places, counted through all axes", "NonZero")
register_pinned("places, counted through all axes", "MaxUnpool", reads_values_from=1)
register_pinned("a list of what differs, in its order", "Unique")
register_pinned("the bytes of a picture", "ImageDecoder")
