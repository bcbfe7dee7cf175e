"""What a comparison of two models by running them says: plain results, with no way to make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...reporting import Report, count_things, format_table

MAX_SHOWN_OUTPUTS = 10
"""The number of outputs, the worst ones, that a summary lists."""


@dataclass(frozen=True)
class OutputDifference:
    """How one output of two models differs.

    Ordinary samples are random, or given as data. Others are made to tell: their inputs are zero,
    extreme, or special in another way.

    An output is equal on an ordinary sample where both shapes are the same, all values are finite,
    and no difference is larger than the tolerance times the largest value *of that sample*. So a
    sample with large outputs hides no difference on one with small outputs. On a sample made to
    tell, infinities and NaN in the same places of both are equal too.

    A larger difference may be rounding, and then it is not counted. The first model's own rounding
    is measured in two ways: by its outputs on two copies of the sample, with all inputs moved a
    step away from zero; and where these do not explain the difference, by the outputs of copies of
    the model, with all weights moved a step. A difference that is at most ten times as large as the
    differences of those is rounding.

    On ordinary samples nothing larger than the tolerance times the largest value of *all* ordinary
    samples passes as rounding. On samples made to tell, whatever is at most ten steps of that value
    passes.

    Attributes:
        name: the output's name in the first model.
        shape: its shape on the last sample.
        max_abs: the largest absolute difference over all samples.
        max_rel: the largest over all samples of the difference, divided by the sample's largest
            value.
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
        kind: `random`, `data`, or what is special about the inputs, such as
            `mask: zeros at the end`.
        shapes: the shapes of the inputs by name.
        max_rel: the largest over the outputs of the difference, divided by the largest value of
            this sample; rounding is not counted.
        equal: whether all outputs are equal.
    """

    kind: str
    shapes: Mapping[str, tuple[int, ...]]
    max_rel: float
    equal: bool


@dataclass(frozen=True, repr=False)
class Verification(Report):
    """Whether two models give the same outputs.

    Attributes:
        equal: whether all outputs are equal.
        max_abs: the largest absolute difference over the outputs.
        max_rel: the largest relative difference over the outputs.
        outputs: one entry an output.
        samples: the number of inputs that were run.
        provider: the onnxruntime execution provider.
        metric: the name of the task metric, None without labels.
        metrics: the metric of the first and of the second model, None without labels.
        runs: what was run, one entry a sample. Inputs that neither model takes are left out.
        left_out: what is special about the inputs on which neither model repeats its own outputs.
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
    left_out: tuple[str, ...] = ()

    def headline(self) -> str:
        """Say in one line whether the models are equal, and what that rests on."""
        ran = f"on {count_things(self.samples, 'input')}, {self.provider}"
        unequal = [o.name for o in self.outputs if not o.equal]
        if self.equal:
            return f"equal: largest difference {self.max_rel:.3g} of the largest output, {ran}"
        what = f"output '{unequal[0]}' differs" if len(unequal) == 1 else "outputs differ"
        return f"NOT equal: {what} by up to {self.max_rel:.3g} of the largest value, {ran}"

    def details(self, limit: int | None = MAX_SHOWN_OUTPUTS) -> list[str]:
        """List the outputs, those that differ most first, and the metrics of both models."""
        worst = sorted(self.outputs, key=lambda o: (o.equal, -o.max_rel))
        rows = [
            (o.name, list(o.shape), f"{o.max_abs:.3g}", f"{o.max_rel:.3g}", o.equal) for o in worst
        ]
        lines = format_table(("output", "shape", "max abs", "max rel", "equal"), rows, limit)
        if self.metrics:
            lines.append(f"{self.metric}: {self.metrics[0]:.4f} and {self.metrics[1]:.4f}")
        if self.left_out:
            kinds = ", ".join(dict.fromkeys(self.left_out))
            lines.append(f"left out, as neither model repeats its own outputs: {kinds}")
        return lines

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        fields = {"equal": self.equal, "max_abs": self.max_abs, "max_rel": self.max_rel}
        return {
            **fields,
            "outputs": self.outputs,
            "samples": self.samples,
            "runs": self.runs,
            "left_out": self.left_out,
            "provider": self.provider,
            "metric": self.metric,
            "metrics": self.metrics,
        }
