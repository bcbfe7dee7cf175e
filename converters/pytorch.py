"""ONNX graphs in PyTorch: to go on training a model of which nothing but the file is left.

Needs the extra `torch`. The operators of common image networks and transformers are known (`OPERATORS`); the graph stays
as it is, and what was learned goes back into its weights.

Source of the operators' meaning: the ONNX specification, opset 13 and later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import NodeProto, helper, numpy_helper
from torch import Tensor

from lady_onnx.errors import LadyError
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.graph.nodes import describe_node, read_attributes
from lady_onnx.numerics import is_float_array
from lady_onnx.pipeline.attacks import Attacked
from lady_onnx.pipeline.permuting import Model, find_groups
from lady_onnx.runtime.sessions import open_session, run_sample

RATE = 1e-3
"""Of the gradient descent: a tenth of what such networks are usually trained with, or less."""
BATCH = 32
SHOWN = 2
"""So many samples show that both compute the same, where the model does not say how many it takes."""
NEAR = 1e-3
"""How near their outputs are, in units of the largest."""
Given = Mapping[str, Any]


def _padded(x: Tensor, given: Given, value: float = 0.0) -> Tensor:
    if given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise LadyError("padding by itself")
    pads = given.get("pads", [])
    half = len(pads) // 2
    turned = [p for k in reversed(range(half)) for p in (pads[k], pads[k + half])]
    return F.pad(x, turned, value=value) if any(turned) else x


def _conv(given: Given, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    run = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[w.ndim]
    strides, dilations = given.get("strides", 1), given.get("dilations", 1)
    return run(_padded(x, given), w, b, strides, 0, dilations, given.get("group", 1))


def _max_pool(given: Given, x: Tensor) -> Tensor:
    x = _padded(x, given, -torch.inf)
    return F.max_pool2d(
        x, given["kernel_shape"], given.get("strides", 1), ceil_mode=bool(given.get("ceil_mode", 0))
    )


def _average_pool(given: Given, x: Tensor) -> Tensor:
    if any(given.get("pads", ())) and not given.get("count_include_pad", 0):
        raise LadyError("an average beside a padding")
    return F.avg_pool2d(_padded(x, given), given["kernel_shape"], given.get("strides", 1))


def _gemm(given: Given, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a, b = (x.T if given.get(key) else x for x, key in ((a, "transA"), (b, "transB")))
    product = given.get("alpha", 1.0) * (a @ b)
    return product if c is None else product + given.get("beta", 1.0) * c


def _batch_norm(
    given: Given, x: Tensor, gain: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    return F.batch_norm(
        x, mean, variance, gain, bias, given["training"], 0.1, given.get("epsilon", 1e-5)
    )


def _layer_norm(given: Given, x: Tensor, gain: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, x.shape[given.get("axis", -1) :], gain, bias, given.get("epsilon", 1e-5))


def _clip(given: Given, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    ends = (
        low if low is not None else given.get("min"),
        high if high is not None else given.get("max"),
    )
    return x.clamp(*ends)


def _reshape(given: Given, x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape(
        [
            x.shape[k] if n == 0 and not given.get("allowzero") else n
            for k, n in enumerate(shape.tolist())
        ]
    )


def _slice(
    given: Given,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    places = range(len(starts)) if axes is None else axes.tolist()
    for k, axis in enumerate(places):
        span = slice(int(starts[k]), int(ends[k]), None if steps is None else int(steps[k]))
        x = x.index_select(axis, torch.arange(*span.indices(x.shape[axis])))
    return x


def _gather(given: Given, x: Tensor, index: Tensor) -> Tensor:
    axis = given.get("axis", 0) % x.ndim
    index = torch.where(index < 0, index + x.shape[axis], index)
    taken = x.index_select(axis, index.reshape(-1))
    return taken.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _axes(given: Given, axes: Tensor | None, rank: int) -> list[int]:
    chosen = given.get("axes") if axes is None else axes.tolist()
    return list(range(rank)) if chosen is None else list(chosen)


def _reduced(how: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(given: Given, x: Tensor, axes: Tensor | None = None) -> Tensor:
        return how(x, _axes(given, axes, x.ndim), keepdim=bool(given.get("keepdims", 1)))

    return run


def _unsqueeze(given: Given, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = _axes(given, axes, 0)
    for axis in sorted(a % (x.ndim + len(chosen)) for a in chosen):
        x = x.unsqueeze(axis)
    return x


def _squeeze(given: Given, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze([a for a in _axes(given, axes, x.ndim) if x.shape[a] == 1])


def _split(given: Given, x: Tensor, sizes: Tensor | None = None) -> Sequence[Tensor]:
    axis = given.get("axis", 0)
    if sizes is not None:
        return x.split(sizes.tolist(), axis)
    return x.split(-(-x.shape[axis] // given["results"]), axis)


def _constant(given: Given) -> Tensor:
    return torch.from_numpy(np.array(numpy_helper.to_array(given["value"])))


def _filled(given: Given, shape: Tensor) -> Tensor:
    value = numpy_helper.to_array(given["value"]) if "value" in given else np.zeros(1, np.float32)
    return torch.from_numpy(np.full(shape.tolist(), value.reshape(-1)[0], value.dtype))


def _cast(given: Given, x: Tensor) -> Tensor:
    return x.to(torch.from_numpy(np.zeros(1, helper.tensor_dtype_to_np_dtype(given["to"]))).dtype)


def _divided(given: Given, a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _plain(run: Callable[..., Any]) -> Callable[..., Any]:
    return lambda given, *operands: run(*operands)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": _plain(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda given, *parts: torch.cat(parts, given["axis"]),
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Conv": _conv,
    "Div": _divided,
    "Dropout": lambda given, x, ratio=0.5, mode=None: F.dropout(x, float(ratio), given["training"]),
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Expand": lambda given, x, shape: x.expand(torch.broadcast_shapes(x.shape, shape.tolist())),
    "Flatten": lambda given, x: x.reshape(int(np.prod(x.shape[: given.get("axis", 1)])), -1),
    "Gather": _gather,
    "Gelu": lambda given, x: F.gelu(x, approximate=given.get("approximate", b"none").decode()),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda given, x: x.mean(list(range(2, x.ndim)), keepdim=True),
    "HardSigmoid": lambda given, x: (given.get("alpha", 0.2) * x + given.get("beta", 0.5)).clamp(
        0, 1
    ),
    "HardSwish": _plain(F.hardswish),
    "Identity": _plain(torch.clone),
    "IsNaN": _plain(torch.isnan),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda given, x: F.leaky_relu(x, given.get("alpha", 0.01)),
    "MatMul": _plain(torch.matmul),
    "Max": lambda given, *parts: torch.stack(torch.broadcast_tensors(*parts)).amax(0),
    "MaxPool": _max_pool,
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Pow": _plain(torch.pow),
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Shape": lambda given, x: torch.tensor(x.shape)[given.get("start", 0) : given.get("end")],
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda given, x: x.softmax(given.get("axis", -1)),
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Transpose": lambda given, x: x.permute(given.get("perm", list(reversed(range(x.ndim))))),
    "Unsqueeze": _unsqueeze,
    "Where": _plain(torch.where),
}
"""What each operator computes: of its attributes by name, with `training` and the number of its `results`, and its operands."""


class Network(torch.nn.Module):
    """An ONNX graph as a PyTorch module; in training batch norms take the statistics of the batch, and learn those of all.

    Args:
        graph: the graph.
        learned: the names of the weights that are parameters; all others stay as they are, but for batch statistics.

    Raises LadyError for an operator that is not in `OPERATORS`, with its node.
    """

    def __init__(self, graph: Graph, learned: Sequence[str]):
        super().__init__()
        for node in graph.nodes:
            if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
                raise LadyError(
                    f"{graph.name}: node {describe_node(node)}: PyTorch is not told what {node.op_type} computes"
                )
        self.graph = graph
        self.weights = {n: torch.from_numpy(np.array(graph.array(n))) for n in graph.tensors}
        self.learned = {n: torch.nn.Parameter(self.weights[n]) for n in learned}
        # names of weights have dots, which names of parameters may not
        self.list = torch.nn.ParameterList(self.learned.values())

    def forward(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """The graph's outputs for inputs by name."""
        found: dict[str, Tensor | None] = {**self.weights, **self.learned, **inputs, "": None}
        for node in self.graph.nodes:
            made = self._run(node, [found[name] for name in node.input])
            found.update(
                zip(node.output, [made] if isinstance(made, Tensor) else made, strict=False)
            )
        return [y for o in self.graph.model.graph.output if (y := found[o.name]) is not None]

    def _run(self, node: NodeProto, operands: list[Tensor | None]) -> Any:
        try:
            given = {
                **read_attributes(node),
                "training": self.training,
                "results": len(node.output),
            }
            return OPERATORS[node.op_type](given, *operands)
        except (LadyError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise LadyError(
                f"{self.graph.name}: node {describe_node(node)}: {str(error).splitlines()[0]}"
            ) from error


def _compare(net: Network, samples: Mapping[str, np.ndarray]) -> None:
    """Raises LadyError where PyTorch computes anything else than onnxruntime: an attribute that is not known here."""
    theirs = run_sample(open_session(net.graph), net.graph, samples)
    with torch.no_grad():
        ours = net.eval()({n: torch.from_numpy(a) for n, a in samples.items()})
    net.train()
    for value, a, b in zip(net.graph.model.graph.output, ours, theirs, strict=True):
        if a.shape != b.shape or not np.allclose(
            a.numpy(), b, rtol=NEAR, atol=NEAR * float(np.abs(b).max(initial=0))
        ):
            raise LadyError(
                f"{net.graph.name}: output '{value.name}': PyTorch computes something else than onnxruntime"
            )


def _loss(graph: Graph, output: Tensor, labels: Tensor) -> Tensor:
    try:
        if labels.is_floating_point():
            if labels.shape != output.shape:
                raise ValueError("another shape")
            return F.mse_loss(output, labels.to(output.dtype))
        return F.cross_entropy(output, labels.long())
    except (IndexError, RuntimeError, ValueError) as error:
        raise LadyError(
            f"{graph.name}: labels of shape {list(labels.shape)} do not fit an output of shape {list(output.shape)}; "
            "give whole numbers below its second axis, or floats of its shape"
        ) from error


def finetune(
    model: Model,
    data: Mapping[str, np.ndarray],
    passes: float,
    *,
    rate: float = RATE,
    seed: int = 0,
) -> Attacked:
    """Goes on training a model: the weights that a group touches, by gradient descent with momentum.

    Args:
        model: a path or a model, whose first output is learned.
        data: samples by the inputs' names, first axis the sample, and `labels`: whole numbers, int [samples], for classes,
            or floats of the output's shape for a squared error.
        passes: how often all samples are seen; 0.1 for a tenth of them.
        rate: of the descent.
        seed: of the samples' order.

    Raises LadyError for an operator that PyTorch is not told of, where it computes something else than onnxruntime, and for
    data that do not fit.
    """
    graph = load_graph(model)
    shapes = {
        v.name: v.type.tensor_type.shape.dim
        for v in graph.model.graph.input
        if v.name not in graph.tensors
    }
    inputs = list(shapes)
    for name in (*inputs, "labels"):
        if name not in data:
            raise LadyError(
                f"{graph.name}: the data have no '{name}'; give {', '.join(inputs)} and labels"
            )
    count = len(data["labels"])
    if not count or any(len(data[n]) != count for n in inputs) or passes < 0:
        raise LadyError(
            f"{graph.name}: no samples, other numbers of samples and labels, or fewer than no passes"
        )
    statistics = {
        name
        for node in graph.nodes
        if node.op_type == "BatchNormalization"
        for name in node.input[3:5]
    }
    touched = sorted(
        {s.initializer for g in find_groups(graph).groups for s in g.slots} - statistics
    )
    learned = [n for n in touched if is_float_array(graph.array(n))]
    if not learned:
        raise LadyError(f"{graph.name}: no weight to train; `lady-onnx groups` lists none")
    net = Network(graph, learned)
    samples = {n: np.asarray(data[n]) for n in inputs}
    # a batch axis that is no symbol has one size
    shown = next((n for dims in shapes.values() if dims and (n := dims[0].dim_value)), SHOWN)
    _compare(net, {n: a[:shown] for n, a in samples.items()})
    labels = torch.from_numpy(np.asarray(data["labels"]))
    torch.manual_seed(seed)
    descent = torch.optim.SGD(net.parameters(), rate, 0.9)
    order = torch.cat(
        [torch.randperm(count) for _ in range(int(np.ceil(passes)))]
        or [torch.zeros(0, dtype=torch.long)]
    )
    for batch in order[: round(passes * count)].split(BATCH):
        if len(batch) < 2:
            continue
        output = net({n: torch.from_numpy(a)[batch] for n, a in samples.items()})[0]
        descent.zero_grad()
        _loss(graph, output, labels[batch]).backward()
        descent.step()
    result = graph.copy()
    arrays = {
        **{n: w.numpy() for n, w in net.weights.items() if n in statistics},
        **{n: p.detach().numpy() for n, p in net.learned.items()},
    }
    altered = [n for n, a in arrays.items() if not np.array_equal(a, graph.array(n))]
    for name in altered:
        if not np.isfinite(arrays[name]).all():
            raise LadyError(
                f"{graph.name}: training diverged in weight '{name}'; give a smaller rate"
            )
        result.replace(name, arrays[name])
    return Attacked(result, tuple(altered))
