"""Public functions about models that match no units.

They explain what holds an axis, tell whether outputs are equal, and link files. Each reads its
models and calls one function of a package below.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto

from ..errors import UnknownNameError, suggest_name
from ..graph.linking import link_graphs
from ..graph.loading import Model, load_graph, load_pair
from ..runtime.comparing.comparison import compare_models
from ..runtime.comparing.data import read_data
from ..runtime.comparing.verification import Verification
from ..runtime.limits import Limits, run_limited
from ..symmetry.explanation import Explanation, explain_axes
from .verification import open_pair


def explain(
    model: Model, initializer: str, axis: int | None = None, *, states: Sequence[str] = ()
) -> tuple[Explanation, ...]:
    """Explain why the axes of a weight are pinned, or what they are tied to, node by node.

    Args:
        model: a path or a model.
        initializer: the weight's name, as `find_groups` gives it.
        axis: one axis, counted from 0; all by default.
        states: `OUTPUT=INPUT` each: outputs that are fed back as inputs, beside those that their
            names tell; `none` among them where names are not to be believed.

    Returns:
        One explanation an axis.

    Raises:
        LadyError: the model does not have that weight or axis.
    """
    graph = load_graph(model, states)
    if initializer not in graph.tensors:
        known = f"{suggest_name(initializer, graph.tensors)}`lady-onnx groups --json` lists them"
        raise UnknownNameError(f"{graph.name}: no weight '{initializer}'; {known}")
    return explain_axes(graph, initializer, axis)


def link(models: Sequence[Model], links: Sequence[tuple[str, str]]) -> ModelProto:
    """Make one model of several that are the parts of one system, so that groups may cross files.

    A linked output is taken to go nowhere else: link it to all inputs that read it.

    Args:
        models: paths with different file names, or models. Every name of a part is preceded by that
            of its file, as in `encoder/weight`, or by `part0/` and so on.
        links: `(output, input)`: an output of one part that is an input of another, by names that
            only one part has, or with that of their file.

    Raises:
        LadyError: a model cannot be read, or the parts do not fit.
    """
    return link_graphs([load_graph(m) for m in models], links).model


def verify(  # noqa: PLR0913 - people call it, each argument by its name
    a: Model,
    b: Model,
    *,
    samples: int = 4,
    seed: int = 0,
    data: Mapping[str, np.ndarray] | str | os.PathLike[str] | None = None,
    metric: str | None = None,
    provider: str = "auto",
    tolerance: float | None = None,
    custom_ops: Sequence[str] = (),
    states: Sequence[str] = (),
    timeout: float | None = None,
    memory: float | None = None,
) -> Verification:
    """Run two models on the same inputs under onnxruntime and compare their outputs.

    Args:
        a: a path or a model.
        b: another one with the same inputs and outputs.
        samples: the number of random inputs.
        seed: their seed.
        data: inputs by name instead, and `labels` for the metric: arrays, or the path of an .npz
            file.
        metric: `accuracy` or `mse`, of the first output against `labels`.
        provider: `auto` (CUDA where it really loads), `cpu` or `cuda`.
        tolerance: the largest difference, relative to the largest output, that counts as equal; by
            default 1e-4, and 1e-2 for half precision.
        custom_ops: paths of libraries with kernels of operators that onnxruntime does not have.
        states: `OUTPUT=INPUT` each: outputs that are fed back as inputs, beside those that their
            names tell; `none` among them where names are not to be believed.
        timeout, memory: the seconds and GB that the run may take, each None for any. With a limit
            it is that of a child process, which is ended past it.

    Raises:
        LadyError: a model cannot be read or run, or its run went past a limit.
    """
    limits = Limits(timeout, memory)
    limits.check()
    arrays = data if data is None or isinstance(data, Mapping) else read_data(data)
    graphs = load_pair(a, b, states)

    def work() -> Verification:
        return compare_models(
            open_pair(*graphs, provider, custom_ops),
            samples=samples,
            seed=seed,
            data=arrays,
            metric_name=metric,
            tolerance=tolerance,
        )

    return run_limited(work, limits, graphs[0].name)
