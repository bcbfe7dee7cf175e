"""Weights of bytes that hold several numbers each, though their element type does not say so.

The order of the numbers in a byte is that of onnxruntime's processor kernels. Of operators that no
processor runs it is not known, so that they are not in the table: their bytes stay whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .structure import MICROSOFT, normalise_domain

BYTE_BITS = 8


@dataclass(frozen=True)
class Packing:
    """How numbers lie in the bytes of a weight of type uint8.

    Attributes:
        bits: the bits of a number: 1, 2 or 4.
        is_high_first: whether the first number of a byte has its highest bits.
    """

    bits: int
    is_high_first: bool = False

    @property
    def count(self) -> int:
        """The number of numbers in a byte."""
        return BYTE_BITS // self.bits


@dataclass(frozen=True)
class PackedOperands:
    """Which operands of an operator hold several numbers a byte.

    Attributes:
        operands: by operand the attributes that may give the bits of a number, the first one first.
        default: the bits of a number where no attribute gives them.
        is_high_first: as in `Packing`.
    """

    operands: Mapping[int, tuple[str, ...]]
    default: int = 4
    is_high_first: bool = False


_EVERY = "expert_weight_bits"
PACKED_OPERANDS: Mapping[tuple[str, str], PackedOperands] = {
    (MICROSOFT, "GatherBlockQuantized"): PackedOperands({0: ("bits",), 3: ("bits",)}),
    (MICROSOFT, "MatMulBnb4"): PackedOperands({1: ()}, is_high_first=True),
    (MICROSOFT, "MatMulNBits"): PackedOperands({1: ("bits",), 3: ("bits",)}),
    (MICROSOFT, "QMoE"): PackedOperands(
        {
            2: ("fc1_expert_weight_bits", _EVERY),
            5: ("fc2_expert_weight_bits", _EVERY),
            8: ("fc3_expert_weight_bits", _EVERY),
            11: ("fc1_expert_weight_bits", _EVERY),
            12: ("fc2_expert_weight_bits", _EVERY),
            13: ("fc3_expert_weight_bits", _EVERY),
        }
    ),
}
"""The operators with such operands, by domain and name."""


def find_packing(
    domain: str, operator: str, attributes: Mapping[str, Any], operand: int
) -> Packing | None:
    """Return how an operand of a node holds several numbers a byte, None where it does not.

    >>> find_packing("com.microsoft", "MatMulNBits", {"bits": 4}, 1)
    Packing(bits=4, is_high_first=False)
    """
    known = PACKED_OPERANDS.get((normalise_domain(domain), operator))
    if known is None or operand not in known.operands:
        return None
    given = (attributes[name] for name in known.operands[operand] if name in attributes)
    bits = next(given, known.default)
    return Packing(bits, known.is_high_first) if bits in (1, 2, 4) else None
