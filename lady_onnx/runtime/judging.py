"""Whether two models' outputs are equal, sample by sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .telling import Sample

STEP, HALF_STEP = 1e-6, 1e-3
"""How far inputs are moved to measure rounding, relatively; the other for models in half precision."""
ROUNDING = 10
"""A difference of so many times what such a step does is rounding."""

Outputs = list[np.ndarray]


@dataclass(frozen=True)
class OutputDifference:
    """How one output of two models differs.

    On random inputs, and those given as data, it is equal where the shapes are the same, all values are finite, and no
    difference is larger than the tolerance times the largest value *of that sample*: a sample with large outputs
    hides no difference on one with small outputs. On inputs made to tell, zero or extreme ones among them, infinities
    and NaN in the same places of both are equal too. Where such a difference is larger than that, the first model's
    own rounding is measured: its outputs on two copies of the sample, all inputs of both moved a step away from zero,
    and where that does not explain it, those of copies of the model, all weights of which are moved a step. What is
    no larger than ten times the difference of those, or than ten steps of the largest value of all random samples, is
    rounding and not counted. On random inputs no difference larger than the tolerance times the largest value of
    *all* random samples passes as rounding.

    Attributes:
        name: the output's name in the first model.
        shape: its shape on the last sample.
        max_abs: the largest absolute difference over all samples.
        max_rel: the largest over all samples of the difference, divided by the sample's largest value.
        equal: whether it is equal on all samples.
    """

    name: str
    shape: tuple[int, ...]
    max_abs: float
    max_rel: float
    equal: bool


@dataclass(frozen=True)
class Run:
    """One set of inputs that both models were given.

    Attributes:
        kind: `random`, `data`, or what is special about the inputs, such as `mask: zeros at the end`.
        shapes: the shapes of the inputs by name.
        max_rel: the largest over the outputs of the difference, divided by the largest value of this sample; rounding
            is not counted.
        equal: whether all outputs are.
    """

    kind: str
    shapes: Mapping[str, tuple[int, ...]]
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
        runs: what was run, one entry a sample. Inputs that neither model takes are left out.
    """

    equal: bool
    max_abs: float
    max_rel: float
    outputs: tuple[OutputDifference, ...]
    samples: int
    provider: str
    metric: str | None = None
    metrics: tuple[float, float] | None = None
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True)
class _Gap:
    """How the values of one output differ on one sample.

    Attributes:
        shape: of the first model's.
        difference: the largest absolute difference of finite values; infinite where shapes or other values differ.
        scale: the largest absolute value of the first model's.
        finite: whether all values of both are.
        parted: whether some part differs by more than it may.
        overflowed: whether infinities or NaN stand in other places.
    """

    shape: tuple[int, ...]
    difference: float
    scale: float = 0.0
    finite: bool = False
    parted: bool = False
    overflowed: bool = False

    @property
    def relative(self) -> float:
        """The difference relative to the largest value."""
        return _ratio(self.difference, self.scale)


def _ratio(difference: float, scale: float) -> float:
    return difference / scale if scale else 0.0 if difference == 0 else float("inf")


def _gap(x: np.ndarray, y: np.ndarray, part_limit: float | None = None) -> _Gap:
    shape = x.shape
    if x.shape != y.shape:
        return _Gap(shape, float("inf"))
    x, y = x.astype(np.float64), y.astype(np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    scale = float(np.abs(x[known]).max(initial=0.0))
    if not np.array_equal(x[~known], y[~known], equal_nan=True):
        return _Gap(shape, float("inf"), scale, overflowed=True)
    x, y = np.where(known, x, 0.0), np.where(known, y, 0.0)
    gaps = np.abs(x - y)
    parted = False
    if part_limit is not None and x.size:
        parted = bool((gaps > part_limit * _parts(np.maximum(np.abs(x), np.abs(y)))).any())
    return _Gap(shape, float(gaps.max(initial=0.0)), scale, bool(known.all()), parted)


@dataclass
class _Case:
    """One sample that was run: its gaps by output, and whether it was random or given, or else made."""

    kind: str
    inputs: Mapping[str, np.ndarray]
    gaps: list[_Gap]
    ordinary: bool
    both: bool = True
    """Did both models run?"""
    spreads: list[float] | None = None
    moved: bool = False
    """Do these spreads tell what moved weights do?"""


class Runner(Protocol):
    """Two models that are given the same inputs."""

    outputs: list[str]
    """The names of the first model's outputs."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> tuple[Outputs, Outputs]:
        """The outputs of both; raises LadyError where one does not run."""

    def run_first(self, inputs: Mapping[str, np.ndarray]) -> Outputs | None:
        """The outputs of the first, None where it does not run."""

    def run_second(self, inputs: Mapping[str, np.ndarray]) -> Outputs | None:
        """The same of the second."""

    def run_moved(self, inputs: Mapping[str, np.ndarray], step: float) -> list[Outputs | None]:
        """The same of copies of the first, all weights of which are moved by a random step."""


class Judge:
    """Runs two models, and says which outputs are equal; the rules are those of `OutputDifference`."""

    def __init__(
        self, pair: Runner, tolerance: float, part_tolerance: float | None, step: float, mixed: bool
    ):
        self.pair, self.tolerance, self.part_tolerance, self.step = (
            pair,
            tolerance,
            part_tolerance,
            step,
        )
        self.mixed = mixed
        """Is one model in half precision, and the other not?"""
        self.cases: list[_Case] = []

    def add_ordinary(self, kind: str, inputs: Mapping[str, np.ndarray]) -> tuple[Outputs, Outputs]:
        """Runs a sample that both models have to take, and returns their outputs."""
        ours, theirs = self.pair.run(inputs)
        self.cases.append(_Case(kind, inputs, self._gaps(ours, theirs), True))
        return ours, theirs

    def add_made(self, sample: Sample) -> None:
        """Runs a sample made to tell, or what is plainer, if it is one that a model takes."""
        ours, theirs = self.pair.run_first(sample.inputs), self.pair.run_second(sample.inputs)
        if ours is not None and theirs is not None:
            self.cases.append(_Case(sample.kind, sample.inputs, self._gaps(ours, theirs), False))
        elif ours is not None or theirs is not None:
            gaps = [_Gap(x.shape, float("inf")) for x in ours or theirs or []]
            self.cases.append(_Case(sample.kind, sample.inputs, gaps, False, both=False))
        elif sample.plainer is not None:
            self.add_made(sample.plainer)

    def _gaps(self, ours: Outputs, theirs: Outputs) -> list[_Gap]:
        return [_gap(x, y, self.part_tolerance) for x, y in zip(ours, theirs, strict=True)]

    def result(self) -> tuple[tuple[OutputDifference, ...], tuple[Run, ...]]:
        """How each output differs, and what was run."""
        alike, worst = [True] * len(self.cases), [0.0] * len(self.cases)
        outputs = []
        for k, name in enumerate(self.pair.outputs):
            usual = max(c.gaps[k].scale for c in self.cases if c.ordinary)
            largest, relative, equal = 0.0, 0.0, True
            for number, case in enumerate(self.cases):
                measured, fits = self._measure(case, k, usual, equal)
                alike[number] &= fits
                equal &= fits
                if measured is not None:
                    worst[number] = max(worst[number], measured)
                    largest, relative = (
                        max(largest, case.gaps[k].difference),
                        max(relative, measured),
                    )
            outputs.append(
                OutputDifference(name, self.cases[-1].gaps[k].shape, largest, relative, equal)
            )
        shapes = [{n: np.shape(x) for n, x in c.inputs.items()} for c in self.cases]
        runs = (
            Run(c.kind, s, w, e)
            for c, s, w, e in zip(self.cases, shapes, worst, alike, strict=True)
        )
        return tuple(outputs), tuple(runs)

    def _measure(self, case: _Case, k: int, usual: float, open_: bool) -> tuple[float | None, bool]:
        """How much output k differs on a sample, None where that is rounding, and whether it is equal there.

        `usual` is its largest value on ordinary samples. Where it is known to differ, no rounding is measured any more.
        """
        gap = case.gaps[k]
        sound = not gap.parted and (gap.finite or not case.ordinary)
        if sound and gap.relative <= self.tolerance:
            return gap.relative, True
        if case.ordinary:
            within = _ratio(gap.difference, usual)
            near = sound and within <= self.tolerance and open_ and self._is_rounding(case, k)
            return (within, True) if near else (gap.relative, False)
        if self.mixed and gap.overflowed:
            # half precision overflows where single does not
            return None, True
        known = gap.difference <= ROUNDING * self.step * usual
        rounding = case.both and (known or (open_ and self._is_rounding(case, k)))
        return (None, True) if rounding else (gap.relative, False)

    def _is_rounding(self, case: _Case, k: int) -> bool:
        """Does output k of the first model differ as much where inputs, or else weights, move by a step?"""
        if case.spreads is None:
            case.spreads = self._measure_spreads(self._run_nearby(case.inputs))
        if case.gaps[k].difference > ROUNDING * case.spreads[k] and not case.moved:
            answers = [
                self.pair.run_first(case.inputs),
                *self.pair.run_moved(case.inputs, self.step),
            ]
            case.spreads = list(map(max, case.spreads, self._measure_spreads(answers)))
            case.moved = True
        return case.gaps[k].difference <= ROUNDING * case.spreads[k]

    def _run_nearby(self, inputs: Mapping[str, np.ndarray]) -> list[Outputs | None]:
        """The first model's outputs on two copies of a sample, all floats a step from zero.

        Both copies lie on one side, so that what is special about a number itself, a zero or a half, is none of it.
        """
        generator = np.random.default_rng(0)
        copies = [{n: _move(generator, x, self.step) for n, x in inputs.items()} for _ in range(2)]
        return [self.pair.run_first(c) for c in copies]

    def _measure_spreads(self, answers: Sequence[Outputs | None]) -> list[float]:
        """By output how far the first answer lies from the others at most."""
        first, *others = answers
        spreads = [0.0] * len(self.pair.outputs)
        for other in others:
            if first is not None and other is not None:
                spreads = [
                    max(s, _gap(x, y).difference)
                    for s, x, y in zip(spreads, first, other, strict=True)
                ]
        return spreads


def _move(generator: np.random.Generator, array: np.ndarray, step: float) -> np.ndarray:
    """Floats a random step further from zero; zeros stay, but where there is nothing else."""
    if array.dtype.kind != "f":
        return array
    steps = step * np.abs(generator.standard_normal(array.shape))
    return (array * (1 + steps) if array.any() else steps).astype(array.dtype)


def _parts(sizes: np.ndarray) -> np.ndarray:
    """By each element the largest value of the smallest part that it lies in: all that has its place along one axis."""
    found = np.full(sizes.shape, sizes.max())
    for axis in range(sizes.ndim):
        if sizes.shape[axis] < sizes.size:
            others = tuple(a for a in range(sizes.ndim) if a != axis)
            found = np.minimum(found, sizes.max(axis=others, keepdims=True))
    return found
