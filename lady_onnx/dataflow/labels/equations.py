"""Equations over named axes: their text, the sizes of their names, and roles laid out over them.

The text is that of `lady_onnx.rules.Equation`, in the spirit of einops. A *side* is what the text
says of one operand or result: a tuple of terms, one an axis. The module knows nothing of labels
being tied; what an equation does to them is in `lady_onnx.dataflow.transfer`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UnknownStructureError
from .roles import drop_constant_axes, find_varying_axes

PRODUCT_PASSES = 3
"""How often the products are gone through for a name whose size the others give."""


@dataclass(frozen=True)
class Term:
    """One axis of an operand or result in an equation.

    Attributes:
        names: its names, row-major; several where the axis is a product, none for an axis of one.
        flags: for every name `[` where it is pinned, `{` where it is normalised over, else empty.
    """

    names: tuple[str, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """An equation at given ranks of its operands, and what that says of its names.

    Attributes:
        sides: the terms of each operand.
        results: the terms of each result.
        kept: names that a result has.
        pinned: names in square brackets.
        over: names in braces, which are normalised over.
        named: the names of each operand.
        gone: names that are contracted.
        contracting: the names of every operand that has a contracted one.
        batch: where several operands are contracted, the names that all of them and a result have.
    """

    sides: list[tuple[Term, ...]]
    results: list[tuple[Term, ...]]
    kept: set[str]
    pinned: set[str]
    over: set[str]
    named: list[set[str]]
    gone: set[str]
    contracting: list[set[str]]
    batch: set[str]


@functools.lru_cache(maxsize=1 << 12)
def plan_equation(text: str, ranks: tuple[int | None, ...]) -> Plan:
    """Read what an equation says of its names.

    Args:
        text: the equation.
        ranks: the number of axes of every operand, None for one that is not given.

    Raises:
        UnknownStructureError: the operands do not fit the equation.
    """
    sides, results = parse_equation(text, ranks)
    flags = {
        n: f
        for term in itertools.chain(*sides)
        for n, f in zip(term.names, term.flags, strict=True)
        if f
    }
    kept = {n for term in itertools.chain(*results) for n in term.names}
    pinned = {n for n, f in flags.items() if f == "["}
    named = [{n for term in side for n in term.names} for side in sides]
    gone = {n for n in set().union(*named) if n not in kept and n not in pinned}
    contracting = [s for s in named if s & gone]
    batch = {n for n in kept if len(contracting) > 1 and all(n in s for s in contracting)}
    over = {n for n, f in flags.items() if f == "{"}
    return Plan(sides, results, kept, pinned, over, named, gone, contracting, batch)


ResultAxes = list[tuple[str, bool] | None]
"""For each axis of a result its name and whether it keeps its order; None for an axis of one."""


@dataclass(frozen=True)
class SolvedEquation:
    """An equation at given shapes of its operands.

    Attributes:
        how: what the equation says of its names.
        sizes: the size of every name.
        shapes: the results' shapes.
        operands: the operands' shapes, None for one that is not given.
    """

    how: Plan
    sizes: dict[str, int]
    shapes: list[tuple[int, ...]]
    operands: tuple[tuple[int, ...] | None, ...]

    @functools.cached_property
    def single(self) -> tuple[list[list[str | None]], list[ResultAxes]] | None:
        """The one name of each axis of the operands and of the results, None for an axis of one.

        The whole is None where an axis has several names of more than one element, or where a
        result keeps the order of an axis that an operand has.
        """
        axes: list[list[str | None]] = []
        for shape, side in zip(self.operands, self.how.sides, strict=True):
            own = self._name_operand_axes(shape, side)
            if own is None:
                return None
            axes.append(own)
        met = {x for own in axes for x in own if x is not None}
        ends: list[ResultAxes] = []
        for terms, shape in zip(self.how.results, self.shapes, strict=False):
            end = self._name_result_axes(shape, terms, met)
            if end is None:
                return None
            ends.append(end)
        return axes, ends

    def _name_operand_axes(
        self, shape: tuple[int, ...] | None, side: tuple[Term, ...]
    ) -> list[str | None] | None:
        own: list[str | None] = []
        for n, term in zip(shape or (), side, strict=shape is not None):
            long = [x for x in term.names if self.sizes[x] > 1]
            # one element where others are summed: the general way refuses that
            if n == 1 and not self.how.gone.isdisjoint(long):
                return None
            if n > 1 and len(long) != 1:
                return None
            own.append(long[0] if n > 1 else None)
        return own

    def _name_result_axes(
        self, shape: tuple[int, ...], terms: tuple[Term, ...], met: set[str]
    ) -> ResultAxes | None:
        end: ResultAxes = []
        for n, term in zip(shape, terms, strict=True):
            long = [x for x in term.names if self.sizes[x] > 1]
            fixed = "[" in term.flags or not self.how.pinned.isdisjoint(term.names)
            if n > 1 and (len(long) > 1 or any(self.sizes[x] != n for x in long)):
                return None
            if fixed and not met.isdisjoint(long) and not self.how.pinned.issuperset(long):
                return None
            end.append((long[0] if long else "", fixed) if n > 1 else None)
        return end


def solve_equation(
    text: str,
    operands: Sequence[tuple[int, ...] | None],
    given: Mapping[str, int],
    inferred: Sequence[tuple[int, ...] | None],
) -> SolvedEquation:
    """Find the sizes of an equation's names, and the shapes of its results.

    Args:
        text: the equation.
        operands: the operands' shapes, None for one that is not given.
        given: sizes of names that attributes give.
        inferred: the results' shapes as far as they are known.

    Raises:
        UnknownStructureError: the shapes do not fit the equation.

    >>> solve_equation("m k, n k -> m n", [(2, 3), (5, 3)], {}, [None]).shapes
    [(2, 5)]
    """
    return _solve(
        text,
        tuple(operands[: text.partition("->")[0].count(",") + 1]),
        tuple(given.items()),
        tuple(inferred),
    )


@functools.lru_cache(maxsize=1 << 12)
def _solve(
    text: str,
    operands: tuple[tuple[int, ...] | None, ...],
    given: tuple[tuple[str, int], ...],
    inferred: tuple[tuple[int, ...] | None, ...],
) -> SolvedEquation:
    how = plan_equation(text, tuple(None if o is None else len(o) for o in operands))
    sizes = _size_names(how.sides, operands, dict(given))
    return SolvedEquation(how, sizes, _shape_results(how.results, inferred, sizes), operands)


def parse_equation(
    text: str, ranks: Sequence[int | None]
) -> tuple[list[tuple[Term, ...]], list[tuple[Term, ...]]]:
    """Parse an equation into the terms of its operands and of its results.

    Args:
        text: the equation; ``x..`` in it stands for as many axes as the ranks leave over.
        ranks: the number of axes of every operand, None for one that is not given.

    Raises:
        UnknownStructureError: the operands do not fit the equation.
    """
    left, _, right = text.partition("->")
    spread: dict[str, int] = {}
    operands = []
    named = left.split(",")
    if len(ranks) > len(named) and any(r is not None for r in ranks[len(named) :]):
        raise UnknownStructureError("an operand that the rule does not name")
    for side, rank in zip(named, ranks, strict=False):
        operands.append(tuple(_parse_side(side, rank, spread)) if rank is not None else ())
    return operands, [tuple(_parse_side(side, None, spread)) for side in right.split(",")]


def _parse_side(side: str, rank: int | None, spread: dict[str, int]) -> list[Term]:
    """Parse one operand or result; `spread` holds how many axes each ``x..`` stands for."""
    tokens = side.replace("(", " ( ").replace(")", " ) ").split()
    dotted = [t for t in tokens if ".." in t]
    if dotted and rank is not None and dotted[0].strip("[]{}.") not in spread:
        spread[dotted[0].strip("[]{}.")] = rank - _count_single_axes(tokens)
    count = next(iter(spread.values()), 0)
    terms: list[Term] = []
    product: list[tuple[str, str]] | None = None
    for token in tokens:
        if token == "(":
            product = []
            continue
        if token == ")":
            assert product is not None
            terms.append(Term(tuple(n for n, _ in product), flags=tuple(f for _, f in product)))
            product = None
            continue
        flag = token[0] if token[0] in "[{" else ""
        name = token.strip("[]{}")
        if name.endswith(".."):
            number = spread.get(name[:-2], count)
            terms += [Term((f"{name[:-2]}.{i}",), flags=(flag,)) for i in range(number)]
        elif product is not None:
            product.append((name, flag))
        else:
            terms.append(Term((), flags=()) if name == "1" else Term((name,), flags=(flag,)))
    if rank is not None and len(terms) != rank:
        raise UnknownStructureError(f"{rank} axes where the rule has {len(terms)}")
    return terms


def _count_single_axes(tokens: Sequence[str]) -> int:
    """Count the axes that the tokens of a side stand for, without those of ``x..``."""
    count = depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        count += (token == ")") or (depth == 0 and ".." not in token)
    return count


def _size_names(
    sides: list[tuple[Term, ...]], operands: Sequence[tuple[int, ...] | None], sizes: dict[str, int]
) -> dict[str, int]:
    """Find the size of every name, by the operands' shapes and the sizes that attributes give."""
    pending = [
        (term.names, n)
        for side, operand in zip(sides, operands, strict=True)
        if operand is not None
        for term, n in zip(side, operand, strict=True)
    ]
    for names, n in pending:
        # operands may differ by one, which broadcasts; the test below refuses all else
        if len(names) == 1:
            sizes[names[0]] = max(n, sizes.get(names[0], 1))
    products = [(names, n) for names, n in pending if len(names) > 1]
    # a product that has one name left gives that one, which may be the last of another product
    for _ in range(PRODUCT_PASSES):
        for names, n in products:
            missing = [x for x in names if x not in sizes]
            if len(missing) == 1:
                known = math.prod(sizes[x] for x in names if x in sizes)
                if n % known:
                    raise UnknownStructureError(f"{n} is no multiple of {known}")
                sizes[missing[0]] = n // known
    for names, n in pending:
        size = math.prod(sizes[x] for x in names)
        if names and n != size and n != 1:
            raise UnknownStructureError(f"an axis of {n} where the rule has {size}")
    return sizes


def _shape_results(
    results: list[tuple[Term, ...]],
    inferred: Sequence[tuple[int, ...] | None],
    sizes: dict[str, int],
) -> list[tuple[int, ...]]:
    """Find the results' shapes: the inferred ones, else those that the sizes of the names give.

    An inferred shape also gives names that no operand has their sizes, in `sizes`.
    """
    shapes = []
    for terms, shape in zip(results, inferred, strict=False):
        if shape is None:
            if any(x not in sizes for term in terms for x in term.names):
                raise UnknownStructureError("a shape that cannot be computed")
            shape = tuple(math.prod(sizes[x] for x in term.names) for term in terms)
        if len(terms) != len(shape):
            raise UnknownStructureError(
                f"a result of {len(shape)} axes where the rule has {len(terms)}"
            )
        for term, n in zip(terms, shape, strict=True):
            if len(term.names) == 1 and term.names[0] not in sizes:
                sizes[term.names[0]] = n
        shapes.append(shape)
    return shapes


def spread_shape(
    shape: Sequence[int], side: tuple[Term, ...], names: tuple[str, ...], sizes: dict[str, int]
) -> tuple[int, ...]:
    """Spread an operand's shape over all names of an equation, 0 for those it does not have."""
    own = {
        x: sizes[x] if n > 1 else 1 for term, n in zip(side, shape, strict=True) for x in term.names
    }
    return tuple(own.get(x, 0) for x in names)


def lay_over_names(
    role: np.ndarray, side: tuple[Term, ...], names: tuple[str, ...], sizes: dict[str, int]
) -> np.ndarray:
    """Lay a role over an operand's axes out over all names of an equation.

    Args:
        role: any array that broadcasts over the operand.
        side: the terms of the operand.
        names: all names, in the order of the result's axes.
        sizes: the size of every name.
    """
    order, places, in_products = _lay_out(side, names)
    dims: list[int] = []
    for term, n in zip(side, role.shape, strict=True):
        dims += [sizes[x] if n > 1 else 1 for x in term.names]
    full = role.reshape(dims).transpose(order).reshape([1 if p < 0 else dims[p] for p in places])
    return drop_constant_axes(full, in_products) if in_products else full


@functools.lru_cache(maxsize=1 << 12)
def _lay_out(
    side: tuple[Term, ...], names: tuple[str, ...]
) -> tuple[list[int], list[int], list[int]]:
    """Find how the names of an operand lie among all names.

    Returns:
        The operand's names in the order of all; for each of all names its place in the operand, -1
        for none; and the places, among all, of the operand's names that stand in products.
    """
    own = [x for term in side for x in term.names]
    order = [own.index(n) for n in names if n in own]
    places = [own.index(n) if n in own else -1 for n in names]
    in_products = [names.index(x) for term in side if len(term.names) > 1 for x in term.names]
    return order, places, in_products


def take_result_axes(
    role: np.ndarray, terms: tuple[Term, ...], names: tuple[str, ...], sizes: dict[str, int]
) -> np.ndarray | None:
    """Carry a role over the names of an equation to the axes of a result.

    Returns:
        The role; None where the result does not have all names that it varies along.
    """
    here = [x for term in terms for x in term.names]
    axes = find_varying_axes(role)
    kept = [names[a] for a in axes]
    if any(x not in here for x in kept):
        return None
    view = role.reshape([role.shape[a] for a in axes])
    dims: list[int] = []
    full: list[int] = []
    target: list[int] = []
    for term in terms:
        used = any(x in kept for x in term.names)
        dims += [sizes[x] if x in kept else 1 for x in term.names]
        full += [sizes[x] if used else 1 for x in term.names]
        target.append(math.prod(sizes[x] for x in term.names) if used else 1)
    view = view.transpose([kept.index(x) for x in here if x in kept]).reshape(dims)
    return (view if full == dims else np.broadcast_to(view, full)).reshape(target)
