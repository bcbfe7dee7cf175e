"""What models seldom hold, so that every field stands somewhere.

Notes, functions, sparse and outside weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    TensorProto,
    TrainingInfoProto,
    helper,
    numpy_helper,
)

from .messages import MESSAGES, Kind, NotPossibleError, Place, Random, copied, named, pick, places


def dress(model: ModelProto, rng: Random) -> None:
    """Gives a model notes, types, placements and training that no output hangs on."""
    graph = model.graph
    for place in list(places(model)):
        fields = place.message.DESCRIPTOR.fields_by_name
        if rng.random() < 0.3 and "doc_string" in fields:
            place.message.doc_string = "some words"
        if rng.random() < 0.3 and "metadata_props" in fields:
            place.message.metadata_props.add(key="author", value="nobody")
            place.message.metadata_props.add(key="year", value="2024")
    model.producer_name, model.producer_version, model.domain, model.model_version = (
        "maker",
        "1.0",
        "org",
        3,
    )
    for value in [*graph.input, *graph.output]:
        value.type.denotation = "TENSOR"
        for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
            dim.denotation = "DATA_BATCH"
    _describe_values(model)
    for k, tensor in enumerate(graph.initializer):
        note = graph.quantization_annotation.add(tensor_name=tensor.name)
        note.quant_parameter_tensor_names.add(
            key="SCALE_TENSOR", value=graph.initializer[k - 1].name
        )
    device = model.configuration.add(name="two", num_devices=2)
    device.device.extend(["first", "second"])
    for node in graph.node:
        there = node.device_configurations.add(configuration_id="two", pipeline_stage=1)
        spec = there.sharding_spec.add(tensor_name=next(iter(node.output)), device=[0, 1])
        spec.index_to_device_group_map.add(key=0, value=[0, 1])
        axis = spec.sharded_dim.add(axis=0)
        axis.simple_sharding.add(dim_value=4, num_shards=2)
        axis.simple_sharding.add(dim_param="N", num_shards=2)
    training = model.training_info.add()
    for part in (training.initialization, training.algorithm):
        part.name = "step"
        part.node.add(op_type="Identity", input=["u"], output=["v"])
        part.initializer.add(name="u", data_type=1, dims=[1], float_data=[1.0]).segment.begin = 0
        part.initializer[0].segment.end = 1
    for binding in (training.initialization_binding, training.update_binding):
        binding.add(key="w", value="v")


def _describe_values(model: ModelProto) -> None:
    """Types of inner values, and of values of every kind that do not exist."""
    graph = model.graph
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
        graph.value_info.extend(
            copied(v)
            for v in inferred.graph.value_info
            if v.name not in {x.name for x in graph.value_info}
        )
    except Exception:  # noqa: BLE001 - without types it goes on
        pass
    plain = helper.make_tensor_type_proto(TensorProto.FLOAT, [2, "N"])
    for name, kind in (
        ("nowhere 1", helper.make_map_type_proto(TensorProto.INT64, plain)),
        ("nowhere 2", helper.make_optional_type_proto(plain)),
        ("nowhere 3", helper.make_sequence_type_proto(plain)),
        ("nowhere 4", helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2, 3])),
    ):
        graph.value_info.add(name=name).type.CopyFrom(kind)
    opaque = graph.value_info.add(name="nowhere 5").type.opaque_type
    opaque.domain, opaque.name = "org", "thing"


def put_in_function(model: ModelProto, rng: Random) -> None:
    """Makes a local function of one node; one attribute goes in by name, with a default."""
    graph = model.graph
    nodes = [
        n
        for n in graph.node
        if n.op_type != "Constant"
        and not any(a.HasField("g") or a.graphs for a in n.attribute)
        and all(n.output)
        and n.input
    ]
    node = pick(rng, nodes)
    inner = copied(node)
    formals = list(dict.fromkeys(i for i in node.input if i))
    function = model.functions.add(
        name="f", domain="inner", input=formals, output=list(node.output)
    )
    function.opset_import.extend(o for o in model.opset_import if o.domain == node.domain)
    if rng.random() < 0.5:
        function.overload = node.overload = "one"
    given = [
        a
        for a in inner.attribute
        if a.type in (AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.INTS)
    ]
    del node.attribute[:]
    if given:
        one = pick(rng, given)
        if rng.random() < 0.5:
            function.attribute_proto.append(copied(one))
        else:
            function.attribute.append(one.name)
            node.attribute.append(copied(one))
        name, type_ = one.name, one.type
        one.Clear()
        one.name, one.type, one.ref_attr_name = name, type_, name
    function.node.append(inner)
    function.value_info.add(name="nowhere").type.tensor_type.elem_type = TensorProto.FLOAT
    node.op_type, node.domain = "f", "inner"
    del node.input[:]
    node.input.extend(formals)
    model.opset_import.add(domain="inner", version=1)
    model.ir_version = max(model.ir_version, 10)


def give_everything(model: ModelProto, rng: Random) -> None:
    """Gives a function attributes of kinds that no operator takes, and that it does not read."""
    put_in_function(model, rng)
    function = model.functions[-1]
    node = next(n for n in model.graph.node if n.domain == function.domain)
    tensor = numpy_helper.from_array(np.arange(3, dtype=np.float32), "t")
    sparse = helper.make_sparse_tensor(
        tensor, numpy_helper.from_array(np.array([0, 2, 3]), "places"), [5]
    )
    body = GraphProto(name="b", node=[helper.make_node("Identity", ["u"], ["v"])])
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    for name, content in (
        ("more_tensors", [tensor, tensor]),
        ("more_sparse", [sparse, sparse]),
        ("more_graphs", [body, body]),
        ("more_types", [kind, kind]),
        ("more_words", ["p", "q"]),
    ):
        function.attribute.append(name)
        node.attribute.append(helper.make_attribute(name, content))


def make_sparse(model: ModelProto, rng: Random) -> None:
    """Writes a weight as a sparse tensor."""
    tensor = pick(
        rng, [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and t.dims]
    )
    array = numpy_helper.to_array(tensor)
    found = np.flatnonzero(array)
    values = numpy_helper.from_array(array.ravel()[found], tensor.name)
    indices = numpy_helper.from_array(found.astype(np.int64), f"{tensor.name}_places")
    model.graph.initializer.remove(tensor)
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, array.shape))


TYPED = {
    TensorProto.FLOAT: "float_data",
    TensorProto.INT64: "int64_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.UINT32: "uint64_data",
}


def store_typed(model: ModelProto, rng: Random) -> None:
    """Stores weights as lists of numbers, not as bytes."""
    for place in named(model, "TensorProto"):
        tensor: Any = place.message
        if tensor.HasField("raw_data") and tensor.data_type not in (
            TensorProto.STRING,
            TensorProto.UNDEFINED,
        ):
            array = numpy_helper.to_array(tensor)
            field = TYPED.get(tensor.data_type, "int32_data")
            if array.dtype.itemsize == 2:
                numbers = array.view(np.uint16)
            elif array.dtype == bool:
                numbers = array.view(np.uint8)
            elif array.dtype.kind in "biuf" and array.dtype.isbuiltin:
                numbers = array
            else:
                continue
            getattr(tensor, field).extend(numbers.ravel().tolist())
            tensor.ClearField("raw_data")


OUTSIDE = "weights.bin"
"""The file that holds weights which lie outside the model."""


def store_outside(model: ModelProto, folder: Path) -> None:
    """Puts the weights of the main graph into a file beside the model.

    Each stands there twice, so that any of them has a neighbour.
    """
    data = b""
    tensors = [t for t in model.graph.initializer if t.HasField("raw_data")]
    for tensor in tensors:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", OUTSIDE),
            ("offset", len(data)),
            ("length", len(tensor.raw_data)),
        ):
            tensor.external_data.add(key=key, value=str(value))
        data += tensor.raw_data * 2
        tensor.ClearField("raw_data")
    if not tensors:
        raise NotPossibleError
    (folder / OUTSIDE).write_bytes(data)


def is_outside(model: ModelProto) -> bool:
    return any(
        t.data_location == TensorProto.EXTERNAL or t.external_data for t in model.graph.initializer
    )


NEEDS: dict[str, Callable[[ModelProto, Random], None]] = {
    "SparseTensorProto": make_sparse,
    "FunctionProto": put_in_function,
    "AttributeProto.tensors": give_everything,
    "AttributeProto.graphs": give_everything,
    "AttributeProto.sparse_tensors": give_everything,
    "AttributeProto.type_protos": give_everything,
    "AttributeProto.ref_attr_name": put_in_function,
    "ModelProto.functions": put_in_function,
    "GraphProto.sparse_initializer": make_sparse,
    "TensorProto.float_data": store_typed,
    "TensorProto.int32_data": store_typed,
    "TensorProto.int64_data": store_typed,
    "TensorProto.double_data": store_typed,
    "TensorProto.uint64_data": store_typed,
}
"""What a model is given, so that it has a field; other fields that it has not come with `dress`."""


HOMES: dict[str, tuple[str, ...]] = {
    "AttributeProto.sparse_tensor": ("constants",),
    "AttributeProto.tp": ("maybe",),
    "AttributeProto.t": ("constants",),
    "AttributeProto.g": ("branches", "scan"),
    "AttributeProto.strings": ("scores", "labels", "recurrent"),
    "AttributeProto.floats": ("constants", "labels"),
    "TensorProto.uint64_data": ("wide",),
    "TensorProto.double_data": ("wide",),
    "TensorProto.int32_data": ("quantised",),
    "TensorProto.string_data": ("labels",),
    "TypeProto.Map": ("scores",),
    "TypeProto.map_type": ("scores",),
    "TypeProto.Optional": ("maybe",),
    "TypeProto.optional_type": ("maybe",),
    "TypeProto.Sequence": ("scores",),
    "TypeProto.sequence_type": ("scores",),
    "FunctionProto": ("functions", "swapped"),
    "FunctionProto.overload": ("swapped",),
    "FunctionProto.name": ("functions",),
    "SparseTensorProto": ("sparse", "constants"),
    "ModelProto.functions": ("functions", "swapped"),
    "NodeProto.overload": ("swapped",),
}
"""Models that hold fields which others seldom do, for half of the draws."""
LIES_OUTSIDE = (
    "TensorProto.external_data",
    "TensorProto.data_location",
    "StringStringEntryProto.value",
)


def homes(kind: Kind) -> tuple[str, ...]:
    return HOMES.get(".".join(kind), HOMES.get(kind[0], ()))


def prepare(model: ModelProto, kind: Kind, rng: Random, folder: Path) -> None:
    """Gives a model what it needs to hold a field, and sometimes more.

    What lies outside it goes into a folder.
    """
    name, field = kind
    if f"{name}.{field}" in LIES_OUTSIDE and (name == "TensorProto" or rng.random() < 0.5):
        store_outside(model, folder)
    elif not holding(model, kind):
        need = NEEDS.get(f"{name}.{field}", NEEDS.get(name))
        if need is not None:
            need(model, rng)
        if not holding(model, kind):
            dress(model, rng)
    elif rng.random() < 0.05:
        pick(rng, [dress, put_in_function, make_sparse, store_typed])(model, rng)


def holding(model: ModelProto, kind: Kind) -> list[Place]:
    """The messages in which a field stands, or may stand where it is one number or word."""
    name, field = kind
    f = MESSAGES[name].fields_by_name[field]
    found = named(model, name)
    # what is run tells more than what trainers run
    found = [p for p in found if p.near(TrainingInfoProto) is None] or found
    full = [
        p
        for p in found
        if (len(getattr(p.message, field)) if f.is_repeated else p.message.HasField(field))
    ]
    if full or f.message_type is not None or f.is_repeated:
        return full
    # words and numbers that no message has may be set where they mean something
    return found if name not in ("AttributeProto", "TensorProto", "Dimension") else []
