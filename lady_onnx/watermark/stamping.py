"""Stamps: a payload in the order of a model's units. The stamped model computes the same.

The payload is sealed as that of a mark. A word of a Reed-Solomon code has one symbol a block, at
most 255; with more blocks it is repeated. So whole groups may be lost. Which units make a block
follows from the key and from the original.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from ..dataflow.engine import analyse_graph
from ..diagnosis.interchangeable import find_interchangeable_units
from ..editing.permuting import count_moved, permute_graph
from ..errors import LadyError
from ..graph.loading import Model, load_graph
from ..graph.model import Graph, map_weights
from ..groups.model import Symmetry
from ..reporting import Report, count_things
from ..scaling.walk import find_scalings
from ..symmetry.finder import extract_groups
from .blocks import Block, draw_blocks
from .carriers import hash_layers, list_layers
from .secrets.keys import Key
from .secrets.payloads import PADDED_BYTES, TAG_BYTES, check_length, encode_symbols

STAMPED_NOTE = "stamped"
"""The note in the metadata of a stamped model."""
MIN_CHECK_SHARE = 1 / 3
"""At least this share of the symbols are check symbols: as many blocks may be lost."""
MAX_CODE_SYMBOLS = 255
"""The longest word of a Reed-Solomon code over bytes."""


@dataclass(frozen=True)
class Original:
    """A model that stamps are written into, and what its key makes of it.

    Attributes:
        graph: the model.
        symmetry: its groups.
        key: the key of its stamps.
        blocks: the blocks.
    """

    graph: Graph
    symmetry: Symmetry
    key: Key
    blocks: tuple[Block, ...]

    @property
    def code_symbols(self) -> int:
        """The number of symbols of a word."""
        return min(len(self.blocks), MAX_CODE_SYMBOLS)

    @property
    def max_payload_bytes(self) -> int:
        """The length of the longest payload; 0 where none fits."""
        room = self.code_symbols * (1 - MIN_CHECK_SHARE) - TAG_BYTES
        return max((size - 1 for size in PADDED_BYTES if size <= room), default=0)

    def encode(self, payload: bytes) -> np.ndarray:
        """Return the symbols of all blocks that encode a payload, int64 [blocks]."""
        word = encode_symbols(payload, self.key, self.code_symbols)
        return np.resize(word, len(self.blocks))

    def arrange(self, symbols: np.ndarray) -> dict[str, np.ndarray]:
        """Return the permutations that encode some symbols, by group id, int64 [size]."""
        sizes = {g.id: g.size for g in self.symmetry.groups}
        found: dict[str, np.ndarray] = {}
        for block, symbol in zip(self.blocks, symbols.tolist(), strict=True):
            order = found.setdefault(block.group, np.arange(sizes[block.group]))
            block.write(order, symbol)
        return found


@dataclass(frozen=True, repr=False)
class StampCapacity(Report):
    """How much the order of a model's units can say.

    Attributes:
        symmetry_bits: those of all groups.
        blocks: the number of blocks, of six units each.
        code_rate: which share of the symmetry bits the longest payload is.
        bits: 8 times `payload_bytes`.
        payload_bytes: the length of the longest payload.
        repeats: how often a word of the code is written.
    """

    symmetry_bits: float
    blocks: int
    code_rate: float
    bits: int
    payload_bytes: int
    repeats: int

    def headline(self) -> str:
        """Say in one line how long a payload may be."""
        units = f"{count_things(self.blocks, 'block')} of six units"
        length = count_things(self.payload_bytes, "byte")
        return f"{self.symmetry_bits:.0f} symmetry bits, {units}: a payload of up to {length}"


@dataclass(frozen=True, repr=False)
class Stamped(Report):
    """A stamped model.

    Attributes:
        graph: the model.
        permutations: what was applied to the original, by group id, int64 [size].
        blocks: the number of blocks that hold the payload.
        repeats: how often a word of the code is written.
    """

    graph: Graph
    permutations: Mapping[str, np.ndarray]
    blocks: int
    repeats: int

    @property
    def model(self) -> ModelProto:
        """The stamped model."""
        return self.graph.to_model(STAMPED_NOTE)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the stamped model, whole or not at all."""
        self.graph.save(Path(path), STAMPED_NOTE)

    def headline(self) -> str:
        """Say in one line what was written."""
        moved = count_things(count_moved(self.permutations), "unit")
        return f"stamped: {moved} moved in {count_things(self.blocks, 'block')}"

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        moved = count_moved(self.permutations)
        return {"units_moved": moved, "blocks": self.blocks, "repeats": self.repeats}


def open_original(model: Model, key: Key) -> Original:
    """Read a model, and draw the blocks of its stamps.

    Units that nothing tells apart are in no block. Nor are those of states that are fed back: two
    files may share a state, and its order must stay.

    Args:
        model: a path or a model.
        key: the owner's key.

    Raises:
        LadyError: the model cannot be read.
    """
    graph = load_graph(model)
    analysis = analyse_graph(graph)
    symmetry = extract_groups(analysis)
    scalings = find_scalings(graph, analysis, symmetry.groups)
    alike = find_interchangeable_units(symmetry.groups, scalings, map_weights(graph))
    left_out = {g: {u for units in sets for u in units} for g, sets in alike.items()}
    fed_back = {g for state in symmetry.states for g in state.groups}
    layers = list_layers(graph)
    digest = hash_layers(map_weights(graph), layers)
    own = key.derive("stamp", digest)
    groups = [g for g in symmetry.groups if g.id not in fed_back]
    return Original(graph, symmetry, own, tuple(draw_blocks(groups, left_out, own)))


def write_stamp(original: Original, payload: bytes) -> Stamped:
    """Write a payload into the order of a model's units.

    Args:
        original: the model, as `open_original` returns it.
        payload: the bytes.

    Raises:
        LadyError: the payload has no bytes, or does not fit.
    """
    check_length(len(payload))
    check_room(original, len(payload))
    symbols = original.encode(payload)
    permutations = original.arrange(symbols)
    graph = permute_graph(original.graph, original.symmetry.groups, permutations)
    repeats = len(original.blocks) // original.code_symbols
    return Stamped(graph, permutations, len(original.blocks), repeats)


def check_room(original: Original, payload_bytes: int) -> None:
    """Raise LadyError unless a payload of so many bytes fits into a model."""
    if payload_bytes > original.max_payload_bytes:
        capacity = count_stamp_capacity(original).headline()
        what = f"has no room for {count_things(payload_bytes, 'byte')}: {capacity}"
        mend = "give a shorter payload" if original.max_payload_bytes else "use a mark"
        raise LadyError(f"{original.graph.name}: {what}; {mend}")


def count_stamp_capacity(original: Original) -> StampCapacity:
    """Count how much the order of a model's units can say."""
    symmetry_bits = original.symmetry.symmetry_bits
    bits = 8 * original.max_payload_bytes
    return StampCapacity(
        symmetry_bits,
        len(original.blocks),
        bits / symmetry_bits if symmetry_bits else 0.0,
        bits,
        original.max_payload_bytes,
        len(original.blocks) // max(original.code_symbols, 1),
    )
