"""Equations over named axes: their text, the sizes of their names, and roles laid out over them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UnknownStructure
from .labels import drop_constant_axes, find_varying_axes


@dataclass(frozen=True)
class Term:
    """One axis of an operand in an equation: its names, row-major."""

    names: tuple[str, ...]
    flags: tuple[str, ...] = ()
    """`[` where a name is pinned, `{` where it is normalised over, one a name."""


@dataclass(frozen=True)
class Plan:
    """An equation at given ranks of its operands, and what that says of its names."""

    sides: list[tuple[Term, ...]]
    results: list[tuple[Term, ...]]
    kept: set[str]
    """Names that a result has."""
    pinned: set[str]
    over: set[str]
    """Names that are normalised over."""
    named: list[set[str]]
    """The names of each operand."""
    gone: set[str]
    """Names that are contracted."""
    contracting: list[set[str]]
    """The names of the operands that have one that is contracted."""
    batch: set[str]
    """Names that all those have, and a result too."""


@functools.lru_cache(maxsize=1 << 12)
def plan_equation(text: str, ranks: tuple[int | None, ...]) -> Plan:
    """The plan of an equation; UnknownStructure where the operands do not fit it."""
    sides, results = parse(text, ranks)
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


Ends = list[list[tuple[str, bool] | None]]
"""For every result, of each axis its name and whether it keeps its order; None for an axis of one."""


@dataclass(frozen=True)
class SolvedEquation:
    """An equation at given shapes of its operands."""

    how: Plan
    sizes: dict[str, int]
    """The size of every name."""
    shapes: list[tuple[int, ...]]
    """The results' shapes."""
    operands: tuple[tuple[int, ...] | None, ...]

    @functools.cached_property
    def single(self) -> tuple[list[list[str | None]], Ends] | None:
        """The name of each axis of the operands and results, None for an axis of one; None where one has several names."""
        how, sizes = self.how, self.sizes
        axes: list[list[str | None]] = []
        for shape, side in zip(self.operands, how.sides, strict=True):
            own: list[str | None] = []
            for n, term in zip(shape or (), side, strict=shape is not None):
                long = [x for x in term.names if sizes[x] > 1]
                if n == 1 and not how.gone.isdisjoint(long):
                    return None
                if n > 1 and len(long) != 1:
                    return None
                own.append(long[0] if n > 1 else None)
            axes.append(own)
        ends: Ends = []
        for terms, shape in zip(how.results, self.shapes, strict=False):
            end: list[tuple[str, bool] | None] = []
            for n, term in zip(shape, terms, strict=True):
                long = [x for x in term.names if sizes[x] > 1]
                fixed = "[" in term.flags or not how.pinned.isdisjoint(term.names)
                if n > 1 and (len(long) > 1 or any(sizes[x] != n for x in long)):
                    return None
                if (
                    fixed
                    and any(x in own for own in axes for x in long)
                    and not how.pinned.issuperset(long)
                ):
                    return None
                end.append((long[0] if long else "", fixed) if n > 1 else None)
            ends.append(end)
        return axes, ends


def solve_equation(
    text: str,
    operands: Sequence[tuple[int, ...] | None],
    given: Mapping[str, int],
    inferred: Sequence[tuple[int, ...] | None],
) -> SolvedEquation:
    """An equation at the shapes of its operands, and of its results as far as they are known.

    `given` are sizes that attributes give. UnknownStructure where the shapes do not fit it.
    """
    return _solved(
        text,
        tuple(operands[: text.partition("->")[0].count(",") + 1]),
        tuple(given.items()),
        tuple(inferred),
    )


@functools.lru_cache(maxsize=1 << 12)
def _solved(
    text: str,
    operands: tuple[tuple[int, ...] | None, ...],
    given: tuple[tuple[str, int], ...],
    inferred: tuple[tuple[int, ...] | None, ...],
) -> SolvedEquation:
    how = plan_equation(text, tuple(None if o is None else len(o) for o in operands))
    sizes = _sizes(how.sides, operands, dict(given))
    return SolvedEquation(how, sizes, _shapes(how.results, inferred, sizes), operands)


def parse(
    text: str, ranks: Sequence[int | None]
) -> tuple[list[tuple[Term, ...]], list[tuple[Term, ...]]]:
    """The operands and results of an equation; ``x..`` is spelled out by the operands' ranks."""
    left, _, right = text.partition("->")
    spread: dict[str, int] = {}
    operands = []
    named = left.split(",")
    if len(ranks) > len(named) and any(r is not None for r in ranks[len(named) :]):
        raise UnknownStructure("an operand that the rule does not name")
    for side, rank in zip(named, ranks, strict=False):
        operands.append(tuple(_terms(side, rank, spread)) if rank is not None else ())
    return operands, [tuple(_terms(side, None, spread)) for side in right.split(",")]


def _terms(side: str, rank: int | None, spread: dict[str, int]) -> list[Term]:
    tokens = side.replace("(", " ( ").replace(")", " ) ").split()
    terms: list[Term] = []
    product: list[tuple[str, str]] | None = None
    dotted = [t for t in tokens if ".." in t]
    fixed = 0
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        fixed += (token == ")") or (depth == 0 and ".." not in token)
    if dotted and rank is not None and dotted[0].strip("[]{}.") not in spread:
        spread[dotted[0].strip("[]{}.")] = rank - fixed
    count = next(iter(spread.values()), 0)
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
        raise UnknownStructure(f"{rank} axes where the rule has {len(terms)}")
    return terms


def _sizes(
    sides: list[tuple[Term, ...]], operands: Sequence[tuple[int, ...] | None], sizes: dict[str, int]
) -> dict[str, int]:
    """The size of every name, from the operands' shapes and the sizes that attributes give."""
    pending = [
        (term.names, n)
        for side, operand in zip(sides, operands, strict=True)
        if operand is not None
        for term, n in zip(side, operand, strict=True)
    ]
    for names, n in pending:
        if len(names) == 1:
            sizes[names[0]] = max(n, sizes.get(names[0], 1))
    products = [(names, n) for names, n in pending if len(names) > 1]
    for _ in range(3):
        for names, n in products:
            missing = [x for x in names if x not in sizes]
            if len(missing) == 1:
                known = math.prod(sizes[x] for x in names if x in sizes)
                if n % known:
                    raise UnknownStructure(f"{n} is no multiple of {known}")
                sizes[missing[0]] = n // known
    for names, n in pending:
        size = math.prod(sizes[x] for x in names)
        if names and n != size and n != 1:
            raise UnknownStructure(f"an axis of {n} where the rule has {size}")
    return sizes


def _shapes(
    results: list[tuple[Term, ...]],
    inferred: Sequence[tuple[int, ...] | None],
    sizes: dict[str, int],
) -> list[tuple[int, ...]]:
    """The results' shapes: inferred ones, which also size their new names, else those that the names give."""
    shapes = []
    for terms, shape in zip(results, inferred, strict=False):
        if shape is None:
            if any(x not in sizes for term in terms for x in term.names):
                raise UnknownStructure("a shape that cannot be computed")
            shape = tuple(math.prod(sizes[x] for x in term.names) for term in terms)
        if len(terms) != len(shape):
            raise UnknownStructure(f"a result of {len(shape)} axes where the rule has {len(terms)}")
        for term, n in zip(terms, shape, strict=True):
            if len(term.names) == 1 and term.names[0] not in sizes:
                sizes[term.names[0]] = n
        shapes.append(shape)
    return shapes


def spread_shape(
    shape: Sequence[int], side: tuple[Term, ...], names: tuple[str, ...], sizes: dict[str, int]
) -> tuple[int, ...]:
    """An operand's shape over all axes of the equation, 0 for those that it has not."""
    own = {
        x: sizes[x] if n > 1 else 1 for term, n in zip(side, shape, strict=True) for x in term.names
    }
    return tuple(own.get(x, 0) for x in names)


def lay_over_names(
    role: np.ndarray, side: tuple[Term, ...], names: tuple[str, ...], sizes: dict[str, int]
) -> np.ndarray:
    """A role over an operand's axes, over all axes of the equation."""
    turned, places, product = _layout(side, names)
    dims: list[int] = []
    for term, n in zip(side, role.shape, strict=True):
        dims += [sizes[x] if n > 1 else 1 for x in term.names]
    full = role.reshape(dims).transpose(turned).reshape([1 if p < 0 else dims[p] for p in places])
    return drop_constant_axes(full, product) if product else full


@functools.lru_cache(maxsize=1 << 12)
def _layout(
    side: tuple[Term, ...], names: tuple[str, ...]
) -> tuple[list[int], list[int], list[int]]:
    """How the names of an operand lie among all names: their order, the place of every name, and those in products."""
    order = [x for term in side for x in term.names]
    turned = [order.index(n) for n in names if n in order]
    places = [order.index(n) if n in order else -1 for n in names]
    return (
        turned,
        places,
        [names.index(x) for term in side if len(term.names) > 1 for x in term.names],
    )


def take_result_axes(
    role: np.ndarray, terms: tuple[Term, ...], names: tuple[str, ...], sizes: dict[str, int]
) -> np.ndarray | None:
    """A role over the equation's axes, over those of a result; None where the result has not all of its axes."""
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
