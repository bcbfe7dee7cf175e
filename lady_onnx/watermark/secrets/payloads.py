"""What is written into a model: a payload, sealed by a key, with room for errors.

A tag tells a right reading from chance: the first 64 bits of the payload's HMAC. The payload is
hidden by a pad that depends on the tag, so that no two payloads have the same pad (a synthetic
initialization vector, RFC 5297). Check symbols follow, so that wrong and faint symbols are
corrected. What reads as a payload has the right tag. A reading tries at most 28 corrections, so
that chance, or another key, has it once in 2^59 readings.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...errors import LadyError
from ...numerics import MIN_DIVISOR
from .codes import add_checks, correct_symbols, list_likely_messages
from .keys import Key

TAG_BYTES = 8
"""The length of the tag."""
MAX_PAYLOAD_BYTES = 64
"""The length of the longest payload."""
MIN_CHECK_BYTES = 4
"""The least number of check symbols: half of them may be wrong, or all of them unreliable."""
CHECKS_PER_BYTE = 0.5
"""Check symbols for each byte of the payload and its tag."""
PADDED_BYTES = (9, 17, 33, 65)
"""The lengths that the payload of a stamp is padded to."""
PADDING = b"\x80"
"""What follows the payload of a stamp, before zeros (ISO/IEC 9797-1, method 2)."""
ERASURE_TRIALS = 6
"""The number of erasure counts that are tried for each length."""


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
    coded = add_checks(seal_payload(payload, key), count_check_bytes(len(payload)))
    return np.unpackbits(coded).astype(bool)


def count_message_symbols(payload: bytes) -> int:
    """Count the symbols of a stamp's payload, padded, with its tag."""
    return next(n for n in PADDED_BYTES if n > len(payload)) + TAG_BYTES


def encode_symbols(payload: bytes, key: Key, count: int) -> np.ndarray:
    """Seal a payload as a word of a code of so many symbols, uint8 [count], up to 255.

    The payload is padded to one of few lengths, so that a reader who does not know its length tries
    these alone.
    """
    size = next(n for n in PADDED_BYTES if n > len(payload))
    sealed = seal_payload((payload + PADDING).ljust(size, b"\0"), key)
    return add_checks(sealed, count - len(sealed))


def decode_symbols(symbols: np.ndarray, doubts: np.ndarray, key: Key) -> bytes | None:
    """Correct a word of a code, and open it.

    Args:
        symbols: uint8 [symbols].
        doubts: float64 [symbols]: the most doubtful ones are taken for lost first; an infinite one
            is known to be lost.
        key: the key of the stamp.

    Returns:
        The payload, or None where no correction has the right tag.
    """
    order = np.argsort(-doubts, kind="stable").tolist()
    known = int(np.isinf(doubts).sum())
    lengths = [size + TAG_BYTES for size in PADDED_BYTES if size + TAG_BYTES < len(symbols)]
    # a word without errors is told in no time
    for length in lengths if not known else []:
        sealed = symbols[:length].tobytes()
        if np.array_equal(add_checks(sealed, len(symbols) - length), symbols):
            padded = open_payload(sealed, key)
            if padded is not None:
                return padded.rstrip(b"\0").removesuffix(PADDING)
    for checks in (len(symbols) - length for length in lengths):
        # beside what is lost for sure, ever more of what is doubtful
        for lost in sorted(set(np.linspace(known, checks, ERASURE_TRIALS).astype(int).tolist())):
            if not known <= lost <= checks:
                continue
            corrected = correct_symbols(symbols.tobytes(), checks, order[:lost])
            padded = None if corrected is None else open_payload(corrected, key)
            if padded is not None:
                return padded.rstrip(b"\0").removesuffix(PADDING)
    return None


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
    soft = np.nan_to_num(soft)
    # how they compare counts alone, and sums of the largest numbers overflow
    soft = soft / max(float(np.abs(soft).max()), MIN_DIVISOR)
    for sealed in _list_corrections(soft, count_check_bytes(payload_bytes)):
        opened = open_payload(sealed, key)
        if opened is not None:
            again = encode_payload(opened, key)
            wrong = (again != (soft > 0)).reshape(-1, 8).any(1)
            return Decoded(opened, int(wrong.sum()))
    return None


def _list_corrections(soft: np.ndarray, checks: int) -> Iterator[bytes]:
    """List what may have been written: first if few symbols are wrong, then if many are faint."""
    symbols = np.packbits(soft > 0).tobytes()
    # a symbol is as sure as its faintest bit
    faintest = np.argsort(np.abs(soft).reshape(-1, 8).min(1), kind="stable").tolist()
    for lost in range(0, checks + 1, 2):
        sealed = correct_symbols(symbols, checks, faintest[:lost])
        if sealed is not None:
            yield sealed
    yield from list_likely_messages(soft, checks)


def seal_payload(payload: bytes, key: Key) -> bytes:
    """Return the tag of a payload, and the payload hidden by a pad of its own."""
    tag = key.derive("tag").sign(payload, TAG_BYTES)
    return tag + key.derive("payload", tag.hex()).pad(payload)


def open_payload(sealed: bytes, key: Key) -> bytes | None:
    """Return the payload of what `seal_payload` returned; None if the tag is wrong."""
    tag, hidden = sealed[:TAG_BYTES], sealed[TAG_BYTES:]
    payload = key.derive("payload", tag.hex()).pad(hidden)
    is_right = bool(payload) and hmac.compare_digest(
        key.derive("tag").sign(payload, TAG_BYTES), tag
    )
    return payload if is_right else None
