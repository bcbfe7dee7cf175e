"""lady-onnx: find where every neuron of a shuffled ONNX model went, and put it back.

    import lady_onnx as lady

    symmetry = lady.find_groups("model.onnx")
    result = lady.resync("reference.onnx", "suspect.onnx")

Models are paths or `onnx.ModelProto`. The method is that of De Sousa Trias et al., "Find the Lady:
Permutation and Re-synchronization of Deep Neural Networks", AAAI 2024, and goes past it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto

from .diagnosis.alterations import Alteration
from .diagnosis.divergence import divergence
from .diagnosis.findings import Finding
from .errors import ArchitectureError, LadyError
from .graph.linking import link_graphs as _link
from .graph.loading import load_graph
from .groups.model import Group, Pin, Slot, Symmetry
from .matching.matches import Match
from .pipeline.attacks import Attacked, attack
from .pipeline.checking import Check, check
from .pipeline.outcome import Resync
from .pipeline.permuting import Model, Permuted, find_groups, permute
from .pipeline.resynchronization import resync
from .runtime.sessions import OutputDifference, Run, Verification, compare_models, read_data
from .symmetry.explanation import Explanation, Tie
from .symmetry.explanation import explain_axes as _explain

__all__ = [
    "Alteration",
    "ArchitectureError",
    "Attacked",
    "Check",
    "Explanation",
    "Finding",
    "Group",
    "LadyError",
    "Match",
    "OutputDifference",
    "Permuted",
    "Pin",
    "Resync",
    "Run",
    "Slot",
    "Symmetry",
    "Tie",
    "Verification",
    "attack",
    "check",
    "divergence",
    "explain",
    "find_groups",
    "link",
    "permute",
    "resync",
    "verify",
]

__version__ = "0.1.0"


def explain(model: Model, initializer: str, axis: int | None = None) -> tuple[Explanation, ...]:
    """Why the axes of a weight are pinned, or what they are tied to, with the nodes that lead there.

    Args:
        model: a path or a model.
        initializer: the weight's name, as `find_groups` gives it.
        axis: one axis, counted from 0; all by default.

    Raises LadyError for a weight or an axis that the model has not.
    """
    return _explain(load_graph(model), initializer, axis)


def link(models: Sequence[Model], links: Sequence[tuple[str, str]]) -> ModelProto:
    """One model of several, the parts of one system in files of their own, so that groups may cross files.

    Args:
        models: paths with different file names, or models. Every name of a part is preceded by its file's, as in
            `encoder/weight`, or by `part0/` and so on.
        links: `(output, input)`: an output of one part that is an input of another, by names that only one part has,
            or with their file's. A linked output is taken to go nowhere else: link it to all that read it.

    Raises LadyError where a model cannot be read, or the parts do not fit.
    """
    return _link([load_graph(m) for m in models], links).model


def verify(
    a: Model,
    b: Model,
    *,
    samples: int = 4,
    seed: int = 0,
    data: Mapping[str, np.ndarray] | str | os.PathLike[str] | None = None,
    metric: str | None = None,
    provider: str = "auto",
    tolerance: float | None = None,
) -> Verification:
    """Runs two models on the same inputs under onnxruntime and compares their outputs.

    Args:
        a, b: paths or models with the same inputs and outputs.
        samples, seed: how many random inputs, and their seed.
        data: inputs by name instead, and `labels` for the metric; arrays, or the path of an .npz file.
        metric: `accuracy` or `mse`, of the first output against `labels`.
        provider: `auto` (CUDA where it really loads), `cpu` or `cuda`.
        tolerance: the largest difference, relative to the largest output, that counts as equal; by default 1e-4,
            and 1e-2 for half precision.

    Raises LadyError where a model cannot be read or run.
    """
    arrays = data if data is None or isinstance(data, Mapping) else read_data(data)
    return compare_models(
        load_graph(a),
        load_graph(b),
        samples=samples,
        seed=seed,
        data=arrays,
        metric_name=metric,
        provider_name=provider,
        tolerance=tolerance,
    )
