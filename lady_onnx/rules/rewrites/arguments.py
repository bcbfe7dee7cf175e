"""Readers of what nodes say of axes, windows and padding, in the one way that rewrites want it."""

from __future__ import annotations

from collections.abc import Sequence

from ...normalform.algebra.term import NoNormalFormError, Term
from ...semantics.lengths import are_numbers
from .call import Call


def count_axis_from_front(axis: int, rank: int, limit: int | None = None) -> int:
    """Count an axis from the front.

    Args:
        axis: the axis; a negative one is counted from the end.
        rank: the rank of the tensor.
        limit: the number of axes that may be named, if it is not the rank.

    Raises:
        NoNormalFormError: if the tensor has no such axis.

    >>> count_axis_from_front(-1, 4)
    3
    """
    limit = rank if limit is None else limit
    if not -rank <= axis < limit:
        raise NoNormalFormError(f"axis {axis} of a tensor of rank {rank}")
    return axis + rank if axis < 0 else axis


def count_axes_from_front(axes: Sequence[int], rank: int) -> list[int]:
    """Count axes from the front.

    Raises:
        NoNormalFormError: if the tensor has no such axis, or if one axis is named twice.
    """
    places = [count_axis_from_front(int(a), rank) for a in axes]
    if len(set(places)) < len(places):
        raise NoNormalFormError("an axis that stands there twice")
    return places


def read_axis(call: Call, name: str = "axis", default: int = 0, behind: int = 0) -> int:
    """Read an axis of the first operand, counted from the front.

    Args:
        call: the node.
        name: the attribute that holds it.
        default: the axis where the attribute is left out.
        behind: how many places behind the last axis count as axes too.

    Raises:
        NoNormalFormError: if there is no such axis, or if it cannot be counted.
    """
    axis = int(call.attributes.get(name, default))
    rank = call.require_first().rank
    if rank is not None:
        return count_axis_from_front(axis, rank, rank + behind)
    if axis >= 0:
        return axis
    raise NoNormalFormError(
        f"{call.node.op_type} counts axes from the end of a tensor of unknown rank"
    )


def read_axes(call: Call, place: int = 1) -> list[int] | None:
    """Read axes of the first operand from the attribute `axes` or from an operand.

    Returns:
        The axes, counted from the front where the rank is known; None where neither is given, or
        where they are not known.
    """
    found = call.attributes.get("axes")
    operand = call.get_operand(place)
    if operand is not None:
        whole = operand.integers
        if whole is None or whole.ndim != 1:
            return None
        found = whole.tolist()
    rank = call.require_first().rank
    if found is None or (rank is None and any(a < 0 for a in found)):
        return None
    return [int(a) for a in found] if rank is None else count_axes_from_front(found, rank)


def read_window(call: Call, name: str, places: int, default: int, each: int = 1) -> list[int]:
    """Read an attribute of a window that moves along a map.

    Args:
        call: the node.
        name: the attribute.
        places: the number of axes that the window moves along.
        default: the number for every axis where the attribute is left out, and the smallest that
            is allowed.
        each: how many numbers the attribute has for an axis.

    Raises:
        NoNormalFormError: if there are too many numbers, too few, or too small ones.
    """
    found = [int(v) for v in call.attributes.get(name, [default] * places * each)]
    if len(found) != places * each or min(found, default=default) < default:
        raise NoNormalFormError(f"'{name}' is {found}, of {places} places")
    return found


def read_integers(call: Call, name: str, place: int) -> list[int] | None:
    """Read integers that older versions have in an attribute, and newer ones in an operand.

    Args:
        call: the node.
        name: the attribute.
        place: the position of the operand.

    Returns:
        The integers; None where they are not given, or not known.
    """
    operand = call.get_operand(place)
    if operand is not None:
        whole = operand.integers
        return None if whole is None or whole.ndim != 1 else [int(v) for v in whole]
    found = call.attributes.get(name)
    return None if found is None else [int(v) for v in found]


def read_pads(call: Call, x: Term, kernel: Sequence[int]) -> list[int] | None:
    """Read the padding of a convolution or pool, with `auto_pad` written out.

    Args:
        call: the node.
        x: the map.
        kernel: the shape of the window.

    Returns:
        The padding before every axis, and then behind every axis; None where it depends on a length
        that only a run shows.

    Raises:
        NoNormalFormError: if the attributes contradict each other.
    """
    how = call.attributes.get("auto_pad", b"NOTSET")
    places = len(kernel)
    if how == b"NOTSET":
        return read_window(call, "pads", places, 0, 2)
    if "pads" in call.attributes and any(call.attributes["pads"]):
        raise NoNormalFormError("it has both 'pads' and 'auto_pad'")
    if how == b"VALID":
        return [0] * 2 * places
    if how not in (b"SAME_UPPER", b"SAME_LOWER"):
        raise NoNormalFormError(f"'auto_pad' is {how!r}")
    if x.shape is None or not are_numbers(x.shape[2:]) or call.node.op_type == "ConvTranspose":
        return None
    strides, dilations = (read_window(call, n, places, 1) for n in ("strides", "dilations"))
    if any(d != 1 for d in dilations):
        raise NoNormalFormError("'auto_pad' with dilations")
    before, after = [], []
    for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        assert isinstance(n, int)
        # The result has as many places as strides fit into the map, a last part counted whole.
        total = (-(-n // s) - 1) * s + d * (k - 1) + 1 - n
        # runtimes disagree on what a padding below zero means
        if total < 0:
            return None
        low = total // 2 if how == b"SAME_UPPER" else total - total // 2
        before.append(low)
        after.append(total - low)
    return [*before, *after]
