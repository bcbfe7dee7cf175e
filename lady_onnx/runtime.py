"""Running models: the only user of onnxruntime."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from .errors import LadyError, natural, one_of
from .graph import PROTOBUF_LIMIT, Graph, by_name, input_choices

PICTURE_SIZES = (224, 64, 32, 640, 7)
SEQUENCE_SIZES = (16, 64, 7, 224, 512, 16000)
"""Sizes to try for the symbolic axes of models with pictures as inputs, and of others."""
CANDIDATES = 3
GRAINS = ((1, 1.0), (4, 3.0), (2, 3.0), (8, 1.0))
"""Size of the blocks of a random picture, in pixels, and its standard deviation; one pair a sample."""
TOLERANCE, HALF_TOLERANCE = 1e-4, 1e-2
"""How large a difference counts as none, relative to the largest output; the other for models in half precision."""
HALF = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


@dataclass(frozen=True)
class OutputDifference:
    """How one output of two models differs.

    Attributes:
        name: the output's name in the first model.
        shape: its shape on the last sample.
        max_abs: the largest absolute difference over all samples.
        max_rel: the same, divided by the largest absolute value of the first model's output over all samples.
        equal: same shape, all finite, and `max_rel` within the tolerance.
    """

    name: str
    shape: tuple[int, ...]
    max_abs: float
    max_rel: float
    equal: bool


@dataclass(frozen=True)
class Verification:
    """Whether two models give the same outputs.

    Attributes:
        equal: all outputs are.
        max_abs, max_rel: the largest over the outputs.
        outputs: one entry an output.
        samples: how many inputs were run.
        provider: the onnxruntime execution provider.
        metric: the name of the task metric, None without labels.
        metrics: the metric of the first and of the second model, None without labels.
    """

    equal: bool
    max_abs: float
    max_rel: float
    outputs: tuple[OutputDifference, ...]
    samples: int
    provider: str
    metric: str | None = None
    metrics: tuple[float, float] | None = None


PROVIDERS = ("auto", "cpu", "cuda")


def provider(wanted: str = "auto") -> str:
    """The onnxruntime provider for one of `PROVIDERS`: CUDA only where its libraries really load."""
    one_of("provider", wanted, PROVIDERS)
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
            name = "onnxruntime_providers_cuda.dll" if os.name == "nt" else "libonnxruntime_providers_cuda.so"
            folder = Path(ort.__file__).parent / "capi"
            if os.name != "nt":
                ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
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


def session(graph: Graph, name: str = "CPUExecutionProvider") -> ort.InferenceSession:
    """An onnxruntime session of a graph as it is in memory, without onnxruntime's own rewriting of weights."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # a quantised graph is run in integers, whose sums do not depend on their order; in floats a rounding may tip over
    integers = any(node.op_type == "QuantizeLinear" for node in graph.model.graph.node)
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_EXTENDED if integers else level.ORT_ENABLE_BASIC
    model = graph.to_model("")
    try:
        if model.ByteSize() > PROTOBUF_LIMIT:
            raise LadyError(f"{graph.name}: over 2 GB; save it, and give the file")
        return ort.InferenceSession(model.SerializeToString(), options, providers=[name])
    except LadyError:
        raise
    except Exception as error:
        raise LadyError(f"{graph.name}: onnxruntime cannot load it: {_line(error)}; export it again") from error


def simplified(graph: Graph, fused: bool = False) -> Graph:
    """The same computation in single precision, as onnxruntime's optimiser writes it.

    Constants are computed, BatchNorm is folded where that may be, what does nothing is gone; `fused`, what is spelled
    out, as a normalisation in older opsets, is one operator again, if need be onnxruntime's own.
    """
    model = graph.to_model("")
    _widen(model.graph)
    if model.ByteSize() > PROTOBUF_LIMIT:
        raise LadyError(f"{graph.name}: over 2 GB; only a copy written node by node like the reference can be compared")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_EXTENDED if fused else level.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "simplified.onnx")
        try:
            ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise LadyError(f"{graph.name}: onnxruntime cannot load it: {_line(error)}; export it again") from error
        return Graph(onnx.load(options.optimized_model_filepath), graph.path)


def _widen(graph: onnx.GraphProto) -> None:
    """Single precision in place of half, in a graph and those inside it."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in HALF:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen_tensor(attribute.t)
            elif attribute.HasField("g"):
                _widen(attribute.g)
            elif attribute.name in ("to", "dtype") and attribute.i in HALF:
                attribute.i = onnx.TensorProto.FLOAT


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in HALF:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.split("] : ", 1)[-1][:300]


def samples(graph: Graph, shapes: Mapping[str, tuple[int, ...]], count: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Seeded random inputs: normal floats, integers that index every table they reach, true booleans.

    Shapes are those given; dtypes are the model's. Pictures come at several grains and contrasts, since on
    white noise alone many a detector's outputs are all zero, and nothing could be compared.
    """
    generator = np.random.default_rng(seed)
    limits = _limits(graph)
    for number in range(count):
        grain, contrast = GRAINS[number % len(GRAINS)]
        sample = {}
        for value in graph.model.graph.input:
            if value.name not in shapes:
                continue
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            shape = shapes[value.name]
            if dtype.kind in "iu":
                if "mask" in value.name:
                    sample[value.name] = np.ones(shape, dtype)
                else:
                    sample[value.name] = generator.integers(0, limits.get(value.name, 2), shape).astype(dtype)
            elif dtype.kind == "b":
                sample[value.name] = np.ones(shape, dtype)
            else:
                sample[value.name] = _noise(generator, shape, grain, contrast).astype(dtype)
        yield sample


def _noise(generator: np.random.Generator, shape: tuple[int, ...], grain: int, contrast: float) -> np.ndarray:
    noise = generator.standard_normal(shape)
    if len(shape) < 4:
        return noise
    for axis in np.argsort(shape)[-2:]:
        size = shape[axis]
        noise = noise.take(np.arange(size) // grain, axis)
    return contrast * noise


def _limits(graph: Graph) -> dict[str, int]:
    """For every integer input the number of rows of the smallest table that it indexes."""
    source = {i.name: i.name for i in graph.model.graph.input}
    limits: dict[str, int] = {}
    for node in graph.nodes:
        if node.op_type in ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten") and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
        if node.op_type == "Gather" and node.input[1] in source and node.input[0] in graph.tensors:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            name = source[node.input[1]]
            rows = graph.shape(node.input[0])[axis]
            limits[name] = min(rows, limits.get(name, rows))
    return limits


def run(model: ort.InferenceSession, graph: Graph, sample: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs for one sample."""
    try:
        return [_numbers(o) for o in model.run(None, dict(sample))]
    except Exception as error:
        raise LadyError(f"{graph.name}: onnxruntime cannot run it: {_line(error)}; give fitting inputs with --data") from error


def _numbers(output: Any) -> np.ndarray:
    """An output as one array: sequences and maps one after the other, text by its checksums."""
    if isinstance(output, list | dict):
        parts = [_numbers(o).ravel() for o in (output if isinstance(output, list) else output.values())]
        return np.concatenate(parts) if parts else np.zeros(0)
    array = np.asarray(output)
    if array.dtype.kind in "OUS":
        return np.array([zlib.crc32(str(text).encode()) for text in array.ravel()], np.uint32).reshape(array.shape)
    return array


def telling_samples(graph: Graph, model: ort.InferenceSession, count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Random inputs that the model answers to, at the first size of the symbolic axes at which it runs.

    Of three times as many candidates those are kept on which the outputs are largest: a detector that sees
    nothing answers with zeros, and zeros prove nothing.
    """
    last: LadyError | None = None
    picture = any(len(i.shape) >= 4 for i in model.get_inputs())
    for shapes, _ in input_choices(graph, PICTURE_SIZES if picture else SEQUENCE_SIZES):
        for name in (i.name for i in model.get_inputs()):
            if name not in shapes:
                raise LadyError(f"{graph.name}: input '{name}' has no shape, so no random values fit; give some with --data")
        candidates = list(samples(graph, shapes, CANDIDATES * count, seed))
        try:
            answers = [[_size(o) for o in run(model, graph, c)] for c in candidates]
        except LadyError as error:
            last = error
            continue
        sizes_ = np.array(answers)
        score = (sizes_ / np.maximum(sizes_.max(0), 1e-300)).sum(1)
        return [candidates[i] for i in sorted(np.argsort(-score, kind="stable")[:count].tolist())]
    assert last is not None
    raise last


def _size(output: np.ndarray) -> float:
    values = output.astype(np.float64).ravel()
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


METRICS = ("accuracy", "mse")


def metric(name: str, output: np.ndarray, labels: np.ndarray) -> float:
    """A task metric of one output [N, ...]: `accuracy` of the largest class by labels [N], or `mse` by its like."""
    wanted = output.shape[:1] if name == "accuracy" else output.shape
    if labels.size != np.prod(wanted) or labels.dtype.kind not in "biuf":
        raise LadyError(f"--data: 'labels' has shape {list(labels.shape)}, {name} of this output needs {list(wanted)}")
    if name == "accuracy":
        return float((output.reshape(labels.size, -1).argmax(1) == labels.ravel()).mean())
    return float(np.mean((output.astype(np.float64) - labels.reshape(wanted)) ** 2))


def compare(
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
    """Runs both models on the same inputs, the data's or random ones; see `Verification`.

    With `part_tolerance`, each part of an output, all that has one place along one of its axes, is held to that much of its
    own largest value: a large part hides no other.
    """
    natural("samples", samples, 1)
    natural("seed", seed)
    chosen = provider(provider_name)
    first, second = session(a, chosen), session(b, chosen)
    names = [i.name for i in first.get_inputs()]
    if len(names) != len(second.get_inputs()) or len(first.get_outputs()) != len(second.get_outputs()):
        raise LadyError(f"{b.name}: has other inputs or outputs than {a.name}; compare models of one architecture")
    labels = None
    if metric_name is not None and metric_name not in METRICS:
        raise LadyError(f"--metric {metric_name}: unknown; one of {', '.join(METRICS)}")
    if metric_name is not None and (data is None or "labels" not in data):
        raise LadyError(f"--metric {metric_name}: needs 'labels'; give them with --data")
    if data is not None:
        labels = data.get("labels")
        missing = [n for n in names if n not in data]
        if missing:
            raise LadyError(f"--data: no array '{missing[0]}'; its keys are the input names {names}, and 'labels'")
        inputs = [{n: np.asarray(data[n]) for n in names}]
    else:
        inputs = telling_samples(a, first, samples, seed)
    if tolerance is None:
        half = any(t.data_type in HALF for graph in (a, b) for t in graph.tensors.values())
        tolerance = HALF_TOLERANCE if half else TOLERANCE
    worst = [_Worst(o.name, tolerance, part_tolerance) for o in first.get_outputs()]
    metrics = None
    for sample in inputs:
        ours = run(first, a, sample)
        taken = {i.name: i.type for i in second.get_inputs()}
        theirs = run(second, b, {y: _as(sample[x], taken[y]) for x, y in by_name(names, list(taken))})
        order = [o.name for o in second.get_outputs()]
        theirs = [theirs[order.index(y)] for _, y in by_name([o.name for o in first.get_outputs()], order)]
        for one, x, y in zip(worst, ours, theirs, strict=True):
            one.add(x, y)
        if labels is not None:
            metric_name = metric_name or "accuracy"
            metrics = (metric(metric_name, ours[0], labels), metric(metric_name, theirs[0], labels))
    outputs = tuple(one.result() for one in worst)
    return Verification(
        equal=all(o.equal for o in outputs),
        max_abs=max(o.max_abs for o in outputs),
        max_rel=max(o.max_rel for o in outputs),
        outputs=outputs,
        samples=len(inputs),
        provider=chosen,
        metric=metric_name if metrics else None,
        metrics=metrics,
    )


FLOAT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def _as(array: np.ndarray, kind: str) -> np.ndarray:
    """Floats in the type that a model takes."""
    return array.astype(FLOAT_TYPES[kind]) if array.dtype.kind == "f" and kind in FLOAT_TYPES else array


@dataclass
class _Worst:
    """The largest difference of one output so far."""

    name: str
    limit: float
    part_limit: float | None
    shape: tuple[int, ...] = ()
    parted: bool = False
    difference: float = 0.0
    scale: float = 0.0
    finite: bool = True

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        self.shape = x.shape
        if x.shape != y.shape:
            self.difference, self.finite = float("inf"), False
            return
        x, y = x.astype(np.float64), y.astype(np.float64)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            self.finite = False
            if not np.array_equal(x, y, equal_nan=True):
                self.difference = float("inf")
            return
        if x.size:
            self.difference = max(self.difference, float(np.abs(x - y).max()))
            self.scale = max(self.scale, float(np.abs(x).max()))
            if self.part_limit is not None:
                self.parted |= bool((np.abs(x - y) > self.part_limit * _parts(np.maximum(np.abs(x), np.abs(y)))).any())

    def result(self) -> OutputDifference:
        relative = self.difference / self.scale if self.scale else 0.0 if self.difference == 0 else float("inf")
        equal = self.finite and relative <= self.limit and not self.parted
        return OutputDifference(self.name, self.shape, self.difference, relative, equal)


def _parts(sizes: np.ndarray) -> np.ndarray:
    """By each element the largest value of the smallest part that it lies in: all that has its place along one axis."""
    found = np.full(sizes.shape, sizes.max())
    for axis in range(sizes.ndim):
        if sizes.shape[axis] < sizes.size:
            others = tuple(a for a in range(sizes.ndim) if a != axis)
            found = np.minimum(found, sizes.max(axis=others, keepdims=True))
    return found


def read_data(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; LadyError where it is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {k: file[k] for k in file.files}
    except (OSError, ValueError, AttributeError) as error:
        raise LadyError(f"{path}: not an .npz file of arrays; write one with numpy.savez") from error
