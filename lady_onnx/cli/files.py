"""The files of a call: where results go, and what models are read from.

Models are ONNX files, or checkpoints with the graph that they are weights of.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import OutputError, UsageError, to_one_line
from ..graph.formats import is_mlflow_address
from ..graph.loading import load_graph
from ..graph.model import Graph

if TYPE_CHECKING:
    from ..checkpoints.architecture import Architecture
    from ..checkpoints.files import Checkpoint


def claim_destination(path: Path, taken: set[Path]) -> Path:
    """Check that a result can be written to a path, and take the path for it.

    Args:
        path: the file to write.
        taken: the files of the inputs and of other results; the new one is added.

    Returns:
        The path.

    Raises:
        OutputError: it would overwrite one of `taken`, or cannot be written.
    """
    if is_mlflow_address(str(path)):
        raise OutputError(f"{path}: an address of MLflow; give a file, and log it from there")
    if path.name in ("", ".."):
        raise OutputError(f"{path}: is a folder; give the name of a file")
    try:
        # A model with external data is written to two files (`Graph.save`).
        places = {path.resolve(), path.with_name(f"{path.name}.data").resolve()}
    except (OSError, RuntimeError, ValueError) as error:
        raise OutputError(f"{path}: {to_one_line(error)}; choose another name") from error
    if places & taken:
        what = "would overwrite an input or another result; choose another name"
        raise OutputError(f"{path}: {what}")
    taken |= places
    folder = path.parent
    if not folder.is_dir():
        why = "is not a folder" if folder.exists() else "does not exist"
        what = f"cannot write there: '{folder}' {why}; choose another folder"
        raise OutputError(f"{path}: {what}")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give the name of a file")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: cannot write there: no permission; choose another folder")
    return path


class Saveable(Protocol):
    """A result that has a model."""

    @property
    def graph(self) -> Graph:
        """The model."""

    def save(self, path: Path) -> None:
        """Write the model, whole or not at all."""


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what turns checkpoints into models."""
    parser.add_argument(
        "--graph", metavar="G.onnx", help="models are checkpoints; this is an export of --like"
    )
    parser.add_argument("--like", metavar="L", help="the checkpoint that --graph is an export of")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="PATTERN",
        help="tensors that may differ although no weight is made of them; may be repeated",
    )


class Models:
    """Loads the models of a call, and writes results in the format that they came in.

    Args:
        args: the arguments of the call.

    Raises:
        LadyError: a file cannot be read, or the graph is no export of the checkpoint.
        UsageError: `--graph` or `--like` lacks.

    Attributes:
        files: by role the files that the models are read with besides their own.
    """

    def __init__(self, args: argparse.Namespace):
        if (args.graph is None) != (args.like is None):
            what = "--graph and --like belong together: an export, and the checkpoint it is of"
            raise UsageError(f"{args.command}: {what}")
        if args.ignore and args.graph is None:
            raise UsageError(
                f"{args.command}: --ignore is for checkpoints; give --graph and --like"
            )
        self._architecture: Architecture | None = None
        self._checkpoints: dict[Path, Checkpoint] = {}
        self.files: dict[str, list[Path]] = {}
        if args.graph is not None:
            from ..checkpoints.architecture import Architecture

            found = self._architecture = Architecture(args.graph, args.like, args.ignore)
            self.files = {"graph": sorted(found.graph.files), "like": sorted(found.like.files)}

    def load(self, path: str, states: Sequence[str] = ()) -> Graph:
        """Load a model; see `load_graph` and `Architecture.load`."""
        if self._architecture is None:
            return load_graph(path, states)
        bound = self._architecture.load(path)
        self._checkpoints[Path(path)] = bound.checkpoint
        return load_graph(bound.graph, states) if states else bound.graph

    @property
    def left_out(self) -> list[str]:
        """The tensors of checkpoints of which no verdict says anything."""
        return [] if self._architecture is None else self._architecture.left_out

    def list_files(self, *graphs: Graph) -> set[Path]:
        """List the files of the call's inputs, which no result may overwrite."""
        besides = {path.resolve() for paths in self.files.values() for path in paths}
        return besides.union(*(g.files for g in graphs))

    def save(self, result: Saveable, source: str, out: Path) -> None:
        """Write a result in the format of the model that it was made of.

        Args:
            result: the result.
            source: the path of that model.
            out: the file to write.
        """
        if self._architecture is None:
            result.save(out)
        else:
            taken = self.list_files().union(*(c.files for c in self._checkpoints.values()))
            self._architecture.save(result.graph, self._checkpoints[Path(source)], out, taken)

    def name_result(self, source: str, note: str) -> Path:
        """Return the default path of a result: that of its source, with a note before its end."""
        from ..checkpoints.files import CHECKPOINT_ENDS

        if is_mlflow_address(source):
            raise UsageError(f"{source}: a result needs a file; name it with -o")
        path = Path(source)
        if self._architecture is None:
            return path.with_name(f"{path.stem}.{note}.onnx")
        ends = (e for e in sorted(CHECKPOINT_ENDS, key=len, reverse=True) if path.name.endswith(e))
        end = next(ends, path.suffix)
        return path.with_name(f"{path.name[: len(path.name) - len(end)]}.{note}{end}")
