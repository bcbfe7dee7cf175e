"""Movements of axes: however they are written, they stand in one place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import helper

import lady_onnx as lady

from ..helpers.law import examples
from ..helpers.normal_forms import run
from ..helpers.written_forms import F, form, holds, model, node


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["transpose", "merge", "split"]), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_chains_of_movements_run_alike_and_end_alike(steps: list[str], random: Any) -> None:
    """However a shape is split, turned and merged, the form says what becomes of every element."""
    shape, nodes, constants, flow = [2, 12, 5], [], {}, "x"
    for k, step in enumerate(steps):
        if step == "transpose":
            order = list(range(len(shape)))
            random.shuffle(order)
            nodes.append(node("Transpose", flow, f"h{k}", perm=order))
            shape = [shape[a] for a in order]
        else:
            if step == "merge" and len(shape) > 1:
                at = random.randrange(len(shape) - 1)
                shape = [*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]]
            elif step == "split":
                at = random.randrange(len(shape))
                by = random.choice([d for d in range(1, shape[at] + 1) if shape[at] % d == 0])
                shape = [*shape[:at], by, shape[at] // by, *shape[at + 1 :]]
            constants[f"s{k}"] = np.array(shape)
            nodes.append(node("Reshape", f"{flow} s{k}", f"h{k}"))
        flow = f"h{k}"
    nodes.append(node("Identity", flow))
    chain = model(nodes, [2, 12, 5], **constants)
    made = form(chain)
    feed = {"x": np.arange(120, dtype=F).reshape(2, 12, 5)}
    wanted, found = run(chain, feed)[0], run(made, feed)[0]
    assert wanted.shape == found.shape
    assert (wanted == found).all()
    turned, laid = (
        sum(n.op_type == what for n in made.graph.node) for what in ("Transpose", "Reshape")
    )
    # two orders of factors that split each other are two
    assert turned <= steps.count("transpose")
    assert laid <= turned + 1


class Written:
    """A program of maps [2, 4, 6], written plainly, or with steps turned.

    A turned step has turned what it reads, and back what it gives.
    """

    def __init__(self, turn: Any):
        self.turn = turn
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Any] = {}

    def add(
        self, operator: str, inputs: Sequence[str], output: str, rank: int = 3, **given_: Any
    ) -> str:
        """A step, between two movements where `turn` says so; its numbers are turned with it."""
        order = self.turn(output, rank)
        if order is None:
            self.nodes.append(helper.make_node(operator, inputs, [output], **given_))
            return output
        sides = []
        for name in inputs:
            if name in self.constants:
                array = self.constants[name]
                self.constants[f"{name}/t"] = (
                    np.ascontiguousarray(np.transpose(array, order))
                    if array.ndim == rank
                    else array
                )
                sides.append(f"{name}/t")
                continue
            sides.append(f"{output}/{len(sides)}")
            self.nodes.append(node("Transpose", name, sides[-1], perm=order))
        if "axis" in given_:
            given_["axis"] = order.index(given_["axis"])
        if "axes" in given_:
            given_["axes"] = [order.index(a) for a in given_["axes"]]
        self.nodes.append(helper.make_node(operator, sides, [f"{output}/r"], **given_))
        self.nodes.append(node("Transpose", f"{output}/r", output, perm=np.argsort(order).tolist()))
        return output


def program(steps: Sequence[tuple[str, int, int]], turn: Any) -> onnx.ModelProto:
    """Some steps, each of which reads what any before it gave.

    `turn` gives an order of axes for a step, or none.
    """
    rng = np.random.default_rng(0)
    made, flow = Written(turn), ["x"]
    for k, (what, first, second) in enumerate(steps):
        a, b = flow[first % len(flow)], flow[second % len(flow)]
        made.constants[f"c{k}"] = rng.standard_normal(
            [(1, 4, 1), (2, 4, 6), (1, 1, 6), ()][second % 4]
        ).astype(F)
        output = f"h{k}"
        match what:
            case "unary":
                made.add(("Relu", "Tanh", "Sin")[second % 3], [a], output)
            case "add" | "mul":
                made.add(what.capitalize(), [a, b], output)
            case "add constant" | "mul constant":
                made.add(what.split()[0].capitalize(), [a, f"c{k}"], output)
            case "softmax":
                made.add("Softmax", [a], output, axis=second % 3)
            case "mean":
                made.add("ReduceMean", [a], f"{output}/m", axes=[second % 3])
                made.add("Sub", [a, f"{output}/m"], output)
            case "concat":
                made.add("Concat", [a, b], f"{output}/c", axis=1)
                made.constants[f"s{k}"], made.constants[f"e{k}"] = np.array([2]), np.array([6])
                made.constants[f"a{k}"] = np.array([1])
                made.nodes.append(node("Slice", f"{output}/c s{k} e{k} a{k}", output))
            case "linear":
                made.constants[f"w{k}"] = rng.standard_normal((6, 6)).astype(F)
                made.nodes.append(node("MatMul", f"{a} w{k}", output))
        flow.append(output)
    made.nodes.append(node("Identity", flow[-1]))
    return model(made.nodes, [2, 4, 6], **made.constants)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "unary",
                "add",
                "mul",
                "add constant",
                "mul constant",
                "softmax",
                "mean",
                "concat",
                "linear",
            ]
        ),
        st.integers(0, 9),
        st.integers(0, 11),
    ),
    min_size=1,
    max_size=7,
)


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.long)])
def test_movements_stand_behind_what_is_done_to_every_element(count: int) -> None:
    @example([("add constant", 0, 0), ("concat", 0, 1), ("add", 0, 2)], random.Random(0))
    @examples(count)
    @given(STEPS, st.randoms(use_true_random=False))
    def are_one_program(steps: list[tuple[str, int, int]], rng: Any) -> None:
        def turn(output: str, rank: int) -> list[int] | None:
            order = rng.sample(range(rank), rank)
            return order if rng.random() < 0.5 else None

        plain, turned = program(steps, lambda output, rank: None), program(steps, turn)
        holds(plain)
        holds(turned)
        assert lady.check(plain, turned).verdict == "identical"

    are_one_program()
