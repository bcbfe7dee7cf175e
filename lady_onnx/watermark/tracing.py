"""Reading stamps: what the order of a suspect's units says, and whose copy it was made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArchitectureError
from ..graph.loading import Model, load_graph
from ..groups.permutations import Nesting, invert_permutations
from ..pipeline.result import Resync
from ..pipeline.resynchronization import resync
from ..pipeline.verdicts import UNRELATED
from ..reporting import Report, count_things
from .blocks import LOST, ORDERS
from .extraction import show_payload
from .secrets.payloads import decode_symbols
from .stamping import Original

MAX_FALSE_ACCUSATION = 1e-6
"""The probability, over all customers, that one is named whose copy it is not."""
MIN_SURE_CERTAINTY = 0.5
"""A block counts if each of its units is more likely in its place than elsewhere."""


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
        p_value: the probability that any other order agrees as well with the payload; None without
            one.
        verdict: what the suspect is to the original; None where it is another network.
        refusal: why nothing was read, None where something may have been.
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
            "text": None if self.payload is None else show_payload(self.payload),
        }


@dataclass(frozen=True)
class Accusation:
    """How likely a suspect was made of a customer's copy.

    Attributes:
        customer: the customer's payload.
        agreeing: how many blocks say what the customer's copy says.
        p_value: the probability that as many do in a copy of another one, times the number of
            customers.
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
        blocks: how many blocks say a symbol.
    """

    named: tuple[Accusation, ...]
    customers: int
    reading: StampReading
    blocks: int

    def headline(self) -> str:
        """Name the customers, or say that none is likely."""
        if not self.named:
            why = self.reading.refusal or f"none of {count_things(self.customers, 'customer')}"
            return f"no customer is likely: {why}"
        names = ", ".join(show_payload(a.customer) for a in self.named)
        return f"made of the copy of {names}, p = {self.named[0].p_value:.2g}"

    def details(self, limit: int | None = None) -> list[str]:
        """Say how many blocks agree with each copy."""
        return [
            f"{show_payload(a.customer)}: {a.agreeing} of {count_things(self.blocks, 'block')} "
            f"agree, p = {a.p_value:.2g}"
            for a in self.named[:limit]
        ]

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        named = [
            {
                "customer": a.customer.hex(),
                "text": show_payload(a.customer),
                "agreeing": a.agreeing,
                "p_value": a.p_value,
            }
            for a in self.named
        ]
        fields = {"named": named, "customers": self.customers, "blocks": self.blocks}
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
    """Return the symbol of every block, `LOST` where units were not found, int64 [blocks]."""
    family = Nesting(found.symmetry.groups)
    where = {name: np.argsort(p) for name, p in found.permutations.items()}
    applied = invert_permutations(family, found.permutations)
    certainty = {family.twin(m.group, where): m.certainty for m in found.matches}
    names = _name_units(original, found)
    orders: dict[str, np.ndarray] = {}
    for group, order in applied.items():
        if group in names:
            own, units = names[group]
            is_sure = certainty[group][order] >= MIN_SURE_CERTAINTY
            orders[own] = np.full(order.size, LOST)
            orders[own][units] = np.where(is_sure, units[order], LOST)
    return np.array(
        [
            block.read(orders[block.group]) if block.group in orders else LOST
            for block in original.blocks
        ],
        np.int64,
    )


def _name_units(original: Original, found: Resync) -> dict[str, tuple[str, np.ndarray]]:
    """Return by group of a result its id in the original, and which unit each one is there."""
    own = {g.id: g for g in original.symmetry.groups}
    if found.form is not None:
        from ..pairing.layouts import find_own_units

        return find_own_units(found.form, found.symmetry.groups, original.symmetry.groups)
    return {
        g.id: (g.id, np.arange(g.size))
        for g in found.symmetry.groups
        if g.id in own and own[g.id].size == g.size
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
    """
    count = len(original.blocks)
    if isinstance(order, str):
        return StampReading(None, count, count, None, None, None, order)
    lost = count - order.known
    if not original.max_payload_bytes:
        why = f"{original.graph.name} has no room for any"
        return StampReading(None, count, lost, None, None, order.verdict, why)
    word, doubts = _count_votes(order.symbols, original.code_symbols)
    payload = decode_symbols(word, doubts, original.key)
    if payload is None:
        return StampReading(None, count, lost, None, None, order.verdict)
    agreeing = int((order.symbols == original.encode(payload)).sum())
    chance = compute_chance(agreeing, order.known)
    return StampReading(payload, count, lost, order.known - agreeing, chance, order.verdict)


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
    reading = decode_order(original, order)
    if isinstance(order, str):
        return Trace((), len(customers), reading, 0)
    known = list(dict.fromkeys(customers))
    if reading.payload is not None and reading.payload not in known:
        known.append(reading.payload)
    named = []
    for customer in known:
        agreeing = int((order.symbols == original.encode(customer)).sum())
        p_value = min(1.0, compute_chance(agreeing, order.known) * len(known))
        if p_value < MAX_FALSE_ACCUSATION:
            named.append(Accusation(customer, agreeing, p_value))
    named.sort(key=lambda a: (a.p_value, -a.agreeing))
    return Trace(tuple(named), len(known), reading, order.known)


def compute_chance(agreeing: int, blocks: int) -> float:
    """Return the probability that at least so many of the blocks agree by chance.

    The orders of a block are drawn by the key, so that one of 720 agrees.
    """
    from scipy.special import bdtrc

    return 1.0 if agreeing <= 0 else float(bdtrc(agreeing - 1, blocks, 1 / len(ORDERS)))


def _count_votes(symbols: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Take the symbol of each place of a word that most of its blocks say.

    Returns:
        The word, uint8 [length], and how doubtful each symbol is, float64 [length].
    """
    word, doubts = np.zeros(length, np.uint8), np.full(length, np.inf)
    for place in range(length):
        said = symbols[place::length]
        counts = np.bincount(said[said != LOST], minlength=1)
        if counts.sum():
            word[place] = counts.argmax()
            doubts[place] = counts.sum() / counts.max() - 1 + 1 / math.sqrt(counts.max())
    return word, doubts
