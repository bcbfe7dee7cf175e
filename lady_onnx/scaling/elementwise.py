"""Transfer function of operators that act on every element alone, by their laws.

What each law lets pass is said in `lady_onnx.rules.laws`.
"""

from __future__ import annotations

from ..errors import UnknownStructureError
from ..rules.laws import (
    Absolute,
    Even,
    Linear,
    Monomial,
    Multilinear,
    Odd,
    PositivelyHomogeneous,
    Reflective,
    Selection,
    Signum,
)
from .monomials import FactorRole
from .reflections import Reflections
from .state import FactorState, PlainNode


def pass_elementwise(
    state: FactorState, reflections: Reflections, node: PlainNode
) -> list[FactorRole]:
    """Return the factors of the first result of a node that acts on every element alone.

    Args:
        state: the walk.
        reflections: what is known of reflected tensors.
        node: the node.

    Raises:
        UnknownStructureError: the operator's law lets no factor pass.
    """
    rank = len(state.find_shape(node.outputs[0]))
    entries = [
        [(g, a.reshape((1,) * (rank - a.ndim) + a.shape)) for g, a in state.list_factors(n)]
        for n in node.inputs
    ]
    monomials, first = state.monomials, entries[0]
    match node.law:
        case Linear(operands=operands, typed_by=typed_by):
            return _add(state, node, entries, operands, typed_by)
        case PositivelyHomogeneous(operands=operands):
            # `scale=False` leaves sizes free and notes signs alone; `sign=False` is the other way.
            monomials.fix(_take(entries, operands), scale=False)
            return _add(state, node, entries, operands)
        case Selection(operands=operands):
            return _add(state, node, entries, operands)
        case Multilinear(factors=None):
            return monomials.multiply(r for entry in entries for r in entry)
        case Multilinear(factors=int(count)):
            _fix_others(state, entries, tuple(range(count)))
            return monomials.multiply(r for entry in entries[:count] for r in entry)
        case Monomial(powers=powers):
            _fix_others(state, entries, tuple(range(len(powers))))
            pairs = zip(entries, powers, strict=False)
            raised = [e if p == 1 else monomials.raise_to(e, p) for e, p in pairs]
            return (
                raised[0] if len(raised) == 1 else monomials.multiply(r for e in raised for r in e)
            )
        case Odd():
            _fix_others(state, entries, (0,))
            monomials.fix(first, sign=False)
            return monomials.keep_signs(first)
        case Even():
            _fix_others(state, entries, (0,))
            monomials.fix(first, sign=False)
            return []
        case Absolute():
            _fix_others(state, entries, (0,))
            return monomials.keep_sizes(first)
        case Signum():
            _fix_others(state, entries, (0,))
            return monomials.keep_signs(first)
        case Reflective() as law:
            _fix_others(state, entries, (0,))
            reflected = reflections.reflect(node, law, first)
            if reflected is not None:
                return reflected
    raise UnknownStructureError("no rule for factors")


def _take(entries: list[list[FactorRole]], operands: tuple[int, ...] | None) -> list[FactorRole]:
    """Return the factors on some of the operands, on all for None."""
    chosen = range(len(entries)) if operands is None else operands
    return [r for k in chosen if k < len(entries) for r in entries[k]]


def _fix_others(
    state: FactorState, entries: list[list[FactorRole]], operands: tuple[int, ...]
) -> None:
    """Note that the factors on all operands but those at some positions are one."""
    state.monomials.fix(r for k, e in enumerate(entries) if k not in operands for r in e)


def _add(
    state: FactorState,
    node: PlainNode,
    entries: list[list[FactorRole]],
    operands: tuple[int, ...] | None,
    typed_by: int | None = None,
) -> list[FactorRole]:
    """Return the factors of a sum, or of another function through which a common factor passes.

    Args:
        state: the walk.
        node: the node.
        entries: the factors on every operand.
        operands: the positions of those that share the factor, None for all.
        typed_by: the position of an operand that gives the element type alone.
    """
    chosen = tuple(range(len(entries))) if operands is None else operands
    _fix_others(state, entries, chosen if typed_by is None else (*chosen, typed_by))
    return state.add([node.inputs[k] for k in chosen], [entries[k] for k in chosen])
