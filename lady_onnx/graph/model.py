"""One ONNX model as a `Graph`.

A `Graph` is one model with its weights by name, wherever they are kept: initializers, Constant
nodes, external data. Weights are read when they are asked for, and the user's graph is never
rewritten: nodes, names, opsets and metadata leave as they came.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.numpy_helper
import onnx.shape_inference
from onnx import (
    FunctionProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
)

from ..errors import LadyError, to_one_line
from .files import open_atomically
from .nodes import list_bodies, list_nodes, sort_topologically
from .weights import PACKED_TYPES, list_weights, shape_bytes, write_values

PROTOBUF_LIMIT = 2**31 - 1
KNOWN_TYPES = set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
CORNER = 4
METADATA_KEY = "lady_onnx"


class Graph:
    """A model, its weights by name, and where they lie.

    Attributes:
        model: the ONNX model, without external data, and without the large weights of a file: `to_model` has all.
        path: the file it came from, None for a model in memory.
        tensors: every initializer by name, every Constant node's tensor by its output's name; those of a subgraph
            as `node/attribute/name`, those of a local function as `domain.function/name`.
    """

    def __init__(
        self,
        model: ModelProto,
        path: Path | None = None,
        left: Mapping[str, np.ndarray] | None = None,
    ):
        self.model = model
        self._left = dict(left or {})
        """Bytes, uint8 [size], of weights that are not in `model`."""
        self.path = path
        self.folder = path.parent if path else None
        self.tensors: dict[str, TensorProto] = {}
        for name, tensor, _ in list_weights(model):
            if name in self.tensors:
                raise LadyError(
                    f"{self.name}: two weights are called '{name}'; give the nodes that hold them other names"
                )
            self.tensors[name] = tensor
        for name, tensor in self.tensors.items():
            if tensor.data_type not in KNOWN_TYPES or min(tensor.dims, default=0) < 0:
                what = f"shape {list(tensor.dims)}, element type {tensor.data_type}"
                raise LadyError(
                    f"{self.name}: weight '{name}' cannot be read ({what}); export the model again"
                )
        self._changed: dict[str, np.ndarray] = {}
        self._constant_along: dict[str, list[bool]] = {}

    @property
    def name(self) -> str:
        """The file, or `<model>` for a model in memory: for messages."""
        return str(self.path) if self.path else "<model>"

    @functools.cached_property
    def nodes(self) -> list[NodeProto]:
        """The nodes, every one after those that it reads from."""
        return sort_topologically(self.model.graph.node)

    @functools.cached_property
    def opsets(self) -> Mapping[str, int]:
        """The version of every operator set that the model imports; the default domain is ''."""
        return {
            "" if o.domain == "ai.onnx" else o.domain: o.version for o in self.model.opset_import
        }

    @functools.cached_property
    def functions(self) -> Mapping[tuple[str, str, str], FunctionProto]:
        """The local functions by domain, name and overload."""
        every = self.model.functions
        return {("" if f.domain == "ai.onnx" else f.domain, f.name, f.overload): f for f in every}

    @property
    def required_inputs(self) -> list[ValueInfoProto]:
        """The inputs that a caller has to give: those that no initializer stands for."""
        return [v for v in self.model.graph.input if v.name not in self.tensors]

    @property
    def declares_inner_values(self) -> bool:
        """Does the file declare types or shapes of values inside it?"""
        whole, functions = self.model.graph, self.model.functions
        bodies = [body for node in list_nodes(self.model) for _, body in list_bodies(node)]
        inner = [*whole.value_info, *(v for f in functions for v in f.value_info)]
        inner += [v for body in bodies for v in (*body.input, *body.value_info, *body.output)]
        inner += [v for v in whole.input if v.name in self.tensors]
        return any(v.type.WhichOneof("value") for v in inner)

    def opset(self, domain: str = "") -> int:
        """The version of the operator set `domain` that the model imports, 1 where it names none."""
        return self.opsets.get("" if domain == "ai.onnx" else domain, 1)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the weight `name`."""
        return tuple(self.tensors[name].dims)

    def array(self, name: str) -> np.ndarray:
        """The weight `name`, in its own dtype; read-only, memory-mapped where it lies in external data."""
        if name in self._changed:
            return self._changed[name]
        array = self._view(name)
        return array if array.flags.aligned else array.copy()

    def _view(self, name: str) -> np.ndarray:
        """A weight, not copied where that can be avoided; it need not lie where a processor likes it."""
        if name in self._changed:
            return self._changed[name]
        tensor = self.tensors[name]
        try:
            if tensor.data_location == TensorProto.EXTERNAL:
                return shape_bytes(tensor, self._external(name, tensor))
            if name in self._left or tensor.HasField("raw_data"):
                left = self._left.get(name)
                return shape_bytes(
                    tensor, np.frombuffer(tensor.raw_data, np.uint8) if left is None else left
                )
            return onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise LadyError(
                f"{self.name}: weight '{name}': {to_one_line(error)}; export the model again"
            ) from error

    def _external(self, name: str, tensor: TensorProto) -> np.ndarray:
        where = f"{self.name}: external data of weight '{name}'"
        if self.folder is None:
            raise LadyError(
                f"{where}: a model in memory has no folder; load it with its data, or give its path"
            )
        fields = {entry.key: entry.value for entry in tensor.external_data}
        location = fields.get("location", "")
        file = self.folder / location
        if Path(location).is_absolute() or not file.resolve().is_relative_to(self.folder.resolve()):
            raise LadyError(f"{where}: '{location}' lies outside the model's folder; move it there")
        count = int(np.prod(tensor.dims, dtype=np.int64))
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        size = (count + 1) // 2 if tensor.data_type in PACKED_TYPES else count * itemsize
        try:
            offset = int(fields.get("offset", 0))
            if offset < 0 or file.stat().st_size < offset + size:
                raise LadyError(
                    f"{where}: '{location}' is shorter than the model says; copy it again"
                )
            return (
                np.memmap(file, np.uint8, "r", offset, (size,)) if size else np.empty(0, np.uint8)
            )
        except OSError as error:
            raise LadyError(
                f"{where}: '{location}': {error.strerror}; put it beside the model"
            ) from error
        except ValueError as error:
            raise LadyError(
                f"{where}: '{location}': {to_one_line(error)}; export the model again"
            ) from error

    def replace(self, name: str, array: np.ndarray) -> None:
        """Gives the weight `name` the values of `array`, of the same shape and dtype; written by `save`."""
        old = self.tensors[name]
        if (
            tuple(old.dims) != array.shape
            or onnx.helper.np_dtype_to_tensor_dtype(array.dtype) != old.data_type
        ):
            raise ValueError(f"'{name}' keeps its shape {tuple(old.dims)} and its dtype")
        self._changed[name] = array

    def constant_along(self, name: str, axis: int) -> bool:
        """Is the weight `name` constant along `axis`? Bit for bit; stops at the first difference."""
        if name not in self._constant_along:
            # reading a weight costs more than looking at its corners
            array = self._view(name)
            if array.dtype.kind not in "OSU" and array.dtype.itemsize in (1, 2, 4, 8):
                # the bytes: zeros of either sign are not the same
                array = array.view(f"u{array.dtype.itemsize}")
            self._constant_along[name] = [_constant_along(array, a) for a in range(array.ndim)]
        return self._constant_along[name][axis]

    def number(self, name: str) -> bytes | None:
        """The bytes of a constant of one element, None of anything else."""
        known = name in self.tensors and math.prod(self.shape(name)) == 1
        return self.array(name).tobytes() if known else None

    @property
    def files(self) -> set[Path]:
        """The files that the model lies in, its external data among them."""
        found = {self._data_file(t) for t in self.tensors.values()} | {
            self.path.resolve() if self.path else None
        }
        return {f for f in found if f is not None}

    def check_numbers(self) -> None:
        """Raises LadyError at the first weight that holds a NaN."""
        for name in self.tensors:
            array = self.array(name)
            if array.dtype.kind == "f" or array.dtype.name in ("bfloat16",):
                flat = array.reshape(-1)
                for start in range(0, flat.size, 1 << 22):
                    if np.isnan(
                        flat[start : start + (1 << 22)].astype(np.float32, copy=False)
                    ).any():
                        raise LadyError(
                            f"{self.name}: weight '{name}' holds NaN; the file is damaged, export it again"
                        )

    def copy(self) -> Graph:
        """A graph whose weights can be replaced without touching this one; what is not replaced is shared."""
        twin = Graph(self.model, self.path, self._left)
        twin._changed = dict(self._changed)
        return twin

    def to_model(self, note: str) -> ModelProto:
        """The model with its changed weights in it (external data loaded), and `note` in its metadata."""
        model = self._noted(note)
        for name, tensor, holder in list(list_weights(model)):
            if (
                name in self._changed
                or name in self._left
                or tensor.data_location == TensorProto.EXTERNAL
            ):
                write_values(tensor, holder, self._view(name))
        return model

    def save(self, path: Path, note: str) -> None:
        """Writes the model to `path`, whole or not at all.

        Weights that lay in external data go to `<file name>.data` beside it. `note` becomes the
        metadata entry `lady_onnx`.
        """
        model = self._noted(note)
        external = [
            (n, t) for n, t, _ in list_weights(model) if t.data_location == TensorProto.EXTERNAL
        ]
        for name, tensor, holder in list(list_weights(model)):
            if (
                name in self._changed or name in self._left
            ) and tensor.data_location != TensorProto.EXTERNAL:
                write_values(tensor, holder, self._view(name))
        data = path.with_name(path.name + ".data")
        taken = {self._data_file(t) for t in self.tensors.values()}
        for place in (path, data) if external else (path,):
            if place.resolve() in taken:
                raise LadyError(
                    f"{path}: '{place.name}' is the input's external data; choose another name"
                )
        with contextlib.ExitStack() as stack:
            # entered first, it is renamed last: a model never appears before its data
            file_of_model = stack.enter_context(open_atomically(path))
            if external:
                file = stack.enter_context(open_atomically(data))
                for name, tensor in external:
                    file.write(b"\0" * (-file.tell() % 4096))
                    start = file.tell()
                    if name in self._changed or tensor.data_type in PACKED_TYPES:
                        plain = onnx.numpy_helper.from_array(self.array(name), name)
                        file.write(plain.raw_data)
                    else:
                        self.array(name).tofile(file)
                    del tensor.external_data[:]
                    for key, value in (
                        ("location", data.name),
                        ("offset", start),
                        ("length", file.tell() - start),
                    ):
                        tensor.external_data.add(key=key, value=str(value))
            if model.ByteSize() > PROTOBUF_LIMIT:
                raise LadyError(
                    f"{path}: over 2 GB without external data; save the input with external data first"
                )
            file_of_model.write(model.SerializeToString())

    def _data_file(self, tensor: TensorProto) -> Path | None:
        if tensor.data_location != TensorProto.EXTERNAL or self.folder is None:
            return None
        return (
            self.folder / next((e.value for e in tensor.external_data if e.key == "location"), "")
        ).resolve()

    def _noted(self, note: str) -> ModelProto:
        model = ModelProto()
        model.CopyFrom(self.model)
        for entry in model.metadata_props:
            if entry.key == METADATA_KEY:
                entry.value = note
                return model
        model.metadata_props.add(key=METADATA_KEY, value=note)
        return model


def _constant_along(array: np.ndarray, axis: int) -> bool:
    if array.shape[axis] < 2:
        return True
    if array.dtype.kind in "OSU":
        return False
    # most weights differ in a corner, and a corner lies close together in the file
    origin = [0] * array.ndim
    if array.size and array.item(*origin) != array.item(
        *(int(a == axis) for a in range(array.ndim))
    ):
        return False
    corner = array[tuple(slice(CORNER) for _ in array.shape)]
    if (corner != corner.take([0], axis)).any():
        return False
    moved = np.moveaxis(array, axis, 0)
    first, step = moved[:1], 1
    start = 1
    while start < moved.shape[0]:
        if (moved[start : start + step] != first).any():
            return False
        start, step = start + step, step * 4
    return True


class _WeightMapping(Mapping[str, np.ndarray]):
    """The weights of a graph, read when they are asked for."""

    def __init__(self, graph: Graph):
        self.graph = graph

    def __getitem__(self, name: str) -> np.ndarray:
        return self.graph.array(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.graph.tensors)

    def __len__(self) -> int:
        return len(self.graph.tensors)


def map_weights(graph: Graph) -> Mapping[str, np.ndarray]:
    """The weights of a graph by name, read when they are asked for."""
    return _WeightMapping(graph)
