"""Running a model whose outputs are fed back: a few steps of a loop, for its answers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...graph.model import Graph
from ...graph.shapes import find_sums, size_length
from ..sessions import run_sample
from ..source import Inputs, Source, Traits

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LATER_STEPS = 2
"""The number of steps after the first. With two, a state that a later step left is read as well."""
STEP_SEED = 1
"""The seed of the inputs of later steps; the number of the step is part of it."""


class Loop:
    """What the steps of a loop have in common, for two models that are run side by side.

    Args:
        source: the source of the first model's inputs.

    Attributes:
        answers: the positions of the outputs that are not fed back.
    """

    def __init__(self, source: Source):
        graph = source.graph
        self._source = source
        names = [o.name for o in graph.model.graph.output]
        fed = {s.output: s.input for s in graph.states}
        self.answers = [k for k, name in enumerate(names) if name not in fed]
        self._fed = [(k, fed[name]) for k, name in enumerate(names) if name in fed]
        self._sums = find_sums(graph)
        self._dims = {
            v.name: [d.dim_param if d.dim_value <= 0 else d.dim_value for d in dims]
            for v in graph.required_inputs
            if (dims := v.type.tensor_type.shape.dim) or v.type.tensor_type.HasField("shape")
        }
        self._batches = {dims[0] for dims in self._dims.values() if len(dims) > 1}

    def name_answers(self, names: Sequence[str]) -> list[str]:
        """Name the answers of all steps; `names` are those of the model's outputs."""
        kept = [names[k] for k in self.answers]
        if not self._fed:
            return kept
        later = [f"{name}, step {k + 2}" for k in range(LATER_STEPS) for name in kept]
        return kept + later

    def run(
        self,
        session: InferenceSession,
        graph: Graph,
        inputs: Mapping[str, np.ndarray],
        renamed: Mapping[str, str],
        order: Sequence[int],
    ) -> list[np.ndarray]:
        """Run a model on a sample, and then on what it left behind.

        Args:
            session: a session of the model.
            graph: the model, for messages.
            inputs: the inputs of the first step, by the first model's names.
            renamed: by the first model's names of inputs those of this one.
            order: for each output of the first model the position of this one's.

        Returns:
            The answers, step by step.

        Raises:
            ExecutionError: onnxruntime does not run the model.
        """
        answers: list[np.ndarray] = []
        made: list[np.ndarray] = []
        given = dict(inputs)
        for step in range(1 + (LATER_STEPS if self._fed else 0)):
            if step:
                given = self._make_next_inputs(given, made, step)
            raw = run_sample(session, graph, {renamed[n]: x for n, x in given.items()})
            made = [raw[k] for k in order]
            answers += [made[k] for k in self.answers]
        return answers

    def _make_next_inputs(
        self, given: Mapping[str, np.ndarray], made: Sequence[np.ndarray], step: int
    ) -> Inputs:
        """Make the inputs of the next step: states as they were left, and one place more.

        Args:
            given: the inputs of the step before.
            made: its outputs.
            step: the number of the next step.
        """
        # a decoder with two branches returns empty keys and values of its encoder: the old stay
        states = {
            name: made[k] if made[k].size or not given[name].size else given[name]
            for k, name in self._fed
        }
        known: dict[str, int] = {}
        grows = False
        for name, array in states.items():
            for length, n, before in zip(
                self._dims[name], array.shape, given[name].shape, strict=True
            ):
                if isinstance(length, str) and length:
                    known[length] = n
                    grows |= n != before
        shapes = {}
        for name, dims in self._dims.items():
            if name in states or name not in given:
                continue
            old = given[name].shape
            if not old and given[name].dtype.kind != "b":
                # a number that stands alone is a setting, such as a rate, and stays
                continue
            shape = []
            for length, n in zip(dims, old, strict=True):
                is_free = isinstance(length, str) and length not in self._batches
                # a cache grows by one place a step; if no state grows, the next input is as long as
                # the last
                otherwise = 1 if is_free and grows and length else n
                shape.append(
                    size_length(length, self._sums, known, otherwise)
                    if isinstance(length, str) and length
                    else n
                )
            shapes[name] = tuple(shape)
        fresh = self._source.make_inputs(shapes, Traits(), STEP_SEED, step)
        return {**given, **fresh, **states}
