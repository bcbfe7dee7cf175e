"""Models as onnxruntime's optimiser writes them.

This is for reading only: the optimised forms depend on the version of onnxruntime and are never
written to a result.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper

from ..graph.files import PROTOBUF_LIMIT
from ..graph.model import Graph
from ..vocabulary.types import HALF_TYPES

OPTIMISER_SCRIPT = """
import sys
import onnxruntime as ort
for source, target, level in zip(*[iter(sys.argv[1:])] * 3):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.optimized_model_filepath = target
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
"""
"""Optimises models in a process of its own; its arguments are triples of source, target, level."""

LEVELS = ("ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED")
"""Optimisation levels, the weaker one first."""

TYPE_ATTRIBUTES = ("to", "dtype")
"""Attributes that name an element type."""


def simplify_models(reference: Graph, suspect: Graph) -> list[tuple[Graph, Graph]]:
    """Return the same two computations in single precision as onnxruntime's optimiser writes them.

    Constants are computed, batch norms are folded where that may be, and what does nothing is gone.
    At the second level, what is spelled out, such as a normalisation in older operator sets, is one
    operator again, if need be one of onnxruntime's own.

    Args:
        reference: the first model.
        suspect: the second one.

    Returns:
        One pair for each of `LEVELS` at which both models can be optimised.
    """
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for k, graph in enumerate((reference, suspect)):
            model = graph.to_model("")
            # One of the two may be in half precision, around which the optimiser writes casts.
            _widen_graph(model.graph)
            if model.ByteSize() > PROTOBUF_LIMIT:
                return []
            sources.append(Path(folder) / f"{k}.onnx")
            sources[-1].write_bytes(model.SerializeToString())
        return [
            (
                Graph(onnx.load(one), reference.path, given_states=reference.settled_states),
                Graph(onnx.load(two), suspect.path, given_states=suspect.settled_states),
            )
            for one, two in _optimise_files(sources)
            if one.exists() and two.exists()
        ]


def _optimise_files(sources: Sequence[Path]) -> list[list[Path]]:
    """Optimise files at every level; return by level where the results are, if they could be made.

    The optimiser ends its whole process on some files, so it gets one of its own.
    """
    targets = [[source.with_suffix(f".{level}.onnx") for source in sources] for level in LEVELS]
    jobs = []
    for level, made in zip(LEVELS, targets, strict=True):
        for source, target in zip(sources, made, strict=True):
            jobs += [str(source), str(target), level]
    command = [sys.executable, "-c", OPTIMISER_SCRIPT, *jobs]
    subprocess.run(command, capture_output=True, check=False)
    return targets


def _widen_graph(graph: onnx.GraphProto) -> None:
    """Put single precision in place of half precision, in a graph and in those inside it."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in HALF_TYPES:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen_tensor(attribute.t)
            elif attribute.HasField("g"):
                _widen_graph(attribute.g)
            elif attribute.name in TYPE_ATTRIBUTES and attribute.i in HALF_TYPES:
                attribute.i = onnx.TensorProto.FLOAT


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    """Put single precision in place of half precision in one weight."""
    if tensor.data_type in HALF_TYPES:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
