"""Changes of fields that their meaning suggests: other words, operands, operators, sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .attribute_changes import (
    add_attribute,
    change_whole,
    change_wholes,
    change_word,
    change_words,
    exchange_bodies,
    remove_attribute,
    rename_attribute,
)
from .dressing import TYPED
from .messages import Place, Random
from .node_changes import (
    add_dead_node,
    another_operator,
    change_size,
    drop_operand,
    exchange_functions,
    exchange_operands,
    exchange_results,
    import_twice,
    other_element,
    other_version,
    rename_value,
    rewire,
)
from .tensor_changes import (
    change_elements,
    change_inner_sparse,
    change_inner_tensor,
    change_sparse_weight,
    exchange_tensors,
    other_sizes,
    other_type,
    point_elsewhere,
    sparse_places,
    sparse_values,
)

Way = Callable[[Any, Place, Random], str | None]
"""Changes a message at a place; says what it did, or None where there is nothing to do."""


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
