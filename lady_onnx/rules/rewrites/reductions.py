"""Rewrites of reductions along axes, pools, running sums and the largest elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...normalform.algebra.known_lengths import measure_windows
from ...normalform.algebra.movements import make_reshape
from ...normalform.algebra.normalisations import make_reduction
from ...normalform.algebra.term import Term, make_attributes
from ...semantics.factorisation import as_integers
from ...semantics.lengths import are_numbers
from .arguments import count_axis_from_front, read_axes, read_pads, read_window
from .call import Call, register_rewrite
from .nodes import keep_as_written
from .shaping import move_attribute_to_operand


@register_rewrite(
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
def rewrite_reduction(call: Call) -> Term | None:
    """Keep the reduced axes at length one, and drop them by a reshape where the node drops them."""
    x = call.require_first()
    axes = read_axes(call)
    noop = call.attributes.get("noop_with_empty_axes")
    if x.shape is None:
        keeps = int(call.attributes.get("keepdims", 1))
        if noop and not axes:
            return None
        return move_attribute_to_operand(call, "axes", keepdims=keeps, noop_with_empty_axes=0)
    # No axes mean all of them, unless they are given by an operand that is not known.
    if axes is None or not axes:
        if call.get_operand(1) is not None and axes != []:
            return None
        if noop:
            return None
        axes = list(range(len(x.shape)))
    made = make_reduction(call.terms, call.node.op_type, x, axes)
    if call.attributes.get("keepdims", 1):
        return made
    return make_reshape(call.terms, made, [n for a, n in enumerate(x.shape) if a not in axes])


@register_rewrite("GlobalAveragePool", "GlobalMaxPool")
def rewrite_global_pool(call: Call) -> Term | None:
    """Write a global average as a mean over axes.

    A global maximum stands as it is: a pool and a reduction treat NaN differently.
    """
    x = call.require_first()
    if (
        call.node.op_type != "GlobalAveragePool"
        or x.rank is None
        or x.rank < 3
        or not x.is_reassociable
    ):
        return None
    if x.shape is None or 0 in [n for n in x.shape if isinstance(n, int)]:
        return None
    return make_reduction(call.terms, "ReduceMean", x, range(2, x.rank))


@register_rewrite("AveragePool", "MaxPool")
def rewrite_pool(call: Call) -> Term | None:
    """Write out the window of a pool; an average over the whole map is a mean over axes."""
    x = call.require_first()
    kernel = [int(k) for k in call.attributes["kernel_shape"]]
    pads = read_pads(call, x, kernel)
    if pads is None or any(call.node.output[1:]) or call.version < 7:
        return None
    places = len(kernel)
    window: dict[str, list[int]] = {
        "dilations": read_window(call, "dilations", places, 1),
        "kernel_shape": kernel,
        "pads": pads,
        "strides": read_window(call, "strides", places, 1),
    }
    if call.attributes.get("ceil_mode") and not _is_exactly_covered(x, window):
        return None
    if (
        call.node.op_type == "AveragePool"
        and x.shape is not None
        and list(x.shape[2:]) == kernel
        and not any(pads)
        and window["dilations"] == [1] * places
        and x.is_reassociable
    ):
        call.ignore_attributes("count_include_pad")
        return make_reduction(call.terms, "ReduceMean", x, range(2, len(x.shape)))
    given: dict[str, object] = dict(window)
    if call.node.op_type == "AveragePool":
        # asked for in any case: without padding it says nothing, and may be left out
        is_counted = int(call.attributes.get("count_include_pad", 0))
        given["count_include_pad"] = is_counted if any(pads) else 0
    # dilations of one are left out: onnxruntime fuses no quantised pool that writes them out
    written = {n: v for n, v in given.items() if n != "dilations" or v != [1] * places}
    return measure_windows(
        call.terms,
        call.terms.make_term(call.node.op_type, [x], make_attributes(**written)),
        x,
        window,
    )


def _is_exactly_covered(x: Term, window: Mapping[str, list[int]]) -> bool:
    """Tell whether the last window of a pool ends with its map, so that no length is rounded."""
    if x.shape is None or not are_numbers(x.shape[2:]):
        return False
    pads, lengths = window["pads"], as_integers(x.shape[2:])
    return all(
        (n + pads[k] + pads[k + len(lengths)] - (size - 1) * dilation - 1) % stride == 0
        for k, (n, size, dilation, stride) in enumerate(
            zip(
                lengths,
                window["kernel_shape"],
                window["dilations"],
                window["strides"],
                strict=True,
            )
        )
    )


@register_rewrite("CumSum")
def rewrite_running_sum(call: Call) -> Term | None:
    """Count the axis from the front, and give it in one integer type."""
    term, axis = call.require_first(), call.get_operand(1)
    if axis is None or axis.integers is None or axis.rank != 0 or term.rank is None:
        return None
    place = call.terms.make_constant(
        np.array(count_axis_from_front(int(axis.integers.reshape(-1)[0]), term.rank), np.int64)
    )
    return keep_as_written(call, [term, place])[0]


@register_rewrite("TopK")
def rewrite_top_k(call: Call) -> Sequence[Term] | None:
    """Give the count as an operand, as newer versions have it."""
    if call.version >= 10:
        return None
    count = call.terms.make_constant(np.array([call.attributes["k"]], np.int64))
    attributes = make_attributes(axis=int(call.attributes.get("axis", -1)), largest=1, sorted=1)
    return keep_as_written(call, [call.require_first(), count], attributes)
