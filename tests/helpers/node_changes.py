"""Changes of nodes, functions and types: other operands, results, operators, versions."""

from __future__ import annotations

import functools
from typing import Any

import onnx
import onnx.defs
import onnx.shape_inference
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from .attribute_changes import find_schema
from .messages import Place, Random, pick, swap


def exchange_operands(message: NodeProto, place: Place, rng: Random) -> str | None:
    return swap(message.input, rng) if len(message.input) > 1 else None


def drop_operand(message: NodeProto, place: Place, rng: Random) -> str | None:
    """Leaves out an operand that may be left out."""
    schema = find_schema(message, place.model)
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


def add_dead_node(message: GraphProto, place: Place, rng: Random) -> str:
    source = pick(
        rng, [o for n in message.node for o in n.output if o] or [v.name for v in message.input]
    )
    message.node.add(op_type="Identity", input=[source], output=["dead_value"], name="dead")
    return f"a node that reads '{source}' and that nobody reads"
