"""What ONNX operators compute, in PyTorch: those of common image networks and transformers.

Attributes that are not read here are noticed all the same: `pytorch.finetune` compares the outputs
with those of onnxruntime before it trains.

Source: the ONNX specification, opset 13 and later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import Tensor

from lady_onnx.errors import LadyError

Given = Mapping[str, Any]
"""A node's attributes by name, with `training` and the number of its `results`."""


def _pad_axes(x: Tensor, given: Given, value: float = 0.0) -> Tensor:
    """Pad along the axes of space as the attribute `pads` says: all starts, then all ends."""
    if given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise LadyError("padding by itself")
    pads = given.get("pads", [])
    half = len(pads) // 2
    # PyTorch wants the last axis first, and both ends of an axis beside each other.
    turned = [p for k in reversed(range(half)) for p in (pads[k], pads[k + half])]
    return F.pad(x, turned, value=value) if any(turned) else x


def _run_convolution(given: Given, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    run = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[w.ndim]
    strides, dilations = given.get("strides", 1), given.get("dilations", 1)
    return run(_pad_axes(x, given), w, b, strides, 0, dilations, given.get("group", 1))


def _pool_maximum(given: Given, x: Tensor) -> Tensor:
    padded = _pad_axes(x, given, -torch.inf)
    strides, rounds_up = given.get("strides", 1), bool(given.get("ceil_mode", 0))
    return F.max_pool2d(padded, given["kernel_shape"], strides, ceil_mode=rounds_up)


def _pool_average(given: Given, x: Tensor) -> Tensor:
    if any(given.get("pads", ())) and not given.get("count_include_pad", 0):
        raise LadyError("an average beside a padding")
    return F.avg_pool2d(_pad_axes(x, given), given["kernel_shape"], given.get("strides", 1))


def _multiply_matrices(given: Given, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a, b = (x.T if given.get(key) else x for x, key in ((a, "transA"), (b, "transB")))
    product = given.get("alpha", 1.0) * (a @ b)
    return product if c is None else product + given.get("beta", 1.0) * c


def _normalise_batch(
    given: Given, x: Tensor, gain: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    epsilon = given.get("epsilon", 1e-5)
    # In training this writes new statistics into `mean` and `variance`. The momentum of 0.1 is what
    # ONNX calls 0.9, the default.
    return F.batch_norm(x, mean, variance, gain, bias, given["training"], 0.1, epsilon)


def _normalise_layer(given: Given, x: Tensor, gain: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, x.shape[given.get("axis", -1) :], gain, bias, given.get("epsilon", 1e-5))


def _clip_values(
    given: Given, x: Tensor, low: Tensor | None = None, high: Tensor | None = None
) -> Tensor:
    return x.clamp(
        low if low is not None else given.get("min"),
        high if high is not None else given.get("max"),
    )


def _reshape_tensor(given: Given, x: Tensor, shape: Tensor) -> Tensor:
    keeps_zeros = given.get("allowzero")
    sizes = [x.shape[k] if n == 0 and not keeps_zeros else n for k, n in enumerate(shape.tolist())]
    return x.reshape(sizes)


def _slice_tensor(
    given: Given,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    places = range(len(starts)) if axes is None else axes.tolist()
    for k, axis in enumerate(places):
        # Indices in place of a slice: PyTorch knows no negative steps.
        span = slice(int(starts[k]), int(ends[k]), None if steps is None else int(steps[k]))
        x = x.index_select(axis, torch.arange(*span.indices(x.shape[axis])))
    return x


def _gather_rows(given: Given, x: Tensor, index: Tensor) -> Tensor:
    axis = given.get("axis", 0) % x.ndim
    index = torch.where(index < 0, index + x.shape[axis], index)
    taken = x.index_select(axis, index.reshape(-1))
    return taken.reshape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def _choose_axes(given: Given, axes: Tensor | None, rank: int) -> list[int]:
    """Return the axes: an operand since opset 13, an attribute before; all by default."""
    chosen = given.get("axes") if axes is None else axes.tolist()
    return list(range(rank)) if chosen is None else list(chosen)


def _reduce_with(reduce: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return an operator that reduces some axes."""

    def run(given: Given, x: Tensor, axes: Tensor | None = None) -> Tensor:
        keeps = bool(given.get("keepdims", 1))
        return reduce(x, _choose_axes(given, axes, x.ndim), keepdim=keeps)

    return run


def _insert_axes(given: Given, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = _choose_axes(given, axes, 0)
    for axis in sorted(a % (x.ndim + len(chosen)) for a in chosen):
        x = x.unsqueeze(axis)
    return x


def _remove_axes(given: Given, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze([a for a in _choose_axes(given, axes, x.ndim) if x.shape[a] == 1])


def _split_tensor(given: Given, x: Tensor, sizes: Tensor | None = None) -> Sequence[Tensor]:
    axis = given.get("axis", 0)
    if sizes is not None:
        return x.split(sizes.tolist(), axis)
    # Parts of equal length, the last one shorter where that does not come out even (opset 18).
    return x.split(-(-x.shape[axis] // given["results"]), axis)


def _make_constant(given: Given) -> Tensor:
    return torch.from_numpy(np.array(numpy_helper.to_array(given["value"])))


def _fill_shape(given: Given, shape: Tensor) -> Tensor:
    value = numpy_helper.to_array(given["value"]) if "value" in given else np.zeros(1, np.float32)
    return torch.from_numpy(np.full(shape.tolist(), value.reshape(-1)[0], value.dtype))


def _cast_values(given: Given, x: Tensor) -> Tensor:
    # PyTorch has no table from numpy's types to its own, but it converts arrays.
    dtype = helper.tensor_dtype_to_np_dtype(given["to"])
    return x.to(torch.from_numpy(np.zeros(1, dtype)).dtype)


def _divide_tensors(given: Given, a: Tensor, b: Tensor) -> Tensor:
    # ONNX divides whole numbers as C does, towards zero.
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _flatten_axes(given: Given, x: Tensor) -> Tensor:
    return x.reshape(int(np.prod(x.shape[: given.get("axis", 1)])), -1)


def _approximate_sigmoid(given: Given, x: Tensor) -> Tensor:
    return (given.get("alpha", 0.2) * x + given.get("beta", 0.5)).clamp(0, 1)


def _find_maximum(given: Given, *parts: Tensor) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*parts)).amax(0)


def _read_shape(given: Given, x: Tensor) -> Tensor:
    return torch.tensor(x.shape)[given.get("start", 0) : given.get("end")]


def _pad_tensor(
    given: Given, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    mode, along = given.get("mode", b"constant").decode(), _choose_axes(given, axes, x.ndim)
    for axis, before, after in zip(along, pads.tolist(), pads.tolist()[len(along) :], strict=False):
        # fewer than none are cut off
        kept = np.arange(x.shape[axis])[max(-before, 0) : x.shape[axis] - max(-after, 0)]
        more = {"constant_values": -1} if mode == "constant" else {}
        index = torch.from_numpy(np.pad(kept, (max(before, 0), max(after, 0)), mode, **more))
        x = x.index_select(axis, index.clamp(min=0))
        if mode == "constant":
            turned = [-1 if a == axis % x.ndim else 1 for a in range(x.ndim)]
            none = torch.zeros((), dtype=x.dtype) if value is None else value.reshape(())
            x = torch.where((index < 0).reshape(turned), none, x)
    return x


def _divide_with_rest(given: Given, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if given.get("fmod") else torch.remainder(a, b)


def _count_up(given: Given, start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def _ignore_attributes(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operator that is a function of PyTorch and has no attributes."""
    return lambda given, *operands: run(*operands)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": _ignore_attributes(torch.add),
    "And": _ignore_attributes(torch.logical_and),
    "AveragePool": _pool_average,
    "BatchNormalization": _normalise_batch,
    "Cast": _cast_values,
    "Clip": _clip_values,
    "Concat": lambda given, *parts: torch.cat(parts, given["axis"]),
    "Constant": _make_constant,
    "ConstantOfShape": _fill_shape,
    "Conv": _run_convolution,
    "Div": _divide_tensors,
    "Dropout": lambda given, x, ratio=0.5, mode=None: F.dropout(x, float(ratio), given["training"]),
    "Equal": _ignore_attributes(torch.eq),
    "Erf": _ignore_attributes(torch.erf),
    "Exp": _ignore_attributes(torch.exp),
    "Expand": lambda given, x, shape: x.expand(torch.broadcast_shapes(x.shape, shape.tolist())),
    "Flatten": _flatten_axes,
    "Gather": _gather_rows,
    "Gelu": lambda given, x: F.gelu(x, approximate=given.get("approximate", b"none").decode()),
    "Gemm": _multiply_matrices,
    "GlobalAveragePool": lambda given, x: x.mean(list(range(2, x.ndim)), keepdim=True),
    "Greater": _ignore_attributes(torch.gt),
    "GreaterOrEqual": _ignore_attributes(torch.ge),
    "HardSigmoid": _approximate_sigmoid,
    "HardSwish": _ignore_attributes(F.hardswish),
    "Identity": _ignore_attributes(torch.clone),
    "IsNaN": _ignore_attributes(torch.isnan),
    "LayerNormalization": _normalise_layer,
    "Less": _ignore_attributes(torch.lt),
    "LessOrEqual": _ignore_attributes(torch.le),
    "LeakyRelu": lambda given, x: F.leaky_relu(x, given.get("alpha", 0.01)),
    "MatMul": _ignore_attributes(torch.matmul),
    "Max": _find_maximum,
    "MaxPool": _pool_maximum,
    "Mod": _divide_with_rest,
    "Mul": _ignore_attributes(torch.mul),
    "Neg": _ignore_attributes(torch.neg),
    "Not": _ignore_attributes(torch.logical_not),
    "Or": _ignore_attributes(torch.logical_or),
    "Pad": _pad_tensor,
    "Pow": _ignore_attributes(torch.pow),
    "Range": _count_up,
    "Reciprocal": _ignore_attributes(torch.reciprocal),
    "ReduceMean": _reduce_with(torch.mean),
    "ReduceSum": _reduce_with(torch.sum),
    "Relu": _ignore_attributes(torch.relu),
    "Reshape": _reshape_tensor,
    "Shape": _read_shape,
    "Sigmoid": _ignore_attributes(torch.sigmoid),
    "Slice": _slice_tensor,
    "Softmax": lambda given, x: x.softmax(given.get("axis", -1)),
    "Split": _split_tensor,
    "Sqrt": _ignore_attributes(torch.sqrt),
    "Squeeze": _remove_axes,
    "Sub": _ignore_attributes(torch.sub),
    "Tanh": _ignore_attributes(torch.tanh),
    "Transpose": lambda given, x: x.permute(given.get("perm", list(reversed(range(x.ndim))))),
    "Unsqueeze": _insert_axes,
    "Where": _ignore_attributes(torch.where),
}
"""What each operator of the default domain computes, of its attributes and its operands."""
