"""Payloads: sealed, corrected, and never invented."""

from __future__ import annotations

import galois
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lady_onnx.errors import LadyError
from lady_onnx.watermark.secrets.codes import LIKELY_WORDS, add_checks, list_likely_messages
from lady_onnx.watermark.secrets.keys import Key
from lady_onnx.watermark.secrets.payloads import (
    MAX_PAYLOAD_BYTES,
    TAG_BYTES,
    check_length,
    count_check_bytes,
    count_coded_bits,
    decode_payload,
    encode_payload,
)

from ..helpers.law import examples

KEY = Key(bytes(32))


def soften(bits: np.ndarray) -> np.ndarray:
    return np.where(bits, 1.0, -1.0)


@examples(50)
@given(st.binary(min_size=1, max_size=MAX_PAYLOAD_BYTES), st.randoms(use_true_random=False))
def test_wrong_and_faint_symbols_are_corrected(payload: bytes, random: object) -> None:
    """Of 2 t check symbols any t may be wrong, or all 2 t lost."""
    rng = np.random.default_rng(len(payload) + payload[0])
    bits = encode_payload(payload, KEY)
    assert len(bits) == count_coded_bits(len(payload))
    checks = count_check_bytes(len(payload))
    wrong, lost = soften(bits).reshape(-1, 8), soften(bits).reshape(-1, 8)
    wrong[rng.permutation(len(wrong))[: checks // 2]] *= -1
    lost[rng.permutation(len(lost))[: checks - checks % 2]] = 0.0
    for soft, most in ((wrong, checks // 2), (lost, checks)):
        found = decode_payload(soft.ravel(), len(payload), KEY)
        assert found is not None
        assert found.payload == payload
        assert found.corrected <= most


@examples(50)
@given(st.binary(min_size=1, max_size=MAX_PAYLOAD_BYTES), st.integers(0, 2**32), st.integers(0, 2))
def test_a_faint_error_in_every_symbol_is_corrected(payload: bytes, seed: int, sure: int) -> None:
    """No count of wrong symbols allows that. One or two sure bits may be wrong besides."""
    rng = np.random.default_rng(seed)
    bits = encode_payload(payload, KEY)
    soft = (soften(bits) * rng.uniform(0.8, 1.2, len(bits))).reshape(-1, 8)
    faint = rng.integers(8, size=len(soft))
    soft[np.arange(len(soft)), faint] *= -0.1
    for symbol in rng.permutation(len(soft))[:sure]:
        soft[symbol, (faint[symbol] + 1) % 8] *= -1
    found = decode_payload(soft.ravel(), len(payload), KEY)
    assert found is not None
    assert found.payload == payload
    assert found.corrected == len(soft)


@examples(30)
@given(st.integers(1, 6), st.integers(0, 2**32))
def test_the_likeliest_words_are_those_of_a_search(checks: int, seed: int) -> None:
    """Of all that differ from what was read in two of the surest independent bits at most."""
    soft = np.random.default_rng(seed).standard_normal(8 * (1 + checks))
    messages = [bytes([k]) for k in range(256)]
    words = np.array([np.unpackbits(add_checks(m, checks)) for m in messages], bool)
    surest: list[int] = []
    for place in np.argsort(-np.abs(soft)):
        # a bit is independent of others if it splits all words once more
        if len(np.unique(words[:, [*surest, place]], axis=0)) == 2 ** (len(surest) + 1):
            surest.append(place)
    is_wrong = words != (soft > 0)
    costs = (np.abs(soft) * is_wrong).sum(1)
    best = np.sort(costs[is_wrong[:, surest].sum(1) <= 2])
    found = [costs[messages.index(m)] for m in list_likely_messages(soft, checks)]
    assert len(found) == LIKELY_WORDS + 1
    assert np.allclose(found[:-1], best[:LIKELY_WORDS])


@examples(50)
@given(st.binary(min_size=1, max_size=MAX_PAYLOAD_BYTES))
def test_the_code_is_that_of_the_literature(payload: bytes) -> None:
    """The check symbols are those of galois, an implementation of others."""
    coded = np.packbits(encode_payload(payload, KEY))
    checks = count_check_bytes(len(payload))
    field = galois.GF(2**8, irreducible_poly=0x11D, primitive_element=2)
    code = galois.ReedSolomon(255, 255 - checks, field=field, c=0)
    assert np.array_equal(code.encode(field(coded[:-checks])), coded)


@examples(50)
@given(st.binary(min_size=1, max_size=MAX_PAYLOAD_BYTES), st.integers(0, 2**32))
def test_nothing_is_read_from_noise_or_with_another_key(payload: bytes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(count_coded_bits(len(payload)))
    assert decode_payload(noise, len(payload), KEY) is None
    bits = encode_payload(payload, KEY)
    assert decode_payload(soften(bits), len(payload), KEY.derive("another")) is None
    assert decode_payload(np.full(len(bits), np.nan), len(payload), KEY) is None
    assert decode_payload(np.zeros(len(bits)), len(payload), KEY) is None


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e300, 1.7e308, np.inf])
def test_numbers_of_any_size_are_read(size: float) -> None:
    bits = encode_payload(b"owner", KEY)
    soft = soften(bits) * np.where(np.arange(len(bits)) % 8, size, -min(size, 1.0) / 4)
    found = decode_payload(soft, 5, KEY)
    assert found is None or found.payload == b"owner"
    assert decode_payload(soften(bits) * size, 5, KEY) is not None
    assert decode_payload(np.full(len(bits), -size), 5, KEY) is None


def test_a_payload_is_hidden() -> None:
    payload = bytes(MAX_PAYLOAD_BYTES)
    coded = np.packbits(encode_payload(payload, KEY)).tobytes()
    assert payload[:8] not in coded
    other = encode_payload(payload, KEY.derive("another"))
    assert 0.4 < (encode_payload(payload, KEY) != other).mean() < 0.6


def test_a_changed_payload_has_another_tag() -> None:
    """One flipped bit, with the check symbols that belong to it, is no payload."""
    from reedsolo import RSCodec

    payload = b"owner"
    checks = count_check_bytes(len(payload))
    sealed = bytearray(np.packbits(encode_payload(payload, KEY)).tobytes()[:-checks])
    sealed[-1] ^= 1
    assert len(sealed) == len(payload) + TAG_BYTES
    forged = np.unpackbits(np.frombuffer(bytes(RSCodec(checks).encode(sealed)), np.uint8))
    assert decode_payload(soften(forged > 0), len(payload), KEY) is None


@pytest.mark.parametrize("length", [0, MAX_PAYLOAD_BYTES + 1])
def test_the_length_is_checked(length: int) -> None:
    with pytest.raises(LadyError, match=f"has {length} bytes; give 1 to 64"):
        check_length(length)
    with pytest.raises(LadyError, match=f"has {length} bytes"):
        encode_payload(bytes(length), KEY)
