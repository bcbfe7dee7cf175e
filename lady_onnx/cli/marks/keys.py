"""The owner's key on the command line: its options, its passphrase, and reading it."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

from ...errors import LadyError, MissingFileError, UsageError
from ...watermark.secrets.keys import Key, read_key

PASSPHRASE_VARIABLE = "LADY_ONNX_PASSPHRASE"
"""The environment variable with the passphrase of the key file."""


def add_key_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the owner's key and its passphrase."""
    parser.add_argument("--key", metavar="KEY", required=True, help="the owner's key file")
    add_passphrase_argument(parser)


def add_passphrase_argument(parser: argparse.ArgumentParser) -> None:
    """Declare where the passphrase of a key file is."""
    parser.add_argument(
        "--passphrase-file",
        metavar="FILE",
        help=f"a file whose first line is the passphrase of the key; else {PASSPHRASE_VARIABLE} "
        "has it, or it is asked for",
    )


def load_key(args: argparse.Namespace) -> Key:
    """Read the key file that the call gives."""
    path = Path(args.key)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; `lady-onnx watermark key` creates one")
    return read_key(path, read_passphrase(args, is_new=False))


def read_passphrase(args: argparse.Namespace, is_new: bool) -> str:
    """Return the passphrase of a key file: from a file, the environment, or the terminal.

    Raises:
        LadyError: there is none, or two that were typed are not the same.
    """
    if args.passphrase_file is not None:
        path = Path(args.passphrase_file)
        try:
            return path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except FileNotFoundError:
            raise MissingFileError(
                f"{path}: no such file; its first line is the passphrase"
            ) from None
        except (OSError, ValueError) as error:
            what = " ".join(str(error).split())
            raise LadyError(f"{path}: cannot be read as text ({what}); write it anew") from None
    if PASSPHRASE_VARIABLE in os.environ:
        return os.environ[PASSPHRASE_VARIABLE]
    if not sys.stdin.isatty():
        what = f"give --passphrase-file, or {PASSPHRASE_VARIABLE} in the environment"
        raise UsageError(f"the key has a passphrase; {what}")
    passphrase = getpass.getpass("passphrase: ")
    if is_new and getpass.getpass("once more: ") != passphrase:
        raise UsageError("the passphrases differ; try again")
    return passphrase
