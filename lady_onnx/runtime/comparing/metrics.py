"""Task metrics: how well an output fits its labels."""

from __future__ import annotations

import numpy as np

from ...errors import LadyError

METRICS = ("accuracy", "mse")


def compute_metric(name: str, output: np.ndarray, labels: np.ndarray) -> float:
    """Compute a task metric of one output.

    Args:
        name: `accuracy`, the share of samples whose largest output is that of their label, or
            `mse`, the mean squared difference.
        output: the output, [samples, ...].
        labels: class numbers, [samples], for `accuracy`; numbers of the output's shape for `mse`.

    Raises:
        LadyError: the labels do not fit the output.

    >>> compute_metric("accuracy", np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    wanted = output.shape[:1] if name == "accuracy" else output.shape
    if labels.size != np.prod(wanted) or labels.dtype.kind not in "biuf":
        what = f"'labels' has shape {list(labels.shape)}"
        raise LadyError(f"--data: {what}, {name} of this output needs {list(wanted)}")
    if name == "accuracy":
        return float((output.reshape(labels.size, -1).argmax(1) == labels.ravel()).mean())
    return float(np.mean((output.astype(np.float64) - labels.reshape(wanted)) ** 2))
