"""Rewrites of what does nothing, of constants that stand in nodes, and of casts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto

from ...normalform.algebra.numbering import MAX_KNOWN_ELEMENTS
from ...normalform.algebra.term import Term, make_attributes
from ...semantics.lengths import fit_int32
from .call import Call, register_rewrite
from .nodes import keep_as_written

LENGTH_TYPES = (TensorProto.INT64, TensorProto.INT32)
"""Types in which lengths are known by their values."""


@register_rewrite("Identity")
def rewrite_identity(call: Call) -> Term:
    """Give the operand."""
    return call.require_first()


@register_rewrite("Constant")
def rewrite_constant(call: Call) -> Term | None:
    """Give the value of a constant whose value comes from a function's call.

    All other constants are weights of the file.
    """
    (name, value), *more = [*call.attributes.items(), ("", None)]
    if more[:-1] or name not in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        return None
    if name == "value":
        return (
            None
            if value.data_type == TensorProto.STRING
            else call.terms.make_constant(onnx.numpy_helper.to_array(value))
        )
    return call.terms.make_constant(np.array(value, np.float32 if "float" in name else np.int64))


@register_rewrite("Dropout")
def rewrite_dropout(call: Call) -> Sequence[Term] | None:
    """Give the operand where nothing is dropped; a mask that is read stands as it is written."""
    ratio, training = call.get_operand(1), call.get_operand(2)
    # runtimes refuse such an operand outside of its bounds, even where nothing is dropped
    if ratio is not None and (
        ratio.known is None or ratio.known.size != 1 or not 0 <= ratio.known.ravel()[0] < 1
    ):
        return None
    is_off = training is None or (training.known is not None and not training.known.any())
    # Before version 7 a node without `is_test` drops at random.
    if not is_off or (call.version < 7 and not call.attributes.get("is_test")):
        return None
    call.ignore_attributes("ratio", "seed")
    if not call.has_result(1):
        return [call.require_first()]
    if call.version >= 12:
        return [call.require_first(), keep_as_written(call)[1]]
    # older versions say different things of it
    mask = call.terms.make_node("Dropout", "unknown", [], (), 1, kind=(0, None), is_unique=True)
    return [call.require_first(), *mask]


PLAIN_TYPES = (
    *(TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.FLOAT16),
    *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
    *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
)
"""Types that are cast to each other in one way only."""


@register_rewrite("Cast")
def rewrite_cast(call: Call) -> Term | None:
    """Cast to the type that the attribute names."""
    return _make_cast(call, int(call.attributes["to"]))


@register_rewrite("CastLike")
def rewrite_cast_like(call: Call) -> Term | None:
    """Cast to the type of the second operand."""
    like = call.get_operand(1)
    return _make_cast(call, like.dtype) if like is not None and like.dtype else None


def _make_cast(call: Call, to: int) -> Term | None:
    """Cast a term, or a constant whose cast is the same in every runtime; None for other types."""
    term, terms = call.require_first(), call.terms
    if to not in PLAIN_TYPES or term.dtype not in PLAIN_TYPES:
        # attributes say how floats of eight bits round and saturate
        return None
    if term.dtype == to:
        return term
    if term.leaf is not None:
        source, target = (
            np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t)) for t in (term.dtype, to)
        )
        if target == np.float16 and source != np.float16 and not _is_rounded_once(term.leaf.array):
            return None
        if _may_fold_cast(term, source, target, to):
            return terms.make_constant(term.leaf.array.astype(target), term.leaf.hint)
    are_integers = term.dtype in LENGTH_TYPES and to in LENGTH_TYPES
    known = term.known if term.known is not None and are_integers else None
    if known is not None and to == TensorProto.INT32 and not fit_int32(known.ravel().tolist()):
        known = None
    return terms.make_term(
        "Cast", [term], make_attributes(to=to), dtype=to, shape=term.shape, known=known
    )


def _may_fold_cast(term: Term, source: np.dtype, target: np.dtype, to: int) -> bool:
    """Tell whether the cast of a constant is the same in every runtime, and not large.

    Args:
        term: the constant.
        source: its type.
        target: the type that it is cast to.
        to: the same, as onnx has it.
    """
    assert term.leaf is not None
    array = term.leaf.array
    is_exact = np.can_cast(source, target, "safe") or (
        term.dtype in LENGTH_TYPES and to in LENGTH_TYPES and term.known is not None
    )
    is_between_floats = source.kind == target.kind == "f"
    is_from_integers = source.kind in "iub" and target.kind in "iubf"
    return (
        (is_exact and array.dtype == source)
        or (is_between_floats and (array.size == 1 or source.itemsize == 8))
        or (is_from_integers and array.size <= MAX_KNOWN_ELEMENTS)
    )


def _is_rounded_once(array: np.ndarray) -> bool:
    """Tell whether numbers are the same in half precision if they go by way of single precision.

    Runtimes go either way.
    """
    with np.errstate(over="ignore"):
        return bool((array.astype(np.float16) == array.astype(np.float32).astype(np.float16)).all())
