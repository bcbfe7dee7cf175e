"""Models written to files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import IO

import numpy as np
from onnx import ModelProto, TensorProto

from ..errors import LadyError, OutputError
from ..rules.vocabulary.types import PACKED_TYPES
from .external import is_external
from .nodes import list_bodies, list_nodes
from .weights import clear_values, encode_values, is_large, list_weights, write_values
from .wire import join_large_weights

PAGE_BYTES = 4096
"""Weights begin at multiples of this, so that they can be mapped into memory."""
DETACHED = "detached"
"""Where the weights of a model lie that somebody else holds: in no file."""
PROTOBUF_LIMIT = 2**31 - 1
"""The number of bytes of a message that protobuf writes at most."""


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears at `path` complete, or never.

    What is written goes to a temporary file beside it, which is flushed to the disk and renamed.

    Raises:
        OutputError: the folder or the disk does not take the file.
    """
    try:
        handle = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)
    except OSError as error:
        what = f"cannot write there: {error.strerror}"
        raise OutputError(f"{path}: {what}; choose another folder") from error
    try:
        with handle as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # Temporary files are private; this one gets the permissions of any new file. The mask can
        # only be read by setting it.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(handle.name, 0o666 & ~umask)
        os.replace(handle.name, path)
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise OutputError(f"{path}: {what}; free some space or choose another folder") from error
    finally:
        Path(handle.name).unlink(missing_ok=True)


def detach_weights(
    model: ModelProto, written: Set[str], read: Callable[[str], np.ndarray]
) -> dict[str, np.ndarray]:
    """Take the large weights out of a model, and write all others into it.

    Args:
        model: the model, which is changed: what is taken out is said to lie in external data.
        written: the weights whose values are not in `model`.
        read: returns the values of a weight by its name, as a file has them.

    Returns:
        The weights that were taken out, by name. One that no node of the main graph reads stays,
        and so does one of whose name a body has a weight: a session would give the body the wrong
        one.
    """
    read_names = {name for node in model.graph.node for name in node.input}
    bodies = [body for node in list_nodes(model) for _, body in list_bodies(node)]
    inner = {t.name for body in bodies for t in body.initializer}
    large = {t.name for t in model.graph.initializer if is_large(t)} & read_names - inner
    detached: dict[str, np.ndarray] = {}
    for name, tensor, holder in list(list_weights(model)):
        if name in large and tensor.data_type not in PACKED_TYPES:
            detached[name] = np.ascontiguousarray(read(name))
            clear_values(tensor)
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=DETACHED)
        elif name in written or is_external(tensor):
            write_values(tensor, holder, read(name))
    return detached


def write_model(
    model: ModelProto,
    path: Path,
    written: Set[str],
    read: Callable[[str], np.ndarray],
    taken: Set[Path],
) -> None:
    """Write a model to a file, and its external data to `<file name>.data` beside it.

    Args:
        model: the model, which is changed on the way.
        path: the file.
        written: the weights whose values are not in `model`.
        read: returns the values of a weight by its name, as a file has them.
        taken: the files of the input's external data, which are not replaced.

    Raises:
        OutputError: the file would replace one of `taken`, or cannot be written.
        LadyError: the model is too large for a single file.
    """
    weights = list(list_weights(model))
    external = [(name, tensor) for name, tensor, _ in weights if is_external(tensor)]
    # Large weights are written as they are, and never copied into a message.
    large = {t.name for t in model.graph.initializer if is_large(t)}
    streamed: dict[str, np.ndarray] = {}
    for name, tensor, holder in weights:
        if name not in written or is_external(tensor):
            continue
        if name in large:
            clear_values(tensor)
            streamed[name] = encode_values(tensor, read(name))
        else:
            write_values(tensor, holder, read(name))
    data = path.with_name(path.name + ".data")
    for place in (path, data) if external else (path,):
        if place.resolve() in taken:
            what = f"'{place.name}' is the input's external data; choose another name"
            raise OutputError(f"{path}: {what}")
    with contextlib.ExitStack() as stack:
        # Entered first, it is renamed last: a model never appears before its data.
        file = stack.enter_context(open_atomically(path))
        if external:
            _write_data(stack.enter_context(open_atomically(data)), data.name, external, read)
        if model.ByteSize() + sum(raw.size for raw in streamed.values()) > PROTOBUF_LIMIT:
            what = "over 2 GB without external data; save the input with external data first"
            raise LadyError(f"{path}: {what}")
        for piece in join_large_weights(model.SerializeToString(), streamed):
            file.write(piece)


def _write_data(
    file: IO[bytes],
    location: str,
    weights: Sequence[tuple[str, TensorProto]],
    read: Callable[[str], np.ndarray],
) -> None:
    """Write weights to a file of external data, and where they lie there into their tensors.

    Args:
        file: the open file.
        location: its name, as the model gives it.
        weights: the weights by name, with their tensors in the model that will be written.
        read: returns the values of a weight by its name.
    """
    for name, tensor in weights:
        file.write(b"\0" * (-file.tell() % PAGE_BYTES))
        start = file.tell()
        file.write(encode_values(tensor, read(name)).data)
        del tensor.external_data[:]
        places = (("location", location), ("offset", start), ("length", file.tell() - start))
        for key, value in places:
            tensor.external_data.add(key=key, value=str(value))
