"""Changes of attributes that their meaning suggests: other words, numbers, names, bodies."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.shape_inference
from onnx import ModelProto, NodeProto, TensorProto, helper

from .messages import NotPossibleError, Place, Random, copied, pick, swap

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
    schema = find_schema(node, place.model) if node is not None else None
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
    schema = find_schema(message, place.model)
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


def find_schema(node: NodeProto, model: ModelProto) -> Any:
    version = max((o.version for o in model.opset_import if o.domain == node.domain), default=1)
    try:
        return onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return None
