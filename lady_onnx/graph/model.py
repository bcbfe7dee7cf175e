"""One ONNX model as a `Graph`.

A `Graph` is one model with its weights by name, wherever they are kept: initializers, Constant
nodes, external data. Weights are read when they are asked for, and the user's graph is never
rewritten: nodes, names, opsets and metadata leave as they came.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from ..errors import LadyError, make_nan_error, to_one_line
from ..numerics import has_nan, view_bits
from ..storage import copy_array, get_laid_file
from ..threads import map_in_threads
from ..vocabulary.packing import Packing
from ..vocabulary.types import KNOWN_TYPES
from .external import DataFiles, is_external
from .files import detach_weights, place_data, write_model
from .formats import name_source
from .nodes import sort_topologically
from .states import NO_STATES, State, find_states, list_unit_axes, read_given_states
from .values import is_constant_along
from .weights import (
    find_packings,
    list_weights,
    pack_numbers,
    read_fields,
    shape_bytes,
    unpack_numbers,
    write_values,
)

METADATA_KEY = "lady_onnx"
"""The metadata entry of a model that says what was done to it."""


class Graph:
    """A model, its weights by name, and where they lie.

    Args:
        model: the ONNX model, without external data.
        path: the file that it came from, None for a model in memory.
        left: the bytes, uint8 [size], of weights that were left out of `model`.
        given_states: `OUTPUT=INPUT` each: outputs that are fed back as inputs; `none` where names
            are not to be believed.

    Raises:
        LadyError: two weights have one name, or the type or shape of a weight cannot be read.

    Attributes:
        model: the ONNX model as it was given. `to_model` returns one with all weights in it.
        path: the file that it came from, None for a model in memory.
        folder: the folder of that file, None for a model in memory.
        tensors: every initializer by its name, and every Constant node's tensor by the name of its
            output; those of a subgraph as `node/attribute/name`, those of a local function as
            `domain.function/name`.
        given_states: as given.
        data: the files that the model lies in.
        beside: other files that its weights were read from, such as the parts of a checkpoint.
    """

    def __init__(
        self,
        model: ModelProto,
        path: Path | None = None,
        left: Mapping[str, np.ndarray] | None = None,
        given_states: Sequence[str] = (),
    ):
        self.model = model
        self.path = path
        self.folder = path.parent if path else None
        self.tensors: dict[str, TensorProto] = {}
        self._left = dict(left or {})
        self.data = DataFiles(self.folder)
        self.beside: frozenset[Path] = frozenset()
        self._changed: dict[str, np.ndarray] = {}
        self._views: dict[str, np.ndarray] = {}
        # What was asked before a weight was replaced is not forgotten: replace weights of copies.
        self._constant_along: dict[str, list[bool]] = {}
        self.given_states = given_states
        for name, tensor, _ in list_weights(model):
            if name in self.tensors:
                what = f"two weights are called '{name}'; give the nodes that hold them other names"
                raise LadyError(f"{self.name}: {what}")
            self.tensors[name] = tensor
        for name, tensor in self.tensors.items():
            if tensor.data_type not in KNOWN_TYPES or min(tensor.dims, default=0) < 0:
                what = f"shape {list(tensor.dims)}, element type {tensor.data_type}"
                where = f"{self.name}: weight '{name}'"
                raise LadyError(f"{where} cannot be read ({what}); export the model again")

    @property
    def name(self) -> str:
        """The file, or `<model>` for a model in memory: for messages."""
        return name_source(self.path) if self.path else "<model>"

    @functools.cached_property
    def nodes(self) -> list[NodeProto]:
        """The nodes, every one after those that it reads from."""
        return sort_topologically(self.model.graph.node)

    @functools.cached_property
    def opsets(self) -> Mapping[str, int]:
        """The version of every operator set that the model imports; the default domain is ''."""
        imports = self.model.opset_import
        return {"" if o.domain == "ai.onnx" else o.domain: o.version for o in imports}

    @functools.cached_property
    def functions(self) -> Mapping[tuple[str, str, str], FunctionProto]:
        """The local functions by domain, name and overload."""
        every = self.model.functions
        return {("" if f.domain == "ai.onnx" else f.domain, f.name, f.overload): f for f in every}

    @property
    def required_inputs(self) -> list[ValueInfoProto]:
        """The inputs that a caller has to give: those that no initializer stands for."""
        return [v for v in self.model.graph.input if v.name not in self.tensors]

    @functools.cached_property
    def states(self) -> tuple[State, ...]:
        """The outputs that are fed back as inputs: those given, and those that names tell.

        Raises:
            LadyError: a given state does not fit the graph.
        """
        graph, inputs = self.model.graph, self.required_inputs
        given = read_given_states(self.name, graph, inputs, self.given_states)
        taken = {n for s in given for n in (s.output, s.input)}
        found = () if NO_STATES in self.given_states else find_states(graph, inputs)
        return given + tuple(s for s in found if taken.isdisjoint((s.output, s.input)))

    @property
    def settled_states(self) -> tuple[str, ...]:
        """The states as they may be given to a graph with inputs and outputs of the same names."""
        return NO_STATES, *(f"{s.output}={s.input}" for s in self.states)

    @functools.cached_property
    def unit_axes(self) -> Mapping[str, tuple[int, ...]]:
        """By input that is a state the axes along which its units may lie."""
        return list_unit_axes(self.model.graph, self.required_inputs, self.states)

    @property
    def files(self) -> set[Path]:
        """The files that the model lies in, its external data among them."""
        own = {self.path.resolve()} if self.path else set()
        return self.data.locate(self.tensors.values()) | own | self.beside

    @functools.cached_property
    def _packings(self) -> Mapping[str, Packing]:
        """By weight of bytes how several numbers share each, as all its readers say."""
        return find_packings(self.model, self.tensors)

    def opset(self, domain: str = "") -> int:
        """Return the version of a domain's operator set, 1 where the model imports none."""
        return self.opsets.get("" if domain == "ai.onnx" else domain, 1)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of the weight `name`; its last axis counts numbers, not bytes."""
        dims, packing = self.tensors[name].dims, self._packings.get(name)
        return tuple(dims) if packing is None else (*dims[:-1], dims[-1] * packing.count)

    def array(self, name: str) -> np.ndarray:
        """Return the weight `name` in its own dtype.

        The array is read-only, and mapped into memory where it lies in external data. Numbers that
        share a byte, as all readers of the weight say, are given one by one, as uint8.

        Raises:
            LadyError: the values cannot be read.
        """
        array = self.stored_array(name)
        return unpack_numbers(array, self._packings[name]) if name in self._packings else array

    def stored_array(self, name: str) -> np.ndarray:
        """Return the weight `name` as the file has it, be it several numbers in a byte.

        Raises:
            LadyError: the values cannot be read.
        """
        array = self._view_array(name)
        # Weights may begin anywhere in a file, and processors are slow on numbers out of alignment.
        if name not in self._changed and not array.flags.aligned:
            self._views[name] = array = copy_array(array)
        return array

    def _view_array(self, name: str) -> np.ndarray:
        """Return a weight as it is written, without a copy where possible, aligned or not."""
        if name in self._changed:
            return self._changed[name]
        if name in self._views:
            return self._views[name]
        tensor = self.tensors[name]
        try:
            if is_external(tensor) or name in self._left:
                return _keep_view(self, name, tensor)
            if tensor.HasField("raw_data"):
                return shape_bytes(tensor, np.frombuffer(tensor.raw_data, np.uint8))
            return read_fields(tensor)
        except (ValueError, TypeError) as error:
            what = f"weight '{name}': {to_one_line(error)}"
            raise LadyError(f"{self.name}: {what}; export the model again") from error

    def replace(self, name: str, array: np.ndarray) -> None:
        """Give the weight `name` the values of an array like that of `array`.

        Raises:
            ValueError: the array has another shape or dtype.
        """
        shape, data_type = self.shape(name), onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        if shape != array.shape or data_type != self.tensors[name].data_type:
            raise ValueError(f"'{name}' keeps its shape {shape} and its dtype")
        packing = self._packings.get(name)
        self.store(name, array if packing is None else pack_numbers(array, packing))

    def store(self, name: str, array: np.ndarray) -> None:
        """Give the weight `name` the values of an array like that of `stored_array`."""
        self._changed[name] = array

    def constant_along(self, name: str, axis: int) -> bool:
        """Tell whether the weight `name` is constant along an axis, bit for bit."""
        if name not in self._constant_along:
            # Opening a weight costs more than looking at its corners: all axes at once.
            is_plain = name not in self._packings
            bits = view_bits(self._view_array(name) if is_plain else self.array(name))
            self._constant_along[name] = [is_constant_along(bits, a) for a in range(bits.ndim)]
        return self._constant_along[name][axis]

    def number(self, name: str) -> bytes | None:
        """Return the bytes of a constant of one element, None for anything else."""
        is_single = name in self.tensors and math.prod(self.shape(name)) == 1
        return self.array(name).tobytes() if is_single else None

    def check_numbers(self) -> None:
        """Raise LadyError at the first weight that holds a NaN."""
        names = list(self.tensors)
        has_some = map_in_threads(lambda name: has_nan(self._view_array(name)), names)
        if any(has_some):
            raise make_nan_error(self.name, names[has_some.index(True)])

    def copy(self) -> Graph:
        """Return a graph whose weights can be replaced without touching those of this one.

        What is not replaced is shared.
        """
        twin = Graph(self.model, self.path, self._left, self.given_states)
        twin._changed, twin.data, twin.beside = dict(self._changed), self.data, self.beside
        twin._views = self._views
        return twin

    def to_model(self, note: str) -> ModelProto:
        """Return the model with all its weights in it, external data too.

        Args:
            note: the text of its metadata entry `lady_onnx`.
        """
        model = _copy_with_note(self.model, note)
        # A list, because what is walked is written to on the way.
        for name, tensor, holder in list(list_weights(model)):
            if name in self._changed or name in self._left or is_external(tensor):
                write_values(tensor, holder, self._view_array(name))
        return model

    def detach_weights(self) -> tuple[ModelProto, dict[str, np.ndarray]]:
        """Return the model without its large weights, and these by name, as the file has them."""
        model = _copy_with_note(self.model, "")
        written = {*self._changed, *self._left}
        return model, detach_weights(model, written, self.stored_array)

    def save(self, path: Path, note: str) -> None:
        """Write the model to a file, whole or not at all.

        Weights that lay in external data go to `<file name>.data` beside it.

        Args:
            path: the file.
            note: the text of its metadata entry `lady_onnx`.

        Raises:
            OutputError: the file would replace the input's external data, or cannot be written.
        """
        written = {*self._changed, *self._left}
        taken = self.data.locate(self.tensors.values())
        model = _copy_with_note(self.model, note)
        write_model(model, path, written, self._view_array, taken, self.data.check_unchanged)


def _keep_view(graph: Graph, name: str, tensor: TensorProto) -> np.ndarray:
    """Return a weight that lies in no message, the same array each time."""
    if is_external(tensor):
        raw = graph.data.read(tensor, f"{graph.name}: external data of weight '{name}'")
    else:
        raw = graph._left[name]
    view = shape_bytes(tensor, raw)
    if not np.may_share_memory(view, raw):
        view = copy_array(view)
    return graph._views.setdefault(name, view)


def lay_out_weights(graph: Graph) -> None:
    """Have weights that move laid where a copy of a graph has them that is saved, if anywhere.

    See `storage.LaidFile`.
    """
    given = get_laid_file()
    if given is not None:
        external = {n: t for n, t in graph.tensors.items() if is_external(t)}
        given.lay_out(*place_data(external, graph._view_array))


def _copy_with_note(source: ModelProto, note: str) -> ModelProto:
    """Return a copy of a model, without what was left out, with a note in its metadata."""
    model = ModelProto()
    model.CopyFrom(source)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = note
            return model
    model.metadata_props.add(key=METADATA_KEY, value=note)
    return model


class WeightMapping(Mapping[str, np.ndarray]):
    """Weights by name, read whenever they are asked for, so that none of them stays in memory.

    Args:
        names: the names.
        read: returns the weight of a name.
    """

    def __init__(self, names: Collection[str], read: Callable[[str], np.ndarray]):
        self._names, self._read = dict.fromkeys(names), read

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __contains__(self, name: object) -> bool:
        # a weight need not be read for that
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def map_weights(graph: Graph) -> Mapping[str, np.ndarray]:
    """Return the weights of a graph by name, read when they are asked for."""
    return WeightMapping(graph.tensors, graph.array)
