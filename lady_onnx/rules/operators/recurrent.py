"""LSTM, GRU and RNN, as the products and sums of one step.

Spec: https://onnx.ai/onnx/operators/
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ..kinds import (
    Elementwise,
    Equation,
    Expand,
    Kind,
    Movement,
    Node,
    Reshape,
    Step,
    Steps,
    Take,
    Transpose,
    require_shape,
)
from ..laws import Law, LawOf, Recurrence, ScaledNode
from ..registry import register

GATE_COUNTS = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""By operator the number of gates and candidates that stand side by side in its weights."""


def make_cell_law(gates: int, *activations: bytes) -> LawOf:
    """Return the law of a cell that has its default activations, and no law for any other.

    Args:
        gates: the number of gates and candidates that stand side by side in the weights.
        activations: the default activations: those of gates, of the candidate and of the state.
    """

    def law(node: ScaledNode) -> Law | None:
        chosen = [a.title() for a in node.attributes.get("activations", activations)]
        is_usual = chosen == list(activations) * (len(chosen) // len(activations))
        return Recurrence(gates) if is_usual and not node.attributes.get("layout") else None

    return law


@register("LSTM", law=make_cell_law(4, b"Sigmoid", b"Tanh", b"Tanh"))
@register("GRU", law=make_cell_law(3, b"Sigmoid", b"Tanh"))
@register("RNN", law=make_cell_law(1, b"Tanh"))
def describe_recurrent(node: Node) -> Kind:
    """Gates, states and peepholes share one order a direction; time keeps its own."""
    return describe_cells(node, GATE_COUNTS[node.operator], ("d ([g] h) i", "d ([g] h) k"))


def _move(*moves: Step) -> Movement:
    """Return the movement of one operand."""
    return Movement([((0,), list(moves))])


def _list_products(
    gates: int, inputs: str, sides: tuple[str, str], beside: tuple[Mapping[int, str], ...]
) -> Iterator[tuple[str, Kind, tuple[str, ...]]]:
    """Yield the steps of the products with the weights; see `describe_cells`.

    Args:
        gates: the number of gates.
        inputs: the side of what is read.
        sides: the sides of the weights.
        beside: what belongs to these.
    """
    # Nothing makes `state`: the step of time before left it behind (`Steps.states`). All gates are
    # added up, because only the order of the units counts, and it is one for all gates.
    rows = ("x", inputs, "wide", "s d b [g] h"), ("r", "d b k", "state", "d b [g] h")
    for (name, row, source, made), weight, side, others in zip(
        rows, ("1", "2"), sides, beside, strict=True
    ):
        text = f"{', '.join([row, side, *others.values()])} -> {made}"
        yield name, Equation(text, {"g": gates}), (source, weight, *map(str, others))


def describe_cells(
    node: Node,
    gates: int,
    sides: tuple[str, str],
    beside: tuple[Mapping[int, str], Mapping[int, str]] = ({}, {}),
) -> Kind:
    """Describe the products and sums of one step of time.

    Args:
        node: the node, with its operands in the order of LSTM, and any others behind them.
        gates: the number of gates and candidates that stand side by side in the weights.
        sides: the sides of an equation of operands 1 and 2, the weights of inputs and of states,
            with the names d (direction), g (gate), h (unit), i (feature) and k (unit before).
        beside: for both of these the operands that belong to them, with their sides.
    """
    given = [s is not None for s in node.shapes] + [False] * 8
    first = bool(node.attributes.get("layout"))
    *outer, features = require_shape(node)
    directions, *widths = require_shape(node, 2)
    hidden = min(widths)

    # Every direction has an order of its own; the input is one for all of them.
    wide: list[Step] = [Reshape((*outer, 1, features)), Expand((*outer, directions, features))]
    inputs = "b [s] d i" if first else "[s] b d i"
    steps: list[tuple[str, Kind, tuple[str, ...]]] = [
        ("wide", _move(*wide), ("0",)),
        *_list_products(gates, inputs, sides, beside),
    ]
    met = ["x", "r"]
    # Operand 3 has the biases of inputs and of states side by side, operand 7 three peepholes.
    for part in range(2 if given[3] else 0):
        takes = _move(Reshape((directions, 2, gates, hidden)), Take(1, np.array([part])))
        steps.append((f"b{part}", takes, ("3",)))
        met.append(f"b{part}")
    steps += [
        ("sum", Elementwise(), tuple(met)),
        ("step", Equation("s d b [g] h -> s d b h"), ("sum",)),
    ]
    met = ["step", "state"]
    if given[4]:
        steps.append(("lengths", Equation("[b] -> b"), ("4",)))
    for operand in ("5", "6"):
        if given[int(operand)]:
            steps.append(
                (f"start{operand}", _move(*([Transpose((1, 0, 2))] if first else [])), (operand,))
            )
            met.append(f"start{operand}")
    for part in range(3 if given[7] else 0):
        takes = _move(Reshape((directions, 3, hidden)), Take(1, np.array([part])))
        steps.append((f"p{part}", takes, ("7",)))
        met.append(f"p{part}")
    steps += [
        ("y", Elementwise(), tuple(met)),
        ("all", Equation(f"s d b h -> {'b s [d] h' if first else 's [d] b h'}"), ("y",)),
        ("last", Equation(f"[s] d b h -> {'b [d] h' if first else '[d] b h'}"), ("y",)),
    ]
    batch = outer[0 if first else 1]
    return Steps(
        steps, ("all", "last", "last")[: node.results], {"state": (directions, batch, hidden)}
    )
