"""Checkpoint files: tensors by name, read without running anything that a file holds."""

from __future__ import annotations

import itertools
import json
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ..errors import LadyError, OutputError, to_one_line
from ..graph.files import lock_folder, open_atomically
from ..numerics import is_float_array
from .keras import KERAS_ENDS, change_keras, import_extra, read_keras

INDEX_END = ".safetensors.index.json"
"""How the name of the index of a checkpoint in several files ends."""
TORCH_ENDS = (".pt", ".pth", ".bin", ".ckpt")
"""How the names of PyTorch's files end."""
CHECKPOINT_ENDS = (".safetensors", INDEX_END, ".npz", *TORCH_ENDS, *KERAS_ENDS)
"""How the names of checkpoints end."""


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint.

    Attributes:
        path: its file, or the index of several.
        tensors: the tensors by name, in the order of the file.
        shards: by tensor the name of the file that holds it; empty where there is one.
        metadata: what the file says besides, of each shard.
        frame: by place in the file what else decides of which network the tensors are, and what of
            it each is. Keras' files alone have any.
    """

    path: Path
    tensors: Mapping[str, np.ndarray]
    shards: Mapping[str, str]
    metadata: Mapping[str, Mapping[str, str]]
    frame: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> set[Path]:
        """The files that it lies in."""
        return {self.path.resolve()} | {
            (self.path.parent / shard).resolve() for shard in self.shards.values()
        }


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the tensors of a checkpoint.

    It is a safetensors file, the index of several, or a file of NumPy, PyTorch or Keras. PyTorch's
    are read as weights only, and of Keras' the arrays alone: nothing in them is run.

    Raises:
        LadyError: the file is missing or is no checkpoint.
    """
    name = path.name.lower()
    if not path.is_file():
        raise LadyError(f"{path}: no such file; give the path of a checkpoint")
    try:
        if name.endswith(INDEX_END):
            return _read_shards(path)
        if name.endswith(".safetensors"):
            tensors, metadata = _read_safetensors(path)
            return Checkpoint(path, tensors, {}, {path.name: metadata})
        if name.endswith(".npz"):
            with np.load(path, allow_pickle=False) as arrays:
                return _check_numbers(Checkpoint(path, dict(arrays), {}, {}))
        if name.endswith(TORCH_ENDS):
            return _check_numbers(Checkpoint(path, _read_torch(path), {}, {}))
        if name.endswith(KERAS_ENDS):
            tensors, frame = read_keras(path)
            return _check_numbers(Checkpoint(path, tensors, {}, {}, frame))
    except LadyError:
        raise
    except Exception as error:
        # each package has errors of its own for broken files
        raise LadyError(f"{path}: no checkpoint that can be read: {to_one_line(error)}") from error
    ends = ", ".join(CHECKPOINT_ENDS)
    raise LadyError(f"{path}: no checkpoint; with --graph, give both models as one of {ends}")


def _check_numbers(checkpoint: Checkpoint) -> Checkpoint:
    """Raise LadyError unless all tensors are of numbers, and have names."""
    for name, array in checkpoint.tensors.items():
        is_array = isinstance(name, str) and isinstance(array, np.ndarray)
        if not is_array or not (array.dtype.kind in "biufc" or is_float_array(array)):
            raise LadyError(f"{checkpoint.path}: '{name}' is no tensor of numbers")
    return checkpoint


def write_checkpoint(
    like: Checkpoint,
    tensors: Mapping[str, np.ndarray],
    path: Path,
    taken: Collection[Path] = frozenset(),
) -> None:
    """Write tensors in the format of another checkpoint, each file whole or not at all.

    Args:
        like: the checkpoint whose format, shards and metadata the file has.
        tensors: the tensors, by the names of that checkpoint.
        path: the file to write.
        taken: files that may not be overwritten.

    Raises:
        OutputError: it cannot be written, its name does not end as that of the other one, or one of
            its parts would overwrite a file.
    """
    end = next(e for e in CHECKPOINT_ENDS[::-1] if like.path.name.lower().endswith(e))
    if like.path.name.lower().endswith(INDEX_END):
        end = INDEX_END
    if not path.name.lower().endswith(end):
        raise OutputError(f"{path}: {like.path.name} ends with {end}; give such a name")
    if end == INDEX_END:
        _write_shards(like, tensors, path, taken)
    elif end == ".safetensors":
        _write_safetensors(tensors, like.metadata[like.path.name], path)
    elif end == ".npz":
        # `np.savez` takes some names of tensors for its own arguments
        with open_atomically(path) as file, zipfile.ZipFile(file, "w") as archive:
            for name, array in tensors.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    elif end in KERAS_ENDS:
        raw = change_keras(like.path, tensors)
        with open_atomically(path) as file:
            file.write(raw)
    else:
        torch = import_extra("torch", "torch")
        with open_atomically(path) as file:
            torch.save({n: _to_torch(torch, a) for n, a in tensors.items()}, file)


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    safetensors = import_extra("safetensors", "checkpoints")
    with safetensors.safe_open(path, "np") as file:
        names = file.keys()
        return {n: file.get_tensor(n) for n in names}, dict(file.metadata() or {})


def _read_shards(path: Path) -> Checkpoint:
    shards = json.loads(path.read_text())["weight_map"]
    found: dict[str, dict[str, np.ndarray]] = {}
    metadata = {}
    for shard in dict.fromkeys(shards.values()):
        # names of a stranger's file: none may lead elsewhere
        if Path(shard).name != shard or not (path.parent / shard).is_file():
            raise LadyError(f"{path}: its part '{shard}' is not beside it")
        found[shard], metadata[shard] = _read_safetensors(path.parent / shard)
    for shard, tensors in found.items():
        # who loads a part takes all that is in it
        apart = {n for n, s in shards.items() if s == shard} ^ tensors.keys()
        if apart:
            raise LadyError(f"{path}: it and its part '{shard}' differ in tensor '{min(apart)}'")
    return Checkpoint(path, {n: found[s][n] for n, s in shards.items()}, shards, metadata)


def _write_safetensors(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], path: Path
) -> None:
    numpy = import_extra("safetensors.numpy", "checkpoints")
    # `ascontiguousarray` would give single numbers an axis
    plain = {n: np.array(a, order="C") for n, a in tensors.items()}
    raw = numpy.save(plain, dict(metadata) or None)
    # the package writes metadata in an order by chance
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    if len(metadata) > 1:
        header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open_atomically(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(memoryview(raw)[8 + length :])


def _write_shards(
    like: Checkpoint, tensors: Mapping[str, np.ndarray], path: Path, taken: Collection[Path]
) -> None:
    """Write parts that the index at `path` does not name yet, then the index, as its last step.

    So there is a whole checkpoint at any moment: the old one or the new one.
    """
    with lock_folder(path.parent):
        names, old = _choose_part_names(path, list(dict.fromkeys(like.shards.values())))
        for part in (path, *(path.parent / n for n in sorted({*names.values(), *old}))):
            if part.resolve() in taken or part.is_dir():
                what = "would overwrite an input or a folder; choose another name"
                raise OutputError(f"{part}: {what}")
        index = json.loads(like.path.read_text())
        index["weight_map"] = {n: names[s] for n, s in like.shards.items()}
        for shard, name in names.items():
            own = {n: a for n, a in tensors.items() if like.shards[n] == shard}
            _write_safetensors(own, like.metadata[shard], path.parent / name)
        with open_atomically(path) as file:
            file.write(json.dumps(index, indent=2).encode())
        for name in old:
            (path.parent / name).unlink(missing_ok=True)


def _choose_part_names(path: Path, shards: Sequence[str]) -> tuple[dict[str, str], set[str]]:
    """Choose names of parts that no index in the folder names.

    Returns:
        The name of each shard's part; and the parts that nobody needs once the index at `path` is
        replaced.
    """
    stem, known, others = path.name[: -len(INDEX_END)], _list_parts(path), set[str]()
    for index in path.parent.glob(f"*{INDEX_END}"):
        others |= _list_parts(index) if index != path else set()
    form = re.compile(rf"{re.escape(stem)}(\.parts\d+)?-\d{{5}}-of-\d{{5}}\.safetensors")
    old = {name for name in known - others if form.fullmatch(name)}
    end = f"-of-{len(shards):05}.safetensors"
    for begin in itertools.chain([stem], (f"{stem}.parts{k}" for k in itertools.count(1))):
        names = {s: f"{begin}-{k + 1:05}{end}" for k, s in enumerate(shards)}
        if (known | others).isdisjoint(names.values()):
            break
    return names, old


def _list_parts(path: Path) -> set[str]:
    """List the parts that an index names; none where there is no index."""
    try:
        names = json.loads(path.read_text())["weight_map"].values()
        return {name for name in names if isinstance(name, str)}
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
        return set()


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    torch = import_extra("torch", "torch")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(torch.is_tensor(t) for t in state.values()):
        what = "holds more than tensors by name; save the state dict of the network alone"
        raise LadyError(f"{path}: {what}")
    return {n: _from_torch(torch, t) for n, t in state.items()}


def _from_torch(torch: Any, tensor: Any) -> np.ndarray:
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        # numpy alone has no such numbers
        return np.asarray(tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(tensor.numpy())


def _to_torch(torch: Any, array: np.ndarray) -> Any:
    array = np.array(array)
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
