"""Keras files: arrays, and what else Keras makes a model of.

A whole model has its layers in a configuration, and a file of the older kind says in attributes
which array is which. An ONNX graph says nothing of either.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import LadyError, UsageError

KERAS_ENDS = (".keras", ".h5", ".hdf5")
"""How the names of Keras' files end: an archive, and HDF5 files."""
KERAS_WEIGHTS, KERAS_CONFIG, KERAS_METADATA = "model.weights.h5", "config.json", "metadata.json"
"""The files of an archive: the weights, the layers, and when and by what it was written."""
NEUTRAL_ATTRIBUTES = frozenset({"backend", "keras_version", "name", "training_config"})
"""What these say does not change what a model computes."""
NEUTRAL_SETTINGS = frozenset({"compile_config"})
"""Nor do these parts of a configuration: how the model is trained."""
OBJECT_NUMBER = "shared_object_id"
"""Objects that are used several times have one number in a file, which is another in each."""


def import_extra(module: str, extra: str) -> Any:
    """Import a package that an extra brings."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = f"needs {module.split('.')[0]}; pip install 'lady-onnx[{extra}]'"
        raise UsageError(f"such a checkpoint {what}") from error


def read_keras(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a Keras file.

    Returns:
        All arrays of numbers by their paths in the file; and by place what else Keras makes a model
        of.

    Raises:
        UsageError: h5py is not installed.
        LadyError: an array does not lie in the file.
    """
    whole = path.read_bytes()
    frame = {}
    with _open_hdf5(_find_hdf5(whole, path), "r") as file:
        tensors = {name: np.asarray(array[()]) for name, array in _list_arrays(file, path)}
        for name, item in _list_items(file):
            for key, value in item.attrs.items():
                if key not in NEUTRAL_ATTRIBUTES:
                    text = np.asarray(value).tolist()
                    frame[f"attribute '{key}' of '{name}'"] = _tidy_config(text)
            if name not in tensors and hasattr(item, "dtype"):
                frame[f"'{name}'"] = repr(np.asarray(item[()]).tolist())
        frame |= {f"link '{name}'": target for name, target in _list_links(file)}
    if path.name.lower().endswith(KERAS_ENDS[0]):
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            for member in archive.namelist():
                if member not in (KERAS_WEIGHTS, KERAS_METADATA):
                    raw = archive.read(member)
                    is_config = member == KERAS_CONFIG
                    digest = hashlib.sha256(raw).hexdigest()
                    frame[f"'{member}'"] = _tidy_config(raw) if is_config else digest
    return tensors, frame


def change_keras(path: Path, tensors: Mapping[str, np.ndarray]) -> bytes:
    """Return a Keras file with other arrays; all else in it stays, byte for byte."""
    whole = path.read_bytes()
    raw = io.BytesIO(_find_hdf5(whole, path))
    with _open_hdf5(raw, "r+") as file:
        for name, array in _list_arrays(file, path):
            if array.size:
                array[...] = tensors[name]
    if not path.name.lower().endswith(KERAS_ENDS[0]):
        return raw.getvalue()
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(made, "w") as new:
        for member in old.infolist():
            is_changed = member.filename == KERAS_WEIGHTS
            new.writestr(member, raw.getvalue() if is_changed else old.read(member))
    return made.getvalue()


def _find_hdf5(whole: bytes, path: Path) -> bytes:
    """Return the HDF5 file of a Keras file: its member, or all of it."""
    if not path.name.lower().endswith(KERAS_ENDS[0]):
        return whole
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return archive.read(KERAS_WEIGHTS)


def _open_hdf5(raw: bytes | io.BytesIO, mode: str) -> Any:
    file = io.BytesIO(raw) if isinstance(raw, bytes) else raw
    return import_extra("h5py", "checkpoints").File(file, mode)


def _list_arrays(file: Any, path: Path) -> list[tuple[str, Any]]:
    """List the arrays of an HDF5 file with their paths in it; links to other files lead nowhere."""
    h5py = import_extra("h5py", "checkpoints")
    found: list[tuple[str, Any]] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf":
            # what has no storage here lies in other files, or nowhere
            if item.external or (item.size and not item.id.get_storage_size()):
                raise LadyError(f"{path}: '{name}' does not lie in the file; save the model again")
            found.append((name, item))

    file.visititems(note)
    return found


def _list_items(file: Any) -> list[tuple[str, Any]]:
    """List all groups and arrays of an HDF5 file, the file itself as '/'."""
    found: list[tuple[str, Any]] = [("/", file)]
    file.visititems(lambda name, item: found.append((name, item)))
    return found


def _list_links(file: Any) -> list[tuple[str, str]]:
    """List the links of an HDF5 file that lead to other places, which `visititems` leaves out."""
    h5py = import_extra("h5py", "checkpoints")
    found = []
    for name, item in _list_items(file):
        if isinstance(item, h5py.Group):
            for key in item:
                link = item.get(key, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    found.append((f"{name.rstrip('/')}/{key}", f"{vars(link)}"))
    return found


def _tidy_config(text: Any) -> str:
    """Return a configuration without what does not change what a model computes."""
    numbers: dict[Any, int] = {}

    def tidy(value: Any) -> Any:
        if isinstance(value, list):
            return [tidy(v) for v in value]
        if not isinstance(value, dict):
            return value
        return {
            k: numbers.setdefault(v, len(numbers)) if k == OBJECT_NUMBER else tidy(v)
            for k, v in value.items()
            if k not in NEUTRAL_SETTINGS
        }

    try:
        return json.dumps(tidy(json.loads(text)), sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        # no configuration: whatever it is, it has to be equal
        return repr(text)
