"""Carries gains through operators that act on every element alone: their transfer function."""

from __future__ import annotations

from ..errors import UnknownStructureError
from ..rules.laws import Linear, Monomial, Multilinear, Selection
from ..scaling.state import PlainNode
from ..vocabulary.types import FLOAT_TYPES
from .gains import LOWEST_NUMBER, Gain, add_gains, make_unknown, multiply_gain, scale_gain
from .state import Gains, GainState


def find_elementwise_gain(state: GainState, node: PlainNode, gains: Gains) -> Gain | None:
    """Return the gain of the result of a node that acts on every element alone.

    Args:
        state: the walk.
        node: the node.
        gains: the gains of its operands, with as many axes as the result has.

    Returns:
        The gain; None where there is none, or gains cancel each other.

    Raises:
        UnknownStructureError: nothing is known of it.
    """
    match node.law:
        case Linear() as law:
            return _add_operands(state, node, law, gains)
        # Where both factors have gains, g and h, the product x y gains x h + g y + g h: unknown.
        case Multilinear(factors=2) if not (gains[0] and gains[1]):
            own, other = (gains[0], 1) if gains[0] else (gains[1], 0)
            return own and _scale_by_tensor(state, own, node.inputs[other], 1)
        case Monomial(powers=(1.0, -1.0)) if gains[0] and not gains[1]:
            return _scale_by_tensor(state, gains[0], node.inputs[1], -1)
        case Selection(operands=arms) if not gains[0]:
            return _choose_gain(state, node, arms, gains)
    raise UnknownStructureError("nothing is known of the operator")


def _scale_by_tensor(state: GainState, gain: Gain, other: str, power: float) -> Gain:
    """Return a gain times a power of the tensor `other`."""
    values = state.plain.find_value(other)
    shape = () if values is not None else state.plain.find_shape(other)
    return scale_gain(gain, values, shape if values is None else values.shape, power)


def _add_operands(state: GainState, node: PlainNode, law: Linear, gains: Gains) -> Gain | None:
    """Return the gain of a sum, in which gains may cancel each other."""
    chosen = range(len(gains)) if law.operands is None else law.operands
    coefficients = law.coefficients or (1.0,) * len(gains)
    terms = [multiply_gain(gains[k], c) for k, c in zip(chosen, coefficients, strict=False)]
    given = [t for t in terms if t is not None]
    # A weight beside the only gain may be the bias that cancels it, if its change is tried as well.
    if len(chosen) > 1 and len(given) == 1 and given[0].is_known:
        weights = state.plain.graph.tensors
        names = [node.inputs[k] for k in chosen if gains[k] is None]
        state.met_biases += [n for n in names if n in weights]
    return add_gains(given)


def _choose_gain(
    state: GainState, node: PlainNode, arms: tuple[int, ...], gains: Gains
) -> Gain | None:
    """Return the gain of a choice whose other arm is so low that a gain would not show there.

    Such an arm masks scores in front of a softmax. The gain is noted for all elements, although the
    masked ones do not have it. So its values are no longer known, and no bias may cancel it: beside
    the lowest numbers of half precision it is not lost in rounding. A softmax makes zeros of them.

    Args:
        state: the walk.
        node: the choice.
        arms: the positions of the operands that are chosen among.
        gains: the gains of the operands; the condition has none.

    Raises:
        UnknownStructureError: both arms have gains, or the other arm is not known to be that low.
    """
    with_gain = [k for k in arms if gains[k]]
    if len(with_gain) != 1 or len(arms) != 2:
        raise UnknownStructureError("a gain in both arms")
    (other,) = set(arms) - set(with_gain)
    name = node.inputs[other]
    values, kind = state.plain.find_value(name), state.plain.find_element_type(name)
    is_low = values is not None and kind in LOWEST_NUMBER
    if values is None or kind is None or not is_low or kind not in FLOAT_TYPES:
        raise UnknownStructureError("a gain at some places")
    # Half of it leaves room: the lowest number of bfloat16 is a little above that of float.
    if not (values <= LOWEST_NUMBER[kind] / 2).all():
        raise UnknownStructureError("a gain at some places")
    gain = gains[with_gain[0]]
    return gain and make_unknown(gain.array.shape)
