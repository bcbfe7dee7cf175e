"""Running models: the only user of onnxruntime."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from ..errors import LadyError, check_choice, check_whole_number
from ..graph.model import PROTOBUF_LIMIT, Graph
from ..graph.nodes import pair_by_name
from ..graph.shapes import choose_input_shapes
from .axes import list_small_sizes, read_axes
from .judging import HALF_STEP, STEP, Judge
from .judging import OutputDifference as OutputDifference
from .judging import Run as Run
from .judging import Verification as Verification
from .telling import Sample, Source, Traits, make_telling_samples

PICTURE_SIZES = (224, 64, 32, 640, 7)
SEQUENCE_SIZES = (16, 64, 7, 224, 512, 16000)
"""Sizes to try for the symbolic axes of models with pictures as inputs, and of others."""
CANDIDATES = 3
MADE, MADE_MORE = 2, 5
"""So many inputs made to tell for every random one, and so many more: 17 inputs in all where 4 random ones are asked for."""
MOVED_COPIES = 3
"""So many copies of a model with moved weights tell its rounding: one alone may tip to the same side."""
TOLERANCE, HALF_TOLERANCE = 1e-4, 1e-2
"""How large a difference counts as none, relative to the largest output; the other for models in half precision."""
HALF_TYPES = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
PROVIDERS = ("auto", "cpu", "cuda")


def provider(wanted: str = "auto") -> str:
    """The onnxruntime provider for one of `PROVIDERS`: CUDA only where its libraries really load."""
    check_choice("provider", wanted, PROVIDERS)
    if wanted == "cpu":
        return "CPUExecutionProvider"
    if "CUDAExecutionProvider" in ort.get_available_providers():
        if _cuda_loads():
            return "CUDAExecutionProvider"
        why = "its libraries (CUDA, cuDNN) do not load, or there is no device"
    else:
        why = "this onnxruntime was built without it"
    if wanted == "cuda":
        raise LadyError(f"--provider cuda: {why}; install them, or use --provider cpu")
    return "CPUExecutionProvider"


def _cuda_loads() -> bool:
    """Tries the libraries one by one, as onnxruntime would, but quietly."""
    driver = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(driver)
        count = ctypes.c_int()
        if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
            return False
        with _quiet():
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()
            name = (
                "onnxruntime_providers_cuda.dll"
                if os.name == "nt"
                else "libonnxruntime_providers_cuda.so"
            )
            folder = Path(ort.__file__).parent / "capi"
            if os.name != "nt":
                ctypes.CDLL(
                    str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL
                )
            ctypes.CDLL(str(folder / name))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing reaches the terminal, not from C++ either."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    try:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 1)
            os.dup2(null.fileno(), 2)
            yield
    finally:
        for fd, old in zip((1, 2), saved, strict=True):
            os.dup2(old, fd)
            os.close(old)


def open_session(graph: Graph, name: str = "CPUExecutionProvider") -> ort.InferenceSession:
    """An onnxruntime session of a graph as it is in memory, without onnxruntime's own rewriting of weights."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # a quantised graph is run in integers, whose sums do not depend on their order; in floats a rounding may tip over
    integers = any(node.op_type == "QuantizeLinear" for node in graph.model.graph.node)
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = (
        level.ORT_ENABLE_EXTENDED if integers else level.ORT_ENABLE_BASIC
    )
    model = graph.to_model("")
    try:
        if model.ByteSize() > PROTOBUF_LIMIT:
            raise LadyError(f"{graph.name}: over 2 GB; save it, and give the file")
        return ort.InferenceSession(model.SerializeToString(), options, providers=[name])
    except LadyError:
        raise
    except Exception as error:
        raise LadyError(
            f"{graph.name}: onnxruntime cannot load it: {_line(error)}; export it again"
        ) from error


def run_node(
    node: onnx.NodeProto, version: int, operands: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """The first result of a node alone, at a version of the default domain; None where onnxruntime does not run it."""
    kinds = {n: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in operands.items()}
    given = [onnx.helper.make_tensor_value_info(n, kinds[n], a.shape) for n, a in operands.items()]
    graph = onnx.helper.make_graph(
        [node], "node", given, [onnx.ValueInfoProto(name=node.output[0])]
    )
    opsets = [
        onnx.helper.make_opsetid(domain, 1 if domain else version)
        for domain in dict.fromkeys(("", node.domain))
    ]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    try:
        asked = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return np.asarray(asked.run(None, dict(operands))[0])
    except Exception:  # noqa: BLE001 - onnxruntime raises its own kinds
        return None


@functools.cache
def measure_block_channels() -> int | None:
    """How many channels onnxruntime lays together in maps in blocks; None where it has none on this processor."""
    node = onnx.helper.make_node("ReorderInput", ["x"], ["y"], domain="com.microsoft.nchwc")
    found = run_node(node, 20, {"x": np.zeros((1, 4, 1, 1), np.float32)})
    return None if found is None else int(found.shape[1])


SIMPLIFY = """
import sys
import onnxruntime as ort
for source, target, level in zip(*[iter(sys.argv[1:])] * 3):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.optimized_model_filepath = target
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
"""


def simplify_models(reference: Graph, suspect: Graph) -> list[tuple[Graph, Graph]]:
    """The same computations in single precision, as onnxruntime's optimiser writes both: level by level, where it does.

    Constants are computed, BatchNorm is folded where that may be, what does nothing is gone; at the second level what is
    spelled out, as a normalisation in older opsets, is one operator again, if need be onnxruntime's own.
    """
    with tempfile.TemporaryDirectory() as folder:
        sources, jobs = [], []
        for k, graph in enumerate((reference, suspect)):
            model = graph.to_model("")
            _widen(model.graph)
            if model.ByteSize() > PROTOBUF_LIMIT:
                return []
            sources.append(Path(folder) / f"{k}.onnx")
            sources[-1].write_bytes(model.SerializeToString())
        levels = ("ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED")
        targets = [[source.with_suffix(f".{level}.onnx") for source in sources] for level in levels]
        for level, made in zip(levels, targets, strict=True):
            jobs += [
                str(x)
                for source, target in zip(sources, made, strict=True)
                for x in (source, target, level)
            ]
        # the optimiser ends the whole process on some files
        subprocess.run([sys.executable, "-c", SIMPLIFY, *jobs], capture_output=True, check=False)
        found = []
        for one, two in targets:
            if one.exists() and two.exists():
                found.append(
                    (Graph(onnx.load(one), reference.path), Graph(onnx.load(two), suspect.path))
                )
        return found


def _widen(graph: onnx.GraphProto) -> None:
    """Single precision in place of half, in a graph and those inside it."""
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
                _widen(attribute.g)
            elif attribute.name in ("to", "dtype") and attribute.i in HALF_TYPES:
                attribute.i = onnx.TensorProto.FLOAT


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in HALF_TYPES:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(
                onnx.numpy_helper.to_array(tensor).astype(np.float32), tensor.name
            )
        )


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.split("] : ", 1)[-1][:300]


def run_sample(
    model: ort.InferenceSession, graph: Graph, sample: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """The outputs for one sample."""
    try:
        return [_numbers(o) for o in model.run(None, dict(sample))]
    except Exception as error:
        raise LadyError(
            f"{graph.name}: onnxruntime cannot run it: {_line(error)}; give fitting inputs with --data"
        ) from error


def _numbers(output: Any) -> np.ndarray:
    """An output as one array: sequences and maps one after the other, text by its checksums."""
    if isinstance(output, list | dict):
        parts = [
            _numbers(o).ravel() for o in (output if isinstance(output, list) else output.values())
        ]
        return np.concatenate(parts) if parts else np.zeros(0)
    array = np.asarray(output)
    if array.dtype.kind in "OUS":
        return np.array(
            [zlib.crc32(str(text).encode()) for text in array.ravel()], np.uint32
        ).reshape(array.shape)
    return array


def draw_telling_samples(
    graph: Graph, model: ort.InferenceSession, count: int, seed: int
) -> list[dict[str, np.ndarray]]:
    """Random inputs that the model answers to, at the first size of the symbolic axes at which it runs.

    Of three times as many candidates those are kept on which the outputs are largest: a detector that sees
    nothing answers with zeros, and zeros prove nothing.
    """
    return _answered(Source(graph), model, count, seed)


def _answered(
    source: Source, model: ort.InferenceSession, count: int, seed: int
) -> list[dict[str, np.ndarray]]:
    last: LadyError | None = None
    graph = source.graph
    picture = any(len(i.shape) >= 4 for i in model.get_inputs())
    # integers out of the range of tables that are computed may only be told by running
    for source.narrow in (False, True):
        for shapes, _ in choose_input_shapes(graph, PICTURE_SIZES if picture else SEQUENCE_SIZES):
            for name in (i.name for i in model.get_inputs()):
                if name not in shapes:
                    why = f"input '{name}' has no shape, so no random values fit"
                    raise LadyError(f"{graph.name}: {why}; give some with --data")
            candidates = list(source.draw_random(shapes, CANDIDATES * count, seed))
            try:
                answers = [[_size(o) for o in run_sample(model, graph, c)] for c in candidates]
            except LadyError as error:
                last = error
                continue
            sizes_ = np.array(answers)
            score = (sizes_ / np.maximum(sizes_.max(0), 1e-300)).sum(1)
            return [
                candidates[i] for i in sorted(np.argsort(-score, kind="stable")[:count].tolist())
            ]
    assert last is not None
    raise last


def _size(output: np.ndarray) -> float:
    values = output.astype(np.float64).ravel()
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


METRICS = ("accuracy", "mse")


def compute_metric(name: str, output: np.ndarray, labels: np.ndarray) -> float:
    """A task metric of one output [N, ...]: `accuracy` of the largest class by labels [N], or `mse` by its like."""
    wanted = output.shape[:1] if name == "accuracy" else output.shape
    if labels.size != np.prod(wanted) or labels.dtype.kind not in "biuf":
        raise LadyError(
            f"--data: 'labels' has shape {list(labels.shape)}, {name} of this output needs {list(wanted)}"
        )
    if name == "accuracy":
        return float((output.reshape(labels.size, -1).argmax(1) == labels.ravel()).mean())
    return float(np.mean((output.astype(np.float64) - labels.reshape(wanted)) ** 2))


def compare_models(
    a: Graph,
    b: Graph,
    *,
    samples: int = 4,
    seed: int = 0,
    data: Mapping[str, np.ndarray] | None = None,
    metric_name: str | None = None,
    provider_name: str = "auto",
    tolerance: float | None = None,
    part_tolerance: float | None = None,
) -> Verification:
    """Runs both models on the same inputs, the data's or random ones and such as are made to tell; see `Verification`.

    Without data, at most 3 times `samples` and 5 more inputs are run. Sizes of symbolic axes, and values, that neither
    model takes are passed over; what only one of them takes is a difference.

    With `part_tolerance`, each part of an output, all that has one place along one of its axes, is held to that much of its
    own largest value: a large part hides no other.
    """
    check_whole_number("samples", samples, 1)
    check_whole_number("seed", seed)
    pair = _Pair(a, b, provider(provider_name))
    if metric_name is not None and metric_name not in METRICS:
        raise LadyError(f"--metric {metric_name}: unknown; one of {', '.join(METRICS)}")
    if metric_name is not None and (data is None or "labels" not in data):
        raise LadyError(f"--metric {metric_name}: needs 'labels'; give them with --data")
    half = [any(t.data_type in HALF_TYPES for t in graph.tensors.values()) for graph in (a, b)]
    if tolerance is None:
        tolerance = HALF_TOLERANCE if any(half) else TOLERANCE
    judge = Judge(
        pair, tolerance, part_tolerance, HALF_STEP if any(half) else STEP, half[0] != half[1]
    )
    metrics = None
    if data is not None:
        missing = [n for n in pair.names if n not in data]
        if missing:
            raise LadyError(
                f"--data: no array '{missing[0]}'; its keys are the input names {pair.names}, and 'labels'"
            )
        ours, theirs = judge.add_ordinary("data", {n: np.asarray(data[n]) for n in pair.names})
        if "labels" in data:
            metric_name = metric_name or "accuracy"
            metrics = (
                compute_metric(metric_name, ours[0], data["labels"]),
                compute_metric(metric_name, theirs[0], data["labels"]),
            )
    else:
        source = Source(a, b)
        ordinary = _answered(source, pair.first, samples, seed)
        for inputs in ordinary:
            judge.add_ordinary("random", inputs)
        for sample in _made(source, pair, ordinary[0], MADE * samples + MADE_MORE, seed, any(half)):
            judge.add_made(sample)
    outputs, runs = judge.result()
    return Verification(
        equal=all(o.equal for o in outputs),
        max_abs=max(o.max_abs for o in outputs),
        max_rel=max(o.max_rel for o in outputs),
        outputs=outputs,
        samples=len(runs),
        provider=pair.provider,
        metric=metric_name if metrics else None,
        metrics=metrics,
        runs=runs,
    )


FLOAT_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}


def _as(array: np.ndarray, kind: str) -> np.ndarray:
    """Floats in the type that a model takes."""
    return (
        array.astype(FLOAT_TYPES[kind])
        if array.dtype.kind == "f" and kind in FLOAT_TYPES
        else array
    )


def _made(
    source: Source,
    pair: _Pair,
    ordinary: Mapping[str, np.ndarray],
    count: int,
    seed: int,
    half: bool,
) -> list[Sample]:
    """Inputs made to tell, small where the first model runs on small ones."""
    axes = read_axes(source.graph, {n: x.shape for n, x in ordinary.items()})
    *tried, small = list_small_sizes(axes)
    for sizes in tried:
        if pair.run_first(source.make(axes.shapes(sizes), Traits(), seed, 0)) is not None:
            small = sizes
            break
    return make_telling_samples(source, axes, small, count, seed, half)


class _Pair:
    """Two models that are given the same inputs."""

    def __init__(self, a: Graph, b: Graph, provider_name: str):
        self.a, self.b, self.provider = a, b, provider_name
        self.first, self.second = open_session(a, provider_name), open_session(b, provider_name)
        self.names = [i.name for i in self.first.get_inputs()]
        self.outputs = [o.name for o in self.first.get_outputs()]
        taken, given = self.second.get_inputs(), [o.name for o in self.second.get_outputs()]
        if len(self.names) != len(taken) or len(self.outputs) != len(given):
            raise LadyError(
                f"{b.name}: has other inputs or outputs than {a.name}; compare models of one architecture"
            )
        self._copies: list[ort.InferenceSession] | None = None
        self._types = {i.name: i.type for i in taken}
        self._order = [given.index(y) for _, y in pair_by_name(self.outputs, given)]

    def run(self, inputs: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The outputs of both, in the order of the first; raises LadyError where one does not run."""
        return run_sample(self.first, self.a, inputs), self._run_second(inputs)

    def run_first(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray] | None:
        """The outputs of the first, None where it does not run."""
        return _or_none(lambda: run_sample(self.first, self.a, inputs))

    def run_second(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray] | None:
        """The outputs of the second, in the order of the first; None where it does not run."""
        return _or_none(lambda: self._run_second(inputs))

    def run_moved(
        self, inputs: Mapping[str, np.ndarray], step: float
    ) -> list[list[np.ndarray] | None]:
        """The outputs of copies of the first, all weights of which are moved by a random step; None where one does not run.

        Numbers that stand alone stay: what is special about a bound is no rounding. These sessions are made only
        where outputs differ on inputs made to tell alone.
        """
        return [
            _or_none(functools.partial(run_sample, model, self.a, inputs))
            for model in self._moved(step)
        ]

    def _moved(self, step: float) -> list[ort.InferenceSession]:
        if self._copies is None:
            self._copies = self._move_weights(step)
        return self._copies

    def _move_weights(self, step: float) -> list[ort.InferenceSession]:
        generator = np.random.default_rng(0)
        models = []
        for _ in range(MOVED_COPIES):
            twin = self.a.copy()
            for name in twin.tensors:
                array = twin.array(name)
                if array.dtype.kind == "f" and array.size > 1:
                    twin.replace(name, _moved_at_random(generator, array, step))
            models.append(open_session(twin, self.provider))
        return models

    def _run_second(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        pairs = pair_by_name(self.names, list(self._types))
        outputs = run_sample(
            self.second, self.b, {y: _as(inputs[x], self._types[y]) for x, y in pairs}
        )
        return [outputs[k] for k in self._order]


def _moved_at_random(generator: np.random.Generator, array: np.ndarray, step: float) -> np.ndarray:
    """Numbers a random step away to either side; those that would overflow stay."""
    with np.errstate(over="ignore"):
        moved = (array * (1 + step * generator.standard_normal(array.shape))).astype(array.dtype)
    return np.where(np.isfinite(moved), moved, array)


def _or_none(asked: Callable[[], list[np.ndarray]]) -> list[np.ndarray] | None:
    try:
        return asked()
    except LadyError:
        return None


def read_data(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; LadyError where it is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {k: file[k] for k in file.files}
    except (OSError, ValueError, AttributeError) as error:
        raise LadyError(
            f"{path}: not an .npz file of arrays; write one with numpy.savez"
        ) from error
