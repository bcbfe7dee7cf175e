"""Changes of tensors: other elements, sizes, types, places."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import GraphProto, TensorProto, helper, numpy_helper

from .dressing import store_typed
from .messages import NotPossibleError, Place, Random, pick


def exchange_tensors(message: Any, place: Place, rng: Random) -> str | None:
    """Two weights of one shape and type change places."""
    owner = place.above[-1]
    tensors = getattr(owner, "initializer", ())
    others = [
        t
        for t in tensors
        if t is not message and (t.data_type, t.dims) == (message.data_type, message.dims)
    ]
    if not others:
        return None
    other = pick(rng, others)
    message.name, other.name = other.name, message.name
    return f"'{other.name}' and '{message.name}' exchanged"


def change_elements(message: Any, place: Place, rng: Random) -> str:
    """Other values in a tensor, of which the way of storing is kept."""
    array = numpy_helper.to_array(message)
    if array.size == 0:
        raise NotPossibleError
    new, what = _other_values(array, rng)
    if new.tobytes() == array.tobytes():
        raise NotPossibleError
    typed = not message.HasField("raw_data")
    message.CopyFrom(numpy_helper.from_array(new, message.name))
    if typed:
        store_typed(_holder(message, place), rng)
    return what


def _holder(message: TensorProto, place: Place) -> Any:
    return place.above[-1] if place.above else message


def _other_values(array: np.ndarray, rng: Random) -> tuple[np.ndarray, str]:
    new = array.copy()
    flat = new.reshape(-1)
    k = int(rng.integers(flat.size))
    if array.dtype == object:
        flat[k] = pick(rng, [*(v for v in flat if v != flat[k]), b"other"])
        return new, f"element {k}"
    if array.dtype == bool:
        flat[k] = not flat[k]
        return new, f"element {k} inverted"
    whole = "int" in array.dtype.name
    ways = ["one", "one", "one", "exchange", "row", "negate"] + (
        [] if whole else ["steps", "little", "large"]
    )
    way = pick(rng, ways)
    if way == "exchange" and flat.size > 1:
        other = int((k + 1 + rng.integers(flat.size - 1)) % flat.size)
        flat[[k, other]] = flat[[other, k]]
        return new, f"elements {k} and {other} exchanged"
    if way == "row" and array.ndim > 1 and max(array.shape) > 1:
        axis = int(pick(rng, [a for a, n in enumerate(array.shape) if n > 1]))
        order = rng.permutation(array.shape[axis])
        return np.ascontiguousarray(np.take(array, order, axis)), f"axis {axis} in another order"
    if way == "negate":
        flat[k] = (
            (-flat[k].astype(np.float64)).astype(array.dtype)
            if not whole
            else array.dtype.type(-int(flat[k]) & 127)
        )
        return new, f"element {k} negated"
    if way == "steps":
        return _moved(array, rng)
    return _one_element(new, k, way, whole, rng)


def _one_element(
    new: np.ndarray, k: int, way: str, whole: bool, rng: Random
) -> tuple[np.ndarray, str]:
    flat = new.reshape(-1)
    old = flat[k]
    if whole:
        others = [int(old) + 1, int(old) - 1, 0, int(pick(rng, flat)), int(old) ^ 1]
        flat[k] = np.array(pick(rng, others)).astype(new.dtype)
    else:
        most = (
            float(
                np.abs(flat.astype(np.float64)[np.isfinite(flat.astype(np.float64))]).max(initial=0)
            )
            or 1.0
        )
        value = float(old)
        other = {"little": value + most * 1e-4, "large": most * 100}.get(way)
        other = pick(rng, [value * 2, 0.0, value + 0.3 * most, -value]) if other is None else other
        with np.errstate(over="ignore", invalid="ignore"):
            flat[k] = np.array(other).astype(new.dtype)
    return new, f"element {k} {old} -> {flat[k]}"


def _moved(array: np.ndarray, rng: Random) -> tuple[np.ndarray, str]:
    """Every element by some steps of its own, or by one of the largest's."""
    wide = array.astype(np.float64)
    most = np.abs(wide[np.isfinite(wide)]).max(initial=0)
    step = float(most) * 2.0 ** -{2: 10, 4: 23, 8: 52}.get(array.dtype.itemsize, 3)
    count = int(pick(rng, [1, 3, 8, 40]))
    signs = rng.choice([-1.0, 1.0]) if rng.random() < 0.5 else rng.choice([-1.0, 1.0], array.shape)
    if rng.random() < 0.5:
        step = np.abs(wide) * step / (most or 1)
    with np.errstate(all="ignore"):
        return (wide + count * signs * step).astype(array.dtype), f"every element by {count} steps"


def other_sizes(message: Any, place: Place, rng: Random) -> str:
    """The same elements in another shape, or turned into it."""
    sizes = list(message.dims)
    if len(sizes) < 2:
        message.dims[:] = pick(rng, [[1, *sizes], [*sizes, 1], sizes[:-1]])
        return f"{sizes} -> {list(message.dims)}"
    array = numpy_helper.to_array(message)
    order = rng.permutation(len(sizes))
    if rng.random() < 0.5:
        new = np.ascontiguousarray(array.transpose(order))
        message.CopyFrom(numpy_helper.from_array(new, message.name))
        return f"{sizes} turned into {list(new.shape)}"
    new = np.ascontiguousarray(array.transpose(order)).reshape(array.shape)
    if new.tobytes() != array.tobytes() and rng.random() < 0.6:
        message.CopyFrom(numpy_helper.from_array(new, message.name))
        return f"turned by {order.tolist()} and read as {sizes} again"
    message.dims[:] = [sizes[k] for k in order]
    return f"{sizes} read as {list(message.dims)}"


def other_type(message: Any, place: Place, rng: Random) -> str:
    """The same bytes, or the same numbers, as another type."""
    old = message.data_type
    name = TensorProto.DataType.Name(old)
    array = numpy_helper.to_array(message)
    sizes = {
        1: 4,
        6: 4,
        12: 4,
        2: 1,
        3: 1,
        9: 1,
        10: 2,
        16: 2,
        5: 2,
        4: 2,
        7: 8,
        11: 8,
        13: 8,
        17: 1,
        19: 1,
    }
    same = [n for n in sizes if n != old and sizes.get(n) == sizes.get(old)]
    if same and rng.random() < 0.5:
        message.data_type = pick(rng, same)
        return f"{name} read as {TensorProto.DataType.Name(message.data_type)}"
    if array.dtype == object:
        raise NotPossibleError
    target = pick(rng, [n for n in (1, 2, 3, 6, 7, 9, 10, 11) if n != old])
    with np.errstate(all="ignore"):
        values = array.astype(helper.tensor_dtype_to_np_dtype(target))
    message.CopyFrom(numpy_helper.from_array(values, message.name))
    return f"{name} turned into {TensorProto.DataType.Name(target)}"


def sparse_places(message: Any, place: Place, rng: Random) -> str:
    tensor = message.indices
    array = numpy_helper.to_array(tensor).copy()
    k = int(rng.integers(array.size))
    array.reshape(-1)[k] += int(pick(rng, [-1, 1]))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return f"place {k} moved"


def sparse_values(message: Any, place: Place, rng: Random) -> str:
    return change_elements(message.values, Place(message.values, (*place.above, message)), rng)


def change_inner_tensor(message: Any, place: Place, rng: Random) -> str:
    """Other values in the tensor of an attribute."""
    return change_elements(message.t, Place(message.t, (*place.above, message)), rng)


def change_inner_sparse(message: Any, place: Place, rng: Random) -> str:
    """Other values, or places, in the sparse tensor of an attribute."""
    inner = message.sparse_tensor
    return pick(rng, [sparse_values, sparse_places])(
        inner, Place(inner, (*place.above, message)), rng
    )


def change_sparse_weight(message: GraphProto, place: Place, rng: Random) -> str:
    """Other values, or places, in a sparse weight."""
    inner = pick(rng, message.sparse_initializer)
    return pick(rng, [sparse_values, sparse_places])(
        inner, Place(inner, (*place.above, message)), rng
    )


def point_elsewhere(message: Any, place: Place, rng: Random) -> str | None:
    """Bytes of another place in the file that holds the weights."""
    entries = {e.key: e for e in message.external_data}
    if not {"offset", "length"} <= entries.keys():
        return None
    old = entries["offset"].value
    length = int(entries["length"].value)
    entries["offset"].value = str(
        max(0, int(old) + int(pick(rng, [length, -length, 4, -4, length // 2])))
    )
    return f"offset {old} -> {entries['offset'].value}"
