"""Every field of every ONNX message, and whether it can change what a model computes.

A field that is neither compared nor ignored with a reason fails a test, because a new version of
`onnx` may bring one.
"""

from __future__ import annotations

from collections.abc import Mapping

# Reasons that several fields share.
NAME = "a name inside the file; what stands in its place is compared"
TEXT = "text for people"
PLACEMENT = "where a node runs, not what it computes"
STORAGE = "how the same values are stored"

IGNORED: Mapping[str, str] = {
    "ModelProto.ir_version": "how the file is written; its operators say what it may hold",
    "ModelProto.producer_name": TEXT,
    "ModelProto.producer_version": TEXT,
    "ModelProto.domain": TEXT,
    "ModelProto.model_version": "the maker's own count of versions",
    "ModelProto.doc_string": TEXT,
    "ModelProto.metadata_props": "notes about the model",
    "ModelProto.training_info": "read by trainers alone, never when a model is run",
    "ModelProto.configuration": PLACEMENT,
    "GraphProto.name": NAME,
    "GraphProto.doc_string": TEXT,
    "GraphProto.quantization_annotation": "a note on how a value might be quantised",
    "GraphProto.metadata_props": "notes about the graph",
    "NodeProto.name": NAME,
    "NodeProto.doc_string": TEXT,
    "NodeProto.metadata_props": "notes about the node",
    "NodeProto.device_configurations": PLACEMENT,
    "AttributeProto.doc_string": TEXT,
    "TensorProto.name": NAME,
    "TensorProto.doc_string": TEXT,
    "TensorProto.metadata_props": "notes about the tensor",
    "TensorProto.float_data": STORAGE,
    "TensorProto.int32_data": STORAGE,
    "TensorProto.int64_data": STORAGE,
    "TensorProto.double_data": STORAGE,
    "TensorProto.uint64_data": STORAGE,
    "TensorProto.raw_data": STORAGE,
    "TensorProto.external_data": STORAGE,
    "TensorProto.data_location": STORAGE,
    "TypeProto.denotation": "a word for what a value is used for",
    "TensorShapeProto.Dimension.dim_param": (
        "a name of a length; which lengths have one name is compared (`declarations`)"
    ),
    "TensorShapeProto.Dimension.denotation": "a word for what an axis is used for",
    "ValueInfoProto.name": NAME,
    "ValueInfoProto.doc_string": TEXT,
    "ValueInfoProto.metadata_props": "notes about the value",
    "FunctionProto.doc_string": TEXT,
    "FunctionProto.metadata_props": "notes about the function",
}
"""Fields that cannot change what is computed, each with the reason why."""
COMPARED: Mapping[str, str] = {
    "ModelProto.opset_import": "as the meaning of every node",
    "ModelProto.graph": "from its outputs back",
    "ModelProto.functions": "where a node calls them",
    "OperatorSetIdProto.domain": "as the meaning of every node",
    "OperatorSetIdProto.version": "as the meaning of every node",
    "GraphProto.node": "from the outputs back; what no output reads counts for nothing",
    "GraphProto.initializer": "paired by where they are read; their values count whole",
    "GraphProto.sparse_initializer": "as the dense tensors that they stand for",
    "GraphProto.input": "by position; those of the model by name and type too",
    "GraphProto.output": "by position; those of the model by name and type too",
    "GraphProto.value_info": (
        "what is declared of a value is declared in the reference too, or follows from the nodes"
    ),
    "NodeProto.input": "by position, as what they stand for",
    "NodeProto.output": "by position",
    "NodeProto.op_type": "equal",
    "NodeProto.domain": "equal",
    "NodeProto.overload": "equal",
    "NodeProto.attribute": "by name; one that is left out has its default",
    "AttributeProto.name": "equal",
    "AttributeProto.ref_attr_name": "equal",
    "AttributeProto.type": "equal",
    "AttributeProto.f": "bit for bit",
    "AttributeProto.i": "equal",
    "AttributeProto.s": "equal",
    "AttributeProto.t": "as values",
    "AttributeProto.g": "as a body: inputs and outputs by position",
    "AttributeProto.sparse_tensor": "field by field",
    "AttributeProto.tp": "field by field",
    "AttributeProto.floats": "bit for bit",
    "AttributeProto.ints": "equal",
    "AttributeProto.strings": "equal",
    "AttributeProto.tensors": "as values",
    "AttributeProto.graphs": "as bodies",
    "AttributeProto.sparse_tensors": "field by field",
    "AttributeProto.type_protos": "field by field",
    "TensorProto.dims": "equal",
    "TensorProto.data_type": "equal",
    "TensorProto.segment": "refused when a file is read",
    "TensorProto.Segment.begin": "refused when a file is read",
    "TensorProto.Segment.end": "refused when a file is read",
    "TensorProto.string_data": "equal",
    "SparseTensorProto.values": "as values",
    "SparseTensorProto.indices": "as values",
    "SparseTensorProto.dims": "equal",
    "TypeProto.tensor_type": "field by field",
    "TypeProto.sequence_type": "field by field",
    "TypeProto.map_type": "field by field",
    "TypeProto.optional_type": "field by field",
    "TypeProto.sparse_tensor_type": "field by field",
    "TypeProto.opaque_type": "field by field",
    "TypeProto.Tensor.elem_type": "equal",
    "TypeProto.Tensor.shape": "axis by axis",
    "TypeProto.SparseTensor.elem_type": "equal",
    "TypeProto.SparseTensor.shape": "axis by axis",
    "TypeProto.Sequence.elem_type": "field by field",
    "TypeProto.Map.key_type": "equal",
    "TypeProto.Map.value_type": "field by field",
    "TypeProto.Optional.elem_type": "field by field",
    "TypeProto.Opaque.domain": "equal",
    "TypeProto.Opaque.name": "equal",
    "TensorShapeProto.dim": "by position",
    "TensorShapeProto.Dimension.dim_value": "equal",
    "ValueInfoProto.type": "of the inputs and outputs of the model and of bodies",
    "FunctionProto.name": "equal",
    "FunctionProto.domain": "equal",
    "FunctionProto.overload": "equal",
    "FunctionProto.input": "by position",
    "FunctionProto.output": "by position",
    "FunctionProto.attribute": "as a set of names",
    "FunctionProto.attribute_proto": "by name, with their defaults",
    "FunctionProto.node": "from the outputs back",
    "FunctionProto.opset_import": "as the meaning of every node",
    "FunctionProto.value_info": "as that of a graph",
}
"""Fields that count, and how they are compared."""
UNREACHED: tuple[str, ...] = (
    "StringStringEntryProto",
    "NodeDeviceConfigurationProto",
    "ShardingSpecProto",
    "IntIntListEntryProto",
    "ShardedDimProto",
    "SimpleShardedDimProto",
    "TensorAnnotation",
    "TrainingInfoProto",
    "DeviceConfigurationProto",
)
"""Messages that stand in ignored fields alone."""
