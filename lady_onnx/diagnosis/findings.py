"""What is found that was done to single units or weights, and which of that is tampering.

The module holds the words, and the limits that all tests share; findings are made by `undoing`,
`mixing` and `tampering`.
"""

from __future__ import annotations

from dataclasses import dataclass

REPLACEABLE = ("scaled", "replaced")
"""The kinds of findings for which the reference has other values, so that they can be repaired."""
TAMPERING = (*REPLACEABLE, "inserted")
"""The kinds of findings that make a suspect `tampered`.

`removed` changes the function as well, and makes it `altered`.
"""
REMOVED = "removed"
"""The kind of a finding that the suspect lacks a unit."""
ADDED = ("inserted", "obfuscated")
"""The kinds of findings that the suspect has a unit more."""
PARTLY_TRAINED = "partly trained"
"""The kind of a finding that is no tampering: a few weights moved beside many that stayed.

Training moves weights in this way.
"""
MAX_CHANCE = 1e-5
"""A probability: what is found must be rarer than this if training or chance did it."""
MAX_TAMPERED_SHARE = 0.1
"""If a larger share of units or weights differs, the weight was altered as a whole: nobody tampered
with them one by one.
"""


@dataclass(frozen=True)
class Finding:
    """Something that was done to a unit of the suspect besides moving it.

    Attributes:
        kind: What was done. `rescaled`: a factor that leaves the function as it was, undone.
            `mixed`: a map of all units of a group that leaves the function as it was, undone.
            `inert`: a change of a weight that the function does not depend on, undone. `shifted`:
            a change of a bias that another bias behind it takes back, undone. `scaled`: a factor
            that changes the function. `replaced`: other values. `removed`: a unit that the suspect
            does not have. `obfuscated`: a unit that the reference does not have and the function
            does not need. `inserted`: such a unit that the function needs. `partly trained`: a
            weight of which training reached a part.
        group: The id of the group concerned; None for weights that belong to no unit.
        unit: The unit concerned, as it lies in the reference, or, if the reference does not have
            it, in the suspect; None for weights that belong to no unit.
        slot: The initializer concerned.
        factor: What the unit was multiplied by; None if it was not multiplied.
        size: The size of the change, in units of what the other units or weights of the tensor
            show; for `partly trained` the share of the weights that moved.
    """

    kind: str
    group: str | None
    unit: int | None
    slot: str
    factor: float | None
    size: float
