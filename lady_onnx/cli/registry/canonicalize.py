"""`lady-onnx canonicalize`: the one file that all shuffled copies of a model have in common."""

from __future__ import annotations

import argparse

import lady_onnx as lady

from ..permute import add_common_arguments, write_permuted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_common_arguments(parser)


def run_command(args: argparse.Namespace) -> int:
    """Put the units of a model in canonical order and write it."""
    return write_permuted(args, "ordering", lady.canonicalize)
