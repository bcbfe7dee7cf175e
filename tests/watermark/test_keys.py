"""Keys: their files, what is derived from them, and that nobody sees them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from lady_onnx.errors import LadyError, MissingFileError, OutputError
from lady_onnx.watermark.secrets import keys
from lady_onnx.watermark.secrets.keys import Key, create_key, read_key, write_key

PASSPHRASE = "correct horse"


@pytest.fixture(autouse=True)
def _quick_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "SCRYPT_COST", 1 << 8)


def test_a_key_file_gives_the_key_back(tmp_path: Path) -> None:
    key, path = create_key(), tmp_path / "owner.key"
    write_key(key, path, PASSPHRASE)
    assert read_key(path, PASSPHRASE) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key.secret.hex() not in path.read_text()


def test_two_keys_differ() -> None:
    assert create_key() != create_key()


def test_a_wrong_passphrase_is_told(tmp_path: Path) -> None:
    write_key(create_key(), tmp_path / "owner.key", PASSPHRASE)
    with pytest.raises(LadyError, match="the passphrase is wrong"):
        read_key(tmp_path / "owner.key", PASSPHRASE + "!")


def test_a_key_is_not_overwritten(tmp_path: Path) -> None:
    write_key(create_key(), tmp_path / "owner.key", PASSPHRASE)
    with pytest.raises(OutputError, match="exists, and a key that is overwritten is lost"):
        write_key(create_key(), tmp_path / "owner.key", PASSPHRASE)


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LadyError, match="at least 8 characters"):
        write_key(create_key(), tmp_path / "owner.key", "short")
    assert not (tmp_path / "owner.key").exists()


@pytest.mark.parametrize("damage", ["salt", "nonce", "key"])
@pytest.mark.parametrize("value", [None, 7, "", "????", "AAAA"])
def test_a_damaged_key_file_is_told(tmp_path: Path, damage: str, value: object) -> None:
    path = tmp_path / "owner.key"
    write_key(create_key(), path, PASSPHRASE)
    path.write_text(json.dumps({**json.loads(path.read_text()), damage: value}))
    with pytest.raises(LadyError, match="damaged"):
        read_key(path, PASSPHRASE)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe", b"{" * 5000, bytes(1 << 17)])
def test_what_is_no_key_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "owner.key").write_bytes(content)
    with pytest.raises(LadyError, match="is not a key file"):
        read_key(tmp_path / "owner.key", PASSPHRASE)


def test_a_missing_key_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file"):
        read_key(tmp_path / "owner.key", PASSPHRASE)


def test_a_key_shows_nothing_of_itself() -> None:
    key = Key(os.urandom(32))
    assert key.secret.hex() not in repr(key)
    assert str(key.secret) not in f"{key} {vars(Key)}"


def test_what_is_derived_depends_on_every_text() -> None:
    key = Key(bytes(32))
    texts = [("a", "b"), ("ab",), ("a", "b", ""), ("", "ab"), ("b", "a")]
    assert len({key.derive(*t).secret for t in texts}) == len(texts)
    assert key.derive("a") == key.derive("a")
    assert key.derive("a") != Key(bytes(31) + b"a").derive("a")


def test_what_is_drawn_stays_the_same() -> None:
    """Marks of today are read in ten years: these values may never change."""
    key = Key(bytes(range(32)))
    assert key.draw_bytes(8).hex() == "f29000b62a499fd0"
    assert key.derive("a", "b").draw_bytes(8).hex() == "8d3f64ff1e2e1ffb"
    assert key.draw_order(5).tolist() == [3, 1, 4, 0, 2]
    assert key.sign(b"x", 8).hex() == "b3fb46c7f2e3cc97"
    assert key.draw_integers(1).tolist() == [int.from_bytes(key.draw_bytes(8), "little")]


def test_what_is_drawn_is_even() -> None:
    key = Key(bytes(32))
    signs, normals = key.draw_signs(100_001), key.draw_normals(100_001)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.02
    assert len(signs) == len(normals) == 100_001
    assert abs(normals.mean()) < 0.02
    assert abs(normals.std() - 1) < 0.02
    assert abs((np.abs(normals) < 1).mean() - 0.6827) < 0.01
    assert sorted(key.draw_order(1000).tolist()) == list(range(1000))


def test_a_pad_is_taken_off_by_itself() -> None:
    key = Key(bytes(32))
    assert key.pad(key.pad(b"secret")) == b"secret"
    assert key.pad(b"secret") != b"secret"


def test_the_first_of_an_order_are_those_of_the_whole() -> None:
    key = Key(bytes(32))
    for count, first in ((1, 0), (1, 1), (100, 7), (1000, 999), (5, 9)):
        whole = key.draw_order(count)
        assert np.array_equal(np.sort(whole), np.arange(count))
        assert np.array_equal(key.draw_order(count, first), whole[:first])
