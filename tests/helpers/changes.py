"""Changes of fields that their meaning suggests: other words, operands, operators, sizes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.shape_inference
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .dressing import TYPED, store_typed
from .messages import NotPossibleError, Place, Random, copied, pick, swap

Way = Callable[[Any, Place, Random], str | None]
"""Changes a message at a place; says what it did, or None where there is nothing to do."""

WORDS: dict[str, tuple[str, ...]] = {
    "auto_pad": ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"),
    "mode": (
        *(
            "nearest",
            "linear",
            "cubic",
            "bilinear",
            "bicubic",
            "constant",
            "reflect",
            "edge",
            "wrap",
            "DCR",
            "CRD",
            "avg",
        ),
        *("max", "min", "sum", "mean", "fmod"),
    ),
    "direction": ("forward", "reverse", "bidirectional", "LEFT", "RIGHT"),
    "coordinate_transformation_mode": (
        *(
            "half_pixel",
            "half_pixel_symmetric",
            "pytorch_half_pixel",
            "align_corners",
            "asymmetric",
            "tf_crop_and_resize",
        ),
        *("output_half_pixel",),
    ),
    "nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    "padding_mode": ("zeros", "border", "reflection"),
    "reduction": ("none", "add", "mul", "max", "min", "sum", "mean"),
    "approximate": ("none", "tanh"),
    "keep_aspect_ratio_policy": ("stretch", "not_larger", "not_smaller"),
    "activation": ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Clip"),
    "activations": (
        "Relu",
        "Tanh",
        "Sigmoid",
        "Softsign",
        "Softplus",
        "HardSigmoid",
        "Elu",
        "Affine",
        "ThresholdedRelu",
    ),
    "norm": ("MAX", "L1", "L2"),
    "case_change_action": ("NONE", "LOWER", "UPPER"),
    "locale": ("en_US", "de_DE"),
    "round_mode": ("up", "down", "nearest"),
}
"""What the specification of operators knows of words in attributes, by their names."""


def _word(name: str, old: bytes, rng: Random) -> bytes:
    if name == "equation":
        letters = sorted({c for c in old.decode() if c.isalpha()})
        one, two = rng.choice(letters, 2, replace=False) if len(letters) > 1 else ("a", "b")
        side = old.decode().partition("->")
        return (
            side[0] + side[1] + side[2].translate(str.maketrans(f"{one}{two}", f"{two}{one}"))
        ).encode()
    return pick(rng, [w.encode() for w in WORDS.get(name, ("", "other")) if w.encode() != old])


def change_word(message: Any, place: Place, rng: Random) -> str:
    old = message.s
    message.s = _word(message.name, old, rng)
    return f"{message.name} {old!r} -> {message.s!r}"


def change_words(message: Any, place: Place, rng: Random) -> str:
    k = int(rng.integers(len(message.strings)))
    old = message.strings[k]
    if message.name == "activations":
        message.strings[k] = _word(message.name, old, rng)
    else:
        message.strings[k] = pick(rng, [*(w for w in message.strings if w != old), b"other"])
    return f"{message.name}[{k}] {old!r} -> {message.strings[k]!r}"


ELEMENTS = (
    "to",
    "dtype",
    "output_dtype",
    "saturate_type",
    "softmax_precision",
    "output_datatype",
    "stash_type",
)


def change_whole(message: Any, place: Place, rng: Random) -> str | None:
    """Another number in an attribute that names an element type, or says yes or no."""
    old = message.i
    if message.name in ELEMENTS:
        message.i = pick(rng, [n for n in TensorProto.DataType.values() if n not in (0, old)])
    elif old in (0, 1) and rng.random() < 0.7:
        message.i = 1 - old
    else:
        return None
    return f"{message.name} {old} -> {message.i}"


def change_wholes(message: Any, place: Place, rng: Random) -> str | None:
    """Another order of numbers, or one number for another, one more or one less."""
    old = list(message.ints)
    new = old[:]
    if len(new) > 1 and rng.random() < 0.4:
        new = rng.permutation(new).tolist()
    else:
        k = int(rng.integers(len(new)))
        new[k] += int(pick(rng, [-1, 1, 2]))
    message.ints[:] = new
    return f"{message.name} {old} -> {new}"


def rename_attribute(message: Any, place: Place, rng: Random) -> str | None:
    """The name of another attribute of its type."""
    node = place.near(NodeProto)
    schema = _schema(node, place.model) if node is not None else None
    if schema is None:
        return None
    alike = [
        n for n, a in schema.attributes.items() if int(a.type) == message.type and n != message.name
    ]
    old = message.name
    message.name = pick(rng, alike)
    taken = [a for a in node.attribute if a.name == message.name]
    if len(taken) > 1:
        # their values change places
        next(a for a in taken if a is not message).name = old
    return f"{old} -> {message.name}"


def exchange_bodies(message: Any, place: Place, rng: Random) -> str | None:
    """The body of another attribute of the node, or the ends of this body in another order."""
    node = place.near(NodeProto)
    others = (
        [a for a in node.attribute if a.HasField("g") and a.name != message.name]
        if node is not None
        else []
    )
    if others and rng.random() < 0.4:
        one, two = copied(message.g), copied(others[0].g)
        message.g.CopyFrom(two)
        others[0].g.CopyFrom(one)
        return "bodies exchanged"
    ends = [e for e in (message.g.input, message.g.output) if len(e) > 1]
    return f"an end of the body: {swap(pick(rng, ends), rng)}" if ends else None


def add_attribute(message: NodeProto, place: Place, rng: Random) -> str | None:
    """An attribute that the node leaves out, with a value that is not its default."""
    schema = _schema(message, place.model)
    if schema is None:
        return None
    missing = [
        a for n, a in schema.attributes.items() if n not in {x.name for x in message.attribute}
    ]
    if not missing:
        return None
    chosen = pick(rng, missing)
    value = _not_default(chosen, message, rng)
    message.attribute.append(helper.make_attribute(chosen.name, value))
    return f"{chosen.name} = {value!r:.60} added"


def _not_default(attribute: Any, node: NodeProto, rng: Random) -> Any:
    default = (
        helper.get_attribute_value(attribute.default_value)
        if attribute.default_value.name
        else None
    )
    kind = str(attribute.type).rpartition(".")[2]
    known = [a.ints for a in node.attribute if a.ints]
    length = len(known[0]) if known else int(rng.integers(1, 5))
    if kind == "INT":
        return int(pick(rng, [v for v in (0, 1, 2, -1, 3) if v != default]))
    if kind == "FLOAT":
        return float(pick(rng, [v for v in (0.3, 1.7, 0.0, -0.5, 1.0) if v != default]))
    if kind == "STRING":
        return _word(attribute.name, default if isinstance(default, bytes) else b"", rng)
    if kind == "INTS":
        return [int(v) for v in rng.integers(0, 3, length)]
    if kind == "FLOATS":
        return [float(v) for v in rng.standard_normal(length).astype(np.float32)]
    if kind == "STRINGS":
        return [pick(rng, WORDS.get(attribute.name, ("a", "b"))) for _ in range(length)]
    raise NotPossibleError


def remove_attribute(message: NodeProto, place: Place, rng: Random) -> str | None:
    if not message.attribute:
        return None
    gone = pick(rng, message.attribute)
    what = f"{gone.name} removed"
    message.attribute.remove(gone)
    return what


def exchange_operands(message: NodeProto, place: Place, rng: Random) -> str | None:
    return swap(message.input, rng) if len(message.input) > 1 else None


def drop_operand(message: NodeProto, place: Place, rng: Random) -> str | None:
    """Leaves out an operand that may be left out."""
    schema = _schema(message, place.model)
    k = len(message.input) - 1
    if schema is None or not message.input:
        return None
    may = [
        i
        for i in range(k + 1)
        if i < len(schema.inputs) and str(schema.inputs[i].option).endswith("Optional")
    ]
    if may and message.input[pick(rng, may)]:
        k = pick(rng, may)
        message.input[k] = ""
        return f"operand {k} left out"
    del message.input[k]
    return f"operand {k} left out at the end"


def rewire(message: NodeProto, place: Place, rng: Random) -> str | None:
    """Reads another value of the same type that stands before the node."""
    if not message.input:
        return None
    k = int(rng.integers(len(message.input)))
    old = message.input[k]
    types = _types(place.model)
    names = _visible(message, place)
    same = [n for n in names if n != old and types.get(n) == types.get(old) is not None]
    kin = [
        n
        for n in names
        if n != old and n in types and old in types and types[n][0] == types[old][0]
    ]
    message.input[k] = pick(rng, same if same and rng.random() < 0.8 else kin if kin else names)
    return f"operand {k} '{old}' -> '{message.input[k]}'"


def _visible(node: NodeProto, place: Place) -> list[str]:
    found: list[str] = []
    owners = [m for m in place.above if isinstance(m, (GraphProto, onnx.FunctionProto))]
    for owner, inner in zip(owners, [*owners[1:], node], strict=True):
        found += [v if isinstance(v, str) else v.name for v in owner.input]
        if isinstance(owner, GraphProto):
            found += [t.name for t in owner.initializer]
        for other in owner.node:
            if other is node or (inner is not node and any(a.g is inner for a in other.attribute)):
                break
            found += [o for o in other.output if o]
        else:
            if inner is not node:
                found = [n for n in found if n]
    return list(dict.fromkeys(found))


def _types(model: ModelProto) -> dict[str, tuple[int, tuple[object, ...] | None]]:
    """Element type and shape of values by name, as far as they are known."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # noqa: BLE001 - what cannot be inferred is not known
        graph = model.graph
    found: dict[str, tuple[int, tuple[object, ...] | None]] = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        sizes = (
            tuple(d.dim_value or d.dim_param for d in kind.shape.dim)
            if kind.HasField("shape")
            else None
        )
        found[value.name] = kind.elem_type, sizes
    for tensor in graph.initializer:
        found[tensor.name] = tensor.data_type, tuple(tensor.dims)
    return found


def exchange_results(message: NodeProto, place: Place, rng: Random) -> str | None:
    """Two results of a node, or those of two nodes, change their names."""
    if len(message.output) > 1 and rng.random() < 0.6:
        return swap(message.output, rng)
    owner = place.above[-1]
    types = _types(place.model)
    mine = types.get(message.output[0]) if message.output else None
    others = [
        n for n in owner.node if n is not message and n.output and types.get(n.output[0]) == mine
    ]
    if mine is None or not others:
        return None
    other = pick(rng, others)
    message.output[0], other.output[0] = other.output[0], message.output[0]
    return f"'{other.output[0]}' and '{message.output[0]}' exchanged"


RECENT = 21
"""A version of the default domain."""


@functools.cache
def _operators(domain: str) -> tuple[Any, ...]:
    """The specifications of a domain, in the versions that most models here import."""
    every = [
        s
        for s in onnx.defs.get_all_schemas_with_history()
        if s.domain == domain and s.since_version <= RECENT
    ]
    newest = {s.name: s for s in sorted(every, key=lambda s: s.since_version) if not s.deprecated}
    return tuple(newest[n] for n in sorted(newest))


RUNTIME_TWINS = (
    *(
        ("QLinearAdd", "QLinearMul"),
        ("Gelu", "QuickGelu", "FastGelu"),
        ("QLinearSigmoid", "QLinearLeakyRelu"),
    ),
    *(
        ("FusedConv", "Conv"),
        ("FusedGemm", "Gemm"),
        ("FusedMatMul", "TransposeMatMul"),
        ("BiasGelu", "FastGelu"),
    ),
    ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
)
TWINS = (
    *(
        ("Max", "Min", "Sum", "Mean", "Add", "Sub", "Mul", "Div", "Pow", "Mod"),
        ("Equal", "Less", "Greater"),
    ),
    *(
        ("LessOrEqual", "GreaterOrEqual"),
        ("And", "Or", "Xor"),
        ("ArgMax", "ArgMin"),
        ("MaxPool", "AveragePool", "LpPool"),
    ),
    *(
        ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"),
        ("Softmax", "LogSoftmax", "Hardmax"),
        ("CumSum", "CumProd"),
    ),
    (
        "Relu",
        "Sigmoid",
        "Tanh",
        "LeakyRelu",
        "Elu",
        "Selu",
        "HardSigmoid",
        "HardSwish",
        "Softplus",
        "Softsign",
        "Identity",
        "Abs",
        "Neg",
    ),
    (
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSum",
    ),
    *(
        ("Floor", "Ceil", "Round"),
        ("Sin", "Cos"),
        ("Exp", "Log", "Sqrt", "Reciprocal"),
        ("LayerNormalization", "RMSNormalization"),
    ),
    *(
        ("LSTM", "GRU", "RNN"),
        ("ScatterElements", "Scatter"),
        ("IsNaN", "IsInf"),
        ("BitwiseAnd", "BitwiseOr", "BitwiseXor"),
    ),
    *(("HannWindow", "HammingWindow", "BlackmanWindow"), *RUNTIME_TWINS),
)


def another_operator(message: NodeProto, place: Place, rng: Random) -> str | None:
    """An operator of the same signature."""
    old = message.op_type
    kin = [n for group in TWINS if old in group for n in group if n != old]
    if not kin or rng.random() < 0.3:
        names = {a.name for a in message.attribute}
        count, results = len(message.input), len(message.output)
        kin = [
            s.name
            for s in _operators(message.domain)
            if s.min_input <= count <= s.max_input
            and s.min_output <= results <= s.max_output
            and names <= set(s.attributes)
            and s.name != old
        ]
    message.op_type = pick(rng, kin)
    return f"{old} -> {message.op_type}"


def _schema(node: NodeProto, model: ModelProto) -> Any:
    version = max((o.version for o in model.opset_import if o.domain == node.domain), default=1)
    try:
        return onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return None


def import_twice(message: ModelProto, place: Place, rng: Random) -> str:
    old = pick(rng, message.opset_import)
    version = max(1, old.version + int(pick(rng, [-4, -1, 1, 4])))
    domain = "ai.onnx" if old.domain == "" and rng.random() < 0.3 else old.domain
    added = onnx.OperatorSetIdProto(domain=domain, version=version)
    message.opset_import.insert(int(rng.integers(len(message.opset_import) + 1)), added)
    return f"'{domain}' imported a second time, with version {version}"


def other_version(message: Any, place: Place, rng: Random) -> str:
    old = message.version
    message.version = max(1, old + int(pick(rng, [-6, -3, -2, -1, 1, 2, 3, 6])))
    return f"{message.domain!r} {old} -> {message.version}"


def other_element(message: Any, place: Place, rng: Random) -> str:
    old = message.elem_type
    message.elem_type = pick(
        rng, [n for n in (1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 13, 16) if n != old]
    )
    return f"{TensorProto.DataType.Name(old)} -> {TensorProto.DataType.Name(message.elem_type)}"


def rename_value(message: Any, place: Place, rng: Random) -> str:
    """The name of another value, or a new name.

    The other value gets this one's where both stand in one list.
    """
    owner: Any = place.above[-1]
    lists = [
        x
        for x in (getattr(owner, "input", ()), getattr(owner, "output", ()))
        if any(v is message for v in x)
    ]
    old = message.name
    others = [v for v in lists[0] if v is not message] if lists else []
    if others and rng.random() < 0.6:
        other = pick(rng, others)
        message.name, other.name = other.name, old
        return f"'{old}' and '{message.name}' exchanged"
    names = [o for n in getattr(owner, "node", ()) for o in n.output if o and o != old]
    message.name = pick(rng, [*names, "other"])
    return f"'{old}' -> '{message.name}'"


# ---- changes of tensors


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


def exchange_functions(message: onnx.FunctionProto, place: Place, rng: Random) -> str | None:
    """Two functions change their names, and are called in each other's place."""
    others = [f for f in place.model.functions if f is not message]
    if not others:
        return None
    other = pick(rng, others)
    message.name, other.name = other.name, message.name
    message.domain, other.domain = other.domain, message.domain
    message.overload, other.overload = other.overload, message.overload
    return f"'{other.name}:{other.overload}' and '{message.name}:{message.overload}' exchanged"


def change_size(message: Any, place: Place, rng: Random) -> str | None:
    """A size that a value declares: one more, one less, or open."""
    if message.HasField("dim_value") and rng.random() < 0.7:
        old = message.dim_value
        message.dim_value = max(0, old + int(pick(rng, [-1, 1, 2])))
        return f"{old} -> {message.dim_value}"
    old = message.dim_param if message.HasField("dim_param") else message.dim_value
    message.dim_param = pick(rng, [w for w in ("N", "M", "other") if w != old])
    return f"{old!r} -> {message.dim_param!r}"


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


def add_dead_node(message: GraphProto, place: Place, rng: Random) -> str:
    source = pick(
        rng, [o for n in message.node for o in n.output if o] or [v.name for v in message.input]
    )
    message.node.add(op_type="Identity", input=[source], output=["dead_value"], name="dead")
    return f"a node that reads '{source}' and that nobody reads"


WAYS: dict[str, tuple[Way, ...]] = {
    "AttributeProto.s": (change_word,),
    "AttributeProto.strings": (change_words,),
    "AttributeProto.i": (change_whole,),
    "AttributeProto.ints": (change_wholes,),
    "AttributeProto.name": (rename_attribute,),
    "AttributeProto.g": (exchange_bodies,),
    "AttributeProto.t": (change_inner_tensor,),
    "AttributeProto.sparse_tensor": (change_inner_sparse,),
    "GraphProto.sparse_initializer": (change_sparse_weight,),
    **dict.fromkeys(
        (f"FunctionProto.{f}" for f in ("name", "domain", "overload")), (exchange_functions,)
    ),
    "NodeProto.attribute": (add_attribute, add_attribute, remove_attribute),
    "NodeProto.input": (exchange_operands, drop_operand, rewire, rewire),
    "NodeProto.output": (exchange_results,),
    "NodeProto.op_type": (another_operator,),
    "ModelProto.opset_import": (import_twice,),
    "OperatorSetIdProto.version": (other_version,),
    "TypeProto.Tensor.elem_type": (other_element,),
    "ValueInfoProto.name": (rename_value,),
    "TensorProto.name": (exchange_tensors,),
    **dict.fromkeys(
        (
            f"TensorProto.{f}"
            for f in ("raw_data", *set(TYPED.values()), "int32_data", "string_data")
        ),
        (change_elements,),
    ),
    "TensorProto.dims": (other_sizes,),
    "TensorProto.data_type": (other_type,),
    "SparseTensorProto.indices": (sparse_places,),
    "SparseTensorProto.values": (sparse_values,),
    "TensorShapeProto.Dimension.dim_value": (change_size,),
    "TensorShapeProto.Dimension.dim_param": (change_size,),
    "GraphProto.node": (add_dead_node,),
    "TensorProto.external_data": (point_elsewhere,),
}
"""Changes that a field's meaning suggests; the rest of the time it is changed like any other."""
