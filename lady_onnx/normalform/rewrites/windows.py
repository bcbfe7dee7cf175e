"""TODO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...semantics.lengths import Polynomial, are_numbers
from ..algebra.numbering import Terms
from ..algebra.term import NoNormalForm, Term
from .arguments import read_window
from .call import Call


def read_pads(call: Call, x: Term, kernel: Sequence[int]) -> list[int] | None:
    """The padding of a convolution or pool, written out; None where it hangs on a length that only a run shows."""
    how = call.attributes.get("auto_pad", b"NOTSET")
    places = len(kernel)
    if how == b"NOTSET":
        return read_window(call, "pads", places, 0, 2)
    if "pads" in call.attributes and any(call.attributes["pads"]):
        raise NoNormalForm("it has both 'pads' and 'auto_pad'")
    if how == b"VALID":
        return [0] * 2 * places
    if how not in (b"SAME_UPPER", b"SAME_LOWER"):
        raise NoNormalForm(f"'auto_pad' is {how!r}")
    if x.shape is None or not are_numbers(x.shape[2:]) or call.node.op_type == "ConvTranspose":
        return None
    strides, dilations = (read_window(call, n, places, 1) for n in ("strides", "dilations"))
    if any(d != 1 for d in dilations):
        raise NoNormalForm("'auto_pad' with dilations")
    before, after = [], []
    for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        assert isinstance(n, int)
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        low = total // 2 if how == b"SAME_UPPER" else total - total // 2
        before.append(low)
        after.append(total - low)
    return [*before, *after]


def measure_windows(terms: Terms, term: Term, source: Term, named: Mapping[str, Any]) -> Term:
    """A convolution or pool, with the lengths that its windows give."""
    shape, made = source.shape, term.shape
    if shape is None or made is None or len(shape) != len(made):
        return term
    kernel, pads, strides, dilations = (
        list(named[n]) for n in ("kernel_shape", "pads", "strides", "dilations")
    )
    places = len(kernel)
    for k in range(places):
        n = shape[k + 2]
        if not isinstance(n, Polynomial) or not isinstance(term.shape[k + 2], Polynomial):  # type: ignore[index]
            continue
        less = dilations[k] * (kernel[k] - 1) - pads[k] - pads[places + k]
        if strides[k] == 1:
            assert term.shape is not None
            term.shape = (*term.shape[: k + 2], n - less, *term.shape[k + 3 :])
        else:
            terms.measured(term, k + 2, f"({n - less - 1!r}) // {strides[k]} + 1")
    if isinstance(shape[0], Polynomial) and term.shape is not None:
        term.shape = (shape[0], *term.shape[1:])
    return term
