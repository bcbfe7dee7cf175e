"""The label engine: walks a graph once and collects what its operators say about order.

The engine is the driver alone. It visits the nodes in order, asks each node's rule
(`_find_description` is the only place that does), applies what the rule says by a transfer
function, and pins what a node touches where that cannot be done. Of weights it asks only whether
they are constant along an axis, and the values of shape and index operands.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import NodeProto

from .. import rules
from ..errors import MALFORMED_NODE_ERRORS, UnknownStructureError
from ..graph.model import Graph
from ..graph.nodes import (
    describe_node,
    find_live_nodes,
    list_captured_names,
    read_attributes,
)
from ..graph.shapes import choose_input_shapes
from .bodies import CONSTANT_OPERATOR, BodyRunner
from .control_flow import has_body, run_body
from .inference.results import Inference
from .labels.facts import GRAPH_INPUT, POSITION, Facts
from .labels.roles import Role, find_varying_axes, to_dense
from .labels.tensors import Tensor, make_opaque
from .labels.weights import Labelling
from .state import Result, WalkState
from .state_loop import GRAPH_OUTPUT, StateLoop, solve_state_lengths
from .ties import is_equal_by_chance
from .transfer import apply_rule
from .value_numbering import ValueNumbering

SYMBOLIC_SIZES = (64, 16, 32, 224, 640, 7, 256, 512, 16000)
"""Sizes to try for the symbolic axes of the graph's inputs, the likeliest first.

An axis may be one of a sequence, of a picture (32, 224, 640) or of sound at 16 kHz; networks often
accept only lengths that their strides divide.
"""
MAX_AXIS_ELEMENTS = 1 << 24
"""Axes of more elements are not followed, nor is what a node says that makes one."""
NO_RULE = "no rule"
FREE_PLACES = "places that hang on a length that is not fixed"


@dataclass(frozen=True)
class Analysis:
    """The facts of one graph, and where its labels stand in the weights.

    Attributes:
        facts: what the operators say.
        weights: the roles of every weight that a live node reads, over the weight's own axes.
        values: weights that were read for their values: shapes, axes, indices.
        unknown: operators without a rule, and how often each occurs.
        steps: the nodes in the order of the walk, those of bodies among them, with what their rules
            say; None in place of a rule where the node pins what it touches.
        tensors: the abstract value of every tensor.
        states: by input the output that is fed back as it. The roles of these inputs are in
            `weights`.
    """

    facts: Facts
    weights: dict[str, list[Role]] = field(default_factory=dict)
    values: frozenset[str] = frozenset()
    unknown: dict[str, int] = field(default_factory=dict)
    steps: list[tuple[NodeProto, rules.Kind | None]] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    def expand_runs(self) -> Analysis:
        """Return the same analysis with arrays in place of runs of labels."""
        return replace(
            self,
            facts=self.facts.expand_runs(),
            weights={w: [to_dense(r) for r in roles] for w, roles in self.weights.items()},
        )


class Engine:
    """One walk over one graph.

    Attributes:
        state: what the walk knows so far.
        failed: how many nodes do not fit the shapes of their operands, or leave a result unknown.
        unknown: operators without a rule, and how often each occurs.
        states: the outputs that are fed back as inputs.
    """

    def __init__(
        self,
        graph: Graph,
        constant_along: Callable[[str, int], bool],
        number: Callable[[str], bytes | None],
        shapes: Mapping[str, tuple[int, ...]],
        loose: set[str],
        ordered: Set[tuple[str, int]] = frozenset(),
    ):
        """Start before the first node.

        Args:
            graph: the graph.
            constant_along: tells whether a weight is constant along an axis; it may answer for
                more than one file.
            number: gives the bytes of a constant of one element, None for any other tensor.
            shapes: the shapes of the graph's inputs.
            loose: the inputs with a symbolic axis that is taken as one.
            ordered: axes of states along which no units lie, see `StateLoop`.
        """
        labelling = Labelling(Facts(), graph.shape)
        inference = Inference(graph, shapes, loose)
        self.state = WalkState(graph, inference, labelling, constant_along)
        self.failed = 0
        self.unknown: dict[str, int] = {}
        self._numbering = ValueNumbering(labelling, number)
        self._bodies = BodyRunner(self.state, self.step)
        self._read: set[str] = set()
        for name, shape in shapes.items():
            if not _is_too_long(shape):
                self.state.tensors[name] = make_opaque(shape, GRAPH_INPUT)
        self.states = StateLoop(self.state, shapes, ordered)

    def run(self, limit: float) -> Analysis | None:
        """Walk over all nodes, and return None as soon as `limit` of them have failed."""
        state, facts, outputs = self.state, self.state.facts, self.state.graph.model.graph.output
        for node in find_live_nodes(state.graph.nodes, [o.name for o in outputs]):
            self.step(node)
            if self.failed >= limit:
                return None
        weights = state.labelling.weights
        # which weights are read as values is known at the end alone: values are computed when a
        # rule asks for them
        values = frozenset(state.inference.values.read)
        facts.node = ""
        state.labelling.pin_values(sorted(values & weights.keys()))
        for output in outputs:
            facts.node = output.name
            if not self.states.close(output.name):
                self._pin(output.name, GRAPH_OUTPUT)
        facts.node = ""
        state.labelling.finish()
        states = self.states.inputs
        return Analysis(facts, weights, values, self.unknown, state.steps, state.tensors, states)

    def step(self, node: NodeProto) -> None:
        """Take in everything that one node says.

        A node that cannot be described, or does not fit its rule, pins what it touches.
        """
        state = self.state
        # the result of such a node is among the weights, and is read as one
        if node.op_type == CONSTANT_OPERATOR and set(node.output) & state.graph.tensors.keys():
            return
        state.facts.node = describe_node(self._bodies.find_written(node))
        is_run_through = has_body(self._bodies, node)
        plain = None if is_run_through else self._bodies.spell_out(node)
        if plain is not None:
            # a fused operator does what the plain ones do that it stands for
            self._bodies.run_plain_form(node, plain)
            return
        describe = _find_description(node, is_run_through)
        fits = is_run_through or state.inference.infer(node)
        try:
            self._apply(node, describe)
        except UnknownStructureError as why:
            self._give_up(node, str(why))
        except MALFORMED_NODE_ERRORS as why:
            fits = False
            self._give_up(node, f"does not fit its rule ({why})")
        self.failed += not fits or any(
            o and (self._is_empty(o) or (o not in state.tensors and o not in state.sequences))
            for o in node.output
        )

    def _is_empty(self, name: str) -> bool:
        """Tell whether a tensor has no element: its length did not suffice for what came before.

        A vector of no element may be a shape that has no more axes, or a list that begins.
        """
        shape = self.state.inference.types.known_shape(name) or ()
        return len(shape) > 1 and 0 in shape

    def is_read(self, node: NodeProto, name: str) -> bool:
        """Tell whether anything reads a result of a node; in a body that is taken for granted."""
        if not self._read:
            graph = self.state.graph
            self._read = {o.name for o in graph.model.graph.output}
            self._read.update(*([*n.input, *list_captured_names(n)] for n in graph.nodes))
        return name in self._read or self._bodies.is_in_body(node)

    def _apply(self, node: NodeProto, describe: rules.Describe | None) -> None:
        """Make the results of a node known by its rule.

        Raises:
            UnknownStructureError: the node has no rule, or does not fit it.
        """
        state = self.state
        if describe is None:
            raise UnknownStructureError(NO_RULE)
        names, made = list(node.input), list(node.output)
        operands = [state.find_tensor(n) if n else None for n in names]
        if any(
            o is None and n and n not in state.sequences
            for o, n in zip(operands, names, strict=True)
        ):
            raise UnknownStructureError("an operand of unknown shape")
        if any(_is_too_long(state.inference.types.known_shape(n)) for n in made if n):
            raise UnknownStructureError("an axis of more elements than are followed")
        view = _NodeView(self, node, [o.shape if o else None for o in operands])
        kind = describe(view)
        if isinstance(kind, rules.Movement) and any(
            state.hangs_on_lengths(node.input[k]) for k in view.read
        ):
            self._pin_taken(kind, operands)
        results = self._transfer(node, kind, operands)
        if any(made[len(results) :]):
            # such a result may say anything about the order of the operands
            raise UnknownStructureError("a result that the rule does not name")
        # a rule that failed got no further: `_give_up` records its node, and what it stated on the
        # way stays, as a statement only takes freedom away
        state.record_step(node, kind)
        if not isinstance(kind, rules.Body):
            tensors = [r if isinstance(r, Tensor) else None for r in results]
            self._numbering.number_results(node, kind, operands, tensors)
        for name, result in zip(made, results, strict=False):
            if name and result is not None:
                self._keep_result(node, name, result)

    def _pin_taken(self, kind: rules.Movement, operands: Sequence[Tensor | None]) -> None:
        """Pin the units along axes of which a node takes places that hang on free lengths.

        At other sizes it takes others.
        """
        for which, steps in kind.results:
            takes = list(itertools.takewhile(lambda s: isinstance(s, rules.Take), steps))
            axes = {s.axis for s in takes if isinstance(s, rules.Take)}
            is_moved = any(isinstance(s, rules.Take) for s in steps[len(takes) :])
            for operand in filter(None, (operands[k] for k in which)):
                for role in (
                    self.state.labelling.label_tensor(operand).roles if axes or is_moved else ()
                ):
                    if is_moved or not axes.isdisjoint(find_varying_axes(role)):
                        self.state.facts.pin_labels(role, FREE_PLACES)

    def _transfer(
        self, node: NodeProto, kind: rules.Kind, operands: Sequence[Tensor | None]
    ) -> Sequence[Result | None]:
        """Return the results of a node by what its rule says; None for one of unknown shape."""
        if isinstance(kind, rules.Body):
            return run_body(self._bodies, node)
        state = self.state
        if not state.sequences.keys().isdisjoint(node.input):
            raise UnknownStructureError("a sequence of tensors")
        state.facts.reason = next((o.reason for o in operands if o and not o.parts), POSITION)
        loose = [n in state.inference.types.loose for n in node.input]
        inferred = [state.inference.types.known_shape(n) for n in node.output]
        return apply_rule(state.labelling, kind, operands, loose, inferred)

    def _keep_result(self, node: NodeProto, name: str, result: Result) -> None:
        """Make a result of a node known by its name."""
        if isinstance(result, Tensor):
            self.state.tensors[name] = result
            self.state.inference.complete_shape(name, result.shape, node)
        else:
            self.state.sequences[name] = result

    def _give_up(self, node: NodeProto, why: str) -> None:
        """Pin all that a node touches; its results keep their order."""
        state = self.state
        written = self._bodies.find_written(node)
        name = f"{written.domain}.{written.op_type}" if written.domain else written.op_type
        if why == NO_RULE:
            self.unknown[name] = self.unknown.get(name, 0) + 1
        reason = f"operator {name}: {why}"
        for operand in itertools.chain(node.input, self._bodies.list_captured(node)):
            self._pin(operand, reason)
        for result in node.output:
            shape = state.inference.types.known_shape(result)
            if shape is None or _is_too_long(shape):
                # whoever reads it is pinned as well, as of an operand of unknown shape
                state.tensors.pop(result, None)
            else:
                state.tensors[result] = make_opaque(shape, reason)
        state.record_step(node, None)

    def _pin(self, name: str, reason: str) -> None:
        """Pin a tensor, or all tensors of a sequence, as far as they are known."""
        for item in self.state.sequences.get(name, [name]):
            tensor = self.state.find_tensor(item) if item else None
            if tensor is not None:
                for role in self.state.labelling.label_tensor(tensor).roles:
                    self.state.facts.pin_labels(role, reason)


def _find_description(node: NodeProto, is_run_through: bool) -> rules.Describe | None:
    """Return what a node does to order, None where its operator has no rule."""
    rule = rules.find_rule(node.domain, node.op_type)
    # a function of the model may have the name of an operator, and then its own nodes count
    is_declared = rule is not None and (rule.holds_bodies or rule.makes_sequences)
    if is_run_through and not is_declared:
        return _describe_body
    return rule.order if rule is not None else None


def _describe_body(node: rules.Node) -> rules.Kind:
    """Describe a node that is run through."""
    return rules.Body()


def _is_too_long(shape: tuple[int, ...] | None) -> bool:
    return max(shape or (), default=0) > MAX_AXIS_ELEMENTS


class _NodeView:
    """A node as its rule sees it: the protocol `rules.Node`.

    Attributes:
        read: the operands whose values the rule has read.
    """

    def __init__(self, engine: Engine, node: NodeProto, shapes: Sequence[tuple[int, ...] | None]):
        self._engine, self._node = engine, node
        self.operator = node.op_type
        self.opset = engine.state.inference.versions.find_opset(node)
        self.attributes = read_attributes(node)
        self.shapes = shapes
        self.results = len(node.output)
        self.read: set[int] = set()

    def read_value(self, operand: int) -> np.ndarray:
        value = self._engine.state.inference.values.find_value(self._node.input[operand])
        if value is None:
            raise UnknownStructureError(f"operand {operand} is computed from the graph's inputs")
        self.read.add(operand)
        return value

    def is_needed(self, result: int) -> bool:
        name = self._node.output[result] if result < self.results else ""
        return bool(name) and self._engine.is_read(self._node, name)

    def is_equal_by_chance(self, operand: int) -> bool:
        return is_equal_by_chance(self._node.input[operand], self._engine.state)

    def find_shape(self, result: int = 0) -> tuple[int, ...]:
        return self._engine.state.inference.types.find_shape(self._node.output[result])


def analyse_graph(
    graph: Graph,
    constant_along: Callable[[str, int], bool] | None = None,
    number: Callable[[str], bytes | None] | None = None,
) -> Analysis:
    """Collect the facts of a graph.

    Symbolic axes get the first size at which the shapes of all tensors can be computed, else the
    one at which fewest nodes fail.

    Args:
        graph: the graph.
        constant_along: tells whether a weight, by its name, is constant along an axis; by default
            the graph's own answer.
        number: gives the bytes of a constant of one element, None for any other tensor; by default
            the graph's own answer.

    Returns:
        The analysis at the sizes that fit best.
    """
    # a walk that is worse than the best one stops early; the first one is never stopped
    best: tuple[float, Analysis | None] = math.inf, None
    known = solve_state_lengths(graph, SYMBOLIC_SIZES)
    ask = constant_along or graph.constant_along, number or graph.number
    for shapes, loose in choose_input_shapes(graph, SYMBOLIC_SIZES, known):
        ordered: set[tuple[str, int]] = set()
        while True:
            engine = Engine(graph, *ask, shapes, loose, ordered)
            analysis = engine.run(best[0])
            if analysis is None or not engine.states.ordered:
                break
            # what comes out with an order goes in with it: each round has fewer axes of units
            ordered |= engine.states.ordered
        if analysis is not None:
            best = engine.failed, analysis
        if not best[0]:
            break
    assert best[1] is not None
    return best[1]
