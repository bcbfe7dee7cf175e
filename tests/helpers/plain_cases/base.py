"""A case of a plain form: a fused node with what it is given, and who judges it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
from hypothesis import strategies as st
from onnx import NodeProto, helper

from lady_onnx.rules.plain_forms import spell_out
from lady_onnx.vocabulary.structure import MICROSOFT

from ..draws import Draw


@dataclass
class Case:
    """A fused node with what it is given.

    Attributes:
        operands: the operands' values by position; None for one that is left out.
        attributes: the attributes.
        results: the names of the results; "" for one that is not asked for.
        steps: so many steps the plain form may be away where the results are whole numbers.
    """

    operands: Sequence[np.ndarray | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    results: Sequence[str] = ("r0",)
    steps: int = 0


CASES: dict[tuple[str, str], Callable[[Draw], Case]] = {}
"""By domain and operator what draws a case that onnxruntime runs and that has a plain form."""


DEFINITIONS: dict[str, Callable[[Case], np.ndarray]] = {}
"""What operators compute that onnxruntime has none of on a CPU, as their schema defines it."""


def case(
    *operators: str, domain: str = MICROSOFT
) -> Callable[[Callable[[Draw], Case]], Callable[[Draw], Case]]:
    def register(function: Callable[[Draw], Case]) -> Callable[[Draw], Case]:
        CASES.update({(domain, operator): function for operator in operators})
        return function

    return register


def size(draw: Draw, most: int = 4) -> int:
    return draw(st.integers(1, most))


def sizes(draw: Draw, least: int, most: int) -> list[int]:
    return draw(st.lists(st.integers(1, 4), min_size=least, max_size=most))


def node_of(operator: str, domain: str, drawn: Case) -> tuple[NodeProto, dict[str, np.ndarray]]:
    """The node of a case, and its operands' values by name."""
    feeds = {f"x{k}": value for k, value in enumerate(drawn.operands) if value is not None}
    names = [f"x{k}" if f"x{k}" in feeds else "" for k in range(len(drawn.operands))]
    return helper.make_node(
        operator, names, drawn.results, domain=domain, **drawn.attributes
    ), feeds


def spelled(
    node: NodeProto, feeds: dict[str, np.ndarray], ranks: bool = True
) -> list[NodeProto] | None:
    taken = itertools.count()
    known = {name: value.shape for name, value in feeds.items()} if ranks else {}
    rank = {name: len(shape) for name, shape in known.items()}.get
    return spell_out(node, rank, lambda hint: f"{hint}.{next(taken)}")


def run(
    nodes: Sequence[NodeProto], feeds: dict[str, np.ndarray], results: Sequence[str]
) -> list[np.ndarray]:
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in feeds.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in results]
    domains = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=domains, ir_version=9
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def check(operator: str, domain: str, drawn: Case) -> None:
    node, feeds = node_of(operator, domain, drawn)
    plain = spelled(node, feeds)
    assert plain is not None
    assert all(n.domain == "" and n.op_type != "Identity" for n in plain)
    results = [name for name in drawn.results if name]
    judge = DEFINITIONS.get(operator) if domain == MICROSOFT else None
    expected = [judge(drawn)] if judge else run([node], feeds, results)
    # an activation that bounds its results hides how large the sums are that were rounded before it
    is_activated = any(a.name == "activation" for a in node.attribute)
    sums = [
        n.output[0]
        for n in plain
        if is_activated and n.op_type in ("Conv", "Gemm") and n.output[0] not in results
    ]
    found = run(plain, feeds, [*results, *sums])
    inner = max([1.0, *(float(np.abs(a).max(initial=0)) for a in found[len(results) :])])
    for fused, written in zip(expected, found[: len(results)], strict=True):
        assert (fused.dtype, fused.shape) == (written.dtype, written.shape)
        if fused.dtype.kind == "f":
            room = 1e-5 * max(inner, float(np.abs(fused).max(initial=0)))
            np.testing.assert_allclose(written, fused, rtol=1e-5, atol=room)
        else:
            assert np.abs(fused.astype(int) - written.astype(int)).max(initial=0) <= drawn.steps


def defined(
    operator: str,
) -> Callable[[Callable[[Case], np.ndarray]], Callable[[Case], np.ndarray]]:
    def register(function: Callable[[Case], np.ndarray]) -> Callable[[Case], np.ndarray]:
        DEFINITIONS[operator] = function
        return function

    return register


def present(drawn: Case) -> list[np.ndarray]:
    return [value for value in drawn.operands if value is not None]
