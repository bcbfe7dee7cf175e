"""Sets of ONNX element types that several packages ask about."""

from __future__ import annotations

from onnx import TensorProto

FLOAT_TYPES = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
)
"""Floating-point types in which models compute."""

HALF_TYPES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
"""Floating-point types of 16 bits."""

KNOWN_TYPES = set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
"""All element types that the installed onnx knows."""

PACKED_TYPES: dict[int, int] = {
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
    TensorProto.FLOAT4E2M1: 4,
    TensorProto.INT2: 2,
    TensorProto.UINT2: 2,
}
"""Element types of which several elements share a byte, and the bits of each."""
