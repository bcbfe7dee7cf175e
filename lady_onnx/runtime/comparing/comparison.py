"""Comparing two models by running them on the same inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...errors import LadyError, check_whole_number
from ...graph.model import Graph
from ...graph.nodes import list_nodes, pair_by_name
from ...graph.states import NO_STATES
from ...numerics import split_blocks
from ...rules import find_rule
from ...storage import store_blocks
from ...vocabulary.types import HALF_TYPES
from ..axes import list_small_sizes, read_axes
from ..providers import choose_provider
from ..sampling import draw_answered_samples
from ..sessions import open_session
from ..source import Source, Traits
from .judging import HALF_ROUNDING_STEP, ROUNDING_STEP, Judge, Outputs
from .metrics import METRICS, compute_metric
from .rollout import Loop
from .telling import Sample, make_telling_samples
from .verification import Verification

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TELLING_PER_SAMPLE, EXTRA_TELLING = 2, 5
"""Samples made to tell for every random one, and beyond that: 17 in all for 4 random ones."""
REPEATED_RUNS = 4
"""Runs that tell whether a model repeats its outputs. A kernel that reads memory that nothing wrote
answers differently after two or three.
"""
PERTURBED_COPIES = 3
"""Copies of a model with moved weights.

What lies at a half tips to one side or the other. A single copy may tip to the side of the model.
"""
TOLERANCE = 1e-4
"""The largest difference that counts as none, relative to the largest output."""
HALF_TOLERANCE = 1e-2
"""The same for models in half precision."""
DTYPE_OF_TYPE_NAME = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
"""The dtypes of onnxruntime's names of float types."""


class SessionPair:
    """Two models that are given the same inputs.

    Args:
        a: the first model.
        b: the second one.
        provider_name: one of `PROVIDERS`.
        custom_ops: paths of libraries with kernels of operators that onnxruntime does not have.
        lengths: known sizes of symbolic axes by name.

    Raises:
        LadyError: a model does not load, or they have different numbers of inputs or outputs.

    Attributes:
        graphs: both models.
        provider: onnxruntime's name of the execution provider.
        names: the names of the first model's inputs.
        source: the source of inputs of both.
        lengths: known sizes of symbolic axes by name.
        outputs: the names of the first model's answers: its outputs, but for those that are fed
            back, of every step of the loop.
    """

    def __init__(
        self,
        a: Graph,
        b: Graph,
        provider_name: str = "auto",
        custom_ops: Sequence[str] = (),
        lengths: Mapping[str, int] | None = None,
    ):
        self.graphs, self.provider = (a, b), choose_provider(provider_name)
        self._provider_name, self._custom_ops = provider_name, tuple(custom_ops)
        self.first, self._second = (open_session(g, self.provider, custom_ops) for g in (a, b))
        self.source = Source(a, b)
        self.lengths = dict(lengths or {})
        self._loop = Loop(self.source)
        self.names = [i.name for i in self.first.get_inputs()]
        names = [o.name for o in self.first.get_outputs()]
        self.outputs = self._loop.name_answers(names)
        taken = self._second.get_inputs()
        given = [o.name for o in self._second.get_outputs()]
        if len(self.names) != len(taken) or len(names) != len(given):
            what = f"has other inputs or outputs than {a.name}"
            raise LadyError(f"{b.name}: {what}; compare models of one architecture")
        self._perturbed: list[InferenceSession] | None = None
        self._again: SessionPair | None = None
        if not self.outputs:
            what = "all outputs are states, so there is no answer to compare"
            raise LadyError(f"{a.name}: {what}; give --state {NO_STATES}")
        self._types = {i.name: i.type for i in taken}
        self._renamed = dict(pair_by_name(self.names, list(self._types)))
        self._order = [given.index(y) for _, y in pair_by_name(names, given)]

    def run_both(self, inputs: Mapping[str, np.ndarray]) -> tuple[Outputs, Outputs]:
        """Return the outputs of both models, in the order of the first.

        Raises:
            LadyError: a model does not run.
        """
        return self._run_model(0, inputs), self._run_model(1, inputs)

    def run_first(self, inputs: Mapping[str, np.ndarray]) -> Outputs | None:
        """Return the outputs of the first model, None where it does not run."""
        return self._run_or_none(0, inputs)

    def run_second(self, inputs: Mapping[str, np.ndarray]) -> Outputs | None:
        """Return the second model's outputs in the first's order, None if it does not run."""
        return self._run_or_none(1, inputs)

    def _run_or_none(self, which: int, inputs: Mapping[str, np.ndarray]) -> Outputs | None:
        try:
            return self._run_model(which, inputs)
        except LadyError:
            return None

    def _run_model(self, which: int, inputs: Mapping[str, np.ndarray]) -> Outputs:
        """Return the answers of the first model (0) or of the second (1).

        Raises:
            LadyError: it does not run.
        """
        if not which:
            return self._run_first_session(self.first, inputs)
        given = {
            x: _cast_floats(array, self._types[self._renamed[x]]) for x, array in inputs.items()
        }
        return self._loop.run(self._second, self.graphs[1], given, self._renamed, self._order)

    def _run_first_session(
        self, session: InferenceSession, inputs: Mapping[str, np.ndarray]
    ) -> Outputs:
        """Return the answers of a session of the first model, or of a copy of it."""
        same = {name: name for name in self.names}
        order = range(len(self.first.get_outputs()))
        return self._loop.run(session, self.graphs[0], inputs, same, order)

    def repeat_both(
        self, inputs: Mapping[str, np.ndarray]
    ) -> tuple[list[Outputs | None], list[Outputs | None]]:
        """Run both models again, in their sessions and in new ones, which have other memory."""
        if self._again is None:
            self._again = SessionPair(
                *self.graphs, self._provider_name, self._custom_ops, self.lengths
            )
        pairs = [*[self] * REPEATED_RUNS, self._again]
        return [p.run_first(inputs) for p in pairs], [p.run_second(inputs) for p in pairs]

    def run_perturbed(self, inputs: Mapping[str, np.ndarray], step: float) -> list[Outputs | None]:
        """Run copies of the first model with all weights moved by a random relative step.

        Numbers that stand alone stay as they are: what is special about a bound is not rounding.
        So do those that decide a shape: beside a moved scale the sizes are others, or do not fit.
        The sessions of these copies are made when they are first asked for, which is only where
        outputs differ.
        """
        if self._perturbed is None:
            self._perturbed = self._open_perturbed(step)
        answers: list[Outputs | None] = []
        for session in self._perturbed:
            try:
                answers.append(self._run_first_session(session, inputs))
            except LadyError:
                answers.append(None)
        return answers

    def _open_perturbed(self, step: float) -> list[InferenceSession]:
        """Open sessions of copies of the first model with moved weights."""
        # The seed is fixed: the same two files get the same answer whatever the inputs are.
        generator = np.random.default_rng(0)
        sessions, fixed = [], _find_shape_operands(self.graphs[0])
        for _ in range(PERTURBED_COPIES):
            twin = self.graphs[0].copy()
            for name in twin.tensors:
                array = twin.array(name)
                if array.dtype.kind == "f" and array.size > 1 and name not in fixed:
                    twin.replace(name, _perturb_array(generator, array, step))
            sessions.append(open_session(twin, self.provider, self._custom_ops))
        return sessions


def _find_shape_operands(graph: Graph) -> set[str]:
    """Find the tensors whose values decide the shape of a node's result, such as scales."""
    found: set[str] = set()
    for node in list_nodes(graph.model):
        rule = find_rule(node.domain, node.op_type)
        if rule is not None and rule.reads_values_from is not None:
            found.update(node.input[rule.reads_values_from :])
    return found


def _perturb_array(generator: np.random.Generator, array: np.ndarray, step: float) -> np.ndarray:
    """Move numbers by a random relative step to either side; those that would overflow stay."""

    def list_blocks() -> Iterator[np.ndarray]:
        for block in split_blocks(array.shape):
            part = array[block]
            with np.errstate(over="ignore"):
                moved = (part * (1 + step * generator.standard_normal(part.shape))).astype(
                    part.dtype
                )
            yield np.where(np.isfinite(moved), moved, part)

    return store_blocks(list_blocks, array.shape, array.dtype)


def _cast_floats(array: np.ndarray, type_name: str) -> np.ndarray:
    """Return floats in the type that a model takes, and anything else as it is."""
    if array.dtype.kind == "f" and type_name in DTYPE_OF_TYPE_NAME:
        return array.astype(DTYPE_OF_TYPE_NAME[type_name])
    return array


def is_half_precision(graph: Graph) -> bool:
    """Tell whether a model has weights in half precision."""
    return any(tensor.data_type in HALF_TYPES for tensor in graph.tensors.values())


def compare_models(
    pair: SessionPair,
    *,
    samples: int = 4,
    seed: int = 0,
    data: Mapping[str, np.ndarray] | None = None,
    metric_name: str | None = None,
    tolerance: float | None = None,
) -> Verification:
    """Run both models on the same inputs and compare their outputs.

    The inputs are the data, or else random ones and such as are made to tell: at most 3 times
    `samples` and 5 more. Sizes of symbolic axes, and values, that neither model takes are passed
    over; what only one of them takes is a difference. Inputs made to tell on which neither model
    repeats its own outputs are left out.

    Args:
        pair: the models.
        samples: the number of random inputs.
        seed: the seed of all that is random.
        data: inputs by name, and `labels` for the metric.
        metric_name: one of `METRICS`; `accuracy` by default where there are labels.
        tolerance: the largest difference, relative to the largest output, that counts as equal; by
            default 1e-4, and 1e-2 where a model is in half precision.

    Raises:
        LadyError: a model does not run, or the data do not fit.
    """
    check_whole_number("samples", samples, 1)
    check_whole_number("seed", seed)
    _check_metric(metric_name, data)
    is_half = [is_half_precision(graph) for graph in pair.graphs]
    judge = _make_judge(pair, is_half, tolerance)
    metrics = None
    if data is not None:
        metrics = _run_data(judge, pair, data, metric_name or "accuracy")
    else:
        _run_samples(judge, pair, samples, seed, any(is_half))
    outputs, runs = judge.judge_outputs()
    return Verification(
        equal=all(o.equal for o in outputs),
        max_abs=max(o.max_abs for o in outputs),
        max_rel=max(o.max_rel for o in outputs),
        outputs=outputs,
        samples=len(runs),
        provider=pair.provider,
        metric=(metric_name or "accuracy") if metrics else None,
        metrics=metrics,
        runs=runs,
        left_out=tuple(judge.left_out),
    )


def _make_judge(pair: SessionPair, is_half: Sequence[bool], tolerance: float | None) -> Judge:
    """Return a judge of a pair; `is_half` says of each model whether it is in half precision."""
    if tolerance is None:
        tolerance = HALF_TOLERANCE if any(is_half) else TOLERANCE
    step = HALF_ROUNDING_STEP if any(is_half) else ROUNDING_STEP
    return Judge(pair, tolerance, step, is_half[0] != is_half[1])


def _check_metric(name: str | None, data: Mapping[str, np.ndarray] | None) -> None:
    """Raise LadyError for a metric that is unknown or that has no labels."""
    if name is not None and name not in METRICS:
        raise LadyError(f"--metric {name}: unknown; one of {', '.join(METRICS)}")
    if name is not None and (data is None or "labels" not in data):
        raise LadyError(f"--metric {name}: needs 'labels'; give them with --data")


def _run_data(
    judge: Judge, pair: SessionPair, data: Mapping[str, np.ndarray], metric_name: str
) -> tuple[float, float] | None:
    """Run the data, and return the metric of both models, None where there are no labels."""
    data = pair.source.complete_states(data)
    missing = [n for n in pair.names if n not in data]
    if missing:
        known = f"its keys are the input names {pair.names}, and 'labels'"
        raise LadyError(f"--data: no array '{missing[0]}'; {known}")
    ours, theirs = judge.add_ordinary("data", {n: np.asarray(data[n]) for n in pair.names})
    if "labels" not in data:
        return None
    return (
        compute_metric(metric_name, ours[0], data["labels"]),
        compute_metric(metric_name, theirs[0], data["labels"]),
    )


def _run_samples(judge: Judge, pair: SessionPair, samples: int, seed: int, half: bool) -> None:
    """Run random samples, and then those that are made to tell."""
    source = pair.source
    ordinary = draw_answered_samples(source, pair.first, samples, seed, pair.lengths)
    for inputs in ordinary:
        judge.add_ordinary("random", inputs)
    count = TELLING_PER_SAMPLE * samples + EXTRA_TELLING
    for sample in _make_samples(source, pair, ordinary[0], count, seed, half):
        judge.add_made(sample)


def _make_samples(
    source: Source,
    pair: SessionPair,
    ordinary: Mapping[str, np.ndarray],
    count: int,
    seed: int,
    half: bool,
) -> list[Sample]:
    """Make samples that tell, small ones where the first model runs on small inputs."""
    axes = read_axes(source.graph, {n: x.shape for n, x in ordinary.items()})
    # At the last sizes the first model is known to run, so they are not tried.
    *tried, small = list_small_sizes(axes)
    for sizes in tried:
        inputs = source.make_inputs(axes.resolve_shapes(sizes), Traits(), seed, 0)
        if pair.run_first(inputs) is not None:
            small = sizes
            break
    return make_telling_samples(source, axes, small, count, seed, half)
