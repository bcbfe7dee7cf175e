"""Models written to files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import glob
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import IO, Any

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from ..errors import LadyError, OutputError
from ..storage import CAN_SHARE_FILES, get_laid_file, lay_arrays
from ..vocabulary.types import PACKED_TYPES
from .external import count_bytes, is_external
from .nodes import list_bodies, list_nodes
from .weights import clear_values, encode_values, is_large, list_weights, write_values
from .wire import join_large_weights, split_large_weights

try:
    import fcntl
except ImportError:  # there are no such locks on Windows
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

PAGE_BYTES = 4096
"""Weights begin at multiples of this, so that they can be mapped into memory."""
TEMPORARY = ".partial"
"""How the names of files end that are being written."""
DETACHED = "detached"
"""Where the weights of a model lie that somebody else holds: in no file."""
PROTOBUF_LIMIT = 2**31 - 1
"""The number of bytes of a message that protobuf writes at most."""


@contextlib.contextmanager
def open_atomically(path: Path, begun: Any = None) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears at `path` complete, or never.

    What is written goes to a temporary file beside it, which is flushed to the disk and renamed.
    What a process left there that was killed is removed.

    Args:
        path: the file.
        begun: that temporary file, if it is there already; see `lay_data`.

    Raises:
        OutputError: the folder or the disk does not take the file.
    """
    try:
        _remove_leftovers(path)
        handle = begun or _open_temporary(path)
    except OSError as error:
        what = f"cannot write there: {error.strerror}"
        raise OutputError(f"{path}: {what}; choose another folder") from error
    try:
        with handle as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            # Temporary files are private; this one gets the permissions of any new file. The mask
            # can only be read by setting it.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(handle.name, 0o666 & ~umask)
            if HAS_LOCKS:
                # It is renamed while it is locked: nobody takes it for a leftover.
                os.replace(handle.name, path)
        if not HAS_LOCKS:
            os.replace(handle.name, path)
        _flush_folder(path.parent)
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise OutputError(f"{path}: {what}; free some space or choose another folder") from error
    finally:
        Path(handle.name).unlink(missing_ok=True)


def _open_temporary(path: Path) -> Any:
    """Open a temporary file for what will be `path`, locked as long as it is open."""
    while True:
        handle = tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY, delete=False
        )
        try:
            # Another process may have taken it for a leftover before it was locked.
            if _lock(handle.fileno()) and os.path.exists(handle.name):
                return handle
        except OSError:
            # a file system without locks: there nothing is taken for a leftover
            return handle
        handle.close()


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote to `path`.

    Such a file is locked by nobody.
    """
    if not HAS_LOCKS:
        return
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY}"):
        with contextlib.suppress(OSError), leftover.open("rb") as file:
            if _lock(file.fileno()):
                leftover.unlink()


def _lock(descriptor: int) -> bool:
    """Lock an open file for this process; tell whether no other one has locked it.

    Raises:
        OSError: the file system has no locks.
    """
    if HAS_LOCKS:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _flush_folder(folder: Path) -> None:
    """Have the disk keep the names in a folder, as far as the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
    check: Callable[[], None],
) -> None:
    """Write a model to a file, and its external data to `<file name>.data` beside it.

    Where a model lies there already that has its data in that file, the new data go to
    `<file name>.1.data`: the old model keeps its own until the new one is in its place.

    Args:
        model: the model, which is changed on the way.
        path: the file.
        written: the weights whose values are not in `model`.
        read: returns the values of a weight by its name, as a file has them.
        taken: the files of the input's external data, which are not replaced.
        check: raises an error if what was read changed meanwhile; called before the file appears.

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
    with contextlib.ExitStack() as stack:
        if external:
            # A second process with this output must not put its data beside our model.
            stack.enter_context(lock_folder(path.parent))
        data, old = _choose_data_file(path) if external else (path, None)
        for place in filter(None, (path, data, old)):
            if place.resolve() in taken:
                what = f"'{place.name}' is the input's external data; choose another name"
                raise OutputError(f"{path}: {what}")
        if old is not None:
            # Called last but for the lock, when the model is in its place.
            stack.push(functools.partial(_remove_data, old))
        # Entered first, it is renamed last: a model never appears before its data.
        file = stack.enter_context(open_atomically(path))
        if external:
            _write_data(stack, data, external, read)
        if model.ByteSize() + sum(raw.size for raw in streamed.values()) > PROTOBUF_LIMIT:
            what = "over 2 GB without external data; save the input with external data first"
            raise LadyError(f"{path}: {what}")
        for piece in join_large_weights(model.SerializeToString(), streamed):
            file.write(piece)
        check()


def _remove_data(file: Path, kind: type[BaseException] | None, *error: object) -> None:
    """Remove the data of a model that was replaced, if it was."""
    if kind is None:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Wait until no other process of ours writes models with data of their own to a folder."""
    if not HAS_LOCKS:
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        # it does not exist, and whoever opens a file there says so
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _choose_data_file(path: Path) -> tuple[Path, Path | None]:
    """Choose a file for external data that the model which lies at `path` does not read.

    Returns:
        The file, and the one that the present model reads if it has our name, else None.
    """
    files = [path.with_name(f"{path.name}{end}") for end in (".data", ".1.data")]
    used: set[str] = set()
    # an empty file cannot be mapped, and holds no model
    with contextlib.suppress(OSError, ValueError, DecodeError), path.open("rb") as present:
        with mmap.mmap(present.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            rest = split_large_weights(mapped)[0]
            model = ModelProto.FromString(rest)
        used = {e.value for _, t, _ in list_weights(model) for e in t.external_data}
    old = next((f for f in files if f.name in used), None)
    return next(f for f in files if f != old), old


@contextlib.contextmanager
def lay_data(path: Path) -> Iterator[None]:
    """Let moved weights be laid at once in the external data of a model that is to be written.

    Args:
        path: the model's file.
    """
    if not CAN_SHARE_FILES:
        yield
        return
    with lay_arrays(lambda: _open_temporary(path.with_name(f"{path.name}.data"))):
        yield


def place_data(
    weights: Mapping[str, TensorProto], read: Callable[[str], np.ndarray]
) -> tuple[dict[str, tuple[int, np.ndarray]], int]:
    """Return where weights lie in external data, and what size these have.

    Args:
        weights: the weights by name, in their order.
        read: returns the values of a weight by its name.

    Returns:
        By name where it begins, and its values; and the size of all.
    """
    places, end = {}, 0
    for name, tensor in weights.items():
        start = end + -end % PAGE_BYTES
        places[name] = start, read(name)
        end = start + count_bytes(tensor)
    return places, end


def _write_data(
    stack: contextlib.ExitStack,
    path: Path,
    weights: Sequence[tuple[str, TensorProto]],
    read: Callable[[str], np.ndarray],
) -> None:
    """Write weights to a file of external data, and where they lie there into their tensors.

    Args:
        stack: has the file appear when it ends; see `open_atomically`.
        path: the file.
        weights: the weights by name, with their tensors in the model that will be written.
        read: returns the values of a weight by its name.
    """
    given = get_laid_file()
    begun, laid = given.take(*place_data(dict(weights), read)) if given else (None, ())
    file = stack.enter_context(open_atomically(path, begun))
    for name, tensor in weights:
        file.write(b"\0" * (-file.tell() % PAGE_BYTES))
        start = file.tell()
        if name in laid:
            file.seek(count_bytes(tensor), os.SEEK_CUR)
        else:
            file.write(encode_values(tensor, read(name)).data)
        del tensor.external_data[:]
        places = (("location", path.name), ("offset", start), ("length", file.tell() - start))
        for key, value in places:
            tensor.external_data.add(key=key, value=str(value))
