"""Operators of onnxruntime that pin all that they touch, each with its reason.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from ...vocabulary.structure import MICROSOFT
from ..registry import register_pinned

register_pinned(
    "a search over tokens in their order, with a network inside",
    *("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"),
    domain=MICROSOFT,
)
register_pinned(
    "tokens, compared or hashed in their order",
    *("BifurcationDetector", "NGramRepeatBlock", "NGramHashMapping", "VarlenNGramHashMapping"),
    domain=MICROSOFT,
)
register_pinned("text", "Tokenizer", domain=MICROSOFT)
register_pinned(
    "places that are chosen by scores, in an order that no axis of a weight has",
    *("SparseAttentionIndexer", "PackedSparseAttentionIndexer"),
    domain=MICROSOFT,
)
register_pinned("a list of what differs, in its order", "Unique", domain=MICROSOFT)
register_pinned("a path through places in their order", "DynamicTimeWarping", domain=MICROSOFT)
register_pinned(
    "a recurrence with an attention in each step, which is not followed",
    "AttnLSTM",
    domain=MICROSOFT,
)
register_pinned(
    "operands that tell only at run time whether keys and values are cached",
    "DecoderAttention",
    domain=MICROSOFT,
)
register_pinned("a sparse matrix", "SparseToDenseMatMul", domain=MICROSOFT)
register_pinned(
    "windows whose padding is known only at run time",
    "ConvTransposeWithDynamicPads",
    domain=MICROSOFT,
)
register_pinned(
    "an operator for tests of onnxruntime, without a specification",
    "MaxpoolWithMask",
    domain=MICROSOFT,
)
register_pinned(
    "numbers that share an exponent, packed into bytes of a format of its own",
    *("QuantizeBFP", "DequantizeBFP", "MatMulFpQ4"),
    domain=MICROSOFT,
)
register_pinned(
    "elements in an order of tensor cores, which is no order of axes",
    *("QuantizeWithOrder", "DequantizeWithOrder", "QOrderedAttention", "QOrderedGelu"),
    *("QOrderedLayerNormalization", "QOrderedLongformerAttention", "QOrderedMatMul"),
    domain=MICROSOFT,
)
register_pinned("a network compiled for a device", "EPContext", "Snpe", domain=MICROSOFT)
register_pinned(
    "channels in blocks of the processor's width, and weights laid out for them",
    *("Conv", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Upsample"),
    *("ReorderInput", "ReorderOutput"),
    domain="com.microsoft.nchwc",
)
register_pinned(
    "an operator that a provider makes of one of ONNX while it compiles a model",
    *("AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace"),
    *("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GridSample", "InstanceNormalization"),
    *("LRN", "LpPool", "MaxPool", "MaxUnpool", "QLinearAveragePool", "QLinearConv"),
    *("QLinearConvTranspose", "Resize", "SpaceToDepth"),
    domain="com.ms.internal.nhwc",
)
register_pinned(
    "an experiment that ONNX has withdrawn, and that onnxruntime does not run",
    *("Affine", "Crop", "DynamicSlice", "GRUUnit", "GivenTensorFill", "ImageScaler"),
    *("ParametricSoftplus", "Scale", "ScaledTanh"),
)
register_pinned(
    "a copy between devices, which onnxruntime puts into a model while it loads it",
    *("MemcpyFromHost", "MemcpyToHost"),
)
register_pinned(
    "a plugin of TensorRT, which no other provider runs",
    *("DisentangledAttention_TRT", "EfficientNMS_TRT", "MultilevelCropAndResize_TRT"),
    "PyramidROIAlign_TRT",
)
