"""ONNX files: the only loader and saver.

A `Graph` is one model with its weights by name, wherever they are kept: initializers, Constant
nodes, external data. Weights are read when they are asked for, and the user's graph is never
rewritten: nodes, names, opsets and metadata leave as they came.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx
import onnx.inliner
import onnx.numpy_helper
import onnx.shape_inference
from google.protobuf.message import DecodeError
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    ValueInfoProto,
)

from ..errors import ArchitectureError, LadyError
from . import wire

PROTOBUF_LIMIT = 2**31 - 1
KNOWN_TYPES = set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
PACKED = (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1)
"""Element types of which two share a byte."""
GRAPHS = (AttributeProto.UNDEFINED, AttributeProto.GRAPH, AttributeProto.GRAPHS)
"""What an attribute says that it is, if it may hold a subgraph."""
VALUES = {
    "value": AttributeProto.TENSOR,
    "value_float": AttributeProto.FLOAT,
    "value_floats": AttributeProto.FLOATS,
    "value_int": AttributeProto.INT,
    "value_ints": AttributeProto.INTS,
}
"""By the name of a Constant node's attribute that holds numbers its type."""
CORNER = 4
METADATA_KEY = "lady_onnx"


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes of `node` as Python values."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if not a.ref_attr_name}


def label(node: NodeProto) -> str:
    """How a node is called in messages: its operator and its name, or its first output."""
    return f"{node.op_type} '{node.name or next(iter(node.output), '')}'"


def _constant(node: NodeProto) -> TensorProto | None:
    """The tensor that a Constant node holds, None for any other node and for strings."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or not node.attribute or not any(node.output):
        return None
    attribute = node.attribute[0]
    if attribute.type != VALUES.get(attribute.name):
        return None
    if attribute.name == "value":
        return attribute.t
    dtype = np.float32 if "float" in attribute.name else np.int64
    value = np.array(onnx.helper.get_attribute_value(attribute), dtype)
    return onnx.numpy_helper.from_array(value, node.output[0])


def captured(node: NodeProto) -> list[str]:
    """The names that the subgraphs of a node read, their own included."""
    names: list[str] = []
    for attribute in node.attribute:
        if attribute.type not in GRAPHS:
            continue
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            for inner in graph.node:
                names += [*inner.input, *captured(inner)]
            names += [o.name for o in graph.output]
    return names


def ordered(nodes: Iterable[NodeProto]) -> list[NodeProto]:
    """Nodes in their own order, but for those that stand before what they read; some tools append out of order."""
    waiting = list(nodes)
    ahead = {o for node in waiting for o in node.output if o}
    result: list[NodeProto] = []
    while waiting:
        late = []
        for node in waiting:
            if ahead.isdisjoint(node.input) and ahead.isdisjoint(captured(node)):
                result.append(node)
                ahead.difference_update(node.output)
            else:
                late.append(node)
        if len(late) == len(waiting):
            # a cycle: whoever reads these nodes will find what is missing
            return result + late
        waiting = late
    return result


def by_name(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[str, str]]:
    """Inputs, or outputs, of two models that are each other's: those of one name if all names are the same, else in order.

    Raises ArchitectureError where one has more.
    """
    if len(ours) != len(theirs):
        raise ArchitectureError(f"there are {len(theirs)} inputs or outputs where the reference has {len(ours)}")
    return [(a, a) for a in ours] if set(ours) == set(theirs) else list(zip(ours, theirs, strict=True))


def bodies_of(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The graphs inside a node, each with the name of its attribute."""
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield attribute.name, graph


def every_node(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Some nodes, and all nodes of the bodies inside them."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        for _, graph in bodies_of(node):
            waiting += graph.node


def nodes_of(model: ModelProto) -> Iterator[NodeProto]:
    """All nodes of a model, of its functions, and of the bodies inside them."""
    return every_node([*model.graph.node, *(n for f in model.functions for n in f.node)])


def inside(node: NodeProto, attribute: str) -> str:
    """What stands before the names of weights in a subgraph: `node/attribute/`."""
    return f"{node.name or next(iter(node.output), '')}/{attribute}/"


def in_function(function: FunctionProto) -> str:
    """What stands before the names of weights in a local function."""
    return f"{function.domain}.{function.name}{function.overload}/"


Holder = NodeProto | SparseTensorProto | None
BODIES = {"If": 2, "Loop": 1, "Scan": 1}
"""How many graphs an operator holds."""
MOST_NODES, LONGER = 1 << 12, 64
"""A model whose functions are written where they are called has at most so many nodes, and so many
more for each node of its file."""
MOST_SPARSE = 1 << 20
"""Of so many elements one at least must be given, or a sparse weight is not written out."""


def _weights(model: ModelProto) -> Iterator[tuple[str, TensorProto, Holder]]:
    """Every weight of a model: its name, its tensor, and the Constant node or sparse tensor that it is made from."""
    yield from _in_graph(model.graph, "")
    for function in model.functions:
        yield from _in_nodes(function.node, in_function(function))


def _in_graph(graph: GraphProto, prefix: str) -> Iterator[tuple[str, TensorProto, Holder]]:
    for tensor in graph.initializer:
        yield prefix + tensor.name, tensor, None
    for sparse in graph.sparse_initializer:
        yield prefix + sparse.values.name, _dense(sparse), sparse
    yield from _in_nodes(graph.node, prefix)


def _in_nodes(nodes: Iterable[NodeProto], prefix: str) -> Iterator[tuple[str, TensorProto, Holder]]:
    for node in nodes:
        constant = _constant(node)
        if constant is not None:
            yield prefix + node.output[0], constant, node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _in_graph(attribute.g, prefix + inside(node, attribute.name))


def _dense(sparse: SparseTensorProto) -> TensorProto:
    try:
        values, indices = (onnx.numpy_helper.to_array(t) for t in (sparse.values, sparse.indices))
        if math.prod(sparse.dims) > MOST_SPARSE * max(values.size, 1):
            raise ValueError("it is too large to be written out")
        array = np.zeros(tuple(sparse.dims), values.dtype)
        flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), tuple(sparse.dims))
        if flat.size and (flat[0] < 0 or (np.diff(flat) <= 0).any()):
            # the specification wants them so, and runtimes differ in what they make of others
            raise ValueError("its places are not in ascending order")
        array.reshape(-1)[flat] = values
    except (IndexError, MemoryError, TypeError, ValueError) as error:
        where = f"sparse weight '{sparse.values.name}'"
        raise LadyError(f"{where}: cannot be read ({_line(error)}); export the model again") from error
    return onnx.numpy_helper.from_array(array, sparse.values.name)


class Graph:
    """A model, its weights by name, and where they lie.

    Attributes:
        model: the ONNX model, without external data, and without the large weights of a file: `to_model` has all.
        path: the file it came from, None for a model in memory.
        tensors: every initializer by name, every Constant node's tensor by its output's name; those of a subgraph
            as `node/attribute/name`, those of a local function as `domain.function/name`.
    """

    def __init__(self, model: ModelProto, path: Path | None = None, left: Mapping[str, np.ndarray] | None = None):
        self.model = model
        self._left = dict(left or {})
        """Bytes, uint8 [size], of weights that are not in `model`."""
        self.path = path
        self.folder = path.parent if path else None
        self.tensors: dict[str, TensorProto] = {}
        for name, tensor, _ in _weights(model):
            if name in self.tensors:
                raise LadyError(f"{self.name}: two weights are called '{name}'; give the nodes that hold them other names")
            self.tensors[name] = tensor
        for name, tensor in self.tensors.items():
            if tensor.data_type not in KNOWN_TYPES or min(tensor.dims, default=0) < 0:
                what = f"shape {list(tensor.dims)}, element type {tensor.data_type}"
                raise LadyError(f"{self.name}: weight '{name}' cannot be read ({what}); export the model again")
        self._changed: dict[str, np.ndarray] = {}
        self._constant_along: dict[str, list[bool]] = {}

    @property
    def name(self) -> str:
        """The file, or `<model>` for a model in memory: for messages."""
        return str(self.path) if self.path else "<model>"

    @functools.cached_property
    def nodes(self) -> list[NodeProto]:
        """The nodes, every one after those that it reads from."""
        return ordered(self.model.graph.node)

    @functools.cached_property
    def opsets(self) -> Mapping[str, int]:
        """The version of every operator set that the model imports; the default domain is ''."""
        return {"" if o.domain == "ai.onnx" else o.domain: o.version for o in self.model.opset_import}

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
        bodies = [body for node in nodes_of(self.model) for _, body in bodies_of(node)]
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
                return _shaped(tensor, self._external(name, tensor))
            if name in self._left or tensor.HasField("raw_data"):
                left = self._left.get(name)
                return _shaped(tensor, np.frombuffer(tensor.raw_data, np.uint8) if left is None else left)
            return onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise LadyError(f"{self.name}: weight '{name}': {_line(error)}; export the model again") from error

    def _external(self, name: str, tensor: TensorProto) -> np.ndarray:
        where = f"{self.name}: external data of weight '{name}'"
        if self.folder is None:
            raise LadyError(f"{where}: a model in memory has no folder; load it with its data, or give its path")
        fields = {entry.key: entry.value for entry in tensor.external_data}
        location = fields.get("location", "")
        file = self.folder / location
        if Path(location).is_absolute() or not file.resolve().is_relative_to(self.folder.resolve()):
            raise LadyError(f"{where}: '{location}' lies outside the model's folder; move it there")
        count = int(np.prod(tensor.dims, dtype=np.int64))
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        size = (count + 1) // 2 if tensor.data_type in PACKED else count * itemsize
        try:
            offset = int(fields.get("offset", 0))
            if offset < 0 or file.stat().st_size < offset + size:
                raise LadyError(f"{where}: '{location}' is shorter than the model says; copy it again")
            return np.memmap(file, np.uint8, "r", offset, (size,)) if size else np.empty(0, np.uint8)
        except OSError as error:
            raise LadyError(f"{where}: '{location}': {error.strerror}; put it beside the model") from error
        except ValueError as error:
            raise LadyError(f"{where}: '{location}': {_line(error)}; export the model again") from error

    def replace(self, name: str, array: np.ndarray) -> None:
        """Gives the weight `name` the values of `array`, of the same shape and dtype; written by `save`."""
        old = self.tensors[name]
        if tuple(old.dims) != array.shape or onnx.helper.np_dtype_to_tensor_dtype(array.dtype) != old.data_type:
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
        found = {self._data_file(t) for t in self.tensors.values()} | {self.path.resolve() if self.path else None}
        return {f for f in found if f is not None}

    def check_numbers(self) -> None:
        """Raises LadyError at the first weight that holds a NaN."""
        for name in self.tensors:
            array = self.array(name)
            if array.dtype.kind == "f" or array.dtype.name in ("bfloat16",):
                flat = array.reshape(-1)
                for start in range(0, flat.size, 1 << 22):
                    if np.isnan(flat[start : start + (1 << 22)].astype(np.float32, copy=False)).any():
                        raise LadyError(f"{self.name}: weight '{name}' holds NaN; the file is damaged, export it again")

    def copy(self) -> Graph:
        """A graph whose weights can be replaced without touching this one; what is not replaced is shared."""
        twin = Graph(self.model, self.path, self._left)
        twin._changed = dict(self._changed)
        return twin

    def to_model(self, note: str) -> ModelProto:
        """The model with its changed weights in it (external data loaded), and `note` in its metadata."""
        model = self._noted(note)
        for name, tensor, holder in list(_weights(model)):
            if name in self._changed or name in self._left or tensor.data_location == TensorProto.EXTERNAL:
                _fill(tensor, holder, self._view(name))
        return model

    def save(self, path: Path, note: str) -> None:
        """Writes the model to `path`, whole or not at all.

        Weights that lay in external data go to `<file name>.data` beside it. `note` becomes the
        metadata entry `lady_onnx`.
        """
        model = self._noted(note)
        external = [(n, t) for n, t, _ in _weights(model) if t.data_location == TensorProto.EXTERNAL]
        for name, tensor, holder in list(_weights(model)):
            if (name in self._changed or name in self._left) and tensor.data_location != TensorProto.EXTERNAL:
                _fill(tensor, holder, self._view(name))
        data = path.with_name(path.name + ".data")
        taken = {self._data_file(t) for t in self.tensors.values()}
        for place in (path, data) if external else (path,):
            if place.resolve() in taken:
                raise LadyError(f"{path}: '{place.name}' is the input's external data; choose another name")
        with contextlib.ExitStack() as stack:
            # entered first, it is renamed last: a model never appears before its data
            file_of_model = stack.enter_context(atomic(path))
            if external:
                file = stack.enter_context(atomic(data))
                for name, tensor in external:
                    file.write(b"\0" * (-file.tell() % 4096))
                    start = file.tell()
                    if name in self._changed or tensor.data_type in PACKED:
                        plain = onnx.numpy_helper.from_array(self.array(name), name)
                        file.write(plain.raw_data)
                    else:
                        self.array(name).tofile(file)
                    del tensor.external_data[:]
                    for key, value in (("location", data.name), ("offset", start), ("length", file.tell() - start)):
                        tensor.external_data.add(key=key, value=str(value))
            if model.ByteSize() > PROTOBUF_LIMIT:
                raise LadyError(f"{path}: over 2 GB without external data; save the input with external data first")
            file_of_model.write(model.SerializeToString())

    def _data_file(self, tensor: TensorProto) -> Path | None:
        if tensor.data_location != TensorProto.EXTERNAL or self.folder is None:
            return None
        return (self.folder / next((e.value for e in tensor.external_data if e.key == "location"), "")).resolve()

    def _noted(self, note: str) -> ModelProto:
        model = ModelProto()
        model.CopyFrom(self.model)
        for entry in model.metadata_props:
            if entry.key == METADATA_KEY:
                entry.value = note
                return model
        model.metadata_props.add(key=METADATA_KEY, value=note)
        return model


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _constant_along(array: np.ndarray, axis: int) -> bool:
    if array.shape[axis] < 2:
        return True
    if array.dtype.kind in "OSU":
        return False
    # most weights differ in a corner, and a corner lies close together in the file
    origin = [0] * array.ndim
    if array.size and array.item(*origin) != array.item(*(int(a == axis) for a in range(array.ndim))):
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


def _shaped(tensor: TensorProto, raw: np.ndarray) -> np.ndarray:
    """The values of a weight, out of its bytes."""
    if tensor.data_type in PACKED:
        plain = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=raw.tobytes())
        return onnx.numpy_helper.to_array(plain)
    return raw.view(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).reshape(tuple(tensor.dims))


def _fill(tensor: TensorProto, holder: Holder, array: np.ndarray) -> None:
    """Writes the values of `array` to where a weight's tensor lies in its model."""
    if isinstance(holder, SparseTensorProto):
        places = np.flatnonzero(array)
        holder.values.CopyFrom(onnx.numpy_helper.from_array(array.ravel()[places], holder.values.name))
        holder.indices.CopyFrom(onnx.numpy_helper.from_array(places, holder.indices.name))
        return
    if isinstance(holder, NodeProto) and holder.attribute[0].name != "value":
        # a list of floats needs a tensor to hold what replaces it
        holder.attribute[0].CopyFrom(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(array)))
        return
    new = onnx.numpy_helper.from_array(array, tensor.name)
    for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data"):
        tensor.ClearField(field)
    tensor.ClearField("data_location")
    tensor.raw_data = new.raw_data


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that appears at `path` complete, or never: temporary file, fsync, rename."""
    try:
        handle = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)
    except OSError as error:
        raise LadyError(f"{path}: cannot write there: {error.strerror}; choose another folder") from error
    try:
        with handle as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(handle.name, 0o666 & ~umask)
        os.replace(handle.name, path)
    except OSError as error:
        raise LadyError(f"{path}: cannot write: {error.strerror or error}; free some space or choose another folder") from error
    finally:
        Path(handle.name).unlink(missing_ok=True)


def load(source: str | os.PathLike[str] | ModelProto | Graph) -> Graph:
    """The graph of a file or of a model in memory.

    Raises LadyError where the file is missing, is not ONNX, is cut short, or misses external data.
    """
    if isinstance(source, Graph):
        return source
    if isinstance(source, ModelProto):
        _check_attributes(source, "<model>")
        graph = Graph(source)
        _check_versions(graph)
        _check_names(graph)
        return graph
    path = Path(source)
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or _line(error)
        raise LadyError(f"{path}: {why}; give the path of an .onnx file") from error
    model = ModelProto()
    try:
        rest, places = wire.light(raw)
        model.ParseFromString(rest)
    except DecodeError as error:
        raise LadyError(f"{path}: not an ONNX file, or cut short; export or copy it again") from error
    if not model.graph.node or not model.opset_import:
        raise LadyError(f"{path}: not an ONNX file: it holds no graph; give the path of an exported .onnx model")
    _check_attributes(model, str(path))
    whole = np.frombuffer(raw, np.uint8)
    graph = Graph(model, path, {name: whole[start:end] for name, (start, end) in places.items()})
    _check_versions(graph)
    _check_names(graph)
    for name, tensor in graph.tensors.items():
        if tensor.data_location == TensorProto.EXTERNAL:
            graph.array(name)
    return graph


CONTENT = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    AttributeProto.TYPE_PROTO: "tp",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
    AttributeProto.TENSORS: "tensors",
    AttributeProto.GRAPHS: "graphs",
    AttributeProto.SPARSE_TENSORS: "sparse_tensors",
    AttributeProto.TYPE_PROTOS: "type_protos",
}
"""By what an attribute says that it is the field that holds it."""
BESIDE = {"name", "type", "doc_string", "ref_attr_name"}


def _check_attributes(model: ModelProto, file: str) -> None:
    """Raises LadyError where an attribute holds something else than it says, so that readers may take either."""
    for node in nodes_of(model):
        for name in _repeated([a.name for a in node.attribute]):
            raise LadyError(f"{file}: node {label(node)} has two attributes '{name}'; remove one")
        for attribute in node.attribute:
            held = {f.name for f, _ in attribute.ListFields()} - BESIDE
            if held - {CONTENT.get(attribute.type)}:
                what = f"attribute '{attribute.name}' of node {label(node)} holds something else than its type says"
                raise LadyError(f"{file}: {what}; export the model again")
    for function in model.functions:
        for name in _repeated([*function.attribute, *(a.name for a in function.attribute_proto)]):
            raise LadyError(f"{file}: function '{function.name}' has two attributes '{name}'; remove one")
        for attribute in function.attribute_proto:
            held = {f.name for f, _ in attribute.ListFields()} - BESIDE
            if attribute.ref_attr_name or held - {CONTENT.get(attribute.type)}:
                what = f"the default of '{attribute.name}' of function '{function.name}' cannot be read in one way"
                raise LadyError(f"{file}: {what}; export the model again")


def _check_versions(graph: Graph) -> None:
    """Raises LadyError where a file speaks two versions of a domain or an unknown one, or is too large.

    Too large is what has too many nodes once its functions are written where they are called.
    """
    model = graph.model
    imports = {f"function '{f.name}'": f.opset_import for f in model.functions}
    for what, opsets in {"the model": model.opset_import, **imports}.items():
        domains = ["" if o.domain == "ai.onnx" else o.domain for o in opsets]
        for domain in _repeated(domains):
            raise LadyError(f"{graph.name}: {what} imports domain '{domain or 'ai.onnx'}' twice; keep one version")
    newer = f"is newer than onnx {onnx.__version__} knows; update onnx"
    if model.ir_version > onnx.IR_VERSION:
        raise LadyError(f"{graph.name}: IR version {model.ir_version} {newer}")
    if graph.opset() > onnx.defs.onnx_opset_version():
        raise LadyError(f"{graph.name}: opset {graph.opset()} {newer}")
    for node in nodes_of(model):
        least = BODIES.get(node.op_type, 0) if node.domain in ("", "ai.onnx") else 0
        if sum(1 for _ in bodies_of(node)) < least:
            what = f"node {label(node)} has no body: cut short"
            raise LadyError(f"{graph.name}: {what}; export the model again")
    own = sum(1 for _ in nodes_of(model))
    most = MOST_NODES + LONGER * own
    try:
        many = _written_out(model, most)
    except RecursionError:
        many = most + 1
    if many > most:
        what = f"over {most} nodes once its functions are written where they are called"
        raise LadyError(f"{graph.name}: {what}; export it again without functions")


def _check_names(graph: Graph) -> None:
    """Raises LadyError where a name stands for two things, or for nothing.

    Runtimes differ in which of two they take, so that no answer would be right.
    """
    model = graph.model
    if len(graph.functions) < len(model.functions):
        raise LadyError(f"{graph.name}: two functions have one name; remove one")
    for f in model.functions:
        if f.domain in ("", "ai.onnx", "ai.onnx.ml") or f.domain.startswith("com.microsoft"):
            what = f"function '{f.name}' stands in a domain of operators, '{f.domain}'"
            raise LadyError(f"{graph.name}: {what}; give it a domain of its own")
    for name in _repeated([n.name for n in model.graph.node if n.name]):
        raise LadyError(f"{graph.name}: two nodes are called '{name}'; give one another name")
    for what, names in _scopes(model):
        for name in _repeated(names):
            raise LadyError(f"{graph.name}: two values of {what} are called '{name}'; give one another name")
    for tensor in graph.tensors.values():
        if tensor.HasField("segment"):
            raise LadyError(f"{graph.name}: weight '{tensor.name}' is stored in segments; export the model again")
    produced = [o for node in model.graph.node for o in node.output if o]
    for name in _repeated(produced + [t.name for t in model.graph.initializer]):
        raise LadyError(f"{graph.name}: '{name}' is made twice; give one another name")
    homes = [(inside(node, name), body.node) for node in model.graph.node for name, body in bodies_of(node)]
    homes += [(in_function(f), f.node) for f in model.functions]
    made = {*produced, *(t.name for t in model.graph.initializer)} if homes else set()
    for home, nodes in homes:
        for name in made & {home + name for name in _read_in(nodes)}:
            raise LadyError(f"{graph.name}: '{name}' is named like a weight inside a node or a function; give it another name")
    known = {*produced, *graph.tensors, *(v.name for v in model.graph.input)}
    # of a file that is cut short the outputs are missing; a model in memory was made so
    for output in model.graph.output if graph.path else ():
        if output.name not in known:
            raise LadyError(f"{graph.name}: output '{output.name}' is made by no node: cut short; export or copy it again")


def _read_in(nodes: Iterable[NodeProto], home: str = "") -> Iterator[str]:
    """The names that some nodes read; of those in bodies with what stands before the names of weights there."""
    for node in nodes:
        yield from (home + name for name in node.input)
        for attribute, body in bodies_of(node):
            yield from _read_in(body.node, home + inside(node, attribute))


def _written_out(model: ModelProto, most: int) -> int:
    """How many nodes a model has with its functions written where they are called; too many if one calls itself."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    counts: dict[tuple[str, str, str], int] = {}

    def count(nodes: Iterable[NodeProto], above: frozenset[tuple[str, str, str]]) -> int:
        total = 0
        for node in every_node(nodes):
            key = (node.domain, node.op_type, node.overload)
            total += 1
            if key in above or total > most:
                return most + 1
            if key in functions:
                if key not in counts:
                    counts[key] = count(functions[key].node, above | {key})
                total += counts[key]
        return total

    return count(model.graph.node, frozenset()) if functions else 0


def _scopes(model: ModelProto) -> Iterator[tuple[str, list[str]]]:
    """The names that are given in each function and body; of the model itself those of its inputs."""
    yield "the inputs", [v.name for v in model.graph.input]
    for function in model.functions:
        made = [o for node in function.node for o in node.output if o]
        yield f"function '{function.name}'", [*filter(None, function.input), *made]
    for node in nodes_of(model):
        for name, body in bodies_of(node):
            made = [o for inner in body.node for o in inner.output if o]
            made += [t.name for t in body.initializer] + [t.values.name for t in body.sparse_initializer]
            yield f"body '{name}' of node {label(node)}", [*(v.name for v in body.input if v.name), *made]


def inline_functions(model: ModelProto) -> ModelProto:
    """The same model with its local functions written where they are called.

    The defaults of a function's attributes are written into its calls first: onnx's inliner leaves them out.
    """
    bound = ModelProto()
    bound.CopyFrom(model)
    defaults = {(f.domain, f.name, f.overload): list(f.attribute_proto) for f in bound.functions}
    for node in nodes_of(bound):
        given = {a.name for a in node.attribute}
        own = defaults.get((node.domain, node.op_type, node.overload), [])
        node.attribute.extend(a for a in own if a.name not in given)
    for function in bound.functions:
        function.attribute.extend(a.name for a in function.attribute_proto)
        del function.attribute_proto[:]
    return onnx.inliner.inline_local_functions(bound)


def _repeated(names: Iterable[str]) -> list[str]:
    """The names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def input_choices(graph: Graph, sizes: Sequence[int]) -> Iterator[tuple[dict[str, tuple[int, ...]], set[str]]]:
    """Shapes for the graph's inputs, one choice after the other, and the inputs with a symbolic axis taken as one.

    Symbolic axes get a size out of `sizes`, but for batches: first axes of inputs of two axes or more, and axes
    of the same name. They are two, and one in the next choice, for graphs that have a batch of one baked in.
    Inputs without a shape are left out.
    """
    inputs = {
        v.name: v.type.tensor_type.shape.dim
        for v in graph.model.graph.input
        if v.name not in graph.tensors and v.type.tensor_type.HasField("shape")
    }
    batches = {dims[0].dim_param for dims in inputs.values() if len(dims) > 1 and dims[0].dim_value <= 0} - {""}
    done = []
    for size in sizes:
        for batch in (2, 1):
            shapes, loose = {}, set()
            for name, dims in inputs.items():
                shape = []
                for axis, dim in enumerate(dims):
                    is_batch = dim.dim_param in batches or (axis == 0 and len(dims) > 1)
                    shape.append(dim.dim_value if dim.dim_value > 0 else batch if is_batch else size)
                    if shape[-1] == 1 and dim.dim_value <= 0:
                        loose.add(name)
                shapes[name] = tuple(shape)
            if shapes not in done:
                done.append(shapes)
                yield shapes, loose


def find_live_nodes(nodes: Sequence[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """The nodes that the outputs hang on, in their order, which is one in which each comes after what it reads."""
    wanted = set(outputs)
    found = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            found.append(node)
            wanted.update(node.input)
            wanted.update(captured(node))
    return found[::-1]


FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)


class _Arrays(Mapping[str, np.ndarray]):
    """The weights of a graph, read when they are asked for."""

    def __init__(self, graph: Graph):
        self.graph = graph

    def __getitem__(self, name: str) -> np.ndarray:
        return self.graph.array(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.graph.tensors)

    def __len__(self) -> int:
        return len(self.graph.tensors)


def weights(graph: Graph) -> Mapping[str, np.ndarray]:
    """The weights of a graph by name, read when they are asked for."""
    return _Arrays(graph)
