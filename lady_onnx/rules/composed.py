"""Operators that are run through: subgraphs, and those that their specification spells out as a function.

Spec: https://onnx.ai/onnx/operators/
"""

from . import Body, Kind, Node, register, register_pinned


@register(
    *("If", "Loop", "Scan"),
    *(
        "AffineGrid",
        "Attention",
        "CausalConvWithState",
        "CenterCropPad",
        "MeanVarianceNormalization",
    ),
    *("RMSNormalization", "RotaryEmbedding", "SwiGLU"),
)
def composed(node: Node) -> Kind:
    """Run through the function that its specification spells it out as."""
    return Body()


SEQUENCES = (
    *(
        "ConcatFromSequence",
        "SequenceAt",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
    ),
    *("SequenceLength", "SplitToSequence"),
)
"""Operators that make, change or read a sequence of tensors."""


@register(*SEQUENCES, "SequenceMap")
def sequence(node: Node) -> Kind:
    """The tensors of a sequence are followed one by one; places in it must be known."""
    return Body()


register_pinned("a recurrence that is not followed", "LinearAttention")
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
    "Bernoulli",
    "Multinomial",
    "RandomNormalLike",
    "RandomUniformLike",
)
register_pinned("a choice among boxes in their order", "NonMaxSuppression")
register_pinned("places, counted through all axes", "MaxUnpool", "NonZero")
register_pinned("a list of what differs, in its order", "Unique")
register_pinned("the bytes of a picture", "ImageDecoder")
