"""The only loader of ONNX files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto

from ..errors import ArchitectureError, FormatError, LadyError, MissingFileError, to_one_line
from .external import check_stamp, is_external, take_stamp
from .formats import (
    explain_address,
    explain_folder,
    explain_format,
    fetch_model,
    is_address,
    is_mlflow_address,
    name_source,
    suggest_path,
)
from .model import Graph
from .nodes import pair_by_name
from .states import NO_STATES, read_given_states
from .validation import check_attributes, check_names, check_versions
from .wire import split_large_weights

Model = str | os.PathLike[str] | ModelProto | Graph
"""A path, a model in memory, or a graph that is loaded already."""


def load_graph(source: Model, states: Sequence[str] = ()) -> Graph:
    """Return the graph of a file, or of a model in memory.

    Args:
        source: a path, a model, or a graph.
        states: `OUTPUT=INPUT` each: outputs that are fed back as inputs, beside those that their
            names tell; `none` among them where names are not to be believed.

    Raises:
        LadyError: the file is missing, is not ONNX, is cut short, lacks external data, or says two
            things at once; or a state does not fit it.
    """
    graph = _load_source(source)
    if states:
        # a graph that somebody gave is not changed
        graph = graph.copy() if isinstance(source, Graph) else graph
        graph.given_states = tuple(states)
        # a state that does not fit is told before any work is done
        read_given_states(graph.name, graph.model.graph, graph.required_inputs, states)
    return graph


def load_pair(reference: Model, suspect: Model, states: Sequence[str] = ()) -> tuple[Graph, Graph]:
    """Return the graphs of a reference and of a suspect, whose states are those of the reference.

    Args:
        reference: a path, a model, or a graph.
        suspect: another one.
        states: the states of the reference, see `load_graph`.

    Raises:
        LadyError: one cannot be loaded, or a state does not fit it.
    """
    ours, theirs = load_graph(reference, states), load_graph(suspect)
    sides = [
        [[v.name for v in values] for values in (g.model.graph.output, g.required_inputs)]
        for g in (ours, theirs)
    ]
    try:
        outputs, inputs = (dict(pair_by_name(a, b)) for a, b in zip(*sides, strict=True))
    except ArchitectureError:
        # models with other inputs or outputs are told apart elsewhere
        return ours, theirs
    own = [f"{outputs[s.output]}={inputs[s.input]}" for s in ours.states]
    if {f"{s.output}={s.input}" for s in theirs.states} == set(own):
        return ours, theirs
    return ours, load_graph(theirs, [NO_STATES, *own])


def _load_source(source: Model) -> Graph:
    """Return the graph of a source, with the states that its names tell."""
    if isinstance(source, Graph):
        return source
    if isinstance(source, ModelProto):
        check_attributes(source, "<model>")
        graph = Graph(source)
        check_versions(graph)
        check_names(graph)
        return graph
    address = os.fspath(source)
    path = fetch_model(address) if is_mlflow_address(address) else Path(address)
    graph = _parse_file(path)
    check_versions(graph)
    check_names(graph)
    for name, tensor in graph.tensors.items():
        if is_external(tensor):
            # Missing data are found before any work is done.
            graph.array(name)
    return graph


def _parse_file(path: Path) -> Graph:
    """Parse a file; large weights stay in its bytes and are not copied."""
    raw = _read_file(path)
    model = ModelProto()
    explained = explain_format(path)
    try:
        rest, places = split_large_weights(raw)
        model.ParseFromString(rest)
    except DecodeError as error:
        what = explained or "or cut short; export or copy it again"
        raise FormatError(f"{name_source(path)}: not an ONNX file, {what}") from error
    if not model.graph.node or not model.opset_import:
        why = "it holds no graph; give the path of an exported .onnx model"
        what = f"not an ONNX file, {explained}" if explained else f"not an ONNX file: {why}"
        raise FormatError(f"{name_source(path)}: {what}")
    # Before the graph is made: it reads weights out of the attributes of nodes.
    check_attributes(model, name_source(path))
    whole = np.frombuffer(raw, np.uint8)
    left = {name: whole[start:end] for name, (start, end) in places.items()}
    return Graph(model, path, left)


def _read_file(path: Path) -> bytes:
    """Read a file, and say what to give instead where it cannot be read."""
    try:
        stamp = take_stamp(path)
        raw = path.read_bytes()
        check_stamp(path, stamp)
        return raw
    except IsADirectoryError as error:
        raise FormatError(f"{path}: {error.strerror}; {explain_folder(path)}") from error
    except FileNotFoundError as error:
        if is_address(path):
            raise FormatError(explain_address(path)) from error
        what = f"{error.strerror}; {suggest_path(path)}give the path of an .onnx file"
        raise MissingFileError(f"{path}: {what}") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or to_one_line(error)
        raise LadyError(f"{path}: {why}; give the path of an .onnx file") from error
