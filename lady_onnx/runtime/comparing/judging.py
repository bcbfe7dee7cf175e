"""Whether two models' outputs are equal, sample by sample.

A `Judge` runs samples and applies the rules that `OutputDifference` states. Where samples come from
is not its business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .telling import Sample
from .verification import OutputDifference, Run

ROUNDING_STEP = 1e-6
"""How far inputs and weights are moved to measure rounding, relatively: eight steps of float32."""
HALF_ROUNDING_STEP = 1e-3
"""The same for models in half precision: one step of float16."""
MAX_ROUNDING_RATIO = 10
"""A difference of at most this many times what such a step does is rounding."""

Outputs = list[np.ndarray]
"""The outputs of a model in order."""


class Runner(Protocol):
    """Two models that are given the same inputs."""

    outputs: list[str]
    """The names of the first model's outputs."""

    def run_both(self, inputs: Mapping[str, np.ndarray]) -> tuple[Outputs, Outputs]:
        """Return the outputs of both; raise LadyError where one does not run."""

    def run_first(self, inputs: Mapping[str, np.ndarray]) -> Outputs | None:
        """Return the outputs of the first model, None where it does not run."""

    def run_second(self, inputs: Mapping[str, np.ndarray]) -> Outputs | None:
        """Return the outputs of the second model, None where it does not run."""

    def repeat_both(
        self, inputs: Mapping[str, np.ndarray]
    ) -> tuple[list[Outputs | None], list[Outputs | None]]:
        """Return the outputs of more runs of either model on the same inputs."""

    def run_perturbed(self, inputs: Mapping[str, np.ndarray], step: float) -> list[Outputs | None]:
        """Return those of copies of the first model with all weights moved by a random step."""


@dataclass(frozen=True)
class _Gap:
    """How the values of one output differ on one sample.

    Attributes:
        shape: the shape of the first model's output.
        difference: the largest absolute difference of finite values; infinite where shapes or
            other values differ.
        scale: the largest absolute value of the first model's output.
        is_finite: whether all values of both are finite.
        has_overflowed: whether infinities or NaN stand in other places.
    """

    shape: tuple[int, ...]
    difference: float
    scale: float = 0.0
    is_finite: bool = False
    has_overflowed: bool = False

    @property
    def relative(self) -> float:
        """The difference relative to the largest value."""
        return _divide_by_scale(self.difference, self.scale)


def _divide_by_scale(difference: float, scale: float) -> float:
    """Return a difference in units of a scale; infinite where only the scale is zero."""
    return difference / scale if scale else 0.0 if difference == 0 else float("inf")


def _measure_gap(x: np.ndarray, y: np.ndarray) -> _Gap:
    """Measure how an output of two models differs."""
    shape = x.shape
    if x.shape != y.shape:
        return _Gap(shape, float("inf"))
    x, y = x.astype(np.float64), y.astype(np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    scale = float(np.abs(x[known]).max(initial=0.0))
    # Differences of infinities are NaN, so these are compared apart from the numbers.
    if not np.array_equal(x[~known], y[~known], equal_nan=True):
        return _Gap(shape, float("inf"), scale, has_overflowed=True)
    x, y = np.where(known, x, 0.0), np.where(known, y, 0.0)
    largest = float(np.abs(x - y).max(initial=0.0))
    return _Gap(shape, largest, scale, bool(known.all()))


def _measure_gaps(ours: Outputs, theirs: Outputs) -> list[_Gap]:
    """Measure how the outputs of both models differ."""
    return [_measure_gap(x, y) for x, y in zip(ours, theirs, strict=True)]


@dataclass
class _Case:
    """One sample that was run.

    The last three attributes are filled in when an output of it is judged to differ.

    Attributes:
        kind: what is special about it, as `Run.kind`.
        inputs: the inputs by name.
        gaps: how the outputs differ, in order.
        is_ordinary: whether it was random or given, and not made to tell.
        answers: the outputs of either model, None where it did not run.
        are_repeated: of each model whether it repeats its outputs.
        spreads: by output, what rounding does there; None if it was not measured.
        has_moved_weights: whether the spreads tell what moved weights do.
    """

    kind: str
    inputs: Mapping[str, np.ndarray]
    gaps: list[_Gap]
    is_ordinary: bool
    answers: tuple[Outputs | None, Outputs | None]
    are_repeated: Sequence[bool] = (True, True)
    spreads: list[float] | None = None
    has_moved_weights: bool = False

    @property
    def has_both(self) -> bool:
        """Whether both models ran."""
        return all(answer is not None for answer in self.answers)


class Judge:
    """Runs two models and says which outputs are equal, by the rules of `OutputDifference`.

    Args:
        pair: the two models.
        tolerance: the largest difference that counts as none, relative to the largest output.
        step: how far inputs and weights are moved to measure rounding, relatively.
        is_mixed: whether one model is in half precision, and the other is not.

    Attributes:
        left_out: What is special about each sample on which neither model repeats its outputs.
    """

    def __init__(self, pair: Runner, tolerance: float, step: float, is_mixed: bool):
        self._pair = pair
        self._tolerance, self._step, self._is_mixed = tolerance, step, is_mixed
        self._cases: list[_Case] = []
        self.left_out: list[str] = []

    def add_ordinary(self, kind: str, inputs: Mapping[str, np.ndarray]) -> tuple[Outputs, Outputs]:
        """Run a sample that both models have to take, and return their outputs.

        Raises:
            LadyError: a model does not run on it.
        """
        ours, theirs = self._pair.run_both(inputs)
        self._cases.append(_Case(kind, inputs, _measure_gaps(ours, theirs), True, (ours, theirs)))
        return ours, theirs

    def add_made(self, sample: Sample) -> None:
        """Run a sample made to tell; where neither model takes it, run the plainer one instead."""
        ours = self._pair.run_first(sample.inputs)
        theirs = self._pair.run_second(sample.inputs)
        if ours is None and theirs is None:
            if sample.plainer is not None:
                self.add_made(sample.plainer)
            return
        if ours is not None and theirs is not None:
            gaps = _measure_gaps(ours, theirs)
        else:
            gaps = [_Gap(x.shape, float("inf")) for x in ours or theirs or []]
        self._cases.append(_Case(sample.kind, sample.inputs, gaps, False, (ours, theirs)))

    def judge_outputs(self) -> tuple[tuple[OutputDifference, ...], tuple[Run, ...]]:
        """Return how each output differs, and what was run.

        A sample on which neither model repeats its outputs is left out.
        """
        kept = []
        for case in self._cases:
            case.are_repeated = self._are_repeated(case)
            if any(case.are_repeated):
                kept.append(case)
            else:
                self.left_out.append(case.kind)
        self._cases = kept
        are_equal, worst = [True] * len(self._cases), [0.0] * len(self._cases)
        outputs = []
        for k, name in enumerate(self._pair.outputs):
            usual = max(c.gaps[k].scale for c in self._cases if c.is_ordinary)
            largest, relative, equal = 0.0, 0.0, True
            for number, case in enumerate(self._cases):
                measured, fits = self._judge_output(case, k, usual, equal)
                are_equal[number] &= fits
                equal &= fits
                if measured is not None:
                    worst[number] = max(worst[number], measured)
                    largest = max(largest, case.gaps[k].difference)
                    relative = max(relative, measured)
            shape = self._cases[-1].gaps[k].shape
            outputs.append(OutputDifference(name, shape, largest, relative, equal))
        runs = []
        for case, difference, is_equal in zip(self._cases, worst, are_equal, strict=True):
            shapes = {name: np.shape(x) for name, x in case.inputs.items()}
            runs.append(Run(case.kind, shapes, difference, is_equal))
        return tuple(outputs), tuple(runs)

    def _are_repeated(self, case: _Case) -> list[bool]:
        """Tell of each model whether it repeats its outputs on a sample, asked where they differ.

        Some kernels read memory that nothing wrote where inputs are beyond their contract. Then
        all copies of a model answer by chance. One alone that does so is another model.
        """
        is_within = all(gap.relative <= self._tolerance for gap in case.gaps)
        if case.is_ordinary or not case.has_both or is_within:
            return [True, True]
        scales = [gap.scale for gap in case.gaps]
        again = zip(case.answers, self._pair.repeat_both(case.inputs), strict=True)
        spreads = [self._measure_spreads([answer, *others]) for answer, others in again]
        return [all(map(self._is_within_tolerance, own, scales)) for own in spreads]

    def _is_within_tolerance(self, difference: float, scale: float) -> bool:
        """Tell whether a difference is small beside the largest value."""
        return _divide_by_scale(difference, scale) <= self._tolerance

    def _judge_output(
        self, case: _Case, k: int, usual: float, is_open: bool
    ) -> tuple[float | None, bool]:
        """Judge output k on one sample.

        Args:
            case: the sample.
            k: the position of the output.
            usual: the largest value of the output on ordinary samples.
            is_open: whether the output may still be equal on all samples. Where it is known to
                differ, rounding is not measured any more.

        Returns:
            How much the output differs, None where that is rounding; and whether it is equal.
        """
        gap = case.gaps[k]
        is_sound = gap.is_finite or not case.is_ordinary
        if is_sound and gap.relative <= self._tolerance:
            return gap.relative, True
        if case.is_ordinary:
            # A sample with small outputs gets the room of the others, if rounding explains it.
            within = _divide_by_scale(gap.difference, usual)
            may_round = is_sound and within <= self._tolerance and is_open
            return (
                (within, True)
                if may_round and self._is_rounding(case, k)
                else (gap.relative, False)
            )
        if self._is_mixed and gap.has_overflowed:
            # Half precision overflows where single precision does not.
            return None, True
        is_known = gap.difference <= MAX_ROUNDING_RATIO * self._step * usual
        may_round = case.has_both and all(case.are_repeated)
        is_rounding = may_round and (is_known or (is_open and self._is_rounding(case, k)))
        return (None, True) if is_rounding else (gap.relative, False)

    def _is_rounding(self, case: _Case, k: int) -> bool:
        """Tell whether output k of the first model differs as much when inputs or weights move."""
        # Copies of the inputs are cheap. Copies of the model need sessions, so they come second.
        difference = case.gaps[k].difference
        if case.spreads is None:
            case.spreads = self._measure_spreads(self._run_nearby(case.inputs))
        if difference > MAX_ROUNDING_RATIO * case.spreads[k] and not case.has_moved_weights:
            perturbed = self._pair.run_perturbed(case.inputs, self._step)
            answers = [self._pair.run_first(case.inputs), *perturbed]
            case.spreads = list(map(max, case.spreads, self._measure_spreads(answers)))
            case.has_moved_weights = True
        return difference <= MAX_ROUNDING_RATIO * case.spreads[k]

    def _run_nearby(self, inputs: Mapping[str, np.ndarray]) -> list[Outputs | None]:
        """Run the first model on two copies of a sample, with all floats a step away from zero.

        Both copies lie on one side. So they do not show what is special about a number itself, such
        as a zero or a half.
        """
        generator = np.random.default_rng(0)
        copies = [
            {name: _move_outwards(generator, x, self._step) for name, x in inputs.items()}
            for _ in range(2)
        ]
        return [self._pair.run_first(c) for c in copies]

    def _measure_spreads(self, answers: Sequence[Outputs | None]) -> list[float]:
        """Return by output how far the first answer lies from the others at most."""
        first, *others = answers
        spreads = [0.0] * len(self._pair.outputs)
        for other in others:
            if first is not None and other is not None:
                gaps = _measure_gaps(first, other)
                spreads = [max(s, g.difference) for s, g in zip(spreads, gaps, strict=True)]
        return spreads


def _move_outwards(generator: np.random.Generator, array: np.ndarray, step: float) -> np.ndarray:
    """Move floats a random step away from zero. Zeros stay, unless there is nothing else."""
    if array.dtype.kind != "f":
        return array
    steps = step * np.abs(generator.standard_normal(array.shape))
    return (array * (1 + steps) if array.any() else steps).astype(array.dtype)
