"""Factors of operators one by one: those that are free are found, and no others.

The judge of what is free is onnxruntime: how its outputs change with the logarithm of every factor.
What no weight of the model can make up for changes them at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import lady_onnx as lady
from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.groups.model import Slot
from lady_onnx.groups.scaling import Scaling, locate_units
from lady_onnx.scaling.walk import find_scalings
from lady_onnx.symmetry.finder import extract_groups

from ..helpers import oracle
from ..helpers.block_cases import draw_bytes, scales
from ..helpers.factors import one_factor_each, violation
from ..helpers.one_operator import LENGTH, OneOperator, draw
from ..helpers.splices import ALONE

LOOSE = {
    "BranchwiseRMSNorm": "with one gain for all branches, signs would hide the order of features",
    "EngramGate": "gates read a product of two norms",
    "HyperConnectionPostMix": "a matrix that mixes branches has them along two axes",
    "Imputer": "a number that stands for a missing one",
    "LinearAttentionGate": "gates are exponentials",
    "SampleOp": "an operator for tests of onnxruntime",
}
"""Operators that let more factors pass than are found, and why."""
ROUNDED = ("Binarizer", "DynamicQuantizeLSTM", "GatherBlockQuantized", "LinearAttention", "QMoE")
"""Operators whose results say too little: they round, or grow beyond all bounds."""
NO_CHANGE, CHANGE = 5e-5, 5e-4
"""Shares of the largest change of outputs: below the first is rounding, above the other is none."""
EPSILON = 1e-7
"""A share of an output by which rounding may change it."""
STEP = 0.03
"""A step of the logarithm of a factor."""


def choose_cases() -> list[OneOperator]:
    """One case of an operator is quick; its others are long."""
    seen: set[str] = set()
    found = []
    for case in ALONE:
        if not case.can_be_spliced:
            continue
        marks = [pytest.mark.long] if case.operator in seen else []
        seen.add(case.operator)
        found.append(pytest.param(case, marks=marks, id=case.label))
    return found


class Handles:
    """What may be multiplied in one unit of a group: each of its elements by itself.

    Attributes:
        slots: the places of the unit's elements in weights of floats.
    """

    def __init__(self, graph: Graph, slots: Sequence[Slot]):
        self.slots = [
            Slot(s.initializer, s.axis, s.index[:1, k : k + 1], s.within)
            for s in slots
            if graph.array(s.initializer).dtype.kind == "f"
            for k in range(s.index.shape[1])
        ]

    def cover(self, scaling: Scaling) -> np.ndarray:
        """Return which elements each slot of a scaling has, [slots, elements]."""
        table = np.zeros((len(scaling.slots), len(self.slots)), np.int64)
        for (a, s), (b, h) in itertools.product(enumerate(scaling.slots), enumerate(self.slots)):
            is_same = (s.initializer, s.axis, s.within) == (h.initializer, h.axis, h.within)
            table[a, b] = is_same and h.index[0, 0] in s.index[0]
        return table


class Trial:
    """A model whose weights are fed, so that one session tries all factors."""

    def __init__(self, model: onnx.ModelProto, graph: Graph, names: set[str]):
        self.arrays = {n: graph.array(n) for n in names}
        fed = onnx.ModelProto()
        fed.CopyFrom(model)
        for name in names:
            tensor = graph.tensors[name]
            info = helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            fed.graph.input.append(info)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(
            fed.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        rng = np.random.default_rng(0)
        shapes = {i.name: i.shape for i in self.session.get_inputs() if i.name not in names}
        self.inputs = [
            {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
            for _ in range(6)
        ]

    def run(self, slots: Sequence[Slot], factors: np.ndarray) -> np.ndarray:
        """All outputs with elements multiplied by factors."""
        arrays = {n: a.astype(np.float64) for n, a in self.arrays.items()}
        for slot, factor in zip(slots, factors, strict=True):
            array = arrays[slot.initializer]
            array[np.ix_(*locate_units(slot, array.shape))] *= factor
        weights = {n: a.astype(self.arrays[n].dtype) for n, a in arrays.items()}
        outputs = [o for x in self.inputs for o in self.session.run(None, {**x, **weights})]
        return np.concatenate([np.ravel(o).astype(np.float64) for o in outputs])

    def differentiate(self, slots: Sequence[Slot]) -> np.ndarray:
        """How outputs change with the logarithms of factors, [outputs, elements].

        At many places: what makes up for a factor at all of them is a factor, and no sum.
        """
        found = []
        for place in range(max(6, len(slots) // 8)):
            rng = np.random.default_rng(place)
            here = np.exp(rng.normal(0, 0.5 * (place > 0), len(slots)))
            rows = []
            for k in range(len(slots)):
                ends = [here.copy(), here.copy()]
                ends[0][k] *= np.exp(STEP)
                ends[1][k] *= np.exp(-STEP)
                more, less = (self.run(slots, end) for end in ends)
                rows.append((more - less) / (2 * STEP))
            found.append(np.array(rows).T)
        return np.concatenate(found)


def count_free(trial: Trial, slots: Sequence[Slot], largest: float) -> int | None:
    """How many independent factors change no output; None where rounding hides it.

    Args:
        trial: the model.
        slots: what may be multiplied.
        largest: the largest output.
    """
    changes = trial.differentiate(slots)
    sizes = np.linalg.svd(changes, compute_uv=False)
    noise = EPSILON * largest / STEP * np.sqrt(len(changes))
    shares = sizes / sizes.max(initial=1e-30)
    if noise > NO_CHANGE * sizes.max() or ((shares > NO_CHANGE) & (shares < CHANGE)).any():
        return None
    return int((shares < NO_CHANGE).sum())


@pytest.mark.parametrize("case", choose_cases())
def test_all_factors_that_are_free_are_found(case: OneOperator) -> None:
    model, _ = case.build()
    graph = load_graph(model)
    analysis = analyse_graph(graph)
    groups = [g for g in extract_groups(analysis).groups if g.kind != "blocks"]
    scalings = find_scalings(graph, analysis, groups)
    handles = {g.id: Handles(graph, g.slots) for g in groups}
    trial = Trial(model, graph, {s.initializer for h in handles.values() for s in h.slots})
    is_rounded = case.operator in ROUNDED or any("quant" in name for name in case.attributes)
    is_tight = True
    for group in groups:
        slots = handles[group.id].slots
        if not slots or is_rounded:
            continue
        whole = trial.run(slots, np.ones(len(slots)))
        one_each = 1 + 0.5 * np.eye(len(slots))
        effects = [np.abs(trial.run(slots, f) - whole).max() for f in one_each]
        largest = np.abs(whole).max()
        # what no output shows may be multiplied by anything, and is no matter of factors
        shown = [k for k, effect in enumerate(effects) if effect > 20 * EPSILON * largest]
        if not shown or min(effects[k] for k in shown) < CHANGE * largest:
            continue
        free = count_free(trial, [slots[k] for k in shown], largest)
        if free is None:
            continue
        scaling = scalings[group.id]
        rows = (scaling.scales @ handles[group.id].cover(scaling))[:, shown]
        found = int(np.linalg.matrix_rank(rows)) if rows.size else 0
        assert found <= free
        is_tight &= found == free
    assert is_tight or case.operator in LOOSE


@pytest.mark.parametrize("case", choose_cases())
def test_what_is_found_changes_nothing(case: OneOperator) -> None:
    model, _ = case.build()
    for what, other in one_factor_each(model, 1):
        # a delta rule grows beyond all bounds on inputs that are made to tell
        is_steep = case.operator == "LinearAttention"
        apart = measure_on_usual_inputs(model, other) if is_steep else violation(model, other)
        assert apart == 0, what


def measure_on_usual_inputs(model: onnx.ModelProto, other: onnx.ModelProto) -> float:
    """How far outputs are apart on normal inputs, as a share of the largest; 0 for rounding."""
    ours, theirs = (Trial(m, load_graph(m), set()).run([], np.zeros(0)) for m in (model, other))
    apart = float(np.abs(ours - theirs).max() / np.abs(ours).max())
    return apart if apart > oracle.TELLING else 0.0


@pytest.mark.parametrize("case", choose_cases())
def test_copies_with_factors_are_not_accused(case: OneOperator) -> None:
    model, _ = case.build()
    attacked = lady.attack(model, "rescale", 0.5, seed=3)
    if attacked.weights:
        # of three units with a few weights each, factors hide who is who
        assert lady.check(model, attacked.model).verdict in ("rescaled", "altered")


@pytest.mark.parametrize("is_normalised", [0, 1])
def test_weights_of_the_router_have_no_factors(is_normalised: int) -> None:
    """They may be normalised, and experts of negative weights may be left out."""
    experts, width = 3, 32
    layers = [
        *(draw_bytes(1, experts, 1, width), scales(2, experts, 1) / 20, draw(3, experts, 1)),
        *(
            draw_bytes(4, experts, width, 1),
            scales(5, experts, width) / 20,
            draw(6, experts, width),
        ),
    ]
    choice, rows = (LENGTH, experts), (1, LENGTH, width)
    attributes = {"k": 2, "expert_weight_bits": 8, "weights_prepacked": 0}
    attributes["normalize_routing_weights"] = is_normalised
    operands = [rows, choice, *layers, *[None] * 6, choice]
    model, _ = OneOperator("QMoE", operands, [rows], [], attributes).build()
    for what, other in one_factor_each(model, 1):
        assert violation(model, other) == 0, what
