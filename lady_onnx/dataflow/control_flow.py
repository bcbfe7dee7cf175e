"""Operators with bodies: branches, loops, scans, maps over sequences, and calls of functions.

Where a tensor may be one or another of several, these share their order. A state of a loop is a
tensor that is read before it is made: it shares the order of its initial and its final value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import NodeProto

from ..errors import UnknownStructureError
from ..graph.nodes import read_attributes
from ..rules import Elementwise, Equation
from ..vocabulary import structure
from .bodies import BodyRunner, PlacedNode, find_function
from .labels.roles import find_varying_axes, lay_along, make_addresses
from .labels.tensors import Tensor, make_opaque, tidy_roles
from .sequences import is_sequence_node, run_sequence_node
from .state import Result, WalkState, name_operator
from .transfer import apply_rule

BodyHandler = Callable[[BodyRunner, PlacedNode], Sequence[Result]]
BRANCHES = ("then_branch", "else_branch")
LOOP_BODY = "body"
OTHER_LENGTHS, OTHER_RANKS = "branches of different lengths", "branches of different ranks"
MAX_STACKED_TURNS = 1 << 20
"""The most turns of a loop that are told apart; each has an address of eight bytes."""
SCAN_MIN_OPSET = 9
"""Before it, a scan has a batch axis, in another form."""


def has_body(runner: BodyRunner, node: NodeProto) -> bool:
    """Tell whether a node has subgraphs, calls a function of the model, or is one of sequences."""
    return (
        name_operator(node) in BODY_HANDLERS
        or is_sequence_node(runner.state, node)
        or runner.is_call(node)
    )


def run_body(runner: BodyRunner, node: NodeProto) -> Sequence[Result | None]:
    """Run a node with a body, or one of sequences; None for a result of unknown shape.

    Raises:
        UnknownStructureError: the node cannot be followed.
    """
    placed = runner.place_node(node)
    handler = BODY_HANDLERS.get(name_operator(placed.origin))
    if handler is not None:
        return handler(runner, placed)
    state = runner.state
    if is_sequence_node(state, node):
        return run_sequence_node(state, node)
    types = [state.inference.types.find_type(n) for n in node.input]
    function = find_function(
        state.graph, node, [t.SerializeToString() if t else b"" for t in types]
    )
    if function is None:
        raise UnknownStructureError("no body to run through")
    return runner.call_function(node, function)


def _run_branches(runner: BodyRunner, placed: PlacedNode) -> Sequence[Result]:
    """Run the branches that may be taken; two of them share the order of each result.

    A condition on lengths that are not fixed has one value here and maybe another elsewhere. So it
    is not believed, and both branches count.
    """
    state, node = runner.state, placed.node
    condition = state.inference.values.find_value(node.input[0])
    taken = BRANCHES[0 if condition is None or condition.all() else 1]
    is_settled = condition is not None and not state.hangs_on_lengths(node.input[0])
    found: dict[str, list[Result]] = {}
    for branch in [taken] if is_settled else BRANCHES:
        outputs = runner.run_graph(*runner.open_body(placed, branch), {})
        found[branch] = [_read_result(state, o) for o in outputs]
        # at the sizes of this walk a result has the type and shape of the branch that is taken
        for name, inner in zip(node.output, outputs, strict=True):
            if branch == taken or condition is None:
                state.inference.copy_tensor(name, inner, with_values=is_settled)
                runner.pass_result(inner, name)
    ours = found.pop(taken)
    if is_settled:
        return ours
    pairs = zip(ours, *found.values(), strict=True)
    return [_join_branches(state, one, other, condition is not None) for one, other in pairs]


def _join_branches(state: WalkState, ours: Result, theirs: Result, is_chosen: bool) -> Result:
    """Join the results of two branches, which share their order.

    Args:
        state: the walk.
        ours: the result of the branch that has the shape of the result.
        theirs: that of the other branch.
        is_chosen: whether the first branch is the one that is taken at the sizes of this walk.

    Raises:
        UnknownStructureError: nobody knows which branch is taken, and they differ in more than
            lengths.
    """
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        if len(ours.shape) == len(theirs.shape):
            return _unify_alternatives(state, list(_fit_lengths(state, ours, theirs)))
        if is_chosen:
            _pin_other_rank(state, ours, theirs)
            return ours
    return _unify_alternatives(state, [ours, theirs])


def _pin_other_rank(state: WalkState, ours: Tensor, theirs: Tensor) -> None:
    """Pin the results of two branches that differ in rank.

    Exporters squeeze an axis where its length is one, and leave it where it is not. Then what
    follows takes only one of the two, and both have the same elements: nothing is pinned.
    """
    sides = [state.labelling.label_tensor(t).roles for t in (ours, theirs)]
    squeezed = [
        {(r.shape, r.tobytes()) for r in (np.squeeze(role) for role in side)} for side in sides
    ]
    if squeezed[0] != squeezed[1]:
        for role in (*sides[0], *sides[1]):
            state.facts.pin_labels(role, OTHER_RANKS)


def _fit_lengths(state: WalkState, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Fit the result of a branch to that of the other one, in its lengths.

    Units have one length in both branches. What lies along an axis of two lengths keeps its order.
    """
    if ours.shape == theirs.shape:
        return ours, theirs
    sizes = zip(ours.shape, theirs.shape, strict=True)
    uneven = {a for a, (m, n) in enumerate(sizes) if m != n}
    kept = []
    for tensor in (ours, theirs):
        roles = state.labelling.label_tensor(tensor).roles
        kept.append([r for r in roles if uneven.isdisjoint(find_varying_axes(r))])
        for role in roles:
            if not uneven.isdisjoint(find_varying_axes(role)):
                state.facts.pin_labels(role, OTHER_LENGTHS)
    places = [
        lay_along(make_addresses(ours.shape[a]), a, len(ours.shape))
        for a in sorted(uneven)
        if ours.shape[a] > 1
    ]
    made = (Tensor(ours.shape, tidy_roles([*r, *places], ours.shape)) for r in kept)
    return next(made), next(made)


def _run_loop(runner: BodyRunner, placed: PlacedNode) -> list[Result]:
    """Run the body of a loop once; what holds for one turn holds for all.

    Spec: https://onnx.ai/onnx/operators/onnx__Loop.html
    """
    state, node = runner.state, placed.node
    body, scope = runner.open_body(placed, LOOP_BODY)
    names = [i.name for i in body.input]
    given = {n: scope.call + n for n in names}
    kinds = (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
    # the number of the turn, and whether it takes place
    for name, kind in zip(names[:2], kinds, strict=False):
        state.tensors[given[name]] = make_opaque(())
        state.inference.types.declare(given[name], kind, ())
    if len(node.input) > 1 and node.input[1]:
        state.inference.copy_tensor(given[names[1]], node.input[1])
    else:
        # a condition that is left out lets the first turn take place
        state.inference.values.set_value(given[names[1]], np.array(True))
    initial = list(node.input[2:])
    states = [_declare_state(state, given[n], i) for n, i in zip(names[2:], initial, strict=True)]
    # the body returns whether another turn follows, then the states, then what is stacked
    outputs = runner.run_graph(body, scope, given)
    runner.leave_results(outputs)
    results = _unify_states(state, initial, states, outputs[1:])
    scans = outputs[1 + len(initial) :]
    turns = state.inference.values.find_value(node.input[0]) if node.input[0] else None
    # true in every turn if it is in the first
    goes_on = state.inference.values.find_value(outputs[0])
    if scans and (turns is None or goes_on is None or not goes_on.all()):
        raise UnknownStructureError("a loop of unknown length")
    if scans and turns is not None and turns > MAX_STACKED_TURNS:
        raise UnknownStructureError("more turns of a loop than are followed one by one")
    results += [_stack_turns(state, o, 0, int(turns)) for o in scans if turns is not None]
    _declare_results(state, node, outputs[1:], results)
    return [*results]


def _run_scan(runner: BodyRunner, placed: PlacedNode) -> list[Result]:
    """Run the body of a scan once; what holds for one turn holds for all.

    Spec: https://onnx.ai/onnx/operators/onnx__Scan.html
    """
    # directions are not read: they turn axes round that keep their order anyway
    state, node = runner.state, placed.node
    if state.graph.opset() < SCAN_MIN_OPSET:
        raise UnknownStructureError("the batched form of opset 8")
    body, scope = runner.open_body(placed, LOOP_BODY)
    attributes = read_attributes(placed.origin)
    count = attributes["num_scan_inputs"]
    given = {i.name: scope.call + i.name for i in body.input}
    names = list(given.values())
    initial, scanned = list(node.input[:-count]), list(node.input[-count:])
    states = [_declare_state(state, n, i) for n, i in zip(names, initial, strict=False)]
    turns = 1
    axes = attributes.get("scan_input_axes", [0] * count)
    for name, source, axis in zip(names[len(initial) :], scanned, axes, strict=True):
        turns = state.read_tensor(source).shape[axis]
        _declare(state, name, _take_turn(state, source, axis), source)
    outputs = runner.run_graph(body, scope, given)
    runner.leave_results(outputs)
    results = _unify_states(state, initial, states, outputs)
    scans = outputs[len(initial) :]
    axes = attributes.get("scan_output_axes", [0] * len(scans))
    results += [_stack_turns(state, o, a, turns) for o, a in zip(scans, axes, strict=True)]
    _declare_results(state, node, outputs, results)
    return [*results]


def _run_map(runner: BodyRunner, placed: PlacedNode) -> list[Result]:
    """Run the body of a map once for each tensor of a sequence, which may differ in shape."""
    state, node = runner.state, placed.node
    body, scope = runner.open_body(placed, LOOP_BODY)
    found: list[list[str]] = [[] for _ in node.output]
    for turn in range(len(state.list_items(node.input[0]))):
        given = {
            i.name: state.sequences[n][turn] if n in state.sequences else n
            for i, n in zip(body.input, node.input, strict=True)
        }
        outputs = runner.run_graph(body, runner.renew_scope(scope), given)
        runner.leave_results(outputs)
        for made, name in zip(found, outputs, strict=True):
            made.append(name)
    return [*found]


def _read_result(state: WalkState, name: str) -> Result:
    """Return the tensor or sequence of that name.

    Raises:
        UnknownStructureError: its shape is not known.
    """
    return state.sequences[name] if name in state.sequences else state.read_tensor(name)


def _unify_alternatives(state: WalkState, results: Sequence[Result]) -> Tensor:
    """Make a tensor that is one or another of several: they share their order."""
    tensors = [r for r in results if isinstance(r, Tensor)]
    if len(tensors) < len(results):
        raise UnknownStructureError("sequences of different branches")
    if len({t.shape for t in tensors}) > 1:
        raise UnknownStructureError("branches or turns of different shapes")
    # all have one shape, so that nothing broadcasts
    loose = [False] * len(tensors)
    return apply_rule(state.labelling, Elementwise(), tensors, loose, [None])[0]


def _unify_states(
    state: WalkState, initial: Sequence[str], states: Sequence[Tensor], final: Sequence[str]
) -> list[Tensor]:
    """Make the states of a loop after its last turn; `final` may name more than the states."""
    # labels now, and not where the last state is read: perhaps it never is, and even so a weight
    # that the loop carries has the order of the state
    label = state.labelling.label_tensor
    return [
        _unify_alternatives(
            state, [label(state.read_tensor(i)), label(inside), label(state.read_tensor(o))]
        )
        for i, inside, o in zip(initial, states, final, strict=False)
    ]


def _declare_state(state: WalkState, name: str, initial: str) -> Tensor:
    """Make a state of a loop known by its name inside the body; it is like its initial value."""
    tensor = state.labelling.make_state(state.read_tensor(initial).shape)
    _declare(state, name, tensor, initial)
    return tensor


def _declare(state: WalkState, name: str, tensor: Tensor, like: str) -> None:
    """Make `tensor` known by a name, of the element type of another."""
    state.tensors[name] = tensor
    state.inference.types.declare_like(name, tensor.shape, like)


def _declare_results(
    state: WalkState, node: NodeProto, inner: Sequence[str], results: Sequence[Tensor]
) -> None:
    """Make the results of a loop known, of the element types of what its body returns."""
    for name, source, tensor in zip(node.output, inner, results, strict=True):
        if name:
            _declare(state, name, tensor, source)


def _take_turn(state: WalkState, source: str, axis: int) -> Tensor:
    """Make what one turn reads of a tensor that is scanned along an axis, which keeps its order."""
    tensor = state.read_tensor(source)
    rank = len(tensor.shape)
    names = [f"[x{i}]" if i == axis % rank else f"x{i}" for i in range(rank)]
    equation = Equation(f"{' '.join(names)} -> {' '.join(x for x in names if '[' not in x)}")
    return apply_rule(state.labelling, equation, [tensor], [False], [None])[0]


def _stack_turns(state: WalkState, name: str, axis: int, count: int) -> Tensor:
    """Stack what `count` turns of a loop leave behind, one after the other along `axis`."""
    tensor = state.labelling.label_tensor(state.read_tensor(name))
    rank = len(tensor.shape) + 1
    axis %= rank
    shape = (*tensor.shape[:axis], count, *tensor.shape[axis:])
    roles = [np.expand_dims(r, axis) for r in tensor.roles]
    turns = [lay_along(make_addresses(count), axis, rank)] if count > 1 else []
    return Tensor(shape, (*roles, *turns), reason=tensor.reason)


BODY_HANDLERS: dict[str, BodyHandler] = {
    structure.IF: _run_branches,
    structure.LOOP: _run_loop,
    structure.SCAN: _run_scan,
    structure.SEQUENCE_MAP: _run_map,
}
