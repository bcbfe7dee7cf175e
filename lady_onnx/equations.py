"""Equations over named axes: their text, the sizes of their names, and roles laid out over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import UnknownStructure
from .labels import axes_of, compress


@dataclass(frozen=True)
class Term:
    """One axis of an operand in an equation: its names, row-major."""

    names: tuple[str, ...]
    flags: tuple[str, ...] = ()
    """`[` where a name is pinned, `{` where it is normalised over, one a name."""


def parse(text: str, ranks: Sequence[int | None]) -> tuple[list[list[Term]], list[list[Term]]]:
    """The operands and results of an equation; ``x..`` is spelled out by the operands' ranks."""
    left, _, right = text.partition("->")
    spread: dict[str, int] = {}
    operands = []
    named = left.split(",")
    if len(ranks) > len(named) and any(r is not None for r in ranks[len(named) :]):
        raise UnknownStructure("an operand that the rule does not name")
    for side, rank in zip(named, ranks, strict=False):
        operands.append(_terms(side, rank, spread) if rank is not None else [])
    return operands, [_terms(side, None, spread) for side in right.split(",")]


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


def solve(sides: list[list[Term]], operands: Sequence[tuple[int, ...] | None], given: dict[str, int]) -> dict[str, int]:
    """The size of every name, from the operands' shapes and the sizes that attributes give."""
    sizes = dict(given)
    pending = [
        (term.names, n)
        for side, operand in zip(sides, operands, strict=True)
        if operand is not None
        for term, n in zip(side, operand, strict=True)
    ]
    for names, n in pending:
        if len(names) == 1:
            sizes[names[0]] = max(n, sizes.get(names[0], 1))
    for _ in range(3):
        for names, n in pending:
            missing = [x for x in names if x not in sizes]
            if len(missing) == 1:
                known = int(np.prod([sizes[x] for x in names if x in sizes], dtype=np.int64))
                if n % known:
                    raise UnknownStructure(f"{n} is no multiple of {known}")
                sizes[missing[0]] = n // known
    for names, n in pending:
        size = int(np.prod([sizes[x] for x in names], dtype=np.int64))
        if names and n != size and n != 1:
            raise UnknownStructure(f"an axis of {n} where the rule has {size}")
    return sizes


def solve_results(
    results: list[list[Term]], inferred: Sequence[tuple[int, ...] | None], sizes: dict[str, int]
) -> list[tuple[int, ...]]:
    """The results' shapes: inferred ones, which also size their new names, else those that the names give."""
    shapes = []
    for terms, shape in zip(results, inferred, strict=False):
        if shape is None:
            if any(x not in sizes for term in terms for x in term.names):
                raise UnknownStructure("a shape that cannot be computed")
            shape = tuple(int(np.prod([sizes[x] for x in term.names], dtype=np.int64)) for term in terms)
        if len(terms) != len(shape):
            raise UnknownStructure(f"a result of {len(shape)} axes where the rule has {len(terms)}")
        for term, n in zip(terms, shape, strict=True):
            if len(term.names) == 1 and term.names[0] not in sizes:
                sizes[term.names[0]] = n
        shapes.append(shape)
    return shapes


def spread(shape: Sequence[int], side: list[Term], names: list[str], sizes: dict[str, int]) -> tuple[int, ...]:
    """An operand's shape over all axes of the equation, 0 for those that it has not."""
    own = {x: sizes[x] if n > 1 else 1 for term, n in zip(side, shape, strict=True) for x in term.names}
    return tuple(own.get(x, 0) for x in names)


def lay(role: np.ndarray, side: list[Term], names: list[str], sizes: dict[str, int]) -> np.ndarray:
    """A role over an operand's axes, over all axes of the equation."""
    dims: list[int] = []
    order: list[str] = []
    for term, n in zip(side, role.shape, strict=True):
        dims += [sizes[x] if n > 1 else 1 for x in term.names]
        order += term.names
    split = role.reshape(dims)
    position = [order.index(n) for n in names if n in order]
    laid = split.transpose(position)
    full = laid.reshape([laid.shape[[n for n in names if n in order].index(n)] if n in order else 1 for n in names])
    product = [names.index(x) for term in side if len(term.names) > 1 for x in term.names]
    return compress(full, product)


def unlay(role: np.ndarray, terms: list[Term], names: list[str], sizes: dict[str, int]) -> np.ndarray | None:
    """A role over the equation's axes, over those of a result; None where the result has not all of its axes."""
    here = [x for term in terms for x in term.names]
    if any(names[a] not in here for a in axes_of(role)):
        return None
    view = role.reshape([n for n in role.shape if n > 1] or [1])
    kept = [names[a] for a in axes_of(role)]
    dims: list[int] = []
    target: list[int] = []
    for term in terms:
        used = any(x in kept for x in term.names)
        dims += [sizes[x] if x in kept else 1 for x in term.names]
        target.append(int(np.prod([sizes[x] for x in term.names], dtype=np.int64)) if used else 1)
    order = [x for x in here if x in kept]
    view = view.transpose([kept.index(x) for x in order]).reshape(dims)
    full = [sizes[x] if any(y in kept for y in term.names) else 1 for term in terms for x in term.names]
    return np.broadcast_to(view, full).reshape(target)
