"""What a mark costs: how much the outputs of a model change, and how well it does its task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import LadyError, check_choice
from ..graph.model import Graph
from ..pipeline.verification import open_pair
from ..runtime.comparing.metrics import METRICS, compute_metric
from ..runtime.sampling import draw_telling_samples

SAMPLES = 4
"""So many random inputs are run where no data are given."""
HIGHER_IS_BETTER = {"accuracy": True, "mse": False}
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


def measure_impact(
    before: Graph,
    after: Graph,
    data: Mapping[str, np.ndarray] | None = None,
    metric: str | None = None,
) -> Impact:
    """Run a model before and after it is marked, and compare their outputs.

    Args:
        before, after: the model.
        data: inputs by name, and `labels`; random inputs by default.
        metric: `accuracy` or `mse` of the first output; the first by default where there are
            labels.

    Raises:
        LadyError: the model does not run, or the data do not fit.
    """
    pair = open_pair(before, after)
    samples = [data] if data is not None else draw_telling_samples(before, pair.first, SAMPLES, 0)
    apart, whole, metrics = 0.0, 0.0, None
    labels = None if data is None else data.get("labels")
    if metric is not None:
        check_choice("metric", metric, METRICS)
    if labels is not None:
        metric = metric or METRICS[0]
    elif metric is not None:
        raise LadyError(f"metric {metric}: needs 'labels' among the data")
    for sample in samples:
        missing = [n for n in pair.names if n not in sample]
        if missing:
            known = f"its keys are the input names {pair.names}, and 'labels'"
            raise LadyError(f"{before.name}: the data have no array '{missing[0]}'; {known}")
        ours, theirs = pair.run_both({n: np.asarray(sample[n]) for n in pair.names})
        for a, b in zip(ours, theirs, strict=True):
            is_known = np.isfinite(a) & np.isfinite(b)
            x, y = a[is_known].astype(np.float64), b[is_known].astype(np.float64)
            apart, whole = apart + float(np.square(x - y).sum()), whole + float(np.square(x).sum())
        if labels is not None and metric is not None:
            metrics = (
                compute_metric(metric, ours[0], labels),
                compute_metric(metric, theirs[0], labels),
            )
    change = (apart / whole) ** 0.5 if whole else 0.0
    return Impact(change, metric, metrics)
