"""ONNX graphs in PyTorch: to go on training a model of which nothing but the file is left.

Needs the extra `torch`. The graph stays as it is, and what was learned goes back into its weights.
What operators compute is declared in `lady_onnx.converters.operators`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import NodeProto
from torch import Tensor

from lady_onnx.editing.attacks import Attacked
from lady_onnx.editing.permuting import find_groups
from lady_onnx.errors import LadyError
from lady_onnx.graph.loading import Model, load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.graph.nodes import describe_node, read_attributes
from lady_onnx.numerics import is_float_array
from lady_onnx.runtime.sessions import open_session, run_sample

from .operators import OPERATORS

LEARNING_RATE = 1e-3
"""The rate of the gradient descent: a tenth of the usual one for such networks, or less."""
MOMENTUM = 0.9
"""The momentum of the gradient descent."""
BATCH_SIZE = 32
"""The number of samples of one step of the gradient descent."""
COMPARED_SAMPLES = 2
"""The number of samples on which both runtimes are compared, unless the model fixes it."""
RELATIVE_TOLERANCE = 1e-3
"""The difference at which outputs of both runtimes are equal, as a share of the largest."""


class Network(torch.nn.Module):
    """An ONNX graph as a PyTorch module.

    In training, batch norms take the statistics of the batch, and learn those of all samples.

    Args:
        graph: the graph.
        learned: the names of the weights that are parameters. All others stay as they are, except
            for batch statistics.

    Raises:
        LadyError: an operator is not in `OPERATORS`; the message names its node.

    Attributes:
        graph: the graph.
        weights: all weights by name, as they were given.
        learned: the parameters by name.
    """

    def __init__(self, graph: Graph, learned: Sequence[str]):
        super().__init__()
        for node in graph.nodes:
            if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
                what = f"PyTorch is not told what {node.op_type} computes"
                raise LadyError(f"{graph.name}: node {describe_node(node)}: {what}")
        self.graph = graph
        # Copies: batch norms write their statistics into these tensors in place.
        self.weights = {n: torch.from_numpy(np.array(graph.array(n))) for n in graph.tensors}
        self.learned = {n: torch.nn.Parameter(self.weights[n]) for n in learned}
        # Names of weights have dots, which names of parameters may not have.
        self.list = torch.nn.ParameterList(self.learned.values())

    def forward(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the graph's outputs in order, for inputs by name.

        Raises:
            LadyError: a node does not fit its operands, or has an attribute that is not known here.
        """
        found: dict[str, Tensor | None] = {**self.weights, **self.learned, **inputs, "": None}
        for node in self.graph.nodes:
            made = self._run_node(node, [found[name] for name in node.input])
            results = [made] if isinstance(made, Tensor) else made
            found.update(zip(node.output, results, strict=False))
        return [y for o in self.graph.model.graph.output if (y := found[o.name]) is not None]

    def _run_node(self, node: NodeProto, operands: list[Tensor | None]) -> Any:
        """Return the result of one node, or its results; errors name the node."""
        try:
            given = {
                **read_attributes(node),
                "training": self.training,
                "results": len(node.output),
            }
            return OPERATORS[node.op_type](given, *operands)
        except (LadyError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            what = str(error).splitlines()[0]
            raise LadyError(f"{self.graph.name}: node {describe_node(node)}: {what}") from error


@dataclass(frozen=True)
class _Samples:
    """What a model is trained on.

    Attributes:
        inputs: arrays by the inputs' names, first axis the sample.
        labels: class numbers, [samples], or floats of the output's shape.
        batch_size: the number of samples that the model takes at once, where it is fixed, or a few.
    """

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray
    batch_size: int

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(self.labels)


class Pull:
    """What training does besides its task. This one does nothing; others derive from it."""

    def add_gradients(self, net: Network, compute_loss: Callable[[], Tensor]) -> None:
        """Change the gradients of a step.

        Args:
            net: the network, with the gradients of its task.
            compute_loss: computes the loss of the task on the same batch again.
        """

    def hold_weights(self, net: Network) -> None:
        """Change the weights after a step, without gradients."""


def finetune(
    model: Model,
    data: Mapping[str, np.ndarray],
    passes: float,
    *,
    rate: float = LEARNING_RATE,
    seed: int = 0,
    pull: Pull | None = None,
) -> Attacked:
    """Go on training a model: the weights that a group touches, by gradient descent with momentum.

    Args:
        model: a path or a model, whose first output is learned.
        data: samples by the inputs' names, first axis the sample, and `labels`: whole numbers, int
            [samples], for classes, or floats of the output's shape for a squared error.
        passes: how often all samples are seen; 0.1 for a tenth of them.
        rate: the learning rate.
        seed: the seed of the samples' order.
        pull: what training does besides its task.

    Returns:
        A copy of the model with the weights that were learned.

    Raises:
        LadyError: PyTorch is not told of an operator or computes something else than onnxruntime,
            the data do not fit, or training diverges.
    """
    graph = load_graph(model)
    samples = _read_samples(graph, data, passes)
    statistics = {
        name
        for node in graph.nodes
        if node.op_type == "BatchNormalization"
        for name in node.input[3:5]
    }
    net = Network(graph, _choose_learned(graph, statistics))
    _compare_outputs(net, {n: a[: samples.batch_size] for n, a in samples.inputs.items()})
    _train_network(net, samples, passes, rate, seed, pull or Pull())
    # The statistics were learned in place while the network ran in training mode.
    arrays = {
        **{n: w.numpy() for n, w in net.weights.items() if n in statistics},
        **{n: p.detach().numpy() for n, p in net.learned.items()},
    }
    return _write_learned(graph, arrays)


def _read_samples(graph: Graph, data: Mapping[str, np.ndarray], passes: float) -> _Samples:
    """Return the samples and labels; raise LadyError where some are missing or do not fit."""
    inputs = {v.name: v.type.tensor_type.shape.dim for v in graph.required_inputs}
    for name in (*inputs, "labels"):
        if name not in data:
            what = f"the data have no '{name}'; give {', '.join(inputs)} and labels"
            raise LadyError(f"{graph.name}: {what}")
    count = len(data["labels"])
    if not count or any(len(data[n]) != count for n in inputs) or passes < 0:
        what = "no samples, other numbers of samples and labels, or fewer than no passes"
        raise LadyError(f"{graph.name}: {what}")
    # A batch axis that is not symbolic has one size.
    fixed = (size for dims in inputs.values() if dims and (size := dims[0].dim_value))
    arrays = {n: np.asarray(data[n]) for n in inputs}
    return _Samples(arrays, np.asarray(data["labels"]), next(fixed, COMPARED_SAMPLES))


def _choose_learned(graph: Graph, statistics: set[str]) -> list[str]:
    """Return the names of the weights that are learned: floats that a group touches."""
    touched = {s.initializer for g in find_groups(graph).groups for s in g.slots}
    learned = [n for n in sorted(touched - statistics) if is_float_array(graph.array(n))]
    if not learned:
        raise LadyError(f"{graph.name}: no weight to train; `lady-onnx groups` lists none")
    return learned


def _compare_outputs(net: Network, samples: Mapping[str, np.ndarray]) -> None:
    """Raise LadyError where PyTorch computes something else than onnxruntime.

    An attribute that is not known here would make such a difference.
    """
    theirs = run_sample(open_session(net.graph), net.graph, samples)
    with torch.no_grad():
        ours = net.eval()({n: torch.from_numpy(a) for n, a in samples.items()})
    net.train()
    for value, a, b in zip(net.graph.model.graph.output, ours, theirs, strict=True):
        room = RELATIVE_TOLERANCE * float(np.abs(b).max(initial=0))
        if a.shape != b.shape or not np.allclose(a.numpy(), b, rtol=RELATIVE_TOLERANCE, atol=room):
            what = f"output '{value.name}': PyTorch computes something else than onnxruntime"
            raise LadyError(f"{net.graph.name}: {what}")


def _train_network(
    net: Network, samples: _Samples, passes: float, rate: float, seed: int, pull: Pull
) -> None:
    """Train a network by gradient descent on shuffled batches; batches of one are left out."""
    labels = torch.from_numpy(samples.labels)
    torch.manual_seed(seed)
    descent = torch.optim.SGD(net.parameters(), rate, MOMENTUM)
    shuffles = [torch.randperm(samples.count) for _ in range(int(np.ceil(passes)))]
    order = torch.cat(shuffles or [torch.zeros(0, dtype=torch.long)])
    for batch in order[: round(passes * samples.count)].split(BATCH_SIZE):
        # A single sample has no variance, over which a batch norm could normalise.
        if len(batch) < 2:
            continue
        inputs = {n: torch.from_numpy(a)[batch] for n, a in samples.inputs.items()}

        def compute_loss(inputs: Mapping[str, Tensor] = inputs, batch: Tensor = batch) -> Tensor:
            return _compute_loss(net.graph, net(inputs)[0], labels[batch])

        descent.zero_grad()
        compute_loss().backward()
        pull.add_gradients(net, compute_loss)
        descent.step()
        with torch.no_grad():
            pull.hold_weights(net)


def _compute_loss(graph: Graph, output: Tensor, labels: Tensor) -> Tensor:
    """Return the squared error of labels that are floats, the cross entropy of class numbers."""
    try:
        if labels.is_floating_point():
            if labels.shape != output.shape:
                raise ValueError("another shape")
            return F.mse_loss(output, labels.to(output.dtype))
        return F.cross_entropy(output, labels.long())
    except (IndexError, RuntimeError, ValueError) as error:
        shapes = f"labels of shape {list(labels.shape)} do not fit an output of shape"
        mend = "give whole numbers below its second axis, or floats of its shape"
        raise LadyError(f"{graph.name}: {shapes} {list(output.shape)}; {mend}") from error


def _write_learned(graph: Graph, arrays: Mapping[str, np.ndarray]) -> Attacked:
    """Return a copy of a graph with learned weights; raise LadyError where training diverged."""
    result = graph.copy()
    altered = [n for n, a in arrays.items() if not np.array_equal(a, graph.array(n))]
    for name in altered:
        if not np.isfinite(arrays[name]).all():
            what = f"training diverged in weight '{name}'; give a smaller rate"
            raise LadyError(f"{graph.name}: {what}")
        result.replace(name, arrays[name])
    return Attacked(result, tuple(altered))
