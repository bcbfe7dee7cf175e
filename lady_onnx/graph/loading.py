"""The only loader of ONNX files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from ..errors import LadyError, to_one_line
from . import wire
from .model import Graph
from .validation import check_attributes, check_names, check_versions


def load_graph(source: str | os.PathLike[str] | ModelProto | Graph) -> Graph:
    """The graph of a file or of a model in memory.

    Raises LadyError where the file is missing, is not ONNX, is cut short, or misses external data.
    """
    if isinstance(source, Graph):
        return source
    if isinstance(source, ModelProto):
        check_attributes(source, "<model>")
        graph = Graph(source)
        check_versions(graph)
        check_names(graph)
        return graph
    path = Path(source)
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or to_one_line(error)
        raise LadyError(f"{path}: {why}; give the path of an .onnx file") from error
    model = ModelProto()
    try:
        rest, places = wire.split_large_weights(raw)
        model.ParseFromString(rest)
    except DecodeError as error:
        raise LadyError(
            f"{path}: not an ONNX file, or cut short; export or copy it again"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise LadyError(
            f"{path}: not an ONNX file: it holds no graph; give the path of an exported .onnx model"
        )
    check_attributes(model, str(path))
    whole = np.frombuffer(raw, np.uint8)
    graph = Graph(model, path, {name: whole[start:end] for name, (start, end) in places.items()})
    check_versions(graph)
    check_names(graph)
    for name, tensor in graph.tensors.items():
        if tensor.data_location == TensorProto.EXTERNAL:
            graph.array(name)
    return graph
