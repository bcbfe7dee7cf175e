"""Mark files: what is needed beside the key to read a mark. They hold no secret in the clear."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LadyError, MissingFileError
from ..graph.files import open_atomically
from .schemes.interface import SCHEMES, Layer
from .secrets.keys import Key
from .secrets.payloads import MAX_PAYLOAD_BYTES

ONE_LAYER_SCHEME = "uchida"
"""The scheme whose bits lie in one layer."""
MALFORMED_FILE_ERRORS = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
)
"""What reading a file may raise that is no mark file."""
MARK_FORMAT = "lady-onnx-mark/2"
"""What the first field of a mark file says."""
ID_BYTES = 16
"""The length of a mark's identity."""
COMMITMENT_BYTES = 16
"""The length of the hash that an owner commits to."""
MAX_LAYERS, MAX_AXES, MAX_ELEMENTS = 1 << 16, 16, 1 << 40
"""A mark file has at most so many layers, of so many axes and elements."""


@dataclass(frozen=True)
class Commitment:
    """What an owner commits to by a mark: who marked which model, and when.

    Attributes:
        owner: who.
        time: when, as text.
        nonce: random hexadecimal digits, so that nobody guesses the owner from the payload.
    """

    owner: str
    time: str
    nonce: str

    def hash(self, model: str) -> bytes:
        """Return the payload: the first 16 bytes of a SHA-256 over all that is committed to.

        Args:
            model: the hash of the unmarked model.
        """
        parts = (self.owner, self.time, self.nonce, model)
        text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()[:COMMITMENT_BYTES]


@dataclass(frozen=True)
class Mark:
    """A mark, as its file says it.

    Attributes:
        scheme: the name of its scheme.
        identity: the first 16 bytes of the payload's HMAC. It gives each mark a key of its own.
        model: the SHA-256 of the unmarked model, as hexadecimal digits.
        payload_bytes: the length of the payload.
        sealed: the payload, hidden by the key.
        layers: the layers that carry it.
        strength: how strongly it was written.
        commitment: what the payload is the hash of, None if it is no hash.
        is_informed: whether it is read from what changed since the model was unmarked.
    """

    scheme: str
    identity: bytes
    model: str
    payload_bytes: int
    sealed: bytes
    layers: tuple[Layer, ...]
    strength: float
    commitment: Commitment | None = None
    is_informed: bool = False

    def derive_key(self, key: Key) -> Key:
        """Derive the key of this mark alone.

        It depends on all that says how bits are read, so that nobody chooses that afterwards.
        """
        layers = [[n.name, n.shape, n.axis, n.emphasis] for n in self.layers]
        read = json.dumps([self.is_informed, layers])
        return key.derive("mark", self.scheme, self.model, self.identity.hex(), read)

    def open_payload(self, key: Key) -> bytes:
        """Show the payload that was written; under another key this is noise."""
        return self.derive_key(key).derive("record").pad(self.sealed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mark file, whole or not at all."""
        fields = {
            "format": MARK_FORMAT,
            "scheme": self.scheme,
            "identity": self.identity.hex(),
            "model": self.model,
            "sealed": base64.b64encode(self.sealed).decode(),
            "strength": self.strength,
            "informed": self.is_informed,
            "commitment": None if self.commitment is None else vars(self.commitment),
            "layers": [
                {"name": n.name, "shape": n.shape, "axis": n.axis, "emphasis": n.emphasis}
                for n in self.layers
            ],
        }
        with open_atomically(Path(path)) as file:
            file.write((json.dumps(fields, indent=1) + "\n").encode())


def read_mark(path: str | os.PathLike[str]) -> Mark:
    """Read a mark file.

    Raises:
        MissingFileError: there is no such file.
        LadyError: it is no mark file.
    """
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
        if fields["format"] != MARK_FORMAT:
            raise ValueError(f"format {fields['format']!r}")
        return _read_fields(fields)
    except FileNotFoundError:
        what = "no such file; `watermark embed --mark` wrote it"
        raise MissingFileError(f"{path}: {what}") from None
    except OSError as error:
        raise LadyError(f"{path}: {error.strerror}; give a mark file") from error
    except MALFORMED_FILE_ERRORS as error:
        why = " ".join(str(error).split())
        what = f"is not a mark file ({why}); give one that `watermark embed` wrote"
        raise LadyError(f"{path}: {what}") from error


def _read_fields(fields: Mapping[str, Any]) -> Mark:
    """Read the fields of a mark file.

    Raises:
        ValueError, LookupError, TypeError: one is missing, or is not what it should be.
    """
    if fields["scheme"] not in SCHEMES:
        raise ValueError(f"scheme {fields['scheme']!r}")
    identity, model = bytes.fromhex(fields["identity"]), bytes.fromhex(fields["model"])
    if len(identity) != ID_BYTES or len(model) != 32:
        raise ValueError("the length of 'identity' or 'model'")
    try:
        sealed = base64.b64decode(fields["sealed"], validate=True)
    except binascii.Error as error:
        raise ValueError("'sealed' is no text of base64") from error
    if not 1 <= len(sealed) <= MAX_PAYLOAD_BYTES:
        raise ValueError("the length of 'sealed'")
    strength = float(fields["strength"])
    if not 0 < strength < float("inf"):
        raise ValueError(f"strength {strength:g}")
    entries = fields["layers"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LAYERS:
        raise ValueError("'layers'")
    is_informed = fields["informed"]
    if not isinstance(is_informed, bool):
        raise ValueError("'informed' is neither true nor false")
    layers = tuple(_read_layer(entry) for entry in entries)
    if len({layer.name for layer in layers}) < len(layers):
        raise ValueError("a layer that occurs twice")
    if fields["scheme"] == ONE_LAYER_SCHEME and len(layers) > 1:
        raise ValueError(f"scheme '{ONE_LAYER_SCHEME}' in several layers")
    commitment = None
    if fields.get("commitment") is not None:
        told = [fields["commitment"][name] for name in ("owner", "time", "nonce")]
        if not all(isinstance(text, str) and text.isprintable() for text in told):
            raise ValueError("field 'commitment' holds no plain text")
        commitment = Commitment(*told)
    known = fields["scheme"], identity, model.hex(), len(sealed), sealed
    return Mark(*known, layers, strength, commitment, is_informed)


def _read_layer(entry: Mapping[str, Any]) -> Layer:
    """Read a layer of a mark file; raises as `_read_fields` does."""
    name, shape, axis = entry["name"], entry["shape"], entry["axis"]
    if not isinstance(name, str) or not isinstance(shape, list) or type(axis) is not int:
        raise ValueError("a layer without name, shape or axis")
    # a lone surrogate is text that cannot be written
    name.encode()
    is_shape = all(type(n) is int and n > 0 for n in shape) and 2 <= len(shape) <= MAX_AXES
    emphasis = float(entry["emphasis"])
    if not 0 < emphasis <= 1:
        raise ValueError(f"layer '{name}' of emphasis {emphasis:g}")
    layer = Layer(name, tuple(shape), axis, emphasis=emphasis)
    if not is_shape or layer.size > MAX_ELEMENTS or not 0 <= axis < len(shape):
        raise ValueError(f"layer '{name}' of shape {shape}, axis {axis}")
    return layer
