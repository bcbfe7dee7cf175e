"""Random graphs with every rule in them: the models that operators are tried on, spliced in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, NodeProto, helper

from . import (
    block_cases,
    expert_cases,
    fused,
    handmade,
    head_cases,
    operator_cases,
    operator_models,
    recurrent_cases,
    sequences,
    single_cases,
)
from .grown import OPSET, SIZE, Grown
from .strategies import STEPS, WIDTHS, begin, end, grow

ALONE = [
    *head_cases.CASES,
    *block_cases.CASES,
    *expert_cases.CASES,
    *recurrent_cases.CASES,
    *single_cases.CASES,
]
"""Operators one by one, each with the sizes of the groups around it."""
BATCH = 4
"""The size of symbolic axes."""


@dataclass(frozen=True)
class Splice:
    """A model of one input `x` and one output `out`, and the sizes of its groups."""

    name: str
    opset: int
    build: Callable[[], tuple[ModelProto, list[int]]]


def pool() -> list[Splice]:
    found = [
        Splice(
            c[0], c[3], functools.partial(lambda c: (operator_models.build_model(*c[:5]), c[5]), c)
        )
        for c in operator_cases.CASES
    ]
    found += [
        Splice(c[0], OPSET, functools.partial(lambda c: (fused.build_model(*c[:5]), c[5]), c))
        for c in fused.CASES
    ]
    found += [
        Splice(
            op, 20, functools.partial(lambda op: (operator_models.made_from_nothing(op), []), op)
        )
        for op in operator_models.FROM_NOTHING
    ]
    found += [
        Splice("shapes", OPSET, handmade.shapes),
        Splice("If", OPSET, handmade.branches),
    ]
    found += [
        Splice("embeddings", OPSET, fused.embeddings),
        Splice("Scan", OPSET, handmade.scan),
        Splice("call", OPSET, handmade.functions),
    ]
    found += [
        Splice("queries", OPSET, functools.partial(fused.grouped_queries, *c))
        for c in fused.GROUPED_QUERIES
    ]
    found += [Splice("blocks", OPSET, functools.partial(fused.blocks, *c)) for c in fused.BLOCKS]
    found += [
        Splice("QLinearWhere", OPSET, fused.byte_choice),
        Splice("Inverse", OPSET, fused.inverse),
    ]
    found += [
        Splice("GatherBlockQuantized", 21, functools.partial(fused.block_embedding, *c))
        for c in fused.BLOCK_EMBEDDINGS
    ]
    found += [
        Splice("rotation", OPSET, functools.partial(fused.rotation, *c)) for c in fused.ROTATIONS
    ]
    found += [Splice(case.__name__, OPSET, case) for case in sequences.CASES]
    found += [
        Splice("Loop", OPSET, functools.partial(handmade.loop, known)) for known in (True, False)
    ]
    found += [
        Splice(case[0], OPSET, functools.partial(handmade.recurrent, *case))
        for case in handmade.RECURRENT
        if case[2] != "layout"
    ]
    found += [
        Splice("Attention", 23, functools.partial(handmade.attention, keys)) for keys in (1, 2, 4)
    ]
    found += [Splice(case.label, case.opset, case.build) for case in ALONE if case.can_be_spliced]
    return [*found, Splice("RotaryEmbedding", 23, handmade.rotary)]


POOL = pool()


@functools.cache
def built(number: int) -> tuple[ModelProto, list[int], list[int], int]:
    """A splice's model, its groups' sizes, the shape of its input and the size of its output."""
    model, expected = POOL[number].build()
    shape = [d.dim_value or BATCH for d in model.graph.input[0].type.tensor_type.shape.dim]
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return model, expected, shape, session.run(["out"], {"x": np.ones(shape, np.float32)})[0].size


def operators(number: int) -> set[tuple[str, str]]:
    """The operators of a splice, those in its subgraphs and functions included."""
    model = built(number)[0]
    return {
        *_operators(model.graph.node),
        *(o for f in model.functions for o in _operators(f.node)),
    }


def _operators(nodes: Iterable[NodeProto]) -> set[tuple[str, str]]:
    found = {(n.domain, n.op_type) for n in nodes}
    for node in nodes:
        for attribute in node.attribute:
            found |= _operators(attribute.g.node)
    return found


def splice(g: Grown, current: str, number: int, width: int) -> str:
    """Feeds the channels of `current` to a splice's input, and its output to new channels.

    What the splice is given has an order, and so has its output: it has the groups that it has
    alone.
    """
    model, expected, shape, size = built(number)
    model = ModelProto.FromString(model.SerializeToString())
    prefix = f"s{len(g.nodes)}_"
    units = g.maps[current]
    rows = [u for u in units for _ in range(SIZE * SIZE)]
    count = int(np.prod(shape))
    flat = g.node("Flatten", [current])[0]
    mixed = g.node(
        "MatMul", [flat, g.weight((len(rows), count), (0, rows), spread=len(rows) ** -0.5)]
    )[0]
    shaped = g.node("Reshape", [mixed, g.constant(shape)])[0]
    g.inputs.append(helper.make_tensor_value_info(f"{prefix}0in", onnx.TensorProto.FLOAT, shape))
    g.nodes.append(helper.make_node("Add", [shaped, f"{prefix}0in"], [f"{prefix}x"]))
    _rename(model.graph, prefix)
    for function in model.functions:
        function.domain = prefix + function.domain
        for node in function.node:
            node.domain = prefix + node.domain if node.domain == "own" else node.domain
        for entry in function.opset_import:
            entry.domain = prefix + entry.domain if entry.domain == "own" else entry.domain
        g.functions.append(function)
    for node in model.graph.node:
        node.domain = prefix + node.domain if node.domain == "own" else node.domain
    g.nodes += model.graph.node
    g.weights += model.graph.initializer
    g.inner += expected
    g.outputs.append(f"{prefix}out")
    row = g.node("Tanh", [g.node("Reshape", [f"{prefix}out", g.constant([1, size])])[0]])[0]
    made = g.units(width)
    back = g.node("MatMul", [row, g.weight((size, width), (1, made))])[0]
    back = g.node("Reshape", [back, g.constant([1, width, 1, 1])])[0]
    g.inputs.append(
        helper.make_tensor_value_info(
            f"{prefix}0places", onnx.TensorProto.FLOAT, [1, 1, SIZE, SIZE]
        )
    )
    # The addend is bounded: the channels share it, so a norm over them takes it away, and of a huge
    # one would leave rounding alone.
    places = g.node("Tanh", [f"{prefix}0places"])[0]
    result = g.node("Add", [back, places])[0]
    g.maps[result] = made
    return result


def _rename(graph: GraphProto, prefix: str) -> None:
    for node in graph.node:
        node.name = node.name and prefix + node.name
        for names in (node.input, node.output):
            names[:] = [n and prefix + n for n in names]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, prefix)
    for field in (graph.initializer, graph.input, graph.output):
        for item in field:
            item.name = prefix + item.name


@st.composite
def spliced(
    draw: st.DrawFn, most: int = 4, first: int | None = None
) -> tuple[ModelProto, list[int], set[int]]:
    """A random graph, its groups' sizes, and its splices; `first` is one that must be there."""
    first = draw(st.sampled_from(range(len(POOL)))) if first is None else first
    opset = POOL[first].opset
    alike = [i for i, s in enumerate(POOL) if s.opset == opset]
    g, current = begin(draw, opset)
    current = splice(g, current, first, draw(WIDTHS))
    used = {first}
    for _ in range(draw(st.integers(0, most))):
        if opset >= OPSET and draw(st.booleans()):
            current = grow(draw, g, current, draw(st.sampled_from(STEPS)))
        else:
            number = draw(st.sampled_from(alike))
            current = splice(g, current, number, draw(WIDTHS))
            used.add(number)
    return *end(draw, g, [current]), used
