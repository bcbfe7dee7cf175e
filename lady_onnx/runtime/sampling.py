"""Random inputs that a model answers to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..errors import LadyError
from ..graph.model import Graph
from ..graph.shapes import choose_input_shapes
from .sessions import run_sample
from .source import Inputs, Source

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PICTURE_SIZES = (224, 64, 32, 640, 7)
"""Sizes to try for the symbolic axes of models with pictures as inputs."""
SEQUENCE_SIZES = (16, 64, 7, 224, 512, 16000)
"""Sizes to try for the symbolic axes of other models."""
MIN_PICTURE_AXES = 4
"""Inputs of at least this number of axes are pictures."""
MAX_ELEMENTS = 1 << 24
"""Sizes at which the inputs have more elements together are not tried."""
CANDIDATES_PER_SAMPLE = 3
"""The number of samples that are drawn for each one that is kept."""
MIN_LARGEST_OUTPUT = 1e-300
"""Stands for zero where outputs are divided by their largest value."""


def draw_telling_samples(
    graph: Graph, session: InferenceSession, count: int, seed: int
) -> list[Inputs]:
    """Draw random inputs that a model answers to.

    Symbolic axes get the first size at which the model runs. Of three times as many candidates
    those are kept on which the outputs are largest: a detector that sees nothing answers with
    zeros, and zeros prove nothing.

    Args:
        graph: the model.
        session: a session of it.
        count: the number of samples.
        seed: the seed of the values.

    Returns:
        The inputs of each sample by name.

    Raises:
        LadyError: an input has no shape, or the model runs at no size.
    """
    return draw_answered_samples(Source(graph), session, count, seed)


def draw_answered_samples(
    source: Source,
    session: InferenceSession,
    count: int,
    seed: int,
    lengths: Mapping[str, int] | None = None,
) -> list[Inputs]:
    """Draw random inputs as `draw_telling_samples` does, from a source of inputs.

    The source stays narrow (see `Source.narrow`) if that is what the model needs. `lengths` are
    known sizes of symbolic axes by name.
    """
    last: LadyError | None = None
    graph = source.graph
    fed = {s.input for s in graph.states}
    has_pictures = any(
        len(i.shape) >= MIN_PICTURE_AXES for i in session.get_inputs() if i.name not in fed
    )
    sizes = PICTURE_SIZES if has_pictures else SEQUENCE_SIZES
    # Whether integers are out of the range of a table that is computed may only show in a run. The
    # loop sets the attribute itself, which keeps the value at which the model ran.
    for source.narrow in (False, True):
        for shapes, _ in choose_input_shapes(graph, sizes, lengths):
            for name in (i.name for i in session.get_inputs()):
                if name not in shapes:
                    why = f"input '{name}' has no shape, so no random values fit"
                    raise LadyError(f"{graph.name}: {why}; give some with --data")
            if sum(math.prod(shape) for shape in shapes.values()) > MAX_ELEMENTS:
                why = f"its inputs have over {MAX_ELEMENTS} elements at the sizes that are tried"
                last = last or LadyError(f"{graph.name}: {why}; give some with --data")
                continue
            candidates = list(source.draw_random(shapes, CANDIDATES_PER_SAMPLE * count, seed))
            try:
                answers = [
                    [_find_largest_value(o) for o in run_sample(session, graph, candidate)]
                    for candidate in candidates
                ]
            except LadyError as error:
                last = error
                continue
            return [candidates[k] for k in _choose_largest(np.array(answers), count)]
    assert last is not None
    raise last


def _choose_largest(largest: np.ndarray, count: int) -> list[int]:
    """Return the numbers of the samples with the largest outputs, in ascending order.

    Args:
        largest: the largest absolute value by sample and output, [samples, outputs].
        count: the number of samples to choose.
    """
    score = (largest / np.maximum(largest.max(0), MIN_LARGEST_OUTPUT)).sum(1)
    return sorted(np.argsort(-score, kind="stable")[:count].tolist())


def _find_largest_value(output: np.ndarray) -> float:
    """Return the largest finite absolute value of an output."""
    values = output.astype(np.float64).ravel()
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
