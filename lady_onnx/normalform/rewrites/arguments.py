"""TODO."""

from __future__ import annotations

from collections.abc import Sequence

from ..algebra.term import NoNormalForm
from .call import Call


def count_axis_from_front(axis: int, rank: int, many: int | None = None) -> int:
    """An axis, counted from the first; `many` is how many there are if that is not the rank.

    Raises NoForm for one that a tensor does not have.
    """
    many = rank if many is None else many
    if not -rank <= axis < many:
        raise NoNormalForm(f"axis {axis} of a tensor of rank {rank}")
    return axis + rank if axis < 0 else axis


def count_axes_from_front(axes: Sequence[int], rank: int) -> list[int]:
    """Axes, counted from the first. Raises NoForm for one that a tensor does not have, or that stands there twice."""
    places = [count_axis_from_front(int(a), rank) for a in axes]
    if len(set(places)) < len(places):
        raise NoNormalForm("an axis that stands there twice")
    return places


def read_axis(call: Call, name: str = "axis", default: int = 0, behind: int = 0) -> int:
    """An axis, counted from the first; so many places `behind` the last are one as well."""
    axis = int(call.attributes.get(name, default))
    rank = call.first().rank
    if rank is not None:
        return count_axis_from_front(axis, rank, rank + behind)
    if axis >= 0:
        return axis
    raise NoNormalForm(f"{call.node.op_type} counts axes from the end of a tensor of unknown rank")


def read_axes(call: Call, place: int = 1) -> list[int] | None:
    """Axes that are an attribute or an operand; None where they are neither, or are not known."""
    found = call.attributes.get("axes")
    operand = call.operand(place)
    if operand is not None:
        whole = operand.whole
        if whole is None or whole.ndim != 1:
            return None
        found = whole.tolist()
    rank = call.first().rank
    if found is None or (rank is None and any(a < 0 for a in found)):
        return None
    return [int(a) for a in found] if rank is None else count_axes_from_front(found, rank)


def read_window(call: Call, name: str, places: int, default: int, each: int = 1) -> list[int]:
    """Numbers of a window, `each` of them for every place that it moves along."""
    found = [int(v) for v in call.attributes.get(name, [default] * places * each)]
    if len(found) != places * each or min(found, default=default) < default:
        raise NoNormalForm(f"'{name}' is {found}, of {places} places")
    return found


def read_integers(call: Call, name: str, place: int) -> list[int] | None:
    """Whole numbers that are an attribute in older versions, and an operand in newer ones; None where not known."""
    operand = call.operand(place)
    if operand is not None:
        whole = operand.whole
        return None if whole is None or whole.ndim != 1 else [int(v) for v in whole]
    found = call.attributes.get(name)
    return None if found is None else [int(v) for v in found]
