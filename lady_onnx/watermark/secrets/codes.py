"""The code that corrects errors: a Reed-Solomon code over symbols of eight bits (`reedsolo`).

The code is linear: the word of a message is the sum of those of its symbols, and also of its bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from ...errors import UsageError

try:
    from reedsolo import ReedSolomonError, RSCodec
except ImportError as error:
    what = "marks and stamps need the extra `watermark`: pip install 'lady-onnx[watermark]'"
    raise UsageError(what) from error

LIKELY_WORDS = 8
"""So many of the likeliest words are returned. With more, hardly any other word is ever right."""


def add_checks(message: bytes, checks: int) -> np.ndarray:
    """Add check symbols to a message, uint8 [bytes + checks].

    It takes a hundredth of the time of `RSCodec.encode`, and thousands of customers are compared.
    """
    rows, powers, logarithms = _prepare_code(len(message), checks)
    symbols = np.frombuffer(message, np.uint8)[:, None]
    products = powers[logarithms[rows] + logarithms[symbols]]
    products[(rows == 0) | (symbols == 0)] = 0
    word: np.ndarray = np.bitwise_xor.reduce(products, axis=0)
    return word


def correct_symbols(symbols: bytes, checks: int, lost: list[int]) -> bytes | None:
    """Correct the symbols of a word, and return its message.

    Args:
        symbols: the word.
        checks: how many of its symbols are check symbols.
        lost: the numbers of symbols that are not known.

    Returns:
        The message; None where twice the wrong symbols and the lost ones are more than the checks.
    """
    try:
        message, _, _ = RSCodec(checks).decode(symbols, erase_pos=lost)
    except (ReedSolomonError, ZeroDivisionError):
        return None
    return bytes(message)


def list_likely_messages(soft: np.ndarray, checks: int) -> Iterator[bytes]:
    """List the messages of the words that are likeliest, given what was read of every bit.

    The surest bits that determine a word are taken as they were read, then with one or two of them
    flipped. Of all these words those come first in which the bits that were read otherwise are
    faintest. So many faint errors are corrected that no count of wrong symbols would allow.

    Args:
        soft: float64 [bits]: what was read of every bit, positive for a one; finite.
        checks: how many symbols are check symbols.

    Source: Fossorier and Lin 1995, Soft-decision decoding of linear block codes based on ordered
    statistics, of order two.
    """
    order = np.argsort(-np.abs(soft), kind="stable")
    size = len(soft) - 8 * checks
    rows, places = _eliminate(_list_bit_words(size // 8, checks)[:, order])
    is_one = (soft > 0)[order]
    first = (is_one[places] @ rows.astype(np.int64)) % 2
    # costs are relative to that of the first word: what a flip of each of its bits adds
    added = np.where(first != is_one, -1, 1) * np.abs(soft[order])
    single = rows @ added
    # the sum of two rows has a one where just one of them has it
    costs = single[:, None] + single - 2 * ((rows * added) @ rows.T)
    np.fill_diagonal(costs, single)
    costs[np.tril_indices(size, -1)] = np.inf
    tried = np.argpartition(costs, LIKELY_WORDS, axis=None)[:LIKELY_WORDS]
    found = [(0.0, first)]
    for one, other in zip(*np.unravel_index(tried, costs.shape), strict=True):
        flipped = rows[one] if one == other else (rows[one] + rows[other]) % 2
        found.append((costs[one, other], (first + flipped) % 2))
    for _, word in sorted(found, key=lambda pair: pair[0]):
        bits = np.empty(len(soft), np.uint8)
        bits[order] = word
        yield np.packbits(bits[:size]).tobytes()


def _eliminate(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring a matrix of full rank into reduced form over the field of two elements.

    Args:
        rows: uint8 [rows, columns], of 0 and 1.

    Returns:
        Rows that span the same words, float64 [rows, columns], and int64 [rows], the first columns
        that are independent: each row has its one there, and no other row has.
    """
    packed = np.packbits(rows, axis=1)
    places: list[int] = []
    for column in range(rows.shape[1]):
        rank = len(places)
        if rank == len(rows):
            break
        has_one = (packed[:, column >> 3] >> (7 - (column & 7)) & 1).astype(bool)
        pivots = np.flatnonzero(has_one[rank:])
        if not len(pivots):
            continue
        swapped = [rank, rank + int(pivots[0])]
        packed[swapped], has_one[swapped] = packed[swapped[::-1]], has_one[swapped[::-1]]
        has_one[rank] = False
        packed[has_one] ^= packed[rank]
        places.append(column)
    reduced = np.unpackbits(packed, axis=1, count=rows.shape[1])
    return reduced.astype(np.float64), np.array(places)


@cache
def _list_bit_words(size: int, checks: int) -> np.ndarray:
    """List the words of the messages of one bit, uint8 [8 size, 8 (size + checks)]."""
    messages = np.packbits(np.eye(8 * size, dtype=np.uint8), axis=1)
    return np.array([np.unpackbits(add_checks(m.tobytes(), checks)) for m in messages])


@cache
def _prepare_code(size: int, checks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prepare to encode messages of so many symbols.

    Returns:
        The words of the messages with one symbol of 1 alone, uint8 [size, size + checks], and the
        tables of the field: the powers of its generator, uint8, and their logarithms, int64 [256].
    """
    codec, ones = RSCodec(checks), np.eye(size, dtype=np.uint8)
    rows = np.array([list(codec.encode(one.tobytes())) for one in ones], np.uint8)
    return rows, np.array(codec.gf_exp, np.uint8), np.array(codec.gf_log, np.int64)
