"""Sessions of onnxruntime: opening them, and running a model or a single node.

Which inputs are given is decided elsewhere (`sampling`, `telling`), and so is what a difference of
outputs means (`judging`).
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ..errors import ExecutionError, MissingFileError, to_one_line
from ..graph.model import Graph
from ..vocabulary.structure import QUANTIZE_LINEAR, REORDER_INPUT
from .installation import load_onnxruntime
from .providers import CPU_PROVIDER

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

SILENT = 4
"""onnxruntime's level of messages at which only fatal errors are shown."""
MAX_MESSAGE_LENGTH = 300
"""Characters that are kept of onnxruntime's messages, which may hold whole graphs."""
SINGLE_NODE_IR_VERSION = 8
"""The version of the file format of models that are made of a single node."""
BLOCK_PROBE_OPSET = 20
"""The operator set of the model that asks for onnxruntime's block size.

Any set that the installed onnxruntime knows would do.
"""


def _make_options(level: str) -> SessionOptions:
    """Return silent session options at a graph optimisation level, such as `ORT_ENABLE_BASIC`."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = SILENT
    # Threads that wait in a busy loop take a core from whatever else runs on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    return options


def open_session(
    graph: Graph, provider: str = CPU_PROVIDER, custom_ops: Sequence[str] = ()
) -> InferenceSession:
    """Open a session of a graph as it is in memory, without onnxruntime's rewriting of weights.

    Args:
        graph: the model, with the weights that were replaced in it.
        provider: onnxruntime's name of the execution provider.
        custom_ops: paths of libraries with kernels of operators that onnxruntime does not have.

    Raises:
        LadyError: a library does not load, the model is too large to be passed in memory, or
            onnxruntime does not load it.
    """
    # A quantised graph is run in integers, whose sums do not depend on their order. In floats, a
    # rounding may tip over.
    has_integers = any(node.op_type == QUANTIZE_LINEAR for node in graph.model.graph.node)
    options = _make_options("ORT_ENABLE_EXTENDED" if has_integers else "ORT_ENABLE_BASIC")
    _register_libraries(options, custom_ops)
    model, weights = graph.detach_weights()
    # Kernels would keep copies of the weights, in an order of their own. With weights of four bits
    # some would round operands to integers then, which another order of a sum tips over.
    options.add_session_config_entry("session.disable_prepacking", "1")
    ort = load_onnxruntime()
    make = ort.OrtValue.ortvalue_from_numpy_with_onnx_type
    try:
        held = [make(array, graph.tensors[name].data_type) for name, array in weights.items()]
        # The first call gives what the model lacks, for the optimiser to look at. By the second one
        # the session reads the weights where they are, in mapped files for example, and not a copy.
        options.add_external_initializers(list(weights), held)
        for name, value in zip(weights, held, strict=True):
            options.add_initializer(name, value)
        session = ort.InferenceSession(model.SerializeToString(), options, providers=[provider])
        # it holds on to them as long as it lives
        session.lady_weights = weights, held
        return session
    # onnxruntime raises its own kinds of exceptions, which have no class in common but this.
    except Exception as error:
        raise ExecutionError(
            f"{graph.name}: onnxruntime cannot load it: {_shorten_error(error)}; export it again"
        ) from error


def check_libraries(paths: Sequence[str]) -> None:
    """Check that libraries of operators are there, also where nothing need be run.

    Raises:
        MissingFileError: one is not.
    """
    for path in paths:
        if not Path(path).is_file():
            raise MissingFileError(f"{path}: no such file; give a library of operators")


def _register_libraries(options: SessionOptions, paths: Sequence[str]) -> None:
    """Give a session the libraries with kernels of other operators."""
    check_libraries(paths)
    for path in paths:
        try:
            options.register_custom_ops_library(str(path))
        except Exception as error:
            what = f"no library of operators for onnxruntime: {_shorten_error(error)}"
            raise ExecutionError(f"{path}: {what}; give one built for this version") from error


def run_sample(
    session: InferenceSession, graph: Graph, sample: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """Run a session on one sample.

    Args:
        session: a session of `graph`.
        graph: the model, for messages.
        sample: the inputs by name.

    Returns:
        The outputs in the order of the graph. Sequences and maps are joined to one array; text is
        replaced by its checksums.

    Raises:
        ExecutionError: onnxruntime does not run the model on this sample.
    """
    try:
        return [_to_array(output) for output in session.run(None, dict(sample))]
    except Exception as error:
        what = f"onnxruntime cannot run it: {_shorten_error(error)}"
        raise ExecutionError(f"{graph.name}: {what}; give fitting inputs with --data") from error


def _to_array(output: Any) -> np.ndarray:
    """Return an output as one array: sequences and maps joined, text as its checksums."""
    if isinstance(output, list | dict):
        parts = output if isinstance(output, list) else output.values()
        arrays = [_to_array(part).ravel() for part in parts]
        return np.concatenate(arrays) if arrays else np.zeros(0)
    array = np.asarray(output)
    # Text has no differences that could be measured. Different texts give different numbers.
    if array.dtype.kind in "OUS":
        checksums = [zlib.crc32(str(text).encode()) for text in array.ravel()]
        return np.array(checksums, np.uint32).reshape(array.shape)
    return array


def _shorten_error(error: Exception) -> str:
    """Return onnxruntime's message in one line of limited length, without its prefix."""
    return to_one_line(error).split("] : ", 1)[-1][:MAX_MESSAGE_LENGTH]


def run_node(
    node: onnx.NodeProto, opset: int, operands: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """Run one node alone, without optimisation and in one thread.

    Args:
        node: the node.
        opset: the version of the default domain.
        operands: the node's operands by name.

    Returns:
        The first result, or None where onnxruntime does not run the node.
    """
    types = {n: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in operands.items()}
    given = [onnx.helper.make_tensor_value_info(n, types[n], a.shape) for n, a in operands.items()]
    result = onnx.ValueInfoProto(name=node.output[0])
    graph = onnx.helper.make_graph([node], "node", given, [result])
    opsets = [
        onnx.helper.make_opsetid(domain, 1 if domain else opset)
        for domain in dict.fromkeys(("", node.domain))
    ]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=SINGLE_NODE_IR_VERSION)
    options = _make_options("ORT_DISABLE_ALL")
    options.intra_op_num_threads = 1
    ort = load_onnxruntime()
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=[CPU_PROVIDER])
        return np.asarray(session.run(None, dict(operands))[0])
    except Exception:  # noqa: BLE001 - onnxruntime raises its own kinds
        return None


@functools.cache
def measure_block_channels() -> int | None:
    """Return the number of channels that onnxruntime lays together in maps in blocks.

    None where it has no such layout on this processor.
    """
    # The operator takes channels in fours. It fills four up to one block, whose size is the answer.
    node = onnx.helper.make_node(REORDER_INPUT, ["x"], ["y"], domain="com.microsoft.nchwc")
    found = run_node(node, BLOCK_PROBE_OPSET, {"x": np.zeros((1, 4, 1, 1), np.float32)})
    return None if found is None else int(found.shape[1])
