"""Secret keys: files of them, passphrases, and all that is derived from a key.

A key file holds 32 random bytes, sealed by AES-GCM under a passphrase that Scrypt stretches (RFC
7914). From them HKDF (RFC 5869) derives a secret for every use, with a text of its own (`info`)
each; AES in counter mode turns a secret into as many random bytes as a scheme draws. No key is ever
printed: `Key` shows none of its bytes.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import LadyError, MissingFileError, OutputError, UsageError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
except ImportError as error:
    what = "marks and stamps need the extra `watermark`: pip install 'lady-onnx[watermark]'"
    raise UsageError(what) from error

KEY_FORMAT = "lady-onnx-key/1"
"""What the first field of a key file says."""
KEY_BYTES = 32
"""The length of a key, and of every secret that is derived from it."""
SALT_BYTES, NONCE_BYTES = 16, 12
"""The lengths of the salt of a passphrase, and of the nonce of AES-GCM."""
SCRYPT_COST, SCRYPT_BLOCK, SCRYPT_LANES = 1 << 17, 8, 1
"""The parameters N, r and p of Scrypt: 128 MiB and a third of a second."""
MIN_PASSPHRASE_LENGTH = 8
"""Shorter passphrases are refused for new keys."""
MAX_KEY_FILE_BYTES = 1 << 16
"""A file that is longer is no key file."""


@dataclass(frozen=True)
class Key:
    """A secret, from which those of all uses are derived.

    Attributes:
        secret: 32 bytes; shown nowhere.
    """

    secret: bytes = field(repr=False)

    def derive(self, *info: str) -> Key:
        """Derive the secret of a use (HKDF, RFC 5869).

        Args:
            info: what the secret is for, such as a model, a scheme and a layer.
        """
        # lengths are written as well, so that two lists never give the same bytes
        text = b"".join(len(t.encode()).to_bytes(4, "big") + t.encode() for t in info)
        return Key(HKDF(SHA256(), KEY_BYTES, None, text).derive(self.secret))

    def derive_layer_key(self, name: str) -> Key:
        """Derive the secret of a layer, by its name."""
        return self.derive("layer", name)

    def draw_bytes(self, count: int) -> bytes:
        """Draw random bytes, always the same ones (AES-256 in counter mode)."""
        counter = Cipher(algorithms.AES(self.secret), modes.CTR(bytes(16))).encryptor()
        return counter.update(bytes(count))

    def draw_integers(self, count: int) -> np.ndarray:
        """Draw random integers, uint64 [count], always the same ones."""
        return np.frombuffer(self.draw_bytes(8 * count), "<u8").astype(np.uint64)

    def draw_signs(self, count: int) -> np.ndarray:
        """Draw random signs, float32 [count] of -1 and 1, always the same ones."""
        bits = np.unpackbits(np.frombuffer(self.draw_bytes((count + 7) // 8), np.uint8))
        return 2 * bits[:count].astype(np.float32) - 1

    def draw_normals(self, count: int) -> np.ndarray:
        """Draw normal numbers, float64 [count], always the same ones (Box and Muller 1958)."""
        pairs = (count + 1) // 2
        # of 53 bits, as far from 0 as from 1
        uniform = ((self.draw_integers(2 * pairs) >> np.uint64(11)) + 0.5) / 2.0**53
        radius = np.sqrt(-2 * np.log(uniform[:pairs]))
        angle = 2 * np.pi * uniform[pairs:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]

    def draw_order(self, count: int, first: int | None = None) -> np.ndarray:
        """Draw a random order of so many, or the first of them, int64, always the same one."""
        drawn = self.draw_integers(count)
        if first is None or first >= count:
            return np.argsort(drawn, kind="stable")
        # those that are the smallest, without an order of the others
        smallest = np.argpartition(drawn, first)[:first]
        return smallest[np.argsort(drawn[smallest], kind="stable")]

    def sign(self, message: bytes, count: int) -> bytes:
        """Return the first `count` bytes of the HMAC-SHA-256 of a message."""
        return hmac.digest(self.secret, message, "sha256")[:count]

    def pad(self, message: bytes) -> bytes:
        """Hide a message, or show it again (XOR). Use a key for one message alone."""
        stream = self.draw_bytes(len(message))
        return bytes(a ^ b for a, b in zip(message, stream, strict=True))


def create_key() -> Key:
    """Create a new random key."""
    return Key(os.urandom(KEY_BYTES))


def write_key(key: Key, path: Path, passphrase: str) -> None:
    """Write a key file that only its owner may read, sealed by a passphrase.

    Args:
        key: the key.
        path: the file; one that exists is not overwritten.
        passphrase: at least 8 characters; without it the key is lost.

    Raises:
        OutputError: the file exists.
        LadyError: the passphrase is too short.
    """
    if len(passphrase) < MIN_PASSPHRASE_LENGTH:
        what = f"a passphrase has at least {MIN_PASSPHRASE_LENGTH} characters; give a longer one"
        raise LadyError(f"{path}: {what}")
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    sealed = AESGCM(_stretch(passphrase, salt)).encrypt(nonce, key.secret, KEY_FORMAT.encode())
    secrets = {"salt": salt, "nonce": nonce, "key": sealed}
    text = {n: base64.b64encode(part).decode() for n, part in secrets.items()}
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        what = "exists, and a key that is overwritten is lost; choose another name"
        raise OutputError(f"{path}: {what}") from None
    with os.fdopen(handle, "w") as file:
        file.write(json.dumps({"format": KEY_FORMAT, **text}, indent=1) + "\n")


def read_key(path: Path, passphrase: str) -> Key:
    """Read a key file.

    Raises:
        MissingFileError: there is no such file.
        LadyError: it is no key file, or the passphrase is wrong.
    """
    fields = _read_fields(path)
    try:
        salt, nonce, sealed = (
            base64.b64decode(fields[name], validate=True) for name in ("salt", "nonce", "key")
        )
        secret = AESGCM(_stretch(passphrase, salt)).decrypt(nonce, sealed, KEY_FORMAT.encode())
    except InvalidTag:
        what = "the passphrase is wrong, or the file is damaged; try again, or use a copy"
        raise LadyError(f"{path}: {what}") from None
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise LadyError(f"{path}: is a damaged key file; use a copy of it") from None
    return Key(secret)


def _read_fields(path: Path) -> dict[str, Any]:
    """Read the fields of a key file.

    Raises:
        MissingFileError: there is no such file.
        LadyError: it is no key file.
    """
    if not path.is_file():
        what = "no such file; `lady-onnx watermark key` creates one"
        raise MissingFileError(f"{path}: {what}")
    refusal = LadyError(f"{path}: is not a key file; `lady-onnx watermark key` creates one")
    if path.stat().st_size > MAX_KEY_FILE_BYTES:
        raise refusal
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise refusal from None
    if not isinstance(fields, dict) or fields.get("format") != KEY_FORMAT:
        raise refusal
    return fields


def _stretch(passphrase: str, salt: bytes) -> bytes:
    """Turn a passphrase into 32 bytes, slowly (Scrypt)."""
    scrypt = Scrypt(salt, KEY_BYTES, SCRYPT_COST, SCRYPT_BLOCK, SCRYPT_LANES)
    return scrypt.derive(passphrase.encode("utf-8", "surrogateescape"))
