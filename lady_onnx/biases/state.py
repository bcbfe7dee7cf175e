"""Holds the state of a walk over the gains of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..dataflow.plainsteps import PlainSteps
from .gains import Gain
from .shares import Shares

Gains = Sequence[Gain | None]
"""The gain of every operand of a node in turn, None for one that has none."""


@dataclass
class GainState:
    """The gains that a walk over a graph has found so far.

    Attributes:
        plain: the steps of the graph.
        gains: by tensor what is added to it; a tensor without an entry does not change.
        shares: the tensors whose elements sum to one along an axis.
        met_biases: the weights to which a gain of known values was added. Each of them may be the
            bias that cancels it.
    """

    plain: PlainSteps
    gains: dict[str, Gain]
    shares: Shares
    met_biases: list[str] = field(default_factory=list)
