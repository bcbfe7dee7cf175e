"""A list of steps that names itself, for rules of operators that are made of many simpler ones."""

from __future__ import annotations

from collections.abc import Sequence

from .kinds import Elementwise, Equation, Kind, Movement, Step, Steps
from .laws import Law


class StepList:
    """Collects the steps of a node, each under a name of its own.

    An operand is the name of an earlier step, or the position of an operand of the node as text.

    >>> w = StepList()
    >>> heads = w.relate("b s i, (h d) i -> b s h d", "0", "1", h=2)
    >>> w.finish(w.combine(heads, heads)).results
    ('s1',)
    """

    def __init__(self) -> None:
        self._steps: list[tuple[str, Kind, tuple[str, ...]]] = []
        self._laws: dict[str, Law] = {}

    def apply(self, kind: Kind, *operands: str, law: Law | None = None) -> str:
        """Add a step of a kind, with what it does to scale and sign, and return its name."""
        name = f"s{len(self._steps)}"
        self._steps.append((name, kind, operands))
        if law is not None:
            self._laws[name] = law
        return name

    def relate(self, text: str, *operands: str, law: Law | None = None, **sizes: int) -> str:
        """Add an equation; `sizes` are those of names that no operand gives."""
        return self.apply(Equation(text, sizes), *operands, law=law)

    def combine(self, *operands: str, law: Law | None = None) -> str:
        """Add what combines operands element by element; one alone is returned as it is."""
        return operands[0] if len(operands) == 1 else self.map(*operands, law=law)

    def map(self, *operands: str, law: Law | None = None) -> str:
        """Add a function of the elements that broadcasting brings together."""
        return self.apply(Elementwise(), *operands, law=law)

    def move(self, operand: str, *steps: Step) -> str:
        """Add a movement of one operand."""
        return self.apply(Movement([((0,), list(steps))]), operand)

    def join(self, operands: Sequence[str], axis: int) -> str:
        """Add what lays operands side by side along an axis."""
        return self.apply(Movement([(tuple(range(len(operands))), [])], axis), *operands)

    def keep(self, operand: str, rank: int) -> str:
        """Add that an operand keeps the order of all its axes."""
        names = " ".join(f"[m{k}]" for k in range(rank))
        return self.relate(f"{names} -> {names}", operand)

    def finish(self, *results: str) -> Steps:
        """Return all steps, with those that are the node's results."""
        return Steps(self._steps, results, laws=self._laws)
