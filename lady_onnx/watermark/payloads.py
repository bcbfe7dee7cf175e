"""What is written into a model: a payload, sealed by a key, with room for errors.

The payload is hidden by a pad, and followed by a tag that tells a right reading from chance (the
first 64 bits of an HMAC). A Reed-Solomon code over bytes (`reedsolo`) follows, so that wrong and
faint symbols are corrected. What reads as a payload has the right tag: by chance, or under another
key, one reading of 2^64 has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import LadyError, UsageError
from .keys import Key

try:
    from reedsolo import ReedSolomonError, RSCodec
except ImportError as error:
    what = "marks and stamps need the extra `watermark`: pip install lady-onnx[watermark]"
    raise UsageError(what) from error

TAG_BYTES = 8
"""The length of the tag."""
MAX_PAYLOAD_BYTES = 64
"""The length of the longest payload."""
MIN_CHECK_BYTES = 4
"""The least number of symbols that the code adds; half of them may be wrong, or all faint."""
CHECKS_PER_BYTE = 0.5
"""So many symbols are added for each one of the payload and its tag."""


@dataclass(frozen=True)
class Decoded:
    """A payload that was read.

    Attributes:
        payload: the bytes.
        corrected: how many symbols of eight bits were wrong or faint, and were corrected.
    """

    payload: bytes
    corrected: int


def check_length(payload_bytes: int) -> None:
    """Raise LadyError unless a payload has from 1 to 64 bytes."""
    if not 1 <= payload_bytes <= MAX_PAYLOAD_BYTES:
        what = f"has {payload_bytes} bytes; give 1 to {MAX_PAYLOAD_BYTES}, or the hash of it"
        raise LadyError(f"the payload {what}")


def count_check_bytes(payload_bytes: int) -> int:
    """Count the symbols that the code adds to a payload of so many bytes."""
    return max(MIN_CHECK_BYTES, round(CHECKS_PER_BYTE * (payload_bytes + TAG_BYTES)))


def count_coded_bits(payload_bytes: int) -> int:
    """Count the bits that are written for a payload of so many bytes."""
    return 8 * (payload_bytes + TAG_BYTES + count_check_bytes(payload_bytes))


def encode_payload(payload: bytes, key: Key) -> np.ndarray:
    """Seal a payload and add what corrects errors.

    Args:
        payload: 1 to 64 bytes.
        key: the key of this mark alone.

    Returns:
        The bits to write, bool [bits].

    >>> encode_payload(b"x", Key(bytes(32))).shape
    (104,)
    """
    check_length(len(payload))
    hidden = key.derive("payload").pad(payload)
    sealed = hidden + key.derive("tag").sign(hidden, TAG_BYTES)
    coded = RSCodec(count_check_bytes(len(payload))).encode(sealed)
    return np.unpackbits(np.frombuffer(bytes(coded), np.uint8)).astype(bool)


def decode_payload(soft: np.ndarray, payload_bytes: int, key: Key) -> Decoded | None:
    """Correct what was read, and open it.

    Args:
        soft: float64 [bits]: what was read of every bit, positive for a one; the faintest symbols
            are taken for lost first.
        payload_bytes: the length of the payload.
        key: the key of this mark alone.

    Returns:
        The payload, or None where no correction has the right tag.
    """
    checks = count_check_bytes(payload_bytes)
    soft = np.nan_to_num(soft)
    symbols = np.packbits(soft > 0).tobytes()
    # a symbol is as sure as its faintest bit
    faintest = np.argsort(np.abs(soft).reshape(-1, 8).min(1), kind="stable").tolist()
    codec = RSCodec(checks)
    for lost in range(0, checks + 1, 2):
        try:
            sealed, _, _ = codec.decode(symbols, erase_pos=faintest[:lost])
        except (ReedSolomonError, ZeroDivisionError):
            continue
        opened = _open(bytes(sealed), key)
        if opened is not None:
            again = encode_payload(opened, key)
            wrong = (again != (soft > 0)).reshape(-1, 8).any(1)
            return Decoded(opened, int(wrong.sum()))
    return None


def _open(sealed: bytes, key: Key) -> bytes | None:
    """Return the payload of sealed bytes, or None if the tag is not theirs."""
    hidden, tag = sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]
    if not hidden or key.derive("tag").sign(hidden, TAG_BYTES) != tag:
        return None
    return key.derive("payload").pad(hidden)
