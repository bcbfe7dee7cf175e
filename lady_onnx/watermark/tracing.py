"""Reading stamps: what the order of a suspect's units says, and whose copy it was made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArchitectureError
from ..graph.loading import Model, load_graph
from ..groups.permutations import Nesting
from ..pipeline.result import Resync
from ..pipeline.resynchronization import resync
from ..pipeline.verdicts import UNRELATED
from ..reporting import Report, count_things
from .blocks import LOST, SYMBOLS
from .extraction import read_text, show_payload
from .secrets.payloads import count_message_symbols, decode_symbols, encode_symbols
from .stamping import Original, check_room

MAX_FALSE_ACCUSATION = 1e-6
"""The largest probability that any innocent customer is named."""


@dataclass(frozen=True)
class Order:
    """What the order of a suspect's units says.

    Attributes:
        symbols: int64 [blocks]: the symbol of every block, `LOST` for none.
        verdict: what the suspect is to the original.
    """

    symbols: np.ndarray
    verdict: str

    @property
    def known(self) -> int:
        """The number of blocks that say a symbol."""
        return int((self.symbols != LOST).sum())


@dataclass(frozen=True, repr=False)
class StampReading(Report):
    """What was read of a stamp.

    Attributes:
        payload: the payload, None where none with the right tag was read.
        blocks: the number of blocks.
        lost: how many of them say no symbol.
        corrected: how many say another symbol than the payload's; None without a payload.
        p_value: a bound on the probability that another order agrees with the payload as well; None
            without one.
        verdict: what the suspect is to the original; None where it is no copy.
        refusal: why no reading was tried, else None.
    """

    payload: bytes | None
    blocks: int
    lost: int
    corrected: int | None
    p_value: float | None
    verdict: str | None
    refusal: str | None = None

    def headline(self) -> str:
        """Say in one line whether a stamp was read."""
        if self.payload is not None:
            return f"stamp read: {show_payload(self.payload)}, p = {self.p_value:.2g}"
        if self.refusal is not None:
            return f"no stamp: {self.refusal}"
        return "no stamp: the order of the units says nothing with the right tag"

    def details(self, limit: int | None = None) -> list[str]:
        """Say how many blocks were lost and corrected."""
        lines = [f"{self.lost} of {count_things(self.blocks, 'block')} say no symbol"]
        if self.corrected:
            lines.append(f"{count_things(self.corrected, 'symbol')} corrected")
        if self.verdict is not None:
            lines.append(f"the suspect is {self.verdict}")
        return lines

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        return {
            "found": self.payload is not None,
            **vars(self),
            "payload": None if self.payload is None else self.payload.hex(),
            "text": None if self.payload is None else read_text(self.payload),
        }


@dataclass(frozen=True)
class Accusation:
    """How likely a suspect was made of a customer's copy.

    Attributes:
        customer: the customer's payload.
        agreeing: how many symbols say what the customer's copy says.
        p_value: a bound on the probability that as many do in a copy of another one, times the
            number of customers.
    """

    customer: bytes
    agreeing: int
    p_value: float


@dataclass(frozen=True, repr=False)
class Trace(Report):
    """Whose copies a suspect was made of.

    Attributes:
        named: the customers whose copies it was made of, the surest first.
        customers: how many were compared.
        reading: what was read of a single stamp.
        symbols: how many symbols of the code were read.
    """

    named: tuple[Accusation, ...]
    customers: int
    reading: StampReading
    symbols: int

    def headline(self) -> str:
        """Name the customers, or say that none is likely."""
        if self.named:
            names = ", ".join(show_payload(a.customer) for a in self.named)
            of_one = f", p = {self.named[0].p_value:.2g}" if len(self.named) == 1 else ""
            return f"made of {'the copy' if of_one else 'copies'} of {names}{of_one}"
        if self.reading.refusal is not None:
            return f"nobody is named: {self.reading.refusal}"
        if not self.customers:
            what = "no stamp was read; give all customers to look for mixed copies"
            return f"nobody is named: {what}"
        return f"nobody is named: the order says none of {count_things(self.customers, 'customer')}"

    def details(self, limit: int | None = None) -> list[str]:
        """Say how many symbols agree with each copy."""
        return [
            f"{show_payload(a.customer)}: {a.agreeing} of {count_things(self.symbols, 'symbol')} "
            f"agree, p = {a.p_value:.2g}"
            for a in self.named[:limit]
        ]

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        named = [
            {
                "payload": a.customer.hex(),
                "text": read_text(a.customer),
                "agreeing": a.agreeing,
                "p_value": a.p_value,
            }
            for a in self.named
        ]
        fields = {"named": named, "customers": self.customers, "symbols": self.symbols}
        return {**fields, "reading": self.reading.to_dict()}


def read_order(original: Original, suspect: Model) -> Order | str:
    """Read what the order of a suspect's units says; where it is no copy, return why.

    Raises:
        LadyError: the suspect cannot be read.
    """
    graph = load_graph(suspect)
    try:
        found = resync(original.graph, graph, verify="none")
    except ArchitectureError as error:
        return str(error)
    if found.verdict == UNRELATED:
        return found.judged.reason
    return Order(_read_symbols(original, found), found.verdict)


def _read_symbols(original: Original, found: Resync) -> np.ndarray:
    """Return the symbol of every block, int64 [blocks], `LOST` where its units are not in it."""
    family = Nesting(found.symmetry.groups)
    where = {name: np.argsort(p) for name, p in found.permutations.items()}
    names = _name_units(original, found)
    orders: dict[str, np.ndarray] = {}
    for match in found.matches:
        group = family.twin(match.group, where)
        if group in names:
            own, units = names[group]
            # Units that only the suspect has stand behind the others. Without them the place of a
            # unit is its rank among those of the original.
            order = np.argsort(match.permutation[: units.size])
            orders[own] = np.empty_like(units)
            orders[own][units] = units[order]
    return np.array(
        [
            block.read(orders[block.group]) if block.group in orders else LOST
            for block in original.blocks
        ],
        np.int64,
    )


def _name_units(original: Original, found: Resync) -> dict[str, tuple[str, np.ndarray]]:
    """Name the units of a result as the original does.

    Returns:
        By group of the result the id of its counterpart in the original, and `units`, int64 [size]:
        `units[k]` is the original's unit that unit k of the result is. Groups with fewer units than
        in the original are left out; where units are exchanged besides, blocks are lost.
    """
    if found.form is not None:
        from ..pairing.layouts import find_own_units

        return find_own_units(found.form, found.symmetry.groups, original.symmetry.groups)
    sizes = {m.group: m.permutation.size for m in found.matches}
    return {
        g.id: (g.id, np.arange(g.size))
        for g in original.symmetry.groups
        if g.id in sizes and sizes[g.id] >= g.size
    }


def read_stamp(original: Original, suspect: Model) -> StampReading:
    """Read the payload in the order of a suspect's units.

    Args:
        original: the model that the stamp was written into.
        suspect: a path or a model.

    Raises:
        LadyError: the suspect cannot be read.
    """
    return decode_order(original, read_order(original, suspect))


def decode_order(original: Original, order: Order | str) -> StampReading:
    """Read the payload in what the order of units says.

    Args:
        original: the model that the stamp was written into.
        order: what `read_order` returns.

    Returns:
        What was read.
    """
    count = len(original.blocks)
    if isinstance(order, str):
        return StampReading(None, count, count, None, None, None, order)
    lost = count - order.known
    if not original.max_payload_bytes:
        why = f"{original.graph.name} has no room for a stamp"
        return StampReading(None, count, lost, None, None, order.verdict, why)
    word, doubts = _count_votes(order.symbols, original.code_symbols)
    payload = decode_symbols(word, doubts, original.key)
    if payload is None:
        return StampReading(None, count, lost, None, None, order.verdict)
    wrong = int(((order.symbols != original.encode(payload)) & (order.symbols != LOST)).sum())
    chance = _compute_chance(original, payload, word, doubts)[1]
    return StampReading(payload, count, lost, wrong, chance, order.verdict)


def trace_copies(original: Original, suspect: Model, customers: Sequence[bytes] = ()) -> Trace:
    """Name the customers whose copies a suspect was made of.

    A suspect that was mixed from several copies holds no payload; the blocks of each still agree
    with its customer more often than chance allows.

    Args:
        original: the model that the stamps were written into.
        suspect: a path or a model.
        customers: the payloads of all customers. Without them only a single stamp is read.

    Raises:
        LadyError: the suspect cannot be read, or a customer's payload does not fit.
    """
    return trace_order(original, read_order(original, suspect), customers)


def trace_order(original: Original, order: Order | str, customers: Sequence[bytes] = ()) -> Trace:
    """Name the customers of what the order of units says; see `trace_copies`."""
    known = list(dict.fromkeys(customers))
    for customer in known:
        check_room(original, len(customer))
    reading = decode_order(original, order)
    if isinstance(order, str):
        return Trace((), len(known), reading, 0)
    if reading.payload is not None and reading.payload not in known:
        known.append(reading.payload)
    if not original.max_payload_bytes:
        return Trace((), len(known), reading, 0)
    word, doubts = _count_votes(order.symbols, original.code_symbols)
    named = []
    for customer in known:
        agreeing, chance = _compute_chance(original, customer, word, doubts)
        p_value = min(1.0, chance * len(known))
        if p_value < MAX_FALSE_ACCUSATION:
            named.append(Accusation(customer, agreeing, p_value))
    named.sort(key=lambda a: (a.p_value, -a.agreeing))
    return Trace(tuple(named), len(known), reading, int(np.isfinite(doubts).sum()))


def _compute_chance(
    original: Original, payload: bytes, word: np.ndarray, doubts: np.ndarray
) -> tuple[int, float]:
    """Count the symbols of a word that say a payload, and how likely as many do by chance.

    Args:
        original: the model that the stamp was written into.
        payload: the payload.
        word: uint8 [symbols], what was read.
        doubts: float64 [symbols], infinite where nothing was read.

    Returns:
        The count, and a bound on the probability that as many symbols say the payload of somebody
        whose copy this is not.
    """
    is_known = np.isfinite(doubts)
    agreeing = int((encode_symbols(payload, original.key, word.size) == word)[is_known].sum())
    return agreeing, bound_chance(agreeing, int(is_known.sum()), count_message_symbols(payload))


def bound_chance(agreeing: int, known: int, message: int) -> float:
    """Bound the probability that so many symbols of a random word of the code agree.

    Any `message` symbols of a Reed-Solomon word are independent, and each agrees once in 256 times;
    all others follow from them. So at least t agree with a probability of at most C(n, t) / 256^t,
    for every t up to `message`.

    Args:
        agreeing: how many symbols agree.
        known: how many were read, n.
        message: how many symbols the payload and its tag have.

    >>> bound_chance(0, 255, 17)
    1.0
    >>> round(bound_chance(1, 10, 17), 4)
    0.0391
    """
    count = min(agreeing, message)
    ways = math.lgamma(known + 1) - math.lgamma(count + 1) - math.lgamma(known - count + 1)
    return min(1.0, math.exp(ways - count * math.log(SYMBOLS)))


def _count_votes(symbols: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Take the symbol of each place of a word that most of its blocks say.

    Args:
        symbols: int64 [blocks].
        length: the number of symbols of a word.

    Returns:
        The word, uint8 [length], and how doubtful each symbol is, float64 [length]; infinite where
        no block says one.
    """
    word, doubts = np.zeros(length, np.uint8), np.full(length, np.inf)
    for place in range(length):
        said = symbols[place::length]
        counts = np.bincount(said[said != LOST], minlength=1)
        if counts.sum():
            word[place] = counts.argmax()
            doubts[place] = counts.sum() / counts.max() - 1 + 1 / math.sqrt(counts.max())
    return word, doubts
