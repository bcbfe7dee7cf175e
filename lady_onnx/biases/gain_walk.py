"""Proves that a change of some biases changes no output of a graph.

What is added to a bias, its gain, is followed through the graph. The values of a gain are known as
long as they depend on no input. Behind a product with a tensor that depends on inputs, only the
axes along which the gain may vary are known. A gain is gone behind a softmax over an axis along
which it does not vary, and where it meets another gain that cancels it. A mean with weights that
sum to one passes it on as it is. Nothing is known of any other operator, and the proof fails there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..dataflow.plainsteps import PlainSteps
from ..errors import UnknownStructureError
from ..rules import Body, Elementwise, Equation, Movement
from ..rules.laws import Independent
from ..scaling.state import PlainNode, read_node
from .elementwise import find_elementwise_gain
from .equations import find_equation_gain
from .gains import Gain
from .movements import move_gains
from .shares import Shares
from .state import GainState


@dataclass(frozen=True)
class GainProof:
    """The outcome of a walk over the gains of a graph.

    Attributes:
        is_complete: whether it is proven that no output of the graph changes. False says that
            nothing is known.
        met_biases: the weights to which a gain of known values was added, up to where the proof
            failed; a weight may occur several times.
    """

    is_complete: bool
    met_biases: tuple[str, ...]


def prove_outputs_kept(plain: PlainSteps, biases: Mapping[str, Gain]) -> GainProof:
    """Try to prove that a change of biases changes no output of a graph.

    Args:
        plain: the steps of the graph.
        biases: by weight what is added to it.
    """
    gains = {name: gain for name, gain in biases.items() if gain.array.any()}
    state = GainState(plain, gains, Shares(plain))
    made: set[str] = set()
    try:
        for proto, kind in plain.steps:
            # A branch or a function is passed over: its nodes are steps themselves. A loop is not,
            # so a gain of its states ends the proof there. A gain inside ends it at the step that
            # stands for what leaves the body, of which nothing is known.
            if not isinstance(kind, Body) or kind.is_repeated:
                _pass_gains(state, read_node(plain, proto, kind), made)
    except UnknownStructureError:
        return GainProof(False, tuple(state.met_biases))
    is_kept = state.gains.keys().isdisjoint(o.name for o in plain.graph.model.graph.output)
    return GainProof(is_kept, tuple(state.met_biases))


def _pass_gains(state: GainState, node: PlainNode, made: set[str]) -> None:
    """Find the gains of a node's results.

    Args:
        state: the walk.
        node: the node.
        made: the tensors that earlier nodes made; the node's results are added.

    Raises:
        UnknownStructureError: nothing is known of them.
    """
    is_reached = not state.gains.keys().isdisjoint(node.inputs)
    # A node that no gain reaches needs no rule: what it computes does not change.
    found = _find_gains(state, node) if is_reached else []
    shares = state.shares.pass_node(node)
    for k, name in enumerate(node.outputs):
        gain = found[k] if k < len(found) else None
        # The one number of an unknown gain may be zero, as a label; its value need not be.
        kept = gain if gain is not None and (gain.array.any() or not gain.is_known) else None
        share = shares[k] if k < len(shares) else None
        if name in made:
            # Each branch of an If makes the tensor. Which of them runs is not known, so no gain may
            # come out of either.
            if kept is not None or name in state.gains:
                raise UnknownStructureError("a gain of one branch")
            state.shares.places.pop(name, None)
            continue
        made.add(name)
        if kept is not None:
            state.gains[name] = kept
        if share is not None:
            state.shares.places[name] = share


def _find_gains(state: GainState, node: PlainNode) -> list[Gain | None]:
    """Return the gains of a node's results.

    Raises:
        UnknownStructureError: nothing is known of them.
    """
    gains = [state.gains.get(name) for name in node.inputs]
    match node.kind, node.law:
        case None, _:
            raise UnknownStructureError("nothing is known of the operator")
        case _, Independent():
            return []
        case Movement() as kind, _ if node.is_plain_movement or node.law is not None:
            return move_gains(state, node, kind, gains)
        case Equation() as kind, _:
            return [find_equation_gain(state, node, kind, gains)]
        case Elementwise(), _:
            rank = len(state.plain.find_shape(node.outputs[0]))
            # As numpy broadcasts: axes of length one are put in front.
            wide = [
                g and g.with_array(g.array.reshape((1,) * (rank - g.array.ndim) + g.array.shape))
                for g in gains
            ]
            return [find_elementwise_gain(state, node, wide)]
    raise UnknownStructureError("nothing is known of the operator")
