"""Reading a mark from a suspect: as it stands, and once its units are back in their places."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArchitectureError, LadyError
from ..graph.loading import Model, load_graph
from ..graph.model import Graph, WeightMapping, map_weights
from ..groups.permutations import Arrays
from ..pipeline.result import Resync
from ..pipeline.resynchronization import resync
from ..pipeline.verdicts import UNRELATED
from ..reporting import Report, count_things
from .carriers import has_layer, hash_model, read_layers
from .records import ID_BYTES, Mark, read_mark
from .schemes.interface import find_scheme
from .secrets.keys import Key
from .secrets.payloads import count_coded_bits, decode_payload, encode_payload

NEEDS_UNMARKED = (
    "the mark is so weak that it is read beside the unmarked model alone; give that (--unmarked)"
)
"""Why a mark is not read."""


@dataclass(frozen=True)
class Reading:
    """What was read from one model, or from one arrangement of it.

    Attributes:
        payload: the payload, None if no tag was right.
        bits: the number of bits that were written.
        wrong: how many of them are read wrongly.
        corrected: how many symbols were corrected.
        correlation: the correlation of what was read with the bits.
        p_value: the probability that a model without this mark agrees as well with the bits, if key
            and mark file were there before the model was looked at.
        layers: how many of the layers that carry the mark were found.
    """

    payload: bytes | None
    bits: int
    wrong: int
    corrected: int
    correlation: float
    p_value: float
    layers: int


@dataclass(frozen=True, repr=False)
class Extraction(Report):
    """What was read from a suspect.

    Attributes:
        mark: the mark that was looked for.
        as_it_stands: what was read from the suspect as it is.
        put_back: what was read once its units were back in the order of the unmarked model,
            or else of a reference; None without both, or where it is another network.
        verdict: what the suspect is to the model that it was brought back to; None without one.
        refusal: why the suspect was not brought back, None where it was or nobody asked.
        tried: how many readings were made, for the correction of p-values.
        gives_key: whether the unmarked model that was given is the one that the mark's key depends
            on; None without one.
    """

    mark: Mark
    as_it_stands: Reading
    put_back: Reading | None
    verdict: str | None
    refusal: str | None
    tried: int
    gives_key: bool | None = None

    @property
    def best(self) -> Reading:
        """The reading that fits the mark better."""
        readings = [r for r in (self.put_back, self.as_it_stands) if r is not None]
        return min(readings, key=lambda r: (r.payload is None, r.p_value))

    @property
    def payload(self) -> bytes | None:
        """The payload, None where it was not read."""
        return self.best.payload

    @property
    def is_of_unmarked(self) -> bool | None:
        """Whether the mark was written into the unmarked model; None where nothing says that."""
        return self.gives_key if self.payload is not None or not self.gives_key else None

    @property
    def is_committed(self) -> bool | None:
        """Whether the payload is the hash of the mark's commitment; None without either."""
        if self.payload is None or self.mark.commitment is None:
            return None
        return self.payload == self.mark.commitment.hash(self.mark.model)

    @property
    def is_accepted(self) -> bool:
        """Whether a payload was read, and nothing that was asked besides speaks against it."""
        is_refuted = self.is_of_unmarked is False or self.is_committed is False
        return self.payload is not None and not is_refuted

    @property
    def p_value(self) -> float:
        """The p-value of the better reading, corrected for all that were made (Bonferroni)."""
        return min(1.0, self.best.p_value * self.tried)

    def headline(self) -> str:
        """Say in one line whether the mark was read."""
        p_value = f"p = {self.p_value:.2g}"
        if self.is_accepted and self.payload is not None:
            return f"mark read: {show_payload(self.payload)}, {p_value}"
        if self.payload is not None:
            told = "commitment" if self.is_committed is False else "unmarked model"
            what = f"the payload {show_payload(self.payload)} was read, but the {told} refutes it"
            return f"no mark: {what}"
        return f"no mark: under this key and mark file no payload was read, {p_value}"

    def details(self, limit: int | None = None) -> list[str]:
        """List what was read as the suspect stands, and once its units were brought back."""
        lines = []
        if self.is_committed is not None and self.mark.commitment is not None:
            said = f"'{self.mark.commitment.owner}', '{self.mark.commitment.time}'"
            is_kept = "is the hash of" if self.is_committed else "is NOT the hash of"
            lines.append(f"the payload {is_kept} the commitment: {said}")
        if self.is_of_unmarked is not None:
            was = "was" if self.is_of_unmarked else "was NOT"
            lines.append(f"the mark {was} written into the unmarked model")
        elif self.payload is not None:
            lines.append("to convince others than the owner, show the unmarked model")
        lines.append(_describe_reading("as it stands", self.as_it_stands))
        if self.put_back is not None:
            how = f"put back ({self.verdict})"
            lines.append(_describe_reading(how, self.put_back))
        elif self.refusal is not None:
            lines.append(f"not put back: {self.refusal}")
        else:
            what = "with the unmarked model or a reference, units are put back first"
            lines.append(f"not put back: {what}")
        return lines

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""

        def list_reading(reading: Reading | None) -> dict[str, Any] | None:
            if reading is None:
                return None
            shown = None if reading.payload is None else reading.payload.hex()
            fields = {**vars(reading), "payload": shown}
            fields["layers_found"] = fields.pop("layers")
            return fields

        return {
            "found": self.is_accepted,
            "payload": None if self.payload is None else self.payload.hex(),
            "text": None if self.payload is None else read_text(self.payload),
            "p_value": self.p_value,
            "scheme": self.mark.scheme,
            "as_it_stands": list_reading(self.as_it_stands),
            "put_back": list_reading(self.put_back),
            "verdict": self.verdict,
            "refusal": self.refusal,
            "tried": self.tried,
            "committed": self.is_committed,
            "of_unmarked": self.is_of_unmarked,
        }


def extract_mark(
    suspect: Model,
    key: Key,
    mark: Mark | str | os.PathLike[str],
    *,
    reference: Model | None = None,
    unmarked: Model | None = None,
    marks_tried: int = 1,
) -> Extraction:
    """Read a mark from a suspect.

    Args:
        suspect: a path or a model.
        key: the owner's key.
        mark: the mark, or the path of its file.
        reference: the marked model in the owner's order. With one the suspect is brought back
            first: its order, factors and signs, other ways to write the file, inserted units.
        unmarked: the model as it was before it was marked. With one the suspect is brought back to
            it, and the reference is not needed. Without one a reading convinces nobody but the
            owner: others may have chosen key, mark file, order and factors of the reference so that
            a model of yours says anything. A weak mark is read from what changed, and needs it.
        marks_tried: how many keys and marks are tried in all, for the correction of the p-value.

    Returns:
        What was read as the suspect stands, and once its units are back.

    Raises:
        LadyError: a model or the mark cannot be read, or only an unmarked model would show it.
    """
    record = mark if isinstance(mark, Mark) else read_mark(mark)
    if record.is_informed and unmarked is None:
        which = "" if isinstance(mark, Mark) else f"{os.fspath(mark)}: "
        raise LadyError(f"{which}{NEEDS_UNMARKED}")
    graph = load_graph(suspect)
    frame = None if unmarked is None else load_graph(unmarked)
    gives_key = None if frame is None else hash_model(frame) == record.model
    before = None
    if record.is_informed:
        # what changed since another model was another one says nothing
        before = map_weights(frame) if frame is not None and gives_key else {}
    if not gives_key:
        frame = None if reference is None else load_graph(reference)
    plain = read_weights(map_weights(graph), key, record, before)
    back, verdict, refusal = None, None, None
    if frame is not None:
        try:
            found = _bring_back(frame, graph, key, record, bool(gives_key))
            verdict = found.verdict
            if verdict == UNRELATED:
                refusal = found.judged.reason
            else:
                back = read_weights(found.weights, key, record, before)
        except ArchitectureError as error:
            refusal = str(error)
    tried = marks_tried if back is None else 2 * marks_tried
    return Extraction(record, plain, back, verdict, refusal, tried, gives_key)


def _bring_back(frame: Graph, suspect: Graph, key: Key, mark: Mark, is_unmarked: bool) -> Resync:
    """Bring a suspect back to the order, factors and signs of the unmarked or the marked model.

    Of the unmarked model nobody chose these to make the suspect say anything, since the key depends
    on all its weights. A suspect that is no exact copy is matched with the marked model without its
    mark. Else units that are like the mark would be found where the mark is, and so every model
    would seem to bear it.

    Raises:
        ArchitectureError: the two are not the same network.
        LadyError: the reference is not the marked model.
    """
    found = resync(frame, suspect, verify="none")
    if is_unmarked or found.judged.accepted:
        return found
    layers = mark.layers
    if not all(has_layer(map_weights(frame), layer) for layer in layers):
        raise LadyError(f"{frame.name}: is not the marked model; give that as the reference")
    weights = WeightMapping([n.name for n in layers], frame.array)
    keys, count = mark.derive_key(key).derive_layer_key, count_coded_bits(mark.payload_bytes)
    plain = frame.copy()
    for name, array in find_scheme(mark.scheme).erase(weights, layers, keys, count).items():
        plain.replace(name, array)
    return resync(plain, suspect, verify="none")


def read_weights(weights: Arrays, key: Key, mark: Mark, unmarked: Arrays | None = None) -> Reading:
    """Read a mark from weights by the names that they have in its file.

    A layer that has another shape, or none of floats, is not known.

    Args:
        weights: those of the suspect.
        key: the owner's key.
        mark: the mark.
        unmarked: the weights before they were marked, if it is read from what changed.
    """
    own = mark.derive_key(key)
    scheme = find_scheme(mark.scheme)
    found = read_layers(weights, mark.layers, unmarked)
    bits = encode_payload(mark.open_payload(key), own)
    soft = scheme.read(found, mark.layers, own.derive_layer_key, len(bits))
    signs = np.where(bits, 1.0, -1.0)
    decoded = decode_payload(soft, mark.payload_bytes, own)
    if decoded is not None:
        # the identity of a mark is made of its payload, so a payload has one key alone
        identity = key.derive("identity", mark.scheme).sign(decoded.payload, ID_BYTES)
        decoded = decoded if identity == mark.identity else None
    length = float(np.linalg.norm(soft))
    agreement = float(soft @ signs) / length if length else 0.0
    return Reading(
        None if decoded is None else decoded.payload,
        len(bits),
        int(((soft > 0) != bits).sum()),
        0 if decoded is None else decoded.corrected,
        agreement / len(bits) ** 0.5,
        # under chance each product has a random sign, so that the sum is normal
        0.5 * math.erfc(agreement / 2**0.5) if length else 1.0,
        len(found),
    )


def read_text(payload: bytes) -> str | None:
    """Return a payload as text where it is printable, else None."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def show_payload(payload: bytes) -> str:
    """Return a payload as text in quotes where it is printable, else as hexadecimal digits."""
    text = read_text(payload)
    return payload.hex() if text is None else f"'{text}'"


def _describe_reading(how: str, reading: Reading) -> str:
    """Say in one line what was read."""
    fixed = f", {count_things(reading.corrected, 'symbol')} corrected" if reading.corrected else ""
    share = f"{reading.wrong} of {reading.bits} bits are wrong"
    return f"{how}: {share}{fixed}, p = {reading.p_value:.2g}"
