"""What a mark costs: how much the outputs of a model change, and how well it does its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, ValueInfoProto

from ..errors import LadyError, check_choice
from ..graph.model import Graph
from ..numerics import MIN_DIVISOR
from ..runtime.comparing.metrics import METRICS, compute_metric
from ..runtime.sampling import draw_telling_samples
from ..runtime.sessions import open_session, run_sample
from .directions import LayerInputs, Moments

SAMPLES = 4
"""So many random inputs are run where no data are given."""
BATCH_SAMPLES = 8
"""So many samples of data are run at once, unless the model fixes it."""
MAX_PROBED_BATCHES = 8
"""At most so many batches tell what a single layer changes."""
HELD_BATCHES = 4
"""One of so many batches of data tells whether what was learnt from the others holds."""
MAX_GAIN = 1e3
"""No layer moves by more than so many times as much as the median one."""
AGREEMENT = "agreement"
"""The share of samples whose largest output stays where it is. It needs no labels."""
MARK_METRICS = (*METRICS, AGREEMENT)
HIGHER_IS_BETTER = {"accuracy": True, "mse": False, AGREEMENT: True}
"""Whether a metric grows as the model gets better."""


@dataclass(frozen=True)
class Impact:
    """What a mark costs.

    Attributes:
        change: the root mean square of the outputs' change, relative to that of the outputs.
        metric: the name of the task metric, None without labels.
        metrics: the metric before and after, None without labels.
    """

    change: float
    metric: str | None = None
    metrics: tuple[float, float] | None = None

    @property
    def loss(self) -> float:
        """By how much the metric is worse than before; 0 where it is not, or without labels."""
        if self.metric is None or self.metrics is None:
            return 0.0
        before, after = self.metrics
        return max(0.0, before - after if HIGHER_IS_BETTER[self.metric] else after - before)


class Probe:
    """Runs copies of a model on the same inputs, and compares their outputs with the model's.

    Args:
        graph: the model.
        data: inputs by name, first axis the sample, and `labels`; random inputs by default.
        metric: `accuracy` or `mse` of the first output, or its `agreement` with that of the
            model; `accuracy` by default where there are labels.

    Raises:
        LadyError: the model does not run, or the data do not fit.
    """

    def __init__(
        self,
        graph: Graph,
        data: Mapping[str, np.ndarray] | None = None,
        metric: str | None = None,
    ):
        self._graph = graph
        self._labels = None if data is None else data.get("labels")
        if metric is not None:
            check_choice("metric", metric, MARK_METRICS)
        if metric in METRICS and self._labels is None:
            raise LadyError(f"metric {metric}: needs 'labels' among the data")
        self._metric = METRICS[0] if metric is None and self._labels is not None else metric
        session = open_session(graph)
        if data is None:
            self._samples = draw_telling_samples(graph, session, SAMPLES, 0)
        else:
            self._samples = _cut_batches(graph, data, [i.name for i in session.get_inputs()])
        self._outputs = [run_sample(session, graph, sample) for sample in self._samples]
        # random inputs do not say what a model will see
        batches = 0 if data is None else len(self._samples)
        self._held = range(HELD_BATCHES - 1, batches, HELD_BATCHES)

    def measure(self, after: Graph) -> Impact:
        """Measure what a change of the model costs.

        Args:
            after: the model after it.
        """
        theirs = self._run(after, range(len(self._samples)))
        change = _compare(self._outputs, theirs)
        if self._metric is None:
            return Impact(change)
        before, now = (np.concatenate([o[0] for o in side]) for side in (self._outputs, theirs))
        name, labels = self._metric, self._labels
        if name == AGREEMENT:
            name, labels = METRICS[0], before.reshape(len(before), -1).argmax(1)
        assert labels is not None
        metrics = (compute_metric(name, before, labels), compute_metric(name, now, labels))
        return Impact(change, self._metric, metrics)

    def measure_moments(self, inputs: Mapping[str, LayerInputs]) -> dict[str, Moments]:
        """Measure the second moments of what layers read.

        Args:
            inputs: what layers read, by weight.

        Returns:
            The moments by weight; none without data, as random inputs do not say what the model
            will see.
        """
        if not self._held or not inputs:
            return {}
        ways = {(way.value, way.axis) for way in inputs.values()}
        given = {v.name for v in self._graph.required_inputs}
        graph = _expose_values(self._graph, {value for value, _ in ways} - given)
        names, session = [o.name for o in graph.model.graph.output], open_session(graph)
        sums: dict[tuple[str, int], list[np.ndarray]] = {}
        for number, sample in enumerate(self._samples):
            outputs = run_sample(session, graph, sample)
            found = {**sample, **dict(zip(names, outputs, strict=True))}
            for value, axis in ways:
                rows = np.moveaxis(found[value], axis, -1).astype(np.float32)
                rows = rows.reshape(-1, rows.shape[-1])
                own = sums.setdefault(
                    (value, axis), [np.zeros((rows.shape[1],) * 2, np.float32)] * 2
                )
                with np.errstate(over="ignore", invalid="ignore"):
                    own[number in self._held] = own[number in self._held] + rows.T @ rows
        return {n: Moments(*sums[way.value, way.axis]) for n, way in inputs.items()}

    def measure_gains(self, changed: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Measure by how much layers may change, so that all of them change the outputs alike.

        Args:
            changed: layers by name, as a mark changes them.

        Returns:
            By layer how far its elements should move, relative to those of others. If layers change
            the outputs independently, bits that are written so change them least.
        """
        costs, numbers = {}, self._held or range(len(self._samples))
        outputs = [self._outputs[k] for k in numbers[:MAX_PROBED_BATCHES]]
        for name, array in changed.items():
            after = self._graph.copy()
            after.replace(name, array)
            change = _compare(outputs, self._run(after, numbers[:MAX_PROBED_BATCHES]))
            old = self._graph.array(name).astype(np.float64)
            moved = float(np.square(array.astype(np.float64) - old).mean())
            size = float(np.square(old).mean())
            costs[name] = change**2 * size / max(moved * old.size, MIN_DIVISOR)
        usual = float(np.median(list(costs.values()) or [0.0]))
        return {n: usual / max(c, usual / MAX_GAIN) if usual else 1.0 for n, c in costs.items()}

    def _run(self, graph: Graph, numbers: Sequence[int]) -> list[list[np.ndarray]]:
        """Return the outputs of a copy of the model on the samples of these numbers."""
        session = open_session(graph)
        return [run_sample(session, graph, self._samples[k]) for k in numbers]


def _expose_values(graph: Graph, names: Set[str]) -> Graph:
    """Return a graph that has values besides among its outputs."""
    twin = graph.copy()
    twin.model = ModelProto()
    twin.model.CopyFrom(graph.model)
    there = {o.name for o in twin.model.graph.output}
    twin.model.graph.output.extend(ValueInfoProto(name=n) for n in sorted(names - there))
    return twin


def _cut_batches(
    graph: Graph, data: Mapping[str, np.ndarray], names: Sequence[str]
) -> list[dict[str, np.ndarray]]:
    """Cut data into batches of the size that a model takes, or of a few samples.

    Raises:
        LadyError: an input lacks, or there are no samples.
    """
    missing = [n for n in names if n not in data]
    if missing:
        known = f"its keys are the input names {list(names)}, and 'labels'"
        raise LadyError(f"{graph.name}: the data have no array '{missing[0]}'; {known}")
    arrays = {n: np.asarray(data[n]) for n in names}
    counts = {len(a) if a.ndim else 0 for a in arrays.values()}
    if len(counts) != 1 or counts == {0}:
        raise LadyError(f"{graph.name}: the data have no samples, or not as many of every input")
    dims = [v.type.tensor_type.shape.dim for v in graph.required_inputs]
    fixed = (d[0].dim_value for d in dims if d and d[0].dim_value)
    size = next(fixed, BATCH_SAMPLES)
    return [{n: a[k : k + size] for n, a in arrays.items()} for k in range(0, counts.pop(), size)]


def _compare(
    before: Sequence[Sequence[np.ndarray]], after: Sequence[Sequence[np.ndarray]]
) -> float:
    """Return the root mean square of what outputs change, relative to that of the outputs."""
    apart = whole = 0.0
    for ours, theirs in zip(before, after, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            if a.dtype.kind not in "fiu" or a.shape != b.shape:
                continue
            x, y = a.astype(np.float64), b.astype(np.float64)
            is_known = np.isfinite(x) & np.isfinite(y)
            apart += float(np.square(x - y)[is_known].sum())
            whole += float(np.square(x)[is_known].sum())
    return (apart / whole) ** 0.5 if whole else 0.0
